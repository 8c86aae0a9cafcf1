# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""wimlib on the control node, without mounting: what is in an image, taking files out, putting files in, one image alone.

Names are compared as Windows does: without WIMLIB_IMAGEX_IGNORE_CASE wimlib makes a second ``/windows`` beside ``/Windows`` and says
nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

PROGRAM = "wimlib-imagex"
#: Exit codes of wimlib worth words [code: wimlib.h].
_MEANINGS = {
    2: "its compressed data are damaged",
    13: "its integrity table says it is damaged",
    18: "it has no such image",
    28: "a file in it has another SHA-1 than written",
    49: "the path is not in the image",
    55: "it needs another WIM that was not given (a delta WIM)",
    65: "it is cut off, or no WIM at all",
    72: "the disk is full",
    84: "it was never finished",
}
_NOT_FOUND = 49


class WimlibError(RuntimeError):
    """wimlib refused; ``code`` is its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def require() -> None:
    """Raise WimlibError where wimlib is not installed."""
    if shutil.which(PROGRAM) is None:
        raise WimlibError(0, f"{PROGRAM} is not installed on the control node; install it (Debian: apt install wimtools).")


def run(arguments: Sequence[str], *, stdin: str = "") -> str:
    """Run wimlib-imagex and return its output. WimlibError with the code's meaning."""
    environment = dict(os.environ, WIMLIB_IMAGEX_IGNORE_CASE="1", LC_ALL="C.UTF-8")
    result = subprocess.run(  # noqa: S603
        [PROGRAM, *arguments], input=stdin, capture_output=True, text=True, errors="replace", check=False, env=environment
    )
    if result.returncode:
        meaning = _MEANINGS.get(result.returncode, "")
        words = result.stderr.strip().splitlines()[-1:] or [""]
        reason = f"{meaning}: {words[0]}" if meaning else words[0]
        raise WimlibError(result.returncode, f"wimlib-imagex {' '.join(arguments[:3])} ended with {result.returncode}: {reason}")
    return result.stdout


def list_files(image: Path, index: int, folder: str = "") -> list[str]:
    r"""Return the paths in an image (``\Windows\…``) below a folder; () where there is no such folder."""
    path = "/" + folder.replace("\\", "/").strip("/")
    try:
        lines = run(["dir", str(image), str(index), f"--path={path}"]).splitlines()
    except WimlibError as error:
        if error.code == _NOT_FOUND:
            return []
        raise
    return [line.replace("/", "\\") for line in lines]


def extract(image: Path, index: int, paths: Iterable[str], target: Path, *, optional: bool = False) -> list[Path]:
    """Take files out into a folder, flat. ``optional``: those that are not there are left out; otherwise WimlibError 49."""
    found = []
    for path in paths:
        wanted = "/" + path.replace("\\", "/").lstrip("/")
        try:
            run(["extract", str(image), str(index), wanted, f"--dest-dir={target}", "--no-acls", "--quiet"])
        except WimlibError as error:
            if optional and error.code == _NOT_FOUND:
                continue
            raise
        # The file has the name that the image gives it, not the one asked for.
        name = wanted.rsplit("/", 1)[-1].lower()
        found.append(next(file for file in target.iterdir() if file.name.lower() == name))
    return found


def export(image: Path, index: int, target: Path, name: str, description: str, *, compress: str = "") -> None:
    """Write one image alone, bootable, into a new WIM."""
    options = [f"--compress={compress}"] if compress else []
    run(["export", str(image), str(index), str(target), name, description, "--boot", "--check", *options])


def update(image: Path, commands: Iterable[str]) -> None:
    """Change image 1 and write the WIM anew, without holes."""
    run(["update", str(image), "1", "--check", "--rebuild", "--threads=1"], stdin="\n".join(commands) + "\n")


def set_property(image: Path, index: int, name: str, value: str) -> None:
    """Set an element of an image's XML."""
    run(["info", str(image), str(index), f"--image-property={name}={value}", "--check"])


def verify(image: Path) -> None:
    """Read the whole file and compare every SHA-1."""
    run(["verify", str(image), "--quiet"])
