# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Detached commands in Windows PE: the class ``OSD_Job`` in ``root/osd``.

Each job has a folder with ``out.log`` and, written last by a rename, ``rc.txt``. A job outlives the connection that started it; the
same id finds it again. ``Get`` waits for news up to its ``Wait`` seconds. The exit code is told only once all output was fetched.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol

from ..wsman.faults import WBEM_E_NOT_FOUND
from ..wsman.known import known
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from .files import FileSystem

NAMESPACE = "root/osd"
CLASS = "OSD_Job"
RUNNING, FINISHED = "Running", "Finished"
#: What a job leaves that was stopped or ran out of time (ERROR_TIMEOUT).
STOPPED_CODE = 1460
#: The longest wait of one Get in seconds; clients give a request 30.
MAX_WAIT = 20.0
#: Output in one answer, in bytes.
MAX_OUTPUT = 96 * 1024
#: A talkative program must not cost one request a line: after the first news so many seconds are waited for more.
GATHER = 0.2
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
#: What a job may be given: not the names that it writes itself.
_FILE = re.compile(r"(?!(?:out\.log|rc\.(?:txt|tmp)|state\.json)(?:$|\.tmp))[A-Za-z0-9][A-Za-z0-9._-]{0,100}", re.IGNORECASE)


class Process(Protocol):
    """A started process with all its children."""

    @property
    def id(self) -> int:
        """The process id."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end and return the unsigned exit code, None where the time is over."""

    def terminate(self, exit_code: int) -> None:
        """End the process tree."""


class ProcessStarter(Protocol):
    """Starts processes. An OSError is the Win32 or POSIX error of the start."""

    def start(self, command_line: str, *, directory: str, environment: Mapping[str, str], stdin: BinaryIO, stdout: BinaryIO) -> Process:
        """Start a command line; stderr goes to ``stdout`` too. The environment comes on top of the agent's own."""


class Jobs(Protocol):
    """The class ``OSD_Job`` on one computer: ``JobProvider``, or one that keeps its jobs elsewhere."""

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all jobs."""

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one job."""

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        """Call Create, Get or Stop."""

    def close(self) -> None:
        """The agent stops."""


class _Output(io.RawIOBase):
    """Writes a job's output through to its file and wakes who waits. A full disk loses output, not the job."""

    def __init__(self, job: _Job, file: BinaryIO) -> None:
        super().__init__()
        self._job = job
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        with self._job.news:
            try:
                self._file.write(content)
                self._file.flush()
            except (OSError, ValueError):
                return len(content)
            self._job.size += len(content)
            self._job.news.notify_all()
        return len(content)

    def close(self) -> None:
        """The file is closed when the process has ended, not by one of its writers."""


class _Job:
    def __init__(self, job_id: str, command_line: str, folder: str) -> None:
        self.id = job_id
        self.command_line = command_line
        self.folder = folder
        self.news = threading.Condition()
        self.size = 0
        self.exit_code: int | None = None
        self.stopped = False
        self.started = datetime.now(UTC)
        self.ended: datetime | None = None
        self.process: Process | None = None
        self.file: BinaryIO | None = None

    @property
    def log(self) -> str:
        return f"{self.folder}\\out.log"

    def instance(self) -> Instance:
        return Instance(
            CLASS,
            {
                "Id": self.id,
                "CommandLine": self.command_line,
                "State": RUNNING if self.exit_code is None else FINISHED,
                "ExitCode": self.exit_code,
                "ProcessId": self.process.id if self.process is not None else None,
                "StartTime": self.started,
                "EndTime": self.ended,
                "OutputSize": self.size,
            },
            NAMESPACE,
        )


