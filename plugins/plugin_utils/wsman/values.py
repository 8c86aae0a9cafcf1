# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CIM values on the wire, encoded and decoded by the class.

The rules come from recordings of Windows 2003 to 2019 (ws-management.md, section 4): a null scalar is ``xsi:nil``, a
null array is absent, an array is repeated elements, properties come in alphabetical order, projections
(``w:XmlFragment``) have no namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from xml.etree.ElementTree import Element

from . import namespaces as ns
from .envelope import ProtocolError, child, escape, escape_attribute, local_name, named_set, namespace_of, parse_named
from .schema import CimClass, Instance, Property, Reference, Schema, Value

_INTEGERS = {
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"sint{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}

RETURN_VALUE = Property("ReturnValue", "uint32")


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode_instance(instance: Instance, cim_class: CimClass | None, schema: Schema, namespace: str = "") -> str:
    """Return ``<p:Class xsi:type="p:Class_Type" …>`` with every property of class and instance, nil where it is null.

    The class written is the instance's own (an enumeration answers subclasses too); ``cim_class`` gives the types.
    """
    namespace = instance.namespace or namespace or (cim_class.namespace if cim_class else "")
    uri = escape_attribute(ns.class_uri(namespace, instance.class_name))
    declared = f'xmlns:xsi="{ns.XSI}" xmlns:p="{uri}" xmlns:cim="{ns.CIM}" xsi:type="p:{escape_attribute(instance.class_name)}_Type"'
    body = encode_properties(instance.properties, cim_class.properties if cim_class else (), "p:", schema, namespace)
    return f"<p:{instance.class_name} {declared}>{body}</p:{instance.class_name}>"


def encode_put(instance: Instance, cim_class: CimClass | None, schema: Schema, namespace: str = "") -> str:
    """Return the body of Put or Create: only the properties that the instance holds."""
    namespace = instance.namespace or namespace or (cim_class.namespace if cim_class else "")
    uri = escape_attribute(ns.class_uri(namespace, instance.class_name))
    known = tuple(p for p in cim_class.properties if _find(instance.properties, p.name)[0]) if cim_class else ()
    body = encode_properties(instance.properties, known, "p:", schema, namespace)
    return f'<p:{instance.class_name} xmlns:p="{uri}" xmlns:xsi="{ns.XSI}" xmlns:cim="{ns.CIM}">{body}</p:{instance.class_name}>'


def encode_fragment(columns: Iterable[str], instance: Instance, cim_class: CimClass | None, schema: Schema) -> str:
    """Return the row of a projection: ``w:XmlFragment`` with elements of no namespace and no class name."""
    wanted = {name.lower() for name in columns}
    properties = {name: value for name, value in instance.properties.items() if name.lower() in wanted}
    known = tuple(p for p in cim_class.properties if p.name.lower() in wanted) if cim_class else ()
    body = encode_properties(properties, known, "", schema, instance.namespace or (cim_class.namespace if cim_class else ""))
    return f'<w:XmlFragment xmlns:xsi="{ns.XSI}">{body}</w:XmlFragment>'


def encode_parameters(
    element: str,
    uri: str,
    values: Mapping[str, Value],
    parameters: tuple[Property, ...],
    schema: Schema,
    namespace: str,
) -> str:
    """Return ``<p:Method_INPUT>`` or ``<p:Method_OUTPUT>``. Parameters that are not given are left out."""
    known = tuple(p for p in parameters if _find(values, p.name)[0])
    body = encode_properties(values, known, "p:", schema, namespace, ordered=False)
    head = f'<p:{element} xmlns:p="{escape_attribute(uri)}" xmlns:xsi="{ns.XSI}" xmlns:cim="{ns.CIM}"'
    return f"{head}>{body}</p:{element}>" if body else f"{head}/>"


def encode_properties(
    values: Mapping[str, Value],
    known: tuple[Property, ...],
    prefix: str,
    schema: Schema,
    namespace: str,
    *,
    ordered: bool = True,
) -> str:
    """Return the elements of all known properties and of those that only ``values`` holds."""
    names = {p.name.lower() for p in known}
    rows = [(p, _find(values, p.name)[1]) for p in known]
    rows += [(_guess(name, value), value) for name, value in values.items() if name.lower() not in names]
    if ordered:
        rows.sort(key=lambda row: row[0].name.lower())
    return "".join(_encode_property(p, value, prefix, schema, namespace) for p, value in rows)


def _find(values: Mapping[str, Value], name: str) -> tuple[bool, Value]:
    if name in values:
        return True, values[name]
    lowered = name.lower()
    return next(((True, value) for key, value in values.items() if key.lower() == lowered), (False, None))


def _guess(name: str, value: Value) -> Property:
    """Type a property that the schema does not list, by its Python value."""
    sample = value[0] if isinstance(value, list) and value else value
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "boolean"),
        (int, "sint64"),
        (float, "real64"),
        (datetime, "datetime"),
        (Instance, "instance"),
        (Reference, "reference"),
    )
    kind = next((text for python, text in kinds if isinstance(sample, python)), "string")
    if kind == "sint64" and isinstance(sample, int) and sample > _INTEGERS["sint64"][1]:
        kind = "uint64"
    return Property(name, kind, isinstance(value, list))


