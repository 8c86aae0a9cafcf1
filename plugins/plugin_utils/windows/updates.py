# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Update packages installed by DISM in the running Windows: names, states, exit codes.

A package's state stands in the registry (Component Based Servicing), neutral to language and fast [knowledge].
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .registry import Registry

PACKAGES = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"

SUCCESS = 0
RESTART_REQUIRED = 3010
#: DISM's ways to say 'this package is not for this Windows' [knowledge].
NOT_APPLICABLE = frozenset({0x800F081E, 0x80240017})

_MEANINGS: Mapping[int, tuple[str, str]] = {
    2: ("the file was not found", "Check the file's name in updates."),
    5: ("access denied", ""),
    112: ("the disk is full", "Free space on C:, or make the Windows partition larger."),
    1460: ("its time limit was over", "Raise time_limit."),
    3010: ("success, a restart is required", ""),
    0x80070002: ("the file was not found", "Check the file's name in updates."),
    0x80070070: ("the disk is full", "Free space on C:, or make the Windows partition larger."),
    0x80073712: ("the component store is damaged", "Run dism /Online /Cleanup-Image /RestoreHealth, or use another image."),
    0x800F081E: ("not applicable to this Windows", "Choose the package for this version and architecture."),
    0x800F0823: ("a servicing stack update is missing", "Put the servicing stack update before it in updates."),
    0x800F0831: ("an earlier update that it builds on is missing or damaged", "Put the earlier update before it in updates."),
    0x800F0922: ("it could not be completed", "Often a full EFI or Recovery partition or a missing servicing stack update; read CBS.log."),
    0x800F0954: ("a feature's files could not be fetched, a policy names a WSUS server", "Give the files, or lift the policy for the build."),
    0x80240017: ("not applicable to this Windows", "Choose the package for this version and architecture."),
    0x80240041: ("Sysprep is in progress", "Restart the computer, then run the step again."),
}


def describe_exit_code(code: int) -> tuple[str, str]:
    """Return DISM's exit code for a package in words, and a remedy ('' where none is known)."""
    return _MEANINGS.get(code, ("not a code with a known meaning", r"Read the DISM log and C:\Windows\Logs\CBS\CBS.log."))


class PackageState(enum.Enum):
    """What Windows says about a package, in the words of the result."""

    ABSENT = "not installed"
    STAGED = "staged"
    PENDING = "restart pending"
    INSTALLED = "installed"
    SUPERSEDED = "superseded"

    @property
    def is_there(self) -> bool:
        """Whether nothing more is to be done; a superseded package is in a newer one."""
        return self in (PackageState.INSTALLED, PackageState.SUPERSEDED)


#: CurrentState of a package [knowledge: CBS].
_STATES = {112: PackageState.INSTALLED, 80: PackageState.SUPERSEDED, 96: PackageState.PENDING, 64: PackageState.STAGED}
_RANK = list(PackageState)


@dataclass(frozen=True)
class Update:
    """One package file. ``identity`` is its name in the component store; empty, it is found by its KB number."""

    file: str
    identity: str = ""
    sha256: str = ""

    @property
    def article(self) -> str:
        """The KB number in the file's name, '' where there is none."""
        found = re.search(r"kb(\d{6,8})", self.file, re.IGNORECASE)
        return found[1] if found else ""


def update_from_option(option: Mapping[str, Any]) -> Update:
    """Build an update from one entry of the step's list."""
    return Update(option["file"], option.get("identity") or "", (option.get("sha256") or "").lower())


_IDENTITY = re.compile(r"[^~\s]+~[0-9a-fA-F]*~[^~\s]*~[^~\s]*~[\d.]+")


def update_problems(option: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one entry, each line with the option's name."""
    update = update_from_option(option)
    problems = []
    if not update.file.lower().endswith((".cab", ".msu")):
        problems.append(f"file '{update.file}': only .cab and .msu packages can be installed")
    if "/" in update.file or update.file.startswith("\\") or ":" in update.file or ".." in update.file.split("\\"):
        problems.append(f"file '{update.file}': write a path below the source folder, with backslashes")
    if update.identity and not _IDENTITY.fullmatch(update.identity):
        problems.append(f"identity '{update.identity}': write it as Name~key~architecture~language~version")
    if not update.identity and not update.article:
        problems.append(f"file '{update.file}': no KB number in its name; give identity")
    return problems


def read_states(registry: Registry, updates: Sequence[Update]) -> list[PackageState]:
    """Read the state of each update. One request an update with identity; one more for the list of packages where one has none."""
    names = registry.enum_keys(PACKAGES) or [] if any(not update.identity for update in updates) else []
    return [_read_state(registry, update, names) for update in updates]


def _read_state(registry: Registry, update: Update, names: Sequence[str]) -> PackageState:
    if update.identity:
        candidates = [update.identity]
    else:
        pattern = re.compile(rf"package(_\d+)?_for_kb{update.article}(?!\d)", re.IGNORECASE)
        candidates = [name for name in names if pattern.match(name)]
    states = [_STATES.get(registry.get_dword(rf"{PACKAGES}\{name}", "CurrentState") or 0, PackageState.ABSENT) for name in candidates]
    return max(states, key=_RANK.index, default=PackageState.ABSENT)


def add_package(program: str, package: str, log: str) -> list[str]:
    """DISM's command line for one package online. Without /Quiet, so that it prints percent lines; /NoRestart keeps it from asking."""
    return [program, "/English", f"/LogPath:{log}", "/Online", "/Add-Package", f"/PackagePath:{package}", "/NoRestart"]
