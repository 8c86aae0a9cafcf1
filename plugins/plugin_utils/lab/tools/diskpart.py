# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""diskpart.exe: scripts, and commands on stdin, on the lab's disks.

Commands and their options [doc: wsd/diskpart]. An error stops the script unless the command ends in ``noerr``; a syntax error always
does. Exit codes [doc: wsd/diskpart; windows-mechanics 3.4]: 0 ok, 1 fatal, 2 bad parameters, 3 script not opened, 4 service failure,
5 syntax error or selection failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from . import files
from .grammar import Cancelled, say
from .interface import Disk, Partition, ToolCall, Win32Problem
from .programs import register

_BAD_PARAMETERS, _NO_SCRIPT, _SERVICE, _SYNTAX = 2, 3, 4, 5
_MIB = 1024 * 1024
_FILE_SYSTEMS = {"ntfs": "NTFS", "fat32": "FAT32", "exfat": "exFAT", "refs": "ReFS", "fat": "FAT"}
#: Windows makes no larger FAT32 volume [doc: wsd/format].
_FAT32_LIMIT = 32 * 1024**3
_GUID = re.compile(r"\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?", re.IGNORECASE)


class _ScriptError(Exception):
    """The command failed; ``code`` is what diskpart ends with."""

    def __init__(self, code: int, message: str, *, grammar: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.grammar = grammar


def _syntax() -> _ScriptError:
    return _ScriptError(_SYNTAX, "The arguments specified for this command are not valid.", grammar=True)


@dataclass
class _Selection:
    disk: Disk | None = None
    partition: Partition | None = None


@dataclass(frozen=True)
class _Arguments:
    """Words without a value, and ``name=value`` pairs, lower-case names."""

    words: tuple[str, ...]
    values: dict[str, str]

    def check(self, words: str = "", values: str = "") -> None:
        """Refuse what the command does not take."""
        if any(word not in words.split() for word in self.words) or any(name not in values.split() for name in self.values):
            raise _syntax()

    def mebibytes(self, name: str) -> int | None:
        """Return a size in bytes, given in MB."""
        text = self.values.get(name)
        if text is None:
            return None
        if not text.isdigit() or int(text) < 1:
            raise _syntax()
        return int(text) * _MIB

    def kibibytes(self, name: str) -> int | None:
        """Return an offset in bytes, given in KB."""
        text = self.values.get(name)
        if text is None:
            return None
        if not text.isdigit():
            raise _syntax()
        return int(text) * 1024


@register("diskpart")
def diskpart(call: ToolCall) -> int:
    """Run ``diskpart [/s script] [/t seconds]``; without a script it reads commands from stdin."""
    arguments = call.argv[1:]
    script = ""
    while arguments:
        option = arguments.pop(0).lower()
        if option == "/s" and arguments:
            script = arguments.pop(0)
        elif option == "/t" and arguments and arguments[0].isdigit():
            call.machine.wait(int(arguments.pop(0)), call.cancelled)
        else:
            return _BAD_PARAMETERS
    if not call.session.elevated:
        return 1
    say(call, "", f"Microsoft DiskPart version {files.windows_version(call)}.1", "", f"On computer: {call.machine.name}", "")
    if script:
        try:
            text = call.files.read(files.resolve(call, script))
        except Win32Problem:
            say(call, "DiskPart could not open the script file.")
            return _NO_SCRIPT
    else:
        text = call.stdin.read()
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe")):
        say(call, "The script has a byte order mark; diskpart reads the ANSI code page (lab rule).")
        return _SYNTAX
    return _run_script(call, text.decode("cp1252", "replace"))


def _run_script(call: ToolCall, text: str) -> int:
    selection = _Selection()
    for line in text.splitlines():
        words = _split(line)
        if not words or words[0].lower() == "rem":
            continue
        if call.cancelled.is_set():
            raise Cancelled
        if words[0].lower() == "exit":
            return 0
        ignored = words[-1].lower() == "noerr"
        try:
            _run_command(call, selection, words[:-1] if ignored else words)
        except _ScriptError as error:
            say(call, "", str(error))
            if not ignored or error.grammar:
                return error.code
        except Win32Problem as problem:
            say(call, "", f"DiskPart has encountered an error: {files.describe(problem)}", "See the System Event Log for more information.")
            if not ignored:
                return _SERVICE
    return 0


def _split(line: str) -> list[str]:
    return [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"?|[^\s"])+', line)]


