# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The capture configuration list (WimScript.ini): what stays out of an image, written for DISM and read for the lab.

A list that is given replaces DISM's own, so its entries are restated [doc: cp/dism-configuration-list-and-wimscriptini-files-winnext].
A leading backslash means the root of the captured folder; without one a name matches anywhere; wildcards only in the last part.
Everything below an excluded folder is out as well; an exception brings back what a relative pattern took, and reaches into an
excluded folder only as an absolute path [doc; measured with wimlib, imaging 1.5].
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from .names import WORK_FOLDER

#: DISM's own exclusions [doc].
DEFAULT_EXCLUSIONS: tuple[str, ...] = (
    r"\$ntfs.log",
    r"\hiberfil.sys",
    r"\pagefile.sys",
    r"\swapfile.sys",
    r"\System Volume Information",
    r"\RECYCLER",
    r"\$RECYCLE.BIN",
    r"\Windows\CSC",
)
#: DISM's own list of what is not worth compressing [doc].
DEFAULT_UNCOMPRESSED: tuple[str, ...] = ("*.mp3", "*.zip", "*.cab", r"\WINDOWS\inf\*.pnf")
#: What only describes the run, or makes captures fail: our folder, traces of setup, cloud placeholders [doc: imaging 1.5].
OWN_EXCLUSIONS: tuple[str, ...] = (
    "\\" + WORK_FOLDER,
    r"\$Windows.~BT",
    r"\$Windows.~LS",
    r"\Windows\Panther\*.etl",
)

_SECTIONS = {
    "exclusionlist": "exclusions",
    "exclusionexception": "exceptions",
    "compressionexclusionlist": "uncompressed",
    "prepopulatelist": "",
    "compressionfolderlist": "",
}


class ConfigurationError(ValueError):
    """A list that DISM would not take; the message names the entry."""


@dataclass(frozen=True)
class CaptureConfiguration:
    """The three lists. Patterns with backslashes, as the file has them."""

    exclusions: tuple[str, ...] = DEFAULT_EXCLUSIONS
    exceptions: tuple[str, ...] = ()
    uncompressed: tuple[str, ...] = DEFAULT_UNCOMPRESSED

    def excludes(self, path: str) -> bool:
        r"""Tell whether a path in the captured folder (``\Windows\CSC``) stays out, itself or with a folder above it."""
        parts = [part for part in path.replace("/", "\\").split("\\") if part]
        for depth in range(1, len(parts) + 1):
            if self._matches(self.exclusions, parts[:depth]):
                return not self._brought_back(parts)
        return False

    def _brought_back(self, parts: list[str]) -> bool:
        return any(self._matches(self.exceptions, parts[:depth]) for depth in range(1, len(parts) + 1))

    @staticmethod
    def _matches(patterns: tuple[str, ...], parts: list[str]) -> bool:
        return any(_matches(pattern, parts) for pattern in patterns)


def _matches(pattern: str, parts: list[str]) -> bool:
    wanted = [part for part in pattern.replace("/", "\\").split("\\") if part]
    if pattern.startswith(("\\", "/")):
        tail = parts
        if len(wanted) != len(parts):
            return False
    else:
        tail = parts[-len(wanted) :]
        if len(tail) != len(wanted):
            return False
    return all(_glob(w).match(p.lower()) for w, p in zip(wanted, tail, strict=True))


def _glob(pattern: str) -> re.Pattern[str]:
    # Only * and ? are wildcards; brackets are plain characters in Windows.
    return re.compile(translate(pattern.lower().replace("[", "[[]")))


def for_capture(extra: Iterable[str] = (), exceptions: Iterable[str] = ()) -> CaptureConfiguration:
    """Return the list of a reference capture: DISM's own, ours, and what the user adds. Raises ConfigurationError."""
    added, brought_back = tuple(extra), tuple(exceptions)
    for pattern in added + brought_back:
        check_pattern(pattern)
    return CaptureConfiguration((*DEFAULT_EXCLUSIONS, *OWN_EXCLUSIONS, *added), brought_back)


def check_pattern(pattern: str) -> None:
    """Raise ConfigurationError for a pattern that DISM does not take."""
    what = f"The exclusion {pattern!r}"
    if not pattern.strip() or pattern != pattern.strip():
        raise ConfigurationError(f"{what} is empty or has blanks around it")
    if re.match(r"[A-Za-z]:", pattern):
        raise ConfigurationError(f"{what} has a drive letter; write it from the root of the volume, like \\{pattern[3:]}")
    if not pattern.isascii() or re.search(r'[\x00-\x1f"<>|]', pattern):
        raise ConfigurationError(f"{what} holds characters that the file cannot hold (it is plain ASCII)")
    if pattern.startswith("["):
        raise ConfigurationError(f"{what} would be read as the head of a section")
    *folders, dummy = [part for part in pattern.replace("/", "\\").split("\\") if part] or [""]
    if any("*" in folder or "?" in folder for folder in folders):
        raise ConfigurationError(f"{what} has a wildcard in a folder's name; only the last part may have one")


def render(configuration: CaptureConfiguration) -> bytes:
    """Return the file for ``/ConfigFile``: ASCII, lines ended as in Windows."""
    sections = (
        ("ExclusionList", configuration.exclusions),
        ("ExclusionException", configuration.exceptions),
        ("CompressionExclusionList", configuration.uncompressed),
    )
    blocks = ["\r\n".join([f"[{name}]", *patterns, ""]) for name, patterns in sections if patterns or name == "ExclusionList"]
    return "\r\n".join(blocks).encode("ascii")


def parse(data: bytes) -> CaptureConfiguration:
    """Read a file: ASCII, UTF-8 or UTF-16, comments with ``;`` and ``#``. Raises ConfigurationError for lines outside of a section."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lists: dict[str, list[str]] = {"exclusions": [], "exceptions": [], "uncompressed": []}
    section: str | None = None
    for number, raw in enumerate(data.decode(encoding, "replace").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith((";", "#")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = _SECTIONS.get(line[1:-1].lower())
            if section is None:
                raise ConfigurationError(f"Line {number} of the capture configuration names an unknown section: {line}")
        elif section is None:
            raise ConfigurationError(f"Line {number} of the capture configuration stands in no section: {line}")
        elif section:
            lists[section].append(line.strip('"'))
    return CaptureConfiguration(tuple(lists["exclusions"]), tuple(lists["exceptions"]), tuple(lists["uncompressed"]))
