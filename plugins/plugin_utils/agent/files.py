# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Files over HTTP: ``PUT|GET|HEAD /osd/files/W:/folder/name``, for Windows PE, where nothing else moves bytes.

PUT writes beside the name and renames; with ``Content-Range: bytes FIRST-LAST/*`` it writes into the file in place. GET knows Range.
HEAD says the size, and with ``?hash=sha256`` the SHA-256 that the agent computes; 202 with ``X-OSD-Hashed`` (bytes so far) says that it is
still at it: ask again. Status codes: 404 not there, 409 a folder,
423 in use, 403 denied, 507 disk full, 413 too large, 400 bad path, 416 bad range.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import secrets
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol

from .http_server import Answer, BodyTooLarge, Headers, RequestBody

PREFIX = "/osd/files/"
#: In the place of the drive for a path on a share, ``/osd/files/UNC/server/share/name``; the agent must have it connected.
_NETWORK = "UNC"
#: The largest file that is taken, in bytes.
LIMIT = 1024**3
_CHUNK = 64 * 1024
_HASH_CHUNK = 1024 * 1024
_ILLEGAL = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|$)")
_RANGE = re.compile(r"bytes=(\d{1,15})?-(\d{1,15})?")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\*|\d{1,15})")
#: Win32 errors by the status they become.
_WIN32_STATUS = {
    2: 404, 3: 404, 15: 404, 21: 404, 53: 404, 67: 404, 1005: 404, 5: 403, 19: 403, 32: 423, 33: 423, 39: 507, 112: 507,
    123: 400, 161: 400, 206: 400, 267: 409, 183: 409, 80: 409,
}  # fmt: skip
_POSIX_STATUS = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EISDIR: 409,
    errno.EEXIST: 409,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.EBUSY: 423,
    errno.ENOSPC: 507,
    errno.ENAMETOOLONG: 400,
    errno.EINVAL: 400,
}


class FileSystem(Protocol):
    r"""The files of a computer, by Windows path (``W:\folder\name``). The lab's file system of a session is one.

    Problems are OSErrors; where one has an attribute ``code`` or ``winerror``, that is a Win32 error.
    """

    def is_file(self, path: str) -> bool:
        """Tell whether a file is there."""

    def is_directory(self, path: str) -> bool:
        """Tell whether a folder is there."""

    def size(self, path: str) -> int:
        """Return a file's size."""

    def open_read(self, path: str) -> BinaryIO:
        """Open for reading; seekable."""

    def open_write(self, path: str, *, append: bool = False) -> BinaryIO:
        """Open for writing; the parent folder exists."""

    def open_update(self, path: str) -> BinaryIO:
        """Open an existing file for writing in place."""

    def make_directories(self, path: str) -> None:
        """Make a folder and its parents; one that exists is no error."""

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        """Rename within a volume."""

    def delete(self, path: str) -> None:
        """Delete a file."""


class _Refused(Exception):
    def __init__(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.answer = Answer(status, headers=headers or {})


class _Hashing(threading.Thread):
    """The SHA-256 of one file: minutes for a captured image on a share, so it outlives the request that began it."""

    def __init__(self, files: FileSystem, path: str) -> None:
        super().__init__(daemon=True, name=f"hash {path}")
        self.digest = hashlib.sha256()
        self.hashed = 0
        self.error: OSError | None = None
        self.done = threading.Event()
        self._files = files
        self._path = path

    def run(self) -> None:
        try:
            with self._files.open_read(self._path) as file:
                while data := file.read(_HASH_CHUNK):
                    self.digest.update(data)
                    self.hashed += len(data)
        except OSError as error:
            self.error = error
        finally:
            self.done.set()


class FileRoutes:
    """Handles the requests below ``/osd/files/``.

    Args:
        files: the computer's files.
        limit: the largest file that is taken, in bytes.
        version: returns a file's version resource, where the computer can tell.
        patience: seconds that a request for a hash waits before it is answered 202; below the client's read timeout.
    """

    def __init__(
        self,
        files: FileSystem,
        *,
        limit: int = LIMIT,
        version: Callable[[str], str | None] | None = None,
        patience: float = 10.0,
    ) -> None:
        self._files = files
        self._limit = limit
        self._version = version
        self._patience = patience
        self._lock = threading.Lock()
        self._hashings: dict[tuple[str, int], _Hashing] = {}

    def __call__(self, method: str, target: str, headers: Headers, body: RequestBody) -> Answer:
        """Answer one request."""
        try:
            path, query = parse_target(target)
            if method == "GET":
                return self._get(path, headers)
            if method == "HEAD":
                return self._head(path, query)
            if method == "PUT":
                place = headers.get("Content-Range")
                return self._put(path, body) if place is None else self._put_range(path, place, body)
            return Answer(405, headers={"Allow": "GET, HEAD, PUT"})
        except ValueError:
            return Answer(400)
        except _Refused as refused:
            return refused.answer
        except OSError as error:
            return Answer(status_of(error))

    def _existing(self, path: str) -> int:
        if self._files.is_directory(path):
            raise _Refused(409)
        if not self._files.is_file(path):
            raise _Refused(404)
        return self._files.size(path)

    def _get(self, path: str, headers: Headers) -> Answer:
        size = self._existing(path)
        wanted = headers.get("Range")
        common = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if wanted is None:
            return Answer(200, headers=common, stream=self._files.open_read(path), length=size)
        first, last = _range(wanted, size)
        stream = self._files.open_read(path)
        try:
            stream.seek(first)
        except BaseException:
            stream.close()
            raise
        return Answer(206, headers={**common, "Content-Range": f"bytes {first}-{last}/{size}"}, stream=stream, length=last - first + 1)

    def _head(self, path: str, query: Mapping[str, str]) -> Answer:
        size = self._existing(path)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if "hash" in query:
            if query["hash"].lower() != "sha256":
                return Answer(400)
            hashing = self._hashing(path, size)
            if not hashing.done.wait(self._patience):
                return Answer(202, headers={"X-OSD-Hashed": str(hashing.hashed)})
            self._hashings.pop((path.lower(), size), None)
            if hashing.error is not None:
                raise hashing.error
            headers["X-OSD-SHA256"] = hashing.digest.hexdigest()
        version = self._version(path) if self._version is not None else None
        if version:
            headers["X-OSD-Version"] = version
        return Answer(200, headers=headers, length=size)

    def _hashing(self, path: str, size: int) -> _Hashing:
        """Return the computation for a file, the one under way where there is one."""
        with self._lock:
            hashing = self._hashings.get((path.lower(), size))
            if hashing is None:
                hashing = self._hashings[(path.lower(), size)] = _Hashing(self._files, path)
                hashing.start()
        return hashing

    def _put(self, path: str, body: RequestBody) -> Answer:
        if body.length is not None and body.length > self._limit:
            raise BodyTooLarge
        if self._files.is_directory(path):
            return Answer(409)
        there = self._files.is_file(path)
        folder = path.rpartition("\\")[0]
        self._files.make_directories(folder if len(folder) > 2 else folder + "\\")
        beside = f"{path}.{secrets.token_hex(4)}.tmp"
        digest = hashlib.sha256()
        size = 0
        try:
            with self._files.open_write(beside) as file:
                while data := body.read(_CHUNK):
                    size += len(data)
                    if size > self._limit:
                        raise BodyTooLarge
                    digest.update(data)
                    file.write(data)
            self._files.rename(beside, path, replace=True)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.delete(beside)
            raise
        return Answer(204 if there else 201, headers={"X-OSD-SHA256": digest.hexdigest()})

    def _put_range(self, path: str, place: str, body: RequestBody) -> Answer:
        match = _CONTENT_RANGE.fullmatch(place.strip())
        if match is None:
            return Answer(400)
        first, last = int(match[1]), int(match[2])
        if last < first or (body.length is not None and body.length != last - first + 1):
            return Answer(400)
        if last >= self._limit and last >= self._existing(path) + self._limit:
            raise BodyTooLarge
        size = self._existing(path)
        if first > size:
            return Answer(416, headers={"Content-Range": f"bytes */{size}"})
        left = last - first + 1
        with self._files.open_update(path) as file:
            file.seek(first)
            while data := body.read(min(_CHUNK, left)):
                file.write(data)
                left -= len(data)
        return Answer(400 if left else 204)


