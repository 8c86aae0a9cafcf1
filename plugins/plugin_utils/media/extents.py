# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a medium: a name and the pieces of the medium that hold the content, read as one file."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO


class DamagedMedium(ValueError):
    """An ISO file cannot be read; the message goes on after the file's name."""


@dataclass(frozen=True)
class Extent:
    """Bytes of the medium from ``offset``; None stands for zeros that are not stored."""

    offset: int | None
    length: int


@dataclass(frozen=True)
class Node:
    """A file or directory of a medium."""

    name: str
    size: int
    extents: tuple[Extent, ...]
    is_directory: bool = False

    def open(self, medium: BinaryIO) -> io.BufferedReader:
        """Return the content as a seekable file. The medium stays open."""
        return io.BufferedReader(_Pieces(medium, self))


class _Pieces(io.RawIOBase):
    def __init__(self, medium: BinaryIO, node: Node) -> None:
        super().__init__()
        self._medium = medium
        self._node = node
        self._position = 0
        if sum(extent.length for extent in node.extents) < node.size:
            raise DamagedMedium(f"'{node.name}' has {node.size} bytes, but not all of them are on the medium")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._node.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        start = 0
        for extent in self._node.extents:
            within = self._position - start
            if within < extent.length:
                size = min(len(buffer), extent.length - within, self._node.size - self._position)
                if size <= 0:
                    return 0
                data = bytes(size) if extent.offset is None else self._read(extent.offset + within, size)
                buffer[: len(data)] = data
                self._position += len(data)
                return len(data)
            start += extent.length
        return 0

    def _read(self, offset: int, size: int) -> bytes:
        self._medium.seek(offset)
        data = self._medium.read(size)
        if len(data) != size:
            raise DamagedMedium(f"it ends within '{self._node.name}': the file is cut off")
        return data
