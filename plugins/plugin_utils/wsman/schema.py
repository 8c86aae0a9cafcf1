# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CIM classes and values, as they are named on the wire and in MOF.

A schema is what makes decoding exact: WS-Management writes an array of one like a scalar and leaves a null array out
(seen in recordings of three Windows versions), so only the class can tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Union

from .known import known

#: The value types of CIM (DSP0004) that Windows classes use. ``reference`` and ``instance`` carry ``class_name``.
CIM_TYPES = frozenset(
    [
        "boolean",
        "uint8",
        "sint8",
        "uint16",
        "sint16",
        "uint32",
        "sint32",
        "uint64",
        "sint64",
        "real32",
        "real64",
        "char16",
        "string",
        "datetime",
        "reference",
        "instance",
    ]
)

Value = Union[None, bool, int, float, str, datetime, "Instance", "Reference", list["Value"]]


@dataclass(frozen=True)
class Property:
    """One property or parameter. ``name`` keeps the provider's case; look-ups elsewhere ignore case."""

    name: str
    type: str
    array: bool = False
    key: bool = False
    class_name: str = ""


@dataclass(frozen=True)
class Method:
    """One method; ``inputs`` in the provider's order. ``ReturnValue`` is uint32 and is not listed in ``outputs``."""

    name: str
    inputs: tuple[Property, ...] = ()
    outputs: tuple[Property, ...] = ()
    static: bool = False


@dataclass(frozen=True)
class CimClass:
    """A class as client and server use it: the namespace with slashes (``root/cimv2``), no inherited members missing."""

    namespace: str
    name: str
    properties: tuple[Property, ...] = ()
    methods: tuple[Method, ...] = ()

    def find_property(self, name: str) -> Property | None:
        """Return the property of that name in any case, or None."""
        return next((p for p in self.properties if p.name.lower() == name.lower()), None)

    def find_method(self, name: str) -> Method | None:
        """Return the method of that name in any case, or None."""
        return next((m for m in self.methods if m.name.lower() == name.lower()), None)

    @property
    def keys(self) -> tuple[Property, ...]:
        """The key properties; empty for singletons and classes of static methods."""
        return tuple(p for p in self.properties if p.key)


@dataclass(frozen=True)
class Instance:
    """One instance (or an embedded one, or a method's parameters). Property names keep their case."""

    class_name: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    namespace: str = ""

    def __getitem__(self, name: str) -> Value:
        """Return a property by its exact name, None where the instance does not have it."""
        return self.properties.get(name)


@dataclass(frozen=True)
class Reference:
    """A reference to an instance: class, namespace and the key values as text (WS-Management selectors)."""

    class_name: str
    namespace: str = ""
    selectors: Mapping[str, str] = field(default_factory=dict)


class Schema:
    """Classes by namespace and name, both in any case. Built from text that is parsed when a class is first asked for.

    Notation, one class a string: ``key string Name; string[] IPAddress; static Create(string CommandLine) -> uint32 ProcessId``.
    A type that is no CIM type is an embedded instance of that class; ``ref:Class`` is a reference to one.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        """Take ``{namespace: {class: notation}}``."""
        self._texts = {
            (namespace.lower(), name.lower()): (namespace, name, text)
            for namespace, classes in texts.items()
            for name, text in classes.items()
        }
        self._classes: dict[tuple[str, str], CimClass] = {}

    def __iter__(self) -> Iterator[CimClass]:
        """Iterate over all classes, parsed."""
        for namespace, name in self._texts:
            yield known(self.find(namespace, name))

    def find(self, namespace: str, name: str) -> CimClass | None:
        """Return the class, or None where the schema does not have it."""
        key = (namespace.replace("\\", "/").lower(), name.lower())
        if key not in self._classes and key in self._texts:
            self._classes[key] = _parse_class(*self._texts[key])
        return self._classes.get(key)


_METHOD = re.compile(r"(?P<static>static )?(?P<name>\w+)\((?P<inputs>[^)]*)\)(?: -> (?P<outputs>.+))?$")


def _parse_class(namespace: str, name: str, text: str) -> CimClass:
    properties: list[Property] = []
    methods: list[Method] = []
    for member in filter(None, (part.strip() for part in text.split(";"))):
        match = _METHOD.match(member)
        if match:
            inputs = _parse_parameters(match["inputs"])
            methods.append(Method(match["name"], inputs, _parse_parameters(match["outputs"] or ""), bool(match["static"])))
        else:
            properties.append(_parse_property(member))
    return CimClass(namespace, name, tuple(properties), tuple(methods))


def _parse_parameters(text: str) -> tuple[Property, ...]:
    return tuple(_parse_property(part.strip()) for part in text.split(",") if part.strip())


def _parse_property(text: str) -> Property:
    *words, kind, name = text.split()
    array = kind.endswith("[]")
    kind = kind.removesuffix("[]")
    if kind.startswith("ref:"):
        return Property(name, "reference", array, "key" in words, kind.removeprefix("ref:"))
    if kind in CIM_TYPES:
        return Property(name, kind, array, "key" in words)
    return Property(name, "instance", array, "key" in words, kind)
