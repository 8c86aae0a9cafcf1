# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client: CIM operations and WinRS shells over any transport that posts an envelope and returns the answer.

It knows no sockets: ``send`` is given. One operation is one request, a query one more for every further page.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar
from xml.etree.ElementTree import Element

from . import envelope, faults, values, wql
from . import namespaces as ns
from .envelope import ProtocolError, child, child_text, children, escape, escape_attribute
from .faults import WsmanFault
from .schema import CimClass, Instance, Method, Property, Reference, Schema, Value

_Read = TypeVar("_Read")
Send = Callable[[bytes], tuple[int, bytes]]

CIMV2 = "root/cimv2"

#: What an envelope holds beside its payload: headers, and room for what a transport may add.
_ENVELOPE_OVERHEAD = 4096

#: The process has ended: ERROR_BROKEN_PIPE, ERROR_NO_DATA.
_PIPE_CLOSED = (109, 232)
_BUSY = 170
#: Ended commands that a shell may keep.
_UNACKNOWLEDGED = 10
#: Seconds between further tries of a Send that finds the shell busy (Ansible waits 5 s, three times).
_BUSY_PAUSES = (0.5, 2.0, 5.0)


class CommandTimeout(TimeoutError):
    """A WinRS command did not end in the time given. It was told to terminate; what it did until then is done."""


@dataclass(frozen=True)
class Identity:
    """What Identify answers. The version of Windows is hidden (``OS: 0.0.0``) from who has not authenticated."""

    product_vendor: str
    product_version: str
    protocol_version: str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"


def identify_request() -> bytes:
    """Return the Identify envelope. With the HTTP header ``WSMANIDENTIFY: unauthenticated`` it needs no account."""
    return (
        f'<s:Envelope xmlns:s="{ns.SOAP}" xmlns:wsmid="{ns.IDENTITY}"><s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>'
    ).encode()


def parse_identify(body: bytes) -> Identity:
    """Return the identity in an IdentifyResponse. Raises ProtocolError where the answer is none."""
    content = envelope.parse(body).content
    if content is None or ns.local_name(content.tag) != "IdentifyResponse":
        raise ProtocolError("the answer to Identify holds no IdentifyResponse: this is no WS-Management service")
    return Identity(
        child_text(content, "ProductVendor").strip(),
        child_text(content, "ProductVersion").strip(),
        child_text(content, "ProtocolVersion").strip(),
    )


