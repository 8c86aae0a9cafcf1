# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Driver packages and update packages in a Windows on a volume or in the running one; what dism, pnputil and wusa share.

A driver goes where Windows puts it: ``DriverStore\FileRepository\<inf>_<architecture>_<hash>`` and ``INF\oem<n>.inf``. A package of
the lab is a declared JSON file with a Windows name (docs/lab.md); its files and registry values are real.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ntpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...windows import registry_hive
from ...windows.inf import Inf, InfError
from ...windows.registry_hive import Key, Value
from . import files
from .interface import ToolCall

_PACKAGES = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
_PENDING = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending"
#: The states of a package [knowledge: windows-mechanics 9.3].
INSTALLED, PENDING = 112, 96
_STATES = {INSTALLED: "Installed", PENDING: "Install Pending", 80: "Superseded", 64: "Staged"}
#: Package does not apply, package cannot be read, driver is not signed.
NOT_APPLICABLE, BAD_PACKAGE, UNSIGNED = 0x800F081E, 0x80070057, 0x800F0247
_HIVES = {"SOFTWARE": "SOFTWARE", "SYSTEM": "SYSTEM"}
_ARCHITECTURES = {"x86": "x86", "amd64": "amd64", "arm64": "arm64"}


class Refused(Exception):
    """A package or driver is not taken, with the code that the tool ends with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Windows:
    r"""A Windows: ``root`` is its drive (``W:``); ``running`` whether it is the one that runs."""

    root: str
    running: bool

    @property
    def folder(self) -> str:
        """Its Windows folder."""
        return rf"{self.root}\Windows"

    def place(self, path: str) -> str:
        r"""Return where a path that the package calls ``C:\…`` lies now."""
        return self.root + path[2:] if re.match(r"[Cc]:\\", path) else path


def online(call: ToolCall) -> Windows:
    """Return the running Windows."""
    return Windows(call.machine.system_drive, running=True)


def offline(call: ToolCall, root: str) -> Windows:
    """Return the Windows on a volume."""
    return Windows(root.rstrip("\\"), running=False)


# --- the registry of either


def set_values(call: ToolCall, windows: Windows, values: list[tuple[str, str | None, Value | None]]) -> None:
    r"""Set values ``(HKLM\SOFTWARE\…, name, value)``; with no name only the key is made."""
    if windows.running:
        for key, name, value in values:
            if name is None or value is None:
                call.machine.registry.create(key)
            else:
                call.machine.registry.set(key, name, value)
        return
    by_hive: dict[str, list[tuple[str, str | None, Value | None]]] = {}
    for key, name, value in values:
        hive, path = _hive_path(key)
        by_hive.setdefault(hive, []).append((path, name, value))
    for hive, items in by_hive.items():
        file = rf"{windows.folder}\System32\config\{hive}"
        root = registry_hive.load(call.files.read(file))
        for path, name, value in items:
            path = _control_set(root, path) if hive == "SYSTEM" else path
            if name is None or value is None:
                root.create(path)
            else:
                root.set(path, name, value)
        call.files.write(file, registry_hive.dump(root))


def find_key(call: ToolCall, windows: Windows, key: str) -> Key | None:
    """Return a key of either registry for reading."""
    if windows.running:
        return call.machine.registry.find(key)
    hive, path = _hive_path(key)
    root = registry_hive.load(call.files.read(rf"{windows.folder}\System32\config\{hive}"))
    return root.find(_control_set(root, path) if hive == "SYSTEM" else path)


def _hive_path(key: str) -> tuple[str, str]:
    parts = key.split("\\", 2)
    if len(parts) < 3 or parts[0].upper() not in ("HKLM", "HKEY_LOCAL_MACHINE") or parts[1].upper() not in _HIVES:
        raise Refused(BAD_PACKAGE, f"The registry key {key} is not below HKLM\\SOFTWARE or HKLM\\SYSTEM.")
    return _HIVES[parts[1].upper()], parts[2]


def _control_set(root: Key, path: str) -> str:
    """Offline there is no CurrentControlSet: the number stands in Select."""
    current = root.get_dword("Select", "Current") or 1
    return re.sub(r"^CurrentControlSet(?=\\|$)", f"ControlSet{current:03}", path, flags=re.IGNORECASE)


# --- what declared files bring


def read_declaration(call: ToolCall, path: str, mark: str) -> Mapping[str, Any] | None:
    """Return the JSON of a declared file, None where the file is something else."""
    if not call.files.is_file(path) or call.files.size(path) > 16 * 1024 * 1024:
        return None
    with call.files.open_read(path) as file:
        if file.read(1) != b"{":
            return None
    try:
        found = json.loads(call.files.read(path))
    except ValueError:
        return None
    return found if isinstance(found, dict) and mark in found else None


def put_files(call: ToolCall, windows: Windows, declared: Mapping[str, Any]) -> None:
    """Write the declared files: each has ``text`` or ``base64``; a ``version`` becomes a lab version mark in front of the content."""
    for name, content in declared.items():
        path = windows.place(name)
        folder = ntpath.dirname(path)
        if not call.files.is_directory(folder):
            call.files.make_directories(folder)
        call.files.write(path, file_content(content))


def file_content(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a declared file; ``version`` is kept as a first line ``lab-file-version: 1.2.3.4``."""
    data = base64.b64decode(content["base64"]) if "base64" in content else str(content.get("text", "")).encode()
    version = content.get("version")
    return f"lab-file-version: {version}\r\n".encode() + data if version else data


