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
    """Read the state of each update.

    One request an update with identity; one more for the list of packages where one has none.
    """
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
    """DISM's command line for one package online.

    Without /Quiet, so that it prints percent lines; /NoRestart keeps it from asking.
    """
    return [program, "/English", f"/LogPath:{log}", "/Online", "/Add-Package", f"/PackagePath:{package}", "/NoRestart"]
