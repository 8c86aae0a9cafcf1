# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The registry of a computer, live through CIM's StdRegProv, and of an applied Windows through ``reg load`` in Windows PE.

Keys are written as Windows writes them: ``SOFTWARE\Microsoft`` lies under HKEY_LOCAL_MACHINE, other roots are named
(``HKU\.DEFAULT\…``). Numbers and methods: [doc: win32/WmiSdk stdregprov]; ReturnValue 1 and 2 mean 'not there' [knowledge].
Every call is one request unless it says otherwise.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..wsman.schema import Value
from . import registration_file
from .command_line import batch_line
from .computer import Cim, Computer, Job
from .names import JOBS_FOLDER
from .registration_file import KeyEntry, full_name
from .registry_hive import TYPES
from .registry_hive import Value as HiveValue

HKEY_CLASSES_ROOT = 0x80000000
HKEY_CURRENT_USER = 0x80000001
HKEY_LOCAL_MACHINE = 0x80000002
HKEY_USERS = 0x80000003

ROOTS: dict[str, int] = {
    "HKLM": HKEY_LOCAL_MACHINE,
    "HKEY_LOCAL_MACHINE": HKEY_LOCAL_MACHINE,
    "HKU": HKEY_USERS,
    "HKEY_USERS": HKEY_USERS,
    "HKCU": HKEY_CURRENT_USER,
    "HKEY_CURRENT_USER": HKEY_CURRENT_USER,
    "HKCR": HKEY_CLASSES_ROOT,
    "HKEY_CLASSES_ROOT": HKEY_CLASSES_ROOT,
}
_SHORT = {HKEY_LOCAL_MACHINE: "HKLM", HKEY_USERS: "HKU", HKEY_CURRENT_USER: "HKCU", HKEY_CLASSES_ROOT: "HKCR"}

RegistryData = str | int | bytes | Sequence[str]

#: Our type names: StdRegProv's method name, its parameter, and what the Python value is.
_METHODS: dict[str, tuple[str, str]] = {
    "REG_SZ": ("String", "sValue"),
    "REG_EXPAND_SZ": ("ExpandedString", "sValue"),
    "REG_DWORD": ("DWORD", "uValue"),
    "REG_QWORD": ("QWORD", "uValue"),
    "REG_MULTI_SZ": ("MultiString", "sValue"),
    "REG_BINARY": ("Binary", "uValue"),
}
_OK = 0
_ABSENT = (1, 2)
_KEY_ABSENT = 2


class RegistryError(Exception):
    """The registry refused; ``code`` is the Win32 number, the message names key and value."""

    def __init__(self, message: str, code: int) -> None:
        """Take what was tried and the code."""
        super().__init__(f"{message}: code {code}" + (" (access denied)" if code == 5 else ""))
        self.code = code


@dataclass(frozen=True)
class RegistryValue:
    """One value that is set or looked for: key (HKLM unless named), name ('' is the default value), type, plain value."""

    key: str
    name: str
    type: str
    data: RegistryData


@dataclass(frozen=True)
class RegistryChanges:
    """What is written together: values set, values removed by (key, name), keys removed with all below them."""

    values: tuple[RegistryValue, ...] = ()
    removed_values: tuple[tuple[str, str], ...] = ()
    removed_keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.values or self.removed_values or self.removed_keys)


def split_key(path: str) -> tuple[int, str]:
    """Return the root's number and the path below it."""
    first, dummy, rest = path.partition("\\")
    root = ROOTS.get(first.upper())
    return (HKEY_LOCAL_MACHINE, path) if root is None else (root, rest)


