# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reaching the run's computer: which identity answers, is it the right environment, is it the same machine after a restart."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..steps.base import StepFailure
from ..windows.computer import Computer, ComputerLost, Environment
from ..wsman.faults import WsmanFault
from ..wsman.known import known
from .credentials import derive_password, run_account_purpose
from .endpoints import Identity, Target, Variables, found_target, secret, windows_pe_targets, windows_targets
from .fence import Fence, UnknownEnvironment
from .machine import Machine, read_machine, read_uuid
from .run import Run

#: Seconds that one unauthenticated question may take while the computer starts.
PROBE_TIMEOUT = 3.0
#: Seconds between two questions: short at first, for fast computers and the lab, then what a starting Windows deserves.
_PAUSES = (0.3, 0.3, 0.5, 0.5, 1.0, 1.0, 2.0)
#: After how many questions without an answer the other environments are asked too.
_LOOK_ELSEWHERE = 12
#: Minutes that a computer which a run knows may need to answer again: a restart with updates under way. ``osd_reconnect_time_limit``.
_RECONNECT_MINUTES = 15.0
#: What a computer that is starting, or off, looks like; it may answer later.
_TEMPORARY = ("unreachable", "refused", "timeout")
#: Problems that waiting does not mend, the most telling first.
_TELLING = ("wrong_credentials", "wrong_certificate", "not_wsman")


class Link(Protocol):
    """One open connection to one target."""

    @property
    def requests(self) -> int:
        """Requests sent so far."""

    def fence(self) -> Fence:
        """Send the fence request."""

    def computer(self, environment: Environment) -> Computer:
        """Return the four verbs over this connection."""

    def vendor(self) -> str:
        """Return the product vendor that Identify names. One request."""

    def close(self) -> None:
        """Close it."""


class Connector(Protocol):
    """What opens connections; Ansible's side of it is in the action base class."""

    def open(self, target: Target) -> Link:
        """Open a connection; nothing is sent yet. ComputerLost."""

    def probe(self, target: Target, timeout: float) -> None:
        """Ask without an account who is there. ComputerLost where nobody answers as WS-Management within ``timeout`` seconds."""

    def own_address(self, target: Target) -> str:
        """Return the control node's address on the way to the target."""


@dataclass
class Contact:
    """An open connection that was fenced."""

    target: Target
    link: Link
    fence: Fence
    computer: Computer


class Silent(ComputerLost):
    """Nothing answers at any of several places."""

    kind = "unreachable"


def _growing(targets: list[Target], places: Iterator[Target]) -> Iterator[Target]:
    """Yield the targets, then each further place, which is a target from then on: nobody looks for it where the computer has answered."""
    yield from tuple(targets)
    for target in places:
        targets.append(target)
        yield target


def _kind(problem: ComputerLost) -> str:
    return str(getattr(problem, "kind", ""))


def _most_telling(problems: Sequence[ComputerLost]) -> ComputerLost | None:
    """Return the problem that waiting does not mend, None where there is none: it says more than another place's silence."""
    return next((problem for kind in _TELLING for problem in problems if _kind(problem) == kind), None)


