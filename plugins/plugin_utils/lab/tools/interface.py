# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a tool of the lab may see and do: the machine it runs on, its session and its streams.

A tool is a callable ``(ToolCall) -> exit code``. It never touches the host but through ``FileSystem.host_path`` (wimlib needs one).
All paths are Windows paths; UNC paths and network drives work where the session has connected them. What goes wrong inside the machine
is a :class:`Win32Problem` with the Win32 error that Windows gives; a tool turns it into its own exit code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from ...windows.boot_store import BootStore
from ...windows.computer import Environment
from ...windows.registry_hive import Key, Value


class Win32Problem(OSError):
    """A Win32 error: ``code`` (2 not found, 3 path, 5 denied, 32 in use, 53 network path, 112 full, 1219, 1326 …) and a text."""

    def __init__(self, code: int, text: str = "") -> None:
        """Take the Win32 code; the text is what a tool may print."""
        super().__init__(code, text or f"System error {code} has occurred.")
        self.code = code
        self.text = text or f"System error {code} has occurred."

    def __str__(self) -> str:
        """Return the text alone."""
        return self.text


@dataclass
class Session:
    r"""A logon session. ``connections`` maps drive letter (``Z:``) or UNC share (``\\\\server\\share``) to what ``Network`` made.

    ``network_logon``: a WinRS session of the full operating system (no second hop, no COM installs). SYSTEM has user ``SYSTEM``.
    """

    user: str = "SYSTEM"
    elevated: bool = True
    network_logon: bool = False
    connections: dict[str, Connection] = field(default_factory=dict)
    id: str = ""

    @property
    def is_system(self) -> bool:
        """Whether this is the computer's own account."""
        return self.user.upper() == "SYSTEM"


@dataclass(frozen=True)
class Connection:
    r"""A connected share: the UNC root (``\\\\server\\share``), the account, the drive letter or ''."""

    unc: str
    user: str
    letter: str = ""


