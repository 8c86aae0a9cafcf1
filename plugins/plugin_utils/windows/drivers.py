# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which drivers a computer needs: Windows' own ranking of the models of many INF files for the devices that it reports.

Rank 0xSSGGTHHH, lower is better [doc: wdd/install how-windows-ranks-drivers]: signature, feature score, kind of match,
position in the device's list. Ties go to the newer date, then to the higher version.
"""

from __future__ import annotations

import enum
import ntpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ..wsman.schema import Instance
from .computer import Cim
from .inf import Inf, InfError, Model, TargetWindows

#: Signature scores, as setupapi names them [knowledge: SIGNERSCORE_*]. Since Windows 7 all trusted ones are equal.
SIGNED = 0x0D
UNSIGNED = 0x80
#: Unsigned, and installed by a section without a .nt decoration.
UNSIGNED_UNDECORATED = 0xC0

#: Enumerators whose devices need no driver from outside: made by software, not plugged in.
_SOFTWARE_ENUMERATORS = frozenset({"ROOT", "SW", "SWD", "HTREE", "STORAGE", "UMB", "MMDEVAPI", "SWMUX"})
EXTENSION_CLASS = "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}"
_LAST_POSITION = 0xFFF


@dataclass(frozen=True)
class Device:
    """A plug and play device as Windows reports it.

    Identifiers most specific first. ``problem`` 28: no driver is installed.
    """

    device_id: str
    name: str
    hardware_ids: tuple[str, ...]
    compatible_ids: tuple[str, ...] = ()
    device_class: str = ""
    manufacturer: str = ""
    problem: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return it as ``select`` and the result see it."""
        return {
            "device_id": self.device_id,
            "name": self.name,
            "class": self.device_class,
            "manufacturer": self.manufacturer,
            "hardware_ids": list(self.hardware_ids),
            "compatible_ids": list(self.compatible_ids),
            "problem": self.problem,
        }


def read_devices(cim: Cim) -> list[Device]:
    """Read all devices that may need a driver. One query.

    Windows PE enumerates fewer devices than Windows: children of a bus without driver are not there yet [knowledge].
    """
    names = "DeviceID,Name,HardwareID,CompatibleID,PNPClass,Manufacturer,ConfigManagerErrorCode"
    rows = cim.query(f"SELECT {names} FROM Win32_PnPEntity")
    devices = (_device(row) for row in rows)
    return sorted((device for device in devices if needs_driver(device)), key=lambda device: device.device_id.lower())


def _device(row: Instance) -> Device:
    def texts(name: str) -> tuple[str, ...]:
        value = row[name]
        return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),) if value else ()

    problem = row["ConfigManagerErrorCode"]
    return Device(
        str(row["DeviceID"] or ""),
        str(row["Name"] or ""),
        texts("HardwareID"),
        texts("CompatibleID"),
        str(row["PNPClass"] or ""),
        str(row["Manufacturer"] or ""),
        problem if isinstance(problem, int) else 0,
    )


def needs_driver(device: Device) -> bool:
    """Tell whether a device is hardware with identifiers a driver can match."""
    enumerator = device.device_id.split("\\", 1)[0].upper()
    return bool(device.hardware_ids) and enumerator not in _SOFTWARE_ENUMERATORS


@dataclass(frozen=True)
class DriverModel:
    """One model line with what its install section adds to the rank."""

    model: Model
    feature_score: int
    signature: int


@dataclass(frozen=True)
class DriverPackage:
    """One INF file of a source. ``path`` is relative to the source, with backslashes; ``content`` is its SHA-256."""

    source: int
    path: str
    device_class: str
    class_guid: str
    provider: str
    catalog: str
    date: date | None
    version: tuple[int, ...]
    extension_id: str
    models: tuple[DriverModel, ...]
    content: str = ""
    categories: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The INF file's own name."""
        return ntpath.basename(self.path)

    @property
    def is_extension(self) -> bool:
        """Whether it adds to another driver instead of being one."""
        return self.class_guid == EXTENSION_CLASS or self.device_class.lower() == "extension"

    @property
    def is_signed(self) -> bool:
        """Whether it names a catalogue that lies beside it. The signature itself is checked by Windows, not here."""
        return bool(self.catalog)

    @property
    def describe(self) -> str:
        """Return the package as the user reads it: path, provider, date, version."""
        number = ".".join(str(part) for part in self.version)
        facts = ", ".join(part for part in (self.provider, self.date.isoformat() if self.date else "", number) if part)
        return f"{self.path} ({facts})" if facts else self.path