class Contacts:
    """All connections of one task. At most one is open at a time."""

    def __init__(self, connector: Connector, variables: Variables, run: Run | None, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take what opens connections, and the run, None outside of one."""
        self._connector = connector
        self._variables = variables
        self._run = run
        self._sleep = sleep
        self.current: Contact | None = None
        self._closed_requests = 0

    @property
    def requests(self) -> int:
        """Requests of this task so far."""
        return self._closed_requests + (self.current.link.requests if self.current else 0)

    def close(self) -> None:
        """Close what is open."""
        if self.current:
            self._closed_requests += self.current.link.requests
            self.current.link.close()
            self.current = None

    def own_address(self, target: Target) -> str:
        """Return the control node's address on the way to a target."""
        return self._connector.own_address(target)

    # --- Targets ------------------------------------------------------------------------------------------------------

    def targets(self, identity: Identity) -> list[Target]:
        """Return where an identity may answer; empty where the variables name no place."""
        if identity is Identity.FOUND:
            found = found_target(self._variables)
            return [found] if found else []
        last = self._run.record.position.host if self._run else ""
        if identity is Identity.WINDOWS_PE:
            return windows_pe_targets(self._variables, last)
        if self._run is None or not self._run.machine.id:
            return []
        purpose = run_account_purpose(self._run.id, self._run.machine.id)
        password = derive_password(secret(self._variables), purpose)
        return windows_targets(self._variables, last, password, self._run.directory)

    def identities(self, environment: Environment | None = None) -> list[Identity]:
        """Return as whom the computer may answer, most likely first: where it was last, then what the run's stage allows."""
        windows = Identity.WINDOWS if self._run and self._run.record.builds else Identity.FOUND
        if environment:
            return [Identity.WINDOWS_PE] if environment is Environment.WINDOWS_PE else [windows]
        last = Identity(self._run.record.position.identity) if self._run and self._run.record.position.identity else None
        known = [last] if last else []
        return list(dict.fromkeys([*known, windows, Identity.WINDOWS_PE]))

    # --- Opening ------------------------------------------------------------------------------------------------------

    def locate(self, say: Callable[[str], None] | None = None, *, wait: bool = True) -> Contact:
        """Return a fenced connection to the computer, wherever it is. ComputerLost with every place that was tried.

        A computer that the run has met before is waited for, as long as it only does not answer: it may be restarting. ``say`` is told.
        """
        places = (target for identity in self.identities() for target in self.targets(identity))
        targets = list(itertools.islice(places, 1))
        if not targets:
            raise StepFailure(
                "The inventory says nowhere how the computer can be reached.",
                remedy="Set osd_winpe_connection.host for a computer in Windows PE, or ansible_host and ansible_user for one in Windows.",
            )
        if not self._was_last(targets[0]):
            targets += places
        known = wait and bool(self._run and self._run.record.position.identity)
        minutes = self._variables.minutes("osd_reconnect_time_limit", _RECONNECT_MINUTES) if known else 0.0
        deadline = time.monotonic() + minutes * 60
        for tries in itertools.count():
            found = self._ask_all(_growing(targets, places), sure=not tries and len(targets) == 1)
            if isinstance(found, Contact):
                return found
            left = deadline - time.monotonic()
            if left <= 0 or _kind(found) not in _TEMPORARY:
                raise found
            if say and tries % _LOOK_ELSEWHERE == 0:
                say(f"waiting for the computer (up to {minutes:g} minutes): {found}{self._nothing_to_start}")
            self._sleep(min(_PAUSES[min(tries, len(_PAUSES) - 1)], left))
        raise AssertionError("not reached")

    @property
    def _nothing_to_start(self) -> str:
        """What to do where the run was broken off between wiping the disk and staging Windows PE on it; '' at any other place."""
        record = self._run.record if self._run else None
        if record is None or not record.cleared or "volumes" in record.remembered:
            return ""
        return " Its disk may hold nothing that starts: start it from the boot medium or the network."

    def _ask_all(self, targets: Iterable[Target], *, sure: bool) -> Contact | ComputerLost:
        """Ask every target once; return what keeps the computer from answering where none does.

        Whether a place answers at all is looked at first, but for the first one where the computer is ``sure`` to be.
        """
        problems: list[ComputerLost] = []
        for position, target in enumerate(targets):
            try:
                if position or not sure:
                    self._connector.probe(target, PROBE_TIMEOUT)
                return self._open(target)
            except ComputerLost as problem:
                problems.append(problem)
        if len(problems) == 1:
            return problems[0]
        return _most_telling(problems) or Silent("The computer does not answer. " + " ".join(str(problem) for problem in problems))

    def _was_last(self, target: Target) -> bool:
        return bool(self._run and self._run.record.position.identity == target.identity and self._run.record.position.host == target.host)

    def _open(self, target: Target) -> Contact:
        link = self._connector.open(target)
        try:
            fence = link.fence()
        except BaseException as error:
            self._closed_requests += link.requests
            link.close()
            if isinstance(error, UnknownEnvironment):
                raise StepFailure(
                    f"{target.address}: {error}", remedy="Only Windows and the boot image's Windows PE are spoken to."
                ) from error
            raise
        self.close()
        self.current = Contact(target, link, fence, link.computer(fence.environment))
        return self.current

    @property
    def here(self) -> Contact:
        """The open connection. TypeError where there is none yet."""
        return known(self.current)

    def reopen(self) -> Contact:
        """Open the current target anew, after a lost connection."""
        target = self.here.target
        self.close()
        return self._open(target)

    # --- Crossing -----------------------------------------------------------------------------------------------------

    def wait_for(
        self, environment: Environment, *, last_boot: str, time_limit: float, say: Callable[[str], None], machine: Machine | None = None
    ) -> Contact:
        """Wait until the same machine answers in an environment since another start than ``last_boot``.

        A start has three phases: the port is closed, it is open and nothing comes back, it answers. Until the computer goes down the old
        start may answer for seconds. Raises StepFailure where it comes back in the other environment or where Windows PE, known by its
        certificate, does not accept the password; ComputerLost when the time is over.
        """
        wanted = [target for identity in self.identities(environment) for target in self.targets(identity)]
        if not wanted:
            raise StepFailure(
                f"Nothing says where the computer will answer in {environment.value}.",
                remedy="Set osd_winpe_connection.host or osd_windows_connection.host.",
            )
        self.close()
        deadline = time.monotonic() + time_limit
        tries, problem, told = 0, "it never answered", ""
        while time.monotonic() < deadline:
            # Also before the first question: the old start answers it, by a whole handshake.
            self._sleep(min(_PAUSES[min(tries, len(_PAUSES) - 1)], max(0.0, deadline - time.monotonic())))
            problems = []
            for target in wanted:
                contact, found = self._try(target, environment, last_boot)
                if contact:
                    try:
                        self._check_machine(contact, machine)
                        return contact
                    except (ComputerLost, WsmanFault) as error:
                        # Windows may answer amid Setup, and vanish before the next question.
                        found = error if isinstance(error, ComputerLost) else ComputerLost(f"{target.address}: {error}")
                problems.append(found)
            problem = str(_most_telling(problems) or problems[-1])
            tries += 1
            if tries % _LOOK_ELSEWHERE == 0:
                self._look_elsewhere(environment, last_boot, machine)
                if problem != told:
                    say(f"waiting for {environment.value}: {problem}")
                    told = problem
        places = ", ".join(target.address for target in wanted)
        raise ComputerLost(
            f"The computer did not answer in {environment.value} within {time_limit / 60:.0f} minutes ({places}; {problem}). "
            "Look at its screen; the run goes on from here when it is started again."
        )

    def _try(self, target: Target, environment: Environment, last_boot: str) -> tuple[Contact | None, ComputerLost]:
        """Return the contact, or why there is none."""
        try:
            self._connector.probe(target, PROBE_TIMEOUT)
            contact = self._open(target)
        except ComputerLost as error:
            self._refuse_wrong_password(target, error)
            return None, error
        except WsmanFault as fault:
            return None, ComputerLost(f"{target.address} answers with an error: {fault}")
        if contact.fence.environment is not environment:
            return None, ComputerLost(f"{target.address} still is the {contact.fence.environment.value}")
        if contact.fence.boot_id == last_boot:
            return None, ComputerLost(f"{target.address} was not restarted yet")
        return contact, ComputerLost("")

    @staticmethod
    def _refuse_wrong_password(target: Target, error: ComputerLost) -> None:
        """The agent has its password from the start; only Windows that is being set up may not know the run's account yet."""
        if target.identity is Identity.WINDOWS_PE and _kind(error) == "wrong_credentials":
            raise StepFailure(
                f"Windows PE at {target.address} does not accept the password of the user {target.user}.",
                remedy="It is derived from osd_secret: use the osd_secret with which the boot image was made, or make the boot image anew.",
            ) from error

    def _look_elsewhere(self, environment: Environment, last_boot: str, machine: Machine | None) -> None:
        """Raise StepFailure where the computer is in the other environment. Another one may have got the address that it had there."""
        other = Environment.FULL_OS if environment is Environment.WINDOWS_PE else Environment.WINDOWS_PE
        for target in [target for identity in self.identities(other) for target in self.targets(identity)]:
            contact, dummy = self._try(target, other, last_boot)
            if contact is None:
                continue
            with contextlib.suppress(ComputerLost, WsmanFault):
                if self._stranger(contact, machine):
                    continue
                raise StepFailure(
                    f"The computer was to start {environment.value} and came back in {other.value} ({target.address}).",
                    remedy="Check boot order and boot entry: the firmware started another medium or the wrong entry.",
                )

    def _check_machine(self, contact: Contact, machine: Machine | None) -> None:
        found = self._stranger(contact, machine)
        if found:
            raise StepFailure(
                f"Another computer answers at {contact.target.address}: {found.describe}. The run's computer is {known(machine).describe}.",
                remedy="Two computers have the same address, or the address moved. Nothing was changed on it.",
            )

    @staticmethod
    def _stranger(contact: Contact, machine: Machine | None) -> Machine | None:
        """Return who answers where it is another computer than the run's, None where it is the same or the run knows none."""
        if machine is None or not machine.id:
            return None
        cim = contact.computer.cim
        same = read_uuid(cim) == machine.uuid if machine.uuid else read_machine(cim).is_same(machine)
        return None if same else read_machine(cim)
