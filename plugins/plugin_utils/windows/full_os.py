# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""A computer in the full Windows: the four verbs over its own WinRM, without PowerShell.

Commands run in a WinRS shell. Files travel as a tar stream through its standard input and output (``tar.exe`` is part of Windows 10
1803, Windows Server 2019 and later [doc]). Jobs are scheduled tasks of SYSTEM, registered over CIM, by schtasks where that fails;
whether one has ended is read over CIM from its folder.
"""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Mapping, Sequence

from ..wsman import wql
from ..wsman.client import Client
from ..wsman.faults import WsmanFault
from ..wsman.schema import Instance, Value
from . import job_files
from .cim_classes import TASK_SCHEDULER
from .computer import Environment, FileInfo, Job, JobStatus
from .exit_codes import describe_exit_code
from .names import SCHEDULED_TASK_FOLDER
from .scheduled_task import task_file, task_xml
from .shell_commands import ShellCommands
from .windows_pe import FILE_LIMIT

_TIMED_OUT = 1460
_ABORTED = 1067
#: While a job runs its log is fetched whole each time; a longer one only at the end.
_TAIL_LIMIT = 1024 * 1024
#: MSFT_ScheduledTask.State [doc: TaskScheduler].
_QUEUED_OR_RUNNING = (2, 4)
#: A task is asked whether it still runs only so often: rc.txt says the end of nearly every job.
_TASK_INTERVAL = 15.0
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
        """Start a job as SYSTEM, or attach to the one of that id. OSError with the code where it cannot be started."""
        self._begin(job)
        return self.job_status(job.id, 0, wait) if wait else JobStatus(None)

    def _begin(self, job: Job) -> None:
        folder = job_files.job_folder(job.id)
        if job.time_limit:
            self._deadlines[job.id] = time.monotonic() + job.time_limit
        there = self._folder(folder)
        if job_files.LOG in there or job_files.EXIT_CODE in there:
            return
        files = {f"{folder}\\{name}": content for name, content in job_files.job_files(job).items()}
        self._extract(files, protect=folder if job.environment or job.stdin else "")
        xml = task_xml(r"C:\Windows\System32\cmd.exe", rf"/d /c {folder}\{job_files.RUN}", time_limit=job.time_limit)
        self._task_asked[job.id] = time.monotonic()
        try:
            self._start_task(job.id, xml)
        except WsmanFault:
            # After a timeout the outcome is unknown: a job that has begun must not run twice.
            if not self._folder(folder).keys() & {job_files.LOG, job_files.EXIT_CODE}:
                self._start_task_by_tool(job.id, xml, folder)

    def _start_task(self, job_id: str, xml: str) -> None:
        place: dict[str, Value] = {"TaskPath": SCHEDULED_TASK_FOLDER, "TaskName": job_id}
        for method, arguments in (("RegisterByXml", {**place, "Xml": xml, "Force": True}), ("StartByPath", place)):
            code = self.cim.invoke("PS_ScheduledTask", method, arguments, namespace=TASK_SCHEDULER)["ReturnValue"]
            if isinstance(code, int) and code:
                raise OSError(code, f"The scheduled task of a job could not be started: {method} returned {code:#010x}")

    def _start_task_by_tool(self, job_id: str, xml: str, folder: str) -> None:
        """Start the task by schtasks: the CIM class is not proven on every Windows [unverified]."""
        path, name = f"{folder}\\task.xml", f"{SCHEDULED_TASK_FOLDER}{job_id}"
        self._extract({path: task_file(xml)})
        for argv in (["schtasks.exe", "/create", "/tn", name, "/xml", path, "/f"], ["schtasks.exe", "/run", "/tn", name]):
            result = self.run(argv)
            if result.exit_code:
                what = describe_exit_code("schtasks.exe", result.exit_code)
                raise OSError(result.exit_code, f"The scheduled task of a job could not be started: schtasks {argv[1]} left {what}")

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        """Return state and new output, waiting up to ``wait`` seconds for news. KeyError where there is no such job.

        A poll is one query of the job's folder; the log is fetched only where it grew.
        """
        folder = job_files.job_folder(job_id)
        deadline = time.monotonic() + wait
        pause = 0.2
        while True:
            there = self._folder(folder)
            if not there:
                raise KeyError(job_id)
            if job_files.EXIT_CODE in there:
                return self._ended(folder, job_files.LOG in there, offset)
            size = there.get(job_files.LOG, 0)
            if offset < size <= _TAIL_LIMIT:
                log = self._archive(folder, [job_files.LOG]).get(job_files.LOG, b"")
                return JobStatus(None, log[offset:], max(offset, len(log)))
            if job_files.LOG in there and self._is_lost(job_id, folder):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return JobStatus(None, b"", offset)
            time.sleep(min(pause, left))
            pause = min(1.0, pause * 1.5)

    def _ended(self, folder: str, has_log: bool, offset: int) -> JobStatus:
        found = self._archive(folder, [job_files.EXIT_CODE, *([job_files.LOG] if has_log else [])])
        log = found.get(job_files.LOG, b"")
        return JobStatus(job_files.parse_exit_code(found[job_files.EXIT_CODE]), log[offset:], max(offset, len(log)))

    def _is_lost(self, job_id: str, folder: str) -> bool:
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
        if state in _QUEUED_OR_RUNNING or job_files.EXIT_CODE in self._folder(folder):
            return False
        out_of_time = now >= self._deadlines.get(job_id, now + 1)
        self.put_file(f"{folder}\\{job_files.EXIT_CODE}", f"{_TIMED_OUT if out_of_time else _ABORTED}\r\n".encode())
        return True

    def stop_job(self, job_id: str) -> None:
        """End the job's task with its process tree; it leaves 1460. Nothing happens where there is no such job."""
        folder = job_files.job_folder(job_id)
        there = self._folder(folder)
        if not there or job_files.EXIT_CODE in there:
            return
        try:
            place = {"TaskPath": SCHEDULED_TASK_FOLDER, "TaskName": job_id}
            self.cim.invoke("PS_ScheduledTask", "StopByPath", place, namespace=TASK_SCHEDULER)
        except WsmanFault:
            self.run(["schtasks.exe", "/end", "/tn", f"{SCHEDULED_TASK_FOLDER}{job_id}"])
        if job_files.EXIT_CODE not in self._folder(folder):
            self.put_file(f"{folder}\\{job_files.EXIT_CODE}", f"{_TIMED_OUT}\r\n".encode())

    def _folder(self, folder: str) -> dict[str, int]:
        """Return the files in a folder with their sizes, by lower-case name."""
        drive, path = folder[:2].lower(), wql.quote(folder[2:].lower() + "\\")
        rows = self.cim.query(f"SELECT Name,FileSize FROM CIM_DataFile WHERE Drive='{drive}' AND Path={path}")
        return {str(row["Name"]).rpartition("\\")[2].lower(): _size(row) for row in rows}

    # --- files ---

    def put_file(self, path: str, content: bytes) -> None:
        """Write a file beside the name and rename it. OSError where that fails."""
        _check_path(path)
        if len(content) > FILE_LIMIT:
            raise ValueError(f"{path}: {len(content)} bytes are more than the {FILE_LIMIT} that go over this connection")
        beside = f"{path}.osdtmp"
        self._extract({beside: content}, then=f'move /y "{beside}" "{path}" >nul', what=path)

    def get_file(self, path: str) -> bytes:
        """Return a file's content. FileNotFoundError where it is not there."""
        info = self.file_info(path)
        if info is None:
            raise FileNotFoundError(2, "There is no such file in Windows", path)
        if info.size > FILE_LIMIT:
            raise ValueError(f"{path}: {info.size} bytes are more than the {FILE_LIMIT} that go over this connection")
        folder, dummy, name = path.rpartition("\\")
        found = self._archive(folder if len(folder) > 2 else folder + "\\", [name])
        return next(iter(found.values()))

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

    def _extract(self, files: Mapping[str, bytes], *, then: str = "", protect: str = "", what: str = "") -> None:
        """Write files through tar; their folders are made. ``protect``: a folder for SYSTEM and administrators only, made before."""
        drive = next(iter(files))[:2]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content in files.items():
                _check_path(path)
                member = tarfile.TarInfo(path[3:].replace("\\", "/"))
                member.size, member.mtime, member.mode = len(content), int(time.time()), 0o644
                archive.addfile(member, io.BytesIO(content))
        line = f"tar.exe -xf - -C {drive}\\"
        if protect:
            rights = '"*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F"'
            line = f'mkdir "{protect}" 2>nul & icacls.exe "{protect}" /inheritance:r /grant:r {rights} >nul && {line}'
        if then:
            line += f" && {then}"
        result = self._run_line(f'"{line}"', buffer.getvalue(), 120)
        if result.exit_code:
            reason = result.stderr.decode("utf-8", "replace").strip().splitlines()
            told = f": {reason[-1][:200]}" if reason else ""
            name = what or next(iter(files))
            raise OSError(f"{name} could not be written in Windows ({describe_exit_code('tar.exe', result.exit_code)}){told}")

    def _archive(self, folder: str, names: Sequence[str]) -> dict[str, bytes]:
        """Fetch files of one folder in one command, by lower-case name."""
        result = self.run(["tar.exe", "-cf", "-", "-C", folder, *names], timeout=120)
        try:
            with tarfile.open(fileobj=io.BytesIO(result.stdout), mode="r:") as archive:
                found = {member.name.rpartition("/")[2].lower(): archive.extractfile(member) for member in archive if member.isfile()}
                return {name: file.read() for name, file in found.items() if file is not None}
        except tarfile.TarError:
            what = describe_exit_code("tar.exe", result.exit_code)
            raise OSError(f"{', '.join(names)} in {folder} could not be read in Windows: tar left {what}") from None


def _size(row: Instance) -> int:
    size = row["FileSize"]
    return size if isinstance(size, int) else 0


def _check_path(path: str) -> None:
    if not re.fullmatch(r'[A-Za-z]:\\[^\x00-\x1f%"<>|?*/:]+', path):
        raise ValueError(f"'{path}' is no path of a file with a drive letter that cmd.exe can be given")
