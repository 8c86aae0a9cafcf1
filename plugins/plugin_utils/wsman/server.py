# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server: answers envelopes as Windows' WS-Management service does, from providers of CIM objects and of shells.

Used by the Windows PE agent and by the lab. It knows no sockets and no Windows: bytes in, status and bytes out. What is not in the
schema does not exist, so that a provider cannot offer what Windows lacks. Recorded behaviour: ws-management.md, sections 2, 4 and 5.
"""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, TypeVar
from xml.etree.ElementTree import Element

from . import envelope, faults, values, wql
from . import namespaces as ns
from .client import Identity
from .envelope import Header, Message, ProtocolError, child, child_text, children, escape, local_name
from .faults import FaultShape
from .schema import CimClass, Instance, Property, Reference, Schema, Value


_Result = TypeVar("_Result")


class CimError(Exception):
    """What a provider raises; ``wbem_code`` (``faults.WBEM_E_…``) decides the fault that goes out."""

    def __init__(self, wbem_code: int, message: str) -> None:
        super().__init__(message)
        self.wbem_code = wbem_code
        self.message = message


class CimProvider(Protocol):
    """CIM objects behind the server. Namespaces come with slashes in the schema's case, values typed by the schema.

    Methods are called from several threads. They raise CimError; any other exception becomes a fault 'provider failure'.
    A method ``query(namespace, query) -> Iterable[Instance]`` is used in place of ``instances`` where the provider has one: it may
    answer more than the query asks for, the server filters.
    """

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]: ...

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance: ...

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance: ...

    def create(self, namespace: str, instance: Instance) -> Reference: ...

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None: ...

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]: ...


@dataclass(frozen=True)
class ShellOptions:
    """How a shell was asked for. ``directory`` is '' where the client named none."""

    user: str
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    codepage: int = 437
    no_profile: bool = False


class RunningCommand(Protocol):
    """A command in a shell. ``exit_code`` is unsigned, None while it runs; set it only after the last output can be read."""

    @property
    def exit_code(self) -> int | None: ...

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        """Return output as (``stdout`` or ``stderr``, bytes), waiting up to ``timeout`` seconds for the first or the end."""
        ...

    def write(self, data: bytes, end: bool) -> None:
        """Write to stdin; ``end`` closes it. BrokenPipeError where the process has ended."""
        ...

    def terminate(self) -> None:
        """End the process tree; nothing happens where it has ended."""
        ...


class ShellSession(Protocol):
    """An open shell. ``start`` gets the text as received: what ``cmd /c`` makes of it is the provider's business."""

    def start(self, command_line: str) -> RunningCommand: ...

    def close(self) -> None: ...


class ShellProvider(Protocol):
    """Opens shells. OSError (with its Windows or POSIX number) becomes a fault with that code."""

    def open(self, options: ShellOptions) -> ShellSession: ...


@dataclass(frozen=True)
class Limits:
    """Windows' default limits (``winrm get winrm/config``). Sizes count as Windows does: two bytes a character.

    Times in seconds. ``None`` as ``max_shells_per_user`` would be no limit; Windows always has one.
    """

    max_envelope: int = 500 * 1024
    max_timeout: float = 60.0
    max_batch_items: int = 32000
    enumeration_timeout: float = 240.0
    max_operations_per_user: int = 1500
    max_shells_per_user: int = 30
    max_processes_per_shell: int = 25
    idle_timeout: float = 7200.0


class _Fault(Exception):
    """Leaves an operation with a fault to answer."""

    def __init__(self, shape: FaultShape) -> None:
        super().__init__(shape.reason)
        self.shape = shape


@dataclass
class _Enumeration:
    """What an enumeration still has to answer: rows encoded as they are pulled."""

    rows: Iterator[str]
    user: str
    expires: float
    pending: str | None = None


