# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's Windows PE connects shares by API as net use does there: same accounts, rights and codes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import ComputerNetwork, LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.windows_pe import _Connections

SHARE = r"\\srv\images"


@pytest.fixture
def machine(tmp_path):
    shares = [
        {"server": "srv", "name": "images", "path": str(tmp_path), "read": ["reader"]},
        {"server": "srv", "name": "capture", "path": str(tmp_path), "write": ["writer"]},
    ]
    accounts = [{"name": name, "password": "right"} for name in ("reader", "writer")]
    network = ComputerNetwork(LabNetwork.from_plain({"shares": shares, "accounts": accounts}))
    return SimpleNamespace(network=network, system_session=Session(), disks=SimpleNamespace(used_letters=lambda: {"C", "X"}))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((SHARE, "reader", "right", ""), 0),
        ((SHARE, "reader", "right", "z:"), 0),
        ((SHARE, "reader", "wrong", ""), 1326),
        ((SHARE, "", "", ""), 1326),
        ((SHARE, "writer", "right", ""), 5),
        ((r"\\srv\nothing", "reader", "right", ""), 67),
        ((r"\\nowhere\images", "reader", "right", ""), 53),
        ((r"\\srv", "reader", "right", ""), 67),
        ((r"\\srv\images\folder", "reader", "right", ""), 67),
        ((SHARE, "reader", "right", "C:"), 85),
        ((SHARE, "reader", "right", "Z"), 1200),
    ],
)
def test_the_codes_of_a_connection(machine, arguments, code):
    made = _Connections(machine)
    assert made.connect(*arguments) == code
    assert list(made.connected()) == ([] if code else [(arguments[3].upper(), SHARE)])


def test_one_account_a_server_until_it_is_disconnected(machine):
    made = _Connections(machine)
    assert made.connect(SHARE, "reader", "right", "") == 0
    assert made.connect(r"\\srv\capture", "writer", "right", "") == 1219
    assert [made.disconnect(SHARE), made.disconnect(SHARE)] == [0, 2250]
    assert made.connect(r"\\srv\capture", "writer", "right", "Y:") == 0
    assert made.connect(r"\\srv\capture", "writer", "right", "Y:") == 85
    assert made.disconnect("Y:") == 0
    machine.network.online = False
    assert made.connect(SHARE, "reader", "right", "") == 53
