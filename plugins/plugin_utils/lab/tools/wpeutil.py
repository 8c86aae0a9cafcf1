# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""wpeutil and drvload of Windows PE [doc: cp/wpeutil-command-line-options]; shutdown.exe of Windows [doc: wsd/shutdown]."""

from __future__ import annotations

import re

from ...windows.registry_hive import Value
from . import files
from .grammar import complain, say
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, PE, register

_CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control"
#: What the lab takes note of and does nothing about.
_QUIET = frozenset(
    [
        "initializenetwork",
        "waitfornetwork",
        "waitforremovablestorage",
        "disablefirewall",
        "enablefirewall",
        "setuserlocale",
        "setmuilanguage",
        "setkeyboardlayout",
        "disableextendedcharactersforvolume",
        "enableextendedcharactersforvolume",
    ]
)


@register("wpeutil", PE)
def wpeutil(call: ToolCall) -> int:
    """Run one wpeutil command."""
    command = call.argv[1].lower() if len(call.argv) > 1 else ""
    rest = call.argv[2:]
    if command in ("reboot", "shutdown") and not rest:
        call.machine.request_restart("restart" if command == "reboot" else "shutdown")
    elif command == "updatebootinfo" and not rest:
        _update_boot_info(call)
    elif command == "createpagefile":
        return _create_page_file(call, rest)
    elif command not in _QUIET or (rest and command in ("disablefirewall", "enablefirewall", "waitfornetwork")):
        complain(call, "The command is not recognized or an argument is wrong.")
        return 1
    say(call, "The command completed successfully.")
    return 0


def _update_boot_info(call: ToolCall) -> None:
    """Record firmware type and boot source as this command does [doc: cp/winpe-boot-in-uefi-or-legacy-bios-mode]."""
    call.machine.registry.set(_CONTROL, "PEFirmwareType", Value.dword(2 if call.machine.firmware.kind == "uefi" else 1))


def _create_page_file(call: ToolCall, rest: list[str]) -> int:
    options = {word.partition("=")[0].lower(): word.partition("=")[2] for word in rest}
    if set(options) - {"/path", "/size"} or not re.fullmatch(r"\d+|", options.get("/size", "")):
        complain(call, "The parameter is incorrect.")
        return 87
    path = files.resolve(call, options.get("/path") or r"C:\pagefile.sys")
    try:
        call.files.reserve(path, int(options.get("/size") or 64) * 1024 * 1024)
        call.files.write(path, b"")
    except Win32Problem as problem:
        complain(call, files.describe(problem))
        return problem.code
    return 0


@register("wpeinit", PE)
def wpeinit(call: ToolCall) -> int:
    """``wpeinit [/unattend:file]``: the network is up already in the lab."""
    if any(not word.lower().startswith(("/unattend:", "-unattend:")) for word in call.argv[1:]):
        return 87
    _update_boot_info(call)
    return 0


@register("drvload", PE)
def drvload(call: ToolCall) -> int:
    """``drvload inf [inf …] [/?]``: the driver must be an INF that can be read."""
    paths = [files.resolve(call, word) for word in call.argv[1:]]
    if not paths:
        return 87
    for path in paths:
        if not path.lower().endswith(".inf") or not call.files.is_file(path):
            complain(call, f"DrvLoad: Unable to load {path} (error 0x80070002)")
            return 0x80070002
        say(call, f"DrvLoad: Successfully loaded {path}.")
    return 0


@register("shutdown", FULL_OS)
def shutdown(call: ToolCall) -> int:
    """``shutdown {/r|/s|/p|/a} [/f] [/t seconds] [/d [p|u:]major:minor] [/c comment] [/hybrid]``."""
    words = [re.sub("^-", "/", word) for word in call.argv[1:]]
    action, delay, planned = "", 30.0, True
    while words:
        word = words.pop(0).lower()
        if word in ("/r", "/s", "/p", "/a", "/g", "/sg") and not action:
            action = word
        elif word == "/t" and words and words[0].isdigit() and int(words[0]) <= 315360000:
            delay = float(words.pop(0))
        elif (
            word == "/d"
            and words
            and re.fullmatch(r"([pu]:)?\d{1,3}:\d{1,5}", words[0], re.IGNORECASE)
            or word == "/c"
            and words
            and len(words[0]) <= 512
        ):
            words.pop(0)
        elif word not in ("/f", "/hybrid"):
            planned = False
    if not action or not planned:
        complain(call, "Usage: shutdown [/i | /l | /s | /sg | /r | /g | /a | /p | /h | /e | /o] [/hybrid] [/soft] [/f] …")
        return 87
    if not call.session.elevated:
        complain(call, "Access is denied.(5)")
        return 5
    try:
        if action == "/a":
            call.machine.abort_restart()
        else:
            call.machine.request_restart("restart" if action in ("/r", "/g") else "shutdown", 0 if action == "/p" else delay)
    except Win32Problem as problem:
        complain(call, f"{files.describe(problem)}({problem.code})")
        return problem.code
    return 0