def registry_values(declared: list[Mapping[str, Any]]) -> list[tuple[str, str | None, Value | None]]:
    """Return declared registry values as they are set."""
    found: list[tuple[str, str | None, Value | None]] = []
    for entry in declared:
        if "name" not in entry:
            found.append((entry["key"], None, None))
            continue
        try:
            value = Value.make(entry.get("type", "REG_SZ"), entry.get("value", ""))
        except ValueError as error:
            raise Refused(BAD_PACKAGE, str(error)) from None
        found.append((entry["key"], entry["name"], value))
    return found


# --- packages


def add_package(call: ToolCall, windows: Windows, path: str) -> bool:
    """Install a declared package; tell whether a restart is needed. Raises Refused."""
    package = read_declaration(call, path, "lab_package")
    if package is None or not re.fullmatch(r"[^\\/:*?\"<>|]+", str(package.get("identity", ""))):
        raise Refused(BAD_PACKAGE, "The file is no package.")
    if not _applies(call, windows, package.get("applies_to")):
        raise Refused(NOT_APPLICABLE, "The specified package is not applicable to this image.")
    identity = str(package["identity"])
    known = find_key(call, windows, _PACKAGES)
    if known is not None and (known.get_dword(identity, "CurrentState") or 0) in (INSTALLED, PENDING, 80):
        return False
    call.machine.wait(float(package.get("seconds", 0)), call.cancelled)
    restart = bool(package.get("restart")) and windows.running
    put_files(call, windows, package.get("files", {}))
    state = PENDING if restart else INSTALLED
    values = registry_values(list(package.get("registry", [])))
    values += [
        (rf"{_PACKAGES}\{identity}", "CurrentState", Value.dword(state)),
        (rf"{_PACKAGES}\{identity}", "InstallName", Value.sz(f"{identity}.mum")),
        (rf"{_PACKAGES}\{identity}", "InstallClient", Value.sz("DISM Package Manager Provider")),
    ]
    if restart:
        values.append((_PENDING, None, None))
    set_values(call, windows, values)
    return restart


