# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows found among the volumes, a volume's root listed, and a large file read in ranges."""

from __future__ import annotations

import io
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import volumes
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.range_file import open_ranges
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeWindows

BASIC = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"


def computer(*letters: str, file_system: str = "NTFS", drive_type: int = 3) -> FakeWindows:
    """A disk with one volume a letter."""
    windows = FakeWindows(Environment.WINDOWS_PE)
    windows.rows["MSFT_Disk"] = [{"Number": 0, "Size": 10**11, "PartitionStyle": 2, "BusType": 17}]
    rows = [(number, letter, f"\\\\?\\Volume{{{number}}}\\") for number, letter in enumerate(letters, start=1)]
    windows.rows["MSFT_Partition"] = [
        {
            "DiskNumber": 0,
            "PartitionNumber": n,
            "Offset": n * 2**20,
            "Size": 2**20,
            "GptType": BASIC,
            "DriveLetter": "\0",
            "AccessPaths": [p],
        }
        for n, letter, p in rows
    ]
    windows.rows["MSFT_Volume"] = [
        {"Path": p, "DriveLetter": letter or "\0", "FileSystem": file_system, "DriveType": drive_type} for n, letter, p in rows
    ]
    return windows


def test_windows_is_found_by_what_lies_on_the_volume() -> None:
    windows = computer("D", "E", "")
    windows.add_file(rf"E:\{volumes.SYSTEM_HIVE}")
    assert volumes.find_windows(windows).root == "E:\\"  # type: ignore[arg-type]


def test_the_drive_that_the_run_knows_is_proved_by_one_request_and_never_believed() -> None:
    windows = computer("D", "E")
    windows.add_file(rf"E:\{volumes.SYSTEM_HIVE}")
    assert volumes.windows_root(windows, "E:") == "E:\\"  # type: ignore[arg-type]
    assert windows.requests == 1
    assert volumes.windows_root(windows, "D:") == "E:\\"  # type: ignore[arg-type]
    assert windows.requests == 1 + 1 + 4
    assert volumes.windows_root(windows, "") == "E:\\"  # type: ignore[arg-type]
    assert windows.requests == 6 + 4


def test_the_sizes_of_many_files_cost_one_request() -> None:
    windows = computer("D")
    windows.add_file(r"D:\It's here", b"abc")
    windows.add_file(r"D:\empty")
    found = volumes.file_sizes(windows, [r"D:\It's here", r"D:\EMPTY", r"D:\not there"])  # type: ignore[arg-type]
    assert found == {r"d:\it's here": 3, r"d:\empty": 0}
    assert windows.requests == 1
    assert not volumes.file_sizes(windows, [])  # type: ignore[arg-type]
    assert windows.requests == 1


@pytest.mark.parametrize(("found", "said"), [("", "No volume holds"), ("DE", "2 volumes hold")])
def test_none_or_several_are_listed(found: str, said: str) -> None:
    windows = computer("D", "E")
    for letter in found:
        windows.add_file(rf"{letter}:\{volumes.SYSTEM_HIVE}")
    with pytest.raises(volumes.NoWindows, match=rf"{said}.*D: \(disk 0, partition 1\), E: \(disk 0, partition 2\)"):
        volumes.find_windows(windows)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"file_system": "FAT32"}, {"drive_type": 2}])
def test_other_volumes_are_not_looked_at(given: Any) -> None:
    windows = computer("D", **given)
    windows.add_file(rf"D:\{volumes.SYSTEM_HIVE}")
    with pytest.raises(volumes.NoWindows):
        volumes.find_windows(windows)  # type: ignore[arg-type]


def test_a_root_is_listed_with_two_queries() -> None:
    windows = computer("D")
    for path in (r"D:\a.txt", r"D:\Folder\b.txt", r"E:\c.txt"):
        windows.add_file(path)
    assert volumes.root_entries(windows, "D") == (("a.txt",), ("folder",))  # type: ignore[arg-type]


class Counting(FakeWindows):
    """Notes every range that is read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Environment.WINDOWS_PE)
        self.add_file(r"Z:\a.wim", content)
        self.ranges: list[tuple[int, int]] = []

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.ranges.append((offset, length))
        return super().read_range(path, offset, length)


def test_ranges_read_like_a_file_and_only_what_is_asked_for() -> None:
    content = bytes(range(256)) * 4096
    windows = Counting(content)
    ours, real = open_ranges(windows, r"Z:\a.wim"), io.BytesIO(content)  # type: ignore[arg-type]
    assert windows.ranges == []
    for offset, whence, length in [(0, 0, 208), (-10, 2, 100), (5, 0, 0), (3, 1, 7), (len(content) + 5, 0, 3)]:
        assert ours.seek(offset, whence) == real.seek(offset, whence)
        assert ours.read(length) == real.read(length)
        assert ours.tell() == real.tell()
    assert sum(length for dummy, length in windows.ranges) == 208 + 10 + 7
    ours.seek(0)
    assert ours.read() == content
    assert [length for dummy, length in windows.ranges[-2:]] == [512 * 1024, 512 * 1024]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        open_ranges(FakeWindows(Environment.WINDOWS_PE), r"Z:\none.wim")  # type: ignore[arg-type]
