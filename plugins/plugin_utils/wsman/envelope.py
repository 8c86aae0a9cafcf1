# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SOAP envelopes of WS-Management: one builder and one parser for client and server.

Text is written by hand: ``xsi:type`` needs prefixes that ElementTree would not declare, and carriage returns must
survive.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from . import namespaces as ns
from .namespaces import local_name, namespace_of


class ProtocolError(ValueError):
    """The other side sent what is no WS-Management message. The message says which part."""


class HeaderError(ProtocolError):
    """A header block holds what it must not."""


_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})

#: Deeper documents than this do not exist in the protocol; the bound keeps recursive readers safe.
_MAX_DEPTH = 64


def escape(text: str) -> str:
    """Return text as element content. ValueError for characters that XML 1.0 cannot carry."""
    _check_characters(text)
    return text.translate(_ESCAPES)


def escape_attribute(text: str) -> str:
    """Return text as the content of a double-quoted attribute."""
    _check_characters(text)
    return text.translate(_ATTRIBUTE_ESCAPES)


def _check_characters(text: str) -> None:
    found = _FORBIDDEN.search(text)
    if found:
        raise ValueError(f"the character U+{ord(found[0]):04X} cannot be sent in XML (position {found.start()})")


class _StrictBuilder(ElementTree.TreeBuilder):
    """Refuses document types (entities are an attack, never data here) and depth without bound."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ProtocolError("the XML has a document type declaration, which is refused")

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ProtocolError(f"the XML is nested deeper than {_MAX_DEPTH} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def parse_xml(body: bytes, encoding: str | None = None) -> Element:
    """Parse UTF-8 or UTF-16 XML; ``encoding`` is the transport's word where the text has no mark of its own."""
    try:
        if encoding and not body.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
            body = body.decode(encoding).encode("utf-8")
            encoding = "utf-8"
        else:
            encoding = None
        parser = ElementTree.XMLParser(target=_StrictBuilder(), encoding=encoding)
        parser.feed(body)
        root = parser.close()
    except (ElementTree.ParseError, LookupError, UnicodeError) as error:
        raise ProtocolError(f"not well-formed XML: {error}") from None
    except ValueError as error:
        raise error if isinstance(error, ProtocolError) else ProtocolError(f"not readable XML: {error}") from None
    if not isinstance(root, Element):
        raise ProtocolError("the XML document is empty")
    return root


_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w-]+)""", re.IGNORECASE)


def charset(content_type: str) -> str | None:
    """Return the encoding that a Content-Type names: only UTF-16 needs telling, UTF-8 is XML's own default."""
    found = _CHARSET.search(content_type)
    name = found[1].lower() if found else ""
    if not name.startswith("utf-16"):
        return None
    # Without a byte order mark Windows means little endian.
    return "utf-16-le" if name == "utf-16" else name


@dataclass(frozen=True)
class Header:
    """The header blocks that client and server use. Times in seconds, sizes in bytes; None where not sent."""

    action: str = ""
    message_id: str = ""
    relates_to: str = ""
    to: str = ""
    resource_uri: str = ""
    selectors: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    operation_timeout: float | None = None
    max_envelope: int | None = None
    fragment: str | None = None
    locale: str = ""
    #: Names of blocks that the sender marks mustUnderstand and this codec does not know.
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """A parsed envelope: its header and the element children of its body."""

    header: Header
    body: tuple[Element, ...]

    @property
    def content(self) -> Element | None:
        """The first element of the body, None where the body is empty."""
        return self.body[0] if self.body else None


def parse(body: bytes, encoding: str | None = None) -> Message:
    """Parse an envelope. Raises ProtocolError for anything that is none."""
    root = parse_xml(body, encoding)
    if root.tag != f"{{{ns.SOAP}}}Envelope":
        raise ProtocolError(f"the document is no SOAP 1.2 envelope but {root.tag!r}")
    content = root.find(f"{{{ns.SOAP}}}Body")
    if content is None:
        raise ProtocolError("the envelope has no body")
    header = root.find(f"{{{ns.SOAP}}}Header")
    return Message(_parse_header(header) if header is not None else Header(), tuple(content))