def read_package(
    content: bytes,
    target: TargetWindows,
    *,
    path: str,
    siblings: Iterable[str],
    source: int = 0,
    sha256: str = "",
    categories: Iterable[str] = (),
) -> DriverPackage | None:
    """Read one INF for a Windows.

    None where it holds no driver for it. ``siblings``: names of the files in its folder.
    """
    try:
        inf = Inf(content)
    except InfError:
        return None
    models = inf.models(target)
    if not models:
        return None
    version = inf.version
    catalog = version.catalog(target.architecture)
    if catalog.lower() not in {name.lower() for name in siblings}:
        catalog = ""
    sections: dict[str, tuple[int, int]] = {}
    drivers = []
    for model in models:
        if not model.hardware_id and not model.compatible_ids:
            continue
        if model.install_section not in sections:
            sections[model.install_section] = _scores(inf, model.install_section, target.architecture, bool(catalog))
        drivers.append(DriverModel(model, *sections[model.install_section]))
    return DriverPackage(
        source=source,
        path=path,
        device_class=version.device_class,
        class_guid=version.class_guid,
        provider=version.provider,
        catalog=catalog,
        date=version.driver_date,
        version=version.driver_version,
        extension_id=version.extension_id,
        models=tuple(drivers),
        content=sha256,
        categories=frozenset(categories),
    )


def _scores(inf: Inf, name: str, architecture: str, signed: bool) -> tuple[int, int]:
    section = inf.install_section(name, architecture)
    unsigned = UNSIGNED if ".nt" in section[len(name) :].lower() else UNSIGNED_UNDECORATED
    return inf.feature_score(section), SIGNED if signed else unsigned


class MatchKind(enum.IntEnum):
    """Which of the device's identifiers met which of the INF's; the number is T of the rank."""

    HARDWARE_HARDWARE = 0
    HARDWARE_COMPATIBLE = 1
    COMPATIBLE_HARDWARE = 2
    COMPATIBLE_COMPATIBLE = 3

    @property
    def describe(self) -> str:
        """Return it as the user reads it."""
        device, inf = self.name.lower().split("_")
        return f"{device} id of the device = {inf} id of the INF"


@dataclass(frozen=True)
class Match:
    """A package that drives a device, and why it ranks as it does."""

    device: Device
    package: DriverPackage
    model: DriverModel
    kind: MatchKind
    matched_id: str
    rank: int

    @property
    def order(self) -> tuple[Any, ...]:
        """Return the sort key.

        Rank, then newer date, higher version, and the path so that equals come out the same each time.
        """
        package = self.package
        age = -(package.date.toordinal() if package.date else 0)
        return (
            self.rank,
            age,
            tuple(-part for part in (*package.version, *[0] * 8)[:8]),
            package.source,
            package.path.lower(),
        )

    @property
    def why(self) -> str:
        """Return one line: rank, match and identifier."""
        return f"rank 0x{self.rank:08X}, {self.kind.describe}: {self.matched_id}"


def rank(model: DriverModel, kind: MatchKind, device_position: int, inf_position: int = 0) -> int:
    """Return 0xSSGGTHHH. HHH is the position in the device's list; for two compatible ids the INF's counts by 0x100."""
    position = device_position + (inf_position * 0x100 if kind is MatchKind.COMPATIBLE_COMPATIBLE else 0)
    return model.signature << 24 | model.feature_score << 16 | int(kind) << 12 | min(position, _LAST_POSITION)


@dataclass
class DriverIndex:
    """All models of all packages by identifier, so that a device is matched by a few look-ups."""

    packages: list[DriverPackage] = field(default_factory=list)
    _by_hardware_id: dict[str, list[tuple[DriverPackage, DriverModel]]] = field(default_factory=dict, repr=False)
    _by_compatible_id: dict[str, list[tuple[DriverPackage, DriverModel, int]]] = field(default_factory=dict, repr=False)

    def add(self, package: DriverPackage) -> None:
        """Add a package."""
        self.packages.append(package)
        for driver in package.models:
            if driver.model.hardware_id:
                self._by_hardware_id.setdefault(driver.model.hardware_id.lower(), []).append((package, driver))
            for position, identifier in enumerate(driver.model.compatible_ids):
                self._by_compatible_id.setdefault(identifier.lower(), []).append((package, driver, position))

    def matches(self, device: Device) -> list[Match]:
        """Return every package that drives the device with its best model, best first."""
        best: dict[int, Match] = {}
        for match in self._all_matches(device):
            key = id(match.package)
            if key not in best or match.rank < best[key].rank:
                best[key] = match
        return sorted(best.values(), key=lambda match: match.order)

    def _all_matches(self, device: Device) -> Iterable[Match]:
        kinds = (
            (device.hardware_ids, MatchKind.HARDWARE_HARDWARE, MatchKind.HARDWARE_COMPATIBLE),
            (device.compatible_ids, MatchKind.COMPATIBLE_HARDWARE, MatchKind.COMPATIBLE_COMPATIBLE),
        )
        for identifiers, hardware_kind, compatible_kind in kinds:
            for position, identifier in enumerate(identifiers):
                key = identifier.lower()
                for package, model in self._by_hardware_id.get(key, ()):
                    yield Match(device, package, model, hardware_kind, identifier, rank(model, hardware_kind, position))
                for package, model, place in self._by_compatible_id.get(key, ()):
                    score = rank(model, compatible_kind, position, place)
                    yield Match(device, package, model, compatible_kind, identifier, score)


