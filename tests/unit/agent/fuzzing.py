# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Broken HTTP requests by chance, with a seed. ``make test`` sends some, ``make soak`` very many."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.files import FileRoutes
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.http_server import HttpServer, Outcome

REQUESTS = (
    b"POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml;charset=UTF-8\r\nContent-Length: 5\r\n\r\n<a/>\n",
    b"POST /wsman HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n1;x=y\r\n \r\n0\r\nTrailer: a\r\n\r\n",
    b"POST /wsman HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nWSMANIDENTIFY: unauthenticated\r\nContent-Length: 4\r\n\r\n<a/>",
    b"PUT /osd/files/W:/a%20b/c.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /osd/files/W:/a.txt HTTP/1.1\r\nHost: x\r\nContent-Range: bytes 0-2/*\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /osd/files/W:/a.txt HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\n\r\n",
    b"HEAD /osd/files/W:/a.txt?hash=sha256 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic b3NkOng=\r\n\r\n",
)
GOOD = b"POST /wsman HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood"


class _Everybody:
    def authenticate(self, headers: Any, state: Any, body: bytes) -> Outcome:
        return Outcome("somebody")


class Files:
    """A computer's files in one folder; what the server lets through stays in there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _place(self, path: str) -> Path:
        place = self._root.joinpath(*path.split("\\")[1:])
        assert place.resolve().is_relative_to(self._root.resolve()), path
        return place

    def is_file(self, path: str) -> bool:
        return self._place(path).is_file()

    def is_directory(self, path: str) -> bool:
        return self._place(path).is_dir()

    def size(self, path: str) -> int:
        return self._place(path).stat().st_size

    def open_read(self, path: str) -> Any:
        return self._place(path).open("rb")

    def open_write(self, path: str, *, append: bool = False) -> Any:
        return self._place(path).open("ab" if append else "wb")

    def open_update(self, path: str) -> Any:
        return self._place(path).open("r+b")

    def make_directories(self, path: str) -> None:
        self._place(path).mkdir(parents=True, exist_ok=True)

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        self._place(source).replace(self._place(target))

    def delete(self, path: str) -> None:
        self._place(path).unlink()


def mutate(rng: random.Random, request: bytes) -> bytes:
    """Return a request with a few bytes changed, lost, doubled or put in; lines and numbers more often than others."""
    data = bytearray(request)
    for dummy in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 2:
            data[at:at] = rng.choice(
                [b"\r\n", b"\n", b"\0", b" ", b":", b"%2e%2e/", b"../", b"%00", b"%5c", b"\xff", b"-", b"9" * 30, b"a" * 5000]
            )
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 60)]
        elif kind == 4:
            digits = [index for index, value in enumerate(data) if 48 <= value <= 57]
            if digits:
                data[rng.choice(digits)] = rng.choice(b"0123456789-+x. ")
        else:
            lines = bytes(data).split(b"\r\n")
            rng.shuffle(lines)
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def attack(rng: random.Random, rounds: int, root: Path) -> int:
    """Send broken requests; return how many were answered. AssertionError for an answer that is none and for a good request without one."""
    server = HttpServer(
        ("127.0.0.1", 0),
        wsman=lambda body, user, content_type: (200, body),
        authenticator=_Everybody(),
        routes={"/osd/files/": FileRoutes(Files(root))},  # type: ignore[arg-type]
        idle_timeout=1.0,
    )
    server.start()
    answered = 0
    try:
        for number in range(rounds):
            request = mutate(rng, rng.choice(REQUESTS))
            answer = _send(server.port, request)
            assert not answer or answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), (request, answer)
            assert not answer.startswith(b"HTTP/1.1 500"), (request, answer)
            answered += bool(answer)
            if number % 50 == 0:
                assert _send(server.port, GOOD).endswith(b"\r\n\r\ngood"), request
    finally:
        server.stop()
    return answered


def _send(port: int, request: bytes) -> bytes:
    """Send and hang up; a client that hangs up gets what was answered until then."""
    found = b""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(request)
        with contextlib.suppress(OSError):
            # Not connected any more where the server has answered and hung up already: a plain OSError.
            link.shutdown(socket.SHUT_WR)
        while piece := link.recv(65536):
            found += piece
    return found
