# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one request with which every task begins: which environment answers, since which start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..windows.computer import Cim, Environment

#: One row, two columns, no shell.
QUERY = "SELECT SystemDrive,LastBootUpTime FROM Win32_OperatingSystem"


class UnknownEnvironment(Exception):
    """Something answers that is no Windows of a run."""


@dataclass(frozen=True)
class Fence:
    """Where the computer is. ``boot_id`` is its last start as text: another one means that it was restarted."""

    environment: Environment
    boot_id: str


def read_fence(cim: Cim) -> Fence:
    """Ask. Windows PE always runs from ``X:``, an installed Windows never does [doc: cp/winpe-intro]."""
    rows = cim.query(QUERY)
    if not rows:
        raise UnknownEnvironment("The computer answers, but Win32_OperatingSystem has no instance.")
    drive, boot = str(rows[0]["SystemDrive"] or ""), rows[0]["LastBootUpTime"]
    if not drive:
        raise UnknownEnvironment("The computer answers, but does not say which drive it runs from.")
    environment = Environment.WINDOWS_PE if drive.upper() == "X:" else Environment.FULL_OS
    return Fence(environment, boot.isoformat() if isinstance(boot, datetime) else str(boot or ""))
