# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a lab computer: Windows paths on the volumes' folders, names compared ignoring case, the host never visible.

Symbolic links on the host are not followed: whatever leads out of a volume's folder does not exist for the computer.
"""

from __future__ import annotations

import contextlib
import errno
import io
import ntpath
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from .disks import LabDisks
from .tools.interface import Connection, Session, Volume, Win32Problem

_ILLEGAL = re.compile(r'[<>"|?*:\x00-\x1f]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?$", re.IGNORECASE)
_VOLUME_PATH = re.compile(r"^\\\\[?.]\\volume(\{[0-9a-f-]{36}\})\\?(.*)$", re.IGNORECASE)
_CLUSTER = 4096


class Share(Protocol):
    """A share of the lab network as the files of a computer see it."""

    @property
    def root(self) -> Path:
        """The host folder behind it."""

    @property
    def capacity(self) -> int:
        """How many bytes it takes."""

    def may_write(self, user: str) -> bool: ...


@dataclass(frozen=True)
class Place:
    """Where a path leads: the folder on the host that is its root, what is below it, the volume or share, whether one may write."""

    root: Path
    parts: tuple[str, ...]
    capacity: int
    writable: bool = True
    volume: Volume | None = None


def used_space(root: Path) -> int:
    """Return the bytes that the files below take, in whole clusters, hard links once."""
    total = 0
    seen: set[int] = set()
    for folder, dummy, files in os.walk(root):
        for name in files:
            try:
                info = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if info.st_nlink > 1:
                if info.st_ino in seen:
                    continue
                seen.add(info.st_ino)
            total += (info.st_size + _CLUSTER - 1) // _CLUSTER * _CLUSTER
    return total


_WIN32_CODES = {errno.ENOENT: 2, errno.ENOTDIR: 3, errno.EACCES: 5, errno.EPERM: 5, errno.ENOSPC: 112, errno.EISDIR: 5, errno.EEXIST: 183}


@contextlib.contextmanager
def _host_errors(path: str) -> Iterator[None]:
    """Turn what the host says of a file that changed meanwhile into Windows' error."""
    try:
        yield
    except Win32Problem:
        raise
    except OSError as error:
        raise Win32Problem(_WIN32_CODES.get(error.errno or 0, 1117), f"{path}: {error.strerror}") from error


