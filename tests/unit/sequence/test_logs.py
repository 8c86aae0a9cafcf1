# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which part of a log is fetched: the running Windows gives files only whole, Windows PE any range."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.context import SequenceContext
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment, FileInfo

LOG = r"C:\Windows\Panther\setupact.log"
LARGE = 3 * 1024 * 1024


class Computer(SimpleNamespace):
    """One log of a size."""

    def file_info(self, path: str) -> FileInfo | None:
        return FileInfo(self.size) if path == LOG else None

    def get_file(self, path: str) -> bytes:
        return b"x" * self.size

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        assert offset + length == self.size
        return b"y" * length


def fetch(environment: Environment, size: int, path: str = LOG) -> bytes:
    return SequenceContext._read_tail(Computer(environment=environment, size=size), path)  # type: ignore[arg-type]


def test_a_log_too_large_for_the_running_windows_stays_unfetched() -> None:
    assert fetch(Environment.FULL_OS, 300 * 1024) == b"x" * 256 * 1024
    with pytest.raises(OSError, match="too large"):
        fetch(Environment.FULL_OS, LARGE)


def test_windows_pe_takes_the_end_of_any_log() -> None:
    assert fetch(Environment.WINDOWS_PE, LARGE) == b"y" * 256 * 1024
    assert fetch(Environment.WINDOWS_PE, 0) == b""
    with pytest.raises(FileNotFoundError):
        fetch(Environment.WINDOWS_PE, 1, r"C:\other.log")
