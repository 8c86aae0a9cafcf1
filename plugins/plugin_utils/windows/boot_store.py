# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Boot configuration data (BCD): the store as a registry hive, what bcdedit does to it, and our two Windows PE entries.

A store is a hive with ``Objects\{guid}\Description`` (``Type``) and ``Objects\{guid}\Elements\XXXXXXXX`` (``Element``). The second
digit of an element's number is its format. Numbers: table of windows-mechanics 2.3 [code; knowledge]; layout of device elements
[knowledge, as public descriptions of the boot library's structures give it; it is opaque to the product, which compares it whole].
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import registration_file, registry_hive
from .computer import Computer
from .firmware import Firmware
from .names import BOOT_LOADER_ENTRY, RAMDISK_OPTIONS_ENTRY, STAGED_BOOT_IMAGE, STAGED_BOOT_SDI, WORK_FOLDER
from .registry import ExportedRegistry, RegistryReader
from .registry_hive import Key, Value

BOOT_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
FIRMWARE_BOOT_MANAGER = "{a5a30fa2-3d06-4e9f-b5f4-a01df9d1fcba}"
#: The names bcdedit knows; ``{default}`` and ``{current}`` are looked up.
ALIASES: dict[str, str] = {
    "{bootmgr}": BOOT_MANAGER,
    "{fwbootmgr}": FIRMWARE_BOOT_MANAGER,
    "{memdiag}": "{b2721d73-1db4-4c62-bf78-c548a880142d}",
    "{ramdiskoptions}": "{ae5534e0-a924-466c-b836-758539a3ee3a}",
    "{globalsettings}": "{7ea2e1ac-2e61-4728-aaa3-896d9d0a9f0e}",
    "{bootloadersettings}": "{6efb52bf-1766-41db-a6b3-0ee5eff72bd7}",
    "{resumeloadersettings}": "{1afa9c49-16ab-4a5c-901b-212802da9460}",
    "{dbgsettings}": "{4636856e-540f-4170-a130-a84776f4c654}",
    "{emssettings}": "{0ce4991b-e6b3-4b16-b23c-5e0d9250e5d9}",
    "{badmemory}": "{5189b25c-5558-4bf2-bca4-289b11bd29e2}",
    "{hypervisorsettings}": "{7ff607e0-4395-11db-b0de-0800200c9a66}",
}

TYPE_FIRMWARE_BOOT_MANAGER = 0x10100001
TYPE_BOOT_MANAGER = 0x10100002
TYPE_OS_LOADER = 0x10200003
TYPE_DEVICE_OPTIONS = 0x30000000
#: bcdedit /create … /application <name>, /device and /inherit.
APPLICATION_TYPES: dict[str, int] = {
    "osloader": TYPE_OS_LOADER,
    "resume": 0x10200004,
    "bootsector": 0x10400008,
    "ntldr": 0x10300006,
    "startup": 0x1040000A,
}

_LIBRARY_ELEMENTS: dict[str, int] = {
    "device": 0x11000001,
    "path": 0x12000002,
    "description": 0x12000004,
    "locale": 0x12000005,
    "inherit": 0x14000006,
    "recoverysequence": 0x14000008,
    "recoveryenabled": 0x16000009,
    "bootdebug": 0x16000010,
    "testsigning": 0x16000049,
    "isolatedcontext": 0x16000060,
}
_LOADER_ELEMENTS: dict[str, int] = {
    "osdevice": 0x21000001,
    "systemroot": 0x22000002,
    "resumeobject": 0x23000003,
    "nx": 0x25000020,
    "detecthal": 0x26000010,
    "winpe": 0x26000022,
    "ems": 0x260000B0,
    "bootmenupolicy": 0x250000C2,
}
_MANAGER_ELEMENTS: dict[str, int] = {
    "displayorder": 0x24000001,
    "bootsequence": 0x24000002,
    "default": 0x23000003,
    "timeout": 0x25000004,
    "resume": 0x26000005,
    "resumeobject": 0x23000006,
    "toolsdisplayorder": 0x24000010,
    "displaybootmenu": 0x26000020,
}
_DEVICE_ELEMENTS: dict[str, int] = {
    "ramdiskimageoffset": 0x35000001,
    "ramdisksdidevice": 0x31000003,
    "ramdisksdipath": 0x32000004,
}
_CHOICES: dict[str, dict[str, int]] = {
    "nx": {"optin": 0, "optout": 1, "alwaysoff": 2, "alwayson": 3},
    "bootmenupolicy": {"legacy": 0, "standard": 1},
}
_BOOLEANS = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}


