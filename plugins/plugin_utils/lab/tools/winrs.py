# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Processes of the lab for others: WinRS shells, detached jobs of the Windows PE agent, scheduled tasks.

A WinRS command is handed to ``cmd.exe /c`` as it came, since Windows has ignored SKIP_CMD_SHELL for years (ws-management 5.4). Its
output is read while it runs; deleting the shell ends what was started in it. A PowerShell command line gets one sentence.
"""

from __future__ import annotations

import contextlib
import io
import ntpath
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO

from ...wsman.server_shells import ShellOptions
from . import programs
from .grammar import Cancelled
from .interface import Machine, Session, ToolCall, Win32Problem
from .run import default_environment, find, prepare

_POWERSHELL = re.compile(r'^\s*"?\s*(?:[^"\s]*\\)?(?:powershell|pwsh)(?:\.exe)?\b', re.IGNORECASE)
_NO_POWERSHELL = (
    "This lab computer has no PowerShell, as the collection goldimage.osd needs none. "
    "If Ansible sent this: set 'gather_facts: false' in the play, and use the collection's own modules on this host.\r\n"
)
#: What a process ended from outside leaves.
TERMINATED = 1


class Pipe(io.RawIOBase):
    """A pipe in memory: what one thread writes another one reads; reading waits, and gives b'' after the end."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def feed(self, data: bytes, end: bool = False) -> None:
        """Put data in; with ``end`` nothing follows."""
        if data:
            self._chunks.put(data)
        if end:
            self._chunks.put(None)

    def readinto(self, buffer: object) -> int:
        """Read what is there, waiting for something or the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._rest and not self._ended:
            try:
                chunk = self._chunks.get(timeout=0.2)
            except queue.Empty:
                if self._cancelled.is_set():
                    self._ended = True
                continue
            if chunk is None:
                self._ended = True
            else:
                self._rest = chunk
        part = self._rest[: len(view)]
        view[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)


class _Output(io.RawIOBase):
    """Hands each write on, as every write of a program becomes a stream element of its own."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write_on = write

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        content = bytes(memoryview(data))  # type: ignore[arg-type]
        if content:
            self._write_on(content)
        return len(content)


class RunningCommand:
    """One command in a shell. ``exit_code`` is None while it runs."""

    def __init__(self, machine: Machine, session: Session, command_line: str, directory: str, environment: Mapping[str, str]) -> None:
        self.exit_code: int | None = None
        self._cancelled = threading.Event()
        self._changed = threading.Condition()
        self._output: list[tuple[str, bytes]] = []
        self._stdin = Pipe(self._cancelled)
        self._machine = machine
        self._process_ids: list[int] = []
        call = ToolCall(
            machine=machine,
            session=session,
            argv=[],
            stdin=_buffered(self._stdin),
            stdout=_stream(lambda data: self._put("stdout", data)),
            stderr=_stream(lambda data: self._put("stderr", data)),
            environment=dict(environment),
            directory=directory,
            cancelled=self._cancelled,
        )
        self._thread = threading.Thread(target=self._main, args=(call, command_line), daemon=True, name="winrs")
        self._thread.start()

    def _put(self, stream: str, data: bytes) -> None:
        with self._changed:
            self._output.append((stream, data))
            self._changed.notify_all()

    def _main(self, call: ToolCall, command_line: str) -> None:
        code = TERMINATED
        try:
            code = self._run(call, command_line)
        except Cancelled:
            code = TERMINATED
        except Win32Problem as problem:
            code = problem.code
        finally:
            with self._changed:
                self.exit_code = code & 0xFFFFFFFF
                self._changed.notify_all()

    def _run(self, call: ToolCall, command_line: str) -> int:
        if _POWERSHELL.match(command_line):
            call.stderr.write(_NO_POWERSHELL.encode())
            return 1
        interpreter = find(call, "cmd.exe")
        if interpreter is None:
            return 2
        call.argv = [interpreter]
        call.command_line = f"{interpreter} /c {command_line}"
        host = self._machine.processes.begin("winrshost.exe", "winrshost.exe -Embedding", call.session, cancelled=self._cancelled)
        self._process_ids.append(host.id)
        call.process_id = host.id
        try:
            return programs.launch(call)
        finally:
            self._machine.processes.end(host, 0)

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        """Return the output since the last call, waiting up to ``timeout`` seconds for some or for the end."""
        limit = time.monotonic() + timeout
        with self._changed:
            while not self._output and self.exit_code is None:
                left = limit - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            found, self._output = self._output, []
            return found

    def write(self, data: bytes, end: bool) -> None:
        """Feed stdin. BrokenPipeError where the command has ended."""
        if self.exit_code is not None:
            raise BrokenPipeError(109, "The pipe has been ended.")
        self._stdin.feed(data, end)

    def terminate(self) -> None:
        """End the command with all it started."""
        if self.exit_code is not None:
            return
        for process_id in self._process_ids:
            try:
                self._machine.processes.terminate(process_id, TERMINATED)
            except Win32Problem:
                continue
        self._cancelled.set()
        self._stdin.feed(b"", True)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; True where it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