class LabFileSystem:
    """The files as one session sees them."""

    def __init__(
        self,
        disks: LabDisks,
        session: Session,
        find_share: Callable[[Connection], Share | None],
        locked: Callable[[Path], bool],
    ) -> None:
        """Take the disks, the session, how a connected share is found, and which host files the running system holds open."""
        self._disks = disks
        self._session = session
        self._find_share = find_share
        self._system_holds = locked

    def _locked(self, host: Path) -> bool:
        return host in self._disks.held or self._system_holds(host)

    # --- paths

    def place(self, path: str) -> Place:
        """Return where an absolute path leads."""
        text = path.replace("/", "\\")
        match = _VOLUME_PATH.match(text)
        if match:
            volume = self._disks.find_volume(match[1])
            if volume is None:
                raise Win32Problem(3, "The system cannot find the path specified.")
            return self._on_volume(volume, match[2])
        text = text.removeprefix("\\\\?\\")
        if text.startswith("\\\\"):
            return self._on_share(text)
        letter = text[:1].upper()
        if text[1:3] != ":\\" and text[1:] != ":":
            raise Win32Problem(123, f"{path}: an absolute path is needed.")
        found = self._disks.letters().get(letter)
        if found is not None:
            return self._on_volume(found, text[3:])
        connection = self._session.connections.get(f"{letter}:")
        if connection is not None:
            return self._share_place(connection, text[3:])
        if letter in self._disks.used_letters():
            raise Win32Problem(1005, "The volume does not contain a recognized file system.")
        raise Win32Problem(3, "The system cannot find the drive specified.")

    def _on_volume(self, volume: Volume, rest: str) -> Place:
        return Place(volume.root, _parts(rest), volume.capacity, True, volume)

    def _on_share(self, text: str) -> Place:
        pieces = text[2:].split("\\")
        if len(pieces) < 2 or not pieces[1]:
            raise Win32Problem(67, "The network name cannot be found.")
        unc = f"\\\\{pieces[0]}\\{pieces[1]}"
        for connection in self._session.connections.values():
            if connection.unc.lower() == unc.lower():
                return self._share_place(connection, "\\".join(pieces[2:]))
        # Lab rule: no anonymous or machine account access; only the logon session that connected a share sees it.
        raise Win32Problem(5, "Access is denied.")

    def _share_place(self, connection: Connection, rest: str) -> Place:
        share = self._find_share(connection)
        if share is None:
            raise Win32Problem(64, "The specified network name is no longer available.")
        return Place(share.root, _parts(rest), share.capacity, share.may_write(connection.user))

    def _walk(self, place: Place, path: str, *, parent_only: bool = False) -> Path:
        """Return the host path; with ``parent_only`` the last name need not be there."""
        current = place.root
        for position, part in enumerate(place.parts):
            last = position == len(place.parts) - 1
            found = _child(current, part)
            if found is None:
                if last and parent_only:
                    return current / part
                raise Win32Problem(2 if last else 3, f"{path}: the system cannot find the {'file' if last else 'path'} specified.")
            if found.is_symlink():
                raise Win32Problem(1920, f"{path}: the file cannot be accessed by the system.")
            if not last and not found.is_dir():
                raise Win32Problem(3, f"{path}: the system cannot find the path specified.")
            current = found
        return current

    def host_path(self, path: str, *, write: bool = False) -> Path:
        """Return where a path lies on the host; the parent must be there."""
        place = self.place(path)
        host = self._walk(place, path, parent_only=True)
        if write:
            self._may_change(place, host)
        return host

    def _existing(self, path: str) -> Path:
        return self._walk(self.place(path), path)

    def _may_change(self, place: Place, host: Path) -> None:
        if not place.writable:
            raise Win32Problem(5, "Access is denied.")
        if self._locked(host):
            raise Win32Problem(32, "The process cannot access the file because it is being used by another process.")

    # --- reading

    def exists(self, path: str) -> bool:
        """Tell whether something is there."""
        try:
            self._existing(path)
        except Win32Problem:
            return False
        return True

    def is_file(self, path: str) -> bool:
        """Tell whether a file is there."""
        try:
            return self._existing(path).is_file()
        except Win32Problem:
            return False

    def is_directory(self, path: str) -> bool:
        """Tell whether a folder is there."""
        try:
            return self._existing(path).is_dir()
        except Win32Problem:
            return False

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted ignoring case."""
        host = self._existing(path)
        if not host.is_dir():
            raise Win32Problem(267, "The directory name is invalid.")
        return sorted(os.listdir(host), key=str.upper)

    def size(self, path: str) -> int:
        """Return a file's size in bytes."""
        with _host_errors(path):
            return self._existing(path).stat().st_size

    def modified(self, path: str) -> datetime:
        """Return when a file was last written, in UTC."""
        with _host_errors(path):
            return datetime.fromtimestamp(self._existing(path).stat().st_mtime, UTC)

    def open_read(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        host = self._existing(path)
        if host.is_dir():
            raise Win32Problem(5, "Access is denied.")
        if self._locked(host):
            raise Win32Problem(32, "The process cannot access the file because it is being used by another process.")
        with _host_errors(path):
            return host.open("rb")

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        with self.open_read(path) as file:
            return file.read()

    def free_space(self, path: str) -> int:
        """Return the free bytes where the path lies."""
        place = self.place(path)
        return max(0, place.capacity - used_space(place.root))

    def reserve(self, path: str, size: int) -> None:
        """Raise 112 where there is less room than that."""
        if size > self.free_space(path):
            raise Win32Problem(112, "There is not enough space on the disk.")

    def changed(self, path: str) -> None:
        """Take note of a change by the host: space is counted at every question, so there is nothing to do."""

    # --- writing

    def open_write(self, path: str, *, append: bool = False, alone: bool = False) -> BinaryIO:
        """Open a file for writing; writing raises 112 when the volume is full. ``alone``: others get 32 until it is closed."""
        place = self.place(path)
        host = self._walk(place, path, parent_only=True)
        self._may_change(place, host)
        if host.is_dir() or (host.exists() and not os.stat(host).st_mode & stat.S_IWUSR):
            raise Win32Problem(5, "Access is denied.")
        if host == place.root:
            raise Win32Problem(5, "Access is denied.")
        if not append:
            _break_link(host)
        room = max(0, place.capacity - used_space(place.root))
        existing = 0 if append or not host.exists() else host.stat().st_size
        raw = open(host, "ab" if append else "wb", buffering=0)  # noqa: SIM115 - the caller closes it
        if alone:
            self._disks.held.add(host)
        return io.BufferedWriter(_Bounded(raw, room + existing, lambda: self._disks.held.discard(host)), 64 * 1024)  # type: ignore[type-var]

    def open_update(self, path: str) -> BinaryIO:
        """Open a file for reading and writing in place."""
        place = self.place(path)
        host = self._walk(place, path)
        self._may_change(place, host)
        return host.open("r+b")

    def write(self, path: str, content: bytes) -> None:
        """Replace a file's content."""
        with self.open_write(path) as file:
            file.write(content)

    def make_directories(self, path: str) -> None:
        """Make a folder with its parents."""
        place = self.place(path)
        if not place.writable:
            raise Win32Problem(5, "Access is denied.")
        current = place.root
        for part in place.parts:
            found = _child(current, part)
            if found is None:
                found = current / part
                with _host_errors(path):
                    found.mkdir(exist_ok=True)
            elif found.is_symlink() or not found.is_dir():
                raise Win32Problem(183, "Cannot create a file when that file already exists.")
            current = found

    def delete(self, path: str) -> None:
        """Delete a file or an empty folder."""
        place = self.place(path)
        host = self._walk(place, path)
        self._may_change(place, host)
        if host.is_dir():
            if host == place.root:
                raise Win32Problem(5, "Access is denied.")
            if any(host.iterdir()):
                raise Win32Problem(145, "The directory is not empty.")
            host.rmdir()
        else:
            if not os.stat(host).st_mode & stat.S_IWUSR:
                raise Win32Problem(5, "Access is denied.")
            with _host_errors(path):
                host.unlink()

    def delete_tree(self, path: str) -> None:
        """Delete a folder with all in it; what is in use stays, with error 32."""
        place = self.place(path)
        host = self._walk(place, path)
        self._may_change(place, host)
        if not host.is_dir():
            raise Win32Problem(267, "The directory name is invalid.")
        for folder, dummy, files in os.walk(host):
            if any(self._locked(Path(folder, name)) for name in files):
                raise Win32Problem(32, "The process cannot access the file because it is being used by another process.")
        for child in list(host.iterdir()) if host == place.root else [host]:
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        """Rename within a volume."""
        from_place, to_place = self.place(source), self.place(target)
        old = self._walk(from_place, source)
        new = self._walk(to_place, target, parent_only=True)
        self._may_change(from_place, old)
        self._may_change(to_place, new)
        if from_place.root != to_place.root:
            raise Win32Problem(17, "The system cannot move the file to a different disk drive.")
        if new.exists() and new != old and (not replace or new.is_dir()):
            raise Win32Problem(183, "Cannot create a file when that file already exists.")
        if new == old:  # a change of case only
            new = old.with_name(to_place.parts[-1])
        with _host_errors(source):
            os.replace(old, new)

    def copy(self, source: str, target: str) -> None:
        """Copy one file."""
        with self.open_read(source) as reader, self.open_write(target) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)

    def set_attributes(self, path: str, *, read_only: bool | None = None, hidden: bool | None = None, system: bool | None = None) -> None:
        """Set attributes. Only read-only is kept (lab rule): nothing in a build depends on the other two."""
        host = self._existing(path)
        if read_only is not None and host.is_file():
            host.chmod(0o444 if read_only else 0o644)

    def attributes(self, path: str) -> frozenset[str]:
        """Return the attributes that are kept."""
        host = self._existing(path)
        return frozenset() if host.is_dir() or host.stat().st_mode & stat.S_IWUSR else frozenset({"read_only"})


