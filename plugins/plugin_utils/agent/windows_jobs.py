# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Detached jobs on Windows that outlive the connection and the agent itself: ``OSD_Job`` with everything on disk.

Each job has a process of its own that starts the command, holds its time limit and writes its exit code: the same zip application
with the word ``job``. What the command gets (environment, input) goes to that process over a pipe, never to the disk. The folder
``jobs\<id>`` holds ``state.json`` (what runs), ``out.log`` and, written last by a rename, ``rc.txt``. An agent that is started again
reads the folders; a job whose process is gone without an exit code was cut off.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..wsman.faults import WBEM_E_NOT_FOUND
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from . import win32, windows_processes
from .jobs import CLASS, FINISHED, GATHER, ID, MAX_OUTPUT, MAX_WAIT, NAMESPACE, RUNNING, STOPPED_CODE, environment_of, files_of, number
from .windows_files import WindowsFiles, long_path

#: Exit code of a job whose process was ended from outside: ERROR_PROCESS_ABORTED.
ABORTED_CODE = 1067
#: The word that makes this application run a job.
COMMAND = "job"
#: Seconds between two looks at a log while somebody waits for it.
_LOOK = 0.05
#: Seconds that the job's own process has for its start.
_START_LIMIT = 60
_WINDOWS_EPOCH = 11644473600


