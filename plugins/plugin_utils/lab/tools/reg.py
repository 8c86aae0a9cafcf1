# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""reg.exe: query, add, delete, load, unload, copy, import, export of the live registry [doc: wsd/reg]. 0 is success, 1 any failure."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterator

from ...windows import registration_file
from ...windows.registry_hive import REG_DWORD, REG_MULTI_SZ, REG_QWORD, REG_SZ, TYPE_NAMES, TYPES, Key, Value
from . import files
from .grammar import Options, UsageError, complain, say, spaced_options
from .interface import ToolCall, Win32Problem
from .programs import register

_ROOTS = {
    "HKLM": "HKEY_LOCAL_MACHINE",
    "HKU": "HKEY_USERS",
    "HKCU": "HKEY_CURRENT_USER",
    "HKCR": "HKEY_CLASSES_ROOT",
    "HKCC": "HKEY_CURRENT_CONFIG",
}
_LONG = {long: short for short, long in _ROOTS.items()}


class _Failed(Exception):
    """reg prints this and ends with 1."""


@register("reg")
def reg(call: ToolCall) -> int:
    """Run one operation."""
    operations = {
        **{"query": _query, "add": _add, "delete": _delete, "load": _load, "unload": _unload},
        **{"copy": _copy, "import": _import, "export": _export},
    }
    operation = operations.get(call.argv[1].lower()) if len(call.argv) > 1 else None
    try:
        if operation is None or len(call.argv) < 3:
            raise UsageError
        return operation(call, call.argv[2], call.argv[3:])
    except UsageError:
        complain(call, "ERROR: Invalid syntax.", 'Type "REG /?" for usage.')
    except _Failed as error:
        complain(call, f"ERROR: {error}")
    except Win32Problem as problem:
        complain(call, f"ERROR: {files.describe(problem)}")
    return 1


def _path(text: str) -> str:
    root, dummy, rest = text.partition("\\")
    short = _LONG.get(root.upper(), root.upper())
    if short not in _ROOTS:
        raise _Failed("Invalid key name.")
    if short not in ("HKLM", "HKU"):
        raise _Failed(f"The lab's registry has no {short} (lab rule).")
    return f"{short}\\{rest.strip(chr(92))}" if rest else short


def _shown(path: str) -> str:
    root, slash, rest = path.partition("\\")
    return _ROOTS[root] + slash + rest


def _key(call: ToolCall, path: str) -> Key:
    key = call.machine.registry.find(path)
    if key is None:
        raise _Failed("The system was unable to find the specified registry key or value.")
    return key


def _options(arguments: list[str], flags: str, values: str) -> Options:
    options = spaced_options(arguments, flags.split(), values.split(), "/")
    if options.rest:
        raise UsageError(options.rest[0])
    return options


def _query(call: ToolCall, name: str, arguments: list[str]) -> int:
    options = _options(arguments, "ve s k d c e z reg:32 reg:64", "v f t se")
    path = _path(name)
    key = _key(call, path)
    pattern, wanted = options.get("f"), options.get("v")
    if "f" not in options.values and options.flags & {"k", "d", "c", "e"}:
        raise UsageError
    if "ve" in options.flags or "v" in options.values:
        value = key.values.get("" if "ve" in options.flags else wanted)
        if value is None:
            raise _Failed("The system was unable to find the specified registry key or value.")
        say(call, "", _shown(path), _line("" if "ve" in options.flags else wanted, value), "")
        return 0
    found = 0
    for sub, item in _walk(path, key, deep="s" in options.flags):
        if "f" in options.values:
            lines = _matching(item, pattern, options)
            if "d" not in options.flags and sub != path and _matches(sub.rpartition("\\")[2], pattern, options):
                found += 1
                say(call, _shown(sub))
        else:
            lines = [_line(n, v) for n, v in item.values.items()]
        found += len(lines)
        if lines:
            say(call, "", _shown(sub), *lines)
    if "f" in options.values:
        say(call, "", f"End of search: {found} match(es) found.")
        return 0 if found else 1
    if "s" not in options.flags:
        say(call, *(_shown(f"{path}\\{sub}") for sub in key.subkeys))
    return 0


