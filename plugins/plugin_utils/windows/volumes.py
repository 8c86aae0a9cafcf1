# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Windows lies, seen from Windows PE, whose drive letters are assigned anew at every start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..wsman import wql
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
    """Return the fixed NTFS volumes with a letter that hold a Windows (its SYSTEM hive). One request."""
    possible = [
        place
        for place in placed(disks)
        if place.letter
        and place.partition.volume
        and place.partition.volume.drive_type == FIXED_DRIVE
        and place.partition.volume.file_system == "NTFS"
    ]
    held = file_sizes(computer, [place.root + SYSTEM_HIVE for place in possible])
    return [place for place in possible if (place.root + SYSTEM_HIVE).lower() in held]


def root_entries(computer: Computer, letter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of files and of folders in a volume's root. Two requests."""
    where = rf"WHERE Drive='{letter.lower()}:' AND Path='\\'"
    found = []
    for class_name in ("CIM_DataFile", "Win32_Directory"):
        rows = [row["Name"] for row in computer.cim.query(f"SELECT Name FROM {class_name} {where}")]
        # The root itself is a row as well, by three characters.
        found.append(tuple(sorted(name[3:] for name in rows if isinstance(name, str) and len(name) > 3)))
    return found[0], found[1]


def file_sizes(computer: Computer, paths: Sequence[str]) -> dict[str, int]:
    """Return the sizes of those files that are there, by the path in lower case. One request; for local disks."""
    if not paths:
        return {}
    names = " OR ".join(f"Name={wql.quote(path.lower())}" for path in paths)
    rows = computer.cim.query(f"SELECT Name,FileSize FROM CIM_DataFile WHERE {names}")
    return {str(row["Name"]).lower(): size if isinstance(size := row["FileSize"], int) else 0 for row in rows}


def present(computer: Computer, files: Sequence[str], folders: Sequence[str]) -> set[str]:
    """Return those of the files and folders that are there. Two requests; for local disks."""
    held = file_sizes(computer, files)
    names = " OR ".join(f"Name={wql.quote(path.lower())}" for path in folders)
    there = {str(row["Name"]).lower() for row in computer.cim.query(f"SELECT Name FROM Win32_Directory WHERE {names}")}
    return {path for path in (*files, *folders) if path.lower() in held or path.lower() in there}


def windows_root(computer: Computer, drive: str) -> str:
    """Return the root folder of the volume that holds Windows: of ``drive`` (``W:``) where it lies there, else of the only one.

    Raises NoWindows. One request; without ``drive``, or where Windows is not there, four.
    """
    if drive and computer.file_info(f"{drive}\\{SYSTEM_HIVE}"):
        return f"{drive}\\"
    return find_windows(computer).root


class NoWindows(LookupError):
    """No volume, or more than one, holds a Windows; the message lists what was looked at."""


def find_windows(computer: Computer) -> Placed:
    """Return the one volume that holds Windows. Raises NoWindows. Four requests."""
    disks = read_disks(computer.cim)
    found = windows_volumes(computer, disks)
    if len(found) == 1:
        return found[0]
    seen = ", ".join(f"{p.letter}: (disk {p.disk.number}, partition {p.partition.number})" for p in placed(disks) if p.letter)
    what = "No volume holds" if not found else f"{len(found)} volumes hold"
    raise NoWindows(f"{what} a Windows installation (\\{SYSTEM_HIVE}). Volumes with a letter: {seen or 'none'}.")
