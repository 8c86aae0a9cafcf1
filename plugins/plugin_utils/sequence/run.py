# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run of a task sequence on one computer, as the control node remembers it between tasks.

``<run>/<host>/run.json`` in ``osd_state_dir`` holds what is needed to go on: the machine, where it answered last, what steps asked to
remember, the key of the digests. ``<run>/logs/<host>`` holds the journal and all logs. Both go only together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..steps.base import StepFailure
from .endpoints import Variables
from .journal import Entry, Journal
from .machine import Machine

SCHEMA = 1
#: What does not stand in the name of a file.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_RUNS_OF_THEM = re.compile(rf"{_NOT_IN_NAMES.pattern}+")


@dataclass
class Position:
    """Where the computer was when the last task ended."""

    identity: str = ""
    host: str = ""
    environment: str = ""
    boot_id: str = ""
    #: The Windows volume of the run as Windows PE sees it since that start (``W:``), '' while it was not looked for.
    windows_drive: str = ""


@dataclass
class Record:
    """What run.json holds."""

    run: str
    host: str
    key: str
    holder: str
    machine: dict[str, Any] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    #: Steps that changed something so far; the same number is on the computer.
    counter: int = 0
    #: The counter as it was last written to a disk of the computer; 0 while a step replaces or removes what was written.
    on_disk: int = 0
    #: Whether the machine check of the destructive steps was passed.
    cleared: bool = False
    #: Whether this run put its own Windows on the disk.
    builds: bool = False
    #: The phases whose content the computer itself has still to read, before the first destructive step.
    unread: list[str] = field(default_factory=list)
    #: Content whose SHA-256 was compared in this run.
    verified: list[str] = field(default_factory=list)
    #: The destination of the image to which a small file was written in this run.
    rehearsed: str = ""
    #: Logs of the computer that were fetched, with their sizes then.
    fetched: dict[str, int] = field(default_factory=dict)
    simulated: bool | None = None
    remembered: dict[str, Any] = field(default_factory=dict)
    #: Unfinished jobs by step and label.
    jobs: dict[str, str] = field(default_factory=dict)


class Run:
    """One run on one computer. ``record`` is written with :meth:`save` only, whole or not at all."""

    def __init__(self, directory: Path, record: Record) -> None:
        """Take the folder ``osd_state_dir/<run>/<host>`` and the record."""
        self.directory = directory
        self.record = record
        self.journal = Journal(self.log_directory / "journal.jsonl")
        self._written = ""
        self._owed = False

    @property
    def id(self) -> str:
        """The run's name."""
        return self.record.run

    @property
    def log_directory(self) -> Path:
        """``osd_state_dir/<run>/logs/<host>``: the journal, job output, fetched logs."""
        return self.directory.parent / "logs" / self.directory.name

    @property
    def key(self) -> bytes:
        """The key of this run's digests."""
        return bytes.fromhex(self.record.key)

    @property
    def machine(self) -> Machine:
        """The computer of the run; without any name before the start."""
        return Machine.from_dict(self.record.machine)

    def save(self) -> None:
        """Write run.json beside and rename it, where anything changed since it was written."""
        # Without indentation the C encoder writes it, ten times as fast.
        text = json.dumps({"schema": SCHEMA, **vars(self.record), "position": vars(self.record.position)}, default=str)
        if text == self._written:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / f".run.json.{os.getpid()}"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.directory / "run.json")
        self._written, self._owed = text, False

    def forget_job(self, name: str) -> None:
        """Forget an ended job. It is written with what the step writes next: until then it would be found again, with the same answer."""
        self.record.jobs.pop(name, None)
        self.owe()

    def owe(self) -> None:
        """Leave a change to the next writing, at the latest the end of the task: nothing is lost where it never comes to that."""
        self._owed = True

    def settle(self) -> None:
        """Write what was left to be written; the task ends."""
        if self._owed:
            self.save()

    def last(self, key: str, entries: list[Entry]) -> Entry | None:
        """Return the last entry of a task that finished; what failed after it (a refusal, a computer that was off) undoes nothing."""
        return next((e for e in reversed(entries) if e.key == key and e.finished), None)


