# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A large file on a computer in Windows PE, read in ranges like a local one: a WIM's header and description are a few kilobytes."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from .computer import Computer

#: One request reads at most this much.
_LIMIT = 512 * 1024


class _Ranges(io.RawIOBase):
    def __init__(self, computer: Computer, path: str, size: int) -> None:
        super().__init__()
        self._computer = computer
        self._path = path
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._position if size < 0 else min(size, self._size - self._position)
        parts = []
        while wanted > 0:
            part = self._computer.read_range(self._path, self._position, min(wanted, _LIMIT))
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return b"".join(parts)


def open_ranges(computer: Computer, path: str, size: int | None = None) -> BinaryIO:
    """Return the file for reading; nothing is read before it is asked for. FileNotFoundError where it is not there.

    One request, none where the caller knows the file's ``size``.
    """
    if size is None:
        info = computer.file_info(path)
        if info is None:
            raise FileNotFoundError(path)
        size = info.size
    return cast(BinaryIO, _Ranges(computer, path, size))