class Client:
    """CIM and WinRS over one connection. ``requests`` counts what was sent. Satisfies ``windows.computer.Cim``.

    Args:
        send: posts an envelope and returns the HTTP status and the body; raises its own errors where nothing came back.
        schema: the classes from which answers are decoded.
        operation_timeout: seconds that the other side may take for one answer.
        max_envelope: bytes of an envelope, both ways. Windows' own limit is 500 KB.
        locale: the language asked for; texts are never decided on.
    """

    def __init__(
        self,
        send: Send,
        schema: Schema,
        *,
        operation_timeout: float = 20.0,
        max_envelope: int = 512000,
        locale: str = "en-US",
    ) -> None:
        self._send = send
        self.schema = schema
        self.operation_timeout = operation_timeout
        self.max_envelope = max_envelope
        self.locale = locale
        self.requests = 0

    # --- CIM ----------------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        """Ask who answers."""
        return parse_identify(self._post(identify_request()))

    def query(self, wql: str, namespace: str = CIMV2) -> list[Instance]:
        """Return the rows of a WQL query, one request for the first row and one a further page.

        Raises WsmanFault; ``is_not_found`` where class, namespace or column are not there. WqlError for what is no WQL.
        """
        query = wql_query(wql)
        cim_class = self.schema.find(namespace, query.class_name) or CimClass(namespace, query.class_name)
        body = (
            f"<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements>"
            f'<w:Filter Dialect="{ns.WQL_DIALECT}">{escape(wql)}</w:Filter></n:Enumerate>'
        )
        try:
            rows = _again_once(lambda: self._enumerate(ns.class_uri(namespace, "*"), body))
        except WsmanFault as fault:
            fault.filter_checked = all(cim_class.find_property(name) for name in query.names)
            raise
        return [self._decode_row(row, cim_class, query.columns) for row in rows]

    def _enumerate(self, uri: str, body: str) -> list[Element]:
        content = self.request(ns.ACTION_ENUMERATE, uri, body)
        rows: list[Element] = []
        while True:
            rows += _items(content)
            context = child_text(content, "EnumerationContext").strip()
            if child(content, "EndOfSequence") is not None or not context:
                return rows
            pull = f"<n:Pull><n:EnumerationContext>{escape(context)}</n:EnumerationContext><n:MaxElements>32000</n:MaxElements></n:Pull>"
            content = self.request(ns.ACTION_PULL, uri, pull)

    def _decode_row(self, row: Element, cim_class: CimClass, columns: tuple[str, ...] | None) -> Instance:
        if ns.local_name(row.tag) == "XmlFragment":
            wanted = columns if columns is not None else tuple(p.name for p in cim_class.properties)
            return values.decode_fragment(row, self.schema, cim_class, wanted)
        return values.decode_instance(row, self.schema, cim_class, cim_class.namespace)

    def get(self, class_name: str, selectors: Mapping[str, str] | None = None, namespace: str = CIMV2) -> Instance:
        """Return one instance by its keys; a singleton needs none."""
        cim_class = self.schema.find(namespace, class_name)
        uri = ns.class_uri(namespace, class_name)
        content = _required(_again_once(lambda: self.request(ns.ACTION_GET, uri, "", selectors)), "Get")
        return values.decode_instance(content, self.schema, cim_class, namespace)

    def put(self, instance: Instance, selectors: Mapping[str, str] | None = None, namespace: str = "") -> Instance:
        """Write the properties that the instance holds and return the instance as it is then.

        The keys are taken from the instance where ``selectors`` are not given.
        """
        namespace = namespace or instance.namespace or CIMV2
        cim_class = self.schema.find(namespace, instance.class_name)
        keys = selectors if selectors is not None else key_selectors(instance, cim_class)
        body = values.encode_put(instance, cim_class, self.schema, namespace)
        content = self.request(ns.ACTION_PUT, ns.class_uri(namespace, instance.class_name), body, keys)
        return instance if content is None else values.decode_instance(content, self.schema, cim_class, namespace)

    def create(self, instance: Instance) -> Reference:
        """Create an instance and return the reference to it."""
        namespace = instance.namespace or CIMV2
        cim_class = self.schema.find(namespace, instance.class_name)
        body = values.encode_put(instance, cim_class, self.schema, namespace)
        uri = ns.class_uri(namespace, instance.class_name)
        return values.decode_reference(_required(self.request(ns.ACTION_CREATE, uri, body), "Create"))

    def delete(self, class_name: str, selectors: Mapping[str, str], namespace: str = CIMV2) -> None:
        """Delete an instance."""
        self.request(ns.ACTION_DELETE, ns.class_uri(namespace, class_name), "", selectors)

    def invoke(
        self,
        class_name: str,
        method: str,
        arguments: Mapping[str, Value] | None = None,
        selectors: Mapping[str, str] | None = None,
        namespace: str = CIMV2,
        *,
        operation_timeout: float | None = None,
    ) -> dict[str, Value]:
        """Call a method and return its output parameters and ``ReturnValue`` (None where the provider sent none).

        Outputs that did not come are None. After a timeout the outcome is unknown: re-read the state, never call again
        blindly. A method that waits by itself needs an ``operation_timeout`` longer than that, in seconds.
        """
        cim_class = self.schema.find(namespace, class_name)
        known = cim_class.find_method(method) if cim_class else None
        uri = ns.class_uri(namespace, class_name)
        name = known.name if known else method
        inputs = known.inputs if known else ()
        body = values.encode_parameters(f"{name}_INPUT", uri, arguments or {}, inputs, self.schema, namespace)
        content = self.request(f"{uri}/{name}", uri, body, selectors, operation_timeout=operation_timeout)
        return self._decode_output(content, known, namespace)

    def _decode_output(self, content: Element | None, method: Method | None, namespace: str) -> dict[str, Value]:
        outputs: tuple[Property, ...] = (*(method.outputs if method else ()), values.RETURN_VALUE)
        result: dict[str, Value] = {p.name: None for p in outputs}
        if content is not None:
            result |= values.decode_properties(content, outputs, self.schema, namespace)
        return result

    # --- WinRS --------------------------------------------------------------------------------------------------------

    def open_shell(
        self,
        *,
        codepage: int = 65001,
        no_profile: bool = True,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        idle_timeout: float | None = None,
    ) -> Shell:
        """Open a WinRS shell.

        It ends by ``close``, or when it was idle for ``idle_timeout`` seconds (Windows: two hours).
        """
        options = {"WINRS_NOPROFILE": "TRUE" if no_profile else "FALSE", "WINRS_CODEPAGE": str(codepage)}
        content = self.request(ns.ACTION_CREATE, ns.CMD_SHELL, _shell_body(directory, environment or {}, idle_timeout), options=options)
        return Shell(self, _shell_id(content))

    # --- the wire -----------------------------------------------------------------------------------------------------

    def request(
        self,
        action: str,
        resource_uri: str,
        body: str,
        selectors: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        operation_timeout: float | None = None,
    ) -> Element | None:
        """Send one request and return the first element of the answer's body. Raises WsmanFault."""
        answer = self._post(
            envelope.build_request(
                action,
                resource_uri,
                body,
                selectors=selectors,
                options=options,
                operation_timeout=self.operation_timeout if operation_timeout is None else operation_timeout,
                max_envelope=self.max_envelope,
                locale=self.locale,
            )
        )
        content = envelope.parse(answer).content
        if content is not None and faults.is_fault(content):  # some services answer faults with HTTP 200
            raise faults.fault_from_element(content, 200)
        return content

    def _post(self, body: bytes) -> bytes:
        self.requests += 1
        status, answer = self._send(body)
        if status >= 400:
            raise faults.parse(answer, status)
        return answer


