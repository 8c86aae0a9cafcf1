# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""format, chkdsk, fsutil, label, mountvol, compact: volumes [doc: wsd/format, wsd/chkdsk, wsd/fsutil, wsd/mountvol]."""

from __future__ import annotations

import re

from . import files
from .grammar import complain, say
from .interface import Disk, Partition, ToolCall, Volume
from .programs import register


def _volume(call: ToolCall, text: str) -> Volume | None:
    return call.machine.disks.letters().get(text[0].upper()) if re.fullmatch(r"[A-Za-z]:\\?", text) else None


def _located(call: ToolCall, text: str) -> tuple[Disk, Partition] | None:
    return call.machine.disks.locate(text[0].upper()) if re.fullmatch(r"[A-Za-z]:\\?", text) else None


@register("format")
def format_volume(call: ToolCall) -> int:
    """``format X: /fs:NTFS /q /y [/v:label]``: 0 ok, 1 wrong parameters, 4 fatal error, 5 answered No [doc: wsd/format]."""
    words = call.argv[1:]
    kind, label, quick, sure = "NTFS", "", False, False
    if not words:
        return 1
    for word in words[1:]:
        name, dummy, value = word.partition(":")
        lower = name.lower()
        if lower == "/fs" and value.upper() in ("NTFS", "FAT32", "EXFAT", "REFS", "FAT"):
            kind = value.upper()
        elif lower == "/v":
            label = value
        elif lower == "/q" and not value:
            quick = True
        elif lower == "/y" and not value:
            sure = True
        elif lower not in ("/x", "/c", "/a", "/p", "/l"):
            complain(call, f"Invalid parameter - {word}")
            return 1
    found = _located(call, words[0])
    if found is None:
        complain(call, "The system cannot find the drive specified.")
        return 4
    disk, partition = found
    if words[0][:2].upper() == call.machine.system_drive or disk.read_only:
        complain(call, "Cannot format. This volume is write protected or in use.")
        return 4
    if not sure:
        answer = call.stdin.readline().decode("utf-8", "replace").strip().lower()
        if not answer.startswith("y"):
            return 5
    if not quick:
        call.machine.wait(partition.size / (200 * 1024 * 1024), call.cancelled)
    call.machine.disks.format(partition, kind, label)
    say(call, "Format complete.")
    return 0


@register("chkdsk")
def chkdsk(call: ToolCall) -> int:
    """``chkdsk X: [/f] [/r] [/x] [/scan]``: 0 sound, 1 fixed, 3 errors left [doc: wsd/chkdsk]."""
    words = [word.lower() for word in call.argv[1:]]
    targets = [word for word in words if not word.startswith("/")]
    if any(word.startswith("/") and word not in ("/f", "/r", "/x", "/scan", "/v", "/i", "/c", "/b", "/spotfix", "/perf") for word in words):
        complain(call, "Invalid parameter.")
        return 3
    volume = _volume(call, targets[0]) if len(targets) == 1 else None
    if volume is None:
        complain(call, "The volume could not be opened.")
        return 3
    if not volume.dirty:
        say(call, "Windows has scanned the file system and found no problems.", "No further action is required.")
        return 0
    if not {"/f", "/r", "/x", "/spotfix"} & set(words):
        say(call, "Errors found. CHKDSK cannot continue in read-only mode.")
        return 3
    volume.dirty = False
    found = _located(call, targets[0])
    if found:
        call.machine.disks.save(found[0])
    say(call, "Windows has made corrections to the file system.")
    return 1


@register("fsutil")
def fsutil(call: ToolCall) -> int:
    """``fsutil dirty query X:`` (0 clean, 1 dirty), ``fsutil volume diskfree X:``, ``fsutil fsinfo drives``."""
    words = [word.lower() for word in call.argv[1:]]
    if words == ["fsinfo", "drives"]:
        say(call, "", "Drives: " + " ".join(f"{letter}:\\" for letter in sorted(call.machine.disks.letters())))
        return 0
    if len(words) == 3 and words[:2] in (["dirty", "query"], ["volume", "diskfree"]):
        volume = _volume(call, words[2])
        if volume is None:
            complain(call, "Error:  The system cannot find the path specified.")
            return 1
        if words[0] == "dirty":
            say(call, f"Volume - {words[2]} is {'' if volume.dirty else 'NOT '}Dirty")
            return int(volume.dirty)
        say(call, f"Total free bytes : {call.files.free_space(words[2][:2] + chr(92))}")
        return 0
    complain(call, "The parameter is incorrect.")
    return 1


@register("label")
def label(call: ToolCall) -> int:
    """``label X: text``."""
    if len(call.argv) != 3:
        return 1
    volume, found = _volume(call, call.argv[1]), _located(call, call.argv[1])
    if volume is None or found is None or len(call.argv[2]) > (11 if volume.file_system == "FAT32" else 32):
        complain(call, "Cannot change label.")
        return 1
    volume.label = call.argv[2]
    call.machine.disks.save(found[0])
    return 0


@register("mountvol")
def mountvol(call: ToolCall) -> int:
    r"""``mountvol X: {\\?\Volume{guid}\ | /d | /p | /s | /l}``: letters of volumes."""
    words = call.argv[1:]
    disks = call.machine.disks
    if len(words) != 2 or not re.fullmatch(r"[A-Za-z]:\\?", words[0]):
        complain(call, "The parameter is incorrect.")
        return 1
    letter, option = words[0][0].upper(), words[1]
    found = disks.locate(letter)
    if option.lower() in ("/d", "/p"):
        if found is None:
            complain(call, "The system cannot find the file specified.")
            return 1
        disks.remove_letter(found[1])
        return 0
    if option.lower() == "/l":
        if found is None or found[1].volume is None:
            return 1
        say(call, f"    {found[1].volume.path}")
        return 0
    for disk in disks:
        for partition in disk.partitions:
            efi = option.lower() == "/s" and partition.kind == "efi"
            same = partition.volume is not None and partition.volume.path.lower().rstrip("\\") == option.lower().rstrip("\\")
            if efi or same:
                if found is not None:
                    complain(call, "The parameter is incorrect.")
                    return 1
                disks.assign(partition, letter)
                return 0
    complain(call, "The system cannot find the file specified.")
    return 1


@register("compact")
def compact(call: ToolCall) -> int:
    """``compact {/u|/c} [/s[:folder]] [/i] [/q] [/f] file …``: nothing in the lab is compressed."""
    names = [word for word in call.argv[1:] if not word.startswith("/")]
    if any(
        not re.fullmatch(r"/([ucifqa]|s(:.+)?|exe(:\w+)?|compactos:(query|never|always))", w.lower())
        for w in call.argv[1:]
        if w.startswith("/")
    ):
        return 1
    missing = [name for name in names if not call.files.exists(files.resolve(call, name))]
    if missing:
        complain(call, f"{missing[0]}: The system cannot find the file specified.")
    return 1 if missing else 0