class FileSystem(Protocol):
    """The files a session sees. Every method raises :class:`Win32Problem`; names are compared ignoring case."""

    def host_path(self, path: str, *, write: bool = False) -> Path:
        """Return where the file or folder lies on the host; it need not exist, its parent must (else 3). For wimlib and streaming only."""

    def exists(self, path: str) -> bool: ...

    def is_file(self, path: str) -> bool: ...

    def is_directory(self, path: str) -> bool: ...

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted ignoring case."""

    def size(self, path: str) -> int: ...

    def modified(self, path: str) -> datetime: ...

    def open_read(self, path: str) -> BinaryIO: ...

    def open_write(self, path: str, *, append: bool = False, alone: bool = False) -> BinaryIO:
        """Open for writing; writes raise 112 when the volume is full. The parent must exist. ``alone``: 32 for others until the end."""

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, content: bytes) -> None:
        """Replace the content; the parent must exist."""

    def make_directories(self, path: str) -> None: ...

    def delete(self, path: str) -> None:
        """Delete a file or an empty folder (145 when it is not empty)."""

    def delete_tree(self, path: str) -> None: ...

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        """Rename within a volume (17 across volumes, 183 where the target exists and ``replace`` is not set)."""

    def copy(self, source: str, target: str) -> None:
        """Copy one file, replacing the target."""

    def set_attributes(
        self, path: str, *, read_only: bool | None = None, hidden: bool | None = None, system: bool | None = None
    ) -> None: ...

    def attributes(self, path: str) -> frozenset[str]:
        """Return a subset of ``read_only hidden system``."""

    def free_space(self, path: str) -> int:
        """Return the free bytes of the volume or share that holds the path."""

    def reserve(self, path: str, size: int) -> None:
        """Raise 112 where the volume that holds the path has not that many bytes free. Call before wimlib writes there."""

    def changed(self, path: str) -> None:
        """Say that the host changed something below the path (wimlib), so that used space is counted anew."""


@dataclass
class Volume:
    """A formatted partition (or X:). ``root`` is the host folder with its content. ``guid`` with braces, lower case."""

    guid: str
    file_system: str
    label: str
    root: Path
    capacity: int
    letter: str = ""
    serial: int = 0
    dirty: bool = False
    ram: bool = False

    @property
    def path(self) -> str:
        r"""``\\?\Volume{…}\``."""
        return f"\\\\?\\Volume{self.guid}\\"


@dataclass
class Partition:
    """One partition. ``kind``: efi, msr, primary, extended, logical. ``gpt_type``/``guid`` with braces lower case; MBR: ``mbr_type``."""

    number: int
    kind: str
    offset: int
    size: int
    gpt_type: str = ""
    guid: str = ""
    attributes: int = 0
    mbr_type: int = 0
    active: bool = False
    volume: Volume | None = None
    #: A letter that an unformatted partition was given.
    raw_letter: str = ""

    @property
    def letter(self) -> str:
        """Drive letter without colon, ''."""
        return self.volume.letter if self.volume else self.raw_letter


@dataclass
class Disk:
    """One disk. ``style``: RAW, MBR, GPT. ``guid`` of a GPT disk with braces; ``signature`` of an MBR disk."""

    number: int
    size: int
    model: str
    serial: str
    bus: str
    style: str = "RAW"
    guid: str = ""
    signature: int = 0
    online: bool = True
    read_only: bool = False
    sector: int = 512
    partitions: list[Partition] = field(default_factory=list)
    #: MBR: boot code present (bootsect, or a disk that Windows made).
    boot_code: bool = False


class Disks(Protocol):
    """The disks; every change is on the host's disk when the method returns. Raises :class:`Win32Problem`."""

    def __iter__(self) -> Iterator[Disk]: ...

    def find(self, number: int) -> Disk | None: ...

    def clean(self, disk: Disk) -> None: ...

    def convert(self, disk: Disk, style: str) -> None:
        """``GPT``, ``MBR`` (or ``RAW``); the disk must have no partitions."""

    def create_partition(
        self, disk: Disk, kind: str, *, size: int | None = None, offset: int | None = None, type_id: str = ""
    ) -> Partition:
        """Create ``primary``, ``efi``, ``msr``, ``extended`` or ``logical``; sizes in bytes, None: all of the largest free extent.

        112 where there is no room.
        """

    def delete_partition(self, disk: Disk, partition: Partition) -> None: ...

    def format(self, partition: Partition, file_system: str, label: str) -> None:
        """Quick format: a new volume GUID, nothing on it."""

    def assign(self, partition: Partition, letter: str | None) -> str:
        """Give a letter (None: the next free from C), return it; 85 where it is in use."""

    def remove_letter(self, partition: Partition) -> None: ...

    def letters(self) -> dict[str, Volume]:
        """All letters in use, without colon, X: included."""

    def locate(self, letter: str) -> tuple[Disk, Partition] | None: ...

    def save(self, disk: Disk) -> None:
        """Write the disk's description after attributes were changed in place (type, GPT attributes, active, read-only, label)."""


class Registry(Protocol):
    r"""The live registry; paths begin with HKLM, HKEY_LOCAL_MACHINE, HKU …; ``CurrentControlSet`` is resolved.

    Keys that come back are for reading; changes go through the methods (they write the hive's file). Win32Problem 2 not found,
    5 denied, 32 in use, 1009 (ERROR_BADDB) a file that is no hive, 87 a mount name in use.
    """

    def find(self, path: str) -> Key | None: ...

    def create(self, path: str) -> None: ...

    def set(self, path: str, name: str, value: Value) -> None:
        """Set a value; the key is made where it does not exist."""

    def delete_value(self, path: str, name: str) -> None: ...

    def delete_key(self, path: str) -> None:
        """Delete the key and all below it."""

    def load(self, mount: str, file_path: str, session: Session) -> None:
        r"""``reg load HKLM\X file``."""

    def unload(self, mount: str) -> None: ...


@dataclass
class NvramEntry:
    """One firmware boot entry: number (``Boot0000`` is 0), description, EFI loader path and GPT partition GUID, kind of device."""

    number: int
    description: str
    partition_guid: str = ""
    loader: str = ""
    device: str = "disk"


