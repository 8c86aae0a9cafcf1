# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The black box: ``X:\_osd\recorder.log`` says what ran on this computer, whoever has seen it.

One JSON object a line, with ``time`` by the computer's own clock and ``event``: ``agent`` (it has started), ``step`` (``step``),
``started`` (``id``, ``job``, ``command`` as it came), ``running`` (``id``, ``percent``, at each tenth), ``ended`` (``id``, ``job``,
``exit_code``, null where it was cut off, ``percent`` and ``tail``, the end of the output). ``job`` is false for the command of a shell.
Environment and standard input are in none. The file lies in the RAM disk: it outlives the agent, not the power.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from ..wsman.schema import Instance, Value
from ..wsman.server import CimError, RunningCommand, ShellOptions, ShellProvider, ShellSession
from .files import FileSystem
from .jobs import CLASS, FINISHED, ID, NAMESPACE, Jobs

NAME = "recorder.log"
#: The file's size in bytes: above it the older half goes. What the controller fetches of a log is no more.
LIMIT = 256 * 1024
#: Bytes of output that are kept, and characters of a command line.
TAIL, COMMAND = 2000, 4096
#: Seconds between two looks at what nobody may be asking about.
PAUSE = 2.0
_PERCENT = re.compile(rb"(\d{1,3})(?:[.,]\d+)?\s?%")


def percent(output: bytes) -> int | None:
    """Return the last percentage in a program's output, None where there is none."""
    found = [int(number) for number in _PERCENT.findall(output)]
    return next((number for number in reversed(found) if number <= 100), None)


@dataclass
class _Open:
    """Something that was started and has not ended. ``recorded`` is the percentage that the file has."""

    job: bool
    percent: int | None = None
    recorded: int | None = None


class Recorder:
    r"""Writes the file. What cannot be written is lost: a full disk must not end what it reports on.

    Args:
        files: the computer's files.
        folder: where the file lies, ``X:\_osd``.
    """

    def __init__(self, files: FileSystem, folder: str) -> None:
        self._files = files
        self._folder = folder
        self._path = f"{folder}\\{NAME}"
        self._lock = threading.RLock()
        self._open: dict[str, _Open] = {}
        self._known: set[str] = set()
        self._file: BinaryIO | None = None
        self._size = 0
        #: Comes before the next line: ends one in the middle of which an earlier agent was killed.
        self._before = b""
        #: What the controller last said that it does; '' before that.
        self.step = ""
        #: The last job that ended with another code than 0, and that code.
        self.last_error: tuple[str, int] | None = None
        self._read_back()

    # --- what happens

    def agent_started(self, boot_image: str) -> None:
        """The agent answers from now on."""
        self._write("agent", boot_image=boot_image)

    def heard_step(self, step: str) -> None:
        """The controller names its step with every request."""
        if step and step != self.step:
            self.step = step
            self._write("step", step=step)

    def started(self, name: str, command: str, *, job: bool) -> None:
        """Something is started; what is known already is not again."""
        with self._lock:
            if name.lower() in self._known:
                return
            self._known.add(name.lower())
            self._open[name] = _Open(job)
            self._write("started", id=name, job=job, command=command[:COMMAND])

    def running(self, name: str, number: int | None) -> None:
        """It is so far."""
        with self._lock:
            found = self._open.get(name)
            if found is None or number is None:
                return
            found.percent = number
            if found.recorded is None or number // 10 != found.recorded // 10:
                found.recorded = number
                self._write("running", id=name, percent=number)

    def ended(self, name: str, code: int | None, output: bytes) -> None:
        """It has ended; said once."""
        with self._lock:
            found = self._open.pop(name, None)
            if found is None:
                return
            if found.job and code:
                self.last_error = name, code
            tail = output[-TAIL:].decode("utf-8", "replace")
            self._write("ended", id=name, job=found.job, exit_code=code, percent=percent(output), tail=tail)

    def not_started(self, name: str, code: int | None) -> None:
        """It could not be started, for that reason; it may be tried again."""
        with self._lock:
            self.ended(name, code, b"")
            self._known.discard(name.lower())

    def open_jobs(self) -> dict[str, int | None]:
        """Return the jobs that run, with their percentages."""
        with self._lock:
            return {name: found.percent for name, found in self._open.items() if found.job}

    # --- the file

    def _write(self, event: str, **values: Any) -> None:
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._size + len(line) > LIMIT:
                self._halve()
            if self._file is None:
                self._files.make_directories(self._folder)
                self._file = self._files.open_write(self._path, append=True)
            self._file.write(self._before + line)
            self._file.flush()
            self._size += len(line)
            self._before = b""

    def _halve(self) -> None:
        """Keep the younger half. Whoever reads the old file goes on reading it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        content = self._content()
        kept = content[max(0, len(content) - LIMIT // 2) :].partition(b"\n")[2]
        with self._files.open_write(f"{self._path}.tmp") as file:
            file.write(kept)
        self._files.rename(f"{self._path}.tmp", self._path, replace=True)
        self._size = len(kept)

    def _content(self) -> bytes:
        with contextlib.suppress(OSError), self._files.open_read(self._path) as file:
            return file.read(LIMIT)
        return b""

    def _read_back(self) -> None:
        """Know what an agent before this one has recorded: what it has seen started and not ended may have ended since."""
        content = self._content()
        self._size = len(content)
        if content and not content.endswith(b"\n"):
            self._before = b"\n"
        for line in content.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._take(json.loads(line))

    def _take(self, record: Mapping[str, Any]) -> None:
        event, name = record["event"], str(record.get("id", ""))
        if event == "step":
            self.step = str(record["step"])
        elif event == "started":
            self._known.add(name.lower())
            # The commands of a shell have ended with their agent.
            if record["job"]:
                self._open[name] = _Open(job=True)
        elif event == "ended":
            self._open.pop(name, None)
            if record["job"] and record["exit_code"]:
                self.last_error = name, int(record["exit_code"])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.close()
                self._file = None


class RecordedJobs:
    """``Jobs`` that are recorded."""

    def __init__(self, jobs: Jobs, recorder: Recorder) -> None:
        self._jobs = jobs
        self._recorder = recorder

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all jobs."""
        return self._jobs.instances(namespace, class_name)

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one job."""
        return self._jobs.get(namespace, class_name, selectors)

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call Create, Get or Stop; the end is recorded when it is told."""
        create = method == "Create"
        name = str(arguments.get("Id") or "") if create else next(iter((selectors or {}).values()), "")
        create = create and bool(ID.fullmatch(name))
        if create:
            # Before it: what starts may end the computer.
            self._recorder.started(name, str(arguments.get("CommandLine") or ""), job=True)
        try:
            answer = self._jobs.invoke(namespace, class_name, method, selectors, arguments)
        except Exception:
            if create and not self._is_there(name):
                self._recorder.not_started(name, None)
            raise
        if create and answer["ReturnValue"]:
            code = answer["ReturnValue"]
            self._recorder.not_started(name, code if isinstance(code, int) else None)
        elif answer.get("State") == FINISHED:
            self._end(name, answer)
        return answer

    def _is_there(self, name: str) -> bool:
        try:
            self.get(NAMESPACE, CLASS, {"Id": name})
        except CimError:
            return False
        return True

    def _end(self, name: str, answer: Mapping[str, Value]) -> None:
        if name not in self._recorder.open_jobs():
            return
        output, size, code = _output(answer), answer.get("NextOffset"), answer.get("ExitCode")
        if isinstance(size, int) and len(output) < min(size, TAIL):
            output = self._tail(name, size)
        self._recorder.ended(name, code if isinstance(code, int) else None, output)

    def look(self) -> None:
        """See what has become of the jobs that were started and whose end nobody was told."""
        for name in self._recorder.open_jobs():
            try:
                job = self.get(NAMESPACE, CLASS, {"Id": name})
            except CimError:
                continue  # it is being started
            code, size = job["ExitCode"], job["OutputSize"]
            output = self._tail(name, size if isinstance(size, int) else 0)
            if job["State"] == FINISHED:
                self._recorder.ended(name, code if isinstance(code, int) else None, output)
            else:
                self._recorder.running(name, percent(output))

    def _tail(self, name: str, size: int) -> bytes:
        arguments = {"Offset": max(0, size - TAIL), "Wait": 0}
        with contextlib.suppress(CimError, OSError):
            return _output(self._jobs.invoke(NAMESPACE, CLASS, "Get", {"Id": name}, arguments))
        return b""

    def close(self) -> None:
        """The agent stops."""
        self._jobs.close()


