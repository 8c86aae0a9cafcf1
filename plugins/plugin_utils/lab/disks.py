# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of a lab computer: ``disks/<n>/disk.json`` and the volumes' content in ``disks/<n>/volumes/<guid>/``.

Letters belong to one boot: Windows gives C: to the volume it runs from, Windows PE gives them anew in the order of disks and partitions.
"""

from __future__ import annotations

import json
import shutil
import string
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..windows.disks import BASIC_DATA, EFI_SYSTEM, MIB, MICROSOFT_RESERVED
from .hardware import Hardware, write_json
from .tools.interface import Disk, Partition, Volume, Win32Problem

_GPT_TYPES = {"efi": EFI_SYSTEM, "msr": MICROSOFT_RESERVED, "primary": BASIC_DATA}
#: GPT attribute: no drive letter is assigned by itself.
NO_DRIVE_LETTER = 0x8000000000000000
_MBR_PRIMARIES = 4
_FAT32, _EXFAT = "FAT32", "exFAT"
_FAT32_LIMIT = 32 * 1024 * MIB
_FAT32_CLUSTERS = 65525
#: What a RAM disk of Windows PE can take: 512 MB of scratch space [doc: cp/winpe-intro].
SCRATCH = 512 * MIB
MINIMUM_CAPACITY = 8 * MIB


def new_guid() -> str:
    """Return a GUID with braces in lower case."""
    return f"{{{uuid.uuid4()}}}"


class LabDisks:
    """All disks of one computer in one boot. Changes are written at once."""

    def __init__(self, folder: Path, hardware: Hardware) -> None:
        """Take the computer's folder; a disk without a folder is a new, empty one."""
        self._folder = folder / "disks"
        self._disks: list[Disk] = []
        self._ram: dict[str, Volume] = {}
        #: Host files that a program has open and shares with nobody.
        self.held: set[Path] = set()
        for number, part in enumerate(hardware.disks):
            disk = Disk(number, part.size, part.model, part.serial, part.bus, sector=part.sector, read_only=part.read_only)
            place = self._folder / str(number) / "disk.json"
            if place.exists():
                self._read(disk, json.loads(place.read_text("utf-8")))
            else:
                self.save(disk)
            self._disks.append(disk)

    def __iter__(self) -> Iterator[Disk]:
        """Iterate over the disks by number."""
        return iter(self._disks)

    # --- on the host

    def _volumes(self, disk: Disk) -> Path:
        return self._folder / str(disk.number) / "volumes"

    def _root(self, disk: Disk, guid: str) -> Path:
        root = self._volumes(disk) / guid.strip("{}")
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _read(self, disk: Disk, plain: dict[str, Any]) -> None:
        disk.style, disk.guid, disk.signature = plain["style"], plain["guid"], plain["signature"]
        disk.online, disk.boot_code = plain["online"], plain["boot_code"]
        disk.read_only = plain.get("read_only", disk.read_only)
        for part in plain["partitions"]:
            volume = part.pop("volume")
            partition = Partition(**part)
            if volume:
                root = self._root(disk, volume["guid"])
                partition.volume = Volume(root=root, capacity=_capacity(partition.size), **volume)
            disk.partitions.append(partition)

    def save(self, disk: Disk) -> None:
        """Write the disk's description."""
        partitions = []
        for part in disk.partitions:
            plain: dict[str, Any] = {
                key: getattr(part, key)
                for key in ("number", "kind", "offset", "size", "gpt_type", "guid", "attributes", "mbr_type", "active")
            }
            volume = part.volume
            plain["volume"] = volume and {
                "guid": volume.guid,
                "file_system": volume.file_system,
                "label": volume.label,
                "serial": volume.serial,
                "dirty": volume.dirty,
            }
            partitions.append(plain)
        place = self._folder / str(disk.number)
        place.mkdir(parents=True, exist_ok=True)
        write_json(
            place / "disk.json",
            {
                "schema": 1,
                "style": disk.style,
                "guid": disk.guid,
                "signature": disk.signature,
                "online": disk.online,
                "read_only": disk.read_only,
                "boot_code": disk.boot_code,
                "partitions": partitions,
            },
        )

    # --- reading

    def find(self, number: int) -> Disk | None:
        """Return the disk of that number."""
        return next((disk for disk in self._disks if disk.number == number), None)

    def all_partitions(self) -> Iterator[tuple[Disk, Partition]]:
        """Iterate over every partition in the order of disks and offsets."""
        for disk in self._disks:
            for partition in sorted(disk.partitions, key=lambda p: p.offset):
                yield disk, partition

    def letters(self) -> dict[str, Volume]:
        """Return the volume behind each letter, without colon."""
        found = {p.letter: p.volume for dummy, p in self.all_partitions() if p.volume and p.letter}
        return {**found, **self._ram}

    def used_letters(self) -> set[str]:
        """Return every letter that something has."""
        return {p.letter for dummy, p in self.all_partitions() if p.letter} | set(self._ram)

    def locate(self, letter: str) -> tuple[Disk, Partition] | None:
        """Return disk and partition behind a letter."""
        wanted = letter.rstrip(":").upper()
        return next(((d, p) for d, p in self.all_partitions() if p.letter == wanted), None)

    def find_volume(self, guid: str) -> Volume | None:
        """Return the volume of that GUID."""
        return next((p.volume for dummy, p in self.all_partitions() if p.volume and p.volume.guid == guid.lower()), None)

    def find_partition(self, guid: str) -> tuple[Disk, Partition] | None:
        """Return the GPT partition of that GUID."""
        return next(((d, p) for d, p in self.all_partitions() if p.guid and p.guid == guid.lower()), None)

    # --- changes

    def _writable(self, disk: Disk) -> None:
        if disk.read_only:
            raise Win32Problem(19, "The media is write protected.")
        if not disk.online:
            raise Win32Problem(21, "The disk is offline.")

    def clean(self, disk: Disk) -> None:
        """Remove every partition with its content; the disk is RAW afterwards."""
        self._writable(disk)
        disk.partitions.clear()
        disk.style, disk.guid, disk.signature, disk.boot_code = "RAW", "", 0, False
        self.save(disk)
        shutil.rmtree(self._volumes(disk), ignore_errors=True)

    def convert(self, disk: Disk, style: str) -> None:
        """Give an empty disk a partition table."""
        self._writable(disk)
        if disk.partitions or disk.style == style:
            raise Win32Problem(87, f"The disk is not convertible. Clean the disk to convert it to {style}.")
        disk.style = style
        disk.guid = new_guid() if style == "GPT" else ""
        disk.signature = uuid.uuid4().int & 0xFFFFFFFF if style == "MBR" else 0
        self.save(disk)

    def create_partition(
        self, disk: Disk, kind: str, *, size: int | None = None, offset: int | None = None, type_id: str = ""
    ) -> Partition:
        """Create a partition in the first free extent that is large enough, the largest where no size is given."""
        self._writable(disk)
        self._check_kind(disk, kind)
        begin, room = self._extent(disk, kind, size, offset)
        taken = room if size is None else size // MIB * MIB
        partition = Partition(max((p.number for p in disk.partitions), default=0) + 1, kind, begin, taken)
        if disk.style == "GPT":
            partition.guid = new_guid()
            partition.gpt_type = (type_id or _GPT_TYPES[kind]).lower()
            if kind in ("efi", "msr"):
                partition.attributes = NO_DRIVE_LETTER if kind == "efi" else 0
        else:
            partition.mbr_type = int(type_id, 16) if type_id else {"extended": 0x0F}.get(kind, 0x07)
        disk.partitions.append(partition)
        self.save(disk)
        return partition

    def _check_kind(self, disk: Disk, kind: str) -> None:
        gpt = disk.style == "GPT"
        if disk.style == "RAW" or (gpt and kind in ("extended", "logical")) or (not gpt and kind in ("efi", "msr")):
            raise Win32Problem(87, "The operation is not supported on this disk.")
        if gpt or kind == "logical":
            if kind == "logical" and not any(p.kind == "extended" for p in disk.partitions):
                raise Win32Problem(87, "There is no extended partition.")
            return
        primaries = [p for p in disk.partitions if p.kind != "logical"]
        if len(primaries) >= _MBR_PRIMARIES or (kind == "extended" and any(p.kind == "extended" for p in primaries)):
            raise Win32Problem(87, "The disk cannot hold another partition of that type.")

    def _extent(self, disk: Disk, kind: str, size: int | None, offset: int | None) -> tuple[int, int]:
        if kind == "logical":
            outer = next(p for p in disk.partitions if p.kind == "extended")
            taken = [p for p in disk.partitions if p.kind == "logical"]
            low, high = outer.offset + MIB, outer.offset + outer.size
        else:
            taken = [p for p in disk.partitions if p.kind != "logical"]
            low, high = MIB, (disk.size - MIB if disk.style == "GPT" else min(disk.size, 2 * 1024**4)) // MIB * MIB
        gaps: list[tuple[int, int]] = []
        for part in sorted(taken, key=lambda p: p.offset):
            if part.offset - low >= MIB:
                gaps.append((low, part.offset - low))
            low = max(low, part.offset + part.size)
        if high - low >= MIB:
            gaps.append((low, high - low))
        if offset is not None:
            gaps = [(offset, start + room - offset) for start, room in gaps if start <= offset < start + room]
        fitting = [gap for gap in gaps if size is None or gap[1] >= size]
        if not fitting:
            raise Win32Problem(112, "There is not enough usable free space on the disk.")
        return fitting[0] if size is not None else max(fitting, key=lambda gap: gap[1])

    def delete_partition(self, disk: Disk, partition: Partition) -> None:
        """Remove a partition with its content."""
        self._writable(disk)
        disk.partitions.remove(partition)
        self.save(disk)
        if partition.volume:
            shutil.rmtree(partition.volume.root, ignore_errors=True)

    def format(self, partition: Partition, file_system: str, label: str) -> None:
        """Quick format: a new volume with nothing on it; the letter stays."""
        disk = next(d for d in self._disks if partition in d.partitions)
        self._writable(disk)
        kind = {"NTFS": "NTFS", "FAT32": _FAT32, "EXFAT": _EXFAT}.get(file_system.upper())
        if partition.kind in ("msr", "extended") or kind is None:
            raise Win32Problem(87, "The volume cannot be formatted.")
        if kind == _FAT32 and (partition.size > _FAT32_LIMIT or partition.size < disk.sector * _FAT32_CLUSTERS):
            raise Win32Problem(87, "The volume size is not suitable for FAT32.")
        old, letter = partition.volume, partition.letter
        guid = new_guid()
        shown = label.upper()[:11] if kind == _FAT32 else label[:32]
        volume = Volume(guid, kind, shown, self._root(disk, guid), _capacity(partition.size), letter)
        volume.serial = uuid.uuid4().int & 0xFFFFFFFF
        partition.volume, partition.raw_letter = volume, ""
        if disk.style == "MBR" and partition.mbr_type in (0x07, 0x0C):
            partition.mbr_type = 0x0C if kind == _FAT32 else 0x07
        self.save(disk)
        if old:
            shutil.rmtree(old.root, ignore_errors=True)

    def assign(self, partition: Partition, letter: str | None) -> str:
        """Give a letter and return it."""
        used = self.used_letters() - {partition.letter}
        wanted = letter.rstrip(":").upper() if letter else self._next_letter(used)
        if wanted in used:
            raise Win32Problem(85, "The local device name is already in use.")
        if partition.volume:
            partition.volume.letter = wanted
        else:
            partition.raw_letter = wanted
        return wanted

    def _next_letter(self, used: set[str]) -> str:
        return next((c for c in string.ascii_uppercase[2:] if c not in used), "")

    def remove_letter(self, partition: Partition) -> None:
        """Take the letter away."""
        partition.raw_letter = ""
        if partition.volume:
            partition.volume.letter = ""

    # --- letters of a boot

    def add_ram_disk(self, letter: str, root: Path, image_size: int) -> None:
        """Add Windows PE's own volume."""
        guid = "{00000000-0000-0000-0000-0000000005d0}"
        self._ram[letter] = Volume(guid, "NTFS", "Boot", root, image_size + SCRATCH, letter, ram=True)

    def assign_all(self, system: Volume | None) -> None:
        """Give letters as a boot does: C: to the running Windows, the rest in order; hidden and EFI partitions get none."""
        for dummy, partition in self.all_partitions():
            self.remove_letter(partition)
        if system is not None:
            system.letter = "C"
        for disk, partition in self.all_partitions():
            volume = partition.volume
            plain = (partition.gpt_type == BASIC_DATA) if disk.style == "GPT" else (partition.mbr_type in (0x07, 0x0C))
            if volume and not volume.letter and plain and not partition.attributes & NO_DRIVE_LETTER and disk.online:
                self.assign(partition, None)


def _capacity(size: int) -> int:
    """Return what a file system leaves of a partition: a little less than all of it (lab rule: 1 %, at most 64 MB)."""
    return max(size - min(size // 100, 64 * MIB), MINIMUM_CAPACITY) // 4096 * 4096