def run_name(variables: Variables) -> str:
    """Return the run's name: ``osd_run``, or the image's name and version; '' where neither is set."""
    given = str(variables.get("osd_run", ""))
    if not given:
        parts = [str(variables.get("osd_image_name", "")), str(variables.get("osd_image_version", ""))]
        given = "-".join(part for part in parts if part)
    return _RUNS_OF_THEM.sub("-", given).strip("-.")


def run_directory(variables: Variables, run: str) -> Path:
    """Return the folder of this run and host on the control node."""
    return variables.path(variables.get("osd_state_dir", "osd-state")) / run / str(variables.get("inventory_hostname", "host"))


def load_run(variables: Variables) -> Run | None:
    """Return the run that the host's variables name, where it was started; else None."""
    name = run_name(variables)
    if not name:
        return None
    directory = run_directory(variables, name)
    try:
        document = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StepFailure(
            f"{directory / 'run.json'} cannot be read: {error.strerror}.", remedy="Check osd_state_dir, where the run is kept."
        ) from error
    except ValueError as error:
        raise StepFailure(f"{directory / 'run.json'} is damaged: {error}.", remedy="Start another osd_run.") from error
    if document.pop("schema", None) != SCHEMA:
        raise StepFailure(f"{directory / 'run.json'} is of another version of this collection.", remedy="Start another osd_run.")
    document["position"] = Position(**document.get("position", {}))
    return Run(directory, Record(**document))


def new_run(variables: Variables) -> Run:
    """Return a new run; nothing is written yet. StepFailure where it has no name."""
    name = run_name(variables)
    if not name:
        raise StepFailure("The run has no name.", remedy="Set osd_run, or osd_image_name and osd_image_version from which it is made.")
    directory = run_directory(variables, name)
    record = Record(name, str(variables.get("inventory_hostname", "host")), secrets.token_hex(32), _holder(directory.parent.parent))
    return Run(directory, record)


def _holder(state_directory: Path) -> str:
    """Name this control node and its folder of runs: two runs from one place do not shut each other out, two places do."""
    try:
        node = Path("/etc/machine-id").read_text(encoding="ascii")
    except OSError:
        node = str(uuid.getnode())
    place = hashlib.sha256(f"{node.strip()}|{state_directory}".encode()).hexdigest()[:8]
    return f"{socket.gethostname()}/{place}"


class PlayState:
    """What the tasks of one ansible-playbook process tell each other: a file in its own temporary folder, which Ansible removes."""

    def __init__(self, folder: Path, host: str) -> None:
        """Take Ansible's temporary folder and the host's name."""
        self._path = folder / f"osd-{_NOT_IN_NAMES.sub('_', host)}.json"
        try:
            self._values: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._values = {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value."""
        return self._values.get(name, default)

    def set(self, name: str, value: Any) -> None:
        """Keep a value for the play's later tasks."""
        self._values[name] = value
        part = self._path.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps(self._values), encoding="utf-8")
            os.replace(part, self._path)
        except OSError:
            # Outside of ansible-playbook there is no such folder; nothing depends on it there.
            return

    def occurrence(self, key: str) -> int:
        """Return how many tasks of this key ended in this play."""
        return int(self.get("seen", {}).get(key, 0))

    def count(self, key: str) -> None:
        """Note that one more ended."""
        seen = dict(self.get("seen", {}))
        seen[key] = int(seen.get(key, 0)) + 1
        self.set("seen", seen)


@contextmanager
def saved(run: Run) -> Iterator[Record]:
    """Change the record and write it, whatever happens in between."""
    try:
        yield run.record
    finally:
        run.save()