def wql_query(text: str) -> wql.Query:
    """Parse the text of a query; the name ``wql`` is a parameter in Client.query."""
    return wql.parse(text)


def key_selectors(instance: Instance, cim_class: CimClass | None) -> dict[str, str]:
    """Return an instance's keys as selectors; those that it does not hold are left out."""
    keys = cim_class.keys if cim_class else ()
    return {p.name: values.selector_text(instance[p.name]) for p in keys if instance[p.name] is not None}


def _again_once(read: Callable[[], _Read]) -> _Read:
    """Read once more where WMI was still starting, or where it forgot the enumeration: reading has no effect to repeat."""
    try:
        return read()
    except WsmanFault as fault:
        if fault.is_timeout or fault.code == faults.INVALID_ENUMERATION_CONTEXT:
            return read()
        raise


def _required(content: Element | None, operation: str) -> Element:
    if content is None:
        raise ProtocolError(f"the answer to {operation} is empty")
    return content


def _items(content: Element | None) -> list[Element]:
    items = child(content, "Items")
    if items is None:
        return []
    # With an enumeration mode of object and EPR every row is wrapped in w:Item.
    return [row[0] if ns.local_name(row.tag) == "Item" and len(row) else row for row in items]


def _shell_body(directory: str | None, environment: Mapping[str, str], idle_timeout: float | None) -> str:
    """The order of the elements is the schema's; Windows insists on it."""
    variables = "".join(
        f'<rsp:Variable Name="{escape_attribute(name)}">{escape(value)}</rsp:Variable>' for name, value in environment.items()
    )
    parts = [
        f'<rsp:Shell xmlns:rsp="{ns.SHELL}">',
        f"<rsp:Environment>{variables}</rsp:Environment>" if variables else "",
        f"<rsp:IdleTimeOut>{envelope.duration(idle_timeout)}</rsp:IdleTimeOut>" if idle_timeout is not None else "",
        "<rsp:InputStreams>stdin</rsp:InputStreams>",
        "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams>",
        f"<rsp:WorkingDirectory>{escape(directory)}</rsp:WorkingDirectory>" if directory else "",
        "</rsp:Shell>",
    ]
    return "".join(parts)


