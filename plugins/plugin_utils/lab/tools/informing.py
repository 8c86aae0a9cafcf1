# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""whoami, hostname, timeout, tzutil, find, findstr, more, sort, where: small tools of scripts."""

from __future__ import annotations

import re
from typing import Any

from ...windows.registry_hive import Value
from . import files, programs
from .grammar import complain, say
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, register

_ZONES = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Time Zones"
_ZONE = r"HKLM\SYSTEM\CurrentControlSet\Control\TimeZoneInformation"


@register("whoami", FULL_OS)
def whoami(call: ToolCall) -> int:
    """``whoami`` without options (others are the lab's lack: lab rule)."""
    if len(call.argv) > 1:
        complain(call, f"ERROR: Invalid argument/option - '{call.argv[1]}'.")
        return 1
    user = call.session.user
    say(call, r"nt authority\system" if call.session.is_system else f"{call.machine.name}\\{user.rpartition(chr(92))[2]}".lower())
    return 0


@register("hostname")
def hostname(call: ToolCall) -> int:
    """Print the computer's name."""
    if len(call.argv) > 1:
        complain(call, "sethostname: Use the Network Control Panel Applet to set hostname.")
        return 1
    say(call, call.machine.name)
    return 0


@register("timeout", FULL_OS)
def timeout(call: ToolCall) -> int:
    """``timeout [/t] seconds [/nobreak]``: it refuses a redirected input, which WinRS and jobs always have [knowledge]."""
    words = [word.lower() for word in call.argv[1:] if word.lower() != "/nobreak"]
    words = words[1:] if words[:1] == ["/t"] else words
    if len(words) != 1 or not re.fullmatch(r"-1|\d+", words[0]):
        complain(call, "ERROR: Invalid value for timeout (/T) specified. Valid range is -1 to 99999 seconds.")
        return 1
    complain(call, "ERROR: Input redirection is not supported, exiting the process immediately.")
    return 1


@register("tzutil", FULL_OS)
def tzutil(call: ToolCall) -> int:
    """``tzutil /g | /s zone | /l``: the zone by its key name; 1 or 87 for others."""
    words = call.argv[1:]
    verb = words[0].lower() if words else ""
    registry = call.machine.registry
    if verb == "/g" and len(words) == 1:
        key = registry.find(_ZONE)
        call.stdout.write(((key.get_string("", "TimeZoneKeyName") if key else None) or "UTC").encode())
        return 0
    zones = registry.find(_ZONES)
    if verb == "/l" and len(words) == 1:
        say(call, *(zones.subkeys if zones else ()))
        return 0
    if verb != "/s" or len(words) != 2:
        return 0x80070057
    name = words[1].removesuffix("_dstoff")
    if zones is not None and zones.subkeys and name not in zones.subkeys:
        complain(call, "The time zone is not valid.")
        return 0x80070057
    registry.set(_ZONE, "TimeZoneKeyName", Value.sz(name))
    return 0


def _lines(call: ToolCall, names: list[str]) -> list[str]:
    data = b"".join(call.files.read(files.resolve(call, n)) for n in names) if names else call.stdin.read()
    return data.decode("utf-8", "replace").splitlines()


@register("find")
def find(call: ToolCall) -> int:
    """``find [/v] [/c] [/n] [/i] "text" [file …]``: 0 found, 1 not, 2 wrong use. A file's heading line is left out (lab rule)."""
    flags = {word.lower() for word in call.argv[1:] if word.startswith("/")}
    plain = [word for word in call.argv[1:] if not word.startswith("/")]
    if flags - {"/v", "/c", "/n", "/i"} or not plain:
        complain(call, "FIND: Parameter format not correct")
        return 2
    try:
        lines = _lines(call, plain[1:])
    except Win32Problem as problem:
        complain(call, f"File not found - {plain[1]} ({problem.code})")
        return 1
    return _report(call, lines, lambda line: plain[0].lower() in line.lower() if "/i" in flags else plain[0] in line, flags)


@register("findstr")
def findstr(call: ToolCall) -> int:
    """``findstr [/i] [/v] [/n] [/c:text] [/l] [/r] [/x] [/b] [/e] text [file …]``: 0 found, 1 not, 2 wrong use."""
    flags, literals, plain = set(), [], []
    for word in call.argv[1:]:
        if word.lower().startswith("/c:"):
            literals.append(word[3:])
        elif re.fullmatch(r"/[ivnlrxbemsp]+", word.lower()):
            flags |= {"/" + letter for letter in word[1:].lower()}
        elif word.startswith("/"):
            complain(call, f"FINDSTR: {word} ignored")
            return 2
        else:
            plain.append(word)
    if not literals:
        if not plain:
            complain(call, "FINDSTR: Bad command line")
            return 2
        literals = plain.pop(0).split()
    patterns = [text if "/r" in flags else re.escape(text) for text in literals]
    start, end = "^" if flags & {"/b", "/x"} else "", "$" if flags & {"/e", "/x"} else ""
    try:
        expressions = [re.compile(f"{start}(?:{p}){end}", re.IGNORECASE if "/i" in flags else 0) for p in patterns]
        lines = _lines(call, plain)
    except re.error:
        return 2
    except Win32Problem:
        complain(call, f"FINDSTR: Cannot open {plain[0]}")
        return 1
    return _report(call, lines, lambda line: any(e.search(line) for e in expressions), flags)


def _report(call: ToolCall, lines: list[str], matches: Any, flags: set[str]) -> int:
    found = [(n, line) for n, line in enumerate(lines, start=1) if bool(matches(line)) != ("/v" in flags)]
    if "/c" in flags:
        say(call, str(len(found)))
    else:
        say(call, *(f"{n}:{line}" if "/n" in flags else line for n, line in found))
    return 0 if found else 1


@register("more")
def more(call: ToolCall) -> int:
    """``more [+line] [file …]``: a tail of a log; what comes out is text with CR LF."""
    start, names = 0, []
    for word in call.argv[1:]:
        if re.fullmatch(r"\+\d+", word):
            start = int(word[1:])
        elif word.startswith("/"):
            if not re.fullmatch(r"/([ecps]|t\d+)", word.lower()):
                return 1
        else:
            names.append(word)
    try:
        say(call, *_lines(call, names)[start:])
    except Win32Problem as problem:
        complain(call, files.describe(problem))
        return 1
    return 0


@register("sort")
def sort(call: ToolCall) -> int:
    """``sort [/r] [file]``."""
    names = [word for word in call.argv[1:] if not word.startswith("/")]
    flags = {word.lower() for word in call.argv[1:] if word.startswith("/")}
    if flags - {"/r"}:
        complain(call, "Invalid switch.")
        return 1
    say(call, *sorted(_lines(call, names), key=str.lower, reverse="/r" in flags))
    return 0


@register("where")
def where(call: ToolCall) -> int:
    """``where [/q] name``: 0 found, 1 not, 2 wrong use."""
    plain = [word for word in call.argv[1:] if not word.startswith("/")]
    quiet = any(word.lower() == "/q" for word in call.argv[1:])
    if len(plain) != 1 or any(word.startswith("/") and word.lower() != "/q" for word in call.argv[1:]):
        return 2
    path = next((v for n, v in call.environment.items() if n.upper() == "PATH"), "")
    found = programs.find(call, plain[0], call.directory, path)
    if found is None:
        if not quiet:
            complain(call, "INFO: Could not find files for the given pattern(s).")
        return 1
    if not quiet:
        say(call, found)
    return 0
