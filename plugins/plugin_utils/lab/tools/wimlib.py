# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs wimlib-imagex on the host for the lab's dism: real WIM files, real progress, ended when the simulated process is ended."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import IO

from ...wsman.known import known
from .grammar import Cancelled

PROGRAM = "wimlib-imagex"
#: wimlib's exit codes as the Win32 or HRESULT codes that DISM ends with [code: wimlib error enum; knowledge].
_CODES = {
    1: 32, 2: 13, 11: 0x80070057, 13: 13, 18: 87, 28: 13, 39: 14, 47: 2, 48: 5, 49: 2, 50: 5, 55: 13, 56: 2, 63: 2, 65: 11, 68: 11,
    71: 5, 72: 112, 76: 1223, 83: 2, 84: 11, 88: 32,
}  # fmt: skip
_PERCENT = re.compile(rb"\((\d{1,3})%\)")


def run(arguments: Sequence[str], on_percent: Callable[[int], None] | None, cancelled: threading.Event) -> int:
    """Run wimlib-imagex; return 0 or the code DISM would end with. Percent values arrive as they come, growing."""
    environment = {**os.environ, "WIMLIB_IMAGEX_IGNORE_CASE": "1", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    except FileNotFoundError:
        raise RuntimeError("The lab needs wimlib-imagex on the control node (Debian package wimtools).") from None
    output = known(process.stdout)
    watcher = threading.Thread(target=_watch, args=(process, cancelled), daemon=True)
    watcher.start()
    _read_progress(output, on_percent)
    code = process.wait()
    output.close()
    watcher.join()
    if cancelled.is_set():
        raise Cancelled
    return _CODES.get(code, 0x80004005) if code else 0


def _watch(process: subprocess.Popen[bytes], cancelled: threading.Event) -> None:
    while process.poll() is None:
        if cancelled.wait(0.05):
            process.kill()
            return


def _read_progress(output: IO[bytes], on_percent: Callable[[int], None] | None) -> None:
    last = -1
    rest = b""
    while chunk := os.read(output.fileno(), 65536):
        rest = (rest + chunk)[-4096:]
        for match in _PERCENT.finditer(rest):
            percent = int(match[1])
            if percent > last:
                last = percent
                if on_percent:
                    on_percent(percent)
        rest = rest[-40:]
