# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""bcdedit, bcdboot, bootsect, reagentc: the boot store, boot files and boot code of the lab's disks.

Grammar [doc: wsd/bcdedit, cp/bcdboot-command-line-options-techref-di, cp/bootsect-command-line-options, cp/reagentc]. All end with 0 or,
whatever is wrong, with 1 [knowledge]; bcdboot with the code of what failed.
"""

from __future__ import annotations

import ntpath
import re
import uuid

from ...windows import boot_store
from ...windows.boot_store import BootStore, BootStoreError, PartitionDevice
from ...windows.computer import Environment
from ...windows.registry_hive import HiveError
from . import files
from .grammar import Options, UsageError, complain, say, spaced_options
from .interface import NvramEntry, ToolCall, Win32Problem
from .programs import register

_FIRMWARE = "{fwbootmgr}"
_MODES = {"/addfirst": "addfirst", "/addlast": "addlast", "/remove": "remove"}
_WINDOWS_ENTRY = "Windows Boot Manager"


class _Failed(Exception):
    """The tool prints this and ends with 1."""


# --- bcdedit


@register("bcdedit")
def bcdedit(call: ToolCall) -> int:
    """Run one bcdedit command."""
    arguments = call.argv[1:]
    path: str | None = None
    try:
        if not call.session.elevated:
            raise _Failed("The boot configuration data store could not be opened.\r\nAccess is denied.")
        if arguments and arguments[0].lower() == "/store":
            if len(arguments) < 2:
                raise _Failed("The parameter is incorrect.")
            path = files.resolve(call, arguments[1])
            arguments = arguments[2:]
        _bcdedit(call, path, arguments or ["/enum"])
    except (_Failed, BootStoreError, HiveError) as error:
        complain(call, str(error))
        return 1
    except Win32Problem as problem:
        complain(call, "The boot configuration data store could not be opened.", files.describe(problem))
        return 1
    return 0


def _bcdedit(call: ToolCall, path: str | None, arguments: list[str]) -> None:
    command, rest = arguments[0].lower(), arguments[1:]
    if command == "/createstore":
        if path is not None or len(rest) != 1:
            raise _Failed("The parameter is incorrect.")
        target = files.resolve(call, rest[0])
        if call.files.exists(target):
            raise _Failed("The store exists already.")
        call.files.write(target, BootStore.blank().dump())
        say(call, "The operation completed successfully.")
        return
    if path is None and _is_firmware_command(command, rest):
        _firmware(call, command, rest)
        say(call, "The operation completed successfully.")
        return
    store = call.machine.boot_store(path, call.session)
    if command == "/enum":
        _enum(call, store, rest)
        return
    change = {"/create": _create, "/delete": _delete, "/set": _set, "/deletevalue": _delete_value, "/copy": _copy}.get(command)
    if change:
        change(call, store, rest)
    elif command == "/default" and len(rest) == 1:
        store.set_default(rest[0])
    elif command == "/timeout" and len(rest) == 1 and rest[0].isdigit():
        store.set("{bootmgr}", "timeout", int(rest[0]))
    elif command in ("/bootsequence", "/displayorder") and rest:
        _order(store, command, rest)
    else:
        raise _Failed(f'The command {command} is not recognized or lacks an argument.\r\nRun "bcdedit /?" for command line assistance.')
    call.machine.save_boot_store(path, store, call.session)
    say(call, "The operation completed successfully.")


def _order(store: BootStore, command: str, rest: list[str]) -> None:
    mode = _MODES.get(rest[-1].lower(), "")
    guids = rest[:-1] if mode else rest
    if not guids or any(guid.startswith("/") for guid in guids):
        raise _Failed("The parameter is incorrect.")
    if command == "/bootsequence":
        store.set_bootsequence(guids, mode)
    else:
        store.set_displayorder(guids, mode)


def _create(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    guid = rest.pop(0) if rest and not rest[0].startswith("/") else ""
    options = _options(rest, "device", "d application inherit")
    kinds = [name for name in ("application", "inherit") if name in options.values] + (["device"] if "device" in options.flags else [])
    known = guid.lower() in boot_store.ALIASES
    if len(kinds) != 1 and not known:
        raise _Failed("The parameter is incorrect: /application, /inherit or /device is needed.")
    if "application" in options.values:
        kind = boot_store.APPLICATION_TYPES.get(options.get("application").lower())
        if kind is None:
            raise _Failed("The application type is not valid.")
    elif kinds == ["device"] or guid.lower() == "{ramdiskoptions}":
        kind = boot_store.TYPE_DEVICE_OPTIONS
    elif guid.lower() == "{bootmgr}":
        kind = boot_store.TYPE_BOOT_MANAGER
    else:
        kind = 0x20100000
    made = store.create(guid or f"{{{uuid.uuid4()}}}", kind, options.get("d"))
    say(call, f"The entry {made} was successfully created.")


def _options(arguments: list[str], flags: str, values: str) -> Options:
    try:
        options = spaced_options(arguments, flags.split(), values.split(), "/")
    except UsageError as error:
        raise _Failed(f"The option {error} is not recognized.") from None
    if options.rest:
        raise _Failed("The parameter is incorrect.")
    return options


def _delete(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    if not rest or rest[0].startswith("/"):
        raise _Failed("The parameter is incorrect.")
    flags = {word.lower() for word in rest[1:]}
    if flags - {"/f", "/cleanup", "/nocleanup"} or {"/cleanup", "/nocleanup"} <= flags:
        raise _Failed("The parameter is incorrect.")
    if rest[0].lower() in boot_store.ALIASES and "/f" not in flags:
        raise _Failed("The entry is well known and is deleted only with /f.")
    store.delete(rest[0], cleanup="/nocleanup" not in flags)


def _set(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    mode = ""
    if rest and rest[-1].lower() in _MODES:
        mode = _MODES[rest.pop().lower()]
    guid = rest.pop(0) if rest and rest[0].startswith("{") else "{default}"
    if len(rest) < 2:
        raise _Failed("The parameter is incorrect.")
    name = rest[0].lower()
    found = store.find(guid)
    if name in ("bootsequence", "displayorder") and found == boot_store.BOOT_MANAGER:
        (store.set_bootsequence if name == "bootsequence" else store.set_displayorder)(rest[1:], mode)
        return
    if mode:
        raise _Failed("The parameter is incorrect.")
    value = boot_store.parse_value(store.object_type(found) or 0, name, " ".join(rest[1:]), lambda drive: partition_device(call, drive))
    store.set(found, name, value)


def _delete_value(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    guid = rest.pop(0) if rest and rest[0].startswith("{") else "{default}"
    if len(rest) != 1 or not store.remove(guid, rest[0]):
        raise _Failed("The element is not there.\r\nElement not found.")


def _copy(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    if len(rest) != 3 or rest[1].lower() != "/d":
        raise _Failed("The parameter is incorrect.")
    source = store.find(rest[0])
    made = store.create(f"{{{uuid.uuid4()}}}", store.object_type(source) or 0)
    for number, value in store.elements(source).items():
        store.set(made, f"custom:{number:08x}", value)
    store.set(made, "description", rest[2])
    say(call, f"The entry was successfully copied to {made}.")


def _enum(call: ToolCall, store: BootStore, rest: list[str]) -> None:
    words = [word.lower() for word in rest if word.lower() != "/v"]
    if len(words) > 1 or (words and words[0].startswith("/")):
        raise _Failed("The parameter is incorrect.")
    kinds = ("", "all", "active", "firmware", "bootmgr", "osloader", "bootapp", "inherit", "resume")
    guids = list(store.objects) if not words or words[0] in kinds else [store.find(words[0])]
    for guid in guids:
        say(call, "", "Windows Boot Loader", "-------------------", f"identifier              {guid}")
        for number, value in store.elements(guid).items():
            say(call, f"{number:08x}                {value}")


def partition_device(call: ToolCall, drive: str) -> PartitionDevice:
    """Return the boot store's device of a drive letter (``C:``)."""
    found = call.machine.disks.locate(drive.rstrip(":\\").upper()) if re.fullmatch(r"[A-Za-z]:\\?", drive) else None
    if found is None:
        raise BootStoreError(f"The device {drive} is not valid: no partition has that letter")
    disk, partition = found
    if disk.style == "GPT":
        return PartitionDevice("GPT", disk.guid, partition.guid)
    return PartitionDevice("MBR", disk.signature, partition.offset)