def _walk(path: str, key: Key, *, deep: bool) -> Iterator[tuple[str, Key]]:
    yield path, key
    if deep:
        for name, child in key.subkeys.items():
            yield from _walk(f"{path}\\{name}", child, deep=True)


def _matching(key: Key, pattern: str, options: Options) -> list[str]:
    """Return the values that ``/f`` finds: by data with /d, by name with neither /k nor /d, or both."""
    types = options.get("t").upper()
    lines = []
    for name, value in key.values.items():
        if types and TYPE_NAMES.get(value.type) != types:
            continue
        by_data = "k" not in options.flags and _matches(_data(value), pattern, options)
        by_name = not options.flags & {"k", "d"} and _matches(name, pattern, options)
        if by_data or by_name:
            lines.append(_line(name, value))
    return lines


def _matches(text: str, pattern: str, options: Options) -> bool:
    if "c" not in options.flags:
        text, pattern = text.lower(), pattern.lower()
    if "e" in options.flags:
        return text == pattern
    return fnmatch.fnmatchcase(text, f"*{pattern}*")


def _line(name: str, value: Value) -> str:
    return f"    {name or '(Default)'}    {TYPE_NAMES.get(value.type, 'REG_NONE')}    {_data(value)}"


def _data(value: Value) -> str:
    if value.type in (REG_DWORD, REG_QWORD):
        return f"{value.number or 0:#x}"
    if value.type == REG_MULTI_SZ:
        return "\\0".join(value.strings or [])
    return value.text if value.text is not None else value.data.hex().upper()


def _add(call: ToolCall, name: str, arguments: list[str]) -> int:
    options = _options(arguments, "ve f reg:32 reg:64", "v t d s")
    path = _path(name)
    if "\\" not in path:
        raise _Failed("Access is denied.")
    if "v" not in options.values and "ve" not in options.flags:
        if options.values:
            raise UsageError
        call.machine.registry.create(path)
    else:
        value = _value(options.get("t", "REG_SZ").upper(), options.get("d"), options.get("s", "\\0"), given="d" in options.values)
        value_name = options.get("v")
        key = call.machine.registry.find(path)
        if "f" not in options.flags and key is not None and value_name in key.values:
            raise _Failed("The value exists already and nobody is there to be asked: use /f.")  # real reg.exe waits for an answer
        call.machine.registry.set(path, value_name, value)
    say(call, "The operation completed successfully.")
    return 0


def _value(kind: str, text: str, separator: str, *, given: bool) -> Value:
    if kind not in TYPES:
        raise UsageError
    if not given:
        text = "0" if kind in ("REG_DWORD", "REG_QWORD") else ""
    if kind == "REG_MULTI_SZ":
        return Value.multi_sz([part for part in text.split(separator) if part] if text else [])
    if kind in ("REG_DWORD", "REG_QWORD") and not re.fullmatch(r"0x[0-9a-fA-F]+|\d+", text):
        raise UsageError
    try:
        return Value.make(kind, text)
    except ValueError:
        raise UsageError from None


def _delete(call: ToolCall, name: str, arguments: list[str]) -> int:
    options = _options(arguments, "ve va f reg:32 reg:64", "v")
    path = _path(name)
    key = _key(call, path)
    if "f" not in options.flags:
        raise _Failed("Nobody is there to be asked: use /f.")
    if "va" in options.flags:
        for value in list(key.values):
            call.machine.registry.delete_value(path, value)
    elif "ve" in options.flags or "v" in options.values:
        wanted = options.get("v")
        if wanted not in key.values:
            raise _Failed("The system was unable to find the specified registry key or value.")
        call.machine.registry.delete_value(path, wanted)
    else:
        if path.count("\\") < 1:
            raise _Failed("Access is denied.")
        call.machine.registry.delete_key(path)
    say(call, "The operation completed successfully.")
    return 0


