# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install Application.

An ordered list of installers, each run as SYSTEM, detected before and after, restarted where it asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..windows import applications
from ..windows.applications import Application, Outcome
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import format_code
from ..windows.local_content import slug
from .base import Change, JobResult, Plan, Step, StepFailure
from .content_copy import fetch_content


@dataclass(frozen=True)
class Entry:
    """One application with what the detection rules said before."""

    number: int
    application: Application
    installed: bool

    @property
    def label(self) -> str:
        """Folder name and job label, unique within the step."""
        return f"{self.number:02}-{slug(self.application.name)}"


@dataclass(frozen=True)
class Report:
    """What became of one application: exit code with meaning, seconds, the log's name."""

    application: Application
    outcome: Outcome
    code: int | None = None
    meaning: str = ""
    remedy: str = ""
    restarted: bool = False
    seconds: float = 0.0
    log: str = ""

    def as_result(self) -> dict[str, Any]:
        """Return it as the task's result shows it."""
        return {
            "name": self.application.name,
            "outcome": self.outcome.value,
            "code": self.code,
            "meaning": self.meaning,
            "restarted": self.restarted,
            "seconds": round(self.seconds, 1),
            "log": self.log,
        }


@dataclass(frozen=True)
class InstallPlan(Plan):
    """All applications in order; those that are detected are only reported."""

    entries: tuple[Entry, ...] = ()


