# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The registry of a computer, live through CIM's StdRegProv, and of an applied Windows through ``reg load`` in Windows PE.

Keys are written as Windows writes them: ``SOFTWARE\Microsoft`` lies under HKEY_LOCAL_MACHINE, other roots are named
(``HKU\.DEFAULT\…``). Numbers and methods: [doc: win32/WmiSdk stdregprov]; ReturnValue 1 and 2 mean 'not there' [knowledge].
Every call is one request unless it says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from ..wsman.schema import Value
from . import registration_file
from .command_line import batch_line
from .computer import Cim, Computer
from .names import WORK_FOLDER
from .registration_file import KeyEntry
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


class Registry:
    """The live registry of the system that answers."""

    def __init__(self, cim: Cim) -> None:
        """Take the CIM side of a computer."""
        self._cim = cim

    def place(self, path: str) -> tuple[int, str]:
        """Return root and path as the provider takes them."""
        return split_key(path)

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

    def holds(self, value: RegistryValue) -> bool:
        """Tell whether exactly this value is there."""
        found = self.get(value.key, value.name, value.type)
        wanted = tuple(value.data) if isinstance(value.data, list) else value.data
        return found == wanted

    def _call(
        self,
        method: str,
        path: str,
        name: str | None = None,
        extra: Mapping[str, Value] | None = None,
        *,
        absent: tuple[int, ...] = (),
    ) -> Mapping[str, Value] | None:
        root, sub_key = self.place(path)
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


# --- the registry of an applied Windows in Windows PE, with reg.exe [doc: wsd/reg]


_REG = r"X:\Windows\System32\reg.exe"
_SCRIPT = rf"X:\{WORK_FOLDER}\hives.cmd"
_REGISTRATION_FILE = rf"X:\{WORK_FOLDER}\changes.reg"


class OfflineRegistry(Registry):
    r"""The registry of a Windows that is not running, by the names it has when it runs.

    Used as a context: hives are loaded as ``HKLM\OSD_SYSTEM`` and ``HKLM\OSD_SOFTWARE`` on entry and unloaded on exit. Values are read
    through StdRegProv, which sees loaded hives, and written together with one ``reg import``. ``CurrentControlSet`` does not exist
    offline: it stands for the set that ``Select\Current`` names. Loading and unloading all hives is one command each.
    """

    def __init__(
        self,
        computer: Computer,
        root: str,
        hives: Sequence[str] = ("SYSTEM", "SOFTWARE"),
        *,
        attempts: int = 10,
        pause: float = 0.5,
    ) -> None:
        r"""Take the computer in Windows PE and the root of its Windows volume (``W:\``). ``pause`` in seconds between unloads."""
        super().__init__(computer.cim)
        self._computer = computer
        self._folder = root.rstrip("\\") + r"\Windows\System32\config"
        self._hives = {hive.upper(): f"OSD_{hive.upper()}" for hive in hives}
        self._attempts = attempts
        self._pause = pause
        self._loaded = False
        self._control_set = ""

    def __enter__(self) -> OfflineRegistry:
        """Load the hives."""
        self._computer.put_file(_SCRIPT, self._script())
        code = self._run("load")
        if code:
            # A controller that was killed left them loaded.
            self._run("unload")
            code = self._run("load")
        if code:
            self._run("unload")
            hive = list(self._hives)[min(code, len(self._hives)) - 1]
            raise RegistryError(rf"reg.exe could not load the hive {self._folder}\{hive}", code)
        self._loaded = True
        try:
            if "SYSTEM" in self._hives:
                current = self.get_dword(r"SYSTEM\Select", "Current") or 1
                self._control_set = f"ControlSet{current:03}"
        except BaseException:
            self._unload(quiet=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Unload the hives, even after an error."""
        self._unload(quiet=error is not None)

    @property
    def control_set(self) -> str:
        """The set that the Windows starts with, ``ControlSet001``."""
        return self._control_set

    def place(self, path: str) -> tuple[int, str]:
        """Return root and path in the loaded hives. ValueError for a key of a hive that is not loaded."""
        root, below = split_key(path)
        first, dummy, rest = below.partition("\\")
        name = self._hives.get(first.upper())
        if root != HKEY_LOCAL_MACHINE or name is None:
            raise ValueError(f"The key {path} lies in none of the loaded hives ({', '.join(self._hives)})")
        head, dummy, tail = rest.partition("\\")
        if first.upper() == "SYSTEM" and head.lower() == "currentcontrolset":
            rest = f"{self._control_set}\\{tail}" if tail else self._control_set
        return HKEY_LOCAL_MACHINE, f"{name}\\{rest}" if rest else name

    def set(self, value: RegistryValue) -> None:
        """Set one value; :meth:`change` writes many at the same cost."""
        self.change(RegistryChanges(values=(value,)))

    def delete_value(self, path: str, name: str) -> bool:
        """Remove a value; tell whether it was there."""
        names = self.enum_values(path)
        if names is None or name.lower() not in {n.lower() for n in names}:
            return False
        self.change(RegistryChanges(removed_values=((path, name),)))
        return True

    def delete_key(self, path: str) -> bool:
        """Remove a key with all below it; tell whether it was there."""
        if not self.exists(path):
            return False
        self.change(RegistryChanges(removed_keys=(path,)))
        return True

    def change(self, changes: RegistryChanges) -> None:
        """Write everything with one registration file. Raises RegistryError."""
        if not changes:
            return
        entries = [
            *(KeyEntry(self._path(v.key), ((v.name, HiveValue.make(v.type, v.data)),)) for v in changes.values),
            *(KeyEntry(self._path(path), ((name, None),)) for path, name in changes.removed_values),
            *(KeyEntry(self._path(path), remove=True) for path in changes.removed_keys),
        ]
        self._computer.put_file(_REGISTRATION_FILE, registration_file.render(entries))
        result = self._computer.run([_REG, "import", _REGISTRATION_FILE])
        if result.exit_code:
            raise RegistryError(f"reg.exe could not import {len(entries)} changes to the hives in {self._folder}", result.exit_code)

    def _path(self, path: str) -> str:
        return "HKLM\\" + self.place(path)[1]

    def _script(self) -> bytes:
        """The commands as one batch file with two entries: the exit code of ``load`` is the number of the hive that failed."""
        loads = [
            f"{batch_line([_REG, 'load', f'HKLM{chr(92)}{name}', f'{self._folder}{chr(92)}{hive}'])} || exit /b {number}"
            for number, (hive, name) in enumerate(self._hives.items(), start=1)
        ]
        unloads = [f"{batch_line([_REG, 'unload', f'HKLM{chr(92)}{name}'])} || set FAILED=1" for name in self._hives.values()]
        lines = ["@echo off", "set FAILED=0", "goto %1", ":load", *loads, "exit /b 0", ":unload", *unloads, "exit /b %FAILED%", ""]
        return "\r\n".join(lines).encode("ascii")

    def _run(self, entry: str) -> int:
        return self._computer.run([_SCRIPT, entry]).exit_code

    def _unload(self, *, quiet: bool) -> None:
        """Unload; a process that holds a key open is waited for. What was unloaded already fails no second try."""
        if not self._loaded:
            return
        self._loaded = False
        left: list[str] = []
        for attempt in range(self._attempts):
            if self._run("unload") == 0:
                return
            live = Registry(self._cim)
            left = [name for name in self._hives.values() if live.exists(name)]
            if not left:
                return
            if attempt + 1 < self._attempts:
                time.sleep(self._pause)
        if not quiet:
            raise RegistryError(f"reg.exe could not unload HKLM\\{left[0]}; another process still holds it open", 1)
