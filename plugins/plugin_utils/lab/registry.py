# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The live registry of a running lab computer, on real hive files.

An installed Windows writes every change through to the hive's file, so that pulling the plug keeps it; Windows PE keeps its own hives
in RAM. Volatile values (what a boot writes for itself) never reach a file. ``BCD00000000`` shows the system's boot store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..windows import registry_hive
from ..windows.registry_hive import HiveError, Key, Value, fold
from .hardware import write_atomically
from .tools.interface import FileSystem, Session, Win32Problem

_ROOTS = {
    "HKLM": "HKLM",
    "HKEY_LOCAL_MACHINE": "HKLM",
    "HKU": "HKU",
    "HKEY_USERS": "HKU",
    "HKCU": "HKCU",
    "HKEY_CURRENT_USER": "HKCU",
    "HKCR": "HKCR",
    "HKEY_CLASSES_ROOT": "HKCR",
}
#: hDefKey of StdRegProv [doc: win32/WmiSdk stdregprov].
ROOT_NUMBERS = {0x80000000: "HKCR", 0x80000001: "HKCU", 0x80000002: "HKLM", 0x80000003: "HKU"}
_SYSTEM_HIVES = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY")


@dataclass
class Mount:
    """A hive in the registry: its keys, the host file it is written to (None: RAM only), whether a user loaded it."""

    key: Key
    file: Path | None
    loaded: bool = False
    volatile: set[tuple[str, str]] = field(default_factory=set)
    dirty: bool = False


def read_hive(path: Path) -> Key:
    """Read a hive file; 1009 where it is damaged."""
    try:
        return registry_hive.load(path.read_bytes())
    except FileNotFoundError:
        raise Win32Problem(2, f"{path.name}: the system cannot find the file specified.") from None
    except HiveError as problem:
        raise Win32Problem(1009, "The configuration registry database is corrupt.") from problem


