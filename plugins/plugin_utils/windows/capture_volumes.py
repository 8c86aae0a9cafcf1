# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which volumes become images of the captured file, and why the others do not.

Configuration Manager makes one image a volume, of NTFS and FAT32 volumes only, and skips USB. Here Windows is image 1, the others
follow by disk and place; the partitions that Windows' own layout needs (EFI, MSR, Recovery) are left out by their type, whatever
file system they have: ``bcdboot`` and setup make them anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .disks import BUS_NAMES, FIXED_DRIVE, REMOVABLE_BUSES
from .volumes import Placed

_FILE_SYSTEMS = frozenset({"NTFS", "FAT32"})
_LAYOUT_TYPES = {"EFI": "EFI system partition", "MSR": "Microsoft reserved partition", "Recovery": "recovery partition"}


@dataclass(frozen=True)
class VolumeChoice:
    """A volume with its place in the file (``image_index``), or the reason why it is left out."""

    place: Placed
    image_index: int | None
    reason: str = ""


def choose_volumes(
    places: Iterable[Placed], windows: Placed, system: Placed | None = None, empty: Collection[Placed] = ()
) -> tuple[VolumeChoice, ...]:
    """Return every partition with its choice, in the order of disks.

    ``system`` is the active partition of a BIOS computer, ``empty`` are volumes with nothing to capture.
    """
    ordered = sorted(places, key=lambda p: (p.disk.number, p.partition.offset))
    following = 2
    choices: list[VolumeChoice] = []
    for place in ordered:
        if _same(place, windows):
            choices.append(VolumeChoice(place, 1))
            continue
        reason = _reason(place, system) or ("nothing to capture" if place in empty else "")
        choices.append(VolumeChoice(place, None if reason else following, reason))
        following += 0 if reason else 1
    return tuple(choices)


def _same(one: Placed, other: Placed | None) -> bool:
    return other is not None and (one.disk.number, one.partition.offset) == (other.disk.number, other.partition.offset)


def _reason(place: Placed, system: Placed | None) -> str:
    partition, volume = place.partition, place.partition.volume
    if partition.kind in _LAYOUT_TYPES:
        return _LAYOUT_TYPES[partition.kind]
    if place.disk.bus in REMOVABLE_BUSES or (volume and volume.drive_type != FIXED_DRIVE):
        return f"{BUS_NAMES.get(place.disk.bus, 'removable')} volume"
    if _same(place, system):
        return "system partition (boot files)"
    if volume is None or not volume.file_system:
        return "no file system"
    if volume.file_system.upper() not in _FILE_SYSTEMS:
        return f"file system {volume.file_system} (only NTFS and FAT32 are captured)"
    return ""


def without_letter(choices: Iterable[VolumeChoice]) -> list[VolumeChoice]:
    """Return the volumes that are to be captured and need a drive letter for it."""
    return [choice for choice in choices if choice.image_index and not choice.place.letter]
