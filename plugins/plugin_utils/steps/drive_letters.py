# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps in Windows PE share this: drive letters for partitions that Windows PE, started anew, gave none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..windows.computer import Computer
from ..windows.disks import DiskState, read_disks
from ..windows.exit_codes import describe_exit_code
from ..windows.volumes import Placed, placed
from .base import StepContext, StepFailure

_SCRIPT = "letters.txt"
_LETTERS = "CDEFGHIJKLMNOPQRSTUVYZ"


def free_letters(used: Iterable[str], preferred: str = "") -> tuple[str, ...]:
    """Return the letters that can be given, ``preferred`` ones first. X is Windows PE's own, W is kept for Windows."""
    taken = set(used)
    return tuple(letter for letter in dict.fromkeys(preferred + _LETTERS) if letter not in taken)


def assign_letters(context: StepContext, computer: Computer, wanted: Sequence[tuple[Placed, str]]) -> tuple[DiskState, ...]:
    """Give each partition its letter with one diskpart script; return the disks as they are then. StepFailure where one has another."""
    lines = []
    for place, letter in wanted:
        lines += [f"select disk {place.disk.number}", f"select partition {place.partition.number}", f"assign letter={letter}"]
    script = "".join(line + "\r\n" for line in lines).encode("ascii")
    argv = [r"X:\Windows\System32\diskpart.exe", "/s", rf".\{_SCRIPT}"]
    result = context.run_job(computer, "letters", argv, time_limit=300, files={_SCRIPT: script})
    if result.exit_code:
        raise StepFailure(
            f"diskpart ended with {describe_exit_code('diskpart', result.exit_code)} while it assigned drive letters.",
            code=result.exit_code,
            remedy="Look at the script's output in the log.",
            log=str(result.log or ""),
        )
    disks = read_disks(computer.cim)
    now = {(p.disk.number, p.partition.offset): p.letter for p in placed(disks)}
    for place, letter in wanted:
        if now.get((place.disk.number, place.partition.offset)) != letter:
            raise StepFailure(
                f"Partition {place.partition.number} of disk {place.disk.number} did not get the drive letter {letter}:.",
                remedy="Look at diskpart's output in the log.",
            )
    return disks
