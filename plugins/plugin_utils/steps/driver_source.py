# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the INF files of a driver source.

From the same bytes on the control node, or through the computer in Windows PE.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..windows.computer import Cim, Computer
from ..windows.drivers import DriverPackage, read_package
from ..windows.inf import TargetWindows
from .base import StepFailure

#: What one request reads at most; some network drivers' INF files have several MB.
_READ_SIZE = 1_000_000


@dataclass(frozen=True)
class SourceInfo:
    """Number of a source in the list, its folder as the computer sees it, and its categories."""

    number: int
    folder: str
    categories: frozenset[str]


def read_controller_folder(folder: str, target: TargetWindows, source: SourceInfo) -> list[DriverPackage]:
    """Read all INF files below a folder of the control node. StepFailure where it cannot be read."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise StepFailure(
            f"The driver folder {root} is not on the control node.",
            remedy="Correct controller of this source, or leave it out: the computer then reads the INF files.",
        )
    packages = []
    for directory, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            if not name.lower().endswith(".inf"):
                continue
            content = (Path(directory) / name).read_bytes()
            path = str((Path(directory) / name).relative_to(root)).replace("/", "\\")
            packages.append(_package(content, target, path, files, source))
    return [package for package in packages if package]


def read_computer_folder(computer: Computer, target: TargetWindows, source: SourceInfo) -> list[DriverPackage]:
    """Read all INF files below a folder of the computer's disk, in Windows PE. Up to four requests a folder, one a MB."""
    packages: list[DriverPackage | None] = []
    for folder, files in _walk(computer.cim, source.folder):
        names = list(files)
        for name, size in sorted(files.items()):
            if name.lower().endswith(".inf"):
                path = rf"{folder}\{name}"
                content = _read(computer, path, size)
                packages.append(_package(content, target, path[len(source.folder) + 1 :], names, source))
    return [package for package in packages if package]


def _read(computer: Computer, path: str, size: int) -> bytes:
    if size <= _READ_SIZE:
        return computer.get_file(path)
    starts = range(0, size, _READ_SIZE)
    return b"".join(computer.read_range(path, start, min(_READ_SIZE, size - start)) for start in starts)


def _package(content: bytes, target: TargetWindows, path: str, siblings: Iterable[str], source: SourceInfo) -> DriverPackage | None:
    return read_package(
        content,
        target,
        path=path,
        siblings=siblings,
        source=source.number,
        sha256=hashlib.sha256(content).hexdigest(),
        categories=source.categories,
    )


def _walk(cim: Cim, folder: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Walk a folder through CIM; never without Drive and Path, which would read the whole disk."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        files: dict[str, int] = {}
        for row in cim.query(f"SELECT Name,FileSize FROM CIM_DataFile WHERE {in_folder(current)}"):
            size = row["FileSize"]
            files[_base_name(row["Name"])] = size if isinstance(size, int) else 0
        yield current, files
        names = [_base_name(row["Name"]) for row in cim.query(f"SELECT Name FROM Win32_Directory WHERE {in_folder(current)}")]
        waiting += [rf"{current}\{name}" for name in sorted(names, reverse=True)]


def in_folder(folder: str) -> str:
    """Return the WQL condition for what lies directly in a folder; backslashes are doubled there."""
    drive, path = folder[:2], folder[3:].rstrip("\\")
    escaped = (f"\\{path}\\" if path else "\\").replace("\\", "\\\\").replace("'", "\\'")
    return f"Drive='{drive.lower()}' AND Path='{escaped.lower()}'"


def _base_name(name: object) -> str:
    return str(name).rsplit("\\", 1)[-1]