def _encode_property(p: Property, value: Value, prefix: str, schema: Schema, namespace: str) -> str:
    if p.array:
        if value is None:
            return ""
        if not isinstance(value, list):
            raise ValueError(f"{p.name} is an array of {p.type}, not {_describe(value)}")
        return "".join(_encode_one(p, item, prefix, schema, namespace) for item in value)
    return _encode_one(p, value, prefix, schema, namespace)


def _encode_one(p: Property, value: Value, prefix: str, schema: Schema, namespace: str) -> str:
    name = f"{prefix}{p.name}"
    if value is None:
        return f'<{name} xsi:nil="true"/>'
    if isinstance(value, Instance):
        return _encode_embedded(name, value, schema, namespace)
    if isinstance(value, Reference):
        return f"<{name}>{encode_reference(value, namespace)}</{name}>"
    if p.type == "datetime":
        tag = "cim:Datetime" if prefix else "Datetime"
        return f"<{name}><{tag}>{_datetime_text(p, value)}</{tag}></{name}>"
    return f"<{name}>{escape(_scalar_text(p, value))}</{name}>"


def _encode_embedded(name: str, value: Instance, schema: Schema, namespace: str) -> str:
    inner = value.namespace or namespace
    uri = escape_attribute(ns.class_uri(inner, value.class_name))
    cim_class = schema.find(inner, value.class_name)
    known = tuple(p for p in cim_class.properties if _find(value.properties, p.name)[0]) if cim_class else ()
    body = encode_properties(value.properties, known, "q:", schema, inner)
    return f'<{name} xmlns:q="{uri}" xsi:type="q:{escape_attribute(value.class_name)}_Type">{body}</{name}>'


def encode_reference(value: Reference, namespace: str = "") -> str:
    """Return the inside of an endpoint reference."""
    uri = escape(ns.class_uri(value.namespace or namespace, value.class_name))
    return (
        f"<a:Address>{ns.ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{uri}</w:ResourceURI>"
        f"{named_set('SelectorSet', 'Selector', value.selectors)}</a:ReferenceParameters>"
    )


