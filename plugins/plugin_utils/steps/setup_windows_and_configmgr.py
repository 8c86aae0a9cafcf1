# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Setup Windows and ConfigMgr: open the applied Windows for the run, start it, wait until Setup has finished, install the client.

What opens it is written offline, by hive values and the answer file alone; nothing depends on SetupComplete.cmd
(windows-mechanics 5.5, 8.2).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

from ..windows import answer_file, client, https_opening, opening
from ..windows.applied_windows import AppliedWindows
from ..windows.computer import Computer, ComputerLost, Environment
from ..windows.exit_codes import describe_exit_code
from ..windows.https_opening import Https
from ..windows.local_content import Source
from ..windows.registry import OfflineRegistry, Registry, RegistryError
from ..wsman.faults import WsmanFault
from ..wsman.known import known
from . import boot_staging
from .answer_file_step import AnswerFilePlan, parse_present, read_windows, verify_written, write
from .base import Change, Plan, Step, StepContext, StepFailure
from .content_copy import fetch_content

_SETUP = r"SYSTEM\Setup"
_STATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
_COMPLETE = "IMAGE_STATE_COMPLETE"
_LOGS = (
    r"C:\Windows\Panther\setupact.log",
    r"C:\Windows\Panther\setuperr.log",
    r"C:\Windows\Panther\UnattendGC\setupact.log",
)
#: What the run remembers of the registry values before the opening, for the capture.
OPENING_BEFORE = "opening_before"


class SetupContext(StepContext, Protocol):
    """What the sequence offers beyond the usual."""

    def mark_built(self) -> None:
        """From now on the Windows on the disk is this run's."""

    def windows_https(self) -> Https | None:
        """Make a certificate for the built Windows and keep it as what the control node trusts.

        None where ``osd_windows_connection`` says http, or names a certificate: then the image brings its own listener.
        """


@dataclass(frozen=True)
class Applied:
    """The applied Windows and whether there is an answer file for it."""

    windows: AppliedWindows

    @property
    def root(self) -> str:
        r"""The root of its volume (``W:\``)."""
        return self.windows.root

    @property
    def has_answer_file(self) -> bool:
        """Whether Setup has something to go by."""
        return self.windows.answer_file is not None


@dataclass(frozen=True)
class SetupPlan(Plan):
    """What was found in Windows PE."""

    applied: Applied | None = None


