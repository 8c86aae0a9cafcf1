# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One list of requests, three answers: the lab's Windows PE, the agent under Wine and, for the shape, recordings of Windows.

Every difference stands in docs/compared-with-wine.md with whose it is; a row there that no longer occurs is a failure, too.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
from base64 import b64encode
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / os.environ.get("CORPORA", "../shared/corpora")).resolve() / "winrm/zenoss+txwinrm/txwinrm/test/data"
PASSWORD = "Boot-Image-1"
REGISTRY = {"hDefKey": 0x80000002, "sSubKeyName": r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"}
#: A key that these requests make and delete, in their order.
OWN = {"hDefKey": 0x80000002, "sSubKeyName": r"SOFTWARE\goldimage.osd three answers"}
CLASSES = [
    "Win32_OperatingSystem", "Win32_ComputerSystem", "Win32_ComputerSystemProduct", "Win32_BIOS", "Win32_SystemEnclosure",
    "Win32_Processor", "Win32_NetworkAdapter", "Win32_NetworkAdapterConfiguration", "Win32_PnPEntity", "Win32_Service", "Win32_Process",
    "Win32_Volume",
]  # fmt: skip
REQUESTS = {
    **{name: (lambda client, name=name: rows(client, name)) for name in CLASSES},
    "no such class": lambda client: client.query("SELECT Name FROM Win32_Nothing"),
    "no such column": lambda client: client.query("SELECT Nothing FROM Win32_Service"),
    "no such namespace": lambda client: client.query("SELECT Name FROM Win32_Service", namespace="root/nowhere"),
    "no such instance": lambda client: client.get("Win32_Service", {"Name": "no such service"}),
    "no such file": lambda client: client.get("CIM_DataFile", {"Name": "c:\\no such file"}),
    "bad key": lambda client: client.get("Win32_Service", {"Nothing": "x"}),
    "no such method": lambda client: client.request(
        f"{ns.class_uri('root/cimv2', 'Win32_Process')}/Nothing", ns.class_uri("root/cimv2", "Win32_Process"), ""
    ),
    "no such job": lambda client: client.invoke("OSD_Job", "Get", {}, {"Id": "nothing"}, "root/osd"),
    "registry text": lambda client: client.invoke("StdRegProv", "GetStringValue", {**REGISTRY, "sValueName": "EditionID"}),
    "registry other type": lambda client: client.invoke("StdRegProv", "GetDWORDValue", {**REGISTRY, "sValueName": "EditionID"}),
    "registry no value": lambda client: client.invoke("StdRegProv", "GetStringValue", {**REGISTRY, "sValueName": "nothing"}),
    "registry no key": lambda client: client.invoke("StdRegProv", "EnumKey", {**REGISTRY, "sSubKeyName": "SOFTWARE\\nothing"}),
    "registry create key": lambda client: registry(client, "CreateKey"),
    "registry set number": lambda client: registry(client, "SetDWORDValue", sValueName="n", uValue=0xFFFFFFFE),
    "registry set texts": lambda client: registry(client, "SetMultiStringValue", sValueName="m", sValue=["one", "two"]),
    "registry number": lambda client: registry(client, "GetDWORDValue", sValueName="n"),
    "registry texts": lambda client: registry(client, "GetMultiStringValue", sValueName="m"),
    "registry bytes of another type": lambda client: registry(client, "GetBinaryValue", sValueName="m"),
    "registry value of no key": lambda client: registry(client, "GetDWORDValue", sSubKeyName="no key", sValueName="x"),
    "registry values": lambda client: registry(client, "EnumValues"),
    "registry no keys below": lambda client: registry(client, "EnumKey"),
    "registry keys below": lambda client: registry(client, "EnumKey", sSubKeyName=r"SOFTWARE\Microsoft\Windows NT"),
    "registry delete value": lambda client: registry(client, "DeleteValue", sValueName="n"),
    "registry delete no value": lambda client: registry(client, "DeleteValue", sValueName="n"),
    "registry delete key": lambda client: registry(client, "DeleteKey"),
    "registry delete no key": lambda client: registry(client, "DeleteKey"),
    "process created": lambda client: client.invoke("Win32_Process", "Create", {"CommandLine": "cmd.exe /d /c exit"}),
    "volumes": lambda client: client.query("SELECT * FROM MSFT_Volume", namespace="root/microsoft/windows/storage"),
    "network drives": lambda client: client.query("SELECT RemoteName FROM OSD_NetworkDrive", namespace="root/osd"),
    "process not found": lambda client: client.invoke("Win32_Process", "Create", {"CommandLine": r"C:\nothing.exe"}),
}


def registry(client, method, **arguments):
    return client.invoke("StdRegProv", method, {**OWN, **arguments})


def columns(name):
    return sorted(p.name for p in SCHEMA.find("root/cimv2", name).properties)


def rows(client, name):
    return client.query(f"SELECT {', '.join(columns(name))} FROM {name}")


def kind(value):
    if isinstance(value, list):
        return f"array of {kind(value[0])}" if value else "empty array"
    return "null" if value is None else type(value).__name__


def shape(request, client):
    """Return what an answer is made of: property → types seen in the rows; a fault's code; a method's outputs; the elements' order."""
    answers = []

    def keep(*arguments, **options):
        answers.append(Client.request(client, *arguments, **options))
        return answers[-1]

    client.request = keep
    try:
        found = request(client)
    except WsmanFault as fault:
        return {"fault": f"0x{fault.code:08X}"}
    finally:
        del client.request
    if isinstance(found, dict):
        kinds = {name: str(value) if name == "ReturnValue" else kind(value) for name, value in found.items()}
        return {**kinds, "order": order(answers[0])}
    listed = found if isinstance(found, list) else [found]
    if not listed:
        return {"rows": "none"}  # of no row nothing more can be said
    # Null in one row and a value in another is the value's type.
    kinds = {name: {kind(row.properties[name]) for row in listed} for name in listed[0].properties}
    return {**{name: (sorted(seen - {"null"}) or ["null"])[0] for name, seen in kinds.items()}, "order": order(answers[0])}


def order(content):
    """Return the names of an output's or of the first row's elements as they came, each once: an array repeats its own."""
    items = next((element for element in content.iter() if ns.local_name(element.tag) == "Items"), None)
    row = content if items is None else items[0]
    return list(dict.fromkeys(ns.local_name(element.tag) for element in row))


def common(orders):
    """Return two orders without what is in one of them only: an array that is null has no element."""
    return [" ".join(name for name in names if all(name in other for other in orders)) for names in orders]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    prepare.make_content(folder / "content", PASSWORD)
    addresses = prepare.addresses("127.189.77.0/24", 0)
    media = [{"kind": "usb", "folder": str(folder / "content" / "boot")}]
    hardware.make("pc", 1, {"media": media}, addresses).save(folder / "pc")
    computer = LabComputer(folder / "pc", LabNetwork.from_plain({}), Settings(speed=2000))
    computer.power_on()
    assert wait_for_state(computer, {"windows_pe"}, 30) == "windows_pe"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(computer.machine.address, 5986, context=context, timeout=20)
    token = b64encode(f"osd:{PASSWORD}".encode()).decode()

    def send(body):
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {token}"}
        connection.request("POST", "/wsman", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield Client(send, SCHEMA)
    connection.close()
    computer.power_off()


def table():
    """Return the document's rows: request, what, lab's answer, agent's answer, whose, why."""
    text = (ROOT / "docs" / "compared-with-wine.md").read_text()
    part = text.partition("<!-- requests -->")[2].partition("<!-- end -->")[0]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")]
    return cells[2:]


def listed():
    return {tuple(row[:4]) for row in table()}


def test_lab_and_agent_answer_alike(lab, cim, agent):
    differences = set()
    for name, request in REQUESTS.items():
        ours, theirs = shape(request, lab), shape(request, cim)
        names = ["rows"] if "rows" in ours or "rows" in theirs else sorted({*ours, *theirs})
        for what in names:
            other = "some" if what == "rows" else "absent"
            pair = ours.get(what, other), theirs.get(what, other)
            if what == "order":
                pair = common(pair)
            if pair[0] != pair[1]:
                differences.add((name, what, *pair))
    (agent.build / "differences.txt").write_text("".join(f"| {' | '.join(row)} |\n" for row in sorted(differences)))
    assert not sorted(differences - listed())
    assert not sorted(listed() - differences)


def test_every_difference_says_whose_it_is_and_why():
    for row in table():
        assert row[4] in ("lab", "agent", "Wine"), row
        assert row[5], row


@pytest.mark.skipif(not PAGES.is_dir(), reason="no recordings here")
@pytest.mark.parametrize("version", ["server_2008", "server_2012"])
def test_the_agents_rows_have_the_shape_of_recorded_ones(cim, version):
    """Names in the recordings' case, their order, and what each holds: a number, a date, a truth value or text."""
    compared = 0
    for name in CLASSES:
        pages = sorted((PAGES / version).glob(f"{name}_star_*.xml"))
        if not pages:
            continue
        recorded = sample(ElementTree.parse(pages[0]).getroot(), name)
        query = f'<n:Enumerate><w:OptimizeEnumeration/><w:Filter Dialect="{ns.WQL_DIALECT}">SELECT * FROM {name}</w:Filter></n:Enumerate>'
        if not recorded:
            continue
        answer = sample(cim.request(ns.ACTION_ENUMERATE, ns.class_uri("root/cimv2", "*"), query), name)
        assert list(answer) == sorted(answer, key=str.lower)
        names = {known.lower(): known for known in recorded}
        for own, content in answer.items():
            known = names.get(own.lower())
            if known is not None and "nil" not in (content, recorded[known]):
                assert content == recorded[known] or "text" in (content, recorded[known]), (name, own)
                compared += 1
    assert compared > 40


def sample(root, name):
    """Return name → kind of content of the first row of a class, {} without rows."""
    row = next((element for element in root.iter() if element.tag.rpartition("}")[2] == name), ())
    return {item.tag.rpartition("}")[2]: content_kind(item) for item in row}


def content_kind(item):
    if item.get(f"{{{ns.XSI}}}nil") == "true":
        return "nil"
    if len(item):
        return item[0].tag.rpartition("}")[2]
    text = item.text or ""
    if re.fullmatch(r"-?\d+", text):
        return "number"
    return "boolean" if text in ("true", "false") else "text"
