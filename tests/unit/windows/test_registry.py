# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry through StdRegProv and reg.exe."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import (
    OfflineRegistry,
    Registry,
    RegistryChanges,
    RegistryError,
    RegistryValue,
    split_key,
)
from ansible_collections.goldimage.osd.tests.unit.support.fake_registry import FakeComputer

VALUES = [
    RegistryValue(r"SOFTWARE\T", "s", "REG_SZ", "text"),
    RegistryValue(r"SOFTWARE\T", "e", "REG_EXPAND_SZ", "%windir%"),
    RegistryValue(r"SOFTWARE\T\Deep", "d", "REG_DWORD", 7),
    RegistryValue(r"SOFTWARE\T\Deep", "q", "REG_QWORD", 1 << 40),
    RegistryValue(r"SOFTWARE\T", "m", "REG_MULTI_SZ", ("a", "b c")),
    RegistryValue(r"SOFTWARE\T", "b", "REG_BINARY", b"\x00\xff"),
    RegistryValue(r"SOFTWARE\T", "", "REG_SZ", "default"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: v.type + v.name)
def test_set_get_delete(value: RegistryValue) -> None:
    registry = Registry(FakeComputer().cim)
    assert registry.get(value.key, value.name, value.type) is None
    registry.set(value)
    assert registry.get(value.key, value.name, value.type) == value.data
    assert registry.holds(value)
    assert registry.delete_value(value.key, value.name)
    assert not registry.delete_value(value.key, value.name)
    assert not registry.holds(value)


def test_absent_and_other_type_are_none() -> None:
    computer = FakeComputer()
    computer.root.set_string("SOFTWARE", "s", "x")
    registry = Registry(computer.cim)
    assert registry.get_dword("SOFTWARE", "s") is None
    assert registry.get_string("SOFTWARE", "t") is None
    assert registry.get_string("NONE", "t") is None
    assert registry.enum_keys("NONE") is None
    assert registry.enum_keys("SOFTWARE") == []
    assert registry.enum_values("SOFTWARE") == {"s": 1}
    assert registry.exists("SOFTWARE")
    assert not registry.exists("NONE")


def test_a_tree_is_deleted_from_its_leaves() -> None:
    computer = FakeComputer()
    computer.root.create(r"SOFTWARE\A\B\C")
    registry = Registry(computer.cim)
    assert registry.delete_key(r"SOFTWARE\A")
    assert not registry.delete_key(r"SOFTWARE\A")
    assert registry.exists("SOFTWARE")


def test_refusals_name_key_and_code() -> None:
    computer = FakeComputer()
    computer.denied = True
    with pytest.raises(RegistryError, match=r"GetDWORDValue for HKLM\\SOFTWARE, value 'x': code 5 \(access denied\)"):
        Registry(computer.cim).get_dword("SOFTWARE", "x")


def test_roots() -> None:
    assert split_key(r"SOFTWARE\A") == (0x80000002, r"SOFTWARE\A")
    assert split_key(r"HKLM\SOFTWARE") == (0x80000002, "SOFTWARE")
    assert split_key(r"HKU\.DEFAULT\X") == (0x80000003, r".DEFAULT\X")


@pytest.fixture
def pe() -> Any:
    system, software = rh.empty(), rh.empty()
    system.set_dword("Select", "Current", 2)
    system.set_dword(r"ControlSet002\Services\WinRM", "Start", 3)
    software.set_string("T", "edition", "Enterprise")
    config = r"W:\Windows\System32\config"
    return FakeComputer({rf"{config}\SYSTEM": system, rf"{config}\SOFTWARE": software})


START = RegistryValue(r"SYSTEM\CurrentControlSet\Services\WinRM", "Start", "REG_DWORD", 2)


def test_offline_by_the_names_of_the_running_windows(pe: Any) -> None:
    registry = OfflineRegistry(pe, "W:\\")
    registry.read((START.key, r"SOFTWARE\T"))
    assert pe.requests == 2, "one job, and one more because the current control set is not the first (files are not counted)"
    assert registry.control_set == "ControlSet002"
    assert not registry.holds(START)
    assert registry.get_dword(START.key, "start") == 3
    assert registry.get_string(r"SOFTWARE\T", "edition") == "Enterprise"
    registry.change(RegistryChanges((START, *VALUES)))
    assert all(registry.holds(value) for value in (START, *VALUES))
    assert registry.enum_keys(r"SOFTWARE\T") == ["Deep"]
    assert registry.enum_values(r"SOFTWARE\T\Deep") == {"d": 4, "q": 11}
    assert registry.get_string(r"SOFTWARE\T\Deep", "d") is None
    registry.change(RegistryChanges((), ((r"SOFTWARE\T", "EDITION"),), (r"SOFTWARE\T\Deep",)))
    assert registry.get_string(r"SOFTWARE\T", "edition") is None
    assert not registry.exists(r"SOFTWARE\T\Deep")
    assert registry.exists(r"SOFTWARE\T")
    with pytest.raises(ValueError, match="none of the loaded hives"):
        registry.get_string(r"HKU\.DEFAULT", "x")
    assert list(pe.root.subkeys) == []
    assert pe.files[r"W:\Windows\System32\config\SYSTEM"].get_dword(r"ControlSet002\Services\WinRM", "Start") == 2


def test_what_was_not_read_is_not_absent(pe: Any) -> None:
    registry = OfflineRegistry(pe, "W:")
    registry.read((r"SOFTWARE\T", r"SOFTWARE\Absent"))
    assert not registry.exists(r"SOFTWARE\Absent\Below")
    for path in ("SOFTWARE", r"SOFTWARE\Tea", START.key):
        with pytest.raises(ValueError, match="was not read"):
            registry.exists(path)


def test_nothing_to_change_is_no_request(pe: Any) -> None:
    registry = OfflineRegistry(pe, "W:")
    registry.change(RegistryChanges())
    assert pe.requests == 0
    registry.change(RegistryChanges((START,)))
    assert pe.log == [["import"]]
    assert pe.files[r"W:\Windows\System32\config\SYSTEM"].get_dword(r"ControlSet002\Services\WinRM", "Start") == 2


def test_a_missing_hive_is_named(pe: Any) -> None:
    with pytest.raises(RegistryError, match=r"V:\\Windows\\System32\\config\\SYSTEM"):
        OfflineRegistry(pe, "V:\\").read(())