class LabRegistry:
    """The registry of one boot."""

    def __init__(self, config: Path | None, *, write_through: bool, boot_store: Callable[[], Key | None] | None = None) -> None:
        r"""Load the system hives from the host folder of ``System32\\config``; None makes an empty registry."""
        self._lock = threading.RLock()
        self._batch = 0
        self._mounts: dict[str, Mount] = {}
        self._boot_store = boot_store
        for name in (*_SYSTEM_HIVES, "DEFAULT"):
            file = _find(config, name) if config else None
            if file is not None:
                mounted = r"HKU\.DEFAULT" if name == "DEFAULT" else f"HKLM\\{name}"
                self._mounts[mounted.upper()] = Mount(read_hive(file), file if write_through else None)
        self._mounts["HKLM\\HARDWARE"] = Mount(registry_hive.empty(), None)

    @property
    def files(self) -> set[Path]:
        """The host files that are held open."""
        with self._lock:
            return {m.file for m in self._mounts.values() if m.file is not None}

    # --- paths

    def _resolve(self, path: str) -> tuple[str, str]:
        r"""Return ('HKLM\\SYSTEM', rest) with CurrentControlSet resolved."""
        root, dummy, rest = path.replace("/", "\\").strip("\\").partition("\\")
        short = _ROOTS.get(root.upper())
        if short is None:
            raise Win32Problem(161, f"{path}: no such registry root.")
        if short == "HKCR":
            short, rest = "HKLM", f"SOFTWARE\\Classes\\{rest}"
        if short == "HKCU":  # a service or network logon without a profile works with the default user's
            short, rest = "HKU", f".DEFAULT\\{rest}"
        name, dummy, below = rest.partition("\\")
        first, dummy, remaining = below.partition("\\")
        if short == "HKLM" and fold(name) == fold("SYSTEM") and fold(first) == fold("CurrentControlSet"):
            below = f"{self._control_set()}\\{remaining}".rstrip("\\")
        return f"{short}\\{name}".upper().rstrip("\\"), below

    def _control_set(self) -> str:
        mount = self._mounts.get("HKLM\\SYSTEM")
        current = mount.key.get_dword("Select", "Current") if mount else None
        return f"ControlSet{current or 1:03d}"

    def _mount(self, name: str) -> Mount | None:
        if name == "HKLM\\BCD00000000" and self._boot_store:
            key = self._boot_store()
            return Mount(key, None) if key is not None else None
        return self._mounts.get(name)

    def _writable(self, path: str) -> tuple[Mount, str]:
        name, rest = self._resolve(path)
        mount = self._mount(name)
        if mount is None:
            raise Win32Problem(5 if "\\" not in name or not rest else 2, "The system was unable to find the specified registry key.")
        if name == "HKLM\\BCD00000000":
            raise Win32Problem(5, "Access is denied.")  # lab rule: the boot store is changed by bcdedit and bcdboot alone
        return mount, rest

    # --- reading

    def find(self, path: str) -> Key | None:
        """Return a key, None where it is not there."""
        with self._lock:
            name, rest = self._resolve(path)
            if "\\" not in name:
                return self._root(name)
            mount = self._mount(name)
            return mount.key.find(rest) if mount else None

    def _root(self, name: str) -> Key:
        root = registry_hive.empty(name)
        for mounted, mount in self._mounts.items():
            head, dummy, tail = mounted.partition("\\")
            if head == name:
                root.subkeys[tail] = mount.key
        if name == "HKLM" and self._boot_store and (store := self._boot_store()) is not None:
            root.subkeys["BCD00000000"] = store
        return root

    def get(self, path: str, name: str) -> Value | None:
        """Return a value, None where key or value are not there."""
        key = self.find(path)
        return key.values.get(name) if key else None

    def get_string(self, path: str, name: str) -> str | None:
        """Return a text value."""
        value = self.get(path, name)
        return value.text if value else None

    def get_dword(self, path: str, name: str) -> int | None:
        """Return a number."""
        value = self.get(path, name)
        return value.number if value else None

    # --- changes

    def create(self, path: str) -> None:
        """Make a key."""
        with self._lock:
            mount, rest = self._writable(path)
            mount.key.create(rest)
            self._written(mount)

    def set(self, path: str, name: str, value: Value) -> None:
        """Set a value; the key is made."""
        with self._lock:
            mount, rest = self._writable(path)
            mount.key.set(rest, name, value)
            mount.volatile.discard((rest.upper(), name))
            self._written(mount)

    def set_volatile(self, path: str, name: str, value: Value) -> None:
        """Set a value that lasts as long as the boot."""
        with self._lock:
            mount, rest = self._writable(path)
            mount.key.set(rest, name, value)
            mount.volatile.add((rest.upper(), name))

    def delete_value(self, path: str, name: str) -> None:
        """Remove a value."""
        with self._lock:
            mount, rest = self._writable(path)
            if not mount.key.delete_value(rest, name):
                raise Win32Problem(2, "The system was unable to find the specified registry key or value.")
            self._written(mount)

    def delete_key(self, path: str) -> None:
        """Remove a key with all below it."""
        with self._lock:
            mount, rest = self._writable(path)
            if not rest:
                raise Win32Problem(5, "Access is denied.")
            if not mount.key.delete(rest):
                raise Win32Problem(2, "The system was unable to find the specified registry key or value.")
            self._written(mount)

    def load(self, mount: str, files: FileSystem, path: str) -> None:
        r"""Load a hive file under ``HKLM\X`` or ``HKU\X``; the file is held open until it is unloaded."""
        with self._lock:
            name, rest = self._resolve(mount)
            if rest or "\\" not in name:
                raise Win32Problem(87, "The parameter is incorrect.")
            if name in self._mounts:
                raise Win32Problem(5, "Access is denied.")
            files.open_read(path).close()
            host = files.host_path(path, write=True)
            if host in self.files:
                raise Win32Problem(32, "The process cannot access the file because it is being used by another process.")
            self._mounts[name] = Mount(read_hive(host), host, loaded=True)

    def unload(self, mount: str) -> None:
        """Write a loaded hive back and let go of its file."""
        with self._lock:
            name, dummy = self._resolve(mount)
            found = self._mounts.get(name)
            if found is None or not found.loaded:
                raise Win32Problem(87, "The parameter is incorrect.")
            self._flush(found)
            del self._mounts[name]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write the files once at the end instead of at every change."""
        with self._lock:
            self._batch += 1
            try:
                yield
            finally:
                self._batch -= 1
                if not self._batch:
                    for mount in self._mounts.values():
                        self._flush(mount)

    def _written(self, mount: Mount) -> None:
        mount.dirty = True
        if not self._batch:
            self._flush(mount)

    def _flush(self, mount: Mount) -> None:
        if not mount.dirty or mount.file is None:
            return
        kept: list[tuple[Key, str, Value]] = []
        for path, name in mount.volatile:
            key = mount.key.find(path)
            if key is not None and name in key.values:
                kept.append((key, name, key.values[name]))
                del key.values[name]
        write_atomically(mount.file, registry_hive.dump(mount.key))
        for key, name, value in kept:
            key.values[name] = value
        mount.dirty = False


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in folder.iterdir() if p.name.upper() == name), None) if folder.is_dir() else None


class SessionRegistry:
    """The registry as tools see it: ``load`` takes a path in the session's files."""

    def __init__(self, registry: LabRegistry, files: Callable[[Session], FileSystem]) -> None:
        """Take the registry and how a session's files are reached."""
        self._registry = registry
        self._files = files
        self.find = registry.find
        self.create = registry.create
        self.set = registry.set
        self.delete_value = registry.delete_value
        self.delete_key = registry.delete_key
        self.unload = registry.unload

    def load(self, mount: str, file_path: str, session: Session) -> None:
        """Load a hive."""
        self._registry.load(mount, self._files(session), file_path)