# --- the firmware's own variables, as bcdedit shows them


def _is_firmware_command(command: str, rest: list[str]) -> bool:
    return (
        command in ("/set", "/displayorder", "/bootsequence", "/enum", "/deletevalue")
        and bool(rest)
        and rest[0].lower() in (_FIRMWARE, "firmware")
    )


def _firmware(call: ToolCall, command: str, rest: list[str]) -> None:
    firmware = call.machine.firmware
    if firmware.kind != "uefi":
        raise _Failed("The firmware has no boot variables.\r\nIncorrect function.")
    if command == "/enum":
        for entry in firmware.entries():
            say(call, f"Boot{entry.number:04X}  {entry.description}")
        return
    if command == "/deletevalue" and [w.lower() for w in rest[1:]] == ["bootsequence"]:
        firmware.set_boot_next(None)
        return
    if command != "/set" or len(rest) < 3:
        raise _Failed("The parameter is incorrect.")
    name = rest[1].lower()
    words = rest[2:]
    mode = _MODES.get(words[-1].lower(), "")
    ids = [_firmware_entry(call, word).number for word in (words[:-1] if mode else words)]
    if not ids:
        raise _Failed("The parameter is incorrect.")
    if name == "bootsequence":
        if len(ids) != 1 or mode == "addlast":
            raise _Failed("The parameter is incorrect.")
        firmware.set_boot_next(None if mode == "remove" else ids[0])
    elif name == "displayorder":
        others = [number for number in firmware.boot_order() if number not in ids]
        firmware.set_boot_order({"": ids, "addfirst": ids + others, "addlast": others + ids, "remove": others}[mode])
    else:
        raise _Failed(f"The element data type {name!r} is not recognized.")