class FirmwareView(Protocol):
    """The firmware's variables (UEFI only: on BIOS ``entries`` is empty and setters raise Win32Problem 1)."""

    @property
    def kind(self) -> str:
        """``uefi`` or ``bios``."""

    def entries(self) -> list[NvramEntry]: ...

    def boot_order(self) -> list[int]: ...

    def set_boot_order(self, numbers: list[int]) -> None: ...

    def boot_next(self) -> int | None: ...

    def set_boot_next(self, number: int | None) -> None: ...

    def add_windows_entry(self, partition_guid: str, *, first: bool = True) -> int:
        """Add or refresh 'Windows Boot Manager' for an EFI system partition and return its number."""


class Network(Protocol):
    """The lab network as one computer sees it."""

    def connect(self, session: Session, unc: str, *, user: str = "", password: str = "", letter: str = "") -> None:
        """``net use``: 53 no such server, 67 no such share, 86/1326 wrong account, 5 no right, 1219 other account, 85 letter in use."""

    def disconnect(self, session: Session, name: str) -> None:
        """Letter with colon or UNC; 2250 where it is not connected."""

    def http_get(self, url: str, *, user: str = "", password: str = "", offset: int = 0) -> tuple[int, int, Iterator[bytes]]:
        """GET from the lab's https server: status, total size, chunks. Win32Problem 12007 no such name, 12029 cannot connect."""

    def ping(self, host: str) -> bool: ...

    def certificate_authorities(self) -> bytes:
        """PEM of what the lab's https server is signed by."""


@dataclass
class Service:
    """A service. ``state``: Stopped, Running …; ``start``: the registry's Start value (2 auto, 3 manual, 4 disabled)."""

    name: str
    display_name: str
    path: str
    start: int
    account: str
    state: str
    process_id: int = 0


class Services(Protocol):
    """Services from the live registry, with their run state. Win32Problem 1060 no such service, 1056, 1058 disabled, 1062 not started."""

    def list(self) -> list[Service]: ...

    def find(self, name: str) -> Service | None: ...

    def start(self, name: str) -> None: ...

    def stop(self, name: str) -> None: ...

    def create(self, name: str, *, display_name: str, path: str, start: int = 2, account: str = "LocalSystem") -> None: ...

    def delete(self, name: str) -> None: ...

    def set_start(self, name: str, start: int) -> None: ...


@dataclass
class Process:
    """One process of the table; ``cancelled`` ends it and the processes it started, ``ended`` is set when it is over."""

    id: int
    name: str
    command_line: str
    session: Session
    parent: int
    started: datetime
    cancelled: threading.Event
    executable: str = ""
    exit_code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Processes(Protocol):
    """The process table."""

    def list(self) -> list[Process]: ...

    def begin(
        self,
        name: str,
        command_line: str,
        session: Session,
        *,
        parent: int = 0,
        cancelled: threading.Event | None = None,
    ) -> Process: ...

    def end(self, process: Process, exit_code: int) -> None: ...

    def terminate(self, process_id: int, exit_code: int = 1) -> None:
        """End the process and the tree below it; 128-like Win32Problem 87 where there is none."""

    def spawn(self, command_line: str, session: Session, *, directory: str = "", environment: Mapping[str, str] | None = None) -> Process:
        """Start a command line (CreateProcess rules) in the background, without streams."""


@dataclass
class TaskEntry:
    r"""A scheduled task: ``path`` (``\\OSD\\``), ``name``, its XML, whether it runs now."""

    path: str
    name: str
    xml: str
    process_id: int = 0
    last_result: int | None = None


class ScheduledTasks(Protocol):
    r"""The task scheduler; tasks are files under System32\Tasks. Win32Problem 2 no such task, 183 exists; ValueError for bad XML."""

    def list(self) -> list[TaskEntry]: ...

    def find(self, path: str, name: str) -> TaskEntry | None: ...

    def register(self, path: str, name: str, xml: str, *, force: bool = False) -> TaskEntry: ...

    def run(self, path: str, name: str) -> None: ...

    def stop(self, path: str, name: str) -> None: ...

    def delete(self, path: str, name: str) -> None: ...


@dataclass
class Account:
    """A local account."""

    name: str
    rid: int
    sid: str
    enabled: bool
    full_name: str = ""
    groups: frozenset[str] = frozenset()
    nt_hash: bytes = field(default=b"", repr=False)