def parse_target(target: str) -> tuple[str, dict[str, str]]:
    r"""Return the Windows path (``W:\folder\name``) and the query of a request target. ValueError where it is no path of a file."""
    text, dummy, query = target.partition("?")
    if not text.startswith(PREFIX):
        raise ValueError("not below /osd/files/")
    try:
        parts = [urllib.parse.unquote(part, errors="strict") for part in text[len(PREFIX) :].split("/")]
    except UnicodeDecodeError:
        raise ValueError("the path is not UTF-8") from None
    drive, *names = parts
    network = drive == _NETWORK
    if not (network and len(names) > 2) and not (re.fullmatch("[A-Za-z]:", drive) and names):
        raise ValueError("the path begins neither with a drive letter nor with UNC, server and share")
    for name in names:
        if not name or name.strip(". ") == "" or name != name.rstrip(". ") or _ILLEGAL.search(name) or "/" in name or len(name) > 255:
            raise ValueError("the path has a part that no file can have as its name")
        if _RESERVED.match(name):
            raise ValueError("the path has the name of a device")
    return "\\".join(["\\", *names] if network else [drive.upper(), *names]), dict(urllib.parse.parse_qsl(query))


def status_of(error: OSError) -> int:
    """Return the HTTP status for a problem with a file."""
    code = getattr(error, "code", None) or getattr(error, "winerror", None)
    if isinstance(code, int):
        return _WIN32_STATUS.get(code, 500)
    return _POSIX_STATUS.get(error.errno or 0, 500)


def _range(wanted: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or (match[1] is None and match[2] is None):
        raise ValueError("the range is not understood")
    if match[1] is None:
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), min(size - 1, int(match[2]) if match[2] else size - 1)
    if first >= size or last < first:
        raise _Refused(416, {"Content-Range": f"bytes */{size}"})
    return first, last
