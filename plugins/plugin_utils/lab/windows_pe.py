# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Windows PE on a lab computer: unpacked from the boot image into RAM, with the agent out of that image in front.

It starts only from the image that the active boot entry or the medium names, and takes identity, credentials, certificate and port
from its folder ``\osd``; the network settings staged beside the image keep an address where the MAC is right.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from ..windows import image, staged_network
from ..windows.image import ImageError
from ..wsman.client import Identity
from .agent_process import AgentProblem, AgentProcess, Computer
from .cim_provider import LabCim
from .file_system import find_on_volume, used_space
from .firmware import BootFailure
from .machine import LabMachine
from .tools.interface import Win32Problem
from .tools.winrs import JobProcess, WinrsProvider

_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


def unpack(image_file: Path, target: Path, memory_mb: int) -> None:
    """Unpack the boot image into a folder that stands for the RAM disk. Raises BootFailure."""
    if image_file.stat().st_size > memory_mb * 1024 * 1024 - 512 * 1024 * 1024:
        raise BootFailure("0xc0000017", "There isn't enough memory available to create a ramdisk device (0xc0000017).")
    try:
        with image_file.open("rb") as file:
            wim = image.read_wim(file)
        index = wim.header.boot_index or 1
        found = wim.image(index)
    except (ImageError, LookupError, OSError) as problem:
        raise BootFailure("0xc000000f", f"The boot image cannot be read: {problem} (0xc000000f).") from problem
    if not found.is_windows_pe:
        raise BootFailure("0xc0000225", f"{image_file.name} holds no Windows PE (0xc0000225).")
    target.mkdir(parents=True, exist_ok=True)
    command = ["wimlib-imagex", "apply", str(image_file), str(index), str(target), "--no-acls", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        raise BootFailure("0xc000000f", f"The boot image is damaged: {result.stderr.strip()[-300:]} (0xc000000f).")


def choose_address(image_file: Path, ram: Path, macs: tuple[str, ...], dhcp: str, *, staged: bool) -> tuple[str, dict[str, object]]:
    """Return the address that Windows PE takes and the static settings it found; DHCP's where no file knows a MAC of ours.

    The file staged beside the image counts before the one in it, as the agent reads them (``agent.network_settings``).
    """
    adapters: list[staged_network.Adapter] = []
    for place in (find_on_volume(image_file.parent, "network.json") if staged else None, find_on_volume(ram, r"osd\network.json")):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            adapters += staged_network.parse(place.read_bytes()) if place is not None else ()
    own = {mac.lower() for mac in macs[:1]}
    for adapter in adapters:
        if adapter.mac in own and ipaddress.ip_address(adapter.address) in _LOOPBACK:
            settings: dict[str, object] = {"gateway": adapter.gateway, "dns": list(adapter.dns)}
            return adapter.address, {} if adapter.dhcp else {adapter.mac: settings}
    return dhcp, {}


class _Starter:
    """Starts the agent's jobs as processes of the lab computer."""

    def __init__(self, machine: LabMachine) -> None:
        self._machine = machine

    def start(
        self,
        command_line: str,
        *,
        directory: str,
        environment: Mapping[str, str],
        stdin: BinaryIO,
        stdout: BinaryIO,
    ) -> JobProcess:
        return JobProcess(
            self._machine,
            self._machine.system_session,
            command_line,
            directory=directory,
            environment=environment,
            stdin=stdin,
            stdout=stdout,
        )


class _Connections:
    """Connects shares in SYSTEM's session as ``WNetAddConnection2W`` does, with its codes."""

    def __init__(self, machine: LabMachine) -> None:
        self._machine = machine

    def connect(self, remote: str, user: str, password: str, local: str) -> int:
        if not re.fullmatch(r"\\\\[^\\]+\\[^\\]+", remote):
            return 67
        if local and not re.fullmatch(r"[A-Za-z]:", local):
            return 1200
        if local and local[0].upper() in self._machine.disks.used_letters():
            return 85
        try:
            self._machine.network.connect(self._machine.system_session, remote, user=user, password=password, letter=local)
        except Win32Problem as problem:
            return problem.code
        return 0

    def disconnect(self, name: str) -> int:
        try:
            self._machine.network.disconnect(self._machine.system_session, name)
        except Win32Problem as problem:
            return problem.code
        return 0

    def connected(self) -> Sequence[tuple[str, str]]:
        return [(connection.letter, connection.unc) for connection in list(self._machine.system_session.connections.values())]


def serve(machine: LabMachine) -> AgentProcess:
    """Return the agent of a started Windows PE, a process not yet listening. Raises BootFailure."""
    folder = find_on_volume(machine.windows_root, "osd")
    if folder is None or not (folder / "agent.zip").is_file():
        raise BootFailure("no_agent", r"The boot image has no agent (\osd\agent.zip): Windows PE runs and answers nothing.")
    computer = Computer(
        cim=LabCim(machine),
        shells=WinrsProvider(machine, lambda user: machine.system_session),
        files=machine.files(machine.system_session),
        starter=_Starter(machine),
        network=_Connections(machine),
        host=machine.address,
        identity=Identity(machine.settings.vendor, "OS: 10.0.26100 SP: 0.0 Stack: 3.0"),
        failure_delay=1.0 / machine.settings.speed,
    )
    try:
        return AgentProcess(folder, computer)
    except (AgentProblem, OSError) as problem:
        raise BootFailure("no_agent", f"The agent does not start: {problem}") from problem


def ram_size(root: Path) -> int:
    """Return what the unpacked image takes."""
    return used_space(root)


def clear(root: Path) -> None:
    """Forget the RAM disk."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            place = os.path.join(folder, name)
            if os.path.islink(place):
                os.unlink(place)
            else:
                os.rmdir(place)
    if root.exists():
        root.rmdir()