class BootStoreError(Exception):
    """bcdedit would refuse this with exit code 1."""


@dataclass(frozen=True)
class PartitionDevice:
    """A partition: GPT with disk and partition GUID, MBR with the disk's signature and the offset in bytes."""

    style: str
    disk: str | int
    partition: str | int


@dataclass(frozen=True)
class BootDevice:
    """The device that the computer was started from (``boot``)."""


@dataclass(frozen=True)
class RamdiskDevice:
    """A WIM file that becomes a RAM disk: where the file lies, its path, the object with the ramdisk's options."""

    file_device: PartitionDevice | BootDevice
    path: str
    options: str


@dataclass(frozen=True)
class OtherDevice:
    """A device of a kind that we do not take apart."""

    raw: bytes


Device = PartitionDevice | BootDevice | RamdiskDevice | OtherDevice
ElementValue = str | int | bool | tuple[str, ...] | tuple[int, ...] | Device


def element_number(object_type: int, name: str) -> int | None:
    """Return the number of an element by bcdedit's name for that type of object, or of eight hex digits; None where unknown."""
    text = name.lower()
    tables = {
        TYPE_BOOT_MANAGER: _MANAGER_ELEMENTS,
        TYPE_FIRMWARE_BOOT_MANAGER: _MANAGER_ELEMENTS,
        TYPE_DEVICE_OPTIONS: _DEVICE_ELEMENTS,
    }
    number = tables.get(object_type, _LOADER_ELEMENTS).get(text, _LIBRARY_ELEMENTS.get(text))
    if number is None and text.startswith("custom:"):
        text = text.removeprefix("custom:").removeprefix("0x")
        number = int(text, 16) if len(text) == 8 and all(c in "0123456789abcdef" for c in text) else None
    return number


# --- elements as registry values


def encode_element(number: int, value: ElementValue) -> Value:
    """Return an element's registry value. BootStoreError where the value does not fit the element's format."""
    kind = number >> 24 & 0xF
    if kind == 1 and isinstance(value, PartitionDevice | BootDevice | RamdiskDevice | OtherDevice):
        return Value.binary(encode_device(value))
    if kind in (2, 3) and isinstance(value, str):
        return Value.sz(value)
    if kind == 4 and isinstance(value, tuple):
        return Value.multi_sz([str(v) for v in value])
    if kind == 5 and isinstance(value, int):
        return Value.binary(struct.pack("<Q", value))
    if kind == 6 and isinstance(value, bool):
        return Value.binary(bytes([value]))
    if kind == 7 and isinstance(value, tuple):
        return Value.binary(b"".join(struct.pack("<Q", int(v)) for v in value))
    raise BootStoreError(f"The element {number:08x} cannot be {value!r}")


def decode_element(number: int, value: Value) -> ElementValue:
    """Return what an element's registry value means."""
    kind = number >> 24 & 0xF
    if kind == 1:
        return decode_device(value.data)
    if kind in (2, 3):
        return value.text or ""
    if kind == 4:
        return tuple(value.strings or ())
    if kind == 5:
        return int.from_bytes(value.data[:8], "little")
    if kind == 6:
        return value.data[:1] == b"\1"
    if kind == 7:
        return tuple(int.from_bytes(value.data[i : i + 8], "little") for i in range(0, len(value.data), 8))
    return OtherDevice(value.data)


_DEVICE_HEAD = struct.Struct("<IIII")
_DISK, _BOOT, _PARTITION = 0, 5, 6
_RAMDISK = 3
_PARTITION_SIZE = 0x48
_NO_OPTIONS = bytes(16)


