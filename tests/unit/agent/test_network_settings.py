# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixed addresses by MAC: which file counts, what is asked of the adapter, what is said where it refuses."""

from __future__ import annotations

import io
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.network_settings import CLASS, apply, find
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.staged_network import Adapter, render
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

ONE, TWO = "52:54:00:00:00:01", "52:54:00:00:00:02"


def fixed(mac: str, address: str, *, dhcp: bool = False) -> Adapter:
    return Adapter(mac, dhcp, address, 23, "192.0.2.1", ("192.0.2.2", "192.0.2.3"))


class Files:
    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content

    def is_file(self, path: str) -> bool:
        if path.startswith("D:"):
            raise OSError(21, "not ready")
        return path in self.content

    def open_read(self, path: str) -> Any:
        return io.BytesIO(self.content[path])


class Cim:
    def __init__(self, code: Any = 0) -> None:
        self.calls: list[Any] = []
        self.code = code

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        assert class_name == CLASS
        rows = [(7, ONE.upper(), True), (8, TWO, False), (9, None, False)]
        return [Instance(CLASS, {"Index": n, "MACAddress": mac, "IPEnabled": on}) for n, mac, on in rows]

    def invoke(self, namespace: str, class_name: str, method: str, selectors: Any, arguments: Any) -> Any:
        self.calls.append((method, selectors, arguments))
        if isinstance(self.code, Exception):
            raise self.code
        return {"ReturnValue": self.code}


def test_the_staged_file_wins_over_the_boot_image() -> None:
    files = Files(
        {
            r"E:\_osd\pe\network.json": render([fixed(ONE, "192.0.2.17")]),
            r"F:\_osd\pe\network.json": b"no json",
            r"X:\osd\network.json": render([fixed(ONE, "192.0.2.99"), fixed(TWO, "192.0.2.18")]),
        }
    )
    assert [(a.mac, a.address) for a in find(files)] == [(ONE, "192.0.2.17"), (TWO, "192.0.2.18")]


def test_an_adapter_that_had_dhcp_keeps_it() -> None:
    staged = render([fixed(ONE, "192.0.2.17", dhcp=True)])
    assert find(Files({r"C:\_osd\pe\network.json": staged, r"X:\osd\network.json": render([fixed(ONE, "192.0.2.99")])})) == ()


def test_what_is_asked_of_the_adapter() -> None:
    cim = Cim()
    assert apply(cim, [fixed(ONE, "192.0.2.17"), fixed(TWO, "192.0.2.18")]) == []
    assert cim.calls == [
        ("EnableStatic", {"Index": "7"}, {"IPAddress": ["192.0.2.17"], "SubnetMask": ["255.255.254.0"]}),
        ("SetGateways", {"Index": "7"}, {"DefaultIPGateway": ["192.0.2.1"], "GatewayCostMetric": [1]}),
        ("SetDNSServerSearchOrder", {"Index": "7"}, {"DNSServerSearchOrder": ["192.0.2.2", "192.0.2.3"]}),
    ]


def test_a_refusal_is_told_and_ends_that_adapter() -> None:
    for code, shown in ((70, "70"), (CimError(0x80041003, "denied"), "0x80041003")):
        cim = Cim(code)
        assert apply(cim, [fixed(ONE, "192.0.2.17")]) == [f"{ONE} did not get 192.0.2.17: EnableStatic returned {shown}"]
        assert len(cim.calls) == 1
    assert apply(Cim(), []) == []