def _firmware_entry(call: ToolCall, name: str) -> NvramEntry:
    """Find the firmware's entry that bcdedit shows as ``{bootmgr}``: the Windows Boot Manager first in the boot order."""
    if name.lower() not in ("{bootmgr}", boot_store.BOOT_MANAGER):
        raise _Failed(f"The entry {name} is not valid.\r\nElement not found.")
    firmware = call.machine.firmware
    found = [entry for entry in firmware.entries() if entry.description == _WINDOWS_ENTRY]
    if not found:
        firmware.add_windows_entry(_boot_manager_partition(call), first=False)
        found = [entry for entry in firmware.entries() if entry.description == _WINDOWS_ENTRY]
    order = firmware.boot_order()
    return min(found, key=lambda entry: order.index(entry.number) if entry.number in order else len(order))


def _boot_manager_partition(call: ToolCall) -> str:
    """Return the GUID of the partition that the system store's ``{bootmgr}`` lies on.

    bcdedit writes what it is asked to put into the firmware's order out to the firmware, so the entry need not be there before.
    """
    device = call.machine.boot_store(None, call.session).get("{bootmgr}", "device")
    if not isinstance(device, PartitionDevice) or device.style != "GPT":
        raise _Failed("An error occurred while attempting to reference the specified entry.\r\nElement not found.")
    return str(device.partition)


# --- bcdboot


@register("bcdboot")
def bcdboot(call: ToolCall) -> int:
    """Copy boot files and make or refresh the store: ``bcdboot source [/s letter] [/f UEFI|BIOS|ALL] [/l locale] …``."""
    try:
        options = spaced_options(
            call.argv[1:], ("v", "c", "addlast", "p", "d", "clean", "nofirmwaresync", "bootex", "offline"), ("l", "s", "f", "m"), "/"
        )
    except UsageError as error:
        complain(call, f"Failure: unknown option {error}")
        return 87
    if len(options.rest) != 1:
        complain(call, "Failure: the source folder is missing")
        return 87
    kind, system = options.get("f").upper(), options.get("s")
    if (kind and (kind not in ("UEFI", "BIOS", "ALL") or not system)) or (system and not re.fullmatch(r"[A-Za-z]:\\?", system)):
        complain(call, "Failure: /f needs /s and is UEFI, BIOS or ALL")
        return 87
    kind = kind or ("UEFI" if call.machine.firmware.kind == "uefi" else "BIOS")
    try:
        _bcdboot(call, files.resolve(call, options.rest[0]), system, kind, locale=options.get("l") or "en-US", fresh="c" in options.flags)
    except _Failed as error:
        complain(call, f"Failure when attempting to copy boot files: {error}")
        return 1
    except (Win32Problem, BootStoreError, HiveError) as problem:
        complain(call, f"Failure when attempting to copy boot files: {problem}")
        return problem.code if isinstance(problem, Win32Problem) else 1
    say(call, "Boot files successfully created.")
    return 0


