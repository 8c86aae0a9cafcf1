# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The opening of the built Windows: applied, proven, taken away, proven gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import opening
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.opening import Before, FirewallRule
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import OfflineRegistry, RegistryChanges, RegistryValue
from ansible_collections.goldimage.osd.tests.unit.support.fake_registry import FakeComputer

CONTROLLER = "192.0.2.7"


@pytest.fixture
def pe() -> Any:
    system, software = rh.empty(), rh.empty()
    system.set_dword("Select", "Current", 1)
    system.set_dword(r"ControlSet001\Services\WinRM", "Start", 3)
    system.set_dword(r"ControlSet001\Services\WinRM", "DelayedAutoStart", 1)
    software.set_string(opening.STORE_POLICY.removeprefix("SOFTWARE\\"), "Other", "stays")
    config = r"W:\Windows\System32\config"
    return FakeComputer({rf"{config}\SYSTEM": system, rf"{config}\SOFTWARE": software})


def content(pe: Any) -> dict[str, dict[str, dict[str, rh.Value]]]:
    return {f: {p: dict(k.values.items()) for p, k in root.walk() if k.values} for f, root in pe.files.items()}


def test_apply_prove_undo_prove(pe: Any) -> None:
    before_all = content(pe)
    wanted = opening.settings(CONTROLLER)
    registry = OfflineRegistry(pe, "W:\\")
    registry.read(opening.keys(opening.settings(CONTROLLER)))
    assert len(opening.listens(registry, CONTROLLER)) == 7
    before = opening.apply(registry, wanted)
    assert opening.listens(registry, CONTROLLER) == []
    assert len(opening.remaining(registry, wanted, before)) == len(wanted)
    plain = json.loads(json.dumps([b.as_dict() for b in before]))
    registry = OfflineRegistry(pe, "W:\\")
    registry.read(opening.keys(opening.settings(CONTROLLER)))
    remembered = [Before.from_dict(b) for b in plain]
    changes = opening.undoing(opening.remaining(registry, wanted, remembered), remembered)
    assert len(changes.values) + len(changes.removed_values) == len(wanted)
    registry.change(changes)
    assert opening.remaining(registry, wanted, remembered) == ()
    assert not opening.undoing((), remembered)
    assert content(pe) == before_all


def test_the_keys_that_the_opening_made_go_with_it_unless_something_else_came_in(pe: Any) -> None:
    wanted = opening.settings(CONTROLLER)
    registry = OfflineRegistry(pe, "W:\\")
    before = [Before.from_dict(b.as_dict()) for b in opening.apply(registry, wanted)]
    made = opening.made_keys(registry, wanted, before)
    assert opening.WINRM_POLICY in made
    assert not {opening.STORE_POLICY, opening.WINRM_SERVICE} & set(made), "these were there before"
    assert opening.CLOUD_POLICY in made
    foreign = RegistryValue(opening.CLOUD_POLICY, "Foreign", "REG_DWORD", 1)
    changes = opening.undoing(wanted, before)
    registry.change(RegistryChanges((*changes.values, foreign), changes.removed_values))
    assert opening.made_keys(registry, wanted, before) == [key for key in made if key != opening.CLOUD_POLICY]
    assert opening.made_keys(registry, wanted, ()) == [], "of what nothing is known nothing is removed"


def test_without_memory_the_service_goes_back_to_by_demand(pe: Any) -> None:
    wanted = opening.settings(CONTROLLER)
    registry = OfflineRegistry(pe, "W:\\")
    registry.read(opening.keys(opening.settings(CONTROLLER)))
    opening.apply(registry, wanted)
    registry.change(opening.undoing(opening.remaining(registry, wanted)))
    assert opening.remaining(registry, wanted) == ()
    assert registry.get_dword(opening.WINRM_SERVICE, "Start") == 3
    assert registry.get_dword(opening.WINRM_SERVICE, "DelayedAutoStart") is None


def test_one_value_left_is_named(pe: Any) -> None:
    wanted = opening.settings(CONTROLLER)
    registry = OfflineRegistry(pe, "W:\\")
    registry.read(opening.keys(opening.settings(CONTROLLER)))
    registry.change(opening.undoing(wanted, opening.apply(registry, wanted)))
    value = RegistryValue(opening.SYSTEM_POLICIES, "LocalAccountTokenFilterPolicy", "REG_DWORD", 1)
    registry.change(RegistryChanges(values=(value,)))
    (left,) = opening.remaining(registry, wanted)
    assert "LocalAccountTokenFilterPolicy" in opening.describe_remaining(left)
    assert "full token" in opening.describe_remaining(left)


def test_a_second_apply_writes_nothing(pe: Any) -> None:
    wanted = opening.settings(CONTROLLER)
    registry = OfflineRegistry(pe, "W:\\")
    registry.read(opening.keys(opening.settings(CONTROLLER)))
    opening.apply(registry, wanted)
    pe.log.clear()
    opening.apply(registry, wanted)
    assert pe.log == []


def test_the_firewall_rule_admits_the_controller_only() -> None:
    rule = opening.firewall_rule(CONTROLLER)
    text = rule.render()
    assert text == ("v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=192.0.2.7|Name=osd-winrm|")
    again = opening.parse_firewall_rule(text)
    assert again == rule
    assert rule.admits(CONTROLLER, 5985)
    assert not rule.admits("192.0.2.8", 5985)
    assert not rule.admits(CONTROLLER, 5986)
    with pytest.raises(ValueError, match="address"):
        opening.firewall_rule("controller.example")
    assert "RA6=2001:db8::1|" in opening.firewall_rule("2001:db8::1").render()


@pytest.mark.parametrize(
    ("text", "address", "admitted"),
    [
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=192.0.2.0/255.255.255.0|Name=x|", "192.0.2.9", True),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=192.0.2.1-192.0.2.5|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=LocalSubnet|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|App=System|Name=x|", "192.0.2.6", True),
        ("v2.10|Action=Allow|Active=FALSE|Dir=In|Protocol=6|LPort=5985|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Block|Active=TRUE|Dir=In|Protocol=6|LPort=5985|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Allow|Active=TRUE|Dir=Out|Protocol=6|LPort=5985|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=17|LPort=5985|Name=x|", "192.0.2.6", False),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|Profile=Domain|LPort=5985|Name=x|", "192.0.2.6", False),
    ],
)
def test_foreign_rules(text: str, address: str, admitted: bool) -> None:
    rule = opening.parse_firewall_rule(text)
    assert rule is not None
    assert rule.admits(address, 5985) is admitted


@pytest.mark.parametrize("text", ["", "v2.31", "v1|Action=Allow|", "v2.31|Action|", "v2.31|Action=Allow"])
def test_what_is_no_rule(text: str) -> None:
    assert opening.parse_firewall_rule(text) is None


def test_other_fields_stay() -> None:
    rule = FirewallRule("n", protocol=6, other={"app": ("System",)})
    assert opening.parse_firewall_rule(rule.render()) == rule


def test_a_server_needs_fewer() -> None:
    names = {s.value.name for s in opening.settings(CONTROLLER, server=True)}
    assert "PreventDeviceEncryption" not in names
    assert "AllowAutoConfig" in names
