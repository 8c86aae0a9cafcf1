# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer in Windows PE: the four verbs over the project's own agent (WS-Management, ``OSD_Job``, files over HTTP)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence

from ..wsman import wql
from ..wsman.client import Client
from ..wsman.faults import WsmanFault
from ..wsman.schema import Value
from . import command_line
from .cim_classes import OSD
from .computer import CommandResult, Environment, FileInfo, Job, JobStatus
from .exit_codes import describe_exit_code
from .shell_commands import ShellCommands

#: The controller sends and fetches no more than this over the agent's connection; what is larger comes by the network.
FILE_LIMIT = 1024 * 1024
#: Method, path with query, body or None, headers → status, headers in lower case, body.
Http = Callable[[str, str, bytes | None, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]

#: What the agent leaves as the exit code of a job whose time limit is over (ERROR_TIMEOUT).
_TIMED_OUT = 1460
_ALL_LOGS = r"\*.log"
_STATUS = {
    400: "the path is not one that a file can have",
    403: "access is denied",
    409: "a folder has that name",
    413: "it is too large",
    423: "it is in use",
    507: "the disk is full",
}


class WindowsPe(ShellCommands):
    """``Computer`` in Windows PE. ``client`` and ``http`` travel over the same connection."""

    environment = Environment.WINDOWS_PE

    def __init__(self, client: Client, http: Http) -> None:
        super().__init__(client)
        self._http = http
        self._http_requests = 0

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, those for files included."""
        return super().requests + self._http_requests

    # --- commands ---

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        directory: str = "",
        timeout: float = 60,
    ) -> CommandResult:
        """Run a native command as a job: one request where it ends within 20 seconds. Its error output is in ``stdout``, too.

        TimeoutError where it does not end in time; its process tree is ended then.
        """
        job = Job(f"run-{uuid.uuid4().hex}", tuple(argv), directory, environment or {}, stdin, math.ceil(timeout))
        status = self.start_job(job, timeout)
        output = bytearray(status.output)
        while status.exit_code is None:
            status = self.job_status(job.id, status.offset, timeout)
            output += status.output
        if status.exit_code == _TIMED_OUT:
            raise TimeoutError(f"{argv[0]} did not end within {timeout:g} seconds and was terminated")
        return CommandResult(status.exit_code, bytes(output))

    # --- jobs ---

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        """Start a job, or attach to the one of that id: one request. OSError with the Win32 code where it cannot be started."""
        result = self.cim.invoke(
            "OSD_Job",
            "Create",
            {
                "Id": job.id,
                "CommandLine": command_line.quote(job.argv),
                "CurrentDirectory": job.directory or None,
                "Environment": [f"{name}={value}" for name, value in job.environment.items()] or None,
                "Input": base64.b64encode(job.stdin).decode() if job.stdin else None,
                "TimeLimit": job.time_limit or None,
                "Files": [f"{name}={base64.b64encode(content).decode()}" for name, content in job.files.items()] or None,
                "Wait": _seconds(wait) or None,
            },
            namespace=OSD,
        )
        code = result["ReturnValue"]
        if isinstance(code, int) and code:
            raise OSError(code, f"{job.argv[0]} could not be started in Windows PE: {describe_exit_code(job.argv[0], code)}")
        return _job_status(result, 0)

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        """Return state and new output; the agent holds the answer up to ``wait`` seconds (20 at most). KeyError: no such job."""
        try:
            result = self.cim.invoke("OSD_Job", "Get", {"Offset": offset, "Wait": _seconds(wait)}, {"Id": job_id}, OSD)
        except WsmanFault as fault:
            if fault.is_not_found:
                raise KeyError(job_id) from None
            raise
        return _job_status(result, offset)

    def stop_job(self, job_id: str) -> None:
        """End the job's process tree; nothing happens where there is no such job."""
        try:
            self.cim.invoke("OSD_Job", "Stop", selectors={"Id": job_id}, namespace=OSD)
        except WsmanFault as fault:
            if not fault.is_not_found:
                raise

    # --- files ---

    def put_file(self, path: str, content: bytes) -> None:
        """Write a file; what arrived is compared by its SHA-256. OSError where that fails."""
        _check_size(path, len(content))
        status, headers, dummy = self._request("PUT", path, content)
        if status not in (200, 201, 204):
            raise _problem(path, status, "could not be written")
        told = headers.get("x-osd-sha256", "").lower()
        if told and told != hashlib.sha256(content).hexdigest():
            raise OSError(f"{path} was written in Windows PE, but with another content than was sent (SHA-256 {told})")

    def get_file(self, path: str) -> bytes:
        """Return a file's content."""
        status, headers, body = self._request("GET", path, headers={"Range": f"bytes=0-{FILE_LIMIT}"})
        if status == 416:
            return b""  # an empty file has no first byte
        if status not in (200, 206):
            raise _problem(path, status, "could not be read")
        _check_size(path, len(body))
        return body

    def fetch_changed(self, places: Sequence[str], known: Mapping[str, int], tail: int) -> dict[str, tuple[int, bytes]]:
        """One query for the files, one for each folder, and one request for each that changed."""
        folders = [place for place in places if place.endswith(_ALL_LOGS)]
        wanted = [f"Drive={wql.quote(folder[:2].lower())} AND Path={wql.quote(folder[2:-5].lower())}" for folder in folders]
        names = " OR ".join(f"Name={wql.quote(place.lower())}" for place in places if place not in folders)
        wanted = [names, *wanted] if names else wanted
        rows = [row for where in wanted for row in self.cim.query(f"SELECT Name,FileSize FROM CIM_DataFile WHERE {where}")]
        had = {path.lower(): size for path, size in known.items()}
        found: dict[str, tuple[int, bytes]] = {}
        for row in rows:
            path, size = str(row["Name"]), row["FileSize"]
            if path.lower().endswith(".log") and isinstance(size, int) and size and had.get(path.lower()) != size:
                with contextlib.suppress(OSError):
                    found[path] = (size, self.read_range(path, max(0, size - tail), min(size, tail)))
        return found

    def file_info(self, path: str) -> FileInfo | None:
        """Return size and version, None where no such file is."""
        status, headers, dummy = self._request("HEAD", path)
        if status in (404, 409):
            return None
        if status != 200:
            raise _problem(path, status, "could not be looked at")
        return FileInfo(int(headers.get("content-length", "0")), headers.get("x-osd-version") or None)

    def is_folder(self, path: str) -> bool:
        """Tell whether a folder is there."""
        return self._request("HEAD", path)[0] == 409

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of a file; shorter at its end, b'' beyond."""
        _check_size(path, length)
        if length <= 0:
            return b""
        status, dummy, body = self._request("GET", path, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
        if status == 416:
            return b""
        if status != 206:
            raise _problem(path, status, "could not be read")
        return body

    def write_range(self, path: str, offset: int, content: bytes) -> None:
        """Write into a file in place."""
        _check_size(path, len(content))
        if not content:
            return
        place = f"bytes {offset}-{offset + len(content) - 1}/*"
        status = self._request("PUT", path, content, headers={"Content-Range": place})[0]
        if status not in (200, 204):
            raise _problem(path, status, "could not be written")

    def file_hash(self, path: str) -> str:
        """Return the SHA-256 that the agent computes; a large file takes several requests, each answered within seconds."""
        status, headers, dummy = self._request("HEAD", path, query="hash=sha256")
        while status == 202:
            status, headers, dummy = self._request("HEAD", path, query="hash=sha256")
        if status != 200:
            raise _problem(path, status, "could not be read")
        return headers.get("x-osd-sha256", "").lower()

    def _request(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None, query: str = ""
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._http_requests += 1
        return self._http(method, file_target(path) + (f"?{query}" if query else ""), body, headers or {})


def _seconds(wait: float) -> int:
    """Return the whole seconds that the agent may wait, 20 at most."""
    return min(20, max(0, round(wait)))


def _job_status(result: Mapping[str, Value], offset: int) -> JobStatus:
    code, next_offset = result.get("ExitCode"), result.get("NextOffset")
    output = base64.b64decode(str(result.get("Output") or ""))
    return JobStatus(
        code if isinstance(code, int) else None,
        output,
        next_offset if isinstance(next_offset, int) else offset + len(output),
    )


def file_target(path: str) -> str:
    r"""Return the agent's request target for a Windows path, on a drive or a connected share. ValueError for a relative path."""
    text = path.replace("/", "\\")
    if text.startswith("\\\\"):
        first, rest = "UNC", text[2:]
    else:
        drive, colon, rest = text.partition(":\\")
        if not colon or len(drive) != 1 or not rest:
            raise ValueError(f"'{path}' is no path with a drive letter, and no network path")
        first = f"{drive.upper()}:"
    return f"/osd/files/{first}/" + "/".join(urllib.parse.quote(part, safe="") for part in rest.split("\\") if part)


def _check_size(path: str, size: int) -> None:
    if size > FILE_LIMIT:
        raise ValueError(f"{path}: {size} bytes are more than the {FILE_LIMIT} that go over this connection; use a network folder")


def _problem(path: str, status: int, what: str) -> OSError:
    if status == 404:
        return FileNotFoundError(2, "There is no such file in Windows PE", path)
    return OSError(f"{path} {what} in Windows PE: {_STATUS.get(status, 'the agent cannot say why')} (HTTP {status})")