@dataclass
class _Command:
    """A command and what was read from it but did not fit the last answer."""

    running: RunningCommand
    leftover: list[tuple[str, bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    terminated: bool = False


@dataclass
class _Shell:
    """An open shell and its commands; ``operations`` counts all of them, as WinRS does not count down before the shell ends."""

    id: str
    session: ShellSession
    options: ShellOptions
    idle_timeout: float
    opened: float
    used: float
    commands: dict[str, _Command] = field(default_factory=dict)
    operations: int = 0
    active: int = 0


_WINDOWS_SHELL_ERROR = "Shell cmd plugin", r"%systemroot%\system32\winrscmd.dll"


class Server:
    """Answers WS-Management for one computer. Thread-safe: Receive waits inside ``handle``.

    Args:
        schema: the classes there are.
        cim: the objects.
        shells: None where the computer has no WinRS.
        identity: what Identify answers to who has authenticated.
        limits: Windows' defaults where not given.
        machine: the name in faults.
        clock: seconds, for expiry.
    """

    def __init__(
        self,
        schema: Schema,
        cim: CimProvider,
        *,
        shells: ShellProvider | None,
        identity: Identity,
        limits: Limits | None = None,
        machine: str = "localhost",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schema = schema
        self._cim = cim
        self._shell_provider = shells
        self._identity = identity
        self._limits = limits or Limits()
        self._machine = machine
        self._clock = clock
        self._lock = threading.Lock()
        self._enumerations: dict[str, _Enumeration] = {}
        self._shells: dict[str, _Shell] = {}
        self._active: dict[str, int] = {}

    # --- entry --------------------------------------------------------------------------------------------------------

    def identify_answer(self, authenticated: bool) -> bytes:
        """Return the IdentifyResponse; who has not authenticated does not learn the version."""
        version = self._identity.product_version
        if not authenticated:
            _, separator, stack = version.partition("Stack:")
            version = f"OS: 0.0.0 SP: 0.0 {separator}{stack}".rstrip()
        return (
            f'<s:Envelope xml:lang="en-US" xmlns:s="{ns.SOAP}"><s:Header/><s:Body>'
            f'<wsmid:IdentifyResponse xmlns:wsmid="{ns.IDENTITY}">'
            f"<wsmid:ProtocolVersion>{escape(self._identity.protocol_version)}</wsmid:ProtocolVersion>"
            f"<wsmid:ProductVendor>{escape(self._identity.product_vendor)}</wsmid:ProductVendor>"
            f"<wsmid:ProductVersion>{escape(version)}</wsmid:ProductVersion>"
            f"</wsmid:IdentifyResponse></s:Body></s:Envelope>"
        ).encode()

    def handle(self, body: bytes, *, user: str | None, content_type: str = "") -> tuple[int, bytes]:
        """Answer one request: HTTP status and body. ``user`` None is not authenticated: only Identify is answered, else 401."""
        relates_to = ""
        try:
            message = self._parse(body, content_type)
            relates_to = message.header.message_id
            if _is_identify(message):
                return 200, self.identify_answer(user is not None)
            if user is None:
                return 401, b""
            return 200, self._answer(message, user)
        except _Fault as fault:
            return 500, faults.build(fault.shape, relates_to, self._machine)
        except ProtocolError as error:
            return 500, faults.build(_bad_request(str(error)), relates_to, self._machine)

    def close(self) -> None:
        """End every shell and its commands, as a restart does."""
        with self._lock:
            shells, self._shells = list(self._shells.values()), {}
            self._enumerations.clear()
        for shell in shells:
            _end_shell(shell)

    def _parse(self, body: bytes, content_type: str) -> Message:
        if len(body) > self._limits.max_envelope:
            raise _Fault(
                FaultShape(
                    "The WS-Management service cannot process the request because the request size exceeded the configured "
                    f"MaxEnvelopeSize quota of {self._limits.max_envelope} bytes.",
                    faults.ENVELOPE_TOO_LARGE,
                    "w:EncodingLimit",
                    detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/ServiceEnvelopeLimit",
                )
            )
        return envelope.parse(body, envelope.charset(content_type))

    def _answer(self, message: Message, user: str) -> bytes:
        header = message.header
        if header.not_understood:
            name = header.not_understood[0]
            # Which number Windows gives here is not recorded; clients decide on the SOAP code.
            raise _Fault(FaultShape(f"The header {name} was not understood.", subcode="s:MustUnderstand", kind="plain"))
        if header.max_envelope is not None and header.max_envelope < 8192:
            raise _Fault(
                FaultShape(
                    "The MaxEnvelopeSize of the request is smaller than 8192 bytes.", 2150858790, "w:EncodingLimit"
                )
            )
        if header.operation_timeout is not None and header.operation_timeout <= 0:
            raise _Fault(_bad_request("the OperationTimeout is not greater than zero"))
        with self._operation(user):
            if header.resource_uri.lower().startswith(f"{ns.SHELL}/"):
                return self._answer_shell(message, user)
            return self._answer_cim(message, user)

    def _operation(self, user: str) -> _Operation:
        with self._lock:
            used = self._active.get(user.lower(), 0) + sum(
                shell.operations for shell in self._shells.values() if shell.options.user.lower() == user.lower()
            )
            if used >= self._limits.max_operations_per_user:
                raise _Fault(
                    _quota_fault(
                        faults.QUOTA_MAX_OPERATIONS,
                        f"This user is allowed a maximum number of {self._limits.max_operations_per_user} concurrent "
                        "operations, which has been exceeded. Close existing operations for this user, or raise the quota "
                        "for this user.",
                    )
                )
            self._active[user.lower()] = self._active.get(user.lower(), 0) + 1
        return _Operation(self._lock, self._active, user.lower())

    def _timeout(self, header: Header) -> float:
        """A longer or missing OperationTimeout counts as MaxTimeoutms (MS-WSMV 3.1.4.1.6)."""
        wanted = header.operation_timeout
        return self._limits.max_timeout if wanted is None else min(wanted, self._limits.max_timeout)

    def _room(self, header: Header) -> int:
        """Characters that an answer may have: sizes count as UTF-16."""
        wanted = header.max_envelope or 153600
        return min(wanted, self._limits.max_envelope) // 2

    # --- CIM ----------------------------------------------------------------------------------------------------------

    def _answer_cim(self, message: Message, user: str) -> bytes:
        header = message.header
        operations = {
            ns.ACTION_GET: self._get,
            ns.ACTION_PUT: self._put,
            ns.ACTION_CREATE: self._create,
            ns.ACTION_DELETE: self._delete,
        }
        try:
            if header.action == ns.ACTION_ENUMERATE:
                return self._enumerate(message, user)
            if header.action == ns.ACTION_PULL:
                return self._pull(message, user)
            if header.action == ns.ACTION_RELEASE:
                return self._release(message)
            if header.action in operations:
                if header.resource_uri.lower() == ns.CONFIG and header.action == ns.ACTION_GET:
                    body = _config(self._limits)
                else:
                    cim_class = self._class(header)
                    body = operations[header.action](message, cim_class)
                return self._finish(f"{header.action}Response", header, body)
            return self._invoke(message)
        except CimError as error:
            raise _Fault(_cim_fault(error)) from None

    def _finish(self, action: str, header: Header, body: str) -> bytes:
        answer = envelope.build_answer(action, header.message_id, body)
        if len(answer) > self._room(header) * 2:
            raise _Fault(
                FaultShape(
                    "The response that the WS-Management service computed exceeds the maximum envelope size in the request.",
                    2150858824,
                    "w:EncodingLimit",
                )
            )
        return answer

    def _class(self, header: Header) -> CimClass:
        found = ns.parse_class_uri(header.resource_uri)
        if found is None:
            raise _Fault(_destination_unreachable(header.resource_uri))
        namespace, class_name = found
        cim_class = self._schema.find(namespace, class_name)
        if cim_class is None:
            raise CimError(*self._missing(namespace, class_name))
        return cim_class

    def _missing(self, namespace: str, class_name: str) -> tuple[int, str]:
        if any(known.namespace.lower() == namespace.lower() for known in self._schema):
            return faults.WBEM_E_INVALID_CLASS, f"The class {class_name} does not exist in the namespace {namespace}."
        return faults.WBEM_E_INVALID_NAMESPACE, f"The namespace {namespace} does not exist."

    def _get(self, message: Message, cim_class: CimClass) -> str:
        selectors = _selectors(message.header, cim_class)
        found = _call(self._cim.get, cim_class.namespace, cim_class.name, selectors)
        shown = _shown(found, cim_class, self._schema)
        return values.encode_instance(shown, self._types(shown, cim_class), self._schema, cim_class.namespace)

    def _types(self, instance: Instance, cim_class: CimClass) -> CimClass:
        return self._schema.find(instance.namespace or cim_class.namespace, instance.class_name) or cim_class

    def _put(self, message: Message, cim_class: CimClass) -> str:
        instance = self._decode_body(message, cim_class)
        selectors = _selectors(message.header, cim_class)
        written = _call(self._cim.put, cim_class.namespace, instance, selectors)
        return values.encode_instance(
            _shown(written, cim_class, self._schema), cim_class, self._schema, cim_class.namespace
        )

    def _create(self, message: Message, cim_class: CimClass) -> str:
        instance = self._decode_body(message, cim_class)
        reference = _call(self._cim.create, cim_class.namespace, instance)
        return f"<x:ResourceCreated>{values.encode_reference(reference, cim_class.namespace)}</x:ResourceCreated>"

    def _decode_body(self, message: Message, cim_class: CimClass) -> Instance:
        content = message.content
        if content is None:
            raise ProtocolError("the body is empty where an instance is needed")
        _refuse_unknown(content, cim_class)
        found = values.decode_properties(content, cim_class.properties, self._schema, cim_class.namespace)
        return Instance(cim_class.name, found, cim_class.namespace)

    def _delete(self, message: Message, cim_class: CimClass) -> str:
        _call(self._cim.delete, cim_class.namespace, cim_class.name, _selectors(message.header, cim_class))
        return ""

    def _invoke(self, message: Message) -> bytes:
        header = message.header
        uri, _, name = header.action.rpartition("/")
        if uri.lower() != header.resource_uri.lower():
            raise _Fault(
                FaultShape(
                    "The action is not supported by the service.",
                    2150858753,
                    "a:ActionNotSupported",
                    detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidActionURI",
                )
            )
        cim_class = self._class(header)
        method = cim_class.find_method(name)
        if method is None:
            raise CimError(faults.WBEM_E_INVALID_METHOD, f"The class {cim_class.name} has no method {name}.")
        arguments = self._arguments(message.content, cim_class, method.name, method.inputs)
        selectors = None if method.static else _selectors(header, cim_class)
        result = _call(self._cim.invoke, cim_class.namespace, cim_class.name, method.name, selectors, arguments)
        outputs = (*method.outputs, values.RETURN_VALUE)
        body = values.encode_parameters(
            f"{method.name}_OUTPUT", header.resource_uri, result, outputs, self._schema, cim_class.namespace
        )
        return self._finish(f"{header.action}Response", header, body)

    def _arguments(
        self, content: Element | None, cim_class: CimClass, name: str, inputs: tuple[Property, ...]
    ) -> dict[str, Value]:
        """Decode a method's parameters; those that were not sent are not in the result."""
        if content is None:
            return {}
        if local_name(content.tag).lower() != f"{name}_INPUT".lower():
            raise ProtocolError(f"the body holds {local_name(content.tag)[:60]}, not {name}_INPUT")
        known = {p.name.lower() for p in inputs}
        for item in content:
            if local_name(item.tag).lower() not in known:
                raise CimError(
                    faults.WBEM_E_INVALID_PARAMETER,
                    f"The method {name} of {cim_class.name} has no parameter {local_name(item.tag)}.",
                )
        return values.decode_properties(content, inputs, self._schema, cim_class.namespace)

    # --- enumeration --------------------------------------------------------------------------------------------------

    def _enumerate(self, message: Message, user: str) -> bytes:
        header = message.header
        request = message.content
        if request is None or local_name(request.tag) != "Enumerate":
            raise ProtocolError("the body holds no Enumerate")
        enumeration = _Enumeration(self._rows(header, request), user, self._clock() + self._limits.enumeration_timeout)
        optimised = child(request, "OptimizeEnumeration") is not None
        items = []
        if optimised:
            # Windows answers exactly one item first, whatever MaxElements says (recorded on 2008 R2 and 2012).
            first = self._next(enumeration)
            if first is not None:
                items.append(first)
        enumeration.pending = self._next(enumeration)
        done = optimised and enumeration.pending is None
        context = "" if done else self._keep(enumeration)
        shown = f"<w:Items>{''.join(items)}</w:Items>" if items else ("<w:Items/>" if optimised else "")
        body = (
            f"<n:EnumerateResponse><n:EnumerationContext>{context}</n:EnumerationContext>{shown}"
            f"{'<w:EndOfSequence/>' if done else ''}</n:EnumerateResponse>"
        )
        return self._finish(f"{ns.ACTION_ENUMERATE}Response", header, body)

    def _next(self, enumeration: _Enumeration) -> str | None:
        try:
            return next(enumeration.rows, None)
        except (CimError, ProtocolError, _Fault):
            raise
        except Exception as error:
            _provider_failure(error)

    def _keep(self, enumeration: _Enumeration) -> str:
        context = f"uuid:{str(uuid.uuid4()).upper()}"
        enumeration.expires = self._clock() + self._limits.enumeration_timeout
        with self._lock:
            now = self._clock()
            for old in [key for key, kept in self._enumerations.items() if kept.expires < now]:
                del self._enumerations[old]
            self._enumerations[context] = enumeration
        return context

    def _rows(self, header: Header, request: Element) -> Iterator[str]:
        found = ns.parse_class_uri(header.resource_uri)
        if found is None:
            raise _Fault(_destination_unreachable(header.resource_uri))
        namespace, class_name = found
        query = self._filter(request, class_name)
        cim_class = self._schema.find(namespace, query.class_name)
        if cim_class is None:
            code, text = self._missing(namespace, query.class_name)
            if class_name == "*":
                raise _Fault(_filter_fault(text, code))
            raise CimError(code, text)
        for name in query.names:
            if cim_class.find_property(name) is None and not name.startswith("__"):
                raise _Fault(
                    _filter_fault(f"The class {cim_class.name} has no property {name}.", faults.WBEM_E_INVALID_QUERY)
                )
        mode = child_text(request, "EnumerationMode").strip()
        return self._encode_rows(self._matching(cim_class, query), cim_class, query, mode)

    def _filter(self, request: Element, class_name: str) -> wql.Query:
        given = child(request, "Filter")
        if given is None:
            if class_name == "*":
                raise _Fault(
                    _filter_fault("A query over a whole namespace needs a filter.", faults.WBEM_E_INVALID_QUERY)
                )
            return wql.Query(class_name)
        dialect = given.get("Dialect", "")
        if dialect.lower() != ns.WQL_DIALECT.lower():
            raise _Fault(
                FaultShape(
                    "The requested filtering dialect is not supported.",
                    2150858777,
                    "n:FilterDialectRequestedUnavailable",
                )
            )
        if class_name != "*":
            raise _Fault(
                FaultShape(
                    "The resource URI for an enumeration with a WQL filter must not contain a class name, but '*'.",
                    2150859002,
                    "w:InvalidParameter",
                )
            )
        try:
            return wql.parse(given.text or "")
        except wql.WqlError as error:
            raise _Fault(_filter_fault(str(error), faults.WBEM_E_INVALID_QUERY)) from None

    def _matching(self, cim_class: CimClass, query: wql.Query) -> Iterator[Instance]:
        hook = getattr(self._cim, "query", None)
        if hook is not None:
            found = _call(hook, cim_class.namespace, query)
        else:
            found = _call(self._cim.instances, cim_class.namespace, cim_class.name)
        return (instance for instance in found if query.matches(instance.properties))

    def _encode_rows(
        self, instances: Iterator[Instance], cim_class: CimClass, query: wql.Query, mode: str
    ) -> Iterator[str]:
        for instance in instances:
            shown = _shown(instance, cim_class, self._schema)
            types = self._types(shown, cim_class)
            if query.columns is not None:
                row = values.encode_fragment(query.columns, shown, types, self._schema)
            else:
                row = values.encode_instance(shown, types, self._schema, cim_class.namespace)
            if mode in ("EnumerateEPR", "EnumerateObjectAndEPR"):
                keys = {p.name: values.selector_text(shown[p.name]) for p in cim_class.keys}
                reference = Reference(shown.class_name, cim_class.namespace, keys)
                epr = f"<a:EndpointReference>{values.encode_reference(reference)}</a:EndpointReference>"
                row = epr if mode == "EnumerateEPR" else f"<w:Item>{row}{epr}</w:Item>"
            yield row

    def _pull(self, message: Message, user: str) -> bytes:
        header = message.header
        request = message.content
        context = child_text(request, "EnumerationContext").strip()
        with self._lock:
            # A context is good once: every page answers a new one.
            enumeration = self._enumerations.pop(context, None)
        if enumeration is None or enumeration.expires < self._clock() or enumeration.user.lower() != user.lower():
            raise _Fault(
                FaultShape(
                    "The supplied enumeration context is invalid.",
                    faults.INVALID_ENUMERATION_CONTEXT,
                    "n:InvalidEnumerationContext",
                )
            )
        items = self._page(enumeration, _max_elements(request, self._limits), self._room(header))
        done = enumeration.pending is None
        body = (
            f"<n:PullResponse>{'' if done else f'<n:EnumerationContext>{self._keep(enumeration)}</n:EnumerationContext>'}"
            f"<n:Items>{''.join(items)}</n:Items>{'<n:EndOfSequence/>' if done else ''}</n:PullResponse>"
        )
        return self._finish(f"{ns.ACTION_PULL}Response", header, body)

    def _page(self, enumeration: _Enumeration, count: int, room: int) -> list[str]:
        items: list[str] = []
        size = 1200  # the envelope around the items
        while enumeration.pending is not None and len(items) < count:
            size += len(enumeration.pending)
            if items and size > room:
                break
            items.append(enumeration.pending)
            enumeration.pending = self._next(enumeration)
        return items

    def _release(self, message: Message) -> bytes:
        context = child_text(message.content, "EnumerationContext").strip()
        with self._lock:
            self._enumerations.pop(context, None)
        return self._finish(f"{ns.ACTION_RELEASE}Response", message.header, "")

    # --- WinRS --------------------------------------------------------------------------------------------------------

    def _answer_shell(self, message: Message, user: str) -> bytes:
        header = message.header
        if header.resource_uri.lower() != ns.CMD_SHELL or self._shell_provider is None:
            raise _Fault(_destination_unreachable(header.resource_uri))
        self._end_idle_shells()
        if header.action == ns.ACTION_CREATE:
            return self._open_shell(message, user, self._shell_provider)
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
            raise _Fault(FaultShape("The action is not supported by the service.", 2150858753, "a:ActionNotSupported"))
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
            raise _Fault(
                _unexpected_selectors(
                    "The request for the Windows Remote Shell with ShellId "
                    f"{wanted[:60]} failed because the shell was not found on the server. Possible causes are: the specified "
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
        idle_timeout = (
            min(envelope.parse_duration(idle), self._limits.idle_timeout) if idle else self._limits.idle_timeout
        )
        with self._lock:
            owned = sum(1 for shell in self._shells.values() if shell.options.user.lower() == user.lower())
        if owned >= self._limits.max_shells_per_user:
            raise _Fault(
                _quota_fault(
                    faults.QUOTA_MAX_SHELLS,
                    f"This user is allowed a maximum number of {self._limits.max_shells_per_user} concurrent shells, which has "
                    "been exceeded. Close existing shells or raise the quota for this user.",
                )
            )
        try:
            session = provider.open(options)
        except OSError as error:
            raise _Fault(_shell_error(error)) from None
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
        return self._finish(f"{ns.ACTION_CREATE}Response", header, body)

    def _shell_element(self, shell: _Shell) -> str:
        now = self._clock()
        directory = shell.options.directory
        return (
            f'<rsp:Shell xmlns:rsp="{ns.SHELL}"><rsp:ShellId>{shell.id}</rsp:ShellId>'
            f"<rsp:ResourceUri>{ns.CMD_SHELL}</rsp:ResourceUri><rsp:Owner>{escape(shell.options.user)}</rsp:Owner>"
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
        return self._finish(f"{ns.ACTION_ENUMERATE}Response", header, body)

    def _get_shell(self, message: Message, shell: _Shell) -> bytes:
        return self._finish(f"{ns.ACTION_GET}Response", message.header, self._shell_element(shell))

    def _delete_shell(self, message: Message, shell: _Shell) -> bytes:
        with self._lock:
            self._shells.pop(shell.id, None)
        _end_shell(shell)
        return self._finish(f"{ns.ACTION_DELETE}Response", message.header, "")

    def _command(self, message: Message, shell: _Shell) -> bytes:
        content = message.content
        if content is None or local_name(content.tag) != "CommandLine":
            raise ProtocolError("the body holds no CommandLine")
        # Arguments are joined by blanks and nothing is quoted; WINRS_SKIP_CMD_SHELL is ignored, as since Windows 2012.
        line = " ".join([child_text(content, "Command"), *(item.text or "" for item in children(content, "Arguments"))])
        with self._lock:
            if len(shell.commands) >= self._limits.max_processes_per_shell:
                raise _Fault(
                    _quota_fault(
                        0x803381A8,
                        "The maximum number of concurrent processes in this shell has been exceeded. End processes or raise "
                        "the quota MaxProcessesPerShell.",
                    )
                )
        try:
            running = shell.session.start(line)
        except OSError as error:
            raise _Fault(_shell_error(error)) from None
        # A client may choose the id (psrp does); pywinrm and this project's client do not.
        command_id = (content.get("CommandId") or str(uuid.uuid4())).upper()
        with self._lock:
            shell.commands[command_id] = _Command(running)
            shell.operations += 1
        body = (
            f'<rsp:CommandResponse xmlns:rsp="{ns.SHELL}"><rsp:CommandId>{escape(command_id)}</rsp:CommandId>'
            f"</rsp:CommandResponse>"
        )
        return self._finish(f"{ns.ACTION_COMMAND}Response", message.header, body)

    def _find_command(self, element: Element | None, shell: _Shell) -> tuple[str, _Command]:
        command_id = (element.get("CommandId", "") if element is not None else "").strip()
        if not command_id:
            raise _Fault(_parameter_fault())
        with self._lock:
            command = shell.commands.get(command_id.upper())
        if command is None:
            raise _Fault(
                _unexpected_selectors(
                    "The Windows Remote Shell received a request to perform an operation on a command identifier that does not "
                    "exist. Either the command has completed execution or the client specified an invalid command identifier."
                )
            )
        return command_id, command

    def _send(self, message: Message, shell: _Shell) -> bytes:
        for stream in children(message.content, "Stream") if message.content is not None else []:
            _, command = self._find_command(stream, shell)
            try:
                data = base64.b64decode("".join((stream.text or "").split()), validate=True)
            except ValueError:
                raise ProtocolError("the stream is not base64") from None
            try:
                command.running.write(data, stream.get("End", "").strip().lower() == "true")
            except BrokenPipeError:
                raise _Fault(
                    FaultShape(
                        "The pipe has been ended.",
                        109,
                        "w:InternalError",
                        sender=False,
                        kind="provider",
                        provider=_WINDOWS_SHELL_ERROR[0],
                        provider_path=_WINDOWS_SHELL_ERROR[1],
                    )
                ) from None
        return self._finish(f"{ns.ACTION_SEND}Response", message.header, f'<rsp:SendResponse xmlns:rsp="{ns.SHELL}"/>')

    def _receive(self, message: Message, shell: _Shell) -> bytes:
        header = message.header
        command_id, command = self._find_command(child(message.content, "DesiredStream"), shell)
        room = max(1024, (self._room(header) - 2048) * 3 // 4)
        deadline = time.monotonic() + self._timeout(header)
        with command.lock:
            chunks, exit_code = _wait_for_output(command, deadline, room)
        if not chunks and exit_code is None:
            if command.terminated:
                raise _Fault(
                    FaultShape(
                        "The I/O operation has been aborted because of either a thread exit or an application request.",
                        faults.OPERATION_ABORTED,
                        sender=False,
                    )
                )
            raise _Fault(_timed_out())
        return self._finish(
            f"{ns.ACTION_RECEIVE}Response", header, _receive_body(escape(command_id), chunks, exit_code)
        )

    def _signal(self, message: Message, shell: _Shell) -> bytes:
        command_id, command = self._find_command(message.content, shell)
        code = child_text(message.content, "Code").strip().rpartition("/")[2].lower()
        if code not in ("terminate", "ctrl_c", "ctrl_break"):
            raise _Fault(_parameter_fault())
        command.terminated = True
        command.running.terminate()
        if code == "terminate":
            with self._lock:
                shell.commands.pop(command_id.upper(), None)
        return self._finish(
            f"{ns.ACTION_SIGNAL}Response", message.header, f'<rsp:SignalResponse xmlns:rsp="{ns.SHELL}"/>'
        )


class _Operation:
    """Counts a running operation of a user, whatever way it ends."""

    def __init__(self, lock: threading.Lock, active: dict[str, int], user: str) -> None:
        self._lock = lock
        self._active = active
        self._user = user

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._active[self._user] -= 1
            if not self._active[self._user]:
                del self._active[self._user]


# --- helpers ----------------------------------------------------------------------------------------------------------


def _is_identify(message: Message) -> bool:
    # By local name: pypsrp spells the namespace differently from everybody else.
    return message.content is not None and local_name(message.content.tag) == "Identify"


def _call(function: Callable[..., _Result], *arguments: object) -> _Result:
    try:
        return function(*arguments)
    except (CimError, ProtocolError):
        raise
    except Exception as error:
        _provider_failure(error)


def _provider_failure(error: Exception) -> NoReturn:
    raise CimError(faults.WBEM_E_FAILED, f"The provider failed: {type(error).__name__}: {error}") from error


def _selectors(header: Header, cim_class: CimClass) -> dict[str, str]:
    """Return the keys in the schema's case. Windows faults selectors that the class does not have."""
    found = {}
    for name, value in header.selectors.items():
        if name.lower() == "__cimnamespace":
            continue
        known = cim_class.find_property(name)
        if known is None or not (known.key or not cim_class.keys):
            raise _Fault(_unexpected_selectors("The request contained invalid selectors for the resource."))
        found[known.name] = value
    return found


def _refuse_unknown(content: Element, cim_class: CimClass) -> None:
    for item in content:
        if cim_class.find_property(local_name(item.tag)) is None:
            raise CimError(
                faults.WBEM_E_INVALID_PARAMETER, f"The class {cim_class.name} has no property {local_name(item.tag)}."
            )


def _shown(instance: Instance, cim_class: CimClass, schema: Schema) -> Instance:
    """Drop what the schema does not have: a provider must not be kinder than Windows. A subclass keeps its own properties."""
    own = schema.find(instance.namespace or cim_class.namespace, instance.class_name)
    if own is None:
        return instance
    kept = {}
    for name, value in instance.properties.items():
        known = own.find_property(name) or cim_class.find_property(name)
        if known is not None:
            kept[known.name] = value
    return Instance(own.name, kept, instance.namespace or cim_class.namespace)


def _max_elements(request: Element | None, limits: Limits) -> int:
    """A Pull without MaxElements asks for one item."""
    text = child_text(request, "MaxElements").strip()
    if not text:
        return 1
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) < 1:
        raise ProtocolError("MaxElements is no number greater than zero")
    return min(int(text), limits.max_batch_items)


def _shell_options(header: Header, content: Element, user: str) -> ShellOptions:
    options = {name.upper(): value.strip() for name, value in header.options.items()}
    codepage = options.get("WINRS_CODEPAGE", "437")
    if not codepage.isascii() or not codepage.isdigit() or len(codepage) > 5:
        raise _Fault(_parameter_fault())
    environment = child(content, "Environment")
    variables = {
        item.get("Name", ""): item.text or ""
        for item in (environment if environment is not None else ())
        if item.get("Name")
    }
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
            if not chunks:
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
        streams += "".join(
            f'<rsp:Stream Name="{name}" CommandId="{command_id}" End="true"></rsp:Stream>'
            for name in ("stdout", "stderr")
        )
        state = (
            f'<rsp:CommandState CommandId="{command_id}" State="{ns.COMMAND_DONE}">'
            f"<rsp:ExitCode>{exit_code & 0xFFFFFFFF}</rsp:ExitCode></rsp:CommandState>"
        )
    return f'<rsp:ReceiveResponse xmlns:rsp="{ns.SHELL}">{streams}{state}</rsp:ReceiveResponse>'


def _days(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"P{whole // 86400}DT{whole // 3600 % 24}H{whole // 60 % 60}M{whole % 60}S"


def _config(limits: Limits) -> str:
    """The part of ``winrm get winrm/config`` that tells limits."""
    return (
        f'<cfg:Config xmlns:cfg="{ns.CONFIG}"><cfg:MaxEnvelopeSizekb>{limits.max_envelope // 1024}</cfg:MaxEnvelopeSizekb>'
        f"<cfg:MaxTimeoutms>{int(limits.max_timeout * 1000)}</cfg:MaxTimeoutms>"
        f"<cfg:MaxBatchItems>{limits.max_batch_items}</cfg:MaxBatchItems>"
        f"<cfg:MaxProviderRequests>4294967295</cfg:MaxProviderRequests>"
        f"<cfg:Service><cfg:MaxConcurrentOperationsPerUser>{limits.max_operations_per_user}"
        f"</cfg:MaxConcurrentOperationsPerUser>"
        f"<cfg:EnumerationTimeoutms>{int(limits.enumeration_timeout * 1000)}</cfg:EnumerationTimeoutms></cfg:Service>"
        f"<cfg:Winrs><cfg:AllowRemoteShellAccess>true</cfg:AllowRemoteShellAccess>"
        f"<cfg:IdleTimeout>{int(limits.idle_timeout * 1000)}</cfg:IdleTimeout>"
        f"<cfg:MaxProcessesPerShell>{limits.max_processes_per_shell}</cfg:MaxProcessesPerShell>"
        f"<cfg:MaxShellsPerUser>{limits.max_shells_per_user}</cfg:MaxShellsPerUser></cfg:Winrs></cfg:Config>"
    )


# --- faults -----------------------------------------------------------------------------------------------------------


def _bad_request(text: str) -> FaultShape:
    return FaultShape(
        "The WS-Management service cannot process the request because it is not valid.",
        faults.INVALID_HEADER,
        "w:SchemaValidationError",
        message=text,
    )


def _destination_unreachable(uri: str) -> FaultShape:
    return FaultShape(
        "The WS-Management service cannot process the request. The resource URI is missing or it has an incorrect format.",
        2150858754,
        "a:DestinationUnreachable",
        message=f"The resource URI {uri[:200]!r} is not served here.",
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidResourceURI",
    )


def _timed_out() -> FaultShape:
    return FaultShape(
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
        faults.OPERATION_TIMEDOUT,
        "w:TimedOut",
        sender=False,
    )


def _unexpected_selectors(message: str) -> FaultShape:
    return FaultShape(
        "The WS-Management service cannot process the request because the request contained invalid selectors for the resource. ",
        faults.UNEXPECTED_SELECTORS,
        "w:InvalidSelectors",
        message=message,
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/UnexpectedSelectors",
    )


def _parameter_fault() -> FaultShape:
    return FaultShape(
        "The parameter is incorrect. ",
        faults.INVALID_PARAMETER,
        "w:InvalidParameter",
        kind="provider",
        provider=_WINDOWS_SHELL_ERROR[0],
        provider_path=_WINDOWS_SHELL_ERROR[1],
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidValue",
    )


def _shell_error(error: OSError) -> FaultShape:
    """A Win32 error of the shell as HRESULT: 2 is 0x80070002, as recorded."""
    number = getattr(error, "winerror", None) or error.errno or 0
    return FaultShape(
        error.strerror or str(error),
        0x80070000 | (number & 0xFFFF),
        "w:InternalError",
        sender=False,
        kind="provider",
        provider=_WINDOWS_SHELL_ERROR[0],
        provider_path=_WINDOWS_SHELL_ERROR[1],
    )


def _quota_fault(code: int, message: str) -> FaultShape:
    return FaultShape(
        f"The WS-Management service cannot process the request. {message}",
        code,
        "w:QuotaLimit",
        kind="wmi",
        message=f"The WS-Management service cannot process the request. {message}",
        cim_status=27,
    )


def _filter_fault(message: str, wbem_code: int) -> FaultShape:
    """Windows answers CANNOT_PROCESS_FILTER outside and inside for a class that is not there (recorded on 2008 R2)."""
    nested = wbem_code if wbem_code == faults.WBEM_E_INVALID_NAMESPACE else faults.CANNOT_PROCESS_FILTER
    return FaultShape(
        "The data source could not process the filter. The filter might be missing or it might be invalid. Change the filter "
        "and try the request again.  ",
        faults.CANNOT_PROCESS_FILTER,
        "n:CannotProcessFilter",
        kind="provider",
        message=message,
        nested_code=nested,
    )


def _cim_fault(error: CimError) -> FaultShape:
    """Turn a provider's error into the shape that Windows gives it.

    What is not there is RESOURCE_NOT_FOUND around the provider's own code; everything else comes as MSFT_WmiError.
    """
    code = error.wbem_code & 0xFFFFFFFF
    if code in (faults.WBEM_E_NOT_FOUND, faults.WBEM_E_INVALID_CLASS, faults.WBEM_E_INVALID_NAMESPACE):
        return FaultShape(
            "The WS-Management service cannot process the request. The service cannot find the resource identified by the "
            "resource URI and selectors. ",
            faults.RESOURCE_NOT_FOUND,
            "a:DestinationUnreachable",
            kind="provider",
            message=error.message,
            nested_code=faults.RESOURCE_NOT_FOUND if code == faults.WBEM_E_NOT_FOUND else code,
        )
    return FaultShape(
        error.message,
        code,
        "w:InternalError",
        sender=False,
        kind="wmi",
        message=error.message,
        cim_status=faults.CIM_STATUS.get(code, 1),
    )
