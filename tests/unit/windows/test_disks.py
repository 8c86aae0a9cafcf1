# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layouts, diskpart's script and the comparison with a disk as it is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import disks
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.capture_volumes import choose_volumes
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.volumes import Placed, placed
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

GIB = 1024**3
NONE: frozenset[str] = frozenset()


class Cim:
    """Answers the three storage queries with given rows."""

    def __init__(self, **rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def query(self, wql: str, namespace: str = "") -> list[Instance]:
        name = wql.split(" FROM ")[1].split()[0]
        return [Instance(name, row) for row in self.rows.get(name, [])]


def test_default_gpt_layout_gives_windows_what_the_others_leave() -> None:
    layout = disks.plan_layout(disks.DEFAULT_GPT, "GPT", 64 * GIB, NONE)
    assert [(p.size_mib, p.letter) for p in layout] == [(260, "S"), (16, ""), (65536 - 2 - 260 - 16 - 990, "W"), (990, "R")]


def test_the_last_partition_without_size_has_an_open_end() -> None:
    specs = (disks.PartitionSpec("EFI", "System", 260, "MB", "FAT32"), disks.PartitionSpec("Primary", "Windows", None, "MB", "NTFS"))
    assert [p.size_mib for p in disks.plan_layout(specs, "GPT", 64 * GIB, NONE)] == [260, None]


def test_percent_is_of_what_is_free_at_that_moment() -> None:
    specs = (
        disks.PartitionSpec("Primary", "A", 50, "Percent", "NTFS"),
        disks.PartitionSpec("Primary", "B", 50, "Percent", "NTFS"),
        disks.PartitionSpec("Primary", "C", 100, "Percent", "NTFS"),
    )
    assert [p.size_mib for p in disks.plan_layout(specs, "GPT", 1026 * disks.MIB, NONE)] == [512, 256, 256]


@pytest.mark.parametrize(
    ("specs", "style", "size", "message"),
    [
        ([disks.PartitionSpec("Primary", "A", 100, "GB", "NTFS")], "GPT", 64 * GIB, r"partition 1 \(A\) needs 102400 MB, 65534 MB"),
        ([disks.PartitionSpec("EFI", "", 100)], "MBR", 64 * GIB, "only on a GPT disk"),
        ([disks.PartitionSpec("Primary", "", 1)] * 5, "MBR", 64 * GIB, "at most 4 primary partitions; 5"),
        ([disks.PartitionSpec("Primary", "", 1)], "MBR", 3 * 1024 * GIB, "ends at 2 TiB"),
        ([disks.PartitionSpec("Primary"), disks.PartitionSpec("Primary")], "GPT", 64 * GIB, "only one partition"),
        (
            [disks.PartitionSpec("Primary", "A", 100, "Percent"), disks.PartitionSpec("Primary", "B", 100, "Percent")],
            "GPT",
            64 * GIB,
            r"partition 2 \(B\) needs 0 MB",
        ),
    ],
)
def test_layouts_that_cannot_be_made(specs: list[disks.PartitionSpec], style: str, size: int, message: str) -> None:
    with pytest.raises(disks.LayoutError, match=message):
        disks.plan_layout(specs, style, size, NONE)


def test_letters_in_use_are_left_alone() -> None:
    layout = disks.plan_layout(disks.DEFAULT_GPT, "GPT", 64 * GIB, frozenset("XCWS"))
    assert [p.letter for p in layout] == ["D", "", "E", "R"]


def test_diskpart_script_is_what_microsofts_sample_does() -> None:
    layout = disks.plan_layout(disks.DEFAULT_GPT, "GPT", 64 * GIB, NONE)
    script = disks.diskpart_script(0, "GPT", layout)
    assert script.split("\r\n") == [
        "select disk 0",
        "attributes disk clear readonly noerr",
        "online disk noerr",
        "clean",
        "convert gpt noerr",
        "create partition efi size=260",
        'format quick fs=fat32 label="System"',
        "assign letter=S",
        "create partition msr size=16",
        "create partition primary size=64268",
        'format quick fs=ntfs label="Windows"',
        "assign letter=W",
        "create partition primary size=990",
        'format quick fs=ntfs label="Recovery"',
        "assign letter=R",
        'set id="de94bba4-06d1-4d40-a16a-bfd50179d6ac"',
        "gpt attributes=0x8000000000000001",
        "",
    ]


def test_mbr_script_marks_the_system_partition_active() -> None:
    script = disks.diskpart_script(1, "MBR", disks.plan_layout(disks.DEFAULT_MBR, "MBR", 64 * GIB, NONE))
    assert "select disk 1\r\n" in script
    assert 'format quick fs=ntfs label="System Reserved"\r\nactive\r\nassign letter=S\r\n' in script
    assert script.endswith("assign letter=R\r\nset id=27\r\n")


def storage(*, label: str = "Windows", windows_mib: int = 64268) -> Cim:
    """A disk as the default layout leaves it, and a USB stick."""
    rows = [
        (0, 1, 1, 260, disks.EFI_SYSTEM, "S", "FAT32", "System"),
        (0, 2, 261, 16, disks.MICROSOFT_RESERVED, "", "", ""),
        (0, 3, 277, windows_mib, disks.BASIC_DATA, "W", "NTFS", label),
        (0, 4, 277 + windows_mib, 990, disks.RECOVERY, "R", "NTFS", "Recovery"),
        (1, 1, 1, 500, disks.BASIC_DATA, "E", "exFAT", "Data"),
        (1, 2, 501, 500, disks.BASIC_DATA, "F", "NTFS", "Archive"),
        (2, 1, 1, 500, "", "U", "NTFS", "Stick"),
    ]
    partitions, volumes = [], []
    for disk, number, offset, size, kind, letter, file_system, name in rows:
        path = f"\\\\?\\Volume{{{disk}-{number}}}\\"
        partitions.append(
            {
                "DiskNumber": disk,
                "PartitionNumber": number,
                "Offset": offset * disks.MIB,
                "Size": size * disks.MIB,
                "GptType": kind,
                "MbrType": 0 if kind else 7,
                "DriveLetter": letter or "\0",
                "AccessPaths": [f"{letter}:\\", path] if letter else [path],
            }
        )
        if file_system:
            volumes.append(
                {
                    "Path": path,
                    "DriveLetter": letter,
                    "FileSystem": file_system,
                    "FileSystemLabel": name,
                    "Size": size * disks.MIB,
                    "DriveType": 3,
                }
            )
    return Cim(
        MSFT_Disk=[
            {"Number": 0, "Size": 64 * GIB, "PartitionStyle": 2, "BusType": 17},
            {"Number": 1, "Size": 2 * GIB, "PartitionStyle": 2, "BusType": 11},
            {"Number": 2, "Size": GIB, "PartitionStyle": 1, "BusType": 7},
        ],
        MSFT_Partition=partitions,
        MSFT_Volume=volumes,
    )


def test_a_disk_with_the_layout_has_no_differences() -> None:
    disk = disks.read_disks(storage())[0]  # type: ignore[arg-type]
    layout = disks.plan_layout(disks.DEFAULT_GPT, "GPT", disk.size, NONE)
    assert disks.layout_differences(disk, "GPT", layout) == []


@pytest.mark.parametrize(
    ("cim", "difference"),
    [
        (storage(label="Data"), "partition 3: label is 'Data', not 'Windows'"),
        (storage(windows_mib=60000), "partition 3: size is 60000 MB, not 64268 MB"),
    ],
)
def test_differences_name_partition_and_values(cim: Cim, difference: str) -> None:
    disk = disks.read_disks(cim)[0]  # type: ignore[arg-type]
    layout = disks.plan_layout(disks.DEFAULT_GPT, "GPT", disk.size, NONE)
    assert disks.layout_differences(disk, "GPT", layout) == [difference]


def test_usb_disks_are_no_candidates() -> None:
    assert [d.number for d in disks.candidates(disks.read_disks(storage()))] == [0, 1]  # type: ignore[arg-type]


def test_windows_is_image_one_and_every_other_partition_has_its_reason() -> None:
    found = disks.read_disks(storage())  # type: ignore[arg-type]
    windows = Placed(found[0], found[0].partitions[2])
    choices = choose_volumes(placed(found), windows)
    assert [(c.place.partition.kind, c.image_index, c.reason) for c in choices] == [
        ("EFI", None, "EFI system partition"),
        ("MSR", None, "Microsoft reserved partition"),
        ("Primary", 1, ""),
        ("Recovery", None, "recovery partition"),
        ("Primary", None, "file system exFAT (only NTFS and FAT32 are captured)"),
        ("Primary", 2, ""),
        ("Primary", None, "USB volume"),
    ]
