# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Windows that was applied to the disk and has not started yet, as Windows PE sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .computer import Computer
from .image import ANSWER_FILE_ARCHITECTURES
from .registry import OfflineRegistry
from .volumes import windows_root

#: Where Setup looks for an answer file on an applied image [doc: cp/windows-setup-automation-overview].
ANSWER_FILE = r"Windows\Panther\unattend.xml"
_ENVIRONMENT = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
_PRODUCT_OPTIONS = r"SYSTEM\CurrentControlSet\Control\ProductOptions"


class UnknownArchitecture(LookupError):
    """The applied Windows does not say which processors it is for."""


@dataclass(frozen=True)
class AppliedWindows:
    r"""Root of its volume (``W:\``), architecture as answer files name it, whether it is a server, its answer file's bytes."""

    root: str
    architecture: str
    server: bool
    answer_file: bytes | None = field(default=None, repr=False)

    @property
    def answer_file_path(self) -> str:
        """The answer file's path, as Windows PE sees it now."""
        return self.root + ANSWER_FILE


def read_applied_windows(computer: Computer, record: Mapping[str, Any] | None, drive: str = "") -> AppliedWindows:
    """Find it and read what answer files need.

    ``drive`` is where the run put it, if that is known. ``record`` is what Apply Operating System Image kept (``architecture``,
    ``edition``); without it the SYSTEM hive is read, which costs two requests more. Raises NoWindows, UnknownArchitecture,
    RegistryError.
    """
    root = windows_root(computer, drive)
    known = record or {}
    architecture = ANSWER_FILE_ARCHITECTURES.get(str(known.get("architecture", "")).lower(), "")
    edition = str(known.get("edition", ""))
    server = edition.lower().startswith("server")
    if not architecture or not edition:
        registry = OfflineRegistry(computer, root, ("SYSTEM",))
        registry.read((_ENVIRONMENT, _PRODUCT_OPTIONS))
        processor = registry.get_string(_ENVIRONMENT, "PROCESSOR_ARCHITECTURE") or ""
        server = (registry.get_string(_PRODUCT_OPTIONS, "ProductType") or "WinNT") != "WinNT"
        architecture = architecture or processor.lower()
    if architecture not in ANSWER_FILE_ARCHITECTURES.values():
        raise UnknownArchitecture(
            f"The Windows on {root} does not say which processors it is for "
            f"(HKLM\\{_ENVIRONMENT}, PROCESSOR_ARCHITECTURE is {architecture!r})."
        )
    return AppliedWindows(root, architecture, server, _read(computer, root + ANSWER_FILE))


def _read(computer: Computer, path: str) -> bytes | None:
    try:
        return computer.get_file(path)
    except FileNotFoundError:
        return None