@dataclass(frozen=True)
class DeviceChoice:
    """What was found for one device: chosen packages, the ones that rank lower, and unsigned ones left out."""

    device: Device
    chosen: tuple[Match, ...] = ()
    others: tuple[Match, ...] = ()
    unsigned: tuple[Match, ...] = ()

    def as_result(self) -> dict[str, Any]:
        """Return it as the result shows it."""
        return {
            "device": self.device.name or self.device.device_id,
            "device_id": self.device.device_id,
            "chosen": [{"driver": match.package.describe, "why": match.why} for match in self.chosen],
            "others": [{"driver": match.package.describe, "why": match.why} for match in self.others],
            "unsigned": [match.package.describe for match in self.unsigned],
        }


@dataclass(frozen=True)
class Selection:
    """The packages to add, in order, and what was found for each device."""

    packages: tuple[DriverPackage, ...]
    devices: tuple[DeviceChoice, ...]

    @property
    def without_driver(self) -> tuple[Device, ...]:
        """Devices that report 'no driver' (28) and for which nothing was chosen."""
        return tuple(choice.device for choice in self.devices if not choice.chosen and choice.device.problem == 28)


def choose(
    index: DriverIndex,
    devices: Sequence[Device],
    *,
    best_match: bool = True,
    allow_unsigned: bool = False,
    categories: frozenset[str] = frozenset(),
) -> Selection:
    """Choose packages for devices: the best match each, or all compatible ones.

    Categories are a logical OR; none means all.

    Extension INFs add to the chosen driver: the best of each extension id comes along.
    """
    choices = tuple(_choose_for(index, device, best_match, allow_unsigned, categories) for device in devices)
    packages: dict[tuple[int, str], DriverPackage] = {}
    for choice in choices:
        for match in choice.chosen:
            packages.setdefault((match.package.source, match.package.path.lower()), match.package)
    return Selection(tuple(packages.values()), choices)


def _choose_for(index: DriverIndex, device: Device, best_match: bool, allow_unsigned: bool, categories: frozenset[str]) -> DeviceChoice:
    matches = [m for m in index.matches(device) if not categories or m.package.categories & categories]
    usable = [match for match in matches if allow_unsigned or match.package.is_signed]
    unsigned = tuple(match for match in matches if match not in usable)
    chosen = usable
    if best_match:
        bases = [match for match in usable if not match.package.is_extension]
        chosen = bases[:1] + _best_extensions(usable)
    return DeviceChoice(device, tuple(chosen), tuple(match for match in usable if match not in chosen), unsigned)


def _best_extensions(matches: Sequence[Match]) -> list[Match]:
    best: dict[str, Match] = {}
    for match in matches:
        if match.package.is_extension:
            best.setdefault(match.package.extension_id or match.package.path.lower(), match)
    return list(best.values())


def store_architecture(architecture: str) -> str:
    """Return an architecture as folder names of the driver store write it."""
    return {"x64": "amd64", "x86": "x86", "arm64": "arm64", "amd64": "amd64"}.get(architecture.lower(), architecture.lower())


def store_folders(names: Iterable[str], package: DriverPackage, architecture: str) -> list[str]:
    r"""Return the folders of ``DriverStore\FileRepository`` that may hold a package: ``<inf>_<arch>_<hash>``."""
    prefix = f"{package.name}_{store_architecture(architecture)}_".lower()
    return [name for name in names if name.lower().startswith(prefix)]


def add_driver(program: str, image: str, inf: str, log: str, *, force_unsigned: bool) -> list[str]:
    """DISM's command line for one driver into an image that is not running [doc: cp/dism-driver-servicing]."""
    force = ["/ForceUnsigned"] if force_unsigned else []
    return [program, "/English", f"/LogPath:{log}", f"/Image:{image}", "/Add-Driver", f"/Driver:{inf}", *force]


def summary(selection: Selection) -> Mapping[str, Any]:
    """Return what was chosen and why, device by device, for the result and check mode."""
    return {
        "devices": [choice.as_result() for choice in selection.devices if choice.chosen or choice.others or choice.unsigned],
        "without_driver": [device.name or device.device_id for device in selection.without_driver],
    }
