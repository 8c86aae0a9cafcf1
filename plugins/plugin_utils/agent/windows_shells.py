# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""WinRS shells on Windows: each command line is handed to ``cmd.exe /c`` as it came, with three pipes.

What comes is the bytes that the programs write. The agent's console has code page 65001, whatever a client asks for: one console
serves all shells. A command's tree ends with the command's shell.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Mapping

from ..wsman.server import RunningCommand, ShellOptions, ShellSession
from . import windows_processes
from .windows_processes import Pipe, StartedProcess

#: Exit code of what was ended from outside.
TERMINATED = 1
_ERROR_DIRECTORY = 267
_CHUNK = 32 * 1024
#: A program that writes faster than its client reads waits once so many bytes are held for it.
_HELD = 4 * 1024 * 1024
#: Seconds that output may still come from what a command has left running with its pipes.
_LINGER = 2.0


class CmdShells:
    """``wsman.server.ShellProvider`` over cmd.exe."""

    def open(self, options: ShellOptions) -> ShellSession:
        """Open a shell; nothing runs yet. OSError 267 where its folder does not exist."""
        if options.directory and not os.path.isdir(options.directory):
            raise OSError(0, "The directory name is invalid.", options.directory, _ERROR_DIRECTORY)
        return _Shell(options.directory, options.environment)


class _Shell:
    def __init__(self, directory: str, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._commands: list[_Command] = []

    def start(self, command_line: str) -> RunningCommand:
        command = _Command(command_line, self._directory, self._environment)
        self._commands.append(command)
        return command

    def close(self) -> None:
        for command in self._commands:
            command.terminate()
            command.close()


class _Command:
    """One command: a thread for each stream, one that waits for the end."""

    def __init__(self, command_line: str, directory: str, environment: Mapping[str, str]) -> None:
        self.exit_code: int | None = None
        self._news = threading.Condition()
        self._output: list[tuple[str, bytes]] = []
        self._held = 0
        self._open = 2
        self._ended = self._closed = False
        self._input: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        pipes = {"stdin": Pipe(to_child=True), "stdout": Pipe(to_child=False), "stderr": Pipe(to_child=False)}
        interpreter = os.environ.get("COMSPEC") or r"C:\Windows\System32\cmd.exe"
        try:
            self._process = windows_processes.start(
                f'"{interpreter}" /c {command_line}',
                directory=directory,
                environment=environment,
                stdin=pipes["stdin"].child,
                stdout=pipes["stdout"].child,
                stderr=pipes["stderr"].child,
            )
        except BaseException:
            for pipe in pipes.values():
                pipe.give_away()
                pipe.close()
            raise
        for pipe in pipes.values():
            pipe.give_away()
        _thread(self._feed, pipes["stdin"])
        for name in ("stdout", "stderr"):
            _thread(self._collect, name, pipes[name])
        _thread(self._wait, self._process)

    # --- what the server asks for

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._output and self.exit_code is None and (left := deadline - time.monotonic()) > 0:
                self._news.wait(left)
            found, self._output = _joined(self._output), []
            self._held = 0
            self._news.notify_all()
        return found

    def write(self, data: bytes, end: bool) -> None:
        if self._ended:
            raise BrokenPipeError(109, "The pipe has been ended.")
        if data:
            self._input.put(data)
        if end:
            self._input.put(None)

    def terminate(self) -> None:
        with self._news:
            # Under the lock: the handle is closed where the end is noticed.
            if not self._ended:
                with contextlib.suppress(OSError):
                    self._process.terminate(TERMINATED)

    def close(self) -> None:
        """End what the command has left behind; until the shell ends it may run on, as in WinRS."""
        with self._news:
            self._news.wait_for(lambda: self._ended, _LINGER)
            if self._ended and not self._closed:
                self._closed = True
                self._process.close()

    # --- threads

    def _feed(self, pipe: Pipe) -> None:
        try:
            while (data := self._input.get()) is not None:
                view = memoryview(data)
                while view and pipe.descriptor is not None:
                    view = view[os.write(pipe.descriptor, view[:_CHUNK]) :]
        except OSError:
            pass  # the program has closed its end
        finally:
            pipe.close()

    def _collect(self, name: str, pipe: Pipe) -> None:
        try:
            while pipe.descriptor is not None and (data := os.read(pipe.descriptor, _CHUNK)):
                with self._news:
                    while self._held > _HELD and not self._ended:
                        self._news.wait(1)
                    self._output.append((name, data))
                    self._held += len(data)
                    self._news.notify_all()
        except OSError:
            pass  # a broken pipe is its end
        finally:
            pipe.close()
            with self._news:
                self._open -= 1
                self._news.notify_all()

    def _wait(self, process: StartedProcess) -> None:
        code = process.wait()
        with self._news:
            self._ended = True
            seen = -1
            # What the command started may hold its pipes for hours: the end is told once nothing has come for a while.
            while self._open and seen != (seen := self._held):
                self._news.wait_for(lambda: not self._open, _LINGER)
            self.exit_code = code
            self._input.put(None)
            self._news.notify_all()


def _joined(chunks: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Put neighbours of one stream together: an element a write costs more than its content."""
    found: list[tuple[str, bytes]] = []
    for name, data in chunks:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + data)
        else:
            found.append((name, data))
    return found


def _thread(target: object, *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True, name="winrs").start()  # type: ignore[arg-type]