def _run_command(call: ToolCall, selection: _Selection, words: list[str]) -> None:
    for length in (3, 2, 1):
        name = " ".join(words[:length]).lower()
        if len(words) >= length and name in _COMMANDS:
            rest = words[length:]
            values = {w.partition("=")[0].lower(): w.partition("=")[2] for w in rest if "=" in w}
            arguments = _Arguments(tuple(w.lower() for w in rest if "=" not in w), values)
            _COMMANDS[name](call, selection, arguments)
            return
    raise _syntax()


def _disk(selection: _Selection, *, writable: bool = True) -> Disk:
    if selection.disk is None:
        raise _ScriptError(_SYNTAX, "There is no disk selected to perform this operation on.")
    if writable and (selection.disk.read_only or not selection.disk.online):
        raise _ScriptError(_SERVICE, "The disk is offline or write protected.")
    return selection.disk


def _partition(selection: _Selection) -> tuple[Disk, Partition]:
    if selection.disk is None or selection.partition is None:
        raise _ScriptError(_SYNTAX, "There is no partition selected.")
    return selection.disk, selection.partition


def _volume(selection: _Selection) -> tuple[Disk, Partition]:
    if selection.disk is None or selection.partition is None:
        raise _ScriptError(_SYNTAX, "There is no volume selected.")
    return selection.disk, selection.partition


# --- selecting and listing


