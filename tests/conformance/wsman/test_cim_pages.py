# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CIM enumerations as recorded by txwinrm: 135 pages of 14 classes of Windows 2003, 2008 R2 and 2012.

The client decodes whole enumerations; the server, given the decoded rows, must write every element again as Windows wrote it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import envelope
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance, Schema
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Server

PAGES = "winrm/zenoss+txwinrm/txwinrm/test/data"
VERSIONS = ("server_2003", "server_2008", "server_2012")

#: Arrays of these classes, by the schemas in corpora/cim: an array of one looks like a scalar in the pages.
ARRAYS = {
    "MUILanguages",
    "PowerManagementCapabilities",
    "ChassisTypes",
    "Roles",
    "OEMStringArray",
    "OEMLogoBitmap",
    "SupportContactDescription",
    "SystemStartupOptions",
    "InitialLoadInfo",
    "BootStatus",
    "TypeDescriptions",
    "ServiceDescriptions",
    "DefaultIPGateway",
    "DNSDomainSuffixSearchOrder",
    "DNSServerSearchOrder",
    "GatewayCostMetric",
    "IPAddress",
    "IPSecPermitIPProtocols",
    "IPSecPermitTCPPorts",
    "IPSecPermitUDPPorts",
    "IPSubnet",
    "IPXFrameType",
    "IPXNetworkNumber",
}


def _enumerations(corpora: Path) -> dict[tuple[str, str, str], list[Path]]:
    found = defaultdict(list)
    for version in VERSIONS:
        for path in sorted((corpora / PAGES / version).glob("*.xml")):
            match = re.fullmatch(r"(\w+)_(all|star)_(\d+)", path.stem)
            assert match, path
            found[(version, match[1], match[2])].append(path)
    return found


def test_the_table_names_every_page(corpora):
    table = (Path(__file__).parent / "recordings.md").read_text(encoding="utf-8")
    pages: dict[str, dict[str, int]] = defaultdict(dict)
    for (version, class_name, kind), paths in _enumerations(corpora).items():
        pages[f"{class_name}_{kind}"][version] = len(paths)
    for name, counts in pages.items():
        words = {version: "not applicable" if version == "server_2003" else "answered" for version in VERSIONS}
        cells = [f"{counts[version]} {words[version]}" if version in counts else "none" for version in VERSIONS]
        assert f"| `{name}` | {' | '.join(cells)} |" in table
    assert len(re.findall(r"^\| `\w+_(?:all|star)` \|", table, re.MULTILINE)) == len(pages)


def _query(bodies: list[bytes], class_name: str, columns: str, schema: Schema) -> list[Instance]:
    answers = iter(bodies)
    end = b"<n:PullResponse><n:Items/><n:EndOfSequence/></n:PullResponse>"
    last = envelope.build_answer("a", "", end.decode())
    client = Client(lambda dummy: (200, next(answers, last)), schema)
    return client.query(f"SELECT {columns} FROM {class_name}")


def _items(bodies: list[bytes]) -> list[ElementTree.Element]:
    rows = []
    for body in bodies:
        for items in ElementTree.fromstring(body).iter():
            if ns.local_name(items.tag) == "Items":
                rows += list(items)
    return rows


def _columns(rows: list[ElementTree.Element]) -> str:
    return ", ".join(dict.fromkeys(ns.local_name(item.tag) for row in rows for item in row))


def test_all_pages_are_decoded_by_the_projects_own_table(corpora, foreign_file):
    enumerations = _enumerations(corpora)
    pages = 0
    typed: dict[type, int] = defaultdict(int)
    for (dummy, class_name, kind), paths in enumerations.items():
        bodies = [foreign_file(path).read_bytes() for path in paths]
        rows = _items(bodies)
        columns = "*" if kind == "star" else _columns(rows)
        decoded = _query(bodies, class_name, columns, SCHEMA)
        assert len(decoded) == len(rows) > 0
        known = SCHEMA.find("root/cimv2", class_name)
        for instance, row in zip(decoded, rows, strict=True):
            _check_row(instance, row)
            for p in known.properties if known else ():
                assert kind == "all" or p.name in instance.properties
                value = instance[p.name]
                assert value is None or isinstance(value, list) == p.array
                for one in value if isinstance(value, list) else [value]:
                    typed[type(one)] += 1
        pages += len(bodies)
    assert pages == 135
    assert min(typed[int], typed[str], typed[bool], typed[type(None)], typed[datetime]) > 10


def _check_row(instance: Instance, row: ElementTree.Element) -> None:
    """Count by hand: every element that is not nil is a value, in its own text."""
    for item in row:
        name = ns.local_name(item.tag)
        values = instance[name]
        if item.get(f"{{{ns.XSI}}}nil") == "true":
            assert values is None
        elif not len(item):
            flat = values if isinstance(values, list) else [values]
            texts = {{True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v) for v in flat}
            assert (item.text or "") in texts, name


