# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Join Domain or Workgroup: make the running Windows a member of a domain or workgroup, and restart it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import domain
from ..windows.computer import Computer, Environment
from ..windows.pending_restart import join_is_pending
from ..windows.registry import Registry
from ..wsman.known import known
from ..wsman.schema import Value
from .base import Change, Plan, Step, StepFailure

_LOG = r"C:\Windows\debug\NetSetup.LOG"


@dataclass(frozen=True)
class Situation:
    """Where the computer belongs, and whether an earlier change of the domain still waits for a restart."""

    membership: domain.Membership
    restart_pending: bool


@dataclass(frozen=True)
class JoinPlan(Plan):
    """What to call in order, and whether a restart follows."""

    membership: domain.Membership | None = None
    leave: bool = False
    join: bool = False
    restart: bool = False


class JoinDomainOrWorkgroup(Step[Situation, JoinPlan]):
    """The step. Leaving a domain and joining one both need the restart; changing the workgroup does as well."""

    name: ClassVar[str] = "Join Domain or Workgroup"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.FULL_OS})
    secrets: ClassVar[tuple[str, ...]] = ("account.password",)
    rules: ClassVar[Mapping[str, Any]] = {
        "required_if": [("join_type", "domain", ("domain", "account")), ("join_type", "workgroup", ("workgroup",))],
        "mutually_exclusive": [("domain", "workgroup")],
    }

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check names against what Windows and the editor allow."""
        problems = []
        workgroup, name, ou = options.get("workgroup"), options.get("domain"), options.get("domain_ou")
        if workgroup is not None and domain.workgroup_problem(workgroup):
            problems.append(f"workgroup: '{workgroup}' has {domain.workgroup_problem(workgroup)}")
        if name is not None and not 1 <= len(name) <= 255:
            problems.append(f"domain: the name has {len(name)} characters; allowed are 1 to 255")
        if ou and options.get("join_type") == "workgroup":
            problems.append("domain_ou: it has no meaning with join_type workgroup; leave it out")
        if ou and not domain.account_ou(ou).upper().startswith(("OU=", "CN=")):
            problems.append(f"domain_ou: '{ou}' is no path; write LDAP://OU=x,DC=y,DC=z")
        return problems

    def observe(self, computer: Computer) -> Situation:
        """Read the membership and whether a join is pending. Two requests."""
        return Situation(domain.read_membership(computer.cim), join_is_pending(Registry(computer.cim)))

    def plan(self, state: Situation) -> JoinPlan:
        """Nothing to do for a member; a domain controller is refused."""
        have = state.membership
        if have.is_controller:
            raise StepFailure(
                f"{have.computer} is a domain controller of {have.name}; its membership is not changed.",
                remedy="Build the reference computer from Windows without this role.",
            )
        restart = not self.options["skip_restart"]
        if self._is_member(have):
            if not (state.restart_pending and restart):
                return JoinPlan(membership=have)
            return JoinPlan(changes=(Change("restart to complete the change of the domain"),), membership=have, restart=True)
        leave = have.in_domain and self.options["join_type"] == "workgroup"
        changes = [Change(f"leave {have.describe}")] if leave else []
        changes.append(Change(f"join {self._goal}"))
        if restart:
            changes.append(Change("restart"))
        return JoinPlan(
            changes=tuple(changes),
            before={"membership": have.describe},
            after={"membership": self._goal},
            membership=have,
            leave=leave,
            join=True,
            restart=restart,
        )

    def _is_member(self, membership: domain.Membership) -> bool:
        if self.options["join_type"] == "domain":
            return domain.is_member(membership, domain=self.options["domain"])
        return domain.is_member(membership, workgroup=self.options["workgroup"])

    @property
    def _goal(self) -> str:
        kind = self.options["join_type"]
        return f"{kind} {self.options[kind]}"

    def _credentials(self) -> domain.Credentials | None:
        account = self.options["account"]
        return domain.Credentials(account["user"], account["password"]) if account else None

    def predict(self) -> JoinPlan:
        """The Windows to join is not there yet."""
        return JoinPlan(changes=(Change(f"join {self._goal}"),), predicted=True, after={"membership": self._goal})

    def apply(self, computer: Computer, plan: JoinPlan) -> Computer:
        """Call the methods of Win32_ComputerSystem, then restart."""
        membership = known(plan.membership)
        if plan.leave:
            arguments = domain.leave_arguments(self._credentials())
            self._call(computer, membership, "UnjoinDomainOrWorkgroup", arguments, f"leave {membership.describe}")
        if plan.join:
            arguments = self._join_arguments(membership)
            self._call(computer, membership, "JoinDomainOrWorkgroup", arguments, f"join {self._goal}")
        if not plan.restart:
            self.context.warn(f"The change to {self._goal} is complete after the next restart (skip_restart is set).")
            return computer
        return self.context.restart(computer, Environment.FULL_OS, time_limit=self.options["time_limit"] * 60)

    def _join_arguments(self, membership: domain.Membership) -> dict[str, Value]:
        if self.options["join_type"] == "workgroup":
            return domain.join_workgroup_arguments(self.options["workgroup"])
        return domain.join_domain_arguments(membership, self.options["domain"], known(self._credentials()), self.options["domain_ou"] or "")

    def _call(self, computer: Computer, have: domain.Membership, method: str, arguments: dict[str, Value], what: str) -> None:
        answer = computer.cim.invoke("Win32_ComputerSystem", method, arguments, {"Name": have.computer})
        value = answer.get("ReturnValue")
        code = value if isinstance(value, int) else -1
        if code == 0:
            return
        meaning, remedy = domain.describe_code(code)
        raise StepFailure(
            f"{have.computer} could not {what}: error {code}, {meaning}.",
            code=code,
            remedy=remedy,
            log=self.context.fetch_log(computer, _LOG),
        )

    def verify(self, computer: Computer, plan: JoinPlan) -> Mapping[str, Any]:
        """Re-read the membership. Before the restart Windows may still show the old one."""
        have = domain.read_membership(computer.cim)
        if plan.restart and not self._is_member(have):
            raise StepFailure(
                f"After the restart {have.computer} is a member of {have.describe}, not of {self._goal}.",
                remedy=f"Read {_LOG} on the computer.",
                log=self.context.fetch_log(computer, _LOG),
            )
        return {"membership": have.describe, "restarted": plan.restart}

    def result(self, plan: JoinPlan) -> Mapping[str, Any]:
        """The membership as it was found."""
        return {"membership": plan.membership.describe if plan.membership else self._goal, "restarted": False}
