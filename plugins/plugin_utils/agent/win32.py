# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few calls of the Win32 API that Python's standard library does not have. Importable everywhere, usable on Windows only."""

from __future__ import annotations

import ctypes
import functools
import importlib
from ctypes import POINTER, Structure, c_char_p, c_int64, c_size_t, c_uint32, c_uint64, c_void_p, c_wchar_p
from typing import Any

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
CREATE_NEW, CREATE_ALWAYS, OPEN_EXISTING, OPEN_ALWAYS = 1, 2, 3, 4
CREATE_SUSPENDED = 0x00000004
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_UNICODE_ENVIRONMENT = 0x00000400
CREATE_NO_WINDOW = 0x08000000
WAIT_TIMEOUT = 258
INFINITE = 0xFFFFFFFF
UTF8 = 65001
ERROR_NOT_FOUND = 2
_INVALID_HANDLE = c_void_p(-1).value
_KILL_ON_JOB_CLOSE, _EXTENDED_LIMITS = 0x2000, 9
_JOB_OBJECT_TERMINATE = 0x8
_PROCESS_QUERY_LIMITED = 0x1000
_SYNCHRONIZE = 0x00100000
_STD_OUTPUT_HANDLE = -11
_ENABLE_VIRTUAL_TERMINAL_PROCESSING = 0x4


class _ExtendedLimits(Structure):
    """``JOBOBJECT_EXTENDED_LIMIT_INFORMATION``; only the flags are used."""

    _fields_ = [
        ("process_time", c_int64),
        ("job_time", c_int64),
        ("flags", c_uint32),
        ("minimum_working_set", c_size_t),
        ("maximum_working_set", c_size_t),
        ("processes", c_uint32),
        ("affinity", c_size_t),
        ("priority", c_uint32),
        ("scheduling", c_uint32),
        ("io", c_uint64 * 6),
        ("memory", c_size_t * 4),
    ]


def module(name: str) -> Any:
    """Return a module that only Windows' Python has: ``_winapi``, ``msvcrt``, ``winreg``."""
    return importlib.import_module(name)


@functools.cache
def kernel32() -> Any:
    """Return kernel32 with the signatures that need one."""
    library = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    for name, result, arguments in (
        ("CreateFileW", c_void_p, (c_wchar_p, c_uint32, c_uint32, c_void_p, c_uint32, c_uint32, c_void_p)),
        ("WriteFile", c_uint32, (c_void_p, c_char_p, c_uint32, POINTER(c_uint32), c_void_p)),
        ("SetFilePointerEx", c_uint32, (c_void_p, c_int64, POINTER(c_int64), c_uint32)),
        ("CreateJobObjectW", c_void_p, (c_void_p, c_wchar_p)),
        ("OpenJobObjectW", c_void_p, (c_uint32, c_uint32, c_wchar_p)),
        ("SetInformationJobObject", c_uint32, (c_void_p, c_uint32, c_void_p, c_uint32)),
        ("AssignProcessToJobObject", c_uint32, (c_void_p, c_void_p)),
        ("TerminateJobObject", c_uint32, (c_void_p, c_uint32)),
        ("ResumeThread", c_uint32, (c_void_p,)),
        ("TerminateProcess", c_uint32, (c_void_p, c_uint32)),
        ("OpenProcess", c_void_p, (c_uint32, c_uint32, c_uint32)),
        ("GetProcessTimes", c_uint32, (c_void_p, *[POINTER(c_uint64)] * 4)),
        ("GetConsoleMode", c_uint32, (c_void_p, POINTER(c_uint32))),
        ("SetConsoleMode", c_uint32, (c_void_p, c_uint32)),
        ("CloseHandle", c_uint32, (c_void_p,)),
        ("DeviceIoControl", c_uint32, (c_void_p, c_uint32, c_void_p, c_uint32, c_void_p, c_uint32, POINTER(c_uint32), c_void_p)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def last_error(path: str | None = None) -> OSError:
    """Return the thread's last error as an OSError with ``winerror``."""
    code = ctypes.get_last_error()  # type: ignore[attr-defined]
    text = ctypes.FormatError(code).strip()  # type: ignore[attr-defined]
    return OSError(0, text, path, code)


def checked(result: Any, path: str | None = None) -> Any:
    """Return a call's result; OSError where it is null or an invalid handle."""
    if not result or result == _INVALID_HANDLE:
        raise last_error(path)
    return result


def open_handle(path: str, access: int, share: int, disposition: int, flags: int = 0) -> int:
    """Open a file or device. OSError with the Win32 error, which Python's own ``open`` does not tell."""
    handle: int = checked(kernel32().CreateFileW(path, access, share, None, disposition, flags, None), path)
    return handle


def create_job_object(name: str | None = None) -> int:
    """Return a job object whose processes end with the last handle to it."""
    job: int = checked(kernel32().CreateJobObjectW(None, name))
    limits = _ExtendedLimits(flags=_KILL_ON_JOB_CLOSE)
    checked(kernel32().SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)))
    return job


def release_job_object(job: int) -> None:
    """Let processes live on when the last handle goes."""
    limits = _ExtendedLimits()
    checked(kernel32().SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)))


def end_named_job(name: str, exit_code: int) -> bool:
    """End what runs in a job object of that name; False where there is none any more."""
    job = kernel32().OpenJobObjectW(_JOB_OBJECT_TERMINATE, 0, name)
    if not job:
        return False
    try:
        checked(kernel32().TerminateJobObject(job, exit_code))
    finally:
        kernel32().CloseHandle(job)
    return True


def created_at(process: int) -> int:
    """Return when a process was created, in 100 ns since 1601: with the id it names a process for ever."""
    times = [c_uint64() for dummy in range(4)]
    checked(kernel32().GetProcessTimes(process, *(ctypes.byref(time) for time in times)))
    return times[0].value


def runs(process_id: int, created: int) -> bool:
    """Tell whether that process still runs."""
    handle = kernel32().OpenProcess(_PROCESS_QUERY_LIMITED | _SYNCHRONIZE, 0, process_id)
    if not handle:
        return False
    try:
        waiting: bool = module("_winapi").WaitForSingleObject(handle, 0) == WAIT_TIMEOUT
        return waiting and created_at(handle) == created
    except OSError:
        return False
    finally:
        kernel32().CloseHandle(handle)


def use_utf8_console() -> None:
    """Give the agent a console if it has none, and let what is started in it write UTF-8."""
    library = kernel32()
    if not library.GetConsoleCP():
        library.AllocConsole()
    library.SetConsoleCP(UTF8)
    library.SetConsoleOutputCP(UTF8)


def understands_escapes() -> bool:
    """Have the console of standard output understand escape sequences; False where it is none, or an old one."""
    library = kernel32()
    handle, mode = module("_winapi").GetStdHandle(_STD_OUTPUT_HANDLE), c_uint32()
    if not library.GetConsoleMode(handle, ctypes.byref(mode)):
        return False
    return bool(library.SetConsoleMode(handle, mode.value | _ENABLE_VIRTUAL_TERMINAL_PROCESSING))
