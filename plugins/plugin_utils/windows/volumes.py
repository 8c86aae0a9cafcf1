# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Windows lies, seen from Windows PE, whose drive letters are assigned anew at every start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .computer import Computer
from .disks import FIXED_DRIVE, DiskState, PartitionState, read_disks

SYSTEM_HIVE = r"Windows\System32\config\SYSTEM"
SOFTWARE_HIVE = r"Windows\System32\config\SOFTWARE"


@dataclass(frozen=True)
class Placed:
    """A partition with the disk it lies on; the volume has a letter unless ``letter`` is ''."""

    disk: DiskState
    partition: PartitionState

    @property
    def letter(self) -> str:
        """The volume's drive letter, '' where it has none."""
        return self.partition.drive_letter

    @property
    def root(self) -> str:
        r"""The root folder, ``W:\``."""
        return f"{self.letter}:\\"


def placed(disks: Iterable[DiskState]) -> list[Placed]:
    """Return every partition of every disk."""
    return [Placed(disk, partition) for disk in disks for partition in disk.partitions]


def windows_volumes(computer: Computer, disks: Iterable[DiskState]) -> list[Placed]:
    """Return the fixed NTFS volumes with a letter that hold a Windows (its SYSTEM hive). One request a volume."""
    return [
        place
        for place in placed(disks)
        if place.letter
        and place.partition.volume
        and place.partition.volume.drive_type == FIXED_DRIVE
        and place.partition.volume.file_system == "NTFS"
        and computer.file_info(place.root + SYSTEM_HIVE)
    ]


def root_entries(computer: Computer, letter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of files and of folders in a volume's root. Two requests."""
    where = rf"WHERE Drive='{letter.lower()}:' AND Path='\\'"
    found = []
    for class_name in ("CIM_DataFile", "Win32_Directory"):
        rows = [row["Name"] for row in computer.cim.query(f"SELECT Name FROM {class_name} {where}")]
        # The root itself is a row as well, by three characters.
        found.append(tuple(sorted(name[3:] for name in rows if isinstance(name, str) and len(name) > 3)))
    return found[0], found[1]


class NoWindows(LookupError):
    """No volume, or more than one, holds a Windows; the message lists what was looked at."""


def find_windows(computer: Computer) -> Placed:
    """Return the one volume that holds Windows. Raises NoWindows. Three requests and one a volume."""
    disks = read_disks(computer.cim)
    found = windows_volumes(computer, disks)
    if len(found) == 1:
        return found[0]
    seen = ", ".join(f"{p.letter}: (disk {p.disk.number}, partition {p.partition.number})" for p in placed(disks) if p.letter)
    what = "No volume holds" if not found else f"{len(found)} volumes hold"
    raise NoWindows(f"{what} a Windows installation (\\{SYSTEM_HIVE}). Volumes with a letter: {seen or 'none'}.")
