# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project's table of CIM classes against the schemas of two real Windows builds.

The schemas were generated into Go: ``byte`` stands for uint8, sint8 or char16, ``string`` also for datetime and references, and an
enumeration has no type but a name. Inherited members stand in the superclass only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import cim_classes
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import CimClass, Property, Schema

SCHEMAS = ("server2019.jsonl", "server23h2.jsonl")

_GO_TYPES = {
    "boolean": {"bool"},
    "uint8": {"byte", "uint8"},
    "sint8": {"byte", "int8"},
    "char16": {"byte", "uint16"},
    "uint16": {"uint16"},
    "sint16": {"int16"},
    "uint32": {"uint32"},
    "sint32": {"int32"},
    "uint64": {"uint64"},
    "sint64": {"int64"},
    "real32": {"float32"},
    "real64": {"float64"},
    "string": {"string"},
    "datetime": {"string"},
    "reference": {"string"},
}
_INTEGERS = {"uint8", "sint8", "uint16", "sint16", "uint32", "sint32", "uint64", "sint64"}

Members = dict[str, list]


def _load(path: Path) -> dict[tuple[str, str], dict]:
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[(row["namespace"].replace("\\", "/").lower(), row["class"].lower())] = row
    return found


_loaded: dict[Path, dict] = {}


@pytest.fixture(params=SCHEMAS)
def real(request, corpora, foreign_file) -> dict[tuple[str, str], dict]:
    path = foreign_file(corpora / "cim" / request.param)
    if path not in _loaded:
        _loaded[path] = _load(path)
    return _loaded[path]


def _lineage(real: dict, namespace: str, name: str) -> Iterator[dict]:
    while True:
        row = real.get((namespace.lower(), name.lower()))
        if row is None:
            return
        yield row
        if not row["super"] or row["super"].lower() == name.lower():
            return
        name = row["super"]


def _same(ours: Property, theirs: list, real: dict) -> bool:
    if ours.array != theirs[2]:
        return False
    builtin = set().union(*_GO_TYPES.values())
    is_class = any(name == str(theirs[1]).lower() for dummy, name in real)
    if theirs[1] is None or (theirs[1] not in builtin and not is_class):  # an enumeration
        return ours.type in _INTEGERS
    if ours.type in ("instance", "reference") and theirs[1] == ours.class_name:
        return True
    return theirs[1] in _GO_TYPES.get(ours.type, set())


def _mistakes(cim_class: CimClass, real: dict) -> list[str]:
    rows = list(_lineage(real, cim_class.namespace, cim_class.name))
    where = f"{cim_class.namespace}:{cim_class.name}"
    if not rows:
        return [f"{where} is not there"]
    mistakes = []
    properties = {p[0]: p for row in reversed(rows) for p in row["properties"]}
    for ours in cim_class.properties:
        theirs = properties.get(ours.name)
        if theirs is None or not _same(ours, theirs, real):
            mistakes.append(f"{where}.{ours.name}: {ours} is {theirs}")
    methods = {name: value for row in reversed(rows) for name, value in row["methods"].items()}
    for method in cim_class.methods:
        if method.name not in methods:
            mistakes.append(f"{where}.{method.name}() is not there")
            continue
        for ours_all, theirs_all, kind in (
            (method.inputs, methods[method.name]["in"], "in"),
            (method.outputs, methods[method.name]["out"], "out"),
        ):
            known = {p[0]: p for p in theirs_all}
            for ours in ours_all:
                if ours.name not in known or not _same(ours, known[ours.name], real):
                    mistakes.append(f"{where}.{method.name}({kind} {ours.name}): {ours} is {known.get(ours.name)}")
    return mistakes


def _ours() -> list[CimClass]:
    return list(Schema(cim_classes.WINDOWS_CLASSES))


#: Classes that one of the builds does not have, with the reason.
MISSING = {
    ("root/default", "StdRegProv", "server2019.jsonl"): "the generator took the class from root/cimv2 only",
    (
        "root/cimv2/security/microsoftvolumeencryption",
        "Win32_EncryptableVolume",
        "server2019.jsonl",
    ): "comes with the feature BitLocker, which that server did not have",
}


@pytest.mark.parametrize("cim_class", _ours(), ids=lambda c: f"{c.namespace}:{c.name}")
def test_every_member_exists_in_windows(cim_class, real, request):
    build = request.node.callspec.params["real"]
    if (cim_class.namespace, cim_class.name, build) in MISSING:
        assert _mistakes(cim_class, real) == [f"{cim_class.namespace}:{cim_class.name} is not there"]
    else:
        assert _mistakes(cim_class, real) == []


def test_no_class_is_missing_in_both_builds():
    names = [(namespace, name) for namespace, name, dummy in MISSING]
    assert len(names) == len(set(names))


def test_exceptions_are_no_classes_of_windows(real):
    """What stands apart with a source must not be in the schemas: it would belong into the table."""
    for cim_class in Schema(cim_classes.OTHER_CLASSES):
        assert (cim_class.namespace.lower(), cim_class.name.lower()) not in real


@pytest.mark.parametrize(
    "notation",
    [
        "string Nonsense",
        "uint64 ProcessId",
        "uint32[] ProcessId",
        "Terminate(uint64 Reason)",
        "Terminate(uint32 Cause)",
        "Vanish()",
        "static Create(string CommandLine) -> string ProcessId",
    ],
)
def test_the_test_finds_mistakes(notation, real):
    (wrong,) = Schema({"root/cimv2": {"Win32_Process": notation}})
    assert _mistakes(wrong, real)


def test_a_class_that_windows_lacks_is_found(real):
    (wrong,) = Schema({"root/cimv2": {"Win32_Invented": "string Name"}})
    assert _mistakes(wrong, real) == ["root/cimv2:Win32_Invented is not there"]
