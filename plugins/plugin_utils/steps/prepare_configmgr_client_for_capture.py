# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare ConfigMgr Client for Capture: remove the client and everything that identifies this computer to a site."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import client
from ..windows.applications import service_exists
from ..windows.client import ClientState
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import describe_exit_code, remedy_for
from ..windows.local_content import SYSTEM32
from ..wsman.known import known
from .base import Change, Plan, Step, StepFailure

#: Seconds; some ten thousand files of the client's cache are the most.
_REMOVAL_LIMIT = 1800


@dataclass(frozen=True)
class RemovalPlan(Plan):
    """What is there of the client."""

    state: ClientState | None = None


class PrepareConfigmgrClientForCapture(Step[ClientState, RemovalPlan]):
    """The step.

    Configuration Manager's removes the client completely in a build-and-capture sequence; so does this one.
    """

    name: ClassVar[str] = "Prepare ConfigMgr Client for Capture"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.FULL_OS})

    def observe(self, computer: Computer) -> ClientState:
        """Look for service, namespace, folders, files and keys. Six requests where nothing is there."""
        return client.read_client(computer)

    def plan(self, state: ClientState) -> RemovalPlan:
        """Nothing to do without a client."""
        if state.is_absent:
            return RemovalPlan(state=state)
        changes = []
        if state.service:
            changes.append(Change(f"uninstall the Configuration Manager client {state.version}".rstrip()))
        changes += [Change(f"remove {path}") for path in state.remains]
        if not changes:
            changes.append(Change(r"remove the namespace root\ccm"))
        return RemovalPlan(changes=tuple(changes), before=_describe(state), after={"client": "absent"}, state=state)

    def predict(self) -> RemovalPlan:
        """Whether a client gets installed is an earlier step's matter."""
        return RemovalPlan(changes=(Change("uninstall the Configuration Manager client, where one is installed"),), predicted=True)

    def apply(self, computer: Computer, plan: RemovalPlan) -> Computer:
        """Uninstall, restart where asked for, then remove what is left."""
        if known(plan.state).service:
            computer = self._uninstall(computer)
        self._remove_remains(computer)
        return computer

    def _uninstall(self, computer: Computer) -> Computer:
        limit = self.options["time_limit"] * 60
        if computer.file_info(client.INSTALLED_SETUP) is None:
            raise StepFailure(
                f"The client cannot be uninstalled: {client.SERVICE} is there, {client.INSTALLED_SETUP} is not.",
                remedy="Install the client again over it, or take the reference computer's Windows from a clean image.",
            )
        self._wait_for_setup(computer, limit)
        job = self.context.run_job(computer, "uninstall", client.uninstall_command(), time_limit=limit)
        if job.exit_code not in (client.SUCCESS, client.RESTART_REQUIRED):
            raise StepFailure(
                f"The client was not uninstalled: ccmsetup ended with {describe_exit_code('ccmsetup', job.exit_code)}.",
                code=job.exit_code,
                remedy=remedy_for("ccmsetup", job.exit_code) or "Read ccmsetup.log.",
                log=self._fetch_log(computer) or str(job.log or ""),
            )
        self._wait_for_setup(computer, limit)
        self._fetch_log(computer)
        if job.exit_code == client.RESTART_REQUIRED:
            return self.context.restart(computer, Environment.FULL_OS, time_limit=limit)
        return computer

    def _wait_for_setup(self, computer: Computer, limit: int) -> None:
        """ccmsetup.exe may return at once and go on as a service."""
        end = time.monotonic() + limit
        while client.setup_is_running(computer.cim):
            if time.monotonic() > end:
                raise StepFailure(
                    f"{client.SETUP_PROCESS} still runs after {self.options['time_limit']} minutes.",
                    remedy="Read ccmsetup.log for what it waits for, or raise time_limit.",
                    log=self._fetch_log(computer),
                )
            self.context.progress(None, f"waiting for {client.SETUP_PROCESS}")
            time.sleep(self.options["poll_interval"])

    def _fetch_log(self, computer: Computer) -> str:
        return self.context.fetch_log(computer, *client.LOGS)

    def _remove_remains(self, computer: Computer) -> None:
        """Setup leaves folders, keys and its identity file behind [knowledge]: all that it may leave goes. Verify tells what stayed."""
        argv = [rf"{SYSTEM32}\cmd.exe", "/d", "/c", r".\remove.cmd"]
        self.context.run_job(computer, "remove-remains", argv, files={"remove.cmd": client.removal_script()}, time_limit=_REMOVAL_LIMIT)
        if client.read_version(computer.cim)[0] and not service_exists(computer.cim, client.SERVICE):
            computer.cim.delete("__Namespace", {"Name": "ccm"}, "root")

    def verify(self, computer: Computer, plan: RemovalPlan) -> Mapping[str, Any]:
        """Everything must be gone: a client that stays gives every clone the same identity."""
        state = client.read_client(computer)
        if not state.is_absent:
            left = [f"service {client.SERVICE}"] if state.service else []
            left += [r"namespace root\ccm"] if state.namespace else []
            raise StepFailure(
                f"The client was uninstalled and these remain: {', '.join([*left, *state.remains])}.",
                remedy="Read ccmsetup.log; a file in use goes after a restart, then run the step again.",
                log=self._fetch_log(computer),
            )
        return {"client": "absent", "removed": list(plan.before.get("remains", ()))}

    def result(self, plan: RemovalPlan) -> Mapping[str, Any]:
        """There is no client."""
        return {"client": "absent", "removed": []}


def _describe(state: ClientState) -> dict[str, Any]:
    return {"client": state.version or "present", "service": state.service, "remains": list(state.remains)}
