# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""A computer in the full Windows: the four verbs over its own WinRM, without PowerShell.

Commands run in a WinRS shell. Files travel as a tar stream through its standard input and output (``tar.exe`` is part of Windows 10
1803, Windows Server 2019 and later [doc]). Jobs are scheduled tasks of SYSTEM, registered by schtasks from XML [doc: wsd/schtasks]. One
command lays down a job's folder, starts it and waits there for its end (``job_files``): each Receive is a long poll.
"""

from __future__ import annotations

import io
import re
import tarfile
import time
import uuid
from collections.abc import Mapping, Sequence

from ..wsman import wql
from ..wsman.client import Client
from ..wsman.faults import WsmanFault
from ..wsman.schema import Instance
from . import job_files
from .cim_classes import TASK_SCHEDULER
from .command_line import CMD_LIMIT
from .computer import CommandResult, ComputerLost, Environment, FileInfo, Job, JobStatus
from .exit_codes import describe_exit_code
from .names import LOGS_FOLDER, SCHEDULED_TASK_FOLDER
from .shell_commands import ShellCommands
from .windows_pe import FILE_LIMIT

_TIMED_OUT = 1460
_ABORTED = 1067
#: What the line that follows a job leaves where there is none; neither schtasks nor tar leaves it.
_NO_JOB = 3
_NO_FILE, _TOO_LARGE = 2, 3
#: The files of a job could not be laid down.
_NOT_LAID = 1
#: From here on exit codes are NTSTATUS: DBG_TERMINATE_PROCESS, STATUS_DLL_INIT_FAILED, of a Windows that shuts down [knowledge].
_STATUS_CODES = 0x40000000
#: Seconds that the command around a job's wait may take.
_FOLLOW_MARGIN = 120.0
#: MSFT_ScheduledTask.State [doc: TaskScheduler].
_QUEUED_OR_RUNNING = (2, 4)
#: A task is asked whether it still runs only so often: rc.txt says the end of nearly every job.
_TASK_INTERVAL = 15.0
#: Made with every job: DISM does not make the folder of its log.
_LOGS = rf"C:\{LOGS_FOLDER}"
_ALL_LOGS = r"\*.log"
#: Is there in every Windows, whatever profile the account has.
_TEMP = r"C:\Windows\Temp"
_PATH = re.compile(r'[A-Za-z]:\\[^\x00-\x1f%"<>|?*/:]+')
_HASH = re.compile(rb"^[0-9a-fA-F ]{64,}$")


class FullOs(ShellCommands):
    """``Computer`` in the full operating system."""

    environment = Environment.FULL_OS

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._task_asked: dict[str, float] = {}
        self._deadlines: dict[str, float] = {}

    # --- jobs ---

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        """Start a job as SYSTEM, or attach to the one of that id. OSError with the code where it cannot be started.

        One command: its input is the job's folder as a tar archive, its output what ``follow.cmd`` tells.
        """
        folder = job_files.job_folder(job.id)
        content = _tar(job_files.job_files(job))
        self._task_asked[job.id] = time.monotonic()
        if job.time_limit:
            self._deadlines[job.id] = time.monotonic() + job.time_limit
        rights = '"*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F"'
        follow = rf'call "{folder}\{job_files.FOLLOW}" {round(wait)} 0'
        # Of a start that was broken off the tar.exe goes on waiting for the rest, and holds a file: each attempt has a folder of its own.
        attempt = rf"{folder}\try-{uuid.uuid4().hex}"
        # A job that is there already is attached to; its archive is read all the same, so that nobody is left writing it.
        line = (
            rf'if exist "{folder}\{job_files.BEGUN}" (tar.exe -tf - >nul 2>nul & {follow}) '
            rf'else (mkdir "{folder}" "{_LOGS}" 2>nul & icacls.exe "{folder}" /inheritance:r /grant:r {rights} >nul '
            rf'&& mkdir "{attempt}" && ((tar.exe -xf - -C "{attempt}" && move /y "{attempt}\*" "{folder}" >nul) '
            rf'|| (rd /s /q "{attempt}" & exit {_NOT_LAID})) && (rd "{attempt}" 2>nul & {follow} begin))'
        )
        result = self._run_line(f'"{line}"', content, _FOLLOW_MARGIN + wait, what="a job")
        if result.exit_code:
            raise _failure(result, f"The job {job.id} could not be started in Windows")
        return _status(result, 0)

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        """Return state and new output, waiting on the computer up to ``wait`` seconds for the end. KeyError where there is no such job."""
        folder = job_files.job_folder(job_id)
        line = rf'if exist "{folder}\{job_files.FOLLOW}" (call "{folder}\{job_files.FOLLOW}" {round(wait)} {offset}) else exit {_NO_JOB}'
        while True:
            result = self._run_line(f'"{line}"', timeout=_FOLLOW_MARGIN + wait, what="a job")
            if result.exit_code == _NO_JOB:
                raise KeyError(job_id)
            if result.exit_code:
                raise _failure(result, f"The job {job_id} could not be followed")
            status = _status(result, offset)
            if status.exit_code is not None or not self._is_lost(job_id):
                return status

    def _is_lost(self, job_id: str) -> bool:
        """Tell whether the task is over without an exit code (time limit, power cut), and write one then."""
        now = time.monotonic()
        asked = self._task_asked.setdefault(job_id, now)
        if now - asked < _TASK_INTERVAL and now < self._deadlines.get(job_id, now + 1):
            return False
        self._task_asked[job_id] = now
        try:
            place = {"TaskPath": SCHEDULED_TASK_FOLDER, "TaskName": job_id}
            state = self.cim.get("MSFT_ScheduledTask", place, TASK_SCHEDULER)["State"]
        except WsmanFault as fault:
            if not fault.is_not_found:
                return False
            state = None
        if state in _QUEUED_OR_RUNNING:
            return False
        self._end(job_id, _TIMED_OUT if now >= self._deadlines.get(job_id, now + 1) else _ABORTED)
        return True

    def stop_job(self, job_id: str) -> None:
        """End the job's task with its process tree; it leaves 1460. Nothing happens where there is no such job."""
        self._end(job_id, _TIMED_OUT, first=f'schtasks.exe /end /tn "{SCHEDULED_TASK_FOLDER}{job_id}" >nul 2>nul & ')

    def _end(self, job_id: str, code: int, first: str = "") -> None:
        """Write the exit code of a job that is there and has none, and delete what it may have left of its secrets."""
        folder = job_files.job_folder(job_id)
        exit_code = rf"{folder}\{job_files.EXIT_CODE}"
        secrets = " ".join(rf'"{folder}\{name}"' for name in job_files.SECRETS)
        write = rf'(if not exist "{exit_code}" >"{exit_code}" echo {code}) & del /s /q {secrets} >nul 2>nul'
        line = rf'if exist "{folder}\{job_files.FOLLOW}" if not exist "{exit_code}" ({first}{write})'
        self._run_line(f'"{line}"', what="the end of a job")

    # --- files ---

    def put_file(self, path: str, content: bytes) -> None:
        """Write a file beside the name and rename it. OSError where that fails."""
        _check_path(path)
        if len(content) > FILE_LIMIT:
            raise ValueError(f"{path}: {len(content)} bytes are more than the {FILE_LIMIT} that go over this connection")
        beside = f"{path}.osdtmp"
        line = f'tar.exe -xf - -C {path[:2]}\\ && move /y "{beside}" "{path}" >nul'
        result = self._run_line(f'"{line}"', _tar({beside[3:].replace("\\", "/"): content}), 120, what="tar.exe")
        if result.exit_code:
            what = describe_exit_code("tar.exe", result.exit_code)
            raise OSError(f"{path} could not be written in Windows ({what}){_told(result)}")

    def get_file(self, path: str) -> bytes:
        """Return a file's content: one command. FileNotFoundError where it is not there."""
        _check_path(path)
        folder, name = f"{path[:2]}\\", f'".{path[2:]}"'
        line = (
            f'if not exist "{path}" (exit {_NO_FILE}) else for %G in ("{path}") do '
            f"@if %~zG gtr {FILE_LIMIT} (exit {_TOO_LARGE}) else tar.exe -cf - -C {folder} {name}"
        )
        result = self._run_line(f'"{line}"', timeout=120, what="tar.exe")
        if result.exit_code == _NO_FILE:
            raise FileNotFoundError(2, "There is no such file in Windows", path)
        if result.exit_code == _TOO_LARGE:
            raise ValueError(f"{path}: it is larger than the {FILE_LIMIT} bytes that go over this connection")
        found = _untar(result)
        if not found:
            what = describe_exit_code("tar.exe", result.exit_code)
            raise OSError(f"{path} could not be read in Windows: tar left {what}{_told(result)}")
        return next(iter(found.values()))

    def fetch_changed(self, places: Sequence[str], known: Mapping[str, int], tail: int) -> dict[str, tuple[int, bytes]]:
        """One command looks at all places and sends what changed. Files are sent whole here: those above 1 MB are left out."""
        for place in places:
            _check_path(place.removesuffix(_ALL_LOGS))
        listed = " ".join(f'"{place}"' for place in places)
        # The names go through a file: cmd.exe writes a block beside a pipe anew for another cmd.exe, with a blank after each command in it
        # [knowledge]; 'echo' would write that blank, and no file has such a name.
        names = rf"{_TEMP}\osd-{uuid.uuid4().hex}.txt"
        line = f'(for %G in ({listed}) do @if exist "%~G" if %~zG gtr 0 if %~zG leq {FILE_LIMIT} '
        rest = rf'>>"{names}" echo .%~pnxG) & (type "{names}" & del "{names}") 2>nul | tar.exe -cf - -C {places[0][:2]}\ -T -'
        for path, size in known.items():
            same = f'if /i not "%~fG %~zG"=="{path} {size}" '
            # What finds no room in the line is sent once more.
            if len(line) + len(same) + len(rest) + 2 <= CMD_LIMIT:
                line += same
        result = self._run_line(f'"{line}{rest}"', timeout=120, what="tar.exe")
        drive = places[0][:2]
        return {f"{drive}\\{name}": (len(content), content[-tail:]) for name, content in _untar(result).items()}

    def file_info(self, path: str) -> FileInfo | None:
        """Return size and version of a file, None where it is not there: one query by the whole name."""
        _check_path(path)
        rows = self.cim.query(f"SELECT Name,FileSize,Version FROM CIM_DataFile WHERE Name={wql.quote(path.lower())}")
        if not rows:
            return None
        version = rows[0]["Version"]
        return FileInfo(_size(rows[0]), str(version) if version else None)

    def is_folder(self, path: str) -> bool:
        """Tell whether a folder is there: one query by the whole name."""
        _check_path(path)
        return bool(self.cim.query(f"SELECT Name FROM Win32_Directory WHERE Name={wql.quote(path.lower())}"))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Not in the full operating system."""
        raise NotImplementedError("Parts of large files are read in Windows PE only")

    def write_range(self, path: str, offset: int, content: bytes) -> None:
        """Not in the full operating system."""
        raise NotImplementedError("Parts of large files are written in Windows PE only")

    def file_hash(self, path: str) -> str:
        """Return the SHA-256 by certutil: the one line of 64 hexadecimal digits; old builds put blanks between them."""
        _check_path(path)
        result = self.run(["certutil.exe", "-hashfile", path, "SHA256"], timeout=600)
        for line in result.stdout.splitlines():
            digits = line.strip().replace(b" ", b"")
            if _HASH.fullmatch(line.strip()) and len(digits) == 64:
                return digits.decode().lower()
        if self.file_info(path) is None:
            raise FileNotFoundError(2, "There is no such file in Windows", path)
        raise OSError(f"The SHA-256 of {path} could not be computed: certutil left {describe_exit_code('certutil.exe', result.exit_code)}")


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of these files; their folders are made when it is extracted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _untar(result: CommandResult) -> dict[str, bytes]:
    """Return the files of the archive that a command wrote, by path from its root with backslashes."""
    found: dict[str, bytes] = {}
    if not result.stdout:
        return found
    try:
        with tarfile.open(fileobj=io.BytesIO(result.stdout), mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    found[member.name.removeprefix("./").lstrip("/").replace("/", "\\")] = content.read()
    except tarfile.TarError as error:
        raise OSError(f"What tar sent from Windows is no archive (it left {result.exit_code}): {error}") from error
    return found


def _status(result: CommandResult, offset: int) -> JobStatus:
    """Read what ``follow.cmd`` wrote: nothing new, the log so far, or the end with the whole log."""
    found = _untar(result)
    log = found.get(job_files.LOG, found.get(job_files.NEWS, b""))
    code = found.get(job_files.EXIT_CODE)
    return JobStatus(None if code is None else job_files.parse_exit_code(code), log[offset:], max(offset, len(log)))


def _failure(result: CommandResult, what: str) -> Exception:
    """Return what a line that starts or follows a job ended with; one that Windows ended as it goes down is a lost computer."""
    if result.exit_code >= _STATUS_CODES:
        return ComputerLost(f"{what}: its command was ended with {result.exit_code:#010x}; Windows goes down")
    return OSError(result.exit_code, f"{what}: code {result.exit_code}{_told(result)}")


def _told(result: CommandResult) -> str:
    """Return the last line that a command complained with, for people."""
    lines = result.stderr.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""


def _size(row: Instance) -> int:
    size = row["FileSize"]
    return size if isinstance(size, int) else 0


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise ValueError(f"'{path}' is no path of a file with a drive letter that cmd.exe can be given")
