# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every class of the project's table goes over the wire with values of every type, made up with a fixed seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import CimClass, Instance, Property, Value
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Server
from wsman_fakes import IDENTITY, Objects

TEXTS = ["", " ", "C:\\Windows\\", "ä\r\n<&>'\"", "\\\\?\\Volume{0}\\", "100%_[x]", "0", "true", "\U0001f5a5"]


def _value(rng: random.Random, p: Property, namespace: str) -> Value:
    if p.array:
        single = Property(p.name, p.type, False, False, p.class_name)
        return [_value(rng, single, namespace) for dummy in range(rng.randint(1, 3))]
    if p.type == "boolean":
        return rng.random() < 0.5
    if p.type[:4] in ("uint", "sint"):
        bits = int(p.type[4:])
        low, high = (0, 2**bits - 1) if p.type[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return rng.choice([low, high, rng.randint(low, high)])
    if p.type == "datetime":
        return datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9), microseconds=rng.randrange(10**6))
    if p.type == "char16":
        return rng.choice("C\0ZÄ")
    if p.type == "instance":
        inner = SCHEMA.find(namespace, p.class_name)
        assert inner is not None, f"{p.class_name} is not in the table"
        return Instance(inner.name, {q.name: _value(rng, q, namespace) for q in inner.properties}, namespace)
    assert p.type == "string", p
    return rng.choice(TEXTS)


def _computer() -> tuple[Objects, Client]:
    objects = Objects()
    server = Server(SCHEMA, objects, shells=None, identity=IDENTITY)
    return objects, Client(lambda body: server.handle(body, user="osd"), SCHEMA)


@pytest.mark.parametrize("cim_class", list(SCHEMA), ids=lambda c: f"{c.namespace}:{c.name}")
def test_instances(cim_class: CimClass) -> None:
    rng = random.Random(cim_class.name)
    objects, client = _computer()
    for dummy in range(8):
        values = {p.name: None if rng.random() < 0.3 and not p.key else _value(rng, p, cim_class.namespace) for p in cim_class.properties}
        objects.add(cim_class.name, cim_class.namespace, **values)
    expected = objects.held[(cim_class.namespace, cim_class.name)]
    assert client.query(f"SELECT * FROM {cim_class.name}", cim_class.namespace) == expected
    if cim_class.properties:
        columns = ", ".join(p.name for p in cim_class.properties)
        assert client.query(f"SELECT {columns} FROM {cim_class.name}", cim_class.namespace) == expected


@pytest.mark.parametrize("cim_class", [c for c in SCHEMA if c.methods], ids=lambda c: f"{c.namespace}:{c.name}")
def test_methods(cim_class: CimClass) -> None:
    rng = random.Random(cim_class.name)
    objects, client = _computer()
    selectors = {p.name: str(rng.randrange(100)) for p in cim_class.keys}
    for method in cim_class.methods:
        arguments = {p.name: _value(rng, p, cim_class.namespace) for p in method.inputs}
        objects.outputs = {p.name: _value(rng, p, cim_class.namespace) for p in method.outputs} | {"ReturnValue": 5}
        used = None if method.static else selectors
        assert client.invoke(cim_class.name, method.name, arguments, used, cim_class.namespace) == objects.outputs
        assert objects.calls[-1] == (cim_class.namespace, cim_class.name, method.name, used, arguments)
