# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks, partitions and volumes: their state as ``MSFT_*`` tells it, a layout as the editor describes it, and diskpart's script.

Diskpart is the mechanism for writing because the storage classes have failed in Windows PE for years; the classes are read only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..wsman.schema import Instance
from .cim_classes import CIMV2, STORAGE
from .computer import Cim

MIB = 1024 * 1024

#: GPT partition types [doc: stor/msft-partition].
EFI_SYSTEM = "{c12a7328-f81f-11d2-ba4b-00a0c93ec93b}"
MICROSOFT_RESERVED = "{e3c9e316-0b5c-4db8-817d-f92df00215ae}"
BASIC_DATA = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
RECOVERY = "{de94bba4-06d1-4d40-a16a-bfd50179d6ac}"
GPT_TYPES = {"EFI": EFI_SYSTEM, "MSR": MICROSOFT_RESERVED, "Primary": BASIC_DATA, "Recovery": RECOVERY}
#: MBR partition types; 0x27 is what Windows' own recovery partition has.
MBR_RECOVERY = 0x27
MBR_TYPES = {"NTFS": 0x07, "FAT32": 0x0C, "": 0x07}

#: ``MSFT_Disk.BusType`` [doc: stor/msft-disk].
BUS_NAMES = {
    1: "SCSI", 2: "ATAPI", 3: "ATA", 4: "1394", 6: "Fibre Channel", 7: "USB", 8: "RAID", 9: "iSCSI", 10: "SAS", 11: "SATA",
    12: "SD", 13: "MMC", 14: "virtual", 15: "file-backed virtual", 16: "Storage Spaces", 17: "NVMe",
}  # fmt: skip
#: Buses on which a disk is never the reference computer's own: 1394, USB, iSCSI, SD, file-backed.
REMOVABLE_BUSES = frozenset({4, 7, 9, 12, 15})
STYLES = {0: "RAW", 1: "MBR", 2: "GPT"}
FIXED_DRIVE = 3

#: What the design asks diskpart for; others get the next free letter.
PREFERRED_LETTERS = {"EFI": "S", "Recovery": "R"}
WINDOWS_LETTER = "W"
SYSTEM_LETTER = "S"


@dataclass(frozen=True)
class VolumeState:
    r"""A volume: its ``\\?\Volume{guid}\\`` path, drive letter ('' without one), file system ('' unformatted), sizes in bytes."""

    path: str
    letter: str
    file_system: str
    label: str
    size: int
    free: int
    drive_type: int


@dataclass(frozen=True)
class PartitionState:
    """A partition as it is. ``gpt_type`` is lower case with braces, '' on an MBR disk; sizes and offset in bytes."""

    number: int
    offset: int
    size: int
    gpt_type: str
    mbr_type: int
    guid: str
    letter: str
    active: bool
    volume: VolumeState | None = None

    @property
    def drive_letter(self) -> str:
        """The letter, as partition or volume tells it; '' where there is none."""
        return self.letter or (self.volume.letter if self.volume else "")

    @property
    def kind(self) -> str:
        """The editor's word for the type: EFI, MSR, Recovery or Primary."""
        if self.gpt_type:
            return next((word for word, guid in GPT_TYPES.items() if guid == self.gpt_type), "Primary")
        return "Recovery" if self.mbr_type == MBR_RECOVERY else "Primary"


@dataclass(frozen=True)
class DiskState:
    """A disk as it is; ``style`` is RAW, MBR or GPT, ``bus`` the number of ``MSFT_Disk.BusType``."""

    number: int
    size: int
    style: str
    bus: int
    model: str
    serial: str
    read_only: bool
    offline: bool
    partitions: tuple[PartitionState, ...] = ()

    @property
    def describe(self) -> str:
        """One line that names the disk to a person."""
        bus = BUS_NAMES.get(self.bus, f"bus type {self.bus}")
        return f"disk {self.number}: {self.model or 'unnamed'}, {bus}, {gigabytes(self.size)}, serial {self.serial or 'unknown'}"


def gigabytes(size: int) -> str:
    """Return a size in bytes as people read it."""
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"


def read_disks(cim: Cim) -> tuple[DiskState, ...]:
    """Return every disk with its partitions and volumes, in the order of their numbers. Three requests."""
    volumes = {_text(v, "Path").lower(): _volume(v) for v in cim.query(f"SELECT {_VOLUME} FROM MSFT_Volume", STORAGE)}
    partitions = cim.query(f"SELECT {_PARTITION} FROM MSFT_Partition", STORAGE)
    disks = cim.query(f"SELECT {_DISK} FROM MSFT_Disk", STORAGE)
    return tuple(sorted((_disk(disk, partitions, volumes) for disk in disks), key=lambda disk: disk.number))


