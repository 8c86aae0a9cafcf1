# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Which logs a computer has in an environment, and what they are called on the control node.

Sources of the paths: Setup and Sysprep [doc: wsd windows-setup-log-files-and-event-logs], DISM [doc: cp/dism-global-options], joining
[doc: NetSetup.LOG], the client [doc: cm log-files].
"""

from __future__ import annotations

from collections.abc import Mapping

from ..windows.computer import Environment
from ..windows.names import LOGS_FOLDER, RECORDER

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
_OF_WINDOWS_PE = (r"X:\Windows\Logs\DISM\dism.log", RECORDER)
#: Folders that say nothing about a log.
_UNSAID = frozenset({"windows", "system32", "panther", "logs", "_osd", "dism", "debug", "ccmsetup"})


def log_places(environment: Environment, windows_drive: str) -> list[str]:
    """Return where logs are, for ``Computer.fetch_changed``. ``windows_drive`` is the Windows volume's (``W:``), '' before there is one."""
    places = [rf"{windows_drive}\{path}" for path in (*_OF_WINDOWS, rf"{LOGS_FOLDER}\*.log") if windows_drive]
    return places if environment is Environment.FULL_OS else [*_OF_WINDOWS_PE, *places]


def log_key(path: str) -> str:
    """Return by what a log is remembered: the Windows volume has another letter in Windows PE."""
    return path.lower() if path.upper().startswith("X:") else path[2:].lower()


def known_sizes(fetched: Mapping[str, int], windows_drive: str) -> dict[str, int]:
    """Return the sizes of the logs that were fetched, by the paths that they have in this environment."""
    places = {key if key.startswith("x:") else windows_drive + key: size for key, size in fetched.items()}
    return {path: size for path, size in places.items() if path[1:2] == ":"}


def log_name(path: str) -> str:
    r"""Return the file's name on the control node: ``sysprep-setupact.log`` for ``...\System32\Sysprep\Panther\setupact.log``."""
    *folders, name = path.split("\\")[1:]
    return "-".join([*(folder.lower() for folder in folders if folder.lower() not in _UNSAID), name.lower()])
