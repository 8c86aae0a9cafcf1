# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network settings staged beside a boot image."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import staged_network
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.staged_network import Adapter
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeWindows

FIXED = {
    "MACAddress": "52:54:00:AB:CD:EF",
    "IPEnabled": True,
    "DHCPEnabled": False,
    "IPAddress": ["fe80::1", "192.0.2.10", "192.0.2.11"],
    "IPSubnet": ["64", "255.255.254.0", "255.255.255.0"],
    "DefaultIPGateway": ["fe80::2", "192.0.2.1"],
    "DNSServerSearchOrder": ["192.0.2.2", "192.0.2.3"],
}
ADAPTER = Adapter("52:54:00:ab:cd:ef", False, "192.0.2.10", 23, "192.0.2.1", ("192.0.2.2", "192.0.2.3"))


def read(*rows: dict[str, Any]) -> tuple[Adapter, ...]:
    windows = FakeWindows()
    windows.rows["Win32_NetworkAdapterConfiguration"] = list(rows)
    return staged_network.read_adapters(windows)  # type: ignore[arg-type]


def test_a_fixed_address_is_copied_with_its_own_mask() -> None:
    assert read(FIXED) == (ADAPTER,)


def test_an_adapter_without_ipv4_address_or_mac_is_left_out() -> None:
    assert read({**FIXED, "IPAddress": ["fe80::1"], "IPSubnet": ["64"]}, {**FIXED, "MACAddress": None}, {**FIXED, "IPAddress": None}) == ()


def test_dhcp_keeps_the_address_to_ask_for_and_nothing_need_be_known() -> None:
    row = {"IPEnabled": True, "MACAddress": "52-54-00-AB-CD-EF", "DHCPEnabled": True, "IPAddress": ["192.0.2.10"]}
    row["IPSubnet"] = ["255.255.255.0"]
    assert read(row) == (Adapter("52:54:00:ab:cd:ef", True, "192.0.2.10", 24, None, ()),)


def test_what_is_written_is_read() -> None:
    assert staged_network.parse(staged_network.render([ADAPTER])) == (ADAPTER,)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"schema": 2, "adapters": []},
        {"schema": 1},
        {"schema": 1, "adapters": [{"mac": 1}]},
        {"schema": 1, "adapters": ["x"]},
        {"schema": 1, "adapters": [{"mac": "a", "dhcp": True, "address": "1.2.3.4", "prefix": None}]},
    ],
)
def test_anything_else_is_a_value_error(document: Any) -> None:
    with pytest.raises(ValueError, match="staged network settings"):
        staged_network.parse(json.dumps(document).encode())
