# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base class of all step actions: Ansible's side of a task. What a task does is in ``sequence.execution``."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import connection_loader, filter_loader, test_loader
from ansible.utils.display import Display

from .argument_spec import load_argument_spec
from .connection import load_for_forks
from .sequence.connector import AnsibleConnector
from .sequence.endpoints import Variables, plain
from .sequence.execution import Execution, Task
from .sequence.run import PlayState, Run, load_run, new_run, run_name
from .steps.base import Step, StepFailure
from .windows.cim_classes import SCHEMA
from .wizard_pages import page_problems, page_specs

if TYPE_CHECKING:
    from .sequence.context import Show

display = Display()

#: What core's own winrm plugin is called; another one cannot carry WS-Management.
_WINRM = ("winrm", "ansible.builtin.winrm")


@functools.cache
def _load_in_parent() -> None:
    """Load what every task needs before Ansible forks its workers: each of them would load it anew.

    The documentation of the connection plugin took 18 ms a task, the filters and tests of Jinja 8 ms.
    """
    for name in _WINRM:
        connection_loader.get(name, class_only=True)
    filter_loader.get("default")
    test_loader.get("defined")
    load_for_forks()
    # The classes of the fence and of the registry.
    for name in ("Win32_OperatingSystem", "StdRegProv"):
        SCHEMA.find("root/cimv2", name)


class StepAction(ActionBase):
    """Runs one step. A subclass names it: ``step = RestartComputer``."""

    step: ClassVar[type[Step[Any, Any]]]
    #: The module's short name and its argument spec, read once in the parent process: forks inherit them.
    module: ClassVar[str] = ""
    argument_spec: ClassVar[Mapping[str, Any]] = {}
    #: The one step that begins a run.
    starts_run: ClassVar[bool] = False

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _supports_diff = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the argument spec from the documentation of the module of the same name."""
        super().__init_subclass__(**kwargs)
        cls.module = cls.__module__.rsplit(".", 1)[-1]
        cls.argument_spec = load_argument_spec(cls.module)
        if cls.starts_run:
            page_specs()
        _load_in_parent()
        # What is loaded stays: a worker's garbage collector that looks through it copies all its pages, 10 ms a task (Python's own
        # advice for a process that forks, see gc.freeze).
        gc.freeze()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Validate, execute, return the result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        raw = task_vars or {}
        variables = Variables(raw, self._templar.template)
        try:
            self._check_connection()
            task = self._task_of(variables)
            if self.starts_run:
                _check_pages(variables, task.options["phases"])
            play = PlayState(Path(C.DEFAULT_LOCAL_TMP), str(raw.get("inventory_hostname", "")))
            run = self._find_run(variables, play)
        except StepFailure as failure:
            text = " ".join(part for part in (failure.message, failure.remedy) if part)
            raise AnsibleActionFail(text) from None
        connector = AnsibleConnector(self._connection, task.name or self.step.name)
        execution = Execution(self.step, task, variables, connector, play, run, self._show(raw))
        result.update(execution.perform())
        # What changed; and why nothing does: left out, done before in this run, or the whole run is complete.
        telling = ("changed", "skipped", "recorded", "image") if self.starts_run else ("changed", "skipped", "recorded")
        # In check mode the difference says what would change.
        told = any(result.get(name) for name in telling) and not task.check_mode
        if (told or result.get("skipped")) and not result.get("failed"):
            self._show(raw)(None, str(result.get("msg", "")))
        return result

    def _check_connection(self) -> None:
        name = getattr(self._connection, "ansible_name", "") or getattr(self._connection, "transport", "")
        if name not in _WINRM:
            raise StepFailure(
                f"This host is connected by the plugin '{name}'; the steps speak WS-Management over Ansible's plugin winrm only.",
                remedy="Set for this host: ansible_connection: winrm, with ansible_port, ansible_winrm_scheme and ansible_winrm_transport.",
            )
        if self._task.become:
            raise StepFailure("become has no meaning for this step.", remedy="Remove it; long work runs as SYSTEM already.")

    def _task_of(self, variables: Variables) -> Task:
        try:
            dummy, options = self.validate_argument_spec(self.argument_spec, **self.step.rules)
        except AnsibleError as error:
            text = str(error.message if hasattr(error, "message") else error)
            raise StepFailure(text.replace(f"({self._load_name}) module", f"goldimage.osd.{self.module}")) from error
        values = plain(options)
        problems = self.step.validate(values)
        if problems:
            raise StepFailure(". ".join(problems) + ".")
        return Task(
            self.module,
            self._task.get_name(include_role_fqcn=False).split(" : ")[-1],
            values,
            bool(self._task.check_mode),
            bool(self._task.diff),
        )

    def _find_run(self, variables: Variables, play: PlayState) -> Run | None:
        """A task is part of a run once start_task_sequence has begun it in this play; used alone it journals nothing."""
        if self.starts_run:
            run = load_run(variables) or new_run(variables)
            play.set("run", run.id)
            return run
        started = play.get("run")
        if not started or started != run_name(variables):
            return None
        # In check mode nothing was written yet.
        return load_run(variables) or new_run(variables)

    def _show(self, raw: Mapping[str, Any]) -> Show:
        host = str(raw.get("inventory_hostname", ""))

        def show(percent: float | None, text: str) -> None:
            number = "" if percent is None else f"{percent:3.0f} % "
            display.display(f"  {host}: {number}{text}")

        return show


def _check_pages(variables: Variables, phases: Sequence[str]) -> None:
    problems = page_problems(variables, phases)
    if problems:
        raise StepFailure(". ".join(problems) + ".", remedy="Correct the variables.")
