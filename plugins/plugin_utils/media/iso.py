# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in an ISO: UDF where the medium has it (Microsoft's hold nothing else), otherwise Joliet or plain ISO 9660."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from .extents import DamagedMedium, Extent, Node
from .udf import SECTOR, Udf, is_udf

_JOLIET = (b"%/@", b"%/C", b"%/E")
_MAX_DIRECTORY = 16 * 1024 * 1024


class _FileSystem(Protocol):
    root: Node

    def children(self, directory: Node) -> Iterator[Node]: ...


class Iso9660:
    """An ISO 9660 volume, by its Joliet names where it has them."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the volume descriptors. Raises DamagedMedium."""
        self._file = file
        self._joliet = False
        root: bytes = b""
        for number in range(16, 64):
            file.seek(number * SECTOR)
            data = file.read(SECTOR)
            if len(data) != SECTOR or data[1:6] != b"CD001" or data[0] == 255:
                break
            if data[0] == 1 and not root:
                root = data[156:190]
            elif data[0] == 2 and data[88:91] in _JOLIET:
                root, self._joliet = data[156:190], True
        if not root:
            raise DamagedMedium("it is no ISO file: it has no volume descriptor")
        self.root = _record(root, "")

    def children(self, directory: Node) -> Iterator[Node]:
        """Yield what is in a directory; the extents of a file larger than 4 GiB are put together."""
        if directory.size > _MAX_DIRECTORY:
            raise DamagedMedium(f"the directory '{directory.name}' says it has {directory.size} bytes")
        data = directory.open(self._file).read(directory.size)
        offset = 0
        parts: list[Node] = []
        while offset < len(data):
            length = data[offset]
            if length == 0:
                offset = (offset // SECTOR + 1) * SECTOR
                continue
            record = data[offset : offset + length]
            if len(record) < 34 or len(record) < 33 + record[32]:
                raise DamagedMedium(f"the directory '{directory.name}' is damaged")
            offset += length
            raw = record[33 : 33 + record[32]]
            if raw in (b"\0", b"\1"):
                continue
            parts.append(_record(record, self._name(raw)))
            if record[25] & 0x80:
                continue
            last = parts[-1]
            yield Node(last.name, sum(p.size for p in parts), tuple(e for p in parts for e in p.extents), is_directory=last.is_directory)
            parts = []

    def _name(self, raw: bytes) -> str:
        text = raw.decode("utf-16-be", "replace") if self._joliet else raw.decode("latin-1")
        return text.split(";", 1)[0].rstrip(".")


def _record(data: bytes, name: str) -> Node:
    block, size = struct.unpack_from("<I", data, 2)[0], struct.unpack_from("<I", data, 10)[0]
    return Node(name, size, (Extent(block * SECTOR, size),), is_directory=bool(data[25] & 2))


def _file_system(file: BinaryIO) -> _FileSystem:
    return Udf(file) if is_udf(file) else Iso9660(file)


def is_iso(path: Path) -> bool:
    """Tell whether a file is an ISO: a volume descriptor at sector 16."""
    with path.open("rb") as file:
        file.seek(16 * SECTOR + 1)
        return file.read(5) in (b"CD001", b"BEA01")


def find(file: BinaryIO, path: str) -> Node:
    """Return a file of an open ISO by its path, with slashes or backslashes, whatever its case. Raises DamagedMedium, FileNotFoundError."""
    try:
        system = _file_system(file)
        node = system.root
        for part in path.replace("\\", "/").strip("/").split("/"):
            names = {child.name.lower(): child for child in system.children(node)}
            if part.lower() not in names:
                shown = ", ".join(sorted(child.name for child in names.values())[:20])
                raise FileNotFoundError(f"'{path}' is not there; '{node.name or '/'}' has: {shown}")
            node = names[part.lower()]
    except struct.error as error:
        raise DamagedMedium(f"its file system is damaged: {error}") from None
    if node.is_directory:
        raise FileNotFoundError(f"'{path}' is a folder")
    return node


def extract(iso: Path, path: str, target: Path) -> None:
    """Write a file of an ISO to the disk."""
    with iso.open("rb") as medium, target.open("wb") as out, find(medium, path).open(medium) as file:
        while piece := file.read(1024 * 1024):
            out.write(piece)
