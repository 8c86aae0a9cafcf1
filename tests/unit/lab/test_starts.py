# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a start looks like from outside: its phases, the moment after a shutdown request, WinRM amid Setup, letters, addresses."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import find_on_volume, make_on_volume
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.firmware import UEFI_STORE
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.registry import LabRegistry
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Volume
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_store import (
    TYPE_DEVICE_OPTIONS,
    TYPE_OS_LOADER,
    BootStore,
    RamdiskDevice,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Value
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import identify_request

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

CLOSED, HANGING, READY = "closed", "hanging", "ready"
Make = Callable[..., LabComputer]


@pytest.fixture
def slow_computer(make_computer: Make, network: LabNetwork) -> Iterator[Make]:
    """Computers slow enough to be watched: a lab second is a tenth of a real one."""
    made: list[LabComputer] = []

    def make(**wishes: object) -> LabComputer:
        parts = make_computer(**wishes)
        made.append(
            LabComputer(parts.folder, network, Settings(speed=10, boot_seconds=8, hang_seconds=15, goodbye_seconds=15, setup_seconds=40))
        )
        return made[-1]

    yield make
    for computer in made:
        computer.power_off()


def phase(address: str, port: int) -> str:
    """Return what a client meets."""
    with socket.socket() as probe:
        probe.settimeout(0.8)
        if probe.connect_ex((address, port)):
            return CLOSED
        try:
            if port == 5986:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                wire: socket.socket = context.wrap_socket(probe)
            else:
                wire = probe
            connection = http.client.HTTPConnection(address, port)
            connection.sock = wire
            headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "WSMANIDENTIFY": "unauthenticated"}
            connection.request("POST", "/wsman", identify_request(), headers)
            return READY if connection.getresponse().status == 200 else "error"
        except TimeoutError:
            return HANGING
        except OSError:
            return CLOSED


def watch(address: str, port: int, until: Callable[[list[str]], bool], seconds: float = 20) -> list[str]:
    """Return the phases one after the other, each once, until they are as wanted."""
    seen: list[str] = []
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not until(seen):
        now = phase(address, port)
        if not seen or seen[-1] != now:
            seen.append(now)
    return seen


@pytest.mark.parametrize(("kind", "port"), [("winpe", 5986), ("windows", 5985)])
def test_a_start_has_three_phases_and_a_shutdown_request_is_survived_for_a_moment(slow_computer: Make, kind: str, port: int) -> None:
    computer = slow_computer() if kind == "winpe" else slow_computer(medium=False, existing="Old-Pass-1")
    address = computer.hardware.addresses[kind]
    computer.power_on()
    assert watch(address, port, lambda seen: seen[-1:] == [READY]) == [CLOSED, HANGING, READY]
    assert computer.machine is not None
    computer.machine.request_restart("restart")
    assert phase(address, port) == READY
    assert watch(address, port, lambda seen: len(seen) > 1 and seen[-1] == READY) == [READY, CLOSED, HANGING, READY]


# --- Setup


def in_oobe(computer: LabComputer, *accounts: answer_file.LocalAccount) -> None:
    """Put Windows where Setup is after specialize and its restart."""
    config = volume(computer, "Windows").root / "Windows" / "System32" / "config"
    registry = LabRegistry(config, write_through=True)
    registry.set(r"HKLM\SYSTEM\Setup", "SetupType", Value.dword(2))
    registry.set(r"HKLM\SYSTEM\Setup\Status\UnattendPasses", "specialize", Value.dword(9))
    file = answer_file.AnswerFile()
    answer_file.apply_windows_settings(file, answer_file.WindowsSettings(architecture="amd64", time_zone="UTC"))
    for account in accounts:
        answer_file.add_local_account(file, "amd64", account)
    make_on_volume(volume(computer, "Windows").root, r"Windows\Panther\unattend.xml").write_bytes(file.render())


def test_winrm_answers_in_the_middle_of_setup_and_vanishes_again(slow_computer: Make) -> None:
    computer = slow_computer(medium=False, existing="Old-Pass-1")
    in_oobe(computer, answer_file.LocalAccount("osd-run", "Run-Pass-1", ("Administrators",)))
    computer.power_on()
    address = computer.hardware.addresses["windows"]
    seen = watch(address, 5985, lambda seen: seen.count(READY) == 2)
    assert seen == [CLOSED, HANGING, READY, CLOSED, HANGING, READY]


def test_winrm_that_answered_early_is_silent_where_setup_stops(slow_computer: Make) -> None:
    computer = slow_computer(medium=False, existing="Old-Pass-1")
    in_oobe(computer)
    computer.power_on()
    assert wait_for_state(computer, {"oobe_waits", "windows"}, 15) == "oobe_waits"
    assert phase(computer.hardware.addresses["windows"], 5985) == CLOSED


# --- letters and addresses