class InstallApplication(Step[tuple[Entry, ...], InstallPlan]):
    """The step. It ends at the first failure unless the list or the application continues on error."""

    name: ClassVar[str] = "Install Application"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.FULL_OS})
    secrets: ClassVar[tuple[str, ...]] = ("applications.source.account.password",)

    def __init__(self, options: Mapping[str, Any], context: Any) -> None:
        """Build the applications."""
        super().__init__(options, context)
        proceed = options["continue_on_error"]
        self._applications = [applications.application_from_option(option, proceed) for option in options["applications"]]
        self._reports: list[Report] = []

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check every entry and that names are unique."""
        problems = []
        seen: set[str] = set()
        for option in options["applications"]:
            problems += applications.application_problems(option)
            if option["name"].lower() in seen:
                problems.append(f"applications: {option['name']} stands in the list twice; names must be unique")
            seen.add(option["name"].lower())
        return problems

    def observe(self, computer: Computer) -> tuple[Entry, ...]:
        """Evaluate the detection rules. One request a rule that holds."""
        return tuple(
            Entry(number, application, applications.is_installed(application, computer))
            for number, application in enumerate(self._applications, start=1)
        )

    def plan(self, state: tuple[Entry, ...]) -> InstallPlan:
        """Install what is not detected; without detection rule an application is installed each time."""
        wanted = [entry.application for entry in state if not entry.installed]
        return InstallPlan(
            changes=tuple(Change(_describe(application)) for application in wanted),
            before={"installed": [entry.application.name for entry in state if entry.installed]},
            after={"installed": [entry.application.name for entry in state]},
            entries=state,
        )

    def predict(self) -> InstallPlan:
        """Whether something is installed already is not known yet."""
        return InstallPlan(changes=tuple(Change(_describe(application)) for application in self._applications), predicted=True)

    def apply(self, computer: Computer, plan: InstallPlan) -> Computer:
        """Install one after the other; a required restart comes before the next one."""
        total = len(plan.entries)
        for entry in plan.entries:
            if entry.installed:
                self._reports.append(Report(entry.application, Outcome.ALREADY_INSTALLED))
                continue
            self.context.progress(None, f"{entry.application.name} ({entry.number} of {total})")
            report, computer = self._install(computer, entry)
            self._reports.append(report)
            if report.outcome is Outcome.FAILED:
                self._failed(report, plan.entries[entry.number :])
        return computer

    def _failed(self, report: Report, remaining: tuple[Entry, ...]) -> None:
        text = f"{report.application.name} ended with {_code(report.code)}: {report.meaning}."
        if report.application.continue_on_error:
            self.context.warn(f"{text} The next application is installed (continue_on_error).")
            return
        self._reports += [Report(entry.application, Outcome.NOT_ATTEMPTED) for entry in remaining]
        left = ", ".join(entry.application.name for entry in remaining)
        raise StepFailure(
            f"{text}" + (f" Not installed: {left}." if left else ""),
            code=report.code,
            remedy=report.remedy,
            log=report.log,
        )

    def _install(self, computer: Computer, entry: Entry) -> tuple[Report, Computer]:
        application = entry.application
        try:
            folder = fetch_content(self.context, computer, application.source, entry.label) if application.source else ""
        except StepFailure as problem:
            report = Report(application, Outcome.FAILED, problem.code, problem.message.rstrip("."), problem.remedy, log=problem.log)
            return report, computer
        last_boot = self.context.boot_id(computer)
        job = self._run(computer, entry, folder)
        restarted = False
        if job.exit_code in application.restart_codes:
            computer = self._restart(computer, job.exit_code, last_boot)
            restarted = True
        return self._judge(computer, application, job, restarted), computer

    def _run(self, computer: Computer, entry: Entry, folder: str) -> JobResult:
        """Run the installer in its folder, where cmd looks first; while another installation is in progress, try again after a while."""
        application = entry.application
        for attempt in range(application.retries + 1):
            label = entry.label if not attempt else f"{entry.label}-retry{attempt}"
            job = self.context.run_job(computer, label, application.install, directory=folder, time_limit=application.time_limit)
            if job.exit_code != applications.INSTALLER_BUSY or attempt == application.retries:
                break
            self.context.progress(None, f"{application.name}: another installation is in progress, trying again")
            time.sleep(self.options["retry_delay"])
        return job

    def _restart(self, computer: Computer, code: int, last_boot: str) -> Computer:
        limit = self.options["restart_time_limit"] * 60
        if code == applications.RESTART_STARTED:
            return self.context.wait_for(Environment.FULL_OS, time_limit=limit, last_boot=last_boot)
        return self.context.restart(computer, Environment.FULL_OS, time_limit=limit)

    def _judge(self, computer: Computer, application: Application, job: JobResult, restarted: bool) -> Report:
        meaning, remedy = applications.describe_exit_code(job.exit_code)
        report = Report(
            application,
            Outcome.INSTALLED,
            job.exit_code,
            meaning,
            remedy,
            restarted=restarted,
            seconds=job.seconds,
            log=str(job.log or ""),
        )
        if job.exit_code in application.success_codes and job.exit_code:
            report = replace(report, meaning="success (success_codes)")
        if not restarted and job.exit_code not in application.success_codes:
            own_log = applications.log_file(application.install)
            fetched = self.context.fetch_log(computer, own_log) if own_log else ""
            return replace(report, outcome=Outcome.FAILED, log=fetched or report.log)
        if application.detectable and not applications.is_installed(application, computer):
            meaning, remedy = applications.describe_exit_code(applications.NOT_DETECTED)
            return replace(report, outcome=Outcome.FAILED, code=applications.NOT_DETECTED, meaning=meaning, remedy=remedy)
        return report

    def verify(self, computer: Computer, plan: InstallPlan) -> Mapping[str, Any]:
        """Evaluate the rules again: an installer may remove what an earlier one has put there."""
        for report in self._reports:
            if report.outcome is not Outcome.INSTALLED or not report.application.detectable:
                continue
            if not applications.is_installed(report.application, computer):
                rules = "; ".join(rule.describe for rule in report.application.detection)
                raise StepFailure(
                    f"{report.application.name} was installed and is not there at the end of the step ({rules}).",
                    code=applications.NOT_DETECTED,
                    remedy="Look which later application removes it; change the order.",
                    log=report.log,
                )
        return self._outcome()

    def result(self, plan: InstallPlan) -> Mapping[str, Any]:
        """Everything was installed already."""
        self._reports = [Report(entry.application, Outcome.ALREADY_INSTALLED) for entry in plan.entries]
        return self._outcome()

    def _outcome(self) -> dict[str, Any]:
        failed = any(report.outcome is Outcome.FAILED for report in self._reports)
        return {
            "applications": [report.as_result() for report in self._reports],
            "_TSAppInstallStatus": "Error" if failed else "Success" if self._reports else "Undefined",
        }


def _describe(application: Application) -> str:
    return f"install {application.name}" + ("" if application.detectable else " (no detection rule: each time)")


def _code(code: int | None) -> str:
    return "an error" if code is None else f"exit code {format_code(code)}"