def _mount(name: str) -> str:
    path = _path(name)
    if path.count("\\") != 1:
        raise _Failed("Invalid key name.")
    return path


def _load(call: ToolCall, name: str, arguments: list[str]) -> int:
    if not arguments or any(a.lower() not in ("/reg:32", "/reg:64") for a in arguments[1:]):
        raise UsageError
    if not call.session.elevated:
        raise Win32Problem(1314, "A required privilege is not held by the client.")
    call.machine.registry.load(_mount(name), files.resolve(call, arguments[0]), call.session)
    say(call, "The operation completed successfully.")
    return 0


def _unload(call: ToolCall, name: str, arguments: list[str]) -> int:
    if arguments:
        raise UsageError
    call.machine.registry.unload(_mount(name))
    say(call, "The operation completed successfully.")
    return 0


def _import(call: ToolCall, name: str, arguments: list[str]) -> int:
    if any(a.lower() not in ("/reg:32", "/reg:64") for a in arguments):
        raise UsageError
    path = files.resolve(call, name)
    with call.files.open_read(path) as file:
        content = file.read()
    try:
        entries = registration_file.parse(content)
    except registration_file.RegistrationFileError as error:
        raise _Failed("The specified file is not a registry script. You can only import registry files.") from error
    for entry in entries:
        _import_key(call, entry)
    say(call, "The operation completed successfully.")
    return 0


def _import_key(call: ToolCall, entry: registration_file.KeyEntry) -> None:
    registry, path = call.machine.registry, _path(entry.key)
    if entry.remove:
        with contextlib.suppress(Win32Problem):  # what is not there is removed already
            registry.delete_key(path)
        return
    registry.create(path)
    for name, value in entry.values:
        if value is None:
            with contextlib.suppress(Win32Problem):
                registry.delete_value(path, name)
        else:
            registry.set(path, name, value)


def _export(call: ToolCall, name: str, arguments: list[str]) -> int:
    if not arguments:
        raise UsageError
    options = _options(arguments[1:], "y reg:32 reg:64", "")
    path = _path(name)
    key = _key(call, path)
    file = files.resolve(call, arguments[0])
    if call.files.exists(file) and "y" not in options.flags:
        raise _Failed("The file exists already and nobody is there to be asked: use /y.")  # real reg.exe waits for an answer
    lines = [registration_file.HEADER]
    for sub, item in _walk(path, key, deep=True):
        lines += ["", f"[{_shown(sub)}]", *(_exported(value_name, value) for value_name, value in item.values.items())]
    call.files.write(file, "\r\n".join([*lines, "", ""]).encode("utf-16"))
    say(call, "The operation completed successfully.")
    return 0


def _exported(name: str, value: Value) -> str:
    """Return a value's lines as Windows writes them: a text as it is, line breaks too; bytes in lines of 80 characters."""
    if value.type == REG_SZ and value.text is not None and value == Value.sz(value.text) and set(value.text) & set("\r\n"):
        first = registration_file.value_line(name, Value.sz("")).removesuffix('"')
        return first + value.text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    line = registration_file.value_line(name, value)
    head, dummy, data = line.rpartition(":")
    if line.endswith('"') or "=hex" not in head:
        return line
    wrapped, current = [], head + ":"
    for byte in re.findall(r"[0-9a-f]{2},?", data):
        if len(current) + len(byte) > 79:
            wrapped.append(current + "\\")
            current = "  "
        current += byte
    return "\r\n".join([*wrapped, current])


def _copy(call: ToolCall, name: str, arguments: list[str]) -> int:
    if not arguments:
        raise UsageError
    options = _options(arguments[1:], "s f reg:32 reg:64", "")
    source, target = _path(name), _path(arguments[0])
    for sub, item in list(_walk("", _key(call, source), deep="s" in options.flags)):
        call.machine.registry.create(target + sub)
        for value_name, value in item.values.items():
            call.machine.registry.set(target + sub, value_name, value)
    say(call, "The operation completed successfully.")
    return 0
