# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole lab computers: what they start from, when they listen, and what they do when something is missing."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content, full_os, prepare, windows_pe
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import find_on_volume, make_on_volume
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.firmware import BIOS_STORE, UEFI_STORE
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import SYSTEM, LabMachine
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.sysprep import SysprepRefused, generalize
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Volume
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file, registry_hive
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_store import (
    TYPE_DEVICE_OPTIONS,
    TYPE_OS_LOADER,
    BootStore,
    RamdiskDevice,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.disks import MIB
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Value
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.sysprep import GENERALIZED

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

Make = Callable[..., LabComputer]
SETTLED = {"windows_pe", "windows", "setup_failed", "oobe_waits", "no_boot_device", "no_agent", "lab_defect", "stop_error"}


def started(computer: LabComputer, *more: str) -> str:
    computer.power_on()
    return wait_for_state(computer, {*SETTLED, *more}, 15)


def volume(computer: LabComputer, label: str) -> Volume:
    return next(
        p.volume
        for dummy, p in LabDisks(computer.folder, computer.hardware).all_partitions()
        if p.volume and p.volume.label.lower() == label.lower()
    )


def apply_windows(computer: LabComputer, answers: bytes | None) -> None:
    """Lay an image on the disk as the steps do, with an answer file."""
    disks = LabDisks(computer.folder, computer.hardware)
    disk = disks.find(0)
    assert disk is not None
    disks.convert(disk, "GPT")
    system = disks.create_partition(disk, "efi", size=260 * MIB)
    disks.format(system, "FAT32", "System")
    windows = disks.create_partition(disk, "primary")
    disks.format(windows, "NTFS", "Windows")
    assert windows.volume is not None
    content.make_windows(windows.volume.root)
    if answers is not None:
        make_on_volume(windows.volume.root, r"Windows\Panther\unattend.xml").write_bytes(answers)
    prepare.make_bootable(disks, system, windows, uefi=True)


def answers(name: str = "REF01") -> bytes:
    file = answer_file.AnswerFile()
    settings = answer_file.WindowsSettings(architecture="amd64", computer_name=name, time_zone="UTC")
    answer_file.apply_windows_settings(file, settings)
    answer_file.add_local_account(file, "amd64", answer_file.LocalAccount("osd-run", "Run-Pass-1", ("Administrators",)))
    return file.render()


def running(computer: LabComputer) -> LabMachine:
    assert computer.machine is not None
    return computer.machine


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


# --- Windows PE


def test_bare_metal_starts_from_the_medium_and_answers(make_computer: Make, client_of: Callable[..., object]) -> None:
    computer = make_computer()
    assert started(computer) == "windows_pe", computer.message
    client = client_of(computer)
    rows = client.query("SELECT SystemDrive FROM Win32_OperatingSystem")  # type: ignore[attr-defined]
    assert [row["SystemDrive"] for row in rows] == ["X:"]
    disks = client.query("SELECT * FROM MSFT_Disk", "root/microsoft/windows/storage")  # type: ignore[attr-defined]
    assert [(d["Number"], d["PartitionStyle"], d["Size"]) for d in disks] == [(0, 0, 64 * 1024**3)]


def test_without_medium_and_system_nothing_starts(make_computer: Make) -> None:
    computer = make_computer(medium=False)
    assert started(computer) == "no_boot_device"
    assert "No bootable device" in (computer.folder / "console.log").read_text()


def test_the_ram_disk_forgets(make_computer: Make) -> None:
    computer = make_computer()
    started(computer)
    files = running(computer).files(SYSTEM)
    files.write(r"X:\note.txt", b"x")
    running(computer).live_registry.set(r"HKLM\SYSTEM\Setup", "note", Value.dword(1))
    first = running(computer)
    first.request_restart("restart")
    wait_for_state(computer, {"firmware"}, 10)
    assert wait_for_state(computer, SETTLED, 15) == "windows_pe"
    assert running(computer) is not first
    assert not running(computer).files(SYSTEM).exists(r"X:\note.txt")
    assert running(computer).live_registry.get_dword(r"HKLM\SYSTEM\Setup", "note") is None


def test_pulling_the_plug_closes_the_port(make_computer: Make) -> None:
    computer = make_computer()
    started(computer)
    address = running(computer).address
    assert listens(address, 5986)
    computer.power_off()
    assert not listens(address, 5986)
    assert computer.state == "off"
    assert not computer.was_on()


@pytest.mark.parametrize(
    ("mac", "address"), [("52:54:00:80:00:01", "127.77.1.1"), ("52:54:00:80:99:99", "127.0.9.9")], ids=["own MAC", "other MAC"]
)
def test_staged_network_settings_count_for_the_right_mac_only(tmp_path: Path, mac: str, address: str) -> None:
    row = {"mac": mac, "dhcp": True, "address": "127.77.1.1", "prefix": 24, "gateway": None, "dns": []}
    (tmp_path / "network.json").write_text(json.dumps({"schema": 1, "adapters": [row]}))
    own = ("52:54:00:80:00:01",)
    ram = tmp_path / "ram"
    ram.mkdir()
    assert windows_pe.choose_address(tmp_path / "boot.wim", ram, own, "127.0.9.9", staged=True)[0] == address
    assert windows_pe.choose_address(tmp_path / "boot.wim", ram, own, "127.0.9.9", staged=False)[0] == "127.0.9.9"
    (ram / "osd").mkdir()
    of_the_image = {"mac": own[0], "dhcp": False, "address": "127.77.1.2", "prefix": 24, "gateway": "127.77.1.254", "dns": []}
    (ram / "osd" / "network.json").write_text(json.dumps({"schema": 1, "adapters": [of_the_image]}))
    taken, settings = windows_pe.choose_address(tmp_path / "boot.wim", ram, own, "127.0.9.9", staged=False)
    assert (taken, settings) == ("127.77.1.2", {own[0]: {"gateway": "127.77.1.254", "dns": []}})
    assert (windows_pe.choose_address(tmp_path / "boot.wim", ram, own, "127.0.9.9", staged=True)[0] == "127.77.1.1") == (mac == own[0])


# --- the boot store


@pytest.mark.parametrize("kind", ["uefi", "bios"])
def test_an_existing_windows_starts_and_listens(make_computer: Make, kind: str) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1", firmware=kind)
    assert started(computer) == "windows", computer.message
    assert running(computer).live_registry.get_dword(r"HKLM\SYSTEM\CurrentControlSet\Control", "PEFirmwareType") == (
        2 if kind == "uefi" else 1
    )
    assert full_os.closed_because(running(computer)) == ""
    assert listens(running(computer).address, 5985)


def stage_windows_pe(computer: LabComputer, boot: Path, *, path: str, sdi: bool = True, once: bool = True) -> None:
    kind = computer.hardware.firmware
    windows, system = volume(computer, "Windows"), volume(computer, "System")
    make_on_volume(windows.root, r"_osd\pe\boot.wim").write_bytes((boot / "boot.wim").read_bytes())
    if sdi:
        make_on_volume(windows.root, r"_osd\pe\boot.sdi").write_bytes(b"sdi")
    file = find_on_volume(system.root, UEFI_STORE if kind == "uefi" else BIOS_STORE)
    assert file is not None
    store = BootStore.load(file.read_bytes())
    device = store.get("{default}", "device")
    options, entry = "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0002}", "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0001}"
    store.create(options, TYPE_DEVICE_OPTIONS)
    store.set(options, "ramdisksdidevice", device)  # type: ignore[arg-type]
    store.set(options, "ramdisksdipath", r"\_osd\pe\boot.sdi")
    store.create(entry, TYPE_OS_LOADER)
    store.set(entry, "device", RamdiskDevice(device, r"\_osd\pe\boot.wim", options))  # type: ignore[arg-type]
    store.set(entry, "path", path)
    store.set(entry, "winpe", True)
    if once:
        store.set_bootsequence([entry])
    else:
        store.set_default(entry)
    file.write_bytes(store.dump())


@pytest.mark.parametrize(("kind", "loader"), [("uefi", "winload.efi"), ("bios", "winload.exe")])
def test_a_one_time_entry_starts_windows_pe_once(make_computer: Make, lab_content: Path, kind: str, loader: str) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1", firmware=kind)
    stage_windows_pe(computer, lab_content / "boot", path=rf"\windows\system32\boot\{loader}")
    assert started(computer) == "windows_pe", computer.message
    computer.power_off()
    assert started(computer) == "windows", computer.message


def test_a_default_entry_starts_windows_pe_again_and_again(make_computer: Make, lab_content: Path) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    stage_windows_pe(computer, lab_content / "boot", path=r"\windows\system32\boot\winload.efi", once=False)
    for dummy in range(2):
        assert started(computer) == "windows_pe", computer.message
        computer.power_off()


def test_the_wrong_loader_for_the_firmware(make_computer: Make, lab_content: Path) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    stage_windows_pe(computer, lab_content / "boot", path=r"\windows\system32\boot\winload.exe")
    assert started(computer, "0xc000000f") == "0xc000000f"


def test_no_boot_sdi(make_computer: Make, lab_content: Path) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    stage_windows_pe(computer, lab_content / "boot", path=r"\windows\system32\boot\winload.efi", sdi=False)
    assert started(computer, "0xc000000f") == "0xc000000f"


def test_an_image_that_is_no_windows_pe(make_computer: Make, lab_content: Path) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    stage_windows_pe(computer, lab_content / "boot", path=r"\windows\system32\boot\winload.efi")
    install = lab_content / "images" / "install.wim"
    make_on_volume(volume(computer, "Windows").root, r"_osd\pe\boot.wim").write_bytes(install.read_bytes())
    assert started(computer, "0xc0000225") == "0xc0000225"


@pytest.mark.parametrize(
    ("label", "path", "state"),
    [
        ("System", UEFI_STORE, "0xc000000f"),
        ("Windows", r"Windows\System32\config\SYSTEM", "0xc0000001"),
        ("Windows", r"Windows\System32\config\SOFTWARE", "0xc0000218"),
        ("Windows", r"Windows\System32\winload.efi", "0xc000000f"),
    ],
)
def test_what_is_missing_stops_the_start(make_computer: Make, label: str, path: str, state: str) -> None:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    file = find_on_volume(volume(computer, label).root, path)
    assert file is not None
    file.unlink()
    assert started(computer, state) == state


# --- Setup


def test_setup_makes_what_the_answer_file_says(make_computer: Make) -> None:
    computer = make_computer(medium=False)
    apply_windows(computer, answers())
    assert started(computer) == "windows", computer.message
    machine = running(computer)
    assert machine.name == "REF01"
    account = machine.accounts.find("osd-run")
    assert account is not None
    assert (account.enabled, account.rid, "Administrators" in account.groups) == (True, 1001, True)
    assert machine.live_registry.get_dword(r"HKLM\SYSTEM\Setup", "SetupType") == 0
    assert b"Run-Pass-1" not in machine.files(SYSTEM).read(r"C:\Windows\Panther\unattend.xml")
    assert machine.firmware.entries()[-1].description == "Windows Boot Manager"


def test_nobody_listens_unless_the_hives_say_so(make_computer: Make) -> None:
    computer = make_computer(medium=False)
    apply_windows(computer, answers())
    started(computer)
    assert full_os.closed_because(running(computer)) == "the WinRM service does not run"
    assert not listens(running(computer).address, 5985)


@pytest.mark.parametrize(
    ("content_of_file", "state"),
    [
        (None, "oobe_waits"),
        (b"<unattend", "setup_failed"),
        (answer_file.AnswerFile().render(), "oobe_waits"),
    ],
    ids=["no answer file", "not well-formed", "nothing in it"],
)
def test_setup_never_returns(make_computer: Make, content_of_file: bytes | None, state: str) -> None:
    computer = make_computer(medium=False)
    apply_windows(computer, content_of_file)
    assert started(computer) == state
    assert not listens(computer.hardware.addresses["windows"], 5985)
    if state == "setup_failed":
        assert find_on_volume(volume(computer, "Windows").root, r"Windows\Panther\setuperr.log") is not None


# --- who is let in


@pytest.fixture
def windows(make_computer: Make) -> LabMachine:
    computer = make_computer(medium=False, existing="Old-Pass-1")
    assert started(computer) == "windows", computer.message
    return running(computer)


def test_a_local_administrator_needs_the_token_policy(windows: LabMachine) -> None:
    windows.accounts.create("osd-run", "Run-Pass-1")
    windows.accounts.add_to_group("osd-run", "Administrators")
    assert full_os.find_user(windows, "osd-run") is None
    policy = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"
    windows.live_registry.set(policy, "LocalAccountTokenFilterPolicy", Value.dword(1))
    assert full_os.find_user(windows, "OSD-RUN") is not None
    assert full_os.find_user(windows, "osd-run", "OTHER") is None
    windows.accounts.set_enabled("osd-run", False)
    assert full_os.find_user(windows, "osd-run") is None
    assert full_os.find_user(windows, "Administrator") is not None
    assert full_os.find_user(windows, "Guest") is None


def test_the_firewall_rule_must_admit_the_control_node(windows: LabMachine) -> None:
    rules = r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
    other = "v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=192.0.2.1|Name=x|"
    windows.live_registry.set(rules, "lab-winrm", Value.sz(other))
    assert "no firewall rule" in full_os.closed_because(windows)
    windows.live_registry.set(rules, "lab-winrm", Value.sz(other.replace("192.0.2.1", "127.0.0.1")))
    assert full_os.closed_because(windows) == ""
    windows.services.stop("WinRM")
    assert full_os.closed_because(windows) == "the WinRM service does not run"


# --- Sysprep


def test_generalize_forgets_the_computer(windows: LabMachine) -> None:
    generalize(windows)
    registry = windows.live_registry
    state = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
    assert registry.get_string(state, "ImageState") == GENERALIZED
    assert windows.accounts.machine_sid == ""
    assert windows.files(SYSTEM).is_file(r"C:\Windows\System32\Sysprep\Sysprep_succeeded.tag")
    file = find_on_volume(windows.windows_root, r"Windows\System32\config\SYSTEM")
    assert file is not None
    assert registry_hive.load(file.read_bytes()).get_dword("Setup", "SetupType") == 2


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (r"HKLM\SECURITY\Policy", "PartOfDomain", 1),
        (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending", "x", 1),
        (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform", "RemainingRearmCount", 0),
        (r"HKLM\SYSTEM\Setup", "SystemSetupInProgress", 1),
        (r"HKLM\SYSTEM\Setup\Source OS (Updated on 1/1/2024)", "x", 1),
        (r"HKLM\SYSTEM\CurrentControlSet\Control\BitLockerStatus", "BootStatus", 1),
        (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\ReserveManager", "ActiveScenario", 2),
        (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Appx\AppxAllUserStore\S-1-5-21-1-2-3-1001\Game_1.0_x64__abc", "x", 1),
    ],
    ids=["domain", "pending restart", "no rearm left", "in Setup", "upgraded", "BitLocker", "reserved storage", "app of one user"],
)
def test_sysprep_refuses_and_changes_nothing(windows: LabMachine, key: str, name: str, value: int) -> None:
    windows.live_registry.set(key, name, Value.dword(value))
    sid = windows.accounts.machine_sid
    with pytest.raises(SysprepRefused):
        generalize(windows)
    assert windows.accounts.machine_sid == sid
    assert windows.files(SYSTEM).is_file(r"C:\Windows\System32\Sysprep\Panther\setuperr.log")
    assert not windows.files(SYSTEM).is_file(r"C:\Windows\System32\Sysprep\Sysprep_succeeded.tag")