class RegistryReader(ABC):
    """What is asked of a registry, whether each question is a request or all was read before."""

    @abstractmethod
    def get(self, path: str, name: str, kind: str = "REG_SZ") -> RegistryData | None:
        """Return a value of that type; None where it is not there or has another type."""

    @abstractmethod
    def enum_keys(self, path: str) -> list[str] | None:
        """Return the names of the subkeys, None where the key is not there."""

    @abstractmethod
    def enum_values(self, path: str) -> dict[str, int] | None:
        """Return the names of the values with their numeric types, None where the key is not there."""

    def get_string(self, path: str, name: str) -> str | None:
        """Return a REG_SZ, None where there is none."""
        value = self.get(path, name, "REG_SZ")
        return value if isinstance(value, str) else None

    def get_dword(self, path: str, name: str) -> int | None:
        """Return a REG_DWORD, None where there is none."""
        value = self.get(path, name, "REG_DWORD")
        return value if isinstance(value, int) else None

    def get_multi(self, path: str, name: str) -> tuple[str, ...] | None:
        """Return a REG_MULTI_SZ, None where there is none."""
        value = self.get(path, name, "REG_MULTI_SZ")
        return value if isinstance(value, tuple) else None

    def get_binary(self, path: str, name: str) -> bytes | None:
        """Return a REG_BINARY, None where there is none."""
        value = self.get(path, name, "REG_BINARY")
        return value if isinstance(value, bytes) else None

    def exists(self, path: str) -> bool:
        """Tell whether a key is there."""
        return self.enum_keys(path) is not None

    def holds(self, value: RegistryValue) -> bool:
        """Tell whether exactly this value is there."""
        found = self.get(value.key, value.name, value.type)
        wanted = tuple(value.data) if isinstance(value.data, list) else value.data
        return found == wanted


class Registry(RegistryReader):
    """The live registry of the system that answers."""

    def __init__(self, cim: Cim) -> None:
        """Take the CIM side of a computer."""
        self._cim = cim

    def get(self, path: str, name: str, kind: str = "REG_SZ") -> RegistryData | None:
        """Return a value of that type; None where it is not there or has another type."""
        verb, parameter = _METHODS[kind]
        answer = self._call(f"Get{verb}Value", path, name, absent=_ABSENT)
        if answer is None:
            return None
        value = answer.get(parameter)
        if kind == "REG_BINARY":
            return bytes(v for v in _list(value) if isinstance(v, int))
        if kind == "REG_MULTI_SZ":
            return tuple(str(v) for v in _list(value))
        return value if isinstance(value, str | int) else None

    def enum_keys(self, path: str) -> list[str] | None:
        """Return the names of the subkeys, None where the key is not there."""
        answer = self._call("EnumKey", path, absent=(_KEY_ABSENT,))
        return None if answer is None else [str(name) for name in _list(answer.get("sNames"))]

    def enum_values(self, path: str) -> dict[str, int] | None:
        """Return the names of the values with their numeric types, None where the key is not there."""
        answer = self._call("EnumValues", path, absent=(_KEY_ABSENT,))
        if answer is None:
            return None
        names, types = _list(answer.get("sNames")), _list(answer.get("Types"))
        return {str(name): int(kind) for name, kind in zip(names, types, strict=False) if isinstance(kind, int)}

    def set(self, value: RegistryValue) -> None:
        """Set a value; its key is made where it was not there. Two requests."""
        verb, parameter = _METHODS[value.type]
        data: Value = list(value.data) if isinstance(value.data, bytes | tuple | list) else value.data  # type: ignore[assignment]
        self._call("CreateKey", value.key)
        self._call(f"Set{verb}Value", value.key, value.name, {parameter: data})

    def delete_value(self, path: str, name: str) -> bool:
        """Remove a value; tell whether it was there."""
        return self._call("DeleteValue", path, name, absent=_ABSENT) is not None

    def delete_key(self, path: str) -> bool:
        """Remove a key with all below it; tell whether it was there. Two requests a key."""
        names = self.enum_keys(path)
        if names is None:
            return False
        for name in names:
            self.delete_key(f"{path}\\{name}")
        return self._call("DeleteKey", path, absent=(_KEY_ABSENT,)) is not None

    def change(self, changes: RegistryChanges) -> None:
        """Write everything in order: set, remove values, remove keys. What is not there is no error."""
        for value in changes.values:
            self.set(value)
        for path, name in changes.removed_values:
            self.delete_value(path, name)
        for path in changes.removed_keys:
            self.delete_key(path)

    def _call(
        self,
        method: str,
        path: str,
        name: str | None = None,
        extra: Mapping[str, Value] | None = None,
        *,
        absent: tuple[int, ...] = (),
    ) -> Mapping[str, Value] | None:
        root, sub_key = split_key(path)
        arguments: dict[str, Value] = {"hDefKey": root, "sSubKeyName": sub_key}
        if name is not None:
            arguments["sValueName"] = name
        answer = self._cim.invoke("StdRegProv", method, {**arguments, **(extra or {})})
        result = answer.get("ReturnValue")
        code = result if isinstance(result, int) else _OK
        if code in absent:
            return None
        if code != _OK:
            where = f"{_SHORT.get(root, hex(root))}\\{sub_key}" + (f", value {name!r}" if name is not None else "")
            raise RegistryError(f"The registry refused {method} for {where}", code)
        return answer