def encode_device(device: Device) -> bytes:
    """Return the bytes of a device element: GUID of its options, then the boot library's device descriptor."""
    if isinstance(device, OtherDevice):
        return device.raw
    if isinstance(device, RamdiskDevice):
        return _guid(device.options) + _ramdisk(device)
    return _NO_OPTIONS + _plain_device(device)


def _plain_device(device: PartitionDevice | BootDevice) -> bytes:
    if isinstance(device, BootDevice):
        return _DEVICE_HEAD.pack(_BOOT, 0, _PARTITION_SIZE, 0).ljust(_PARTITION_SIZE, b"\0")
    if device.style == "GPT":
        partition, disk = _guid(str(device.partition)), _guid(str(device.disk))
    else:
        partition = struct.pack("<Q", int(device.partition)).ljust(16, b"\0")
        disk = struct.pack("<I", int(device.disk)).ljust(16, b"\0")
    body = partition + struct.pack("<II", 0, 0 if device.style == "GPT" else 1) + disk
    return (_DEVICE_HEAD.pack(_PARTITION, 0, _PARTITION_SIZE, 0) + body).ljust(_PARTITION_SIZE, b"\0")


def _ramdisk(device: RamdiskDevice) -> bytes:
    path = (device.path + "\0").encode("utf-16-le")
    inner = _plain_device(device.file_device)
    file = struct.pack("<III", 1, 12 + len(inner) + len(path), 5) + inner + path
    body = struct.pack("<IQQI", _RAMDISK, 0, 0, 0) + file
    return _DEVICE_HEAD.pack(_DISK, 1, _DEVICE_HEAD.size + len(body), 0) + body


def decode_device(raw: bytes) -> Device:
    """Take the bytes of a device element apart."""
    if len(raw) < 16 + _DEVICE_HEAD.size:
        return OtherDevice(raw)
    descriptor = raw[16:]
    kind = _DEVICE_HEAD.unpack_from(descriptor)[0]
    if kind in (_BOOT, _PARTITION):
        return _decode_plain(descriptor) or OtherDevice(raw)
    body = descriptor[_DEVICE_HEAD.size :]
    if kind != _DISK or len(body) < 36 + _PARTITION_SIZE or struct.unpack_from("<I", body)[0] != _RAMDISK:
        return OtherDevice(raw)
    inner = _decode_plain(body[36:])
    path = body[36 + _PARTITION_SIZE :].decode("utf-16-le", "replace").split("\0", 1)[0]
    return RamdiskDevice(inner, path, _guid_text(raw[:16])) if inner else OtherDevice(raw)


def _decode_plain(descriptor: bytes) -> PartitionDevice | BootDevice | None:
    if len(descriptor) < _PARTITION_SIZE:
        return None
    kind = _DEVICE_HEAD.unpack_from(descriptor)[0]
    if kind == _BOOT:
        return BootDevice()
    if kind != _PARTITION:
        return None
    partition, disk = descriptor[16:32], descriptor[40:56]
    if struct.unpack_from("<I", descriptor, 36)[0] == 0:
        return PartitionDevice("GPT", _guid_text(disk), _guid_text(partition))
    return PartitionDevice("MBR", int.from_bytes(disk[:4], "little"), int.from_bytes(partition[:8], "little"))


def _guid(text: str) -> bytes:
    return uuid.UUID(text.strip("{}")).bytes_le


def _guid_text(raw: bytes) -> str:
    return f"{{{uuid.UUID(bytes_le=raw)}}}"


