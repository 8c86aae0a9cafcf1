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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from ..wsman.schema import Value
from .computer import Cim, Computer

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


def split_key(path: str) -> tuple[int, str]:
    """Return the root's number and the path below it."""
    first, _, rest = path.partition("\\")
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


# --- reg.exe, for the registry of an applied Windows in Windows PE [doc: wsd/reg]


def reg_load(name: str, file: str) -> list[str]:
    r"""Return the command that loads a hive file as ``HKLM\<name>``."""
    return ["reg.exe", "load", rf"HKLM\{name}", file]


def reg_unload(name: str) -> list[str]:
    """Return the command that unloads it. It fails while any process has a key of it open."""
    return ["reg.exe", "unload", rf"HKLM\{name}"]


def reg_add(value: RegistryValue) -> list[str]:
    """Return the command that sets one value, and makes its key."""
    root, path = split_key(value.key)
    name = ["/v", value.name] if value.name else ["/ve"]
    data = ["/d", _reg_data(value)]
    return ["reg.exe", "add", rf"{_SHORT[root]}\{path}", *name, "/t", value.type, *data, "/f"]


def reg_delete_value(path: str, name: str) -> list[str]:
    """Return the command that removes one value."""
    root, below = split_key(path)
    return ["reg.exe", "delete", rf"{_SHORT[root]}\{below}", *(["/v", name] if name else ["/ve"]), "/f"]


def reg_delete_key(path: str) -> list[str]:
    """Return the command that removes a key with all below it."""
    root, below = split_key(path)
    return ["reg.exe", "delete", rf"{_SHORT[root]}\{below}", "/f"]


def _reg_data(value: RegistryValue) -> str:
    if isinstance(value.data, bytes):
        return value.data.hex()
    if isinstance(value.data, str | int):
        return str(value.data)
    # reg.exe's own separator; an empty text inside a REG_MULTI_SZ would end it.
    return "\\0".join(value.data)


class OfflineRegistry(Registry):
    r"""The registry of a Windows that is not running, by the names it has when it runs.

    Used as a context: hives are loaded as ``HKLM\OSD_SYSTEM`` and ``HKLM\OSD_SOFTWARE`` on entry and unloaded on exit. Values are read
    through StdRegProv, which sees loaded hives, and written with ``reg.exe``. ``CurrentControlSet`` does not exist offline: it stands
    for the set that ``Select\Current`` names.
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
        self._loaded: list[str] = []
        self._control_set = ""

    def __enter__(self) -> OfflineRegistry:
        """Load the hives."""
        try:
            for hive, name in self._hives.items():
                self._load(name, rf"{self._folder}\{hive}")
            if "SYSTEM" in self._hives:
                current = self.get_dword(r"SYSTEM\Select", "Current") or 1
                self._control_set = f"ControlSet{current:03}"
        except BaseException:
            self._unload_all(quiet=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Unload the hives, even after an error."""
        self._unload_all(quiet=error is not None)

    @property
    def control_set(self) -> str:
        """The set that the Windows starts with, ``ControlSet001``."""
        return self._control_set

    def place(self, path: str) -> tuple[int, str]:
        """Return root and path in the loaded hives. ValueError for a key of a hive that is not loaded."""
        root, below = split_key(path)
        first, _, rest = below.partition("\\")
        name = self._hives.get(first.upper())
        if root != HKEY_LOCAL_MACHINE or name is None:
            raise ValueError(f"The key {path} lies in none of the loaded hives ({', '.join(self._hives)})")
        head, _, tail = rest.partition("\\")
        if first.upper() == "SYSTEM" and head.lower() == "currentcontrolset":
            rest = f"{self._control_set}\\{tail}" if tail else self._control_set
        return HKEY_LOCAL_MACHINE, f"{name}\\{rest}" if rest else name

    def set(self, value: RegistryValue) -> None:
        """Set a value with reg.exe."""
        self._reg(reg_add(RegistryValue(self._path(value.key), value.name, value.type, value.data)), value.key)

    def delete_value(self, path: str, name: str) -> bool:
        """Remove a value with reg.exe; tell whether it was there. Two requests where it was."""
        names = self.enum_values(path)
        if names is None or name.lower() not in {n.lower() for n in names}:
            return False
        self._reg(reg_delete_value(self._path(path), name), path)
        return True

    def delete_key(self, path: str) -> bool:
        """Remove a key with all below it with reg.exe; tell whether it was there. Two requests where it was."""
        if not self.exists(path):
            return False
        self._reg(reg_delete_key(self._path(path)), path)
        return True

    def set_all(self, values: Iterable[RegistryValue]) -> None:
        """Set many values, in order."""
        for value in values:
            self.set(value)

    def _path(self, path: str) -> str:
        return "HKLM\\" + self.place(path)[1]

    def _reg(self, argv: list[str], key: str) -> None:
        result = self._computer.run(argv)
        if result.exit_code:
            raise RegistryError(f"reg.exe {argv[1]} failed for {key} in {self._folder}", result.exit_code)

    def _load(self, name: str, file: str) -> None:
        result = self._computer.run(reg_load(name, file))
        if result.exit_code:
            # A controller that was killed left it loaded.
            self._computer.run(reg_unload(name))
            result = self._computer.run(reg_load(name, file))
        if result.exit_code:
            raise RegistryError(f"reg.exe could not load the hive {file}", result.exit_code)
        self._loaded.append(name)

    def _unload_all(self, *, quiet: bool) -> None:
        failed = [(name, code) for name in reversed(self._loaded) if (code := self._unload(name))]
        self._loaded.clear()
        if failed and not quiet:
            name, code = failed[0]
            raise RegistryError(f"reg.exe could not unload HKLM\\{name}; another process still holds it open", code)

    def _unload(self, name: str) -> int:
        code = 0
        for attempt in range(self._attempts):
            code = self._computer.run(reg_unload(name)).exit_code
            if code == 0:
                return 0
            if attempt + 1 < self._attempts:
                time.sleep(self._pause)
        return code
