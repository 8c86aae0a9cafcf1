# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OSD_NetworkDrive: the API's own codes over the wire, and a server that does not answer."""

from __future__ import annotations

import threading
import time

import pytest
from agent_fakes import NAME, PASSWORD, Connections
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import network_drives
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.network_drives import NetworkDrives
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import Endpoint, open_endpoint
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import network_drives as drives
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import OSD, SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault

SHARE = r"\\server\images"


@pytest.fixture
def cim(computer):
    endpoint = Endpoint(
        host="127.0.0.1", port=computer.port, scheme="https", user="osd", password=PASSWORD, transport="basic",
        certificate=computer.certificate, certificate_name=NAME,
    )  # fmt: skip
    link = open_endpoint(endpoint)
    yield link.client(SCHEMA)
    link.close()


def test_the_codes_of_the_api_come_back(cim, computer):
    assert drives.connect(cim, SHARE, "reader", "wrong") == (1326, False)
    assert drives.connect(cim, r"\\nowhere\images", "reader", "right") == (53, False)
    assert drives.connect(cim, SHARE, "reader", "right") == (0, False)
    assert computer.network.calls[-1] == (SHARE, "reader", "right", "")
    assert drives.connect(cim, SHARE, "writer", "right") == (0, True)
    assert computer.network.made == {("", SHARE): "writer"}


def test_fresh_lets_no_earlier_connection_answer(cim, computer):
    # A job may be using another server: its connections stay.
    elsewhere = {("", r"\\server2\logs"): "other", ("Y:", r"\\files\server"): "other"}
    computer.network.made = {("Z:", r"\\Server\other"): "reader", ("", SHARE): "reader", **elsewhere}
    assert drives.connect(cim, SHARE, "reader", "wrong", fresh=True) == (1326, True)
    assert computer.network.made == elsewhere
    assert drives.connect(cim, SHARE, "writer", "right") == (0, False)
    assert drives.connect(cim, SHARE, "reader", "right") == (0, True)
    assert computer.network.made == {("", SHARE): "reader", **elsewhere}
    computer.network.made = {("Z:", SHARE): "reader"}
    computer.network.stuck = 2401
    assert drives.connect(cim, SHARE, "reader", "right", fresh=True) == (2401, True)
    # It went of itself in between.
    computer.network.stuck = 2250
    assert drives.disconnect_all(cim) == 0


def test_connections_are_instances_with_the_drive_where_there_is_one(cim, computer):
    arguments = {"RemoteName": SHARE, "UserName": "reader", "Password": "right", "LocalName": "Z:"}
    assert cim.invoke("OSD_NetworkDrive", "Connect", arguments, namespace=OSD)["ReturnValue"] == 0
    assert drives.connect(cim, r"\\server\tools", "reader", "right")[0] == 0
    rows = cim.query("SELECT LocalName,RemoteName FROM OSD_NetworkDrive", namespace=OSD)
    assert [(row["LocalName"], row["RemoteName"]) for row in rows] == [("Z:", SHARE), ("", r"\\server\tools")]
    assert cim.query("SELECT Id FROM OSD_Job", namespace=OSD) == []
    assert cim.get("OSD_NetworkDrive", {"LocalName": "z:", "RemoteName": SHARE.upper()}, namespace=OSD)["RemoteName"] == SHARE
    with pytest.raises(WsmanFault) as caught:
        cim.get("OSD_NetworkDrive", {"LocalName": "Y:", "RemoteName": SHARE}, namespace=OSD)
    assert caught.value.is_not_found
    assert cim.invoke("OSD_NetworkDrive", "Disconnect", {"Name": "z:"}, namespace=OSD)["ReturnValue"] == 0
    assert cim.invoke("OSD_NetworkDrive", "Disconnect", {"Name": "z:"}, namespace=OSD)["ReturnValue"] == 2250
    assert cim.invoke("OSD_NetworkDrive", "Connect", {"UserName": "reader"}, namespace=OSD)["ReturnValue"] == 87
    with pytest.raises(WsmanFault):
        cim.delete("OSD_NetworkDrive", {"LocalName": "", "RemoteName": SHARE}, namespace=OSD)


def connect(made, share=SHARE):
    arguments = {"RemoteName": share, "UserName": "reader", "Password": "right"}
    return made.invoke("root/osd", "OSD_NetworkDrive", "Connect", None, arguments)["ReturnValue"]


def test_the_same_call_waits_on_for_a_server_that_does_not_answer():
    network = Connections()
    network.hold.clear()
    made = NetworkDrives(network, wait=0.05)
    assert [connect(made), connect(made)] == [997, 997]
    assert len(network.calls) == 1
    threading.Timer(0.02, network.hold.set).start()
    codes = [connect(made)]
    while codes[-1] == 997:
        codes.append(connect(made))
    assert codes[-1] == 0
    # What has ended answers nobody later: the next call is a new one.
    network.made.clear()
    assert connect(made) == 0
    assert network.made


def test_servers_that_do_not_answer_are_not_collected_without_end():
    network = Connections()
    network.hold.clear()
    made = NetworkDrives(network, wait=0.0)
    codes = [connect(made, rf"\\server\{number}") for number in range(network_drives.MAX_ATTEMPTS + 1)]
    assert codes == [997] * network_drives.MAX_ATTEMPTS + [170]
    network.hold.set()
    limit = time.monotonic() + 10
    while connect(made, r"\\server\last") in (170, 997) and time.monotonic() < limit:
        time.sleep(0.01)
    assert ("", r"\\server\last") in network.made
