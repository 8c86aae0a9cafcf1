# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that are folders: partition tables, letters, what they refuse, and what is left after the plug was pulled."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Disk, Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.disks import BASIC_DATA, EFI_SYSTEM, MIB


def disks(folder: Path, **disk: object) -> LabDisks:
    return LabDisks(folder, hardware.make("pc", 1, {"disks": [disk]}, {}))


def first(found: LabDisks) -> Disk:
    disk = found.find(0)
    assert disk is not None
    return disk


def uefi(found: LabDisks) -> Disk:
    disk = first(found)
    found.convert(disk, "GPT")
    found.format(found.create_partition(disk, "efi", size=260 * MIB), "FAT32", "System")
    found.create_partition(disk, "msr", size=16 * MIB)
    found.format(found.create_partition(disk, "primary"), "NTFS", "Windows")
    return disk


def test_a_layout_survives_the_plug(tmp_path: Path) -> None:
    disk = uefi(disks(tmp_path))
    again = first(disks(tmp_path))
    assert again.partitions == [
        type(p)(**{**p.__dict__, "volume": p.volume and type(p.volume)(**p.volume.__dict__)}) for p in disk.partitions
    ]
    assert [p.gpt_type for p in again.partitions][0::2] == [EFI_SYSTEM, BASIC_DATA]


def test_partitions_do_not_overlap_and_end_on_the_disk(tmp_path: Path) -> None:
    disk = uefi(disks(tmp_path))
    end = MIB
    for partition in disk.partitions:
        assert partition.offset >= end
        end = partition.offset + partition.size
    assert end <= disk.size - MIB


def test_letters_belong_to_a_boot(tmp_path: Path) -> None:
    found = disks(tmp_path)
    disk = uefi(found)
    found.assign(disk.partitions[2], "W")
    assert found.locate("W:") == (disk, disk.partitions[2])
    again = disks(tmp_path)
    assert again.letters() == {}
    again.assign_all(None)
    assert list(again.letters()) == ["C"], "an EFI system partition gets no letter of its own"


def test_the_running_windows_is_c(tmp_path: Path) -> None:
    found = disks(tmp_path)
    disk = first(found)
    found.convert(disk, "MBR")
    data = found.create_partition(disk, "primary", size=1000 * MIB)
    windows = found.create_partition(disk, "primary")
    for partition in (data, windows):
        found.format(partition, "NTFS", "x")
    found.assign_all(windows.volume)
    assert (windows.letter, data.letter) == ("C", "D")


@pytest.mark.parametrize(
    ("kind", "code"),
    [("extended", 87), ("logical", 87)],
)
def test_a_gpt_disk_has_no_mbr_kinds(tmp_path: Path, kind: str, code: int) -> None:
    found = disks(tmp_path)
    found.convert(first(found), "GPT")
    with pytest.raises(Win32Problem) as problem:
        found.create_partition(first(found), kind)
    assert problem.value.code == code


def test_a_fifth_primary_is_refused(tmp_path: Path) -> None:
    found = disks(tmp_path)
    disk = first(found)
    found.convert(disk, "MBR")
    for dummy in range(4):
        found.create_partition(disk, "primary", size=100 * MIB)
    with pytest.raises(Win32Problem):
        found.create_partition(disk, "primary", size=100 * MIB)


def test_no_room_is_112(tmp_path: Path) -> None:
    found = disks(tmp_path, size_gb=1)
    disk = first(found)
    found.convert(disk, "GPT")
    with pytest.raises(Win32Problem) as problem:
        found.create_partition(disk, "primary", size=2048 * MIB)
    assert problem.value.code == 112


def test_a_write_protected_disk_stays(tmp_path: Path) -> None:
    found = disks(tmp_path, read_only=True)
    with pytest.raises(Win32Problem) as problem:
        found.convert(first(found), "GPT")
    assert problem.value.code == 19
    assert first(disks(tmp_path)).style == "RAW"


def test_a_4k_disk_refuses_a_small_fat32(tmp_path: Path) -> None:
    found = disks(tmp_path, sector=4096)
    disk = first(found)
    found.convert(disk, "GPT")
    small = found.create_partition(disk, "efi", size=100 * MIB)
    with pytest.raises(Win32Problem):
        found.format(small, "FAT32", "System")


def test_format_makes_another_volume_with_nothing_on_it(tmp_path: Path) -> None:
    found = disks(tmp_path)
    windows = uefi(found).partitions[2]
    assert windows.volume is not None
    (windows.volume.root / "old.txt").write_text("x")
    old = windows.volume
    found.format(windows, "NTFS", "New")
    assert windows.volume.guid != old.guid
    assert list(windows.volume.root.iterdir()) == []
    assert not old.root.exists()
