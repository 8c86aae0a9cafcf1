# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bcdboot, bcdedit, bootsect, reagentc, reg: boot entries of the product made and read back; refusals."""

from __future__ import annotations

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import boot_store
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_store import BootState, BootStore, WindowsPeEntry
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import quote
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.firmware import Firmware
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.names import BOOT_LOADER_ENTRY, RAMDISK_OPTIONS_ENTRY


def all_ok(bench, commands) -> None:
    for argv in commands:
        result = bench.run(quote(argv))
        assert result.code == 0, (argv, result.out, result.err)


def test_staging_windows_pe_from_windows(windows) -> None:
    entry = WindowsPeEntry("C:", Firmware.UEFI)
    all_ok(windows, boot_store.create_entry(entry, BootState()) + boot_store.boot_once(entry) + boot_store.boot_always(entry))
    store = windows.machine.boot_store(None, windows.session)
    assert store.bootsequence == (BOOT_LOADER_ENTRY,)
    assert store.default == BOOT_LOADER_ENTRY
    assert store.get(BOOT_LOADER_ENTRY, "winpe") is True
    device = store.get(BOOT_LOADER_ENTRY, "device")
    assert isinstance(device, boot_store.RamdiskDevice)
    assert device.path == r"\_osd\pe\boot.wim"
    dummy, partition = windows.machine.disks.locate("C")
    assert device.file_device.partition == partition.guid
    # made once more: what exists is an error, as in Windows
    assert windows.run(quote(boot_store.create_entry(entry, BootState())[0])).code == 1
    state = BootState(has_loader=True, has_options=True)
    all_ok(windows, boot_store.remove_entry(entry, state))
    assert RAMDISK_OPTIONS_ENTRY not in windows.machine.boot_store(None, windows.session).objects
    assert windows.run(quote(boot_store.remove_entry(entry, state)[0])).code == 1


def test_firmware_entries(windows) -> None:
    number = windows.machine.firmware.add_windows_entry(windows.machine.disks.find(0).partitions[0].guid, first=False)
    assert windows.run("bcdedit /set {fwbootmgr} bootsequence {bootmgr}").code == 0
    assert windows.machine.firmware.boot_next() == number
    assert windows.run("bcdedit /set {fwbootmgr} displayorder {bootmgr} /addfirst").code == 0
    assert windows.machine.firmware.boot_order()[0] == number
    assert windows.run("bcdedit /set {fwbootmgr} bootsequence {memdiag}").code == 1


def test_firmware_entries_need_uefi(pe_bios) -> None:
    assert pe_bios.run("bcdedit /set {fwbootmgr} bootsequence {bootmgr}").code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "/frobnicate",
        "/create {8f1b4a52-6c2e-4a57-9b0d-60d1e04d0009}",
        "/create {8f1b4a52-6c2e-4a57-9b0d-60d1e04d0009} /application nonsense",
        "/set {default} nonsense 1",
        "/set {default} device partition=Q:",
        "/set {default} winpe maybe",
        "/delete {bootmgr}",
        "/default {8f1b4a52-6c2e-4a57-9b0d-60d1e04d0009}",
        "/timeout soon",
        r"/store C:\none\BCD /enum",
        "/bootsequence",
    ],
)
def test_bcdedit_refuses(windows, arguments) -> None:
    before = windows.machine.boot_store(None, windows.session).dump()
    assert windows.run(f"bcdedit {arguments}").code == 1
    assert windows.machine.boot_store(None, windows.session).dump() == before


def test_bcdboot_makes_a_store_that_names_windows(windows) -> None:
    windows.machine.disks.assign(windows.machine.disks.find(0).partitions[0], "S")
    store = BootStore.load(windows.files.read(r"S:\EFI\Microsoft\Boot\BCD"))
    guid = store.default
    assert store.get(guid, "path") == r"\windows\system32\winload.efi"
    assert windows.files.is_file(r"S:\EFI\Boot\bootx64.efi")
    assert windows.run(r"bcdboot C:\Windows /s S: /f UEFI").code == 0
    again = BootStore.load(windows.files.read(r"S:\EFI\Microsoft\Boot\BCD"))
    assert again.default == guid
    assert again.displayorder == (guid,)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (r"C:\Nowhere /s S: /f UEFI", 1),
        (r"C:\Windows /s Q: /f UEFI", 1),
        (r"C:\Windows /f UEFI", 87),
        (r"C:\Windows /s S: /f EFI", 87),
        (r"C:\Windows /nonsense", 87),
        ("", 87),
    ],
)
def test_bcdboot_refuses(windows, arguments, code) -> None:
    windows.machine.disks.assign(windows.machine.disks.find(0).partitions[0], "S")
    assert windows.run(f"bcdboot {arguments}").code == code


def test_reagentc_of_an_applied_windows(windows) -> None:
    windows.files.make_directories(r"C:\Recovery\WindowsRE")
    line = r"C:\Windows\System32\reagentc.exe /setreimage /path C:\Recovery\WindowsRE /target C:\Windows"
    assert windows.run(line).code == 3
    windows.files.write(r"C:\Recovery\WindowsRE\Winre.wim", b"wim")
    assert windows.run(line).code == 0
    assert windows.run("reagentc /nonsense").code == 87


def test_reg(windows) -> None:
    key = r"HKLM\SOFTWARE\Test"
    assert windows.run(f"reg query {key}").code == 1
    assert windows.run(rf'reg add {key} /v Name /t REG_SZ /d "a b" /f').code == 0
    assert windows.run(rf"reg add {key} /v Number /t REG_DWORD /d 0x10 /f").code == 0
    assert windows.run(rf"reg add {key} /v List /t REG_MULTI_SZ /d one\0two /f").code == 0
    found = windows.machine.registry.find(key)
    assert found.get_string("", "Name") == "a b"
    assert found.get_dword("", "Number") == 16
    assert found.get_multi("", "List") == ["one", "two"]
    assert windows.run(rf'reg query {key} /f "a b" /d /e').code == 0
    assert windows.run(rf"reg query {key} /f a /d /e").code == 1
    assert windows.run(rf"reg query {key} /v Name").out.count("REG_SZ") == 1
    assert windows.run(rf"reg add {key} /v Number /t REG_DWORD /d ten /f").code == 1
    assert windows.run(rf"reg add {key} /v Number /t REG_NUMBER /d 1 /f").code == 1
    assert windows.run(rf"reg add {key} /v Name /d x").code == 1  # it would ask
    assert windows.run(rf"reg delete {key} /v Nothing /f").code == 1
    assert windows.run(rf"reg delete {key}").code == 1
    assert windows.run(rf"reg delete {key} /f").code == 0
    assert windows.run(f"reg query {key}").code == 1
    assert windows.run("reg frobnicate HKLM").code == 1
    assert windows.run(rf"reg query {key} /frobnicate").code == 1


def test_reg_load_and_unload(pe) -> None:
    pe.files.write(r"X:\hive", pe.files.read(r"X:\Windows\System32\config\SOFTWARE"))
    assert pe.run(r"reg load HKLM\OSD X:\none").code == 1
    assert pe.run(r"reg load HKLM\OSD X:\hive").code == 0
    assert pe.run(r"reg load HKLM\OSD X:\hive").code == 1
    assert pe.run(r"reg add HKLM\OSD\Made /v A /d 1 /f").code == 0
    assert pe.run(r"reg unload HKLM\OSD").code == 0
    assert pe.run(r"reg unload HKLM\OSD").code == 1
    from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive

    assert registry_hive.load(pe.files.read(r"X:\hive")).get_string("Made", "A") == "1"
