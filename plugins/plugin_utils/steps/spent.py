# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""A captured reference computer is spent: ``\_osd\captured.json`` on its Windows volume says so until the disk is partitioned anew."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..windows.computer import Computer, Environment
from ..windows.disks import used_letters
from ..windows.names import WORK_FOLDER
from ..windows.volumes import file_sizes
from .base import StepFailure

#: Written by the capture, on the Windows volume.
CAPTURED_FILE = rf"{WORK_FOLDER}\captured.json"


@dataclass(frozen=True)
class Captured:
    """What the mark says: the run that captured, '' where it is damaged."""

    run: str


def read_captured(computer: Computer) -> Captured | None:
    """Return the mark; None where no volume has one. In Windows one request, in Windows PE two."""
    drives = ["C:"] if computer.environment is Environment.FULL_OS else [f"{letter}:" for letter in sorted(used_letters(computer.cim))]
    paths = [rf"{drive}\{CAPTURED_FILE}" for drive in drives]
    there = file_sizes(computer, paths)
    for path in paths:
        if path.lower() not in there:
            continue
        try:
            return Captured(str(json.loads(computer.get_file(path)).get("run", "")))
        except (ValueError, AttributeError, FileNotFoundError):
            return Captured("")
    return None


def refuse_captured(computer: Computer, run: str) -> None:
    """Refuse a computer that another run has captured. StepFailure with Configuration Manager's own remedy."""
    mark = read_captured(computer)
    if mark is None or (mark.run and mark.run == run):
        return
    raise StepFailure(
        f"This reference computer was captured already{f' by the run {mark.run!r}' if mark.run else ''} and is spent: what its first setup "
        "wrote into the registry would be in another image too.",
        remedy="Build a reference computer for every capture: run build_and_capture.yml with another osd_run and with Partition Disk 0. "
        "To use an installed one again, uninstall the Configuration Manager client and reinstall it first.",
    )