def parse_value(object_type: int, name: str, text: str, resolve: Callable[[str], PartitionDevice]) -> ElementValue:
    r"""Return what bcdedit makes of ``/set <id> <name> <text>``.

    ``resolve`` returns the partition of a drive letter (``C:``) or raises BootStoreError. Devices: ``boot``, ``partition=C:``,
    ``ramdisk=[C:]\path,{options}`` [doc: wsd/bcdedit].
    """
    number = element_number(object_type, name)
    if number is None:
        raise BootStoreError(f"The element data type {name!r} is not recognized")
    kind = number >> 24 & 0xF
    if kind == 1:
        return parse_device(text, resolve)
    if kind == 6 and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind == 5:
        choice = _CHOICES.get(name.lower(), {}).get(text.lower())
        if choice is not None:
            return choice
        if text.isdigit():
            return int(text)
    if kind in (3, 4):
        guids = tuple(resolve_alias(part) for part in text.split())
        return guids if kind == 4 else guids[0]
    if kind == 2:
        return text
    raise BootStoreError(f"The element {name!r} cannot be {text!r}")


def parse_device(text: str, resolve: Callable[[str], PartitionDevice]) -> Device:
    """Return the device that bcdedit's text names."""
    if text.lower() == "boot":
        return BootDevice()
    kind, dummy, rest = text.partition("=")
    if kind.lower() == "partition" and rest:
        return resolve(rest)
    if kind.lower() == "ramdisk" and rest.startswith("["):
        drive, dummy, file = rest[1:].partition("]")
        path, dummy, options = file.rpartition(",")
        device: PartitionDevice | BootDevice = BootDevice() if drive.lower() == "boot" else resolve(drive)
        return RamdiskDevice(device, path, resolve_alias(options))
    raise BootStoreError(f"The device {text!r} is not valid")


def resolve_alias(text: str) -> str:
    """Return the GUID of a well-known name or of a GUID, lower case and in braces. BootStoreError for anything else."""
    name = text.lower()
    if name in ALIASES:
        return ALIASES[name]
    try:
        return f"{{{uuid.UUID(name.strip('{}'))}}}"
    except ValueError as error:
        raise BootStoreError(f"The entry {text!r} is not valid") from error


# --- a store


def _blank_root() -> Key:
    root = registry_hive.empty("NewStoreRoot")
    root.set_string("Description", "KeyName", "BCD00000000")
    root.set_dword("Description", "System", 1)
    root.set_dword("Description", "TreatAsSystem", 1)
    root.create("Objects")
    return root