class SetupWindowsAndConfigMgr(Step[Applied, SetupPlan]):
    """The step. It begins in Windows PE and ends in the built Windows."""

    name: ClassVar[str] = "Setup Windows and ConfigMgr"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    secrets: ClassVar[tuple[str, ...]] = ("client.source.account.password",)

    _client_version = ""

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check the client's source and properties."""
        problems = []
        wanted = options.get("client")
        if wanted:
            problem = Source.from_option(wanted["source"]).problem()
            if problem:
                problems.append(f"client: {problem}")
            try:
                client.install_command("C:", wanted["switches"], wanted["properties"])
            except ValueError as error:
                problems.append(f"client: {error}")
        if options["time_limit"] < 1:
            problems.append(f"time_limit: {options['time_limit']} minutes; at least 1")
        return problems

    def observe(self, computer: Computer) -> Applied:
        """Find the applied Windows and its answer file."""
        return Applied(read_windows(computer, self.context))

    def plan(self, state: Applied) -> SetupPlan:
        """Always starts Windows: a computer whose Windows was started is not in Windows PE."""
        if not state.has_answer_file:
            raise StepFailure(
                f"The applied Windows on {state.root} has no answer file; Setup would stop and ask, and the computer would never answer.",
                remedy="Run Apply Windows Settings first.",
            )
        return SetupPlan(tuple(Change(line) for line in self._lines), applied=state, after={"environment": Environment.FULL_OS.value})

    @property
    def _lines(self) -> list[str]:
        lines = ["open the applied Windows for the run (WinRM, firewall rule for the control node)", "start Windows and finish Setup"]
        return [*lines, "install the Configuration Manager client"] if self.options["client"] else lines

    def predict(self) -> SetupPlan:
        """The same without a computer."""
        return SetupPlan(tuple(Change(line) for line in self._lines), predicted=True)

    # --- Windows PE ---------------------------------------------------------------------------------------------------

    def apply(self, computer: Computer, plan: SetupPlan) -> Computer:
        """Open, start, wait, install."""
        self._open(computer, known(plan.applied))
        boot_staging.start_windows(self.context, computer, known(plan.applied).root)
        cast(SetupContext, self.context).mark_built()
        limit = self.options["time_limit"] * 60
        deadline = time.monotonic() + limit
        try:
            computer = self.context.restart(computer, Environment.FULL_OS, time_limit=limit)
        except ComputerLost as lost:
            remedy = r"Windows Setup may have stopped: read C:\Windows\Panther\setuperr.log, from Windows PE if need be."
            if self.context.recall(opening.REMEMBERED_HTTPS):
                remedy += rf" Whether the certificate of HTTPS was taken, C:\{https_opening.LOG} says."
            raise StepFailure(f"{lost}", remedy=remedy) from lost
        return self._finish(computer, deadline)

    def resume(self, computer: Computer) -> Computer:
        """Go on in the built Windows, where an earlier play lost it."""
        return self._finish(computer, time.monotonic() + self.options["time_limit"] * 60)

    def _finish(self, computer: Computer, deadline: float) -> Computer:
        computer = self._wait_for_setup(computer, deadline)
        if self.options["client"] and not client.read_version(computer.cim)[1]:
            self._install_client(computer)
        return computer

    def _open(self, computer: Computer, applied: Applied) -> None:
        https = cast(SetupContext, self.context).windows_https()
        wanted = opening.settings(self.context.controller_address(), https=https, server=applied.windows.server)
        self.context.progress(None, "opening Windows for the run")
        if https:
            self._open_https(computer, applied.windows, https)
        try:
            registry = OfflineRegistry(computer, applied.root)
            before = opening.apply(registry, wanted)
            missing = [opening.describe(s.value) for s in wanted if not registry.holds(s.value)]
        except RegistryError as error:
            raise StepFailure(f"The applied Windows could not be opened for the run: {error}.", code=error.code) from error
        if missing:
            raise StepFailure(f"These registry values did not take: {', '.join(missing)}.")
        # A second try finds its own values there: what was before the first one counts.
        if self.context.recall(OPENING_BEFORE) is None:
            self.context.remember(OPENING_BEFORE, [value.as_dict() for value in before])

    def _open_https(self, computer: Computer, windows: AppliedWindows, https: Https) -> None:
        """Have Setup import the certificate: files in the work folder, a command in the answer file."""
        self.context.remember(opening.REMEMBERED_HTTPS, https.as_dict())
        for name, content in https_opening.files(https).items():
            computer.put_file(windows.root + name, content)
        file = parse_present(windows, self.context)
        answer_file.add_run_synchronous(file, windows.architecture, https_opening.command_line(), https_opening.DESCRIPTION)
        plan = AnswerFilePlan(windows=windows, file=file)
        write(computer, plan)
        verify_written(computer, plan)

    # --- Windows ------------------------------------------------------------------------------------------------------

    def _wait_for_setup(self, computer: Computer, deadline: float) -> Computer:
        """Ready means that two questions in a row find Setup finished; Windows may answer before, and vanish again."""
        good, problem = 0, "Setup did not begin"
        while time.monotonic() < deadline:
            try:
                problem = self._setup_problem(computer, whole=good > 0)
                good = 0 if problem else good + 1
            except (ComputerLost, WsmanFault) as error:
                good, problem = 0, str(error)
                computer = self._reconnect(computer, deadline)
            if good >= 2:
                return computer
            self.context.progress(None, "Windows Setup is running" if problem else "Windows Setup has finished")
            time.sleep(self.options["poll_seconds"])
        raise StepFailure(
            f"Windows Setup did not finish within {self.options['time_limit']} minutes: {problem}.",
            remedy="Read the Setup logs; a value that the answer file's component refuses is the usual cause.",
            log=self.context.fetch_log(computer, *_LOGS),
        )

    def _reconnect(self, computer: Computer, deadline: float) -> Computer:
        """Setup restarts Windows when it needs to."""
        left = max(1, int(deadline - time.monotonic()))
        return self.context.wait_for(Environment.FULL_OS, time_limit=left, last_boot="")

    def _setup_problem(self, computer: Computer, *, whole: bool = True) -> str:
        """Return what Setup is still at. The image's state is complete last: one request, and three more to look at the ``whole``."""
        registry = Registry(computer.cim)
        state = registry.get_string(_STATE, "ImageState") or ""
        if state != _COMPLETE:
            return f"the image's state is {state or 'unknown'}"
        for name in ("SystemSetupInProgress", "OOBEInProgress", "SetupType") if whole else ():
            value = registry.get_dword(_SETUP, name)
            if value:
                return f"{name} is {value}"
        return ""

    def _install_client(self, computer: Computer) -> None:
        wanted = self.options["client"]
        folder = fetch_content(self.context, computer, Source.from_option(wanted["source"]), "client")
        argv = client.install_command(folder, wanted["switches"], wanted["properties"])
        job = self.context.run_job(computer, "ccmsetup", argv, time_limit=self.options["client_time_limit"] * 60)
        if job.exit_code not in (client.SUCCESS, client.RESTART_REQUIRED):
            raise StepFailure(
                f"The client was not installed: ccmsetup ended with {describe_exit_code('ccmsetup', job.exit_code)}.",
                code=job.exit_code,
                remedy="Read ccmsetup.log.",
                log=self.context.fetch_log(computer, *client.LOGS) or str(job.log or ""),
            )
        deadline = time.monotonic() + self.options["client_time_limit"] * 60
        while client.setup_is_running(computer.cim) and time.monotonic() < deadline:
            time.sleep(self.options["poll_seconds"])

    def verify(self, computer: Computer, plan: SetupPlan) -> Mapping[str, Any]:
        """Setup is finished, the values that open Windows are there, and the client answers."""
        problem = self._setup_problem(computer)
        if problem:
            raise StepFailure(f"Windows Setup is not finished: {problem}.")
        version = ""
        if self.options["client"]:
            present, version = client.read_version(computer.cim)
            if not present or not version:
                raise StepFailure("The client's setup ended well, but the client does not answer (root\\ccm).", remedy="Read ccmsetup.log.")
        name = computer.cim.query("SELECT Name FROM Win32_ComputerSystem")
        https = (rf"C:\{https_opening.LOG}",) if self.context.recall(opening.REMEMBERED_HTTPS) else ()
        self.context.fetch_log(computer, *_LOGS, *https)
        return {"computer_name": str(name[0]["Name"]) if name else "", "client_version": version}
