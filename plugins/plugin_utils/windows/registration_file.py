# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Registration files (``.reg``): many registry changes in one ``reg import``, and what ``reg export`` wrote.

The format is the same in every language: ``Windows Registry Editor Version 5.00``, UTF-16 with a byte order mark, a section a key,
``"name"=value`` with ``"text"``, ``dword:`` and ``hex(n):``; ``-`` removes a value, ``[-key]`` a key with all below it [doc: 'How to add,
modify, or delete registry subkeys and values by using a .reg file'].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .registry_hive import REG_DWORD, REG_SZ, TYPES, Value

HEADER = "Windows Registry Editor Version 5.00"
_ROOTS = {"HKLM": "HKEY_LOCAL_MACHINE", "HKU": "HKEY_USERS", "HKCU": "HKEY_CURRENT_USER", "HKCR": "HKEY_CLASSES_ROOT"}
_BINARY = TYPES["REG_BINARY"]


class RegistrationFileError(ValueError):
    """A text that is no registration file; the message names the line."""


@dataclass(frozen=True)
class KeyEntry:
    r"""One section: a key by its full name (``HKEY_LOCAL_MACHINE\…``), the values set (None: removed), or the key removed."""

    key: str
    values: tuple[tuple[str, Value | None], ...] = ()
    remove: bool = field(default=False)


def full_name(path: str) -> str:
    r"""Return a key's name with the root written out (``HKLM\X`` → ``HKEY_LOCAL_MACHINE\X``)."""
    root, separator, rest = path.partition("\\")
    return _ROOTS.get(root.upper(), root) + separator + rest


def render(entries: Iterable[KeyEntry]) -> bytes:
    """Return the file."""
    lines = [HEADER, ""]
    for entry in entries:
        name = full_name(entry.key)
        lines.append(f"[-{name}]" if entry.remove else f"[{name}]")
        lines += [value_line(value_name, value) for value_name, value in entry.values]
        lines.append("")
    return "\r\n".join([*lines, ""]).encode("utf-16")


def value_line(name: str, value: Value | None) -> str:
    """Return the line of a value; None removes it."""
    return f"{_name(name)}={_data(value)}"


def _name(name: str) -> str:
    return f'"{_escape(name)}"' if name else "@"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _data(value: Value | None) -> str:
    if value is None:
        return "-"
    text = value.text
    if value.type == REG_SZ and text is not None and value == Value.sz(text) and not set(text) & set("\r\n\0"):
        return f'"{_escape(text)}"'
    if value.type == REG_DWORD and value.number is not None and len(value.data) == 4:
        return f"dword:{value.number:08x}"
    kind = "hex" if value.type == _BINARY else f"hex({value.type:x})"
    return f"{kind}:" + ",".join(f"{byte:02x}" for byte in value.data)


_VALUE = re.compile(r'(?:"(?P<name>(?:[^"\\]|\\.)*)"|(?P<default>@))=(?P<data>.*)', re.DOTALL)
_OPEN = re.compile(r'(?:"(?:[^"\\]|\\.)*"|@)="(?:[^"\\]|\\.)*', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DWORD = re.compile(r"dword:[0-9a-f]{1,8}", re.IGNORECASE)
_HEX = re.compile(r"hex(?:\((?P<kind>[0-9a-f]+)\))?:(?P<bytes>[0-9a-f, \t]*)", re.IGNORECASE)


def parse(content: bytes) -> list[KeyEntry]:
    """Read a file, or several written one after the other. Raises RegistrationFileError."""
    entries: list[tuple[str, list[tuple[str, Value | None]], bool]] = []
    for number, line in _lines(content):
        if line.startswith("[") and line.endswith("]"):
            remove = line.startswith("[-")
            entries.append((line[2:-1] if remove else line[1:-1], [], remove))
            continue
        match = _VALUE.fullmatch(line)
        if match is None or not entries:
            raise RegistrationFileError(f"Line {number} of the registration file is neither a key nor a value: {line[:80]!r}")
        entries[-1][1].append((_unescape(match["name"] or ""), _parse_data(number, match["data"])))
    return [KeyEntry(key, tuple(values), remove) for key, values, remove in entries]


def _lines(content: bytes) -> Sequence[tuple[int, str]]:
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace").replace("\ufeff", "")
    lines: list[tuple[int, str]] = []
    held = ""
    headed = False
    for number, raw in enumerate(text.split("\n"), start=1):
        # A text that holds a line break goes on in the next line, as it is [knowledge].
        line = held + raw.removesuffix("\r") if _OPEN.fullmatch(held) else held + raw.strip()
        held = ""
        if _OPEN.fullmatch(line):
            held = line + "\r\n"
        elif line.endswith("\\") and not line.startswith("["):
            held = line[:-1]
        elif line == HEADER:
            headed = True
        elif line and not line.startswith(";"):
            lines.append((number, line))
    if not headed:
        raise RegistrationFileError(f"The registration file does not begin with '{HEADER}'")
    return lines


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _parse_data(number: int, text: str) -> Value | None:
    if text == "-":
        return None
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return Value.sz(_unescape(text[1:-1]))
    if _DWORD.fullmatch(text):
        return Value.dword(int(text[6:], 16))
    match = _HEX.fullmatch(text)
    if match is None:
        raise RegistrationFileError(f"Line {number} of the registration file has a value that is none: {text[:80]!r}")
    kind = int(match["kind"], 16) if match["kind"] else _BINARY
    return Value(kind, bytes(int(part, 16) for part in match["bytes"].split(",") if part.strip()))
