# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The computer's CIM objects for the server, out of WMI: queries written anew, paths built, values typed as CIM means them.

Pure but for the narrow interface ``providers.Wmi``, which a fake fills in tests. Facts on how COM hands values over: Microsoft's
'Numbers', 'Date and Time Format' and 'Describing the Location of a WMI Object' [doc: win32/WmiSdk].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from ..wsman import wql
from ..wsman.envelope import ProtocolError
from ..wsman.faults import WBEM_E_INVALID_CLASS, WBEM_E_INVALID_METHOD, WBEM_E_INVALID_NAMESPACE, WBEM_E_NOT_FOUND, WBEM_E_NOT_SUPPORTED
from ..wsman.schema import CimClass, Instance, Method, Property, Reference, Schema, Value
from ..wsman.server import CimError
from ..wsman.values import parse_datetime
from .providers import Wmi, WmiClass, WmiError, WmiMember, WmiObject, WmiValue

_Result = TypeVar("_Result")

ARRAY = 0x2000
#: CIM types by WMI's numbers (``CIMTYPE_ENUMERATION``).
_TYPES = {
    2: "sint16",
    3: "sint32",
    4: "real32",
    5: "real64",
    8: "string",
    11: "boolean",
    13: "instance",
    16: "sint8",
    17: "uint8",
    18: "uint16",
    19: "uint32",
    20: "sint64",
    21: "uint64",
    101: "datetime",
    102: "reference",
    103: "char16",
}
_NUMBERS = {name: number for number, name in _TYPES.items()}
#: A method that is not there, or not with parameters of these types: Wine's SetDWORDValue takes no VT_I4 for a uint32 [wine].
_NO_SUCH_METHOD = (WBEM_E_INVALID_METHOD, WBEM_E_NOT_FOUND, WBEM_E_INVALID_CLASS, WBEM_E_INVALID_NAMESPACE, 0x80041005)


class Part(Protocol):
    """Objects that the agent makes itself, for some classes. Selectors that no instance has: CimError WBEM_E_NOT_FOUND."""

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances."""

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call a method; CimError WBEM_E_INVALID_METHOD where it is not there."""


class LiveSchema(Schema):
    """The project's table of classes, and beyond it what the computer's WMI knows.

    A class of the table keeps its keys and types, which are Windows' own; members that only the computer has come on top.
    """

    def __init__(self, base: Schema, wmi: Wmi) -> None:
        super().__init__({})
        self._base = base
        self._wmi = wmi
        self._found: dict[tuple[str, str], CimClass] = {}

    def __iter__(self) -> Any:
        """Iterate over the classes of the table."""
        return iter(self._base)

    def find(self, namespace: str, name: str) -> CimClass | None:
        """Return the class, None where neither table nor computer has it."""
        space = namespace.replace("\\", "/")
        key = (space.lower(), name.lower())
        if key in self._found:
            return self._found[key]
        known = self._base.find(space, name)
        live = None if key[0] == "root/osd" or not re.fullmatch(r"\w{1,200}", name) else self._live(space, name)
        found = _merged(known, live) if known and live else known or live
        if found is not None:
            self._found[key] = found
        return found

    def _live(self, namespace: str, name: str) -> CimClass | None:
        try:
            return cim_class(namespace, self._wmi.class_definition(namespace, name))
        except WmiError:
            # Whatever is wrong, the operation itself will say it.
            return None