_TEXT_BLOCKS = {
    f"{{{ns.ADDRESSING}}}Action": "action",
    f"{{{ns.ADDRESSING}}}MessageID": "message_id",
    f"{{{ns.ADDRESSING}}}RelatesTo": "relates_to",
    f"{{{ns.ADDRESSING}}}To": "to",
    f"{{{ns.WSMAN}}}ResourceURI": "resource_uri",
    f"{{{ns.WSMAN}}}FragmentTransfer": "fragment",
}
_OTHER_BLOCKS = frozenset(
    [
        f"{{{ns.ADDRESSING}}}ReplyTo",
        f"{{{ns.ADDRESSING}}}From",
        f"{{{ns.ADDRESSING}}}FaultTo",
        f"{{{ns.WSMAN}}}RequestEPR",
        f"{{{ns.WSMAN}}}RequestTotalItemsCountEstimate",
        f"{{{ns.WSMAN_MS}}}SessionId",
        f"{{{ns.WSMAN_MS}}}OperationID",
        f"{{{ns.WSMAN_MS}}}SequenceId",
        f"{{{ns.WSMAN_MS}}}FirstSequenceId",
        f"{{{ns.WSMAN_MS}}}ActivityId",
        f"{{{ns.WSMAN_MS}}}CompressionType",
    ]
)


def _parse_header(header: Element) -> Header:
    values: dict[str, object] = {}
    unknown: list[str] = []
    for block in header:
        if block.tag in _TEXT_BLOCKS:
            values[_TEXT_BLOCKS[block.tag]] = (block.text or "").strip()
        elif block.tag == f"{{{ns.WSMAN}}}SelectorSet":
            values["selectors"] = parse_named(block, "Selector")
        elif block.tag == f"{{{ns.WSMAN}}}OptionSet":
            values["options"] = parse_named(block, "Option")
        elif block.tag == f"{{{ns.WSMAN}}}OperationTimeout":
            values["operation_timeout"] = parse_duration((block.text or "").strip())
        elif block.tag == f"{{{ns.WSMAN}}}MaxEnvelopeSize":
            values["max_envelope"] = _parse_number(block, "MaxEnvelopeSize")
        elif local_name(block.tag) in ("Locale", "DataLocale"):
            values.setdefault("locale", block.get(f"{{{ns.XML}}}lang", ""))
            # Windows faults a Locale that must be understood (ws-management.md, section 5).
            if _must_understand(block):
                unknown.append(local_name(block.tag))
        elif block.tag not in _OTHER_BLOCKS and _must_understand(block):
            unknown.append(local_name(block.tag))
    return Header(not_understood=tuple(unknown), **values)  # type: ignore[arg-type]


def _must_understand(block: Element) -> bool:
    return block.get(f"{{{ns.SOAP}}}mustUnderstand", "").strip().lower() in ("true", "1")


def _parse_number(block: Element, name: str) -> int:
    text = (block.text or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise HeaderError(f"The header {name} is no number: {text[:40]!r}.")
    return int(text)


def parse_named(block: Element, name: str) -> dict[str, str]:
    """Return ``{Name: text}`` of a SelectorSet or OptionSet.

    A selector that is an endpoint reference becomes its URI.
    """
    return {child.get("Name", ""): "".join(child.itertext()) for child in block if local_name(child.tag) == name and child.get("Name")}


_DURATION = re.compile(
    r"(-?)P(?:(\d{1,9})Y)?(?:(\d{1,9})M)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(-?\d{1,9}(?:\.\d{1,9})?)S)?)?"
)


def parse_duration(text: str) -> float:
    """Return the seconds of an ISO 8601 duration such as ``PT20.000S``. ProtocolError where it is none."""
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()[1:]):
        raise HeaderError(f"The XML contains an invalid timeout field in the SOAP header: {text[:40]}.")
    factors = (365 * 86400, 30 * 86400, 86400, 3600, 60, 1)
    return (-1 if found[1] else 1) * sum(float(part) * factor for part, factor in zip(found.groups()[1:], factors, strict=True) if part)


