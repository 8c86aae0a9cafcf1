# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Which logs a computer has in an environment, and what they are called on the control node.

Sources of the paths: Setup and Sysprep [doc: wsd windows-setup-log-files-and-event-logs], DISM [doc: cp/dism-global-options], joining
[doc: NetSetup.LOG], the client [doc: cm log-files].
"""

from __future__ import annotations

from ..windows.computer import Computer, Environment
from ..windows.names import LOGS_FOLDER
from ..wsman import wql

#: On the Windows volume, from its root.
_OF_WINDOWS = (
    r"Windows\Panther\setupact.log",
    r"Windows\Panther\setuperr.log",
    r"Windows\Panther\UnattendGC\setupact.log",
    r"Windows\Panther\UnattendGC\setuperr.log",
    r"Windows\System32\Sysprep\Panther\setupact.log",
    r"Windows\System32\Sysprep\Panther\setuperr.log",
    r"Windows\Logs\DISM\dism.log",
    r"Windows\debug\NetSetup.LOG",
    r"Windows\ccmsetup\logs\ccmsetup.log",
)
_OF_WINDOWS_PE = r"X:\Windows\Logs\DISM\dism.log"
#: Folders that say nothing about a log.
_UNSAID = frozenset({"windows", "system32", "panther", "logs", "_osd", "dism", "debug", "ccmsetup"})


def find_logs(computer: Computer, windows_drive: str) -> dict[str, int]:
    """Return the logs that are there with their sizes in bytes. ``windows_drive`` is the Windows volume's (``W:``), '' before there is one.

    In Windows two requests; in Windows PE one, and one a place.
    """
    if computer.environment is Environment.FULL_OS:
        names = [rf"{windows_drive}\{path}" for path in _OF_WINDOWS]
        where = " OR ".join(f"Name={wql.quote(name.lower())}" for name in names)
        return _sizes(computer, where) | _work_logs(computer, windows_drive)
    places = [_OF_WINDOWS_PE, *(rf"{windows_drive}\{path}" for path in _OF_WINDOWS if windows_drive)]
    found = {path: info.size for path in places if (info := computer.file_info(path))}
    return found | (_work_logs(computer, windows_drive) if windows_drive else {})


def _work_logs(computer: Computer, drive: str) -> dict[str, int]:
    """Return the logs in the run's own folder."""
    folder = "\\" + LOGS_FOLDER.lower() + "\\"
    found = _sizes(computer, f"Drive={wql.quote(drive.lower())} AND Path={wql.quote(folder)}")
    return {path: size for path, size in found.items() if path.lower().endswith(".log")}


def _sizes(computer: Computer, where: str) -> dict[str, int]:
    rows = computer.cim.query(f"SELECT Name,FileSize FROM CIM_DataFile WHERE {where}")
    return {str(row["Name"]): row["FileSize"] if isinstance(row["FileSize"], int) else 0 for row in rows}


def log_name(path: str) -> str:
    r"""Return the file's name on the control node: ``sysprep-setupact.log`` for ``...\System32\Sysprep\Panther\setupact.log``."""
    *folders, name = path.split("\\")[1:]
    return "-".join([*(folder.lower() for folder in folders if folder.lower() not in _UNSAID), name.lower()])
