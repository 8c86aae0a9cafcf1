# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install Software Updates.

The packages of a folder, in the given order, by DISM in a SYSTEM job, restarted where they ask for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import updates
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import describe_exit_code, format_code, remedy_for
from ..windows.local_content import SYSTEM32, Source, slug
from ..windows.names import WORK_FOLDER
from ..windows.pending_restart import read_servicing
from ..windows.registry import Registry
from ..windows.updates import PackageState, Update
from .base import Change, Plan, Step, StepFailure
from .content_copy import fetch_content

_LOG = rf"C:\{WORK_FOLDER}\logs\dism-updates.log"
_FOLDER = "updates"


@dataclass(frozen=True)
class Entry:
    """One update with its state."""

    number: int
    update: Update
    state: PackageState


@dataclass(frozen=True)
class UpdatePlan(Plan):
    """All updates in order; those that are there are only reported."""

    entries: tuple[Entry, ...] = ()


class InstallSoftwareUpdates(Step[tuple[Entry, ...], UpdatePlan]):
    """The step. The client's own route comes later; this one needs no client, no update service and no internet."""

    name: ClassVar[str] = "Install Software Updates"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.FULL_OS})
    secrets: ClassVar[tuple[str, ...]] = ("source.account.password",)

    def __init__(self, options: Mapping[str, Any], context: Any) -> None:
        """Build the updates."""
        super().__init__(options, context)
        self._updates = [updates.update_from_option(option) for option in options["updates"]]
        self._not_applicable: set[str] = set()
        self._restarts = 0
        self._folder = ""

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check the source and every entry."""
        problems = []
        source = Source.from_option(options["source"])
        if source.problem():
            problems.append(f"source: {source.problem()}")
        elif source.is_file:
            problems.append(f"source: '{source.target}' is a file; give the folder that holds the packages")
        for option in options["updates"]:
            problems += [f"updates: {problem}" for problem in updates.update_problems(option)]
        if not 1 <= options["retry_count"] <= 5:
            problems.append(f"retry_count: {options['retry_count']}; allowed are 1 to 5")
        return problems

    def observe(self, computer: Computer) -> tuple[Entry, ...]:
        """Read each package's state. One request a package with identity."""
        states = updates.read_states(Registry(computer.cim), self._updates)
        return tuple(
            Entry(number, update, state) for number, (update, state) in enumerate(zip(self._updates, states, strict=True), start=1)
        )

    def plan(self, state: tuple[Entry, ...]) -> UpdatePlan:
        """Install what is not there; a pending package needs a restart only."""
        changes = [Change(f"install {entry.update.file}") for entry in state if not entry.state.is_there and not _pending(entry)]
        changes += [Change(f"restart to complete {entry.update.file}") for entry in state if _pending(entry)]
        return UpdatePlan(
            changes=tuple(changes),
            before={entry.update.file: entry.state.value for entry in state},
            after={entry.update.file: (entry.state if entry.state.is_there else PackageState.INSTALLED).value for entry in state},
            entries=state,
        )

    def predict(self) -> UpdatePlan:
        """What is in the image already is not known yet."""
        return UpdatePlan(changes=tuple(Change(f"install {update.file}") for update in self._updates), predicted=True)

    def apply(self, computer: Computer, plan: UpdatePlan) -> Computer:
        """Install in rounds: all that are missing, a restart, another look; ended when nothing is missing."""
        entries: Sequence[Entry] = plan.entries
        for attempt in range(1, self.options["retry_count"] + 1):
            computer = self._round(computer, entries, attempt)
            entries = [entry for entry in self.observe(computer) if entry.update.file not in self._not_applicable]
            if all(entry.state.is_there for entry in entries):
                break
        return computer

    def _round(self, computer: Computer, entries: Sequence[Entry], attempt: int) -> Computer:
        restart = any(_pending(entry) for entry in entries)
        wanted = [entry for entry in entries if not entry.state.is_there and not _pending(entry)]
        folder = self._prepare(computer) if wanted else ""
        for done, entry in enumerate(wanted):
            self._wait_until_idle(computer)
            self.context.progress(0, f"{entry.update.file} ({done + 1} of {len(wanted)})")
            restart |= self._install(computer, folder, entry, attempt)
        if restart or read_servicing(Registry(computer.cim)).restart_pending:
            self._wait_until_idle(computer)
            computer = self.context.restart(computer, Environment.FULL_OS, time_limit=self.options["restart_time_limit"] * 60)
            self._restarts += 1
            self._wait_until_idle(computer)
        return computer

    def _prepare(self, computer: Computer) -> str:
        """Bring the packages to the computer, once."""
        if not self._folder:
            self._folder = fetch_content(self.context, computer, Source.from_option(self.options["source"]), _FOLDER)
        return self._folder

    def _install(self, computer: Computer, folder: str, entry: Entry, attempt: int) -> bool:
        """Install one package; tell whether it asked for a restart."""
        package = rf"{folder}\{entry.update.file}"
        self._check_hash(computer, entry.update, package)
        argv = updates.add_package(rf"{SYSTEM32}\dism.exe", package, _LOG)
        label = f"{entry.number:02}-{slug(entry.update.file)}-{attempt}"
        job = self.context.run_job(computer, label, argv, time_limit=self.options["time_limit"] * 60)
        if job.exit_code in updates.NOT_APPLICABLE:
            self._not_applicable.add(entry.update.file)
            self.context.warn(f"{entry.update.file} is not applicable to this Windows ({format_code(job.exit_code)}); it was skipped.")
            return False
        if job.exit_code not in (updates.SUCCESS, updates.RESTART_REQUIRED):
            raise StepFailure(
                f"{entry.update.file} was not installed: DISM ended with {describe_exit_code('dism', job.exit_code)}.",
                code=job.exit_code,
                remedy=remedy_for("dism", job.exit_code) or r"Read the DISM log and C:\Windows\Logs\CBS\CBS.log.",
                log=self.context.fetch_log(computer, _LOG) or str(job.log or ""),
            )
        return job.exit_code == updates.RESTART_REQUIRED

    def _check_hash(self, computer: Computer, update: Update, package: str) -> None:
        if not update.sha256:
            return
        try:
            found = computer.file_hash(package)
        except FileNotFoundError as error:
            raise StepFailure(
                f"{update.file} is not in {self.options['source']['target']}.",
                remedy="Correct the file's name in updates.",
            ) from error
        if found != update.sha256:
            raise StepFailure(f"{update.file} has SHA-256 {found}, declared is {update.sha256}.", remedy="Restore the file.")

    def _wait_until_idle(self, computer: Computer) -> None:
        """Windows finishes an earlier update after a restart; DISM beside it fails, and a restart then costs hours."""
        end = time.monotonic() + self.options["restart_time_limit"] * 60
        registry = Registry(computer.cim)
        while read_servicing(registry).working:
            if time.monotonic() > end:
                raise StepFailure(
                    f"Windows is still servicing itself after {self.options['restart_time_limit']} minutes.",
                    remedy=r"Read C:\Windows\Logs\CBS\CBS.log on the computer, or raise restart_time_limit.",
                )
            self.context.progress(None, "Windows is finishing an earlier update")
            time.sleep(self.options["poll_interval"])

    def verify(self, computer: Computer, plan: UpdatePlan) -> Mapping[str, Any]:
        """Re-read every package's state."""
        entries = self.observe(computer)
        missing = [e for e in entries if not e.state.is_there and e.update.file not in self._not_applicable]
        if missing:
            listed = ", ".join(f"{entry.update.file} ({entry.state.value})" for entry in missing)
            raise StepFailure(
                f"Not installed after {self.options['retry_count']} rounds: {listed}.",
                remedy="Compare identity with 'dism /English /Online /Get-Packages', check the order, read CBS.log.",
                log=self.context.fetch_log(computer, _LOG),
            )
        return self._outcome(entries)

    def result(self, plan: UpdatePlan) -> Mapping[str, Any]:
        """Every package is there."""
        return self._outcome(plan.entries)

    def _outcome(self, entries: Sequence[Entry]) -> dict[str, Any]:
        return {
            "updates": [
                {
                    "file": entry.update.file,
                    "state": "not applicable" if entry.update.file in self._not_applicable else entry.state.value,
                }
                for entry in entries
            ],
            "restarts": self._restarts,
        }


def _pending(entry: Entry) -> bool:
    return entry.state is PackageState.PENDING