def _bcdboot(call: ToolCall, windows: str, system: str, kind: str, *, locale: str, fresh: bool) -> None:
    if not call.files.is_file(rf"{windows}\System32\config\SYSTEM"):
        raise _Failed(f"{windows} holds no Windows.")
    letter = system[:1].upper() if system else _system_letter(call)
    found = call.machine.disks.locate(letter)
    if found is None or found[1].volume is None:
        raise _Failed(f"The volume {letter}: does not exist or is not formatted.")
    disk, partition = found
    if kind in ("UEFI", "ALL") and found[1].volume.file_system != "FAT32" and disk.style == "GPT":
        raise _Failed(f"The system partition {letter}: is not formatted with FAT32.")
    for firmware in ("UEFI", "BIOS") if kind == "ALL" else (kind,):
        _lay_boot_files(call, windows, f"{letter}:", firmware)
        _refresh_store(call, windows, f"{letter}:", firmware, locale, fresh=fresh)
    if not system and call.machine.firmware.kind == "uefi" and kind != "BIOS":
        call.machine.firmware.add_windows_entry(partition.guid)


def _system_letter(call: ToolCall) -> str:
    """Without /s the system partition of the running system's first disk is taken; it needs a letter here (lab rule)."""
    for disk in call.machine.disks:
        for partition in disk.partitions:
            if (partition.kind == "efi" or partition.active) and partition.letter:
                return partition.letter
    raise _Failed("No system partition with a drive letter was found; use /s.")


def _lay_boot_files(call: ToolCall, windows: str, system: str, firmware: str) -> None:
    if firmware == "UEFI":
        manager = rf"{windows}\Boot\EFI\bootmgfw.efi"
        arm = call.files.is_file(rf"{windows}\Boot\EFI\bootaa64.efi")
        targets = [rf"{system}\EFI\Microsoft\Boot\bootmgfw.efi", rf"{system}\EFI\Boot\{'bootaa64' if arm else 'bootx64'}.efi"]
    else:
        manager, targets = rf"{windows}\Boot\PCAT\bootmgr", [rf"{system}\bootmgr"]
    if not call.files.is_file(manager):
        raise _Failed(f"{manager} is missing.")
    for target in targets:
        folder = ntpath.dirname(target)
        if not call.files.is_directory(folder):
            call.files.make_directories(folder)
        call.files.copy(manager, target)


def store_path(system: str, firmware: str) -> str:
    """Return where the store lies on the system partition."""
    return rf"{system}\EFI\Microsoft\Boot\BCD" if firmware == "UEFI" else rf"{system}\Boot\BCD"


def _refresh_store(call: ToolCall, windows: str, system: str, firmware: str, locale: str, *, fresh: bool) -> None:
    """Make the store, or refresh the one that is there: the entry of this Windows is found again by its partition."""
    path = store_path(system, firmware)
    folder = ntpath.dirname(path)
    if not call.files.is_directory(folder):
        call.files.make_directories(folder)
    there = call.files.is_file(path) and not fresh
    store = BootStore.load(call.files.read(path)) if there else BootStore()
    suffix = "efi" if firmware == "UEFI" else "exe"
    partition = partition_device(call, windows[:2])
    guid = next((g for g, t in store.objects.items() if t == boot_store.TYPE_OS_LOADER and _is_of(store, g, partition)), "")
    if not guid:
        guid = store.create(f"{{{uuid.uuid4()}}}", boot_store.TYPE_OS_LOADER, "Windows")
    elements: dict[str, boot_store.ElementValue] = {
        "device": partition,
        "osdevice": partition,
        "path": rf"\{ntpath.splitdrive(windows)[1].strip(chr(92))}\system32\winload.{suffix}".lower(),
        "systemroot": ntpath.splitdrive(windows)[1].lower(),
        "locale": locale,
        "nx": 0,
    }
    for name, value in elements.items():
        store.set(guid, name, value)
    manager_path = r"\EFI\Microsoft\Boot\bootmgfw.efi" if firmware == "UEFI" else r"\bootmgr"
    store.set("{bootmgr}", "device", partition_device(call, system))
    store.set("{bootmgr}", "path", manager_path)
    if guid not in store.displayorder:
        store.set_displayorder([guid], "addfirst")
    store.set_default(guid)
    call.files.write(path, store.dump())


