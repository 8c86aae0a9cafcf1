# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task Sequence Facts: the read-only variables of the task sequence, from live state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

from ..windows.computer import Computer, Environment
from .base import Plan, Step, StepContext


class FactsContext(StepContext, Protocol):
    """The part of the sequence that knows the variables."""

    def facts(self, computer: Computer, subset: Sequence[str]) -> dict[str, Any]:
        """Return the read-only variables."""


@dataclass(frozen=True)
class FactsPlan(Plan):
    """Never a change."""

    facts: Mapping[str, Any] = field(default_factory=dict)


class TaskSequenceFacts(Step[Mapping[str, Any], FactsPlan]):
    """The step; limited to the environment it costs the fence alone."""

    name: ClassVar[str] = "Task Sequence Facts"
    environments: ClassVar[frozenset[Environment]] = frozenset(Environment)

    def observe(self, computer: Computer) -> Mapping[str, Any]:
        """Read the groups asked for."""
        return cast(FactsContext, self.context).facts(computer, self.options["subset"])

    def plan(self, state: Mapping[str, Any]) -> FactsPlan:
        """Nothing to change."""
        return FactsPlan(facts=state)

    def predict(self) -> FactsPlan:
        """The state is not known."""
        return FactsPlan(predicted=True)

    def apply(self, computer: Computer, plan: FactsPlan) -> Computer:
        """Nothing to apply."""
        return computer

    def verify(self, computer: Computer, plan: FactsPlan) -> Mapping[str, Any]:
        """Nothing to verify."""
        return self.result(plan)

    def result(self, plan: FactsPlan) -> Mapping[str, Any]:
        """Return the variables."""
        return {"variables": dict(plan.facts)}
