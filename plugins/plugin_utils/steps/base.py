# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task-sequence step is: observe, plan, apply, verify. One subclass a step; no step knows a socket or XML.

The caller (the action base class) does the rest in this order: validate options → fence → ``observe`` → ``plan`` →
(stop in check mode) → ``apply`` → ``verify`` → result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..windows.computer import Computer, Environment

State = TypeVar("State")


class StepFailure(Exception):
    """A step that cannot go on. The message says what happened and where, in the user's words; ``remedy`` what to do next."""

    def __init__(self, message: str, *, code: int | None = None, remedy: str = "", log: str = "") -> None:
        """Take the numeric code with it, and the last lines of a log or the name of its file."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy
        self.log = log


@dataclass(frozen=True)
class Change:
    """One thing that will be done, as a line the user reads ('create partition 3: Windows, NTFS, 62 GB'). No secrets.

    A ``minor`` one is one of many of its kind: where there is no room for all, it is counted and not named.
    """

    summary: str
    minor: bool = False


@dataclass(frozen=True)
class Plan:
    """What a step will do, in order. No changes: nothing to do. ``before`` and ``after`` are what ``--diff`` shows.

    Subclasses carry the typed values that ``apply`` needs. ``predicted`` marks a plan made without the computer's state. ``erases`` are the
    letters of the volumes whose files it destroys.
    """

    changes: tuple[Change, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    predicted: bool = False
    erases: frozenset[str] = field(default_factory=frozenset)


PlanType = TypeVar("PlanType", bound=Plan)


@dataclass(frozen=True)
class JobResult:
    """A finished job: exit code (unsigned 32 bit), its whole output, where the log lies on the control node, seconds it took."""

    exit_code: int
    output: bytes
    log: Path | None
    seconds: float


class StepContext(Protocol):
    """What the sequence offers to a step that runs."""

    #: Identifies the run; empty outside of one.
    run_id: str
    #: ``osd_state_dir/<run>/logs`` on the control node, None outside of a run.
    log_directory: Path | None
    check_mode: bool

    def progress(self, percent: float | None, text: str) -> None:
        """Show how far a long action is. Throttled; never holds secrets. Text with a percent names the jobs that follow, too."""

    def warn(self, text: str) -> None:
        """Add a warning to the result."""

    def run_job(
        self,
        computer: Computer,
        label: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        directory: str = "",
        time_limit: int = 0,
        files: Mapping[str, bytes] | None = None,
    ) -> JobResult:
        """Run a detached command to its end: start or re-attach, poll, show percent lines as progress, keep the output as a log.

        ``files`` are laid into the job's own folder, its current directory, by plain name.

        ``label`` names it within the step; the same run, step and label find the same job after the controller's own crash.
        """

    def restart(self, computer: Computer, target: Environment, *, time_limit: int) -> Computer:
        """Restart the computer and return it as it answers in ``target`` with a new boot id, the same machine."""

    def wait_for(self, target: Environment, *, time_limit: int, last_boot: str) -> Computer:
        """Wait until the same machine answers in ``target`` with a boot id other than ``last_boot``; the restart is already under way."""

    def boot_id(self, computer: Computer) -> str:
        """Return the current boot id (LastBootUpTime as text), from the fence where it is still right."""

    def fetch_log(self, computer: Computer, *paths: str) -> str:
        """Fetch log files (the last 256 KiB of each) into ``log_directory``; return their names there, '' where none is."""

    def windows_drive(self, computer: Computer) -> str:
        """Return the drive (``W:``) of the volume that this run made for Windows, as Windows PE sees it since its start.

        '' where the run made none, or it has no letter. At most one request in each start.
        """

    def content(self, source: Mapping[str, Any]) -> str:
        """Return the path of a declared source as the computer sees it, connected with its account in this environment."""

    def remember(self, key: str, value: Any) -> None:
        """Keep a plain value for later steps of the run, on the computer and in the journal (``applied_image``, ``volumes`` …)."""

    def recall(self, key: str) -> Any:
        """Return what an earlier step of this run kept under ``key``, or None."""

    def derived_password(self, purpose: str) -> str:
        """Return the password derived from the project's secret for a purpose (``run-account``). StepFailure where no secret is set."""

    def boot_image_hash(self, image: Mapping[str, Any]) -> str:
        """Return the SHA-256 that a staged boot image must have: the declared one, or that in boot.json; '' for neither."""

    def controller_address(self) -> str:
        """Return the control node's own IP address as the computer sees it."""


class Step(ABC, Generic[State, PlanType]):
    """One task-sequence step. ``options`` are validated already: right types, defaults filled in."""

    #: The step's name in the Task Sequence Editor.
    name: ClassVar[str]
    environments: ClassVar[frozenset[Environment]]
    #: A destructive step outside a run needs the option ``machine``.
    destructive: ClassVar[bool] = False
    #: The step begins anew where an earlier attempt was broken off: the jobs that it left running are ended first, none is re-attached.
    starts_over: ClassVar[bool] = False
    #: Options whose values are secret, as dotted paths (``account.password``).
    secrets: ClassVar[tuple[str, ...]] = ()
    #: What documentation cannot say: mutually_exclusive, required_together, required_one_of, required_if, required_by.
    rules: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, options: Mapping[str, Any], context: StepContext) -> None:
        """Take the validated options and the sequence's side of the bargain."""
        self.options = options
        self.context = context

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the options beyond types and choices; each line names option, value and what is allowed."""
        return []

    @abstractmethod
    def observe(self, computer: Computer) -> State:
        """Read the typed state that the plan needs, with few requests and no shell."""

    @abstractmethod
    def plan(self, state: State) -> PlanType:
        """Return what has to change. Pure: the same state and options give the same plan."""

    @abstractmethod
    def apply(self, computer: Computer, plan: PlanType) -> Computer:
        """Do the changes; return the computer as it is now (another one after a restart)."""

    @abstractmethod
    def verify(self, computer: Computer, plan: PlanType) -> Mapping[str, Any]:
        """Re-read the state, raise StepFailure where the goal is not there, and return what the result shows."""

    @abstractmethod
    def predict(self) -> PlanType:
        """Return the plan from the options alone, where the environment lies ahead; marked ``predicted``."""

    def result(self, plan: PlanType) -> Mapping[str, Any]:
        """Return what the task returns where nothing had to change."""
        return {}