class BootStore:
    """One store in memory, with what bcdedit does to it. Refusals are BootStoreError."""

    def __init__(self, root: Key | None = None) -> None:
        """Take a store's hive; without one make a store that holds only the boot manager."""
        self.root = root or _blank_root()
        if root is None:
            self.create(BOOT_MANAGER, TYPE_BOOT_MANAGER, "Windows Boot Manager")
            self.set(BOOT_MANAGER, "timeout", 30)

    @classmethod
    def blank(cls) -> BootStore:
        """Make a store without any entry, as ``bcdedit /createstore`` does."""
        return cls(_blank_root())

    @classmethod
    def load(cls, data: bytes) -> BootStore:
        """Read a store's file. Raises HiveError or, for a hive that is no store, BootStoreError."""
        root = registry_hive.load(data)
        if root.find("Objects") is None:
            raise BootStoreError("This registry hive is no boot configuration data store")
        return cls(root)

    def dump(self) -> bytes:
        """Return the store's file."""
        return registry_hive.dump(self.root)

    @property
    def objects(self) -> dict[str, int]:
        """The GUIDs of all entries with their types."""
        found = self.root.find("Objects")
        return {g.lower(): self.object_type(g) or 0 for g in found.subkeys} if found else {}

    def object_type(self, guid: str) -> int | None:
        """Return an entry's type, None where there is no such entry."""
        return self.root.get_dword(rf"Objects\{guid}\Description", "Type")

    def find(self, text: str) -> str:
        """Return the GUID of an entry that is there, by GUID, alias or ``{default}``."""
        guid = self.default if text.lower() == "{default}" else resolve_alias(text)
        if guid is None or self.object_type(guid) is None:
            raise BootStoreError(f"The boot configuration data store has no entry {text}")
        return guid

    def create(self, guid: str, object_type: int, description: str = "") -> str:
        """Make an entry; one that is there already is an error."""
        guid = resolve_alias(guid)
        if self.object_type(guid) is not None:
            raise BootStoreError(f"The entry {guid} exists already")
        self.root.set_dword(rf"Objects\{guid}\Description", "Type", object_type)
        self.root.create(rf"Objects\{guid}\Elements")
        if description:
            self.set(guid, "description", description)
        return guid

    def delete(self, text: str, *, cleanup: bool = True) -> None:
        """Remove an entry, and with ``cleanup`` every mention of it in the boot managers' lists."""
        guid = self.find(text)
        self.root.delete(rf"Objects\{guid}")
        if not cleanup:
            return
        for manager in (BOOT_MANAGER, FIRMWARE_BOOT_MANAGER):
            for name in ("displayorder", "bootsequence", "toolsdisplayorder"):
                listed = self._guids(manager, name)
                if guid in listed:
                    self._set_list(manager, name, [g for g in listed if g != guid])
        if self.default == guid:
            self.remove(BOOT_MANAGER, "default")

    def get(self, text: str, name: str) -> ElementValue | None:
        """Return an element, None where the entry does not have it."""
        guid, number = self._element(text, name)
        value = self.root.get(rf"Objects\{guid}\Elements\{number:08x}", "Element")
        return None if value is None else decode_element(number, value)

    def set(self, text: str, name: str, value: ElementValue) -> None:
        """Set an element."""
        guid, number = self._element(text, name)
        self.root.set(rf"Objects\{guid}\Elements\{number:08x}", "Element", encode_element(number, value))

    def remove(self, text: str, name: str) -> bool:
        """Remove an element; tell whether it was there."""
        guid, number = self._element(text, name)
        return self.root.delete(rf"Objects\{guid}\Elements\{number:08x}")

    def _element(self, text: str, name: str) -> tuple[str, int]:
        guid = self.find(text)
        number = element_number(self.object_type(guid) or 0, name)
        if number is None:
            raise BootStoreError(f"The element data type {name!r} is not recognized")
        return guid, number

    def elements(self, text: str) -> dict[int, ElementValue]:
        """Return all elements of an entry by number."""
        key = self.root.find(rf"Objects\{self.find(text)}\Elements")
        found: dict[int, ElementValue] = {}
        for name, element in key.subkeys.items() if key else ():
            value = element.values.get("Element")
            if value is not None:
                found[int(name, 16)] = decode_element(int(name, 16), value)
        return found

    def _guids(self, manager: str, name: str) -> tuple[str, ...]:
        if self.object_type(manager) is None:
            return ()
        value = self.get(manager, name)
        return tuple(str(v).lower() for v in value) if isinstance(value, tuple) else ()

    def _set_list(self, manager: str, name: str, guids: Iterable[str]) -> None:
        entries = tuple(dict.fromkeys(resolve_alias(g) for g in guids))
        if entries:
            self.set(manager, name, entries)
        else:
            self.remove(manager, name)

    @property
    def default(self) -> str | None:
        """The GUID of the default entry."""
        if self.object_type(BOOT_MANAGER) is None:
            return None
        value = self.get(BOOT_MANAGER, "default")
        return value.lower() if isinstance(value, str) else None

    @property
    def bootsequence(self) -> tuple[str, ...]:
        """What the next start takes, once."""
        return self._guids(BOOT_MANAGER, "bootsequence")

    @property
    def displayorder(self) -> tuple[str, ...]:
        """The boot manager's menu."""
        return self._guids(BOOT_MANAGER, "displayorder")

    @property
    def timeout(self) -> int | None:
        """Seconds that the menu is shown."""
        value = self.get(BOOT_MANAGER, "timeout") if self.object_type(BOOT_MANAGER) is not None else None
        return value if isinstance(value, int) else None

    def set_default(self, text: str) -> None:
        """``bcdedit /default``."""
        self.set(BOOT_MANAGER, "default", self.find(text))

    def set_bootsequence(self, guids: Sequence[str], mode: str = "") -> None:
        """``bcdedit /bootsequence <ids> [/addfirst|/addlast|/remove]``."""
        self._change(BOOT_MANAGER, "bootsequence", guids, mode)

    def set_displayorder(self, guids: Sequence[str], mode: str = "") -> None:
        """``bcdedit /displayorder <ids> [/addfirst|/addlast|/remove]``."""
        self._change(BOOT_MANAGER, "displayorder", guids, mode)

    def _change(self, manager: str, name: str, guids: Sequence[str], mode: str) -> None:
        given = [self.find(guid) for guid in guids]
        others = [g for g in self._guids(manager, name) if g not in given]
        changed = {"": given, "addfirst": given + others, "addlast": others + given, "remove": others}.get(mode)
        if changed is None:
            raise BootStoreError(f"The option /{mode} is not recognized")
        self._set_list(manager, name, changed)

    def take_next(self) -> str | None:
        """Return what the boot manager starts now and use up the one-time sequence; None where there is nothing to start."""
        sequence = self.bootsequence
        if sequence:
            self._set_list(BOOT_MANAGER, "bootsequence", sequence[1:])
            return sequence[0]
        return self.default or next(iter(self.displayorder), None)


