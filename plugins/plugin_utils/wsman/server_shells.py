# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WinRS: shells and their commands, as the server's shell half answers them."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from xml.etree.ElementTree import Element

from . import envelope, faults
from . import namespaces as ns
from .envelope import Header, Message, ProtocolError, child, child_text, children, escape, escape_attribute, local_name
from .faults import FaultShape
from .server_base import Limits, RefusedRequest, answer, room, timeout
from .server_faults import (
    SHELL_PLUGIN,
    destination_unreachable,
    parameter_fault,
    quota_fault,
    shell_error,
    timed_out,
    unexpected_selectors,
)


@dataclass(frozen=True)
class ShellOptions:
    """How a shell was asked for. ``directory`` is '' where the client named none."""

    user: str
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    codepage: int = 437
    no_profile: bool = False


class RunningCommand(Protocol):
    """A command in a shell. Its exit code is set only after its last output can be read."""

    @property
    def exit_code(self) -> int | None:
        """The unsigned exit code, None while the command runs."""

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        """Return output as (``stdout`` or ``stderr``, bytes).

        Waits up to ``timeout`` seconds for the first of it or the end.
        """

    def write(self, data: bytes, end: bool) -> None:
        """Write to stdin; ``end`` closes it. BrokenPipeError where the process has ended."""

    def terminate(self) -> None:
        """End the process tree; nothing happens where it has ended."""


class ShellSession(Protocol):
    """An open shell. ``start`` gets the text as received: what ``cmd /c`` makes of it is the provider's business."""

    def start(self, command_line: str) -> RunningCommand:
        """Start a command."""

    def close(self) -> None:
        """End the session and what still runs in it."""


class ShellProvider(Protocol):
    """Opens shells. OSError (with its Windows or POSIX number) becomes a fault with that code."""

    def open(self, options: ShellOptions) -> ShellSession:
        """Open a shell."""


