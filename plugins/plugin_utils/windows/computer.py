# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Windows computer as the steps see it: four verbs (cim, run, job, file), the same in Windows PE and in Windows.

``windows_pe`` and ``full_os`` implement :class:`Computer`. Nothing here knows how the bytes travel.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..wsman.schema import Instance, Reference, Value


class Environment(enum.StrEnum):
    """Where a step runs, in Configuration Manager's words."""

    WINDOWS_PE = "Windows PE"
    FULL_OS = "full operating system"


class ComputerLost(Exception):
    """The computer does not answer, or no longer lets the run in. The message says where, why and what to do."""


@dataclass(frozen=True)
class CommandResult:
    """What a command left: the 32-bit exit code (unsigned) and the raw output."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True)
class Job:
    """A detached native command. ``id`` is the name of its folder: the same id finds the job again.

    ``argv`` is quoted by the backend. ``files`` are laid into the job's folder together with its start, by plain name, at most 1 MB in
    all. The current directory is that folder where ``directory`` names no other. ``environment`` and ``stdin`` may hold secrets: they
    never appear in a command line or log. ``time_limit`` in seconds; 0 means none. When it is over, the whole process tree is ended
    and the exit code is 1460.
    """

    id: str
    argv: tuple[str, ...]
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = field(default=b"", repr=False)
    time_limit: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class JobStatus:
    """A job as it stands: ``exit_code`` is None while it runs. ``output`` is what came since the last call."""

    exit_code: int | None
    output: bytes = b""
    offset: int = 0


@dataclass(frozen=True)
class FileInfo:
    """Size in bytes of a file that is there, and its version resource where it has one."""

    size: int
    version: str | None = None


class Cim(Protocol):
    """CIM operations over WS-Management, one HTTP request each (a query of many rows: one a page).

    Namespaces are written with slashes, ``root/cimv2`` is the default. Raises ``wsman.faults.WsmanFault``; a missing class,
    namespace or instance answers ``fault.is_not_found``.
    """

    def query(self, wql: str, namespace: str = ...) -> list[Instance]:
        """Return the rows of a WQL query, decoded by the class of its FROM clause."""

    def get(self, class_name: str, selectors: Mapping[str, str] | None = ..., namespace: str = ...) -> Instance:
        """Return one instance by its keys."""

    def create(self, instance: Instance) -> Reference:
        """Create an instance and return its reference."""

    def delete(self, class_name: str, selectors: Mapping[str, str], namespace: str = ...) -> None:
        """Delete one instance by its keys."""

    def invoke(
        self,
        class_name: str,
        method: str,
        arguments: Mapping[str, Value] | None = ...,
        selectors: Mapping[str, str] | None = ...,
        namespace: str = ...,
    ) -> Mapping[str, Value]:
        """Call a method; static ones without selectors. Out parameters by name, with ``ReturnValue``."""


class Computer(Protocol):
    """The four verbs on one computer in one environment over one connection.

    Paths are Windows paths with backslashes and a drive letter. ``requests`` counts HTTP requests sent so far.
    """

    environment: Environment
    cim: Cim

    @property
    def requests(self) -> int:
        """HTTP requests sent so far."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        directory: str = "",
        timeout: float = 60,
    ) -> CommandResult:
        """Run a native command that ends within a minute, and return what it left. A non-zero exit code is no error here."""

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        """Start a detached command; a job of that id that exists already is attached to, not started again.

        With ``wait``, the answer is that of ``job_status`` from the beginning: a short job is over with it. Without, it is still running.
        """

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        """Return the state and the output past ``offset``; wait up to ``wait`` seconds for news. KeyError where there is no such job."""

    def stop_job(self, job_id: str) -> None:
        """End the job's whole process tree."""

    def put_file(self, path: str, content: bytes) -> None:
        """Write a file of at most 1 MB beside the final name, then rename; parent folders are made."""

    def get_file(self, path: str) -> bytes:
        """Return a file of at most 1 MB. FileNotFoundError where it is not there."""

    def leave(self) -> None:
        """The computer goes down: what is open on it ends with it, and is not closed. No request."""

    def fetch_changed(self, places: Sequence[str], known: Mapping[str, int], tail: int) -> dict[str, tuple[int, bytes]]:
        r"""Return of the files whose size is not the ``known`` one: the size and the last ``tail`` bytes, by path. Empty ones do not count.

        A place is a file, or all logs of a folder (``C:\_osd\logs\*.log``), on one drive. What cannot be read is left out.
        """

    def file_info(self, path: str) -> FileInfo | None:
        """Return size and version, or None where no such file is."""

    def is_folder(self, path: str) -> bool:
        """Tell whether a folder is there. One request."""

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of a file of any size, at most 1 MB. Windows PE only: NotImplementedError in the full operating system."""

    def write_range(self, path: str, offset: int, content: bytes) -> None:
        """Write into a file in place, at most 1 MB; the file may grow by it. Windows PE only, like ``read_range``."""

    def file_hash(self, path: str) -> str:
        """Return the SHA-256 of a file, computed on the target, lower-case hex. FileNotFoundError where it is not there."""


#: Called with percent (0 to 100, or None) and a line of text.
ProgressCallback = Callable[[float | None, str], None]