class WinrsShell:
    """One shell: directory and environment of its commands. Deleting it ends them."""

    def __init__(self, machine: Machine, session: Session, directory: str, environment: Mapping[str, str]) -> None:
        self._machine = machine
        self._session = session
        self._directory = directory
        self._environment = dict(environment)
        self._commands: list[RunningCommand] = []

    def start(self, command_line: str) -> RunningCommand:
        """Start one command line."""
        command = RunningCommand(self._machine, self._session, command_line, self._directory, self._environment)
        self._commands = [c for c in self._commands if c.exit_code is None] + [command]
        return command

    def close(self) -> None:
        """End all commands of the shell."""
        for command in self._commands:
            command.terminate()


class WinrsProvider:
    """``wsman.server.ShellProvider`` of a lab computer. ``open_session`` makes the logon session of an authenticated user."""

    def __init__(self, machine: Machine, open_session: Callable[[str], Session]) -> None:
        self._machine = machine
        self._open_session = open_session

    def open(self, options: ShellOptions) -> WinrsShell:
        """Open a shell for an authenticated user; it starts in the profile, or in Windows where there is none yet."""
        session = self._open_session(options.user)
        environment = {**default_environment(self._machine, session), **options.environment}
        directory = options.directory or environment["USERPROFILE"]
        if not self._machine.files(session).is_directory(directory):
            directory = self._machine.windows
        return WinrsShell(self._machine, session, directory, environment)


class JobProcess:
    """A process that runs apart from everything: a job of the agent, a scheduled task, Win32_Process.Create.

    ``exit_code`` is None while it runs. Making one raises Win32Problem where there is no such program. Without ``stdout`` the output
    is lost. ``stderr`` goes where ``stdout`` goes.
    """

    def __init__(
        self,
        machine: Machine,
        session: Session,
        command_line: str,
        *,
        directory: str = "",
        environment: Mapping[str, str] | None = None,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self.exit_code: int | None = None
        self._machine = machine
        self._on_exit = on_exit
        self._ended = threading.Event()
        output = stdout or io.BytesIO()
        call = ToolCall(
            machine=machine,
            session=session,
            argv=[],
            stdin=stdin or io.BytesIO(),
            stdout=output,
            stderr=output,
            environment={**default_environment(machine, session), **(environment or {})},
            directory=directory or rf"{machine.windows}\System32",
            cancelled=threading.Event(),
        )
        prepared = prepare(call, command_line)
        self.process = machine.processes.begin(ntpath.basename(prepared.argv[0]), prepared.command_line, session)
        threading.Thread(target=self._main, args=(prepared,), daemon=True, name="job").start()

    @property
    def id(self) -> int:
        """The process id."""
        return self.process.id

    def _main(self, call: ToolCall) -> None:
        code = TERMINATED
        try:
            code = programs.launch(call, self.process)
        finally:
            self.exit_code = code & 0xFFFFFFFF
            if self._on_exit:
                self._on_exit(self.exit_code)
            self._ended.set()

    def terminate(self, exit_code: int = TERMINATED) -> None:
        """End the process tree."""
        if self.exit_code is None:
            with contextlib.suppress(Win32Problem):
                self._machine.processes.terminate(self.process.id, exit_code)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end and return the exit code, None where the time is over."""
        self._ended.wait(timeout)
        return self.exit_code


def _buffered(pipe: Pipe) -> BinaryIO:
    return io.BufferedReader(pipe)


def _stream(write: Callable[[bytes], None]) -> BinaryIO:
    return _Output(write)  # type: ignore[return-value]