class JobProvider:
    r"""The jobs of one computer.

    Args:
        files: where the job folders are.
        starter: starts the processes.
        folder: the folder of all jobs, ``X:\_osd\jobs``.
    """

    def __init__(self, files: FileSystem, starter: ProcessStarter, folder: str) -> None:
        self._files = files
        self._starter = starter
        self._folder = folder
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}

    # --- CIM ---

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all jobs."""
        with self._lock:
            return [job.instance() for job in self._jobs.values()]

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one job."""
        return self._find(selectors).instance()

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        """Call Create, Get or Stop."""
        if method == "Create":
            return self._answered(self._create(arguments), arguments)
        job = self._find(selectors or {})
        if method == "Get":
            return self._wait(job, number(arguments.get("Offset")), number(arguments.get("Wait")))
        self._stop(job)
        return {"ReturnValue": 0}

    def _answered(self, created: Mapping[str, Value], arguments: Mapping[str, Value]) -> Mapping[str, Value]:
        """Add to a job's start what Get says of it, after at most ``Wait`` seconds."""
        if created["ReturnValue"]:
            return created
        return {**self._wait(self._find({"Id": str(arguments["Id"])}), 0, number(arguments.get("Wait"))), **created}

    def _find(self, selectors: Mapping[str, str]) -> _Job:
        job_id = next(iter(selectors.values()), "")
        with self._lock:
            job = self._jobs.get(job_id.lower())
        if job is None:
            raise CimError(WBEM_E_NOT_FOUND, f"There is no job {job_id[:100]}.")
        return job

    # --- operations ---

    def _create(self, arguments: Mapping[str, Value]) -> Mapping[str, Value]:
        """ReturnValue: 0 started, or there already; else the error of the start (2 not found, 87 a bad argument)."""
        job_id = str(arguments.get("Id") or "")
        command_line = str(arguments.get("CommandLine") or "")
        if not ID.fullmatch(job_id) or not command_line.strip():
            return {"ReturnValue": 87}
        try:
            environment = environment_of(arguments.get("Environment"))
            stdin = base64.b64decode(str(arguments.get("Input") or ""), validate=True)
            files = files_of(arguments.get("Files"))
        except ValueError:
            return {"ReturnValue": 87}
        job = _Job(job_id, command_line, f"{self._folder}\\{job_id}")
        with self._lock:
            known = self._jobs.get(job_id.lower())
            if known is not None:
                return {"ReturnValue": 0, "ProcessId": known.process.id if known.process else None}
            try:
                self._lay(job.folder, files)
                self._start(job, str(arguments.get("CurrentDirectory") or job.folder), environment, stdin)
            except OSError as error:
                code = getattr(error, "code", None) or getattr(error, "winerror", None) or error.errno or 31
                return {"ReturnValue": code if code > 0 else 31}
            self._jobs[job_id.lower()] = job
        limit = number(arguments.get("TimeLimit"))
        threading.Thread(target=self._watch, args=(job, limit), daemon=True, name=f"job-{job_id}").start()
        return {"ReturnValue": 0, "ProcessId": job.process.id if job.process else None}

    def _lay(self, folder: str, files: Mapping[str, bytes]) -> None:
        self._files.make_directories(folder)
        for name, content in files.items():
            with self._files.open_write(f"{folder}\\{name}") as file:
                file.write(content)

    def _start(self, job: _Job, directory: str, environment: Mapping[str, str], stdin: bytes) -> None:
        file = self._files.open_write(job.log)
        try:
            job.process = self._starter.start(
                job.command_line,
                directory=directory,
                environment=environment,
                stdin=io.BytesIO(stdin),
                stdout=_Output(job, file),  # type: ignore[arg-type]
            )
        except BaseException:
            file.close()
            raise
        job.file = file

    def _watch(self, job: _Job, limit: int) -> None:
        process = known(job.process)
        code = process.wait(limit or None)
        if code is None:
            job.stopped = True
            process.terminate(STOPPED_CODE)
            code = process.wait(30)
        self._finish(job, STOPPED_CODE if job.stopped else (code or 0) & 0xFFFFFFFF)

    def _finish(self, job: _Job, code: int) -> None:
        with contextlib.suppress(OSError):
            with self._files.open_write(f"{job.folder}\\rc.tmp") as file:
                file.write(f"{code}\r\n".encode())
            self._files.rename(f"{job.folder}\\rc.tmp", f"{job.folder}\\rc.txt", replace=True)
        with job.news:
            with contextlib.suppress(OSError):
                if job.file is not None:
                    job.file.close()
            job.exit_code = code
            job.ended = datetime.now(UTC)
            job.news.notify_all()

    def _stop(self, job: _Job) -> None:
        with job.news:
            if job.exit_code is not None or job.stopped:
                return
            job.stopped = True
        known(job.process).terminate(STOPPED_CODE)

    def _wait(self, job: _Job, offset: int, wait: int) -> Mapping[str, Value]:
        deadline = time.monotonic() + min(float(wait), MAX_WAIT)
        with job.news:
            while job.size <= offset and job.exit_code is None and (left := deadline - time.monotonic()) > 0:
                job.news.wait(left)
            gather = min(deadline, time.monotonic() + GATHER)
            while job.exit_code is None and job.size - offset < MAX_OUTPUT and (left := gather - time.monotonic()) > 0:
                job.news.wait(left)
            size, exit_code = job.size, job.exit_code
        output = self._read(job, offset, min(size - offset, MAX_OUTPUT)) if size > offset else b""
        offset = min(offset, size) + len(output)
        done = exit_code is not None and offset >= size
        return {
            "ReturnValue": 0,
            "State": FINISHED if done else RUNNING,
            "ExitCode": exit_code if done else None,
            "Output": base64.b64encode(output).decode(),
            "NextOffset": offset,
        }

    def _read(self, job: _Job, offset: int, length: int) -> bytes:
        with self._files.open_read(job.log) as file:
            file.seek(offset)
            return file.read(length)

    def close(self) -> None:
        """End all jobs, as a power cut does."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            self._stop(job)


def number(value: object) -> int:
    """Return a count that came over the wire; 0 where there is none."""
    return value if isinstance(value, int) and value > 0 else 0


def environment_of(value: object) -> dict[str, str]:
    """Take ``NAME=value`` texts apart; ValueError where one has no name."""
    found = {}
    for item in value if isinstance(value, list) else []:
        name, equals, text = str(item).partition("=")
        if not name or not equals:
            raise ValueError("a variable of the environment is not NAME=value")
        found[name] = text
    return found


def files_of(value: object) -> dict[str, bytes]:
    """Take ``name=base64`` texts apart; ValueError where one is none, or has a name that is no plain one or the job's own."""
    found = {}
    for item in value if isinstance(value, list) else []:
        name, equals, text = str(item).partition("=")
        if not equals or not _FILE.fullmatch(name):
            raise ValueError("a file of a job is not name=base64")
        found[name] = base64.b64decode(text, validate=True)
    return found
