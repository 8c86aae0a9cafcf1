# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One task of a sequence from beginning to end, without Ansible: journal, fence, condition, phase, plan, apply, verify, result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..steps.base import Change, Plan, Step, StepFailure
from ..steps.spent import refuse_captured
from ..windows.cim_classes import STORAGE
from ..windows.computer import Computer, ComputerLost, Environment
from ..windows.registry import RegistryError
from ..wsman.faults import WsmanFault
from ..wsman.known import known
from .conditions import client_cache_variables, environment_variables, skip_reason
from .contact import Connector, Contact, Contacts
from .content import declared_sources, refuse_shared_destination
from .context import SequenceContext, Show
from .endpoints import Variables
from .fence import Fence
from .journal import Entry, digest_inputs, secret_values
from .machine import read_machine, unnamed
from .once import CAPTURE_MODULE, captured_result, complete_entry
from .run import PlayState, Run, saved

#: Steps whose result is live state: they are never taken from the journal.
REPEATED = frozenset({"start_task_sequence", "task_sequence_facts"})
PARTITION_MODULE = "format_and_partition_disk"
#: Steps during which the run's state on the computer is lost: the disk is new, or the work folder is removed.
_REMOVE_STATE = frozenset({PARTITION_MODULE, "prepare_windows_for_capture", CAPTURE_MODULE})
#: Steps after which a volume may have another drive letter in the same Windows PE.
_CHANGES_LETTERS = frozenset({PARTITION_MODULE, "run_command_line"})
#: Buses of media that may have partitions on a computer whose own disks are empty: USB, SD, MMC [doc: stor/msft-disk].
_REMOVABLE_BUSES = (7, 12, 13)
#: Where the steps that cross leave the computer.
_LEADS_TO = {
    "setup_windows_and_configmgr": Environment.FULL_OS,
    "prepare_windows_for_capture": Environment.WINDOWS_PE,
}
#: The step after which Windows is gone for good: it restarts the computer without the controller.
_LEAVES = "prepare_windows_for_capture"
#: How many changes the one line on the terminal names.
_SHOWN = 4
_MASK = "********"
#: A shorter secret would blank unrelated text.
_SHORTEST_MASKED = 4


@dataclass(frozen=True)
class Task:
    """The task as Ansible names it: module (short), task name, validated options, modes."""

    module: str
    name: str
    options: Mapping[str, Any]
    check_mode: bool = False
    diff_mode: bool = False