# --- our own entries: command lines and what to read back


@dataclass(frozen=True)
class WindowsPeEntry:
    r"""Where the staged boot image lies and which store gets the entry.

    ``drive`` is the Windows volume as it is called now (``C:`` or, in Windows PE, ``W:``); ``store`` the path of a store that is not
    the running system's (``S:\EFI\Microsoft\Boot\BCD``), '' for the system's own.
    """

    drive: str
    firmware: Firmware
    store: str = ""
    image: str = "\\" + STAGED_BOOT_IMAGE
    sdi: str = "\\" + STAGED_BOOT_SDI

    @property
    def loader(self) -> str:
        """The boot loader's path inside the image."""
        return rf"\windows\system32\boot\winload.{'efi' if self.firmware is Firmware.UEFI else 'exe'}"

    def bcdedit(self, *arguments: str) -> list[str]:
        """Return a bcdedit command for the store."""
        return ["bcdedit.exe", *(["/store", self.store] if self.store else []), *arguments]


def create_entry(entry: WindowsPeEntry, state: BootState) -> list[list[str]]:
    """Return the commands that make or correct the entry and its ramdisk options; what exists already is not created again."""
    options, loader = RAMDISK_OPTIONS_ENTRY, BOOT_LOADER_ENTRY
    ramdisk = f"ramdisk=[{entry.drive}]{entry.image},{options}"
    commands = [] if state.has_options else [["/create", options, "/d", "OSD ramdisk options", "/device"]]
    commands += [
        ["/set", options, "ramdisksdidevice", f"partition={entry.drive}"],
        ["/set", options, "ramdisksdipath", entry.sdi],
    ]
    if not state.has_loader:
        commands.append(["/create", loader, "/d", "OSD Windows PE", "/application", "osloader"])
    settings = {
        "device": ramdisk,
        "osdevice": ramdisk,
        "path": entry.loader,
        "systemroot": r"\windows",
        "winpe": "yes",
        "detecthal": "yes",
        "nx": "optin",
    }
    commands += [["/set", loader, name, value] for name, value in settings.items()]
    return [entry.bcdedit(*command) for command in commands]


def boot_once(entry: WindowsPeEntry) -> list[list[str]]:
    """Return the commands that make Windows PE what the next start takes, once; on UEFI the firmware's BootNext as well."""
    commands = [entry.bcdedit("/bootsequence", BOOT_LOADER_ENTRY)]
    if entry.firmware is Firmware.UEFI:
        # The firmware's variables belong to no store: never with /store.
        commands.append(["bcdedit.exe", "/set", "{fwbootmgr}", "bootsequence", "{bootmgr}"])
    return commands


def boot_always(entry: WindowsPeEntry) -> list[list[str]]:
    """Return the commands that make Windows PE the default entry, without a menu, and the disk the firmware's first choice."""
    commands = [
        entry.bcdedit("/displayorder", BOOT_LOADER_ENTRY, "/addfirst"),
        entry.bcdedit("/default", BOOT_LOADER_ENTRY),
        entry.bcdedit("/timeout", "0"),
    ]
    if entry.firmware is Firmware.UEFI:
        commands.append(["bcdedit.exe", "/set", "{fwbootmgr}", "displayorder", "{bootmgr}", "/addfirst"])
    return commands