class WindowsJobs:
    r"""The jobs of one computer.

    Args:
        folder: the folder of all jobs, ``X:\_osd\jobs``.
        command: starts this application again: interpreter, options, zip.
    """

    def __init__(self, folder: str, command: Sequence[str]) -> None:
        self._folder = folder
        self._command = list(command)
        self._files = WindowsFiles()
        self._lock = threading.Lock()
        #: By id: two requests for one job start it once, and a start that takes long holds up no other job.
        self._starting: dict[str, threading.Lock] = {}

    # --- CIM

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all jobs, those of an earlier agent too."""
        try:
            names = os.listdir(long_path(self._folder))
        except OSError:
            return []
        found = []
        for name in sorted(names):
            with contextlib.suppress(CimError):
                found.append(self._instance(name))
        return found

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one job."""
        return self._instance(_id_of(selectors))

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call Create, Get or Stop."""
        if method == "Create":
            with self._lock:
                starting = self._starting.setdefault(str(arguments.get("Id") or "").lower(), threading.Lock())
            with starting:
                created = self._create(arguments)
            if created["ReturnValue"]:
                return created
            return {**self._wait(str(arguments["Id"]), 0, number(arguments.get("Wait"))), **created}
        job_id = _id_of(selectors or {})
        if method == "Get":
            return self._wait(job_id, number(arguments.get("Offset")), number(arguments.get("Wait")))
        self._state(job_id)
        if self._exit_code(job_id) is None:
            with contextlib.suppress(OSError):
                win32.end_named_job(_job_name(job_id), STOPPED_CODE)
        return {"ReturnValue": 0}

    def close(self) -> None:
        """Leave the jobs to themselves."""

    # --- operations

    def _create(self, arguments: Mapping[str, Value]) -> Mapping[str, Value]:
        job_id, command_line = str(arguments.get("Id") or ""), str(arguments.get("CommandLine") or "")
        if not ID.fullmatch(job_id) or not command_line.strip():
            return {"ReturnValue": 87}
        try:
            environment = environment_of(arguments.get("Environment"))
            stdin = str(arguments.get("Input") or "")
            base64.b64decode(stdin, validate=True)
            files = files_of(arguments.get("Files"))
        except ValueError:
            return {"ReturnValue": 87}
        with contextlib.suppress(CimError):
            return {"ReturnValue": 0, "ProcessId": int(self._state(job_id)["process"])}
        description = {
            "id": job_id,
            "folder": self._path(job_id),
            "command_line": command_line,
            "directory": str(arguments.get("CurrentDirectory") or self._path(job_id)),
            "environment": environment,
            "input": stdin,
            "limit": number(arguments.get("TimeLimit")),
        }
        try:
            self._files.make_directories(self._path(job_id))
            for name, content in files.items():
                with self._files.open_write(self._path(job_id, name)) as file:
                    file.write(content)
            answer = self._start(description)
        except OSError as error:
            return {"ReturnValue": int(getattr(error, "winerror", None) or error.errno or 31)}
        return answer

    def _start(self, description: Mapping[str, Any]) -> Mapping[str, Value]:
        """Start the job's own process and wait until it has started the command."""
        flags = win32.CREATE_NO_WINDOW | win32.CREATE_NEW_PROCESS_GROUP
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        runner = subprocess.Popen([*self._command, COMMAND], creationflags=flags, **streams)  # type: ignore[call-overload]  # noqa: S603
        watchdog = threading.Timer(_START_LIMIT, runner.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            runner.stdin.write(json.dumps(description).encode())
            runner.stdin.close()
            answer = json.loads(runner.stdout.readline() or "{}")
        except (OSError, ValueError):
            answer = {}
        finally:
            watchdog.cancel()
            runner.stdout.close()
            runner.stderr.close()
        if "process" in answer:
            return {"ReturnValue": 0, "ProcessId": int(answer["process"])}
        return {"ReturnValue": int(answer.get("error") or ABORTED_CODE)}

    def _wait(self, job_id: str, offset: int, wait: int) -> Mapping[str, Value]:
        self._state(job_id)
        deadline = time.monotonic() + min(float(wait), MAX_WAIT)
        exit_code, size = self._exit_code(job_id), self._size(job_id)
        gather: float | None = None
        while exit_code is None and size - offset < MAX_OUTPUT:
            now = time.monotonic()
            if size > offset and gather is None:
                gather = min(deadline, now + GATHER)
            if now >= (deadline if gather is None else gather):
                break
            time.sleep(_LOOK)
            # In this order: what is written before the end is seen with it.
            exit_code = self._exit_code(job_id)
            size = self._size(job_id)
        output = self._read(job_id, offset, min(size - offset, MAX_OUTPUT)) if size > offset else b""
        offset = min(offset, size) + len(output)
        done = exit_code is not None and offset >= size
        return {
            "ReturnValue": 0,
            "State": FINISHED if done else RUNNING,
            "ExitCode": exit_code if done else None,
            "Output": base64.b64encode(output).decode(),
            "NextOffset": offset,
        }

    # --- what is on the disk

    def _path(self, job_id: str, name: str = "") -> str:
        return f"{self._folder}\\{job_id}" + (f"\\{name}" if name else "")

    def _state(self, job_id: str) -> dict[str, Any]:
        found = _read_json(self._path(job_id, "state.json")) if ID.fullmatch(job_id) else None
        if found is None:
            raise CimError(WBEM_E_NOT_FOUND, f"There is no job {job_id[:100]}.")
        return found

    def _exit_code(self, job_id: str) -> int | None:
        """Return the exit code, None while the job runs. A job without a process that could still write it was cut off."""
        code = self._written_code(job_id)
        if code is None:
            state = self._state(job_id)
            if not win32.runs(int(state["runner"]), int(state["created"])):
                # It may have written its last word in between.
                code = self._written_code(job_id)
                return ABORTED_CODE if code is None else code
        return code

    def _written_code(self, job_id: str) -> int | None:
        try:
            with self._files.open_read(self._path(job_id, "rc.txt")) as file:
                return int(file.read(20).strip() or b"0")
        except (OSError, ValueError):
            return None

    def _size(self, job_id: str) -> int:
        """Return what is in the log; asked of the open file, since a folder's entry may lag behind [knowledge]."""
        try:
            with self._files.open_read(self._path(job_id, "out.log")) as file:
                return file.seek(0, os.SEEK_END)
        except OSError:
            return 0

    def _read(self, job_id: str, offset: int, length: int) -> bytes:
        with self._files.open_read(self._path(job_id, "out.log")) as file:
            file.seek(offset)
            return file.read(length)

    def _instance(self, job_id: str) -> Instance:
        state = self._state(job_id)
        code = self._exit_code(job_id)
        ended = None
        if code is not None:
            with contextlib.suppress(OSError):
                ended = datetime.fromtimestamp(os.stat(long_path(self._path(job_id, "rc.txt"))).st_mtime, UTC)
        return Instance(
            CLASS,
            {
                "Id": str(state["id"]),
                "CommandLine": str(state["command_line"]),
                "State": RUNNING if code is None else FINISHED,
                "ExitCode": code,
                "ProcessId": int(state["process"]),
                "StartTime": datetime.fromtimestamp(float(state["started"]), UTC),
                "EndTime": ended,
                "OutputSize": self._size(job_id),
            },
            NAMESPACE,
        )


def _id_of(selectors: Mapping[str, str]) -> str:
    return next(iter(selectors.values()), "")


def _job_name(job_id: str) -> str:
    return f"osd-job-{job_id.lower()}"


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with WindowsFiles().open_read(path) as file:
            found = json.loads(file.read(1024 * 1024))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


# --- the job's own process --------------------------------------------------------------------------------------------


def main() -> int:
    """Run one job; what to run comes as JSON on stdin. Answers one line: the process id, or the error of the start."""
    description = json.loads(sys.stdin.buffer.read())
    folder = str(description["folder"])
    try:
        process, feed = _start_command(description)
    except OSError as error:
        _answer({"error": int(getattr(error, "winerror", None) or error.errno or 31)})
        return 1
    state = {
        "schema": 1,
        "id": description["id"],
        "command_line": description["command_line"],
        "process": process.id,
        "runner": os.getpid(),
        "created": win32.created_at(win32.module("_winapi").GetCurrentProcess()),
        "started": time.time(),
    }
    _write(f"{folder}\\state.json", json.dumps(state).encode())
    _answer({"process": process.id})
    feed.start()
    code = process.wait(description["limit"] or None)
    if code is None:
        process.terminate(STOPPED_CODE)
        code = STOPPED_CODE
    process.release()
    _write(f"{folder}\\rc.txt", f"{code}\r\n".encode())
    return 0


def _start_command(description: Mapping[str, Any]) -> tuple[windows_processes.StartedProcess, threading.Thread]:
    files = f"{description['folder']}\\out.log"
    share = win32.SHARE_READ | win32.SHARE_WRITE | win32.SHARE_DELETE
    log = win32.open_handle(long_path(files), win32.GENERIC_WRITE, share, win32.CREATE_ALWAYS)
    os.set_handle_inheritable(log, True)  # type: ignore[attr-defined]
    source = windows_processes.Pipe(to_child=True)
    try:
        process = windows_processes.start(
            description["command_line"],
            directory=description["directory"],
            environment=description["environment"],
            stdin=source.child,
            stdout=log,
            stderr=log,
            job_name=_job_name(description["id"]),
        )
    finally:
        source.give_away()
        win32.kernel32().CloseHandle(log)
    data = base64.b64decode(description["input"])
    return process, threading.Thread(target=_feed, args=(source, data), daemon=True)


def _feed(pipe: windows_processes.Pipe, data: bytes) -> None:
    try:
        with os.fdopen(pipe.descriptor or 0, "wb") as file:
            file.write(data)
    except OSError:
        pass  # the command does not read its input


def _answer(answer: Mapping[str, int]) -> None:
    """Tell the agent, where it is still there: the job goes on without it."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _write(path: str, content: bytes) -> None:
    files = WindowsFiles()
    with files.open_write(f"{path}.tmp") as file:
        file.write(content)
    files.rename(f"{path}.tmp", path, replace=True)
