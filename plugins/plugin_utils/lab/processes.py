# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs on a lab computer: the process table, services and scheduled tasks, in one boot."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ..windows.registry_hive import Key, Value
from ..windows.scheduled_task import TaskError, check_task_name, parse_task
from .registry import LabRegistry
from .tools.interface import FileSystem, Process, Service, Session, TaskEntry, Win32Problem

_SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
#: Win32 service types (own process, shared, with interaction, per user); drivers are 1 and 2.
_WIN32 = 0x10 | 0x20
_AUTOMATIC, _DISABLED = 2, 4
_TASKS = r"Windows\System32\Tasks"
#: SCHED_S_TASK_TERMINATED, the last result of a task that was ended [doc: win32/TaskSchd task-scheduler-error-and-success-constants].
_ENDED = 0x41306
#: Inside the class, ``list`` is its method.
_Tasks = list[TaskEntry]


class LabProcesses:
    """The process table. Ending a process ends what it started."""

    def __init__(self, spawn: Callable[[str, Session, str, Mapping[str, str] | None], Process]) -> None:
        """``spawn`` starts a command line in the background and returns its process."""
        self._lock = threading.Lock()
        self._ids = itertools.count(1000, 4)
        self._running: dict[int, Process] = {}
        self._known: dict[int, Process] = {}
        self._spawn = spawn

    def list(self) -> list[Process]:
        """Return what runs now."""
        with self._lock:
            return [*self._running.values()]

    def begin(
        self,
        name: str,
        command_line: str,
        session: Session,
        *,
        parent: int = 0,
        cancelled: threading.Event | None = None,
    ) -> Process:
        """Enter a process."""
        with self._lock:
            number = next(self._ids)
            started = datetime.now(UTC)
            process = Process(number, name, command_line, session, parent, started, cancelled or threading.Event())
            self._running[number] = self._known[number] = process
            return process

    def find(self, process_id: int) -> Process:
        """Return a process that runs or has run. KeyError for a number that none had."""
        return self._known[process_id]

    def end(self, process: Process, exit_code: int) -> None:
        """Take a process out."""
        with self._lock:
            if process.exit_code is None:
                process.exit_code = exit_code
            self._running.pop(process.id, None)
        process.ended.set()

    def terminate(self, process_id: int, exit_code: int = 1) -> None:
        """End a process and the tree below it."""
        with self._lock:
            first = self._running.get(process_id)
            if first is None:
                raise Win32Problem(87, "The parameter is incorrect.")
            tree = [first]
            for process in tree:
                tree += [child for child in self._running.values() if child.parent == process.id and child not in tree]
            for process in tree:
                process.exit_code = exit_code
                process.cancelled.set()

    def terminate_all(self) -> None:
        """End everything, as a shutdown does."""
        for process in self.list():
            process.exit_code = 1
            process.cancelled.set()

    def spawn(
        self,
        command_line: str,
        session: Session,
        *,
        directory: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a command line in the background."""
        return self._spawn(command_line, session, directory, environment)


class LabServices:
    """Services as the registry describes them; what is automatic runs when the boot is over."""

    def __init__(self, registry: LabRegistry, changed: Callable[[str], None] | None = None) -> None:
        """``changed`` is called with the name of a service that was started or stopped."""
        self._registry = registry
        self._running: set[str] = set()
        self._changed = changed or (lambda name: None)

    def start_automatic(self) -> None:
        """Start what starts with Windows."""
        self._running = {service.name.lower() for service in self.list() if service.start == _AUTOMATIC}

    def _read(self, name: str, key: Key) -> Service | None:
        kind, start = key.get_dword("", "Type"), key.get_dword("", "Start")
        if kind is None or start is None or not kind & _WIN32:
            return None
        running = name.lower() in self._running
        return Service(
            name=name,
            display_name=key.get_string("", "DisplayName") or name,
            path=key.get_string("", "ImagePath") or "",
            start=start,
            account=key.get_string("", "ObjectName") or "LocalSystem",
            state="Running" if running else "Stopped",
            process_id=4000 + sum(name.lower().encode()) if running else 0,
        )

    def list(self) -> list[Service]:
        """Return all services."""
        key = self._registry.find(_SERVICES)
        found = (self._read(name, child) for name, child in key.subkeys.items()) if key else ()
        return [service for service in found if service]

    def find(self, name: str) -> Service | None:
        """Return one service."""
        key = self._registry.find(rf"{_SERVICES}\{name}")
        return self._read(key.name or name, key) if key else None

    def _need(self, name: str) -> Service:
        service = self.find(name)
        if service is None:
            raise Win32Problem(1060, "The specified service does not exist as an installed service.")
        return service

    def start(self, name: str) -> None:
        """Start a service."""
        service = self._need(name)
        if service.state == "Running":
            raise Win32Problem(1056, "An instance of the service is already running.")
        if service.start == _DISABLED:
            raise Win32Problem(1058, "The service cannot be started, because it is disabled.")
        self._running.add(service.name.lower())
        self._changed(service.name)

    def stop(self, name: str) -> None:
        """Stop a service."""
        service = self._need(name)
        if service.state != "Running":
            raise Win32Problem(1062, "The service has not been started.")
        self._running.discard(service.name.lower())
        self._changed(service.name)

    def create(self, name: str, *, display_name: str, path: str, start: int = 2, account: str = "LocalSystem") -> None:
        """Create a service that runs in a process of its own."""
        if self.find(name) is not None:
            raise Win32Problem(1073, "The specified service already exists.")
        key = rf"{_SERVICES}\{name}"
        with self._registry.batch():
            self._registry.set(key, "Type", Value.dword(0x10))
            self._registry.set(key, "Start", Value.dword(start))
            self._registry.set(key, "ErrorControl", Value.dword(1))
            self._registry.set(key, "ImagePath", Value.expand_sz(path))
            self._registry.set(key, "DisplayName", Value.sz(display_name))
            self._registry.set(key, "ObjectName", Value.sz(account))

    def delete(self, name: str) -> None:
        """Delete a service."""
        service = self._need(name)
        self._running.discard(service.name.lower())
        self._registry.delete_key(rf"{_SERVICES}\{service.name}")

    def set_start(self, name: str, start: int) -> None:
        """Set the start type."""
        self._registry.set(rf"{_SERVICES}\{self._need(name).name}", "Start", Value.dword(start))


class LabScheduledTasks:
    r"""Tasks, kept as XML files under ``System32\\Tasks`` as Windows keeps them; run on demand as SYSTEM.

    A time limit counts in real seconds, as that of a job of the agent does here: what a tool of the lab really does is not done faster.
    """

    def __init__(self, files: FileSystem, drive: str, processes: LabProcesses, session: Session) -> None:
        """Take SYSTEM's files, the system drive, the process table and SYSTEM's session, which all its tasks share."""
        self._session = session
        self._files = files
        self._root = rf"{drive}\{_TASKS}"
        self._processes = processes
        self._running: dict[tuple[str, str], Process] = {}

    @staticmethod
    def _folder(path: str) -> str:
        folder = "\\" + path.strip("\\")
        return folder if folder == "\\" else folder + "\\"

    def _file(self, path: str, name: str) -> str:
        return f"{self._root}{self._folder(path)}{name}"

    def list(self) -> _Tasks:
        """Return all tasks."""
        return list(self._walk("\\"))

    def _walk(self, folder: str) -> _Tasks:
        place = f"{self._root}{folder}".rstrip("\\")
        if not self._files.is_directory(place):
            return []
        found: _Tasks = []
        for name in self._files.names(place):
            if self._files.is_directory(rf"{place}\{name}"):
                found += self._walk(f"{folder}{name}\\")
            elif (task := self.find(folder, name)) is not None:
                found.append(task)
        return found

    def find(self, path: str, name: str) -> TaskEntry | None:
        """Return one task."""
        file = self._file(path, name)
        if not self._files.is_file(file):
            return None
        process = self._running.get((self._folder(path).lower(), name.lower()))
        running = process is not None and process.exit_code is None
        xml = self._files.read(file).decode("utf-16")
        return TaskEntry(
            self._folder(path),
            name,
            xml,
            process.id if process and running else 0,
            process.exit_code if process else None,
        )

    def _need(self, path: str, name: str) -> TaskEntry:
        task = self.find(path, name)
        if task is None:
            raise Win32Problem(2, "The system cannot find the file specified.")
        return task

    def register(self, path: str, name: str, xml: str, *, force: bool = False) -> TaskEntry:
        """Keep a task. ValueError for an XML that the Task Scheduler refuses."""
        check_task_name(name)
        parse_task(xml)
        if self.find(path, name) is not None and not force:
            raise Win32Problem(183, "Cannot create a file when that file already exists.")
        file = self._file(path, name)
        self._files.make_directories(file.rpartition("\\")[0])
        self._files.write(file, xml.encode("utf-16"))
        return self._need(path, name)

    def run(self, path: str, name: str) -> None:
        """Start a task; one that runs already is not started again (IgnoreNew)."""
        task = self._need(path, name)
        if task.process_id:
            return
        try:
            parsed = parse_task(task.xml)
        except TaskError as problem:
            raise Win32Problem(0x8004131F, str(problem)) from problem
        line = f'"{parsed.command}" {parsed.arguments}'.strip()
        process = self._processes.spawn(line, self._session, directory=parsed.working_directory)
        self._running[(self._folder(path).lower(), name.lower())] = process
        if parsed.time_limit:
            threading.Thread(target=self._limit, args=(process, parsed.time_limit), daemon=True, name=f"task-{name}").start()

    def _limit(self, process: Process, seconds: int) -> None:
        """End a task that runs longer than its ExecutionTimeLimit, with all it started [doc: win32/TaskSchd executiontimelimit]."""
        if not process.ended.wait(seconds):
            with contextlib.suppress(Win32Problem):
                self._processes.terminate(process.id, _ENDED)

    def stop(self, path: str, name: str) -> None:
        """End a running task."""
        task = self._need(path, name)
        if task.process_id:
            self._processes.terminate(task.process_id, _ENDED)

    def delete(self, path: str, name: str) -> None:
        """Delete a task; one that runs goes on."""
        self._need(path, name)
        self._files.delete(self._file(path, name))