def _list(value: Value | None) -> list[Value]:
    return value if isinstance(value, list) else [] if value is None else [value]


# --- what reg.exe exported


class ExportedRegistry(RegistryReader):
    """Keys as ``reg export`` wrote them, with all below them. ValueError for a key that was not asked for: its absence is not known."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._known: list[str] = []
        self._keys: dict[str, dict[str, tuple[str, HiveValue]]] = {}
        self._names: dict[str, str] = {}

    def add(self, paths: Iterable[str], content: bytes) -> None:
        r"""Take the export of keys (``HKLM\…``), which replaces what was known below them. Raises RegistrationFileError."""
        wanted = [full_name(path).lower() for path in paths]
        entries = registration_file.parse(content)
        for path in [key for key in self._keys if _is_below(key, wanted)]:
            del self._keys[path]
        self._known += [path for path in wanted if path not in self._known]
        for entry in entries:
            self._names[entry.key.lower()] = entry.key
            self._keys[entry.key.lower()] = {name.lower(): (name, value) for name, value in entry.values if value is not None}

    def place(self, path: str) -> str:
        r"""Return a key's name as the export has it, with its root (``HKLM\…``)."""
        root, below = split_key(path)
        return f"{_SHORT[root]}\\{below}"

    def get(self, path: str, name: str, kind: str = "REG_SZ") -> RegistryData | None:
        """Return a value of that type; None where it is not there or has another type."""
        found = (self._values(path) or {}).get(name.lower())
        if found is None or TYPES[kind] != found[1].type:
            return None
        value = found[1]
        if kind == "REG_BINARY":
            return value.data
        return tuple(value.strings or ()) if kind == "REG_MULTI_SZ" else value.text if value.number is None else value.number

    def enum_keys(self, path: str) -> list[str] | None:
        """Return the names of the subkeys, None where the key is not there."""
        if self._values(path) is None:
            return None
        above = full_name(self.place(path)).lower() + "\\"
        below = [key for key in self._keys if key.startswith(above) and "\\" not in key[len(above) :]]
        return [self._names[key].rpartition("\\")[2] for key in below]

    def enum_values(self, path: str) -> dict[str, int] | None:
        """Return the names of the values with their numeric types, None where the key is not there."""
        values = self._values(path)
        return None if values is None else {name: value.type for name, value in values.values()}

    def _values(self, path: str) -> dict[str, tuple[str, HiveValue]] | None:
        key = full_name(self.place(path)).lower()
        if not _is_below(key, self._known):
            raise ValueError(f"The key {path} was not read")
        return self._keys.get(key)


def _is_below(key: str, places: Iterable[str]) -> bool:
    return any(key == place or key.startswith(place + "\\") for place in places)


# --- the registry of an applied Windows in Windows PE, with reg.exe [doc: wsd/reg]


