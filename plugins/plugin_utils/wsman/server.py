# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server: answers envelopes as Windows' WS-Management service does, from providers of CIM objects and of shells.

Used by the Windows PE agent and by the lab. It knows no sockets and no Windows: bytes in, status and bytes out. What
is not in the schema does not exist, so that a provider cannot offer what Windows lacks. Recorded behaviour:
ws-management.md, sections 2, 4 and 5.
"""

from __future__ import annotations

import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar
from xml.etree.ElementTree import Element

from . import envelope, faults, values, wql
from . import namespaces as ns
from .client import Identity
from .envelope import Header, HeaderError, Message, ProtocolError, child, child_text, escape, local_name
from .faults import FaultShape
from .schema import CimClass, Instance, Property, Reference, Schema, Value
from .server_base import Limits, RefusedRequest, answer, room, timeout
from .server_faults import (
    CimError,
    bad_request,
    cim_fault,
    destination_unreachable,
    filter_fault,
    insufficient_selectors,
    internal_error,
    quota_fault,
    timed_out,
    unexpected_selectors,
)
from .server_shells import RunningCommand, ShellOptions, ShellProvider, ShellService, ShellSession

__all__ = [
    "CimError",
    "CimProvider",
    "Limits",
    "RunningCommand",
    "Server",
    "ShellOptions",
    "ShellProvider",
    "ShellSession",
]

_Result = TypeVar("_Result")
_ASSOCIATION = re.compile(r"(?:ASSOCIATORS|REFERENCES)\s+OF\b", re.IGNORECASE)


class CimProvider(Protocol):
    """CIM objects behind the server. Namespaces come with slashes in the schema's case, values typed by the schema.

    Methods are called from several threads. They raise CimError; any other exception becomes a fault 'provider
    failure'. A method ``query(namespace, query) -> Iterable[Instance]`` is used in place of ``instances`` where the
    provider has one: it may answer more than the query asks for, the server filters. One with a method
    ``query_text(namespace, text) -> list[Instance]`` is asked for associations with the text itself.
    """

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances of a class, subclasses included."""

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return the instance with these keys; none for a singleton."""

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance:
        """Write the properties given and return the instance as it is then."""

    def create(self, namespace: str, instance: Instance) -> Reference:
        """Create an instance and return the reference to it."""

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None:
        """Delete the instance with these keys."""

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        """Call a method; ``selectors`` is None for a static one. Return outputs and ``ReturnValue``."""


@dataclass
class _Enumeration:
    """What an enumeration still has to answer: rows encoded as they are pulled."""

    rows: Iterator[str]
    user: str
    expires: float
    pending: str | None = None


class Server:
    """Answers WS-Management for one computer. Thread-safe: Receive waits inside ``handle``.

    Args:
        schema: the classes there are.
        cim: the objects.
        shells: None where the computer has no WinRS.
        identity: what Identify answers to who has authenticated.
        limits: Windows' defaults where not given.
        machine: the name in faults.
        whole_pages: fill the first page of an optimised enumeration as every other one. Windows never does; the agent does.
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
        whole_pages: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schema = schema
        self._whole_pages = whole_pages
        self._cim = cim
        self._identity = identity
        self._limits = limits or Limits()
        self._shells = ShellService(shells, self._limits, clock)
        self._machine = machine
        self._clock = clock
        self._lock = threading.Lock()
        self._enumerations: dict[str, _Enumeration] = {}
        self._active: dict[str, int] = {}

    # --- entry --------------------------------------------------------------------------------------------------------

    def identify_answer(self, authenticated: bool) -> bytes:
        """Return the IdentifyResponse; who has not authenticated does not learn the version."""
        version = self._identity.product_version
        if not authenticated:
            dummy, separator, stack = version.partition("Stack:")
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
        """Answer one request: HTTP status and body.

        ``user`` None has not authenticated: only Identify is answered then, everything else with 401.
        """
        relates_to = ""
        try:
            message = self._parse(body, content_type)
            relates_to = message.header.message_id
            if _is_identify(message):
                return 200, self.identify_answer(user is not None)
            if user is None:
                return 401, b""
            return 200, self._answer(message, user)
        except RefusedRequest as fault:
            return 500, faults.build(fault.shape, relates_to, self._machine)
        except ProtocolError as error:
            return 500, faults.build(bad_request(error), relates_to, self._machine)
        except Exception as error:  # the service answers on, whatever a provider does
            return 500, faults.build(internal_error(error), relates_to, self._machine)

    def close(self) -> None:
        """End every shell and its commands, as a restart does."""
        with self._lock:
            self._enumerations.clear()
        self._shells.close()

    def _parse(self, body: bytes, content_type: str) -> Message:
        if len(body) > self._limits.max_envelope:
            raise RefusedRequest(
                FaultShape(
                    "The WS-Management service cannot process the request because the request size exceeded "
                    "the configured "
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
            raise RefusedRequest(FaultShape(f"The header {name} was not understood.", subcode="s:MustUnderstand", kind="plain"))
        if header.max_envelope is not None and header.max_envelope < 8192:
            raise RefusedRequest(
                FaultShape("The MaxEnvelopeSize of the request is smaller than 8192 bytes.", 2150858790, "w:EncodingLimit")
            )
        if header.operation_timeout is not None and header.operation_timeout <= 0:
            raise HeaderError("The XML contains an invalid timeout field in the SOAP header.")
        with self._operation(user):
            if header.resource_uri.lower().startswith(f"{ns.SHELL}/"):
                return self._shells.handle(message, user)
            return self._answer_cim(message, user)

    def _operation(self, user: str) -> _Operation:
        in_shells = self._shells.operations_of(user)
        with self._lock:
            used = self._active.get(user.lower(), 0) + in_shells
            if used >= self._limits.max_operations_per_user:
                raise RefusedRequest(
                    quota_fault(
                        faults.QUOTA_MAX_OPERATIONS,
                        f"This user is allowed a maximum number of {self._limits.max_operations_per_user} concurrent "
                        "operations, which has been exceeded. Close existing operations for this user, or "
                        "raise the quota "
                        "for this user.",
                    )
                )
            self._active[user.lower()] = self._active.get(user.lower(), 0) + 1
        return _Operation(self._lock, self._active, user.lower())

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
                return answer(header.action, header, body, self._limits)
            return self._invoke(message)
        except CimError as error:
            raise RefusedRequest(cim_fault(error)) from None

    def _class(self, header: Header) -> CimClass:
        found = ns.parse_class_uri(header.resource_uri)
        if found is None:
            raise RefusedRequest(destination_unreachable(header.resource_uri))
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
        return values.encode_instance(_shown(written, cim_class, self._schema), cim_class, self._schema, cim_class.namespace)

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
        uri, dummy, name = header.action.rpartition("/")
        if uri.lower() != header.resource_uri.lower():
            raise RefusedRequest(
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
        result = self._in_time(
            header,
            lambda: self._cim.invoke(cim_class.namespace, cim_class.name, method.name, selectors, arguments),
        )
        outputs = (*method.outputs, values.RETURN_VALUE)
        body = values.encode_parameters(f"{method.name}_OUTPUT", header.resource_uri, result, outputs, self._schema, cim_class.namespace)
        return answer(header.action, header, body, self._limits)

    def _in_time(self, header: Header, work: Callable[[], _Result]) -> _Result:
        """Wait for a method as long as OperationTimeout allows. It runs on after the fault: the outcome is unknown."""
        outcome: queue.SimpleQueue[Callable[[], _Result]] = queue.SimpleQueue()

        def run() -> None:
            try:
                result = _call(work)
            except Exception as error:
                outcome.put(_raiser(error))
            else:
                outcome.put(lambda: result)

        threading.Thread(target=run, name="wsman-invoke", daemon=True).start()
        try:
            # A second more: a method that waits for its caller's whole timeout is in time.
            finished = outcome.get(timeout=timeout(header, self._limits) + 1)
        except queue.Empty:
            raise RefusedRequest(timed_out()) from None
        return finished()

    def _arguments(self, content: Element | None, cim_class: CimClass, name: str, inputs: tuple[Property, ...]) -> dict[str, Value]:
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
        items: list[str] = []
        enumeration.pending = self._next(enumeration)
        if optimised:
            # Windows answers exactly one item first, whatever MaxElements says (recorded on 2008 R2 and 2012).
            count = _max_elements(request, self._limits) if self._whole_pages else 1
            items = self._page(enumeration, count, room(header, self._limits))
        done = optimised and enumeration.pending is None
        context = "" if done else self._keep(enumeration)
        shown = f"<w:Items>{''.join(items)}</w:Items>" if items else ("<w:Items/>" if optimised else "")
        body = (
            f"<n:EnumerateResponse><n:EnumerationContext>{context}</n:EnumerationContext>{shown}"
            f"{'<w:EndOfSequence/>' if done else ''}</n:EnumerateResponse>"
        )
        return answer(ns.ACTION_ENUMERATE, header, body, self._limits)

    def _next(self, enumeration: _Enumeration) -> str | None:
        try:
            return next(enumeration.rows, None)
        except (CimError, ProtocolError, RefusedRequest):
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
            raise RefusedRequest(destination_unreachable(header.resource_uri))
        namespace, class_name = found
        text = child_text(request, "Filter").strip()
        associated = getattr(self._cim, "query_text", None)
        if class_name == "*" and associated is not None and _ASSOCIATION.match(text):
            return self._associated(namespace, text, associated)
        query = self._filter(request, class_name)
        cim_class = self._schema.find(namespace, query.class_name)
        if cim_class is None:
            code, text = self._missing(namespace, query.class_name)
            if class_name == "*":
                raise RefusedRequest(filter_fault(text, code))
            raise CimError(code, text)
        for name in query.names:
            if cim_class.find_property(name) is None and not name.startswith("__"):
                raise RefusedRequest(filter_fault(f"The class {cim_class.name} has no property {name}.", faults.WBEM_E_INVALID_QUERY))
        try:
            instances = self._matching(cim_class, query)
        except CimError as error:
            if class_name == "*" and error.wbem_code in (faults.WBEM_E_INVALID_CLASS, faults.WBEM_E_INVALID_NAMESPACE):
                raise RefusedRequest(filter_fault(error.message, error.wbem_code)) from None
            raise
        mode = child_text(request, "EnumerationMode").strip()
        return self._encode_rows(instances, cim_class, query, mode)

    def _associated(self, namespace: str, text: str, associated: Callable[[str, str], list[Instance]]) -> Iterator[str]:
        """Answer ``ASSOCIATORS OF`` and ``REFERENCES OF``, which only the provider understands: rows of any class."""
        try:
            rows = _call(associated, namespace, text)
        except CimError as error:
            raise RefusedRequest(filter_fault(error.message, error.wbem_code)) from None
        return self._encode_rows(iter(rows), CimClass(namespace, ""), wql.Query(""), "")

    def _filter(self, request: Element, class_name: str) -> wql.Query:
        given = child(request, "Filter")
        if given is None:
            if class_name == "*":
                raise RefusedRequest(filter_fault("A query over a whole namespace needs a filter.", faults.WBEM_E_INVALID_QUERY))
            return wql.Query(class_name)
        dialect = given.get("Dialect", "")
        if dialect.lower() != ns.WQL_DIALECT.lower():
            raise RefusedRequest(
                FaultShape(
                    "The requested filtering dialect is not supported.",
                    2150858777,
                    "n:FilterDialectRequestedUnavailable",
                )
            )
        if class_name != "*":
            raise RefusedRequest(
                FaultShape(
                    "The resource URI for an enumeration with a WQL filter must not contain a class name, but '*'.",
                    2150859002,
                    "w:InvalidParameter",
                )
            )
        try:
            return wql.parse(given.text or "")
        except wql.WqlError as error:
            raise RefusedRequest(filter_fault(str(error), faults.WBEM_E_INVALID_QUERY)) from None

    def _matching(self, cim_class: CimClass, query: wql.Query) -> Iterator[Instance]:
        """Return a snapshot: objects that come and go between two pages do not disturb it."""
        hook = getattr(self._cim, "query", None)

        def read() -> list[Instance]:
            if hook is not None:
                return list(hook(cim_class.namespace, query))
            return list(self._cim.instances(cim_class.namespace, cim_class.name))

        return (instance for instance in _call(read) if query.matches(instance.properties))

    def _encode_rows(self, instances: Iterator[Instance], cim_class: CimClass, query: wql.Query, mode: str) -> Iterator[str]:
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
            raise RefusedRequest(
                FaultShape(
                    "The supplied enumeration context is invalid.",
                    faults.INVALID_ENUMERATION_CONTEXT,
                    "n:InvalidEnumerationContext",
                )
            )
        items = self._page(enumeration, _max_elements(request, self._limits), room(header, self._limits))
        done = enumeration.pending is None
        body = (
            f"<n:PullResponse>"
            f"{'' if done else f'<n:EnumerationContext>{self._keep(enumeration)}</n:EnumerationContext>'}"
            f"<n:Items>{''.join(items)}</n:Items>{'<n:EndOfSequence/>' if done else ''}</n:PullResponse>"
        )
        return answer(ns.ACTION_PULL, header, body, self._limits)

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
        return answer(ns.ACTION_RELEASE, message.header, "", self._limits)


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


def _raiser(error: Exception) -> Callable[[], NoReturn]:
    def finish() -> NoReturn:
        raise error

    return finish


def _provider_failure(error: Exception) -> NoReturn:
    raise CimError(faults.WBEM_E_FAILED, f"The provider failed: {type(error).__name__}: {error}") from error


def _selectors(header: Header, cim_class: CimClass) -> dict[str, str]:
    """Return the keys in the schema's case. Windows faults selectors that the class does not have, and missing ones.

    A class without keys in the schema is a singleton and needs none.
    """
    found = {}
    for name, value in header.selectors.items():
        if name.lower() == "__cimnamespace":
            continue
        known = cim_class.find_property(name)
        if known is None or not (known.key or not cim_class.keys):
            raise RefusedRequest(unexpected_selectors("The request contained invalid selectors for the resource."))
        found[known.name] = value
    missing = [p.name for p in cim_class.keys if p.name not in found]
    if missing:
        raise RefusedRequest(insufficient_selectors(missing))
    return found


def _refuse_unknown(content: Element, cim_class: CimClass) -> None:
    for item in content:
        if cim_class.find_property(local_name(item.tag)) is None:
            raise CimError(faults.WBEM_E_INVALID_PARAMETER, f"The class {cim_class.name} has no property {local_name(item.tag)}.")


def _shown(instance: Instance, cim_class: CimClass, schema: Schema) -> Instance:
    """Drop what the schema does not have: a provider must not be kinder than Windows.

    A subclass keeps its own properties.
    """
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


def _config(limits: Limits) -> str:
    """The part of ``winrm get winrm/config`` that tells limits."""
    return (
        f'<cfg:Config xmlns:cfg="{ns.CONFIG}"><cfg:MaxEnvelopeSizekb>'
        f"{limits.max_envelope // 1024}</cfg:MaxEnvelopeSizekb>"
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