def _output(answer: Mapping[str, Value]) -> bytes:
    return base64.b64decode(str(answer.get("Output") or ""))


class RecordedShells:
    """``ShellProvider`` whose commands are recorded."""

    def __init__(self, shells: ShellProvider, recorder: Recorder) -> None:
        self._shells = shells
        self._recorder = recorder

    def open(self, options: ShellOptions) -> ShellSession:
        """Open a shell."""
        return _Session(self._shells.open(options), self._recorder)


class _Session:
    def __init__(self, session: ShellSession, recorder: Recorder) -> None:
        self._session = session
        self._recorder = recorder
        self._commands: list[_Command] = []

    def start(self, command_line: str) -> RunningCommand:
        name = f"shell-{uuid.uuid4().hex[:12]}"
        self._recorder.started(name, command_line, job=False)
        try:
            command = _Command(self._session.start(command_line), name, self._recorder)
        except OSError as error:
            code = getattr(error, "code", None) or getattr(error, "winerror", None) or error.errno
            self._recorder.not_started(name, code)
            raise
        self._commands = [*(other for other in self._commands if not other.told), command]
        return command

    def close(self) -> None:
        for command in self._commands:
            command.cut_off()
        self._session.close()


class _Command:
    """A command; its end is recorded with the last of its output, or with its shell."""

    def __init__(self, command: RunningCommand, name: str, recorder: Recorder) -> None:
        self._command = command
        self._name = name
        self._recorder = recorder
        self._tail = b""
        self._code: int | None = None
        #: Whether its end is recorded.
        self.told = False

    @property
    def exit_code(self) -> int | None:
        self._code = self._command.exit_code
        return self._code

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        chunks = self._command.read(timeout)
        for dummy, data in chunks:
            self._tail = (self._tail + data[-TAIL:])[-TAIL:]
        if self._code is not None and not chunks:
            self.told = True
            self._recorder.ended(self._name, self._code, self._tail)
        elif chunks:
            self._recorder.running(self._name, percent(self._tail))
        return chunks

    def write(self, data: bytes, end: bool) -> None:
        self._command.write(data, end)

    def terminate(self) -> None:
        self._command.terminate()

    def cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self._recorder.ended(self._name, self._command.exit_code, self._tail)