class Accounts(Protocol):
    """Local accounts (full operating system only). Win32Problem 2221 no user, 2224 exists, 2220 no group, 1378/1377 membership."""

    def list(self) -> list[Account]: ...

    def find(self, name: str) -> Account | None: ...

    def create(self, name: str, password: str, *, full_name: str = "") -> Account: ...

    def delete(self, name: str) -> None: ...

    def set_password(self, name: str, password: str) -> None: ...

    def set_enabled(self, name: str, enabled: bool) -> None: ...

    def add_to_group(self, name: str, group: str) -> None: ...

    def remove_from_group(self, name: str, group: str) -> None: ...


class Clock(Protocol):
    """The machine's clock."""

    def now(self) -> datetime: ...


class Machine(Protocol):
    """A lab computer in one boot, as its tools see it."""

    @property
    def environment(self) -> Environment:
        """Windows PE or the full operating system."""

    @property
    def name(self) -> str:
        """The computer's name."""

    @property
    def disks(self) -> Disks:
        """Its disks."""

    @property
    def registry(self) -> Registry:
        """The live registry."""

    @property
    def firmware(self) -> FirmwareView:
        """The firmware's variables."""

    @property
    def network(self) -> Network:
        """The lab network."""

    @property
    def services(self) -> Services:
        """Services."""

    @property
    def processes(self) -> Processes:
        """The process table."""

    @property
    def scheduled_tasks(self) -> ScheduledTasks:
        """The task scheduler."""

    @property
    def accounts(self) -> Accounts:
        """Local accounts."""

    @property
    def clock(self) -> Clock:
        """The clock."""

    @property
    def system_drive(self) -> str:
        """``X:`` in Windows PE, ``C:`` in Windows."""

    @property
    def windows(self) -> str:
        r"""``X:\Windows`` or ``C:\Windows``."""

    @property
    def hardware(self) -> Mapping[str, object]:
        """computer.json."""

    @property
    def environment_variables(self) -> Mapping[str, str]:
        """What every process starts with: SystemDrive, SystemRoot, windir, PATH, PATHEXT, ComSpec, TEMP, COMPUTERNAME."""

    def files(self, session: Session) -> FileSystem:
        """Return the files as that session sees them (with its network connections)."""

    def boot_store(self, path: str | None, session: Session) -> BootStore:
        """Return the boot store in a file, or the system's (None); 2 where there is none, 1009 where it is damaged."""

    def save_boot_store(self, path: str | None, store: BootStore, session: Session) -> None: ...

    def request_restart(self, kind: str, delay: float = 0) -> None:
        """``restart`` or ``shutdown``; returns at once, the machine goes down after ``delay`` lab seconds.

        1115 where one is under way, 1190 where one is scheduled.
        """

    def abort_restart(self) -> None:
        """1116 where none is scheduled."""

    def console(self, text: str) -> None:
        """Write a line into the computer's console log (host side, for the user of the lab)."""

    def wait(self, seconds: float, cancelled: threading.Event | None = None) -> bool:
        """Wait (scaled by the lab's speed); True where it was cancelled."""


@dataclass
class ToolCall:
    """One start of a tool. ``argv`` is split by the C rules, ``command_line`` is the text as it was given."""

    machine: Machine
    session: Session
    argv: list[str]
    stdin: BinaryIO
    stdout: BinaryIO
    stderr: BinaryIO
    environment: dict[str, str]
    directory: str
    cancelled: threading.Event
    command_line: str = ""
    process_id: int = 0

    @property
    def files(self) -> FileSystem:
        """The files as this call's session sees them."""
        return self.machine.files(self.session)


Tool = Callable[[ToolCall], int]

#: What helper code under ``tools/`` offers to the machine (``tools/run.py``): CreateProcess for a command line of text: finds the program
#: (file in the volume AND a registered tool, or a declared installer), splits, enters it in the process table, runs it to its end.
#: ``call.argv`` is empty on entry. Raises Win32Problem 2 where the program is not found.
Runner = Callable[[ToolCall, str], int]