def _text_schema(rows: list[ElementTree.Element], class_name: str) -> Schema:
    """All properties as recorded, as text: what is written is then compared character by character."""
    classes: dict[str, dict[str, str]] = {class_name: {}}
    for row in rows:
        uri = ns.parse_class_uri(ns.namespace_of(row.tag))
        names = classes.setdefault(uri[1] if uri else class_name, {})
        for item in row:
            name = ns.local_name(item.tag)
            kind = "datetime" if len(item) else "string"
            if kind == "datetime" or name not in names:
                names[name] = f"{kind}{'[]' if name in ARRAYS else ''} {name}"
    return Schema({"root/cimv2": {name: "; ".join(members.values()) for name, members in classes.items()}})


class _Rows:
    def __init__(self, rows: list[Instance]) -> None:
        self.rows = rows

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        return self.rows


@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_writes_every_row_as_windows_wrote_it(corpora, foreign_file, version):
    compared = 0
    for (found, class_name, kind), paths in _enumerations(corpora).items():
        if found != version:
            continue
        bodies = [foreign_file(path).read_bytes() for path in paths]
        rows = _items(bodies)
        schema = _text_schema(rows, class_name)
        columns = "*" if kind == "star" else _columns(rows)
        decoded = _query(bodies, class_name, columns, schema)
        server = Server(schema, _Rows(decoded), shells=None, identity=Identity("v", "p"))  # type: ignore[arg-type]
        answers: list[bytes] = []
        client = Client(_recording(server, answers), schema, max_envelope=153600)
        again = client.query(f"SELECT {columns} FROM {class_name}")
        assert again == decoded
        written = _items(answers)
        assert len(written) == len(rows)
        for ours, theirs in zip(written, rows, strict=True):
            assert _tree(ours) == _tree(theirs)
            compared += 1
    assert compared > 100


def _recording(server: Server, answers: list[bytes]) -> Callable[[bytes], tuple[int, bytes]]:
    """Return what sends a request to the server and keeps the answer."""

    def send(body: bytes) -> tuple[int, bytes]:
        status, answer = server.handle(body, user="u")
        answers.append(answer)
        return status, answer

    return send


def _tree(element: ElementTree.Element) -> object:
    text = (element.text or "") if not len(element) else ""
    if ns.local_name(element.tag) == "Datetime":
        text = re.sub(r"\.0+Z$|(?<=[1-9])0+Z$", "Z", text)
    return (element.tag, dict(element.attrib), text, [_tree(item) for item in element])


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_pages_have_the_recorded_form(corpora, foreign_file, version):
    """One item first, its end in w:, later ones in n:, a context that changes, and pages of half the envelope."""
    largest = 0
    for (found, dummy, dummy), paths in _enumerations(corpora).items():
        if found != version:
            continue
        bodies = [foreign_file(path).read_bytes() for path in paths]
        first = envelope.parse(bodies[0]).content
        assert ns.local_name(first.tag) in ("EnumerateResponse", "PullResponse")
        if ns.local_name(first.tag) == "EnumerateResponse":
            assert len(envelope.child(first, "Items")) == 1
        largest = max(largest, *(len(body.decode()) for body in bodies))
    # 153600 counted in UTF-16; the largest is eleven characters over it, so Windows does not count every one of them.
    assert 70000 < largest < 153600 / 2 + 100


def test_pages_hold_as_many_rows_as_recorded(corpora, foreign_file):
    """With the recorded envelope of 153600 bytes, full pages differ from Windows' own by three rows at most."""
    full_pages = 0
    for (version, class_name, kind), paths in _enumerations(corpora).items():
        bodies = [foreign_file(path).read_bytes() for path in paths]
        if version == "server_2003" or len(bodies) < 3:
            continue
        rows = _items(bodies)
        schema = _text_schema(rows, class_name)
        columns = "*" if kind == "star" else _columns(rows)
        decoded = _query(bodies, class_name, columns, schema)
        server = Server(schema, _Rows(decoded), shells=None, identity=Identity("v", "p"))  # type: ignore[arg-type]
        answers: list[bytes] = []
        Client(_recording(server, answers), schema, max_envelope=153600).query(f"SELECT {columns} FROM {class_name}")
        counts = [len(_items([answer])) for answer in answers]
        for ours, theirs in list(zip(counts, (len(_items([body])) for body in bodies), strict=False))[:-1]:
            assert abs(ours - theirs) <= 3, (version, class_name, kind)
            full_pages += theirs > 1
    assert full_pages > 5
