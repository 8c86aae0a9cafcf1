# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab machine without its endpoints: tools are run on it directly."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content, hardware
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import LabFileSystem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.firmware import Nvram, system_partition
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import LabMachine, Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import ComputerNetwork, LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.registry import LabRegistry
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools import run as runner
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session, ToolCall
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment

GIB = 1024**3


@dataclass
class Result:
    """What a command line left."""

    code: int
    out: str
    err: str


class Bench:
    """One machine, and a way to run command lines on it."""

    def __init__(self, machine: LabMachine, session: Session, share: Path) -> None:
        self.machine = machine
        self.session = session
        self.share = share
        self.power: list[str] = []
        self.environment: dict[str, str] = {}

    @property
    def files(self) -> LabFileSystem:
        return self.machine.files(self.session)

    def run(self, line: str, stdin: bytes = b"", directory: str = "") -> Result:
        """Run a command line as CreateProcess does."""
        out, err = io.BytesIO(), io.BytesIO()
        call = ToolCall(
            machine=self.machine,
            session=self.session,
            argv=[],
            stdin=io.BytesIO(stdin),
            stdout=out,
            stderr=err,
            environment={**runner.default_environment(self.machine, self.session), **self.environment},
            directory=directory or self.machine.system_drive + "\\",
            cancelled=threading.Event(),
        )
        code = runner.run(call, line)
        return Result(code, out.getvalue().decode(), err.getvalue().decode())

    def cmd(self, text: str, stdin: bytes = b"", directory: str = "") -> Result:
        """Run a text as WinRS does."""
        return self.run(f"cmd.exe /c {text}", stdin, directory)

    def batch(self, *lines: str, arguments: str = "") -> Result:
        """Write a batch file and run it."""
        path = rf"{self.machine.system_drive}\test.cmd"
        self.files.write(path, "".join(line + "\r\n" for line in lines).encode())
        return self.cmd(f"{path} {arguments}")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of Windows PE and of a Windows, made once."""
    root = tmp_path_factory.mktemp("trees")
    content.make_windows_pe(root / "pe", {})
    content.make_existing_windows(root / "windows", content.ENTERPRISE, "OLD01")
    return root


def _network(tmp_path: Path) -> ComputerNetwork:
    share = tmp_path / "share"
    share.mkdir()
    site = tmp_path / "site"
    site.mkdir()
    (site / "file.bin").write_bytes(b"0123456789")
    plain = {
        "accounts": [{"name": "reader", "password": "Secret1"}, {"name": "writer", "password": "Secret2"}],
        "shares": [{"server": "srv", "name": "images", "path": str(share), "read": ["reader", "writer"], "write": ["writer"]}],
        "sites": [{"host": "web.lab", "path": str(site)}],
    }
    return ComputerNetwork(LabNetwork.from_plain(plain))


def _bench(tmp_path: Path, environment: Environment, root: Path, disks: LabDisks, parts: hardware.Hardware) -> Bench:
    power: list[str] = []
    store = None if environment is Environment.WINDOWS_PE else lambda: None
    machine = LabMachine(
        environment,
        tmp_path,
        parts,
        disks=disks,
        nvram=Nvram(tmp_path, parts),
        network=_network(tmp_path),
        registry=LabRegistry(root / "Windows/System32/config", write_through=environment is Environment.FULL_OS, boot_store=store),
        settings=Settings(speed=1000.0),
        windows_root=root,
        power=power.append,
        console=lambda text: None,
    )
    bench = Bench(machine, Session("SYSTEM", id="system"), tmp_path / "share")
    bench.power = power
    return bench


def _pe(tmp_path: Path, trees: Path, firmware: str) -> Bench:
    root = tmp_path / "ram"
    shutil.copytree(trees / "pe", root)
    parts = hardware.make("ref01", 1, {"firmware": firmware}, {})
    disks = LabDisks(tmp_path, parts)
    disks.add_ram_disk("X", root, 300 * 1024 * 1024)
    return _bench(tmp_path, Environment.WINDOWS_PE, root, disks, parts)


@pytest.fixture
def pe(tmp_path: Path, trees: Path) -> Bench:
    """Windows PE on a UEFI computer with an empty disk of 64 GiB."""
    return _pe(tmp_path, trees, "uefi")


@pytest.fixture
def pe_bios(tmp_path: Path, trees: Path) -> Bench:
    """Windows PE on a BIOS computer."""
    return _pe(tmp_path, trees, "bios")


@pytest.fixture
def windows(tmp_path: Path, trees: Path) -> Bench:
    """A running Windows on C:, UEFI, with boot files."""
    parts = hardware.make("old01", 2, {}, {})
    disks = LabDisks(tmp_path, parts)
    disk = disks.find(0)
    assert disk is not None
    disks.convert(disk, "GPT")
    system = disks.create_partition(disk, "efi", size=260 * 1024 * 1024)
    disks.format(system, "FAT32", "System")
    place = disks.create_partition(disk, "primary")
    disks.format(place, "NTFS", "Windows")
    assert place.volume is not None
    shutil.copytree(trees / "windows", place.volume.root, dirs_exist_ok=True)
    disks.assign(place, "C")
    bench = _bench(tmp_path, Environment.FULL_OS, place.volume.root, disks, parts)
    disks.assign(system, "S")
    assert bench.run(r"bcdboot C:\Windows /s S: /f UEFI").code == 0
    disks.remove_letter(system)
    assert system_partition(disks, "uefi") is not None
    return bench
