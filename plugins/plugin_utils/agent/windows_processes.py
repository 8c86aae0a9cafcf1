# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes on Windows: started suspended, put into a job object, resumed, so that nothing they start escapes being ended with them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from . import win32


class StartedProcess:
    """A process with the tree below it. ``close`` ends what still runs in it."""

    def __init__(self, process: int, process_id: int, job: int) -> None:
        self.id = process_id
        self._process = process
        self._job = job
        self.created = win32.created_at(process)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the process itself and return its whole unsigned exit code, None where the time is over."""
        api = win32.module("_winapi")
        milliseconds = win32.INFINITE if timeout is None else max(0, min(int(timeout * 1000), win32.INFINITE - 1))
        if api.WaitForSingleObject(self._process, milliseconds) == win32.WAIT_TIMEOUT:
            return None
        code: int = api.GetExitCodeProcess(self._process)
        return code & 0xFFFFFFFF

    def terminate(self, exit_code: int) -> None:
        """End the process tree."""
        win32.checked(win32.kernel32().TerminateJobObject(self._job, exit_code))

    def release(self) -> None:
        """Let what the process has left behind live on."""
        with contextlib.suppress(OSError):
            win32.release_job_object(self._job)

    def close(self) -> None:
        """Let go of the process and end what it left behind."""
        win32.kernel32().CloseHandle(self._process)
        win32.kernel32().CloseHandle(self._job)


def start(
    command_line: str,
    *,
    directory: str = "",
    environment: Mapping[str, str] | None = None,
    stdin: int,
    stdout: int,
    stderr: int,
    job_name: str | None = None,
    new_console: bool = False,
) -> StartedProcess:
    """Start a command line with these three inheritable handles and no others. OSError with the Win32 error.

    The environment comes on top of the agent's own. ``new_console``: a hidden one of its own, so that nobody's Ctrl-C reaches it.
    """
    job = win32.create_job_object(job_name)
    flags = win32.CREATE_SUSPENDED | win32.CREATE_UNICODE_ENVIRONMENT | win32.CREATE_NEW_PROCESS_GROUP
    if new_console:
        flags |= win32.CREATE_NO_WINDOW
    try:
        process, thread, process_id = _create(command_line, directory, environment, (stdin, stdout, stderr), flags)
    except BaseException:
        win32.kernel32().CloseHandle(job)
        raise
    try:
        win32.checked(win32.kernel32().AssignProcessToJobObject(job, process))
        win32.kernel32().ResumeThread(thread)
        return StartedProcess(process, process_id, job)
    except BaseException:
        win32.kernel32().TerminateProcess(process, 1)
        win32.kernel32().CloseHandle(process)
        win32.kernel32().CloseHandle(job)
        raise
    finally:
        win32.kernel32().CloseHandle(thread)


def _create(
    command_line: str, directory: str, environment: Mapping[str, str] | None, handles: tuple[int, int, int], flags: int
) -> tuple[int, int, int]:
    # _winapi is what subprocess itself uses; subprocess lets go of the thread handle, without which nothing can be resumed.
    api: Any = win32.module("_winapi")
    info: Any = subprocess.STARTUPINFO()  # type: ignore[attr-defined]
    info.dwFlags = subprocess.STARTF_USESTDHANDLES  # type: ignore[attr-defined]
    info.hStdInput, info.hStdOutput, info.hStdError = handles
    info.lpAttributeList = {"handle_list": list(dict.fromkeys(handles))}
    process, thread, process_id, dummy = api.CreateProcess(
        None, command_line, None, None, True, flags, merged(environment or {}), directory or None, info
    )
    return int(process), int(thread), int(process_id)


def merged(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's environment with variables on top, names compared without case as Windows does."""
    names = {name.upper() for name in extra}
    return {**{name: value for name, value in os.environ.items() if name.upper() not in names}, **extra}


class Pipe:
    """A pipe: one end for this process as a file descriptor, the other inheritable for the process that is started.

    Args:
        to_child: the child reads it; otherwise it writes.
    """

    def __init__(self, *, to_child: bool) -> None:
        api = win32.module("_winapi")
        read, write = api.CreatePipe(None, 0)
        ours, theirs = (write, read) if to_child else (read, write)
        current = api.GetCurrentProcess()
        self.child: int = api.DuplicateHandle(current, theirs, current, 0, True, api.DUPLICATE_SAME_ACCESS | api.DUPLICATE_CLOSE_SOURCE)
        mode = (os.O_WRONLY if to_child else os.O_RDONLY) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
        self.descriptor: int | None = win32.module("msvcrt").open_osfhandle(ours, mode)

    def give_away(self) -> None:
        """Close the child's end here; it has its own."""
        if self.child:
            win32.kernel32().CloseHandle(self.child)
            self.child = 0

    def close(self) -> None:
        """Close this process's end."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
