# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The files of a Windows computer, by paths of any length (``\\?\``), with Windows' own error numbers."""

from __future__ import annotations

import ctypes
import os
from typing import Any, BinaryIO, cast

from . import win32

_ALL = win32.SHARE_READ | win32.SHARE_WRITE | win32.SHARE_DELETE


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
        return _open(path, win32.GENERIC_READ, _ALL, win32.OPEN_EXISTING, "rb")

    def open_write(self, path: str, *, append: bool = False) -> BinaryIO:
        """Open for writing; who reads may go on."""
        disposition = win32.OPEN_ALWAYS if append else win32.CREATE_ALWAYS
        file = _open(path, win32.GENERIC_WRITE, _ALL & ~win32.SHARE_WRITE, disposition, "wb")
        if append:
            file.seek(0, os.SEEK_END)
        return file

    def open_update(self, path: str) -> BinaryIO:
        """Open an existing file for writing in place."""
        return _open(path, win32.GENERIC_WRITE, _ALL & ~win32.SHARE_WRITE, win32.OPEN_EXISTING, "wb")

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


def _open(path: str, access: int, share: int, disposition: int, mode: str) -> BinaryIO:
    handle = win32.open_handle(long_path(path), access, share, disposition)
    flags = os.O_RDONLY if mode == "rb" else os.O_WRONLY
    try:
        descriptor = win32.module("msvcrt").open_osfhandle(handle, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0))
    except OSError:
        win32.kernel32().CloseHandle(handle)
        raise
    return cast(BinaryIO, os.fdopen(descriptor, mode))