class WmiCim:
    """``wsman.server.CimProvider`` on WMI.

    Args:
        wmi: the computer's WMI.
        schema: types of properties and parameters.
        parts: classes (namespace and name in lower case) that the agent answers itself.
        methods: what answers a method that WMI's class does not have, by class.
    """

    def __init__(
        self,
        wmi: Wmi,
        schema: Schema,
        parts: Mapping[tuple[str, str], Part] | None = None,
        methods: Mapping[tuple[str, str], Part] | None = None,
    ) -> None:
        self._wmi = wmi
        self._schema = schema
        self._parts = dict(parts or {})
        self._methods = dict(methods or {})

    # --- reading

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances of a class."""
        return self.query(namespace, wql.Query(class_name))

    def query(self, namespace: str, query: wql.Query) -> Iterable[Instance]:
        """Return what a query finds."""
        part = self._part(self._parts, namespace, query.class_name)
        if part is not None:
            return part.instances(namespace, query.class_name)
        return self.query_text(namespace, query_text(query))

    def query_text(self, namespace: str, text: str) -> list[Instance]:
        """Return what WMI answers to a query, ``ASSOCIATORS OF`` among them."""
        return [self._instance(namespace, row) for row in _called(lambda: self._wmi.query(namespace, text))]

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one instance."""
        part = self._part(self._parts, namespace, class_name)
        if part is not None:
            return _chosen(part.instances(namespace, class_name), class_name, selectors)
        if not selectors:
            return self._instance(namespace, self._singleton(namespace, class_name))
        return self._instance(namespace, _called(lambda: self._wmi.get(namespace, self._path(namespace, class_name, selectors))))

    def _singleton(self, namespace: str, class_name: str) -> WmiObject:
        found = _called(lambda: self._wmi.query(namespace, f"SELECT * FROM {class_name}"))
        if len(found) != 1:
            raise CimError(WBEM_E_NOT_FOUND, f"{class_name} has {len(found)} instances, and the request does not say which.")
        return found[0]

    # --- writing

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance:
        """Write an instance."""
        self._refuse_part(namespace, instance.class_name)
        path = self._path(namespace, instance.class_name, selectors)
        _called(lambda: self._wmi.put(namespace, instance.class_name, path, self._inputs(namespace, instance)))
        return self.get(namespace, instance.class_name, selectors)

    def create(self, namespace: str, instance: Instance) -> Reference:
        """Create an instance."""
        self._refuse_part(namespace, instance.class_name)
        _called(lambda: self._wmi.put(namespace, instance.class_name, "", self._inputs(namespace, instance)))
        known = self._schema.find(namespace, instance.class_name)
        keys = {p.name: str(instance[p.name]) for p in (known.keys if known else ())}
        return Reference(instance.class_name, namespace, keys)

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None:
        """Delete an instance."""
        self._refuse_part(namespace, class_name)
        _called(lambda: self._wmi.delete(namespace, self._path(namespace, class_name, selectors)))

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        """Call a method; what WMI's class does not have is asked of the agent's own."""
        part = self._part(self._parts, namespace, class_name)
        if part is not None:
            return part.invoke(namespace, class_name, method, selectors, arguments)
        try:
            return self._invoke(namespace, class_name, method, selectors, arguments)
        except CimError as error:
            other = self._part(self._methods, namespace, class_name)
            if other is None or error.wbem_code not in _NO_SUCH_METHOD:
                raise
        return other.invoke(namespace, class_name, method, selectors, arguments)

    def _invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        known = self._schema.find(namespace, class_name)
        described = known.find_method(method) if known else None
        inputs = {p.name: p for p in (described.inputs if described else ())}
        given = {name: self._input(namespace, inputs[name], value) for name, value in arguments.items() if value is not None}
        if selectors is None:
            path = class_name
        elif selectors:
            path = self._path(namespace, class_name, selectors)
        else:
            path = self._singleton(namespace, class_name).path
        outputs = _called(lambda: self._wmi.invoke(namespace, class_name, path, method, given))
        types = {p.name.lower(): p for p in (*(described.outputs if described else ()), Property("ReturnValue", "uint32"))}
        return {
            types[name.lower()].name if name.lower() in types else name: self._value(namespace, value, types.get(name.lower()))
            for name, value in outputs.properties.items()
        }

    # --- helpers

    @staticmethod
    def _part(parts: Mapping[tuple[str, str], Part], namespace: str, class_name: str) -> Part | None:
        return parts.get((namespace.lower(), class_name.lower()))

    def _refuse_part(self, namespace: str, class_name: str) -> None:
        if self._part(self._parts, namespace, class_name) is not None:
            raise CimError(WBEM_E_NOT_SUPPORTED, f"The agent only reads {class_name}.")

    def _path(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> str:
        return object_path(class_name, selectors, self._schema.find(namespace, class_name))

    def _instance(self, namespace: str, row: WmiObject) -> Instance:
        known = self._schema.find(namespace, row.class_name) if row.class_name else None
        properties = {}
        for name, value in row.properties.items():
            member = known.find_property(name) if known else None
            properties[member.name if member else name] = self._value(namespace, value, member)
        return Instance(row.class_name, properties, namespace)

    def _value(self, namespace: str, value: WmiValue, member: Property | None) -> Value:
        kind = member.type if member else _TYPES.get(value.cim_type & ~ARRAY, "string")
        if value.value is None:
            return None
        if isinstance(value.value, list):
            items: list[Value] = [self._one(namespace, item, kind) for item in value.value]
            return items
        return self._one(namespace, value.value, kind)

    def _one(self, namespace: str, raw: Any, kind: str) -> Value:
        return self._instance(namespace, raw) if isinstance(raw, WmiObject) else decoded(raw, kind)

    def _inputs(self, namespace: str, instance: Instance) -> dict[str, WmiValue]:
        known = self._schema.find(namespace, instance.class_name)
        found = {}
        for name, value in instance.properties.items():
            member = known.find_property(name) if known else None
            found[name] = self._input(namespace, member or Property(name, "string", isinstance(value, list)), value)
        return found

    def _input(self, namespace: str, member: Property, value: Value) -> WmiValue:
        number = _NUMBERS[member.type] | (ARRAY if member.array else 0)
        if isinstance(value, list):
            return WmiValue([self._encoded(namespace, item) for item in value], number)
        return WmiValue(self._encoded(namespace, value), number)

    def _encoded(self, namespace: str, value: Value) -> Any:
        if isinstance(value, Instance):
            return WmiObject(value.class_name, self._inputs(value.namespace or namespace, value))
        if isinstance(value, Reference):
            space = (value.namespace or namespace).replace("/", "\\")
            known = self._schema.find(value.namespace or namespace, value.class_name)
            return f"\\\\.\\{space}:{object_path(value.class_name, value.selectors, known)}"
        return dmtf(value) if isinstance(value, datetime) else value


def _called(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except WmiError as error:
        raise CimError(error.code, str(error)) from None


def _chosen(instances: Iterable[Instance], class_name: str, selectors: Mapping[str, str]) -> Instance:
    for instance in instances:
        if all(str(instance[name]).lower() == value.lower() for name, value in selectors.items()):
            return instance
    raise CimError(WBEM_E_NOT_FOUND, f"There is no such {class_name}.")


# --- classes


def cim_class(namespace: str, found: WmiClass) -> CimClass:
    """Return WMI's class definition as the server knows classes."""
    return CimClass(
        namespace,
        found.name,
        tuple(_property(member) for member in found.properties),
        tuple(
            Method(m.name, tuple(_property(p) for p in m.inputs), tuple(_property(p) for p in m.outputs), m.static) for m in found.methods
        ),
    )


def _property(member: WmiMember) -> Property:
    kind = _TYPES.get(member.cim_type & ~ARRAY, "string")
    return Property(member.name, kind, bool(member.cim_type & ARRAY), member.key, member.class_name)


def _merged(known: CimClass, live: CimClass) -> CimClass:
    extra = tuple(Property(p.name, p.type, p.array, False, p.class_name) for p in live.properties if not known.find_property(p.name))
    methods = tuple(m for m in live.methods if not known.find_method(m.name))
    return CimClass(known.namespace, known.name, (*known.properties, *extra), (*known.methods, *methods))


# --- text


def query_text(query: wql.Query) -> str:
    """Return a parsed query as WQL, with every column that its condition names, since the server filters once more."""
    columns = "*" if query.columns is None else ", ".join(sorted({*query.columns, *query.names}))
    where = f" WHERE {_condition(query.where)}" if query.where is not None else ""
    return f"SELECT {columns} FROM {query.class_name}{where}"


def _condition(condition: wql.Condition) -> str:
    if isinstance(condition, wql.Combination):
        return f"({_condition(condition.left)}) {condition.operator.upper()} ({_condition(condition.right)})"
    if isinstance(condition, wql.Negation):
        return f"NOT ({_condition(condition.condition)})"
    if condition.operator in ("IS", "ISNOT"):
        return f"{condition.name} IS {'NOT ' if condition.operator == 'ISNOT' else ''}NULL"
    operator = "<>" if condition.operator == "!=" else condition.operator
    return f"{condition.name} {operator} {_literal(condition.literal)}"


def _literal(literal: wql.Literal) -> str:
    if literal is None:
        return "NULL"
    if isinstance(literal, bool):
        return "TRUE" if literal else "FALSE"
    return wql.quote(literal) if isinstance(literal, str) else str(literal)


def object_path(class_name: str, selectors: Mapping[str, str], known: CimClass | None) -> str:
    """Return the relative path of an instance: text keys in quotes, numbers and truth values bare."""
    parts = []
    for name, value in selectors.items():
        member = known.find_property(name) if known else None
        kind = member.type if member else "string"
        if kind.startswith(("uint", "sint")) and re.fullmatch(r"[+-]?\d{1,20}", value.strip()):
            text = value.strip()
        elif kind == "boolean" and value.strip().lower() in ("true", "false"):
            text = value.strip().upper()
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            text = f'"{escaped}"'
        parts.append(f"{name}={text}")
    return f"{class_name}.{','.join(parts)}"


_PATH = re.compile(r"(?:\\\\[^\\]+\\)?(?:(?P<namespace>[^:]+):)?(?P<name>\w+)(?:\.(?P<keys>.*))?", re.DOTALL)
_KEY = re.compile(r'\s*(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)', re.DOTALL)


def reference(path: str) -> Reference:
    """Take an object path apart. A key that is itself a path is kept as text."""
    text = path.partition("\0")[0]
    found = _PATH.fullmatch(text)
    if found is None:
        return Reference(text)
    selectors = {}
    for name, value in _KEY.findall(found["keys"] or ""):
        selectors[name] = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value.startswith('"') else value.strip()
    return Reference(found["name"], (found["namespace"] or "").replace("\\", "/"), selectors)


# --- values


def decoded(raw: Any, kind: str) -> Value:
    """Return what COM handed over as a value of a CIM type: integers unsigned where CIM says so, dates with their zone."""
    if raw is None:
        return None
    if kind == "boolean":
        return bool(raw)
    if kind.startswith(("uint", "sint")):
        return _integer(raw, kind)
    if kind in ("real32", "real64"):
        return float(raw)
    if kind == "char16":
        return chr(int(raw) & 0xFFFF) if isinstance(raw, int) else str(raw)[:1] or "\0"
    text = str(raw)
    if kind == "datetime":
        return _datetime(text)
    return reference(text) if kind == "reference" else text


def _integer(raw: Any, kind: str) -> int | None:
    bits = int(kind[4:])
    try:
        number = int(raw) & ((1 << bits) - 1)
    except (TypeError, ValueError):
        return None
    return number - (1 << bits) if kind.startswith("s") and number >> (bits - 1) else number


_DATE = re.compile(r"(\d{14})\.(\d{6})([+-])(\d{1,3})", re.ASCII)


def _datetime(text: str) -> Value:
    """A DMTF date; an interval, or one with asterisks for what is not known, stays text. Wine writes the zone with two digits [wine]."""
    if "*" in text or ":" in text:
        return text
    found = _DATE.fullmatch(text.strip())
    try:
        return parse_datetime(f"{found[1]}.{found[2]}{found[3]}{int(found[4]):03}") if found else None
    except ProtocolError:
        return None


def dmtf(value: datetime) -> str:
    """Return a time as ``yyyymmddHHMMSS.mmmmmmsUUU`` in UTC."""
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.strftime("%Y%m%d%H%M%S.%f") + "+000"