_VOLUME = "Path,DriveLetter,FileSystem,FileSystemLabel,Size,SizeRemaining,DriveType"
_PARTITION = "DiskNumber,PartitionNumber,Offset,Size,GptType,MbrType,Guid,DriveLetter,AccessPaths,IsActive"
_DISK = "Number,Size,PartitionStyle,BusType,Model,SerialNumber,IsReadOnly,IsOffline"


def _text(instance: Instance, name: str) -> str:
    value = instance[name]
    return value.strip() if isinstance(value, str) else ""


def _number(instance: Instance, name: str) -> int:
    value = instance[name]
    return value if isinstance(value, int) else 0


def _letter(instance: Instance) -> str:
    """``DriveLetter`` is a char16: a character, or NUL where there is no letter."""
    return _text(instance, "DriveLetter").strip("\0").upper()


def _volume(instance: Instance) -> VolumeState:
    return VolumeState(
        path=_text(instance, "Path"),
        letter=_letter(instance),
        file_system=_text(instance, "FileSystem"),
        label=_text(instance, "FileSystemLabel"),
        size=_number(instance, "Size"),
        free=_number(instance, "SizeRemaining"),
        drive_type=_number(instance, "DriveType"),
    )


def _disk(disk: Instance, partitions: Iterable[Instance], volumes: Mapping[str, VolumeState]) -> DiskState:
    number = _number(disk, "Number")
    own = (_partition(p, volumes) for p in partitions if _number(p, "DiskNumber") == number)
    return DiskState(
        number=number,
        size=_number(disk, "Size"),
        style=STYLES.get(_number(disk, "PartitionStyle"), "RAW"),
        bus=_number(disk, "BusType"),
        model=_text(disk, "Model"),
        serial=_text(disk, "SerialNumber"),
        read_only=bool(disk["IsReadOnly"]),
        offline=bool(disk["IsOffline"]),
        partitions=tuple(sorted(own, key=lambda partition: partition.offset)),
    )


def _partition(partition: Instance, volumes: Mapping[str, VolumeState]) -> PartitionState:
    paths = partition["AccessPaths"]
    found = [volumes[str(path).lower()] for path in paths if str(path).lower() in volumes] if isinstance(paths, list) else []
    return PartitionState(
        number=_number(partition, "PartitionNumber"),
        offset=_number(partition, "Offset"),
        size=_number(partition, "Size"),
        gpt_type=_text(partition, "GptType").lower(),
        mbr_type=_number(partition, "MbrType"),
        guid=_text(partition, "Guid").lower(),
        letter=_letter(partition),
        active=bool(partition["IsActive"]),
        volume=found[0] if found else None,
    )


def used_letters(cim: Cim) -> frozenset[str]:
    """Return the drive letters in use, removable drives and the RAM disk included. One request."""
    rows = cim.query("SELECT DriveLetter FROM Win32_Volume", CIMV2)
    return frozenset(_text(row, "DriveLetter").rstrip(":").upper() for row in rows) - {""}


@dataclass(frozen=True)
class PartitionSpec:
    """One row of the editor's partition list. ``size`` None means all that remains; ``Percent`` is of what is still free."""

    type: str
    name: str = ""
    size: int | None = None
    size_units: str = "MB"
    file_system: str = ""
    quick_format: bool = True
    bootable: bool = False
    assign_volume_letter: bool = True


@dataclass(frozen=True)
class PlannedPartition:
    """A partition to be made: its number on the disk, whole MiB (None: to the end of the disk) and its letter ('' for none)."""

    spec: PartitionSpec
    number: int
    size_mib: int | None
    letter: str


class LayoutError(ValueError):
    """A layout that cannot be made on the disk; the message names the partition and the numbers."""


#: ConfigMgr's wizard makes such disks; the text at hand gives no sizes, so Microsoft's manufacturing samples and today's safe
#: recovery size are used (260 MB for 4K-native disks, MSR 16 MB, 990 MB) [doc: cp/configure-uefigpt-based-hard-drive-partitions].
DEFAULT_GPT = (
    PartitionSpec("EFI", "System", 260, "MB", "FAT32"),
    PartitionSpec("MSR", "", 16),
    PartitionSpec("Primary", "Windows", None, "MB", "NTFS"),
    PartitionSpec("Recovery", "Recovery", 990, "MB", "NTFS"),
)
DEFAULT_MBR = (
    PartitionSpec("Primary", "System Reserved", 550, "MB", "NTFS", bootable=True),
    PartitionSpec("Primary", "Windows", None, "MB", "NTFS"),
    PartitionSpec("Recovery", "Recovery", 990, "MB", "NTFS"),
)
#: The first MiB holds the partition table, the last one GPT's second copy.
_TABLE_MIB = 2
_UNIT_MIB = {"MB": 1, "GB": 1024}
_OPEN_END = 2**63
#: MBR cannot describe more than four primary partitions, nor anything past 2 TiB.
_MBR_PRIMARIES = 4
_MBR_LIMIT = 2 * 1024**4