class Execution:
    """One task on one host. ``run`` is None where the step is used alone."""

    def __init__(
        self,
        step: type[Step[Any, Any]],
        task: Task,
        variables: Variables,
        connector: Connector,
        play: PlayState,
        run: Run | None,
        show: Show,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the step's class and what surrounds the task."""
        self.step_class = step
        self.task = task
        self.variables = variables
        self.play = play
        self.run = run
        self.contacts = Contacts(connector, variables, run, sleep)
        self.context = SequenceContext(
            self.contacts, variables, run, step=task.name or step.name, show=show, check_mode=task.check_mode, sleep=sleep
        )
        self.step = step(task.options, self.context)
        self.before: Contact | None = None
        self.sends = True
        self._name = f"{task.module}|{task.name}"
        self._applying = False

    @property
    def key(self) -> str:
        """What tells this task from the others of the sequence, the same in every play of it."""
        return f"{self._name}|{self.play.occurrence(self._name)}"

    @property
    def digest(self) -> str:
        """The digest of the task's inputs; '' outside of a run."""
        return digest_inputs(self.run.key, self.task.options, self.step_class.secrets) if self.run else ""

    # --- The frame ----------------------------------------------------------------------------------------------------

    def perform(self) -> dict[str, Any]:
        """Return the task's result. Expected problems become a failed result with one clear message; only bugs raise."""
        started, clock = _now(), time.monotonic()
        try:
            result = self._perform()
        except StepFailure as failure:
            result = _failed(failure.message, failure.code, failure.remedy, failure.log or self.context.last_log)
        except ComputerLost as problem:
            never = self.before is None and getattr(problem, "kind", "unreachable") in ("unreachable", "refused", "timeout")
            result = {"unreachable": True, "msg": str(problem)} if never else _failed(str(problem), log=self.context.last_log)
        except (WsmanFault, RegistryError) as fault:
            code = getattr(fault, "code", None)
            result = _failed(f"The computer answered with an error: {fault}", code, log=self.context.last_log)
        except OSError as error:
            # Files and jobs answer with errors of the operating system: full disk, access denied, a path that is none.
            what = error.strerror or str(error)
            # Only the control node's own errors name their file so.
            result = (
                _failed(f"{self.step_class.name}: {what}", error.errno, log=self.context.last_log) if not error.filename else _here(error)
            )
        if self._applying and result.get("failed") and self.contacts.current:
            self.context.fetch_logs(self.contacts.current.computer)
        contact = self.contacts.current or self.before
        requests = self.contacts.requests
        self.contacts.close()
        if self.run:
            try:
                self.run.settle()
            except OSError as error:
                result = _here(error)
        # Said in any case: without it Ansible fails a task whose 'rc' is 3010, which is a success.
        result.setdefault("failed", False)
        result |= {"step": self.step_class.name, "requests": requests, "elapsed": round(time.monotonic() - clock, 3)}
        result["environment"] = contact.fence.environment.value if contact else result.get("environment", "")
        simulated = self.run.record.simulated if self.run else None
        result["_osd"] = {
            "environment": result["environment"],
            "boot_id": contact.fence.boot_id if contact else "",
            "simulated": simulated,
            "run": self.run.id if self.run else "",
        }
        if self.context.warnings:
            result["warnings"] = list(self.context.warnings)
        result = mask_secrets(result, secret_values(self.task.options, self.step_class.secrets))
        try:
            self._write_journal(result, contact, started)
        except OSError as error:
            result |= _here(error)
        if not (result.get("failed") or result.get("unreachable")):
            self.play.count(self._name)
        return result

    def _write_journal(self, result: Mapping[str, Any], contact: Contact | None, started: str) -> None:
        if self.run is None or self.task.check_mode or result.get("recorded"):
            return
        before = self.before
        entry = Entry(
            key=self.key,
            step=self.step_class.name,
            module=self.task.module,
            digest=self.digest,
            environment_before=before.fence.environment.value if before else "",
            environment_after=contact.fence.environment.value if contact else "",
            boot_before=before.fence.boot_id if before else "",
            boot_after=contact.fence.boot_id if contact else "",
            start=started,
            end=_now(),
            requests=int(result.get("requests", 0)),
            changed=bool(result.get("changed")),
            skipped=bool(result.get("skipped")),
            failed=bool(result.get("failed") or result.get("unreachable")),
            reason=str(result.get("skipped_reason") or (result.get("msg", "") if result.get("failed") else "")),
            result={k: v for k, v in result.items() if k not in ("diff", "warnings", "_osd")},
        )
        self.run.journal.append(entry)

    # --- The steps of a step ------------------------------------------------------------------------------------------

    def _perform(self) -> dict[str, Any]:
        starts = self.task.module == "start_task_sequence"
        if self.run and self.play.get("once") and not starts:
            return self._recorded()
        if self.task.check_mode and self.play.get("predicted") and self.task.module not in REPEATED:
            return self._predict()
        if starts and self.run:
            done = captured_result(self.run, self.variables)
            if done:
                self.play.set("once", True)
                return done
        if starts:
            refuse_shared_destination(self.variables)
        complete = starts and self.run is not None and complete_entry(self.run.journal.read()) is not None
        # A captured computer was shut down: nothing is under way that could be waited for.
        contact = self.before = self.contacts.locate(lambda text: self.context.progress(None, text), wait=not complete)
        if complete:
            return self._captured_on_computer(contact)
        done = self._from_journal(contact)
        if done:
            return done
        reason = self._skip_reason(contact)
        if reason:
            return self._left_out(reason)
        if self._has_crossed(contact):
            return self._resume(contact.computer)
        if contact.fence.environment not in self.step_class.environments:
            if self.task.check_mode:
                return self._predict()
            raise StepFailure(*self._wrong_phase(contact))
        return self._run_step(contact.computer)

    def _run_step(self, computer: Computer) -> dict[str, Any]:
        if self.step_class.starts_over:
            self.context.end_jobs(computer)
        plan = self.step.plan(self.step.observe(computer))
        if not plan.changes:
            return {**self.step.result(plan), **self._describe(plan, changed=False)}
        reason = self._spares_content(plan)
        if reason:
            return self._left_out(reason)
        if self.step_class.destructive:
            self._check_destructive(computer)
        if self.task.check_mode:
            self._foresee(computer.environment)
            return self._describe(plan, changed=True)
        if self.task.module in _REMOVE_STATE:
            self.context.expect_no_state()
        self._applying = True
        if self.task.module == _LEAVES:
            self.context.fetch_logs(computer)
        computer = self.step.apply(computer, plan)
        values = dict(self.step.verify(computer, plan))
        if self.task.module == _LEAVES:
            # Sysprep's own logs, read from its disk.
            self.context.fetch_logs(computer)
        self._after_change(computer)
        return {**values, **self._describe(plan, changed=True)}

    def _has_crossed(self, contact: Contact) -> bool:
        """Tell whether this step began in an earlier play, took the computer to the other side, and lost its controller on the way."""
        target = _LEADS_TO.get(self.task.module)
        if self.run is None or self.task.check_mode or contact.fence.environment is not target:
            return False
        done = [e for e in self.run.journal.read() if e.finished and e.module not in REPEATED]
        came_from = bool(done) and done[-1].environment_after != target.value
        return came_from and (target is Environment.WINDOWS_PE or self.run.record.builds)

    def _resume(self, computer: Computer) -> dict[str, Any]:
        """Do what is left of a step on the other side; its own verification says whether it got there in good order."""
        plan = self.step.predict()
        go_on = getattr(self.step, "resume", None)
        if go_on:
            computer = go_on(computer)
        values = dict(self.step.verify(computer, plan))
        self._after_change(computer)
        return {**values, **self._describe(replace(plan, predicted=False), changed=True), "resumed": True}

    def _after_change(self, computer: Computer) -> None:
        if self.run is None:
            return
        with saved(self.run) as record:
            record.counter += 1
            self.context.remember_place()
        if self.task.module in _CHANGES_LETTERS:
            self.context.forget_letters()
        if self.task.module != CAPTURE_MODULE:
            self.context.write_state(computer)

    def _describe(self, plan: Plan, *, changed: bool) -> dict[str, Any]:
        lines = [change.summary for change in plan.changes]
        result: dict[str, Any] = {"changed": changed, "changes": lines}
        result["msg"] = _one_line(plan.changes)
        if plan.predicted:
            result["predicted"] = True
        if self.task.diff_mode and (plan.before or plan.after or lines):
            # The state where there is one to compare, and what is done about it in any case.
            done = {"changes": lines} if lines else {}
            result["diff"] = {"before": _yaml_like(plan.before), "after": _yaml_like({**plan.after, **done})}
            if plan.predicted:
                result["diff"]["after_header"] = "predicted"
        if changed and plan.before:
            result["before"] = dict(plan.before)
        if changed and plan.after:
            result["after"] = dict(plan.after)
        return result

    def _predict(self) -> dict[str, Any]:
        """Plan from the options alone; where the computer would be by then decides the conditions."""
        expected = Environment(self.play.get("environment", Environment.WINDOWS_PE.value))
        facts = environment_variables(Fence(expected, ""), self.variables, self.context.run_id)
        reason = skip_reason(self.task.module, self.task.options, facts)
        if reason:
            return self._left_out(reason)
        plan = self.step.predict()
        if plan.changes:
            self._foresee(expected)
        return self._describe(plan, changed=bool(plan.changes)) | {"predicted": True, "environment": expected.value}

    def _foresee(self, here: Environment) -> None:
        """In check mode: the steps that follow meet a state that this one would have made, so they are predicted."""
        target = _LEADS_TO.get(self.task.module, here)
        if self.task.module == "restart_computer":
            target = Environment.FULL_OS if self.task.options.get("target") == "installed_os" else Environment.WINDOWS_PE
        self.play.set("environment", target.value)
        if self.task.module != "run_command_line":
            self.play.set("predicted", True)

    @staticmethod
    def _left_out(reason: str) -> dict[str, Any]:
        return {"changed": False, "skipped": True, "skipped_reason": reason, "msg": f"left out: {reason}"}

    # --- What comes from the journal ----------------------------------------------------------------------------------

    def _from_journal(self, contact: Contact) -> dict[str, Any] | None:
        """Return the result of a step that this run finished already; refuse one whose inputs changed since."""
        if self.run is None or self.task.module in REPEATED:
            return None
        entries = self.run.journal.read()
        left_out = _passed_by(self.key, entries)
        if left_out:
            return {**left_out.result, "recorded": True}
        entry = self.run.last(self.key, entries)
        if entry is None:
            return None
        again = self.task.module == "restart_computer" and contact.fence.environment.value != entry.environment_after
        if again and not self.run.record.builds:
            return None
        return self._result_of(entry)

    def _result_of(self, entry: Entry) -> dict[str, Any]:
        run = known(self.run)
        if entry.digest != self.digest:
            raise StepFailure(
                f"The options of '{self.task.name or self.step_class.name}' are not those with which the run '{run.id}' did it "
                f"({entry.end}). A finished step is not done again with other options.",
                remedy="Restore the options, or start another osd_run.",
            )
        kept = {k: v for k, v in entry.result.items() if k not in ("changes", "before", "after", "requests", "elapsed")}
        when = f"{entry.end[:10]} {entry.end[11:19]} UTC"
        return {**kept, "changed": False, "recorded": True, "msg": f"done in this run at {when}: {entry.result.get('msg', '')}"}

    def _recorded(self) -> dict[str, Any]:
        """Answer from the journal alone: the run is complete, nothing is sent."""
        run = known(self.run)
        entries = [e for e in run.journal.read() if e.key == self.key and not e.failed]
        if not entries:
            raise StepFailure(
                f"The run '{run.id}' is complete, and '{self.task.name or self.step_class.name}' was not a part of it.",
                remedy="Start another osd_run to build with this sequence.",
            )
        entry = entries[-1]
        if entry.skipped:
            return {**entry.result, "recorded": True}
        if self.task.module in REPEATED:
            return {**entry.result, "changed": False, "recorded": True}
        return self._result_of(entry)

    def _captured_on_computer(self, contact: Contact) -> dict[str, Any]:
        """Without the file on the control node, the computer has to say whether it is still the same."""
        run = known(self.run)
        entry = known(complete_entry(run.journal.read()))
        image = entry.result.get("image") or {}
        capture = self.variables.mapping("osd_capture")
        found = ""
        if contact.fence.environment is Environment.WINDOWS_PE:
            path = self.context.content({"target": image.get("path", ""), "account": capture.get("account")})
            try:
                found = contact.computer.file_hash(path)
            except FileNotFoundError:
                found = ""
        if not found or found != image.get("sha256"):
            raise StepFailure(
                f"The run '{run.id}' is complete, but {image.get('path')} is not (or cannot be shown to be) the file it captured. "
                "A captured reference computer is spent.",
                remedy="Start another osd_run; it builds the computer anew.",
            )
        self.play.set("once", True)
        return once_result(image)

    # --- Checks -------------------------------------------------------------------------------------------------------

    def _skip_reason(self, contact: Contact) -> str:
        facts = environment_variables(contact.fence, self.variables, self.context.run_id)
        return skip_reason(self.task.module, self.task.options, facts)

    def _spares_content(self, plan: Plan) -> str:
        """Return why the step is left out where it would destroy the run's own content. StepFailure where it cannot be left out."""
        if not plan.erases:
            return ""
        sources = [*declared_sources(self.variables, ("build",)), self.task.options.get("image") or {}]
        facts = client_cache_variables(sources, plan.erases)
        reason = skip_reason(self.task.module, self.task.options, facts)
        if facts and not reason:
            raise StepFailure(
                f"{self.step_class.name} would delete this build's content: {facts['_SMSTSClientCache']} lies on a volume that it empties.",
                remedy="Put the content on another volume or on a share.",
            )
        return reason

    def _wrong_phase(self, contact: Contact) -> tuple[str]:
        wanted = " or ".join(sorted(e.value for e in self.step_class.environments))
        here = contact.fence.environment
        hint = (
            "restart it in Windows PE first (step Restart Computer)"
            if here is Environment.FULL_OS
            else "let Setup Windows and ConfigMgr start the installed Windows first"
        )
        return (
            f"{self.step_class.name} runs in {wanted}; the computer ({contact.target.address}) is in {here.value}. "
            f"Nothing was done: {hint}.",
        )

    def _check_destructive(self, computer: Computer) -> None:
        """Touch a computer with data only where the user named it, and a captured one only to partition it anew."""
        if self.task.module != PARTITION_MODULE:
            refuse_captured(computer, self.context.run_id)
        self.context.check_unread(computer)
        named = str(self.task.options.get("machine") or self.variables.get("osd_machine", ""))
        if self.run and self.run.record.cleared:
            return
        if self.run is None and not self.task.options.get("machine"):
            machine = read_machine(computer.cim)
            raise StepFailure(
                f"{self.step_class.name} destroys data, and outside of a run it needs the option machine. "
                f"This computer is {machine.describe}.",
                remedy=f'If it is the right one, add to the task: machine: "{machine.id}"',
            )
        machine = self.run.machine if self.run and self.run.machine.id else read_machine(computer.cim)
        if named and not machine.is_named(named):
            raise StepFailure(
                f"The step names the computer '{named}', but this is {machine.describe}. Nothing was changed on it.",
                remedy="Correct the address or the name.",
            )
        if not named and _has_data(computer):
            refusal = unnamed(str(self.variables.get("inventory_hostname", "the computer")), machine)
            if self.task.check_mode:
                self.context.warn(f"{refusal.message} The real run will stop here. {refusal.remedy}")
                return
            raise refusal
        if self.run and not self.task.check_mode:
            with saved(self.run) as record:
                record.cleared = True


def _passed_by(key: str, entries: list[Entry]) -> Entry | None:
    """Return the entry of a step that was left out and that later steps have passed: its condition is judged once, at its place."""
    own = [position for position, entry in enumerate(entries) if entry.key == key]
    if not own or not entries[own[-1]].skipped:
        return None
    later = entries[own[-1] + 1 :]
    return entries[own[-1]] if any(e.finished and e.module not in REPEATED for e in later) else None


def _one_line(changes: Sequence[Change]) -> str:
    """Return what is shown on the terminal; all of it is in the result's ``changes``."""
    if len(changes) <= _SHOWN:
        return "; ".join(change.summary for change in changes) or "nothing to do"
    named = [change.summary for change in changes if not change.minor][:_SHOWN]
    return "; ".join([*named, f"and {len(changes) - len(named)} more"])


def _has_data(computer: Computer) -> bool:
    rows = computer.cim.query("SELECT Number,BusType,NumberOfPartitions FROM MSFT_Disk", STORAGE)
    return any(row["NumberOfPartitions"] and row["BusType"] not in _REMOVABLE_BUSES for row in rows)


def once_result(image: Mapping[str, Any]) -> dict[str, Any]:
    """Return what start_task_sequence says of a run that is complete."""
    return {
        "changed": False,
        "image": dict(image),
        "msg": f"This run is complete: {image.get('path')} has SHA-256 {image.get('sha256')}. Nothing is done again.",
    }


def _failed(message: str, code: int | None = None, remedy: str = "", log: str = "") -> dict[str, Any]:
    text = " ".join(part for part in (message, remedy, f"Log: {log}" if log else "") if part)
    result: dict[str, Any] = {"failed": True, "changed": False, "msg": text}
    if code is not None:
        result["code"] = code
    if remedy:
        result["remedy"] = remedy
    if log:
        result["log"] = log
    return result


def _here(error: OSError) -> dict[str, Any]:
    """Return the failure of a file on the control node."""
    return _failed(
        f"{error.filename or 'A file of the run'} on the control node: {error.strerror or error}.",
        error.errno,
        "Check its folder, rights and free space; osd_state_dir is where the run is kept.",
    )


def mask_secrets(value: dict[str, Any], texts: set[str]) -> dict[str, Any]:
    """Return plain data with the secret texts taken out, inside of other texts too."""
    secrets = sorted((text for text in texts if len(text) >= _SHORTEST_MASKED), key=len, reverse=True)
    return {key: _mask_texts(item, secrets) for key, item in value.items()} if secrets else value


def _mask_texts(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for text in secrets:
            value = value.replace(text, _MASK)
        return value
    if isinstance(value, Mapping):
        return {key: _mask_texts(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_texts(item, secrets) for item in value]
    return value


def _yaml_like(values: Mapping[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        if isinstance(value, list | tuple):
            lines.append(f"{name}:")
            lines += [f"  - {item}" for item in value]
        else:
            lines.append(f"{name}: {value}")
    return "".join(line + "\n" for line in lines)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