def _applies(call: ToolCall, windows: Windows, rule: Any) -> bool:
    """``applies_to``: none, or build numbers (one or a list) as ``{"build": [26100]}``, with ``edition`` in the same way."""
    if not rule:
        return True
    key = find_key(call, windows, r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion")
    if key is None:
        return False
    rules = rule if isinstance(rule, Mapping) else {"build": rule}
    for name, value_name in (("build", "CurrentBuildNumber"), ("edition", "EditionID")):
        wanted = rules.get(name)
        if wanted is None:
            continue
        listed = {str(item).lower() for item in (wanted if isinstance(wanted, list) else [wanted])}
        if (key.get_string("", value_name) or "").lower() not in listed:
            return False
    return True


def list_packages(call: ToolCall, windows: Windows) -> list[tuple[str, str]]:
    """Return the packages with their state in words."""
    key = find_key(call, windows, _PACKAGES)
    return [(name, _STATES.get(k.get_dword("", "CurrentState") or 0, "Not Present")) for name, k in key.subkeys.items()] if key else []


# --- drivers


@dataclass(frozen=True)
class StoredDriver:
    """A driver of the store."""

    published: str
    original: str
    version: str
    folder: str


def find_drivers(call: ToolCall, path: str, *, recurse: bool) -> list[str]:
    """Return the INF files that a path means: itself, those of a folder, or all below it."""
    if not call.files.is_directory(path):
        return [path]
    found = files.walk(call, path) if recurse else [ntpath.join(path, name) for name in call.files.names(path)]
    return [name for name in found if name.lower().endswith(".inf") and call.files.is_file(name)]


def add_driver(call: ToolCall, windows: Windows, inf_path: str, *, force_unsigned: bool = False) -> str:
    """Put a driver package into the driver store and return its published name; the same package is not stored twice."""
    content = call.files.read(inf_path)
    try:
        inf = Inf(content)
        version = inf.version
    except InfError as error:
        raise Refused(0xE0000100, f"The file is no INF file: {error}") from None
    if "version" not in inf or not version.provider:
        raise Refused(0xE0000100, "The INF file has no Version section with a provider.")
    architecture = _architecture(call, windows)
    catalog = version.catalog(architecture)
    source = ntpath.dirname(inf_path)
    if not force_unsigned and not (catalog and call.files.is_file(ntpath.join(source, catalog))):
        raise Refused(UNSIGNED, "The driver package is not signed.")
    name = ntpath.basename(inf_path).lower()
    digest = hashlib.sha256(content).hexdigest()[:16]
    folder = rf"{windows.folder}\System32\DriverStore\FileRepository\{name}_{architecture}_{digest}"
    if not call.files.is_directory(folder):
        call.files.make_directories(folder)
        for file in files.walk(call, source):
            target = ntpath.join(folder, ntpath.relpath(file, source))
            if not call.files.is_directory(ntpath.dirname(target)):
                call.files.make_directories(ntpath.dirname(target))
            call.files.copy(file, target)
    return _publish(call, windows, content)


def _publish(call: ToolCall, windows: Windows, content: bytes) -> str:
    r"""Copy an INF to ``INF\oem<n>.inf``; one of the same content keeps its name."""
    folder = rf"{windows.folder}\INF"
    if not call.files.is_directory(folder):
        call.files.make_directories(folder)
    numbers = set()
    for name in call.files.names(folder):
        match = re.fullmatch(r"oem(\d+)\.inf", name, re.IGNORECASE)
        if match:
            if call.files.read(ntpath.join(folder, name)) == content:
                return name.lower()
            numbers.add(int(match[1]))
    published = f"oem{next(n for n in range(len(numbers) + 1) if n not in numbers)}.inf"
    call.files.write(ntpath.join(folder, published), content)
    return published


def _architecture(call: ToolCall, windows: Windows) -> str:
    """Return the architecture of a Windows as driver folders name it, from its own environment settings."""
    key = find_key(call, windows, r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment")
    name = (key.get_string("", "PROCESSOR_ARCHITECTURE") or "" if key else "").lower()
    return _ARCHITECTURES.get(name, "amd64")


def list_drivers(call: ToolCall, windows: Windows) -> Iterator[StoredDriver]:
    """Yield the drivers that were added (``oem*.inf``)."""
    repository = rf"{windows.folder}\System32\DriverStore\FileRepository"
    stored = {}
    for folder in call.files.names(repository) if call.files.is_directory(repository) else []:
        name = folder.rsplit("_", 2)[0]
        path = rf"{repository}\{folder}\{name}"
        if call.files.is_file(path):
            stored[call.files.read(path)] = (name, folder)
    folder = rf"{windows.folder}\INF"
    for published in call.files.names(folder) if call.files.is_directory(folder) else []:
        if re.fullmatch(r"oem\d+\.inf", published, re.IGNORECASE):
            content = call.files.read(rf"{folder}\{published}")
            original, place = stored.get(content, (published, ""))
            yield StoredDriver(published, original, ".".join(str(n) for n in Inf(content).version.driver_version), place)