@dataclass
class _Command:
    """A command and what was read from it but did not fit the last answer."""

    running: RunningCommand
    leftover: list[tuple[str, bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    terminated: bool = False


@dataclass
class _Shell:
    """An open shell and its commands.

    ``operations`` counts all of them, as WinRS does not count down before the shell ends.
    """

    id: str
    session: ShellSession
    options: ShellOptions
    idle_timeout: float
    opened: float
    used: float
    commands: dict[str, _Command] = field(default_factory=dict)
    operations: int = 0
    active: int = 0


class ShellService:
    """The shells of one computer. ``provider`` None: it has no WinRS."""

    def __init__(self, provider: ShellProvider | None, limits: Limits, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._shells: dict[str, _Shell] = {}

    def operations_of(self, user: str) -> int:
        """Return how many operations a user's shells count against the quota."""
        with self._lock:
            owned = [shell for shell in self._shells.values() if shell.options.user.lower() == user.lower()]
            return sum(shell.operations for shell in owned)

    def close(self) -> None:
        """End every shell and its commands."""
        with self._lock:
            shells, self._shells = list(self._shells.values()), {}
        for shell in shells:
            _end_shell(shell)

    def _answer(self, action: str, header: Header, body: str) -> bytes:
        return answer(action, header, body, self._limits)

    def handle(self, message: Message, user: str) -> bytes:
        """Answer one request to the shell resource."""
        header = message.header
        if header.resource_uri.lower() != ns.CMD_SHELL or self._provider is None:
            raise RefusedRequest(destination_unreachable(header.resource_uri))
        self._end_idle_shells()
        if header.action == ns.ACTION_CREATE:
            return self._open_shell(message, user, self._provider)
        if header.action == ns.ACTION_ENUMERATE:
            return self._enumerate_shells(header, user)
        operations = {
            ns.ACTION_COMMAND: self._command,
            ns.ACTION_SEND: self._send,
            ns.ACTION_RECEIVE: self._receive,
            ns.ACTION_SIGNAL: self._signal,
            ns.ACTION_DELETE: self._delete_shell,
            ns.ACTION_GET: self._get_shell,
        }
        operation = operations.get(header.action)
        if operation is None:
            raise RefusedRequest(FaultShape("The action is not supported by the service.", 2150858753, "a:ActionNotSupported"))
        shell = self._find_shell(header, user)
        with self._lock:
            shell.active += 1
        try:
            return operation(message, shell)
        finally:
            with self._lock:
                shell.active -= 1
                shell.used = self._clock()

    def _find_shell(self, header: Header, user: str) -> _Shell:
        wanted = next((v for k, v in header.selectors.items() if k.lower() == "shellid"), "").strip().upper()
        with self._lock:
            shell = self._shells.get(wanted)
        if shell is None or shell.options.user.lower() != user.lower():
            raise RefusedRequest(
                unexpected_selectors(
                    "The request for the Windows Remote Shell with ShellId "
                    f"{wanted[:60]} failed because the shell was not found on the server. Possible causes are: "
                    f"the specified "
                    "ShellId is incorrect or the shell no longer exists on the server."
                )
            )
        return shell

    def _end_idle_shells(self) -> None:
        now = self._clock()
        with self._lock:
            idle = [s for s in self._shells.values() if not s.active and now - s.used > s.idle_timeout]
            for shell in idle:
                del self._shells[shell.id]
        for shell in idle:
            _end_shell(shell)

    def _open_shell(self, message: Message, user: str, provider: ShellProvider) -> bytes:
        header = message.header
        content = message.content
        if content is None or local_name(content.tag) != "Shell":
            raise ProtocolError("the body holds no Shell")
        options = _shell_options(header, content, user)
        idle = child_text(content, "IdleTimeOut").strip()
        idle_timeout = min(envelope.parse_duration(idle), self._limits.idle_timeout) if idle else self._limits.idle_timeout
        with self._lock:
            owned = sum(1 for shell in self._shells.values() if shell.options.user.lower() == user.lower())
        if owned >= self._limits.max_shells_per_user:
            raise RefusedRequest(
                quota_fault(
                    faults.QUOTA_MAX_SHELLS,
                    f"This user is allowed a maximum number of {self._limits.max_shells_per_user} concurrent "
                    f"shells, which has "
                    "been exceeded. Close existing shells or raise the quota for this user.",
                )
            )
        try:
            session = provider.open(options)
        except OSError as error:
            raise RefusedRequest(shell_error(error)) from None
        now = self._clock()
        shell = _Shell(str(uuid.uuid4()).upper(), session, options, idle_timeout, now, now)
        with self._lock:
            self._shells[shell.id] = shell
        reference = (
            f"<a:Address>{escape(header.to or ns.ANONYMOUS)}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{ns.CMD_SHELL}</w:ResourceURI>"
            f'<w:SelectorSet><w:Selector Name="ShellId">{shell.id}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        )
        body = f"<x:ResourceCreated>{reference}</x:ResourceCreated>{self._shell_element(shell)}"
        return self._answer(ns.ACTION_CREATE, header, body)

    def _shell_element(self, shell: _Shell) -> str:
        now = self._clock()
        directory = shell.options.directory
        # Windows tells the variables back, to the shell's own user only (recorded).
        variables = "".join(
            f'<rsp:Variable Name="{escape_attribute(name)}">{escape(value)}</rsp:Variable>'
            for name, value in shell.options.environment.items()
        )
        return (
            f'<rsp:Shell xmlns:rsp="{ns.SHELL}"><rsp:ShellId>{shell.id}</rsp:ShellId>'
            f"<rsp:ResourceUri>{ns.CMD_SHELL}</rsp:ResourceUri><rsp:Owner>{escape(shell.options.user)}</rsp:Owner>"
            f"{f'<rsp:Environment>{variables}</rsp:Environment>' if variables else ''}"
            f"{f'<rsp:WorkingDirectory>{escape(directory)}</rsp:WorkingDirectory>' if directory else ''}"
            f"<rsp:IdleTimeOut>{envelope.duration(shell.idle_timeout)}</rsp:IdleTimeOut>"
            f"<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
            f"<rsp:ShellRunTime>{_days(now - shell.opened)}</rsp:ShellRunTime>"
            f"<rsp:ShellInactivity>{_days(now - shell.used)}</rsp:ShellInactivity></rsp:Shell>"
        )

    def _enumerate_shells(self, header: Header, user: str) -> bytes:
        with self._lock:
            owned = [shell for shell in self._shells.values() if shell.options.user.lower() == user.lower()]
        rows = "".join(self._shell_element(shell) for shell in owned)
        body = (
            f"<n:EnumerateResponse><n:EnumerationContext></n:EnumerationContext><w:Items>{rows}</w:Items>"
            f"<w:EndOfSequence/></n:EnumerateResponse>"
        )
        return self._answer(ns.ACTION_ENUMERATE, header, body)

    def _get_shell(self, message: Message, shell: _Shell) -> bytes:
        return self._answer(ns.ACTION_GET, message.header, self._shell_element(shell))

    def _delete_shell(self, message: Message, shell: _Shell) -> bytes:
        with self._lock:
            self._shells.pop(shell.id, None)
        _end_shell(shell)
        return self._answer(ns.ACTION_DELETE, message.header, "")

    def _command(self, message: Message, shell: _Shell) -> bytes:
        content = message.content
        if content is None or local_name(content.tag) != "CommandLine":
            raise ProtocolError("the body holds no CommandLine")
        # Arguments are joined by blanks and nothing is quoted; WINRS_SKIP_CMD_SHELL is ignored, as since Windows 2012.
        line = " ".join([child_text(content, "Command"), *(item.text or "" for item in children(content, "Arguments"))])
        with self._lock:
            if len(shell.commands) >= self._limits.max_processes_per_shell:
                raise RefusedRequest(
                    quota_fault(
                        0x803381A8,
                        "The maximum number of concurrent processes in this shell has been exceeded. End "
                        "processes or raise "
                        "the quota MaxProcessesPerShell.",
                    )
                )
        try:
            running = shell.session.start(line)
        except OSError as error:
            raise RefusedRequest(shell_error(error)) from None
        # A client may choose the id (psrp does); pywinrm and this project's client do not.
        command_id = (content.get("CommandId") or str(uuid.uuid4())).upper()
        with self._lock:
            shell.commands[command_id] = _Command(running)
            shell.operations += 1
        body = f'<rsp:CommandResponse xmlns:rsp="{ns.SHELL}"><rsp:CommandId>{escape(command_id)}</rsp:CommandId></rsp:CommandResponse>'
        return self._answer(ns.ACTION_COMMAND, message.header, body)

    def _find_command(self, element: Element | None, shell: _Shell) -> tuple[str, _Command]:
        command_id = (element.get("CommandId", "") if element is not None else "").strip()
        if not command_id:
            raise RefusedRequest(parameter_fault())
        with self._lock:
            command = shell.commands.get(command_id.upper())
        if command is None:
            raise RefusedRequest(
                unexpected_selectors(
                    "The Windows Remote Shell received a request to perform an operation on a command "
                    "identifier that does not "
                    "exist. Either the command has completed execution or the client specified an invalid "
                    "command identifier."
                )
            )
        return command_id, command

    def _send(self, message: Message, shell: _Shell) -> bytes:
        for stream in children(message.content, "Stream") if message.content is not None else []:
            dummy, command = self._find_command(stream, shell)
            try:
                data = base64.b64decode("".join((stream.text or "").split()), validate=True)
            except ValueError:
                raise ProtocolError("the stream is not base64") from None
            try:
                command.running.write(data, stream.get("End", "").strip().lower() == "true")
            except BrokenPipeError:
                raise RefusedRequest(
                    FaultShape(
                        "The pipe has been ended.",
                        109,
                        "w:InternalError",
                        sender=False,
                        kind="provider",
                        provider=SHELL_PLUGIN[0],
                        provider_path=SHELL_PLUGIN[1],
                    )
                ) from None
        return self._answer(ns.ACTION_SEND, message.header, f'<rsp:SendResponse xmlns:rsp="{ns.SHELL}"/>')

    def _receive(self, message: Message, shell: _Shell) -> bytes:
        header = message.header
        command_id, command = self._find_command(child(message.content, "DesiredStream"), shell)
        space = max(1024, (room(header, self._limits) - 2048) * 3 // 4)
        deadline = time.monotonic() + timeout(header, self._limits)
        with command.lock:
            chunks, exit_code = _wait_for_output(command, deadline, space)
        if not chunks and exit_code is None:
            if command.terminated:
                raise RefusedRequest(
                    FaultShape(
                        "The I/O operation has been aborted because of either a thread exit or an application request.",
                        faults.OPERATION_ABORTED,
                        sender=False,
                    )
                )
            raise RefusedRequest(timed_out())
        return self._answer(ns.ACTION_RECEIVE, header, _receive_body(escape(command_id), chunks, exit_code))

    def _signal(self, message: Message, shell: _Shell) -> bytes:
        command_id, command = self._find_command(message.content, shell)
        code = child_text(message.content, "Code").strip().rpartition("/")[2].lower()
        if code not in ("terminate", "ctrl_c", "ctrl_break"):
            raise RefusedRequest(parameter_fault())
        command.terminated = True
        command.running.terminate()
        if code == "terminate":
            with self._lock:
                shell.commands.pop(command_id.upper(), None)
        return self._answer(ns.ACTION_SIGNAL, message.header, f'<rsp:SignalResponse xmlns:rsp="{ns.SHELL}"/>')


def _shell_options(header: Header, content: Element, user: str) -> ShellOptions:
    options = {name.upper(): value.strip() for name, value in header.options.items()}
    codepage = options.get("WINRS_CODEPAGE", "437")
    if not codepage.isascii() or not codepage.isdigit() or len(codepage) > 5:
        raise RefusedRequest(parameter_fault())
    environment = child(content, "Environment")
    variables = {item.get("Name", ""): item.text or "" for item in (environment if environment is not None else ()) if item.get("Name")}
    return ShellOptions(
        user=user,
        directory=child_text(content, "WorkingDirectory").strip(),
        environment=variables,
        codepage=int(codepage),
        no_profile=options.get("WINRS_NOPROFILE", "").upper() == "TRUE",
    )


def _end_shell(shell: _Shell) -> None:
    for command in list(shell.commands.values()):
        command.terminated = True
        command.running.terminate()
    shell.session.close()


def _wait_for_output(command: _Command, deadline: float, room: int) -> tuple[list[tuple[str, bytes]], int | None]:
    """Return output that fits ``room`` bytes, and the exit code once everything was read."""
    while True:
        chunks, command.leftover = command.leftover, []
        exit_code = command.running.exit_code
        if not chunks and exit_code is None:
            chunks = command.running.read(max(0.0, deadline - time.monotonic()))
            # Windows tells the end together with the last output where it can (recorded).
            exit_code = command.running.exit_code
        # The exit code was read before this, so nothing is written after it.
        while exit_code is not None and (more := command.running.read(0)):
            chunks = [*chunks, *more]
        taken, command.leftover = _split(chunks, room)
        if taken or exit_code is not None or time.monotonic() >= deadline or command.terminated:
            return taken, exit_code if not command.leftover else None


def _split(chunks: list[tuple[str, bytes]], room: int) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    taken: list[tuple[str, bytes]] = []
    for index, (name, data) in enumerate(chunks):
        # About 150 characters of markup go with every element.
        room -= 150
        if room <= 0:
            return taken, chunks[index:]
        if len(data) > room:
            return [*taken, (name, data[:room])], [(name, data[room:]), *chunks[index + 1 :]]
        taken.append((name, data))
        room -= len(data)
    return taken, []


def _receive_body(command_id: str, chunks: list[tuple[str, bytes]], exit_code: int | None) -> str:
    streams = "".join(
        f'<rsp:Stream Name="{name}" CommandId="{command_id}">{base64.b64encode(data).decode()}</rsp:Stream>'
        for name, data in chunks
        if data
    )
    if exit_code is None:
        state = f'<rsp:CommandState CommandId="{command_id}" State="{ns.COMMAND_RUNNING}"></rsp:CommandState>'
    else:
        streams += "".join(f'<rsp:Stream Name="{name}" CommandId="{command_id}" End="true"></rsp:Stream>' for name in ("stdout", "stderr"))
        state = (
            f'<rsp:CommandState CommandId="{command_id}" State="{ns.COMMAND_DONE}">'
            f"<rsp:ExitCode>{exit_code & 0xFFFFFFFF}</rsp:ExitCode></rsp:CommandState>"
        )
    return f'<rsp:ReceiveResponse xmlns:rsp="{ns.SHELL}">{streams}{state}</rsp:ReceiveResponse>'


def _days(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"P{whole // 86400}DT{whole // 3600 % 24}H{whole // 60 % 60}M{whole % 60}S"
