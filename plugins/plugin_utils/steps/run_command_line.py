# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run Command Line: a native command as SYSTEM, judged by its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows.command_line import CommandLineError, split
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import format_code
from .base import Change, Plan, Step, StepFailure

_RESTART_REQUIRED = 3010
#: What Configuration Manager keeps of the output in a variable.
_KEPT_OUTPUT = 1000
_LONGEST = 32000


@dataclass(frozen=True)
class Found:
    """Whether the file that stands for the command's effect is there."""

    created: bool


@dataclass(frozen=True)
class CommandPlan(Plan):
    """The command as one argument list."""

    argv: tuple[str, ...] = ()


class RunCommandLine(Step[Found, CommandPlan]):
    """The step. A command always changes something, unless ``creates`` is there already."""

    name: ClassVar[str] = "Run Command Line"
    environments: ClassVar[frozenset[Environment]] = frozenset(Environment)
    secrets: ClassVar[tuple[str, ...]] = ("secret_environment",)
    rules: ClassVar[Mapping[str, Any]] = {
        "mutually_exclusive": [("command_line", "argv")],
        "required_one_of": [("command_line", "argv")],
    }

    _exit_code = 0
    _output = ""
    _restarted = False

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check lengths and that the command line can be taken apart."""
        problems = []
        line = options.get("command_line")
        if line is not None and not 1 <= len(line) <= _LONGEST:
            problems.append(f"command_line: it has {len(line)} characters; allowed are 1 to {_LONGEST}")
        elif line is not None and not options.get("shell"):
            try:
                if not split(line):
                    problems.append("command_line: it names no program")
            except (CommandLineError, ValueError) as error:
                problems.append(f"command_line: {error}")
        if options.get("argv") is not None and not options["argv"]:
            problems.append("argv: it is empty; give the program and its arguments")
        if not 1 <= options["time_out"] <= 999:
            problems.append(f"time_out: {options['time_out']} minutes; allowed are 1 to 999")
        if options.get("shell") and options.get("argv"):
            problems.append("shell: it needs command_line; an argument list is never given to cmd.exe")
        return problems

    def observe(self, computer: Computer) -> Found:
        """Look for ``creates``. One request where it is set, none else."""
        creates = self.options["creates"]
        return Found(bool(creates) and computer.file_info(creates) is not None)

    def plan(self, state: Found) -> CommandPlan:
        """One change, or none."""
        if state.created:
            return CommandPlan()
        return CommandPlan((Change(f"run {self._shown}"),), argv=self._argv)

    def predict(self) -> CommandPlan:
        """The command would run."""
        return CommandPlan((Change(f"run {self._shown}"),), predicted=True)

    @property
    def _argv(self) -> tuple[str, ...]:
        line = self.options["command_line"]
        if line is None:
            return tuple(self.options["argv"])
        return tuple(split(line))

    @property
    def _shown(self) -> str:
        return str(self.options["command_line"] or " ".join(self.options["argv"]))

    def apply(self, computer: Computer, plan: CommandPlan) -> Computer:
        """Run it as a job; restart the computer where its exit code asks for it."""
        environment = {**self.options["environment"], **(self.options["secret_environment"] or {})}
        argv = self._with_shell(computer) if self.options["shell"] else plan.argv
        job = self.context.run_job(
            computer,
            "command",
            argv,
            environment=environment,
            directory=self.options["start_in"] or "",
            time_limit=self.options["time_out"] * 60,
        )
        self._exit_code = job.exit_code
        self._output = job.output.decode("utf-8", "replace")[-_KEPT_OUTPUT:]
        if job.exit_code not in self.options["success_codes"]:
            raise StepFailure(
                f"'{self._shown}' ended with {format_code(job.exit_code)}; "
                f"success is {', '.join(str(code) for code in self.options['success_codes'])}.",
                code=job.exit_code,
                remedy="Read the command's output in the log, or add the code to success_codes.",
                log=str(job.log or ""),
            )
        if job.exit_code != _RESTART_REQUIRED or not self.options["restart"]:
            return computer
        self._restarted = True
        return self.context.restart(computer, computer.environment, time_limit=self.options["time_limit"] * 60)

    def _with_shell(self, computer: Computer) -> tuple[str, ...]:
        r"""Put the line into a script: what cmd.exe would do to quotes on a command line does not touch it there."""
        drive = "X:" if computer.environment is Environment.WINDOWS_PE else "C:"
        path = rf"{drive}\_osd\command.cmd"
        line = str(self.options["command_line"]).replace("\r\n", "\n").replace("\n", "\r\n")
        computer.put_file(path, f"@echo off\r\n{line}\r\nexit /b %ERRORLEVEL%\r\n".encode())
        return (rf"{drive}\Windows\System32\cmd.exe", "/d", "/c", path)

    def verify(self, computer: Computer, plan: CommandPlan) -> Mapping[str, Any]:
        """The exit code was judged; ``creates`` must be there now."""
        creates = self.options["creates"]
        if creates and computer.file_info(creates) is None:
            raise StepFailure(
                f"'{self._shown}' ended with {self._exit_code}, but {creates} is not there.",
                code=self._exit_code,
                remedy="Correct the command or creates.",
            )
        return {"rc": self._exit_code, "output": self._output, "restarted": self._restarted}

    def result(self, plan: CommandPlan) -> Mapping[str, Any]:
        """Nothing was run: no exit code. Ansible takes a ``rc`` other than 0 for a failure."""
        return {"output": "", "restarted": False}