def duration(seconds: float) -> str:
    """Return seconds as Windows writes them: ``PT20.000S``."""
    return f"PT{seconds:.3f}S"


def new_message_id() -> str:
    """Return a fresh message id in Windows' spelling."""
    return f"uuid:{str(uuid.uuid4()).upper()}"


def named_set(set_name: str, name: str, values: Mapping[str, str], attributes: str = "") -> str:
    """Return a SelectorSet or OptionSet; '' where there is nothing to say."""
    if not values:
        return ""
    inner = "".join(f'<w:{name} Name="{escape_attribute(key)}">{escape(value)}</w:{name}>' for key, value in values.items())
    return f"<w:{set_name}{attributes}>{inner}</w:{set_name}>"


def build_request(
    action: str,
    resource_uri: str,
    body: str,
    *,
    selectors: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    operation_timeout: float = 20.0,
    max_envelope: int = 512000,
    locale: str = "en-US",
    message_id: str | None = None,
) -> bytes:
    """Return a request envelope, UTF-8. ``To`` is not checked by Windows and names no host, so an envelope fits any."""
    must = ' s:mustUnderstand="true"'
    language = escape_attribute(locale)
    header = (
        f"<a:To>http://localhost/wsman</a:To>"
        f"<w:ResourceURI{must}>{escape(resource_uri)}</w:ResourceURI>"
        f"<a:ReplyTo><a:Address{must}>{ns.ANONYMOUS}</a:Address></a:ReplyTo>"
        f"<a:Action{must}>{escape(action)}</a:Action>"
        f"<w:MaxEnvelopeSize{must}>{max_envelope}</w:MaxEnvelopeSize>"
        f"<a:MessageID>{message_id or new_message_id()}</a:MessageID>"
        f'<w:Locale xml:lang="{language}" s:mustUnderstand="false"/>'
        f'<p:DataLocale xml:lang="{language}" s:mustUnderstand="false"/>'
        f"<w:OperationTimeout>{duration(operation_timeout)}</w:OperationTimeout>"
        f"{named_set('OptionSet', 'Option', options or {}, must)}"
        f"{named_set('SelectorSet', 'Selector', selectors or {})}"
    )
    return _envelope(header, body)


def build_answer(action: str, relates_to: str, body: str) -> bytes:
    """Return an answer envelope. ``relates_to`` goes back byte for byte: pypsrp and pywinrm compare it."""
    related = f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo>" if relates_to else ""
    header = f"<a:Action>{escape(action)}</a:Action><a:MessageID>{new_message_id()}</a:MessageID><a:To>{ns.ANONYMOUS}</a:To>{related}"
    return _envelope(header, body, ' xml:lang="en-US"')


def _envelope(header: str, body: str, attributes: str = "") -> bytes:
    declared = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in ns.PREFIXES.items())
    return f"<s:Envelope{attributes}{declared}><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>".encode()


def children(element: Element, name: str) -> list[Element]:
    """Return the children of that local name, whatever their namespace."""
    return [child for child in element if local_name(child.tag) == name]


def child(element: Element | None, name: str) -> Element | None:
    """Return the first child of that local name, None where there is none (or no element)."""
    if element is None:
        return None
    return next((found for found in element if local_name(found.tag) == name), None)


def child_text(element: Element | None, name: str) -> str:
    """Return the text of the first child of that local name, unstripped; '' where it is missing."""
    found = child(element, name)
    return "" if found is None else found.text or ""


__all__ = [
    "Header",
    "HeaderError",
    "Message",
    "ProtocolError",
    "build_answer",
    "build_request",
    "charset",
    "child",
    "child_text",
    "children",
    "duration",
    "escape",
    "escape_attribute",
    "local_name",
    "named_set",
    "namespace_of",
    "new_message_id",
    "parse",
    "parse_duration",
    "parse_named",
    "parse_xml",
]