def _shell_id(content: Element | None) -> str:
    for element in content.iter() if content is not None else ():
        if ns.local_name(element.tag) == "Selector" and element.get("Name") == "ShellId":
            return (element.text or "").strip()
    raise ProtocolError("the answer to the creation of a shell names no ShellId")


class Shell:
    """A WinRS shell. It belongs to the user, not to the connection: the id finds it again from another one.

    The end of a command is acknowledged (``terminate``) only from the eleventh on: the shell's Delete frees everything (MS-WSMV 3.1.4.4.1),
    and until then Windows keeps ended commands up to MaxProcessesPerShell, 15 at the least [issue: ansible/ansible#74985, whose psrp
    plugin did the same for years, up to that quota; jborean93/pypsrp#148; doc: win32/WinRM]. MS-WSMV 2.2.4.38 would have it sent
    before the next command: where a service insists, it gets them all and the command once more.
    """

    def __init__(self, client: Client, shell_id: str) -> None:
        self._client = client
        self.id = shell_id
        self._ended: list[str] = []

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        command_line: str,
        *,
        stdin: bytes = b"",
        timeout: float | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a command line (passed to ``cmd /c`` as it stands) and return exit code, stdout and stderr.

        The exit code is unsigned. Raises CommandTimeout after ``timeout`` seconds, WsmanFault (``is_shell_gone``)
        where the computer restarted. ``on_output`` is called with ``stdout`` or ``stderr`` and the bytes as they come.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        command_id = self.start(command_line)
        try:
            if stdin:
                self.send(command_id, stdin)
            result = self._collect(command_id, command_line, timeout, deadline, on_output)
        except BaseException:
            # What went wrong first is what the caller must see, not that the clean-up failed as well.
            with contextlib.suppress(Exception):
                self.terminate(command_id)
            raise
        if self.is_worn:
            self.terminate(command_id)
        else:
            self._ended.append(command_id)
        return result

    @property
    def is_worn(self) -> bool:
        """Whether it keeps as many ended commands as it may: another shell is cheaper than going on with this one."""
        return len(self._ended) >= _UNACKNOWLEDGED

    def start(self, command_line: str) -> str:
        """Start a command and return its id."""
        body = f'<rsp:CommandLine xmlns:rsp="{ns.SHELL}"><rsp:Command>{escape(command_line)}</rsp:Command></rsp:CommandLine>'
        options = {"WINRS_CONSOLEMODE_STDIN": "FALSE", "WINRS_SKIP_CMD_SHELL": "FALSE"}
        try:
            content = self._request(ns.ACTION_COMMAND, body, options=options)
        except WsmanFault as fault:
            # An answer that refuses: nothing was started.
            if not self._ended or fault.is_timeout or fault.is_shell_gone:
                raise
            while self._ended:
                self.terminate(self._ended.pop())
            content = self._request(ns.ACTION_COMMAND, body, options=options)
        command_id = child_text(content, "CommandId").strip()
        if not command_id:
            raise ProtocolError("the answer to a command names no CommandId")
        return command_id

    def send(self, command_id: str, data: bytes) -> None:
        """Write to the command's stdin, in pieces under the envelope limit, and end it.

        A command that ended before it read everything is no error: its exit code tells.
        """
        size = max(3, (self._client.max_envelope - _ENVELOPE_OVERHEAD) * 3 // 4)
        size -= size % 3
        for offset in range(0, len(data), size) or (0,):
            piece = data[offset : offset + size]
            end = ' End="true"' if offset + size >= len(data) else ""
            body = (
                f'<rsp:Send xmlns:rsp="{ns.SHELL}"><rsp:Stream Name="stdin" '
                f'CommandId="{escape_attribute(command_id)}"{end}>'
                f"{base64.b64encode(piece).decode()}</rsp:Stream></rsp:Send>"
            )
            if not self._send_piece(body):
                return

    def _send_piece(self, body: str) -> bool:
        """Send one piece and tell whether the process still reads. While the last piece is being read, wait and try again."""
        for pause in (*_BUSY_PAUSES, None):
            try:
                self._request(ns.ACTION_SEND, body)
                return True
            except WsmanFault as fault:
                if fault.win32 in _PIPE_CLOSED:
                    return False
                if fault.win32 != _BUSY or pause is None:
                    raise
                time.sleep(pause)
        return True

    def receive(self, command_id: str, operation_timeout: float | None = None) -> tuple[list[tuple[str, bytes]], int | None]:
        """Return what the command wrote since the last call and its exit code, None while it runs.

        Waits for news up to the operation timeout; no news is an empty list.
        """
        body = (
            f'<rsp:Receive xmlns:rsp="{ns.SHELL}">'
            f'<rsp:DesiredStream CommandId="{escape_attribute(command_id)}">stdout stderr</rsp:DesiredStream>'
            f"</rsp:Receive>"
        )
        options = {"WSMAN_CMDSHELL_OPTION_KEEPALIVE": "TRUE"}
        try:
            content = self._request(ns.ACTION_RECEIVE, body, options=options, operation_timeout=operation_timeout)
        except WsmanFault as fault:
            if fault.is_timeout:
                return [], None
            raise
        return parse_receive(content)

    def terminate(self, command_id: str) -> None:
        """Tell the shell that the command is over; it is ended where it still runs. A lost shell has nothing to end."""
        body = (
            f'<rsp:Signal xmlns:rsp="{ns.SHELL}" CommandId="{escape_attribute(command_id)}">'
            f"<rsp:Code>{ns.SIGNAL_TERMINATE}</rsp:Code></rsp:Signal>"
        )
        try:
            self._request(ns.ACTION_SIGNAL, body)
        except WsmanFault as fault:
            if not (fault.is_shell_gone or fault.is_timeout):
                raise

    def close(self) -> None:
        """Delete the shell; its processes end. A lost shell is closed already."""
        try:
            self._client.request(ns.ACTION_DELETE, ns.CMD_SHELL, "", {"ShellId": self.id})
        except WsmanFault as fault:
            if not (fault.is_shell_gone or fault.is_not_found):
                raise

    def _request(
        self,
        action: str,
        body: str,
        options: Mapping[str, str] | None = None,
        operation_timeout: float | None = None,
    ) -> Element | None:
        return self._client.request(action, ns.CMD_SHELL, body, {"ShellId": self.id}, options, operation_timeout)

    def _collect(
        self,
        command_id: str,
        command_line: str,
        timeout: float | None,
        deadline: float | None,
        on_output: Callable[[str, bytes], None] | None,
    ) -> tuple[int, bytes, bytes]:
        streams: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        while True:
            wait = self._client.operation_timeout
            if deadline is not None:
                wait = min(wait, deadline - time.monotonic())
                if wait <= 0:
                    # The command line may hold what nobody should read: only its first word is named.
                    program = command_line.strip().strip('"').split(" ", 1)[0]
                    raise CommandTimeout(f"{program} did not end within {timeout:g} seconds and was terminated")
            # A timeout of nothing would be refused as invalid; half a second longer harms nobody.
            chunks, exit_code = self.receive(command_id, max(wait, 0.5))
            for name, data in chunks:
                streams.setdefault(name, bytearray()).extend(data)
                if on_output is not None:
                    on_output(name, data)
            if exit_code is not None:
                return exit_code, bytes(streams["stdout"]), bytes(streams["stderr"])


def parse_receive(content: Element | None) -> tuple[list[tuple[str, bytes]], int | None]:
    """Return the chunks and the exit code of a ReceiveResponse. A state of Done without an exit code counts as 0.

    An answer may hold no stream elements at all while the command runs.
    """
    chunks = []
    exit_code: int | None = None
    for element in children(content, "Stream") if content is not None else []:
        if element.text:
            try:
                data = base64.b64decode("".join(element.text.split()), validate=True)
            except ValueError:
                raise ProtocolError("a stream of the answer is not base64") from None
            chunks.append((element.get("Name", ""), data))
    state = child(content, "CommandState")
    if state is not None and state.get("State", "").endswith("CommandState/Done"):
        text = child_text(state, "ExitCode").strip() or "0"
        if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 12:
            raise ProtocolError(f"the exit code is no number: {text[:20]!r}")
        exit_code = int(text) & 0xFFFFFFFF
    return chunks, exit_code