def _select_disk(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    number = _number(arguments)
    disk = call.machine.disks.find(number)
    selection.partition = None
    selection.disk = disk
    if disk is None:
        raise _ScriptError(_SYNTAX, "The disk you specified is not valid.")
    say(call, "", f"Disk {number} is now the selected disk.")


def _number(arguments: _Arguments) -> int:
    word = arguments.words[0] if len(arguments.words) == 1 and not arguments.values else ""
    word = word or arguments.values.get("disk", "")
    if not word.isdigit():
        raise _syntax()
    return int(word)


def _select_partition(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    number = _number(arguments)
    disk = _disk(selection, writable=False)
    selection.partition = next((p for p in disk.partitions if p.number == number), None)
    if selection.partition is None:
        raise _ScriptError(_SYNTAX, "The specified partition is not valid.")
    say(call, "", f"Partition {number} is now the selected partition.")


def _volumes(call: ToolCall) -> list[tuple[Disk, Partition]]:
    return [(disk, p) for disk in call.machine.disks for p in disk.partitions if p.volume is not None or p.raw_letter]


def _select_volume(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    if len(arguments.words) != 1 or arguments.values:
        raise _syntax()
    word = arguments.words[0]
    found: tuple[Disk, Partition] | None = None
    if word.isdigit():
        listed = _volumes(call)
        found = listed[int(word)] if int(word) < len(listed) else None
    elif re.fullmatch(r"[a-z](:\\?)?", word):
        found = call.machine.disks.locate(word[0].upper())
    else:
        raise _syntax()
    if found is None:
        raise _ScriptError(_SYNTAX, "The volume you selected is not valid or does not exist.")
    selection.disk, selection.partition = found
    say(call, "", f"Volume {word.upper()} is the selected volume.")


def _list_disk(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    say(call, "", "  Disk ###  Status         Size     Free     Dyn  Gpt", "  --------  -------------  -------  -------  ---  ---")
    for disk in call.machine.disks:
        status = "Online" if disk.online else "Offline"
        mark = "*" if disk.style == "GPT" else " "
        say(call, f"  Disk {disk.number}    {status:13}  {disk.size // 1024**3:4} GB      0 B        {mark}")


def _list_partition(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk = _disk(selection, writable=False)
    say(call, "", "  Partition ###  Type              Size     Offset")
    for partition in disk.partitions:
        say(call, f"  Partition {partition.number}    {partition.kind:16}  {partition.size // _MIB:5} MB  {partition.offset // 1024:5} KB")


def _list_volume(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    say(call, "", "  Volume ###  Ltr  Label        Fs     Type        Size")
    for number, (dummy, partition) in enumerate(_volumes(call)):
        volume = partition.volume
        label, kind = (volume.label, volume.file_system) if volume else ("", "RAW")
        say(call, f"  Volume {number}     {partition.letter or ' '}   {label:11}  {kind:5}  Partition   {partition.size // _MIB} MB")


def _detail(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk = _disk(selection, writable=False)
    say(call, "", disk.model, f"Disk ID: {disk.guid or f'{disk.signature:08X}'}", f"Type   : {disk.bus}")


def _rescan(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    say(call, "", "DiskPart has finished scanning your configuration.")


# --- disks


def _clean(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check("all")
    disk = _disk(selection)
    call.machine.disks.clean(disk)
    selection.partition = None
    say(call, "", "DiskPart succeeded in cleaning the disk.")


def _convert(style: str) -> Callable[[ToolCall, _Selection, _Arguments], None]:
    def convert(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
        arguments.check()
        disk = _disk(selection)
        if disk.partitions:
            raise _ScriptError(_SERVICE, f"The specified disk is not convertible. Only empty disks can be converted to {style}.")
        if disk.style == style:
            raise _ScriptError(_SERVICE, f"The specified disk is not convertible. It is {style} already.")
        call.machine.disks.convert(disk, style)
        say(call, "", f"DiskPart successfully converted the selected disk to {style} format.")

    return convert


def _online_disk(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk = _disk(selection, writable=False)
    if disk.online:
        raise _ScriptError(_SERVICE, "This disk is already online.")
    disk.online = True
    call.machine.disks.save(disk)


def _offline_disk(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk = _disk(selection, writable=False)
    disk.online = False
    call.machine.disks.save(disk)


def _attributes_disk(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    disk = _disk(selection, writable=False)
    if arguments.words not in ((), ("set", "readonly"), ("clear", "readonly")) or arguments.values:
        raise _syntax()
    if arguments.words:
        disk.read_only = arguments.words[0] == "set"
        call.machine.disks.save(disk)
    say(call, "", f"Current Read-only State : {'Yes' if disk.read_only else 'No'}")


# --- partitions


def _create_partition(kind: str, options: str) -> Callable[[ToolCall, _Selection, _Arguments], None]:
    def create(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
        arguments.check(values=options)
        disk = _disk(selection)
        if kind in ("efi", "msr") and disk.style != "GPT":
            raise _ScriptError(_SERVICE, "This command requires a GPT disk.")
        if kind in ("extended", "logical") and disk.style != "MBR":
            raise _ScriptError(_SERVICE, "This command requires an MBR disk.")
        if disk.style == "RAW":
            call.machine.disks.convert(disk, "MBR")  # diskpart initialises a raw disk as MBR [knowledge]
        identity = arguments.values.get("id", "")
        if identity:
            identity = _type_id(disk, identity)
        size, offset = arguments.mebibytes("size"), arguments.kibibytes("offset")
        partition = call.machine.disks.create_partition(disk, kind, size=size, offset=offset, type_id=identity)
        selection.partition = partition
        say(call, "", "DiskPart succeeded in creating the specified partition.")

    return create


def _type_id(disk: Disk, text: str) -> str:
    if disk.style == "GPT":
        match = _GUID.fullmatch(text)
        if not match:
            raise _syntax()
        return f"{{{match[1].lower()}}}"
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}", text):
        raise _syntax()
    return text.lower()


def _delete_partition(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check("override")
    disk, partition = _partition(selection)
    _disk(selection)
    if partition.kind != "primary" and "override" not in arguments.words and partition.kind not in ("extended", "logical"):
        raise _ScriptError(_SERVICE, "Cannot delete a protected partition without the force protected parameter set.")
    call.machine.disks.delete_partition(disk, partition)
    selection.partition = None
    say(call, "", "DiskPart successfully deleted the selected partition.")


def _active(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk, partition = _partition(selection)
    if disk.style != "MBR" or partition.kind != "primary":
        raise _ScriptError(_SERVICE, "The selected disk is not a fixed MBR disk. The ACTIVE command can only be used on fixed MBR disks.")
    for other in disk.partitions:
        other.active = other is partition
    call.machine.disks.save(disk)
    say(call, "", "DiskPart marked the current partition as active.")


def _inactive(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check()
    disk, partition = _partition(selection)
    partition.active = False
    call.machine.disks.save(disk)


def _set(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check("override", "id")
    disk, partition = _partition(selection)
    text = arguments.values.get("id")
    if not text:
        raise _syntax()
    identity = _type_id(disk, text)
    if disk.style == "GPT":
        partition.gpt_type = identity
    else:
        partition.mbr_type = int(identity, 16)
    call.machine.disks.save(disk)
    say(call, "", "DiskPart successfully set the partition ID.")


def _gpt(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check(values="attributes")
    disk, partition = _partition(selection)
    if disk.style != "GPT":
        raise _ScriptError(_SERVICE, "The selected partition is not on a GPT disk.")
    text = arguments.values.get("attributes", "")
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text):
        raise _syntax()
    partition.attributes = int(text, 16)
    call.machine.disks.save(disk)
    say(call, "", "DiskPart successfully assigned the attributes to the selected GPT partition.")


# --- volumes


def _format(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check("quick override nowait compress recommended", "fs label unit revision")
    dummy, partition = _volume(selection)
    _disk(selection)
    if partition.kind in ("msr", "extended"):
        raise _ScriptError(_SERVICE, "There is no volume selected.")
    kind = _FILE_SYSTEMS.get(arguments.values.get("fs", "ntfs").lower())
    if kind is None:
        raise _syntax()
    label = arguments.values.get("label", "")
    if len(label) > (11 if kind.startswith("FAT") else 32):
        raise _ScriptError(_SERVICE, "The volume label is not valid.")
    if kind == "FAT32" and partition.size > _FAT32_LIMIT:
        raise _ScriptError(_SERVICE, "Virtual Disk Service error: The volume size is too big.")
    if "quick" not in arguments.words:
        call.machine.wait(partition.size / (200 * _MIB), call.cancelled)
    call.machine.disks.format(partition, kind, label)
    say(call, "", "  100 percent completed", "", "DiskPart successfully formatted the volume.")


def _assign(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check(values="letter mount")
    dummy, partition = _volume(selection)
    if "mount" in arguments.values:
        raise _ScriptError(_SERVICE, "The lab has no mount folders (lab rule).")
    letter = arguments.values.get("letter")
    if letter is not None and not re.fullmatch(r"[A-Za-z]:?", letter):
        raise _syntax()
    if partition.kind in ("msr", "extended"):
        raise _ScriptError(_SERVICE, "There is no volume selected.")
    wanted = letter[0].upper() if letter else None
    if wanted and partition.letter == wanted:
        return
    try:
        given = call.machine.disks.assign(partition, wanted)
    except Win32Problem as problem:
        if problem.code == 85:
            raise _ScriptError(_SERVICE, "The specified drive letter is not free to be assigned.") from None
        raise
    say(call, "", f"DiskPart successfully assigned the drive letter {given} or mount point.")


def _remove(call: ToolCall, selection: _Selection, arguments: _Arguments) -> None:
    arguments.check("all dismount noerr", "letter mount")
    dummy, partition = _volume(selection)
    letter = arguments.values.get("letter", partition.letter)[:1].upper()
    if not partition.letter or letter != partition.letter:
        raise _ScriptError(_SERVICE, "The drive letter is not assigned to the selected volume.")
    call.machine.disks.remove_letter(partition)
    say(call, "", "DiskPart successfully removed the drive letter or mount point.")


_COMMANDS: dict[str, Callable[[ToolCall, _Selection, _Arguments], None]] = {
    "select disk": _select_disk,
    "select partition": _select_partition,
    "select volume": _select_volume,
    "sel disk": _select_disk,
    "sel partition": _select_partition,
    "sel volume": _select_volume,
    "list disk": _list_disk,
    "list partition": _list_partition,
    "list volume": _list_volume,
    "detail disk": _detail,
    "detail partition": _detail,
    "detail volume": _detail,
    "rescan": _rescan,
    "clean": _clean,
    "convert gpt": _convert("GPT"),
    "convert mbr": _convert("MBR"),
    "online disk": _online_disk,
    "offline disk": _offline_disk,
    "attributes disk": _attributes_disk,
    "create partition primary": _create_partition("primary", "size offset id align"),
    "create partition efi": _create_partition("efi", "size offset"),
    "create partition msr": _create_partition("msr", "size offset"),
    "create partition extended": _create_partition("extended", "size offset align"),
    "create partition logical": _create_partition("logical", "size offset align"),
    "delete partition": _delete_partition,
    "active": _active,
    "inactive": _inactive,
    "set": _set,
    "gpt": _gpt,
    "format": _format,
    "assign": _assign,
    "remove": _remove,
}
