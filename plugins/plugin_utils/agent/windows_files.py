# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The files of a Windows computer, by paths of any length (``\\?\``), with Windows' own error numbers."""

from __future__ import annotations

import ctypes
import io
import os
from typing import Any, BinaryIO, cast

from . import win32

_BUFFER = 64 * 1024


def long_path(path: str) -> str:
    r"""Return a path that may be longer than 260 characters: ``\\?\C:\x``, ``\\?\UNC\server\share\x``."""
    plain = path.replace("/", "\\")
    if plain.startswith("\\\\?\\"):
        return plain
    return f"\\\\?\\UNC{plain[1:]}" if plain.startswith("\\\\") else f"\\\\?\\{plain}"


class WindowsFiles:
    """``agent.files.FileSystem`` on Windows."""

    def is_file(self, path: str) -> bool:
        """Tell whether a file is there."""
        return os.path.isfile(long_path(path))

    def is_directory(self, path: str) -> bool:
        """Tell whether a folder is there."""
        return os.path.isdir(long_path(path))

    def size(self, path: str) -> int:
        """Return a file's size."""
        return os.stat(long_path(path)).st_size

    def open_read(self, path: str) -> BinaryIO:
        """Open for reading, also what somebody else is writing to, if that one allows it."""
        return _open_reader(path)

    def open_write(self, path: str, *, append: bool = False) -> BinaryIO:
        """Open for writing; who reads may go on."""
        file = _open_writer(path, win32.OPEN_ALWAYS if append else win32.CREATE_ALWAYS)
        if append:
            file.seek(0, os.SEEK_END)
        return file

    def open_update(self, path: str) -> BinaryIO:
        """Open an existing file for writing in place."""
        return _open_writer(path, win32.OPEN_EXISTING)

    def make_directories(self, path: str) -> None:
        """Make a folder and its parents."""
        os.makedirs(long_path(path), exist_ok=True)

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        """Rename within a volume."""
        (os.replace if replace else os.rename)(long_path(source), long_path(target))

    def delete(self, path: str) -> None:
        """Delete a file."""
        os.unlink(long_path(path))

    def version(self, path: str) -> str | None:
        """Return the version resource of a file, None where it has none."""
        library: Any = ctypes.WinDLL("version")  # type: ignore[attr-defined]
        size = library.GetFileVersionInfoSizeW(ctypes.c_wchar_p(long_path(path)), None)
        if not size:
            return None
        data = ctypes.create_string_buffer(size)
        found, length = ctypes.POINTER(ctypes.c_uint32)(), ctypes.c_uint32()
        if not library.GetFileVersionInfoW(ctypes.c_wchar_p(long_path(path)), 0, size, data):
            return None
        if not library.VerQueryValueW(data, ctypes.c_wchar_p("\\"), ctypes.byref(found), ctypes.byref(length)) or length.value < 52:
            return None
        high, low = found[2], found[3]
        return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"


class _Writer(io.RawIOBase):
    """Writes to a handle. Python's own loses the number of the error, and under Wine tells a full disk as EINVAL [wine]."""

    def __init__(self, handle: int, path: str) -> None:
        super().__init__()
        self._handle = handle
        self._path = path

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        written = ctypes.c_uint32()
        win32.checked(win32.kernel32().WriteFile(self._handle, content, len(content), ctypes.byref(written), None), self._path)
        return written.value

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = ctypes.c_int64()
        win32.checked(win32.kernel32().SetFilePointerEx(self._handle, offset, ctypes.byref(place), whence), self._path)
        return place.value

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        if not self.closed:
            super().close()
            win32.kernel32().CloseHandle(self._handle)


def _open_writer(path: str, disposition: int) -> BinaryIO:
    """Open for writing; others may read and delete."""
    handle = win32.open_handle(long_path(path), win32.GENERIC_WRITE, win32.SHARE_READ | win32.SHARE_DELETE, disposition)
    return cast(BinaryIO, io.BufferedWriter(_Writer(handle, path), _BUFFER))


def _open_reader(path: str) -> BinaryIO:
    share = win32.SHARE_READ | win32.SHARE_WRITE | win32.SHARE_DELETE
    handle = win32.open_handle(long_path(path), win32.GENERIC_READ, share, win32.OPEN_EXISTING)
    try:
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
        descriptor = win32.module("msvcrt").open_osfhandle(handle, flags)
    except OSError:
        win32.kernel32().CloseHandle(handle)
        raise
    return cast(BinaryIO, os.fdopen(descriptor, "rb"))