class _Bounded(io.RawIOBase):
    """A raw file that is full after so many bytes; ``closed_now`` is called at its end."""

    def __init__(self, raw: io.FileIO, room: int, closed_now: Callable[[], None]) -> None:
        self._raw = raw
        self._room = room
        self._closed_now = closed_now

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if len(data) > self._room:
            raise Win32Problem(112, "There is not enough space on the disk.")
        written = self._raw.write(data)
        self._room -= written
        return written

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._raw.close()
            self._closed_now()


def _parts(rest: str) -> tuple[str, ...]:
    normal = ntpath.normpath("\\" + rest).strip("\\")
    parts = tuple(part.rstrip(". ") for part in normal.split("\\") if part and part != ".")
    for part in parts:
        if not part or part == ".." or _ILLEGAL.search(part) or _RESERVED.match(part) or len(part) > 255:
            raise Win32Problem(123, f"{rest}: the filename, directory name, or volume label syntax is incorrect.")
    return parts


def _child(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if os.path.lexists(exact):
        return exact
    wanted = name.upper()
    try:
        return next((Path(entry.path) for entry in os.scandir(folder) if entry.name.upper() == wanted), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _break_link(host: Path) -> None:
    """Windows overwrites a hard-linked file for all its names; the lab's images share files only with their source."""
    if host.exists() and host.stat().st_nlink > 1:
        content = host.read_bytes()
        host.unlink()
        host.write_bytes(content)


def find_on_volume(root: Path, path: str) -> Path | None:
    """Return the host path of a relative Windows path below a folder, ignoring case, None where it is not there."""
    current: Path | None = root
    for part in _parts(path):
        current = _child(current, part) if current is not None else None
        if current is None or current.is_symlink():
            return None
    return current


def make_on_volume(root: Path, path: str) -> Path:
    """Return the host path for a relative Windows path, its parent folders made."""
    current = root
    *folders, name = _parts(path)
    for part in folders:
        found = _child(current, part) or current / part
        found.mkdir(exist_ok=True)
        current = found
    return _child(current, name) or current / name