def _is_of(store: BootStore, guid: str, partition: PartitionDevice) -> bool:
    return store.get(guid, "osdevice") == partition


# --- bootsect


@register("bootsect")
def bootsect(call: ToolCall) -> int:
    """``bootsect /nt60 {SYS|ALL|X:} [/force] [/mbr]``: boot code on an MBR disk."""
    words = [word.lower() for word in call.argv[1:]]
    if len(words) < 2 or words[0] not in ("/nt60", "/nt52") or any(word not in ("/force", "/mbr") for word in words[2:]):
        complain(call, "The syntax of the command is incorrect.")
        return 1
    if words[1] in ("sys", "all"):
        targets = [disk for disk in call.machine.disks if disk.style == "MBR" and any(p.active for p in disk.partitions)]
    else:
        found = call.machine.disks.locate(words[1][:1].upper()) if re.fullmatch(r"[a-z]:", words[1]) else None
        targets = [found[0]] if found else []
    if not targets:
        complain(call, "Could not map drive partitions to the associated volume device objects.")
        return 1
    for disk in targets:
        disk.boot_code = disk.boot_code or "/mbr" in words
        call.machine.disks.save(disk)
    say(call, "Bootcode was successfully updated on all targeted volumes.")
    return 0


# --- reagentc


@register("reagentc")
def reagentc(call: ToolCall) -> int:
    """``/setreimage /path folder [/target windows]``, ``/info``, ``/enable``, ``/disable``: Windows' recovery environment."""
    command = call.argv[1].lower() if len(call.argv) > 1 else ""
    try:
        options = spaced_options(call.argv[2:], ("auditmode",), ("path", "target", "index", "osguid"), "/")
    except UsageError:
        command = ""
        options = None
    if options is None or options.rest or command not in ("/setreimage", "/info", "/enable", "/disable"):
        complain(call, "REAGENTC.EXE: The command-line is not valid.")
        return 87
    windows = files.resolve(call, options.get("target")) if options.get("target") else call.machine.windows
    if call.machine.environment is Environment.WINDOWS_PE and not options.get("target"):
        complain(call, "REAGENTC.EXE: Operation failed: 32", "In Windows PE /target names the Windows that is meant.")
        return 50
    settings = rf"{windows}\System32\Recovery\ReAgent.xml"
    try:
        if command == "/setreimage":
            folder = files.resolve(call, options.get("path"))
            if not options.get("path") or not call.files.is_file(rf"{folder}\Winre.wim"):
                complain(call, "REAGENTC.EXE: The specified path was not found.")
                return 3
            call.files.write(settings, _reagent_xml(call, folder, enabled=False))
        elif command in ("/enable", "/disable"):
            if not call.files.is_file(settings) and not call.files.is_file(rf"{windows}\System32\Recovery\Winre.wim"):
                complain(call, "REAGENTC.EXE: The Windows RE image was not found.")
                return 2
        elif command == "/info":
            say(call, "Windows Recovery Environment (Windows RE) and system reset configuration")
    except Win32Problem as problem:
        complain(call, f"REAGENTC.EXE: Operation failed: {problem.code}")
        return problem.code
    say(call, "REAGENTC.EXE: Operation Successful.")
    return 0


def _reagent_xml(call: ToolCall, folder: str, *, enabled: bool) -> bytes:
    device = partition_device(call, folder[:2])
    path = ntpath.splitdrive(folder)[1]
    place = f'guid="{device.partition}"' if device.style == "GPT" else f'id="{device.disk}" offset="{device.partition}"'
    return (
        '<?xml version="1.0" encoding="utf-8"?>\r\n<WindowsRE version="2.0">\r\n'
        f'  <InstallState state="{int(enabled)}"/>\r\n  <ImageLocation path="{path}" {place}/>\r\n</WindowsRE>\r\n'
    ).encode()