def plan_layout(specs: Sequence[PartitionSpec], style: str, disk_size: int, used: frozenset[str]) -> tuple[PlannedPartition, ...]:
    """Return the partitions with their sizes and letters; ``used`` letters are left alone.

    One partition may take all that remains: its size is what the others leave, wherever it stands in the list.
    Raises LayoutError.
    """
    if style == "MBR":
        _check_mbr(specs, disk_size)
    usable = disk_size // MIB - _TABLE_MIB
    sizes = _sizes(specs, usable)
    letters = _letters(specs, sizes, used)
    open_end = bool(sizes) and specs[-1].size is None
    return tuple(
        PlannedPartition(spec, number, None if open_end and number == len(specs) else size, letter)
        for number, (spec, size, letter) in enumerate(zip(specs, sizes, letters, strict=True), start=1)
    )


def _check_mbr(specs: Sequence[PartitionSpec], disk_size: int) -> None:
    wrong = [spec.type for spec in specs if spec.type in ("EFI", "MSR")]
    if wrong:
        raise LayoutError(f"a partition of type {wrong[0]} exists only on a GPT disk; the disk type asked for is MBR")
    if len(specs) > _MBR_PRIMARIES:
        raise LayoutError(f"an MBR disk holds at most 4 primary partitions; {len(specs)} are asked for")
    if disk_size > _MBR_LIMIT:
        raise LayoutError(f"an MBR disk ends at 2 TiB; this one has {gigabytes(disk_size)}")


def _sizes(specs: Sequence[PartitionSpec], usable: int) -> list[int]:
    remaining = usable
    sizes: dict[int, int] = {}
    for index, spec in enumerate(specs):
        if spec.size is None:
            continue
        size = remaining * spec.size // 100 if spec.size_units == "Percent" else spec.size * _UNIT_MIB[spec.size_units]
        sizes[index] = size
        remaining -= size
        if size <= 0 or remaining < 0:
            raise LayoutError(
                f"partition {index + 1} ({spec.name or spec.type}) needs {size} MB, {max(remaining + size, 0)} MB of the disk's "
                f"{usable} MB are left"
            )
    rest = [index for index, spec in enumerate(specs) if spec.size is None]
    if len(rest) > 1:
        raise LayoutError("only one partition can take all the space that remains; give the others a size")
    if rest and remaining <= 0:
        raise LayoutError(f"partition {rest[0] + 1} is to take what remains, and nothing remains of {usable} MB")
    return [sizes.get(index, remaining) for index in range(len(specs))]


def _letters(specs: Sequence[PartitionSpec], sizes: Sequence[int], used: frozenset[str]) -> list[str]:
    free = [letter for letter in "CDEFGHIJKLMNOPQRSTUVYZ" if letter not in used]
    windows = _windows_index(specs, sizes)
    taken: list[str] = []
    for index, spec in enumerate(specs):
        if not spec.file_system or not spec.assign_volume_letter:
            taken.append("")
            continue
        wanted = WINDOWS_LETTER if index == windows else PREFERRED_LETTERS.get(spec.type, SYSTEM_LETTER if spec.bootable else "")
        choices = ([wanted] if wanted and wanted not in used else []) + free
        letter = next((x for x in choices if x not in taken), "")
        if not letter:
            raise LayoutError(f"no drive letter is left for partition {index + 1}; set assign_volume_letter to false where none is needed")
        taken.append(letter)
    return taken


def windows_index(partitions: Sequence[PlannedPartition]) -> int | None:
    """Return the index of the partition that will hold Windows: the largest primary one with NTFS; an open end is the largest."""
    return _windows_index([p.spec for p in partitions], [_OPEN_END if p.size_mib is None else p.size_mib for p in partitions])


def _windows_index(specs: Sequence[PartitionSpec], sizes: Sequence[int]) -> int | None:
    """By the sizes on the disk: 100 percent of what is left is more than a boot partition of 350 MB."""
    candidates = [i for i, s in enumerate(specs) if s.type == "Primary" and s.file_system == "NTFS"]
    return max(candidates, key=lambda i: (specs[i].size is None, sizes[i]), default=None)


