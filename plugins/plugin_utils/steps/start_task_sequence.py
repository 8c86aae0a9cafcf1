# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start Task Sequence: name the run, know the computer, check the content, take the lease, and hand over the read-only variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

from ..windows.computer import Computer, Environment
from .base import Plan, Step, StepContext
from .spent import refuse_captured

#: What is read for the start, beside the environment that the fence tells.
_SUBSET = ("environment", "firmware", "machine")


class Machine(Protocol):
    """The computer as the sequence knows it."""

    @property
    def id(self) -> str:
        """Its one name."""

    @property
    def describe(self) -> str:
        """All its names, for the user."""


class StartContext(StepContext, Protocol):
    """What the sequence offers to its own first step."""

    def facts(self, computer: Computer, subset: Sequence[str]) -> dict[str, Any]:
        """Return the read-only variables."""

    def identify_machine(self, computer: Computer) -> Machine:
        """Read and check the machine."""

    def check_content(self, computer: Computer, phases: Sequence[str]) -> None:
        """Have the declared content read, and a small file written and deleted where the image will go."""

    def begin(self, computer: Computer, machine: Machine) -> None:
        """Take the lease."""


@dataclass(frozen=True)
class Beginning:
    """The computer as it was found."""

    machine: Machine
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class StartPlan(Plan):
    """Nothing of the computer changes but the run's own state."""

    beginning: Beginning | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


class StartTaskSequence(Step[Beginning, StartPlan]):
    """The step. It changes nothing that the user would see, so it never reports a change."""

    name: ClassVar[str] = "Start Task Sequence"
    environments: ClassVar[frozenset[Environment]] = frozenset(Environment)

    @property
    def _sequence(self) -> StartContext:
        return cast(StartContext, self.context)

    def observe(self, computer: Computer) -> Beginning:
        """Identify the machine, check content and destination, take the lease."""
        sequence = self._sequence
        machine = sequence.identify_machine(computer)
        facts = sequence.facts(computer, _SUBSET)
        self._refuse_spent(computer)
        if not self.context.check_mode:
            sequence.begin(computer, machine)
        if self.options["check_content"]:
            sequence.check_content(computer, self.options["phases"])
        return Beginning(machine, {**facts, **sequence.facts(computer, ("environment",))})

    def _refuse_spent(self, computer: Computer) -> None:
        """A captured computer can only be built anew; a build that does not partition is refused by the step that fills the disk."""
        if "build" not in self.options["phases"]:
            refuse_captured(computer, self.context.run_id)

    def plan(self, state: Beginning) -> StartPlan:
        """Nothing to change."""
        return StartPlan(beginning=state)

    def predict(self) -> StartPlan:
        """Never needed: the step runs everywhere."""
        return StartPlan(predicted=True)

    def apply(self, computer: Computer, plan: StartPlan) -> Computer:
        """Nothing to apply."""
        return computer

    def verify(self, computer: Computer, plan: StartPlan) -> Mapping[str, Any]:
        """Nothing to verify."""
        return self.result(plan)

    def result(self, plan: StartPlan) -> Mapping[str, Any]:
        """Return the run, the machine and the read-only variables."""
        if plan.beginning is None:
            return {}
        return {
            "run": self.context.run_id,
            "machine": plan.beginning.machine.id,
            "variables": dict(plan.beginning.facts),
        }