def test_letters_are_assigned_anew_at_every_start_of_windows_pe(make_computer: Make, client_of: Callable[..., object]) -> None:
    computer = make_computer(disks=[{"size_gb": 8}])
    prepare.make_volumes(computer.folder, computer.hardware, [{"volumes": [{"label": "Data", "size_mb": 64}]}])
    computer.power_on()
    letters = []
    for dummy in range(2):
        assert wait_for_state(computer, {"windows_pe", "lab_defect"}, 15) == "windows_pe", computer.message
        rows = client_of(computer).query("SELECT DriveLetter,Label FROM Win32_Volume")  # type: ignore[attr-defined]
        letters.append({row["Label"]: row["DriveLetter"] for row in rows}["Data"])
        assert computer.machine is not None
        data = next(p for dummy, p in computer.machine.disks.all_partitions() if p.volume and p.volume.label == "Data")
        computer.machine.disks.assign(data, "Q")
        rows = client_of(computer).query("SELECT DriveLetter,Label FROM Win32_Volume")  # type: ignore[attr-defined]
        assert {row["Label"]: row["DriveLetter"] for row in rows}["Data"] == "Q:"
        computer.machine.request_restart("restart")
        wait_for_state(computer, {"firmware"}, 10)
    assert letters == ["C:", "C:"]


def volume(computer: LabComputer, label: str) -> Volume:
    volumes = [p.volume for dummy, p in LabDisks(computer.folder, computer.hardware).all_partitions() if p.volume]
    return next(v for v in volumes if v.label.lower() == label.lower())


def stage(computer: LabComputer, boot: Path, mac: str) -> None:
    """Make Windows PE the next start from the disk, with settings that ask for the address of Windows."""
    windows, system = volume(computer, "Windows"), volume(computer, "System")
    wanted = {"mac": mac, "dhcp": True, "address": computer.hardware.addresses["windows"], "prefix": 24, "gateway": None, "dns": []}
    for name in ("boot.wim", "boot.sdi"):
        make_on_volume(windows.root, rf"_osd\pe\{name}").write_bytes((boot / name).read_bytes())
    settings = json.dumps({"schema": 1, "adapters": [wanted]}).encode()
    make_on_volume(windows.root, r"_osd\pe\network.json").write_bytes(settings)
    file = find_on_volume(system.root, UEFI_STORE)
    assert file is not None
    store = BootStore.load(file.read_bytes())
    device = store.get("{default}", "device")
    options, entry = "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0002}", "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0001}"
    store.create(options, TYPE_DEVICE_OPTIONS)
    store.set(options, "ramdisksdidevice", device)  # type: ignore[arg-type]
    store.set(options, "ramdisksdipath", r"\_osd\pe\boot.sdi")
    store.create(entry, TYPE_OS_LOADER)
    store.set(entry, "device", RamdiskDevice(device, r"\_osd\pe\boot.wim", options))  # type: ignore[arg-type]
    store.set(entry, "path", r"\windows\system32\boot\winload.efi")
    store.set(entry, "winpe", True)
    store.set_bootsequence([entry])
    file.write_bytes(store.dump())


@pytest.mark.parametrize("right", [True, False], ids=["own MAC", "other MAC"])
def test_the_address_changes_unless_the_staged_settings_are_for_this_computer(make_computer: Make, lab_content: Path, right: bool) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    stage(computer, lab_content / "boot", computer.hardware.macs[0] if right else "52:54:00:99:99:99")
    computer.power_on()
    assert wait_for_state(computer, {"windows_pe", "lab_defect"}, 15) == "windows_pe", computer.message
    here, there = ("windows", "winpe") if right else ("winpe", "windows")
    assert phase(computer.hardware.addresses[here], 5986) == READY
    assert phase(computer.hardware.addresses[there], 5986) == CLOSED
    assert phase(computer.hardware.addresses[here], 5985) == CLOSED


def test_the_image_that_the_boot_entry_names_is_the_one_that_starts(make_computer: Make, lab_content: Path, tmp_path: Path) -> None:
    """A medium with another image is in the computer as well; who knows the password of that one is not let in."""
    boot, work = tmp_path / "boot", tmp_path / "agent.json"
    shutil.copytree(lab_content / "boot", boot)
    image = str(boot / "boot.wim")
    shown = subprocess.run(["wimlib-imagex", "extract", image, "1", "/osd/agent.json", "--to-stdout"], capture_output=True, check=True)
    work.write_text(json.dumps({**json.loads(shown.stdout), "password": hash_password("Of-The-Entry-1")}))
    update = ["wimlib-imagex", "update", image, "1", "--no-acls", f"--command=add '{work}' /osd/agent.json"]
    subprocess.run(update, capture_output=True, check=True)
    computer = make_computer(existing="Old-Pass-1")
    stage(computer, boot, computer.hardware.macs[0])
    computer.power_on()
    assert wait_for_state(computer, {"windows_pe", "lab_defect"}, 30) == "windows_pe", computer.message
    address = computer.hardware.addresses["windows"]
    assert [status(address, password) for password in ("Of-The-Entry-1", "Boot-Image-1")] == [200, 401]


def status(address: str, password: str) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, 5986, context=context, timeout=10)
    token = base64.b64encode(f"osd:{password}".encode()).decode()
    headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {token}"}
    try:
        connection.request("POST", "/wsman", identify_request(), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_windows_has_another_address_port_and_no_tls(make_computer: Make) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    assert hardware.load(computer.folder).addresses["winpe"] != computer.hardware.addresses["windows"]
    computer.power_on()
    assert wait_for_state(computer, {"windows", "lab_defect"}, 15) == "windows", computer.message
    places = [(computer.hardware.addresses[kind], port) for kind in ("winpe", "windows") for port in (5985, 5986)]
    assert [phase(*place) for place in places] == [CLOSED, CLOSED, READY, CLOSED]
