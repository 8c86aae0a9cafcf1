# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Boot stores: elements, devices, bcdedit's operations, and our entry from command line to what is read back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import boot_store as bs
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_store import (
    BOOT_MANAGER,
    BootDevice,
    BootStore,
    BootStoreError,
    OtherDevice,
    PartitionDevice,
    RamdiskDevice,
    WindowsPeEntry,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.firmware import Firmware
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.names import BOOT_LOADER_ENTRY, RAMDISK_OPTIONS_ENTRY
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import Registry
from ansible_collections.goldimage.osd.tests.unit.support.fake_registry import FakeComputer

GPT = PartitionDevice("GPT", "{11111111-2222-3333-4444-555555555555}", "{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}")
MBR = PartitionDevice("MBR", 0xCAFEF00D, 1048576)


def _fake(root: Any) -> Any:
    computer = FakeComputer()
    computer.root.subkeys["BCD00000000"] = root
    return computer


def bcdedit(store: BootStore, argv: list[str], fw: list[list[str]]) -> None:
    """Enough of bcdedit to run the product's own command lines."""
    assert argv[0] == "bcdedit.exe"
    verb, *rest = argv[1:]
    if rest and rest[0] == "{fwbootmgr}":
        fw.append(rest)
    elif verb == "/create":
        kind = bs.TYPE_DEVICE_OPTIONS if rest[-1] == "/device" else bs.APPLICATION_TYPES[rest[-1]]
        store.create(rest[0], kind, rest[2])
    elif verb == "/set":
        guid = store.find(rest[0])
        kind = store.object_type(guid) or 0
        store.set(guid, rest[1], bs.parse_value(kind, rest[1], rest[2], lambda drive: GPT if drive == "C:" else MBR))
    elif verb == "/bootsequence":
        store.set_bootsequence(rest)
    elif verb == "/displayorder":
        store.set_displayorder(rest[:1], rest[1].removeprefix("/"))
    elif verb == "/default":
        store.set_default(rest[0])
    elif verb == "/timeout":
        store.set(BOOT_MANAGER, "timeout", int(rest[0]))
    elif verb == "/delete":
        store.delete(rest[0], cleanup="/cleanup" in rest)
    else:
        raise AssertionError(argv)


@pytest.mark.parametrize(
    "device",
    [
        GPT,
        MBR,
        BootDevice(),
        RamdiskDevice(GPT, r"\_osd\pe\boot.wim", RAMDISK_OPTIONS_ENTRY),
        RamdiskDevice(BootDevice(), r"\sources\boot.wim", RAMDISK_OPTIONS_ENTRY),
        OtherDevice(bytes(16) + b"\x08" + bytes(80)),
    ],
)
def test_devices_round_trip(device: Any) -> None:
    assert bs.decode_device(bs.encode_device(device)) == device


def test_a_partition_device_has_the_known_layout() -> None:
    raw = bs.encode_device(GPT)
    assert len(raw) == 88
    assert raw[:0x20].hex() == "00" * 16 + "06000000" + "00000000" + "48000000" + "00000000"
    assert raw[0x20:0x30].hex() == "aaaaaaaabbbbccccddddeeeeeeeeeeee"
    assert raw[0x38:0x48].hex() == "11111111222233334444555555555555"
    raw = bs.encode_device(MBR)
    assert raw[0x20:0x28] == (1048576).to_bytes(8, "little")
    assert raw[0x34:0x3C].hex() == "01000000" + "0df0feca"


def test_the_product_makes_its_entry_and_reads_it_back() -> None:
    store, firmware_calls = BootStore(), []
    windows = store.create("{12345678-1234-1234-1234-123456789012}", bs.TYPE_OS_LOADER, "Windows")
    store.set_displayorder([windows])
    store.set_default(windows)
    entry = WindowsPeEntry("C:", Firmware.UEFI)
    computer = _fake(store.root)
    before = bs.read_boot_state(Registry(computer.cim))
    assert not before.has_loader
    assert "the entry for Windows PE is missing" in before.entry_problems(entry)
    for command in bs.create_entry(entry, before) + bs.boot_once(entry):
        bcdedit(store, command, firmware_calls)
    state = bs.read_boot_state(Registry(computer.cim))
    assert state.entry_problems(entry) == []
    assert state.starts_once
    assert not state.starts_always
    assert state.default == windows
    assert firmware_calls == [["{fwbootmgr}", "bootsequence", "{bootmgr}"]]
    assert store.get(BOOT_LOADER_ENTRY, "device") == RamdiskDevice(GPT, r"\_osd\pe\boot.wim", RAMDISK_OPTIONS_ENTRY)
    # A rerun creates nothing twice; the wrong firmware is seen.
    for command in bs.create_entry(entry, state):
        assert "/create" not in command
    assert "winload.exe" in state.entry_problems(WindowsPeEntry("C:", Firmware.BIOS))[0]
    # Default for good, and away again.
    for command in bs.boot_always(entry):
        bcdedit(store, command, firmware_calls)
    state = bs.read_boot_state(Registry(computer.cim))
    assert state.starts_always
    assert state.displayorder == (BOOT_LOADER_ENTRY, windows)
    for command in bs.remove_entry(entry, state, windows):
        bcdedit(store, command, firmware_calls)
    state = bs.read_boot_state(Registry(computer.cim))
    assert (state.has_loader, state.has_options, state.default) == (False, False, windows)
    assert (state.bootsequence, state.displayorder) == ((), (windows,))


def test_a_store_is_read_from_what_reg_exe_exported_and_type_showed() -> None:
    element = rf"HKEY_LOCAL_MACHINE\{bs.SYSTEM_STORE}\Objects\{BOOT_MANAGER}\Elements\23000003"
    shown = f'Windows Registry Editor Version 5.00\r\n\r\n[{element}]\r\n"Element"="{BOOT_LOADER_ENTRY.upper()}"\r\n\r\n'.encode()
    before = shown.replace(BOOT_LOADER_ENTRY.upper().encode(), BOOT_MANAGER.encode())
    # What counts is the last export; what commands say in the system's language is passed over.
    assert bs.shown_state(b"Der Vorgang wurde ausgef\x81hrt.\r\n" + before + b"Erfolg.\r\n" + shown).default == BOOT_LOADER_ENTRY
    for output in (b"", b"The operation completed successfully.\r\n", shown.replace(b'="', b"=?")):
        with pytest.raises(BootStoreError):
            bs.shown_state(output)


def test_another_store_and_bios_command_lines() -> None:
    entry = WindowsPeEntry("W:", Firmware.BIOS, store=r"S:\Boot\BCD")
    commands = bs.create_entry(entry, bs.BootState()) + bs.boot_once(entry) + bs.boot_always(entry)
    assert all(command[:3] == ["bcdedit.exe", "/store", r"S:\Boot\BCD"] for command in commands)
    assert not any("{fwbootmgr}" in command for command in commands)
    assert [c for c in commands if "path" in c][0][-1] == r"\windows\system32\boot\winload.exe"


def test_the_one_time_sequence_is_used_up() -> None:
    store = BootStore()
    one, two = (store.create(f"{{{n}2345678-1234-1234-1234-123456789012}}", bs.TYPE_OS_LOADER) for n in "12")
    store.set_default(one)
    store.set_bootsequence([two])
    again = BootStore.load(store.dump())
    assert again.take_next() == two
    assert again.take_next() == one
    assert again.bootsequence == ()
    again.delete(one)
    assert again.default is None
    assert again.take_next() is None


def test_a_blank_store_has_no_boot_manager_until_one_is_made() -> None:
    store = BootStore.load(BootStore.blank().dump())
    assert store.objects == {}
    assert (store.default, store.displayorder, store.timeout, store.take_next()) == (None, (), None, None)
    with pytest.raises(BootStoreError, match="no entry"):
        store.set("{bootmgr}", "timeout", 0)
    store.create("{bootmgr}", bs.TYPE_BOOT_MANAGER)
    store.set("{bootmgr}", "timeout", 0)
    assert store.timeout == 0


def test_lists() -> None:
    store = BootStore()
    a, b, c = (store.create(f"{{{n}2345678-1234-1234-1234-123456789012}}", bs.TYPE_OS_LOADER) for n in "abc")
    store.set_displayorder([a, b])
    store.set_displayorder([c], "addfirst")
    assert store.displayorder == (c, a, b)
    store.set_displayorder([c], "addlast")
    assert store.displayorder == (a, b, c)
    store.set_displayorder([b], "remove")
    assert store.displayorder == (a, c)


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (lambda s: s.create(BOOT_MANAGER, 1), "exists already"),
        (lambda s: s.find("{default}"), "no entry"),
        (lambda s: s.find("{nonsense}"), "not valid"),
        (lambda s: s.set("{bootmgr}", "colour", "red"), "not recognized"),
        (lambda s: s.set("{bootmgr}", "timeout", "soon"), "cannot be"),
        (lambda s: s.delete(BOOT_LOADER_ENTRY), "no entry"),
        (lambda s: s.set_displayorder(["{bootmgr}"], "sideways"), "not recognized"),
        (lambda s: bs.parse_value(bs.TYPE_OS_LOADER, "winpe", "maybe", lambda d: GPT), "cannot be"),
        (lambda s: bs.parse_device("floppy=A:", lambda d: GPT), "not valid"),
    ],
)
def test_refusals(action: Any, why: str) -> None:
    with pytest.raises(BootStoreError, match=why):
        action(BootStore())


@pytest.mark.skipif(not shutil.which("hivexsh"), reason="hivexsh (libhivex-bin) is not installed")
def test_hivex_reads_a_store(tmp_path: Path) -> None:
    store = BootStore()
    store.set_displayorder([BOOT_MANAGER])
    (tmp_path / "BCD").write_bytes(store.dump())
    script = rf"cd \Objects\{BOOT_MANAGER}\Elements\12000004" + "\nlsval Element\n"
    out = subprocess.run(["hivexsh", tmp_path / "BCD"], input=script, text=True, capture_output=True, check=True).stdout
    assert out == "Windows Boot Manager\n"