def remove_entry(entry: WindowsPeEntry, state: BootState, default: str = "") -> list[list[str]]:
    """Return the commands that remove both entries, where they are there, and give the store its default (a GUID) back."""
    commands = [["/default", default]] if default else []
    commands += [["/delete", BOOT_LOADER_ENTRY, "/cleanup", "/f"]] if state.has_loader else []
    commands += [["/delete", RAMDISK_OPTIONS_ENTRY, "/f"]] if state.has_options else []
    return [entry.bcdedit(*command) for command in commands]


@dataclass(frozen=True)
class BootState:
    """What a store says about our entry and about what starts next. Devices are raw bytes: compared, never read."""

    has_loader: bool = False
    has_options: bool = False
    loader_path: str = ""
    is_windows_pe: bool = False
    device: bytes | None = None
    os_device: bytes | None = None
    sdi_path: str = ""
    sdi_device: bytes | None = None
    default: str = ""
    bootsequence: tuple[str, ...] = ()
    displayorder: tuple[str, ...] = ()

    def entry_problems(self, entry: WindowsPeEntry) -> list[str]:
        """Return what is wrong with the entry, in words; empty when Windows PE can start from it."""
        checks = {
            "the entry for Windows PE is missing": self.has_loader,
            "the ramdisk options are missing": self.has_options,
            f"the loader is {self.loader_path or 'not set'}, not {entry.loader}": (self.loader_path.lower() == entry.loader.lower()),
            "winpe is not set": self.is_windows_pe,
            "device or osdevice is not set": bool(self.device) and self.device == self.os_device,
            f"the path of boot.sdi is {self.sdi_path or 'not set'}, not {entry.sdi}": (
                self.sdi_path.lower() == entry.sdi.lower() and bool(self.sdi_device)
            ),
        }
        return [text for text, good in checks.items() if not good]

    @property
    def starts_once(self) -> bool:
        """Tell whether the next start, and only that, takes Windows PE."""
        return self.bootsequence == (BOOT_LOADER_ENTRY,)

    @property
    def starts_always(self) -> bool:
        """Tell whether every start takes Windows PE."""
        return self.default == BOOT_LOADER_ENTRY and self.bootsequence in ((), (BOOT_LOADER_ENTRY,))


SYSTEM_STORE = "BCD00000000"
_LOADER = rf"Objects\{BOOT_LOADER_ENTRY}"
_OPTIONS = rf"Objects\{RAMDISK_OPTIONS_ENTRY}"
_MANAGER = rf"Objects\{BOOT_MANAGER}"


_STORE_KEY = rf"HKLM\{SYSTEM_STORE}"
_EXPORT = rf"C:\{WORK_FOLDER}\boot-store.reg"
_SYSTEM32 = r"C:\Windows\System32"