_SYSTEM32 = r"X:\Windows\System32"
_REG = rf"{_SYSTEM32}\reg.exe"
_SCRIPT, _CHANGES, _NONE = "hives.cmd", "changes.reg", "none.reg"
_RESULT = "registry.reg"
#: Exit codes of the script; a smaller one is the number of the hive that could not be loaded.
_NOT_IMPORTED, _NOT_EXPORTED, _NOT_UNLOADED, _DISTURBED = 20, 21, 22, 23
_SELECT = r"SYSTEM\Select"
_QUIET = ">nul 2>nul"


class OfflineRegistry(ExportedRegistry):
    r"""The registry of a Windows that is not running, by the names it has when it runs.

    One job loads the hives as ``HKLM\OSD_SYSTEM`` and so on, imports changes, exports the wanted keys and unloads the hives again,
    whatever happens in between; what it exported is fetched with one request more. ``CurrentControlSet`` does not exist offline: it
    stands for the set that ``Select\Current`` names.
    """

    def __init__(self, computer: Computer, root: str, hives: Sequence[str] = ("SYSTEM", "SOFTWARE")) -> None:
        r"""Take the computer in Windows PE and the root of its Windows volume (``W:\``)."""
        super().__init__()
        self._computer = computer
        self._folder = root.rstrip("\\") + r"\Windows\System32\config"
        self._hives = {hive.upper(): f"OSD_{hive.upper()}" for hive in hives}
        self._control_set = ""
        self._read: list[str] = []

    @property
    def control_set(self) -> str:
        """The set that the Windows starts with, ``ControlSet001``; '' until something was read."""
        return self._control_set

    def place(self, path: str) -> str:
        """Return a key's name in the loaded hives. ValueError for a key of a hive that is not loaded."""
        root, below = split_key(path)
        first, dummy, rest = below.partition("\\")
        name = self._hives.get(first.upper())
        if root != HKEY_LOCAL_MACHINE or name is None:
            raise ValueError(f"The key {path} lies in none of the loaded hives ({', '.join(self._hives)})")
        head, dummy, tail = rest.partition("\\")
        if first.upper() == "SYSTEM" and head.lower() == "currentcontrolset":
            rest = f"{self._control_set or _FIRST_SET}\\{tail}" if tail else self._control_set or _FIRST_SET
        return f"HKLM\\{name}\\{rest}" if rest else f"HKLM\\{name}"

    def read(self, paths: Iterable[str]) -> None:
        """Read keys with all below them: two requests, four where another control set than the first is the current one."""
        wanted = list(dict.fromkeys(paths))
        select = [_SELECT] if "SYSTEM" in self._hives and not self._control_set else []
        places = [self.place(path) for path in wanted]
        self._run([*select, *wanted])
        self._read += [path for path in wanted if path not in self._read]
        if select:
            self._control_set = f"ControlSet{self.get_dword(_SELECT, 'Current') or 1:03}"
            if places != [self.place(path) for path in wanted]:
                self._run(wanted)

    def change(self, changes: RegistryChanges) -> None:
        """Write everything with one registration file, and read anew what was read: two requests. Raises RegistryError."""
        if not changes:
            return
        if "SYSTEM" in self._hives and not self._control_set:
            self.read(())
        entries = [
            *(KeyEntry(self.place(v.key), ((v.name, HiveValue.make(v.type, v.data)),)) for v in changes.values),
            *(KeyEntry(self.place(path), ((name, None),)) for path, name in changes.removed_values),
            *(KeyEntry(self.place(path), remove=True) for path in changes.removed_keys),
        ]
        self._run(self._read, registration_file.render(entries))

    def _run(self, paths: Sequence[str], changes: bytes = b"") -> None:
        places = [self.place(path) for path in paths]
        files = {_SCRIPT: self._script(places, imports=bool(changes)), _NONE: registration_file.render(())}
        if changes:
            files[_CHANGES] = changes
        argv = (rf"{_SYSTEM32}\cmd.exe", "/d", "/c", rf".\{_SCRIPT}")
        job = Job(f"registry-{uuid.uuid4().hex[:12]}", argv, files=files, time_limit=_TIME_LIMIT)
        status = self._computer.start_job(job, _WAIT)
        while status.exit_code is None:
            status = self._computer.job_status(job.id, status.offset, _WAIT)
        if status.exit_code:
            raise RegistryError(self._problem(status.exit_code), status.exit_code)
        self.add(places, self._computer.get_file(rf"X:\{JOBS_FOLDER}\{job.id}\{_RESULT}"))

    def _problem(self, code: int) -> str:
        if code <= len(self._hives):
            return rf"reg.exe could not load the hive {self._folder}\{list(self._hives)[code - 1]}"
        what = {_NOT_IMPORTED: "import the changes to", _NOT_EXPORTED: "export keys of"}.get(code)
        if code == _DISTURBED:
            # One that was started before the connection was lost, and went on.
            return f"another job unloaded the hives in {self._folder} while they were read; run the step again"
        if code == _NOT_UNLOADED:
            return f"reg.exe could not unload the hives in {self._folder}; another process still holds one open"
        return f"reg.exe could not {what or 'work on'} the hives in {self._folder}"

    def _script(self, places: Sequence[str], *, imports: bool) -> bytes:
        """The batch file. Hives that a job left loaded which was ended halfway are unloaded first, once.

        A key is absent where ``reg query`` does not find it while its hive is loaded to the end; one that is there and cannot be exported
        ends the job.
        """
        pieces = [f"key-{number}.reg" for number in range(len(places))]
        loads = [
            f"{_line('reg.exe', 'load', f'HKLM{chr(92)}{name}', f'{self._folder}{chr(92)}{hive}')} || (set CODE={number}& goto unload)"
            for number, (hive, name) in enumerate(self._hives.items(), start=1)
        ]
        imported = [f"{_line('reg.exe', 'import', _CHANGES)} || (set CODE={_NOT_IMPORTED}& goto unload)"] if imports else []
        failed = f"(set CODE={_NOT_EXPORTED}& goto unload)"
        exports = []
        for piece, place in zip(pieces, places, strict=True):
            exports += [
                f"copy /b /y {_NONE} {piece} {_QUIET} || {failed}",
                f"{_line('reg.exe', 'query', place)} && ({_line('reg.exe', 'export', place, piece, '/y')} || {failed})",
            ]
        joined = f"copy /b /y {'+'.join([_NONE, *pieces])} {_RESULT} {_QUIET} || {failed}"
        mounted = [f"HKLM\\{name}" for name in self._hives.values()]
        checks = [f"{_line('reg.exe', 'query', name)} || (set CODE={_DISTURBED}& goto unload)" for name in mounted]
        unloads = [f"{_line('reg.exe', 'query', name)} && ({_line('reg.exe', 'unload', name)} || set HELD=1)" for name in mounted]
        lines = [
            *("@echo off", "set TRIED="),
            *(":load", *loads, "set CODE=0", *imported, *exports, *checks, joined, f"del /q key-*.reg {_QUIET}"),
            *(":unload", f"set LEFT={_UNLOAD_ATTEMPTS}", ":again", "set HELD=", *unloads, "if not defined HELD goto unloaded"),
            *("set /a LEFT-=1 >nul", f"if %LEFT% leq 0 if %CODE%==0 set CODE={_NOT_UNLOADED}", "if %LEFT% leq 0 goto end"),
            *(rf"{_SYSTEM32}\ping.exe -n 2 127.0.0.1 >nul", "goto again", ":unloaded"),
            f"if %CODE% geq 1 if %CODE% leq {len(self._hives)} if not defined TRIED (set TRIED=1& goto load)",
            *(":end", "exit /b %CODE%", ""),
        ]
        return "\r\n".join(lines).encode("ascii")


#: What nearly every Windows starts with; it is read before it is known to be the current one.
_FIRST_SET = "ControlSet001"
_UNLOAD_ATTEMPTS = 10
#: Seconds: of one answer, and of the whole job.
_WAIT, _TIME_LIMIT = 20.0, 600


def _line(program: str, *arguments: str) -> str:
    return f"{batch_line([rf'{_SYSTEM32}{chr(92)}{program}', *arguments])} {_QUIET}"