def diskpart_script(disk: int, style: str, partitions: Sequence[PlannedPartition]) -> str:
    """Return the script that wipes the disk and makes the layout: one command a line, CR LF, ASCII, no empty lines.

    [doc: wsd/diskpart]: an error stops the script unless the command ends in ``noerr``.
    """
    lines = [
        f"select disk {disk}",
        "attributes disk clear readonly noerr",
        "online disk noerr",
        "clean",
        f"convert {style.lower()} noerr",
    ]
    for partition in partitions:
        lines += _partition_commands(partition, style)
    return "".join(line + "\r\n" for line in lines)


def _partition_commands(partition: PlannedPartition, style: str) -> list[str]:
    spec = partition.spec
    kind = {"EFI": "efi", "MSR": "msr"}.get(spec.type, "primary")
    size = "" if partition.size_mib is None else f" size={partition.size_mib}"
    lines = [f"create partition {kind}{size}"]
    if spec.file_system:
        quick = " quick" if spec.quick_format else ""
        label = f' label="{spec.name}"' if spec.name else ""
        lines.append(f"format{quick} fs={spec.file_system.lower()}{label}")
    if spec.bootable and style == "MBR":
        lines.append("active")
    if partition.letter:
        lines.append(f"assign letter={partition.letter}")
    if spec.type == "Recovery":
        # The type is set last: the letter stays until the next restart, so the recovery tools can be put there.
        lines += _RECOVERY_COMMANDS[style]
    return lines


#: Attributes: required partition, no drive letter [doc: wsd/gpt].
_RECOVERY_COMMANDS = {
    "GPT": [f'set id="{RECOVERY.strip("{}")}"', "gpt attributes=0x8000000000000001"],
    "MBR": [f"set id={MBR_RECOVERY:x}"],
}
#: diskpart aligns to 1 MiB; an open end may be a little shorter than computed.
_TOLERANCE = 4 * MIB


def layout_differences(disk: DiskState, style: str, planned: Sequence[PlannedPartition]) -> list[str]:
    """Return what keeps the disk from being the layout, one line each; empty where it is the layout."""
    if disk.style != style:
        return [f"the disk is {disk.style}, not {style}"]
    if len(disk.partitions) != len(planned):
        return [f"the disk has {len(disk.partitions)} partitions, not {len(planned)}"]
    lines: list[str] = []
    for have, want in zip(disk.partitions, planned, strict=True):
        lines += [f"partition {want.number}: {line}" for line in _partition_differences(have, want, style)]
    return lines


def _partition_differences(have: PartitionState, want: PlannedPartition, style: str) -> list[str]:
    spec = want.spec
    lines = []
    expected = GPT_TYPES[spec.type] if style == "GPT" else (MBR_RECOVERY if spec.type == "Recovery" else MBR_TYPES[spec.file_system])
    actual: str | int = have.gpt_type if style == "GPT" else have.mbr_type
    if actual != expected:
        lines.append(f"type is {actual}, not {expected}")
    if style == "MBR" and spec.bootable != have.active:
        lines.append("it is not active" if spec.bootable else "it is active")
    if want.size_mib is not None and abs(have.size - want.size_mib * MIB) > max(_TOLERANCE, have.size // 100):
        lines.append(f"size is {have.size // MIB} MB, not {want.size_mib} MB")
    file_system = have.volume.file_system if have.volume else ""
    if spec.file_system and file_system.upper() != spec.file_system:
        lines.append(f"file system is {file_system or 'none'}, not {spec.file_system}")
    if spec.name and spec.file_system and have.volume and have.volume.label.lower() != spec.name.lower():
        lines.append(f"label is {have.volume.label!r}, not {spec.name!r}")
    return lines


def describe_layout(partitions: Sequence[PlannedPartition]) -> list[dict[str, Any]]:
    """Return the planned partitions as plain values for diff and result."""
    return [
        {
            "partition": p.number,
            "type": p.spec.type,
            "size_mb": p.size_mib,
            "file_system": p.spec.file_system or None,
            "label": p.spec.name or None,
            "letter": p.letter or None,
        }
        for p in partitions
    ]


def describe_disk(disk: DiskState) -> list[dict[str, Any]]:
    """Return the partitions a disk has as plain values for diff and result."""
    return [
        {
            "partition": p.number,
            "type": p.kind,
            "size_mb": p.size // MIB,
            "file_system": p.volume.file_system if p.volume else None,
            "label": p.volume.label if p.volume else None,
            "letter": p.drive_letter or None,
        }
        for p in disk.partitions
    ]


def candidates(disks: Iterable[DiskState]) -> list[DiskState]:
    """Return the disks that can be the reference computer's own: fixed, writable, not on a removable bus."""
    return [disk for disk in disks if disk.bus not in REMOVABLE_BUSES and not disk.read_only]