def selector_text(value: Value) -> str:
    """Return a key value as a selector writes it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _scalar_text(p: Property, value: Value) -> str:
    if p.type == "boolean":
        if not isinstance(value, bool):
            raise ValueError(f"{p.name} is a boolean, not {_describe(value)}")
        return "true" if value else "false"
    if p.type in _INTEGERS:
        lowest, highest = _INTEGERS[p.type]
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"{p.name} is a {p.type}, not {_describe(value)}")
        return str(value)
    if p.type in ("real32", "real64"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{p.name} is a {p.type}, not {_describe(value)}")
        return repr(float(value))
    if p.type == "char16":
        return _char16_text(p, value)
    if not isinstance(value, str):
        raise ValueError(f"{p.name} is a {p.type}, not {_describe(value)}")
    return value


def _describe(value: Value) -> str:
    """Numbers as they are; of everything else only the type, as it may be a secret."""
    return repr(value) if isinstance(value, (bool, int, float)) else f"{type(value).__name__}"


def _char16_text(p: Property, value: Value) -> str:
    """Return a char16 as its number.

    NUL, which many drive letters are, has no other form in XML; Microsoft's OMI encodes it so [unverified on Windows].
    """
    if isinstance(value, str) and len(value) == 1 and ord(value) < 0x10000:
        return str(ord(value))
    raise ValueError(f"{p.name} is a char16: one character, not {_describe(value)}")


def _datetime_text(p: Property, value: Value) -> str:
    if isinstance(value, str):  # an interval, or what a caller formatted
        return escape(value)
    if not isinstance(value, datetime):
        raise ValueError(f"{p.name} is a datetime, not {_describe(value)}")
    # No zone is read as UTC, by Windows too.
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    text = value.strftime("%Y-%m-%dT%H:%M:%S") if value.year >= 1000 else value.isoformat()[:19]
    fraction = f"{value.microsecond:06d}".rstrip("0")
    return f"{text}{'.' + fraction if fraction else ''}Z"


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode_instance(element: Element, schema: Schema, expected: CimClass | None, namespace: str = "") -> Instance:
    """Return the instance that an element holds.

    Its class is the element's own: an enumeration answers subclasses. Where the schema has only the ``expected``
    class, that one gives the types. Properties of the schema that did not come are None; those it does not know are
    kept as text or list.
    """
    from_uri = ns.parse_class_uri(namespace_of(element.tag))
    found_namespace = from_uri[0] if from_uri else namespace
    class_name = from_uri[1] if from_uri else local_name(element.tag)
    cim_class = schema.find(found_namespace, class_name) or expected
    if expected is not None and class_name.lower() == expected.name.lower():
        class_name = expected.name
    values = decode_properties(element, cim_class.properties if cim_class else (), schema, namespace or found_namespace)
    for p in cim_class.properties if cim_class else ():
        values.setdefault(p.name, None)
    return Instance(class_name, values, namespace or found_namespace)


def decode_fragment(element: Element, schema: Schema, expected: CimClass | None, columns: Iterable[str]) -> Instance:
    """Return the row of a projection as an instance of the class in the FROM clause.

    A column that did not come is None.
    """
    namespace = expected.namespace if expected else ""
    values = decode_properties(element, expected.properties if expected else (), schema, namespace)
    got = {name.lower() for name in values}
    for column in columns:
        if column.lower() not in got:
            known = expected.find_property(column) if expected else None
            values[known.name if known else column] = None
    return Instance(expected.name if expected else "", values, namespace)


def decode_properties(element: Element, known: tuple[Property, ...], schema: Schema, namespace: str) -> dict[str, Value]:
    """Return the values of the children, arrays and types by the schema."""
    by_name = {p.name.lower(): p for p in known}
    groups: dict[str, list[Element]] = {}
    for item in element:
        groups.setdefault(local_name(item.tag), []).append(item)
    values: dict[str, Value] = {}
    for name, items in groups.items():
        p = by_name.get(name.lower())
        if p is None:
            decoded = [_decode_unknown(item, schema, namespace) for item in items]
            values[name] = decoded[0] if len(decoded) == 1 else decoded
        elif p.array:
            values[p.name] = _decode_array(p, items, schema, namespace)
        elif len(items) > 1:
            raise ProtocolError(f"{name} came {len(items)} times but is no array")
        else:
            values[p.name] = _decode_one(p, items[0], schema, namespace)
    return values


def _decode_array(p: Property, items: list[Element], schema: Schema, namespace: str) -> Value:
    decoded = [_decode_one(p, item, schema, namespace) for item in items]
    return None if decoded == [None] else decoded


def _is_nil(element: Element) -> bool:
    return element.get(f"{{{ns.XSI}}}nil", "").strip() in ("true", "1")


def _decode_one(p: Property, element: Element, schema: Schema, namespace: str) -> Value:
    if _is_nil(element):
        return None
    if len(element):
        return _decode_structured(element, schema, namespace, p.class_name)
    text = element.text or ""
    if p.type == "instance":
        return _decode_structured(element, schema, namespace, p.class_name)
    if p.type == "reference":
        return Reference(p.class_name, namespace) if not text.strip() else text
    if p.type == "datetime":
        return parse_datetime(text)
    if p.type == "boolean":
        return _parse_boolean(p, text)
    if p.type in _INTEGERS:
        return _parse_integer(p, text)
    if p.type in ("real32", "real64"):
        return _parse_real(p, text)
    if p.type == "char16":
        return _parse_char16(text)
    return text


def _decode_unknown(element: Element, schema: Schema, namespace: str) -> Value:
    if _is_nil(element):
        return None
    if len(element):
        return _decode_structured(element, schema, namespace, "")
    return element.text or ""


def _decode_structured(element: Element, schema: Schema, namespace: str, class_name: str) -> Value:
    """Decode a date, a reference or an embedded instance, told apart by their children."""
    first = local_name(element[0].tag) if len(element) else ""
    if first.lower() in ("datetime", "date", "time") and len(element) == 1 and not len(element[0]):
        return parse_datetime(element[0].text or "")
    if first.lower() in ("interval", "cim_datetime") and len(element) == 1:
        return element[0].text or ""
    if child(element, "ReferenceParameters") is not None:
        return decode_reference(element)
    declared = element.get(f"{{{ns.XSI}}}type", "").rpartition(":")[2].removesuffix("_Type")
    from_uri = ns.parse_class_uri(namespace_of(element[0].tag)) if len(element) else None
    inner_namespace = from_uri[0] if from_uri else namespace
    name = declared or (from_uri[1] if from_uri else "") or class_name
    cim_class = schema.find(inner_namespace, name) or schema.find(namespace, name) or schema.find(namespace, class_name)
    values = decode_properties(element, cim_class.properties if cim_class else (), schema, inner_namespace)
    return Instance(name, values, inner_namespace)


def decode_reference(element: Element) -> Reference:
    """Return the class and keys of an endpoint reference. A singleton's has no selectors."""
    parameters = child(element, "ReferenceParameters")
    uri = child(parameters, "ResourceURI")
    text = (uri.text or "").strip() if uri is not None else ""
    selector_set = child(parameters, "SelectorSet")
    selectors = parse_named(selector_set, "Selector") if selector_set is not None else {}
    namespace, class_name = ns.parse_class_uri(text) or ("", text.rpartition("/")[2])
    # Windows repeats the namespace as a selector of its own; it is no key.
    named = selectors.pop("__cimnamespace", "")
    return Reference(class_name, namespace or named.replace("\\", "/"), selectors)


_DATETIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:\d\d)?", re.ASCII)
_DMTF = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\.(\d{6})([+-])(\d{3})", re.ASCII)


def parse_datetime(text: str) -> Value:
    """Return an aware datetime. ISO 8601 with 0 to 9 digits of fraction, or DMTF; an interval stays text."""
    text = text.strip()
    found = _DATETIME.fullmatch(text) or _DMTF.fullmatch(text)
    if not found:
        if text.startswith("P") or ":" in text or not text:
            return text
        raise ProtocolError(f"not a date: {text[:40]!r}")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if found.re is _DMTF:
        micro, offset = int(found[7]), int(found[9]) * (-1 if found[8] == "-" else 1)
    else:
        micro, offset = int((found[7] or "0").ljust(6, "0")[:6]), _offset_minutes(found[8])
    try:
        return datetime(year, month, day, hour, minute, second, micro, timezone(timedelta(minutes=offset)))
    except ValueError as error:
        raise ProtocolError(f"not a date: {text[:40]!r} ({error})") from None


def _offset_minutes(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return -minutes if zone[0] == "-" else minutes


def _parse_boolean(p: Property, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("true", "1"):
        return True
    if lowered in ("false", "0"):
        return False
    raise ProtocolError(f"{p.name} is no boolean: {text[:40]!r}")


_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def _parse_integer(p: Property, text: str) -> int:
    stripped = text.strip()
    if not _INTEGER.fullmatch(stripped):
        raise ProtocolError(f"{p.name} is no {p.type}: {text[:40]!r}")
    return int(stripped)


def _parse_real(p: Property, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ProtocolError(f"{p.name} is no {p.type}: {text[:40]!r}") from None


def _parse_char16(text: str) -> str:
    """A char16 comes as its number; a character by itself is understood too. NUL where there is no character."""
    if text.isascii() and text.isdigit() and int(text[:6]) < 0x10000:
        return chr(int(text[:6]))
    return text[:1] or "\0"