def show_running_store() -> list[list[str]]:
    r"""Return the commands whose output ``shown_state`` reads: the store of the Windows that runs, through a file in ``C:\_osd``."""
    export = [rf"{_SYSTEM32}\reg.exe", "export", _STORE_KEY, _EXPORT, "/y"]
    return [export, [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", "type", _EXPORT]]


def shown_state(output: bytes) -> BootState:
    """Read what ``reg export`` wrote and ``type`` showed, whatever other commands said before. BootStoreError where it is not there.

    ``type`` shows a UTF-16 file in the console's code page [knowledge]; what is read of a store is ASCII.
    """
    start = output.rfind(registration_file.HEADER.encode("ascii"))
    if start < 0:
        raise BootStoreError(f"reg.exe did not export {_STORE_KEY} into {_EXPORT}")
    registry = ExportedRegistry()
    try:
        registry.add([_STORE_KEY], output[start:])
    except registration_file.RegistrationFileError as error:
        raise BootStoreError(str(error)) from error
    return read_boot_state(registry)


def read_running_store(computer: Computer) -> BootState:
    r"""Read the store of the Windows that runs with one command; ``C:\_osd`` is there. BootStoreError where reg.exe refuses."""
    export, show = show_running_store()
    line = f"{' '.join(export)} >nul && {' '.join(show[3:])}"
    result = computer.run([rf"{_SYSTEM32}\cmd.exe", "/d", "/c", line])
    if result.exit_code:
        raise BootStoreError(f"reg.exe could not export {_STORE_KEY} into {_EXPORT} (code {result.exit_code})")
    return shown_state(result.stdout)


def read_boot_state(registry: RegistryReader, store: str = SYSTEM_STORE) -> BootState:
    """Read a loaded store; ``store`` is its key under HKLM."""

    def element(place: str, number: str) -> str:
        return rf"{store}\{place}\Elements\{number}"

    has_loader = registry.get_dword(rf"{store}\{_LOADER}\Description", "Type") == TYPE_OS_LOADER
    has_options = registry.get_dword(rf"{store}\{_OPTIONS}\Description", "Type") == TYPE_DEVICE_OPTIONS
    return BootState(
        has_loader=has_loader,
        has_options=has_options,
        loader_path=(registry.get_string(element(_LOADER, "12000002"), "Element") or "") if has_loader else "",
        is_windows_pe=has_loader and (registry.get_binary(element(_LOADER, "26000022"), "Element") or b"")[:1] == b"\1",
        device=registry.get_binary(element(_LOADER, "11000001"), "Element") if has_loader else None,
        os_device=registry.get_binary(element(_LOADER, "21000001"), "Element") if has_loader else None,
        sdi_path=(registry.get_string(element(_OPTIONS, "32000004"), "Element") or "") if has_options else "",
        sdi_device=registry.get_binary(element(_OPTIONS, "31000003"), "Element") if has_options else None,
        default=(registry.get_string(element(_MANAGER, "23000003"), "Element") or "").lower(),
        bootsequence=_lower(registry.get_multi(element(_MANAGER, "24000002"), "Element")),
        displayorder=_lower(registry.get_multi(element(_MANAGER, "24000001"), "Element")),
    )


def state_of(content: bytes) -> BootState:
    """Read the file of a store that no system uses. HiveError, BootStoreError for what is none, or was not written to the end."""
    if content[4:8] != content[8:12]:
        raise BootStoreError("its last change was not written to the end")
    store = BootStore.load(content)

    def element(place: str, number: str) -> Value | None:
        return store.root.get(rf"{place}\Elements\{number}", "Element")

    def text(place: str, number: str) -> str:
        value = element(place, number)
        return (value.text if value else None) or ""

    def data(place: str, number: str) -> bytes | None:
        value = element(place, number)
        return value.data if value else None

    def texts(number: str) -> tuple[str, ...]:
        value = element(_MANAGER, number)
        return _lower(tuple(value.strings or ()) if value else None)

    has_loader = store.object_type(BOOT_LOADER_ENTRY) == TYPE_OS_LOADER
    has_options = store.object_type(RAMDISK_OPTIONS_ENTRY) == TYPE_DEVICE_OPTIONS
    return BootState(
        has_loader=has_loader,
        has_options=has_options,
        loader_path=text(_LOADER, "12000002") if has_loader else "",
        is_windows_pe=has_loader and (data(_LOADER, "26000022") or b"")[:1] == b"\1",
        device=data(_LOADER, "11000001") if has_loader else None,
        os_device=data(_LOADER, "21000001") if has_loader else None,
        sdi_path=text(_OPTIONS, "32000004") if has_options else "",
        sdi_device=data(_OPTIONS, "31000003") if has_options else None,
        default=text(_MANAGER, "23000003").lower(),
        bootsequence=texts("24000002"),
        displayorder=texts("24000001"),
    )


def _lower(texts: tuple[str, ...] | None) -> tuple[str, ...]:
    return tuple(text.lower() for text in texts or ())
