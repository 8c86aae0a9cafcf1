# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hash that takes longer than a request may."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import Any, BinaryIO

from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.files import FileRoutes

CONTENT = b"a captured image" * 1000


class SlowFile(io.BytesIO):
    """Gives its content only when the test allows it."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__(CONTENT)
        self.gate = gate

    def read(self, size: int | None = -1, /) -> bytes:
        assert self.gate.wait(10)
        return super().read(size)


class Files:
    """One file."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.opened = 0

    def is_file(self, path: str) -> bool:
        return True

    def is_directory(self, path: str) -> bool:
        return False

    def size(self, path: str) -> int:
        return len(CONTENT)

    def open_read(self, path: str) -> BinaryIO:
        self.opened += 1
        return SlowFile(self.gate)


def ask(routes: FileRoutes) -> Any:
    return routes("HEAD", "/osd/files/W:/a.wim?hash=sha256", {}, None)  # type: ignore[arg-type]


def test_a_long_hash_answers_in_between_and_is_computed_once() -> None:
    files = Files()
    routes = FileRoutes(files, patience=0.01)  # type: ignore[arg-type]
    first = ask(routes)
    assert (first.status, first.headers) == (202, {"X-OSD-Hashed": "0"})
    assert ask(routes).status == 202
    files.gate.set()
    answer = ask(routes)
    while answer.status == 202:
        answer = ask(routes)
    assert answer.headers["X-OSD-SHA256"] == hashlib.sha256(CONTENT).hexdigest()
    assert files.opened == 1
