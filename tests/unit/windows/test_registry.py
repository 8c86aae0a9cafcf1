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


def test_offline_by_the_names_of_the_running_windows(pe: Any) -> None:
    with OfflineRegistry(pe, "W:\\", pause=0) as registry:
        assert registry.control_set == "ControlSet002"
        start = RegistryValue(r"SYSTEM\CurrentControlSet\Services\WinRM", "Start", "REG_DWORD", 2)
        assert not registry.holds(start)
        registry.set(start)
        assert registry.holds(start)
        assert registry.get_string(r"SOFTWARE\T", "edition") == "Enterprise"
        for value in VALUES:
            registry.set(value)
            assert registry.holds(value)
        assert registry.delete_value(r"SOFTWARE\T", "EDITION")
        assert not registry.delete_value(r"SOFTWARE\T", "edition")
        assert registry.delete_key(r"SOFTWARE\T\Deep")
        assert not registry.delete_key(r"SOFTWARE\T\Deep")
        with pytest.raises(ValueError, match="none of the loaded hives"):
            registry.get_string(r"HKU\.DEFAULT", "x")
    assert list(pe.root.subkeys) == []
    assert pe.files[r"W:\Windows\System32\config\SYSTEM"].get_dword(r"ControlSet002\Services\WinRM", "Start") == 2


def test_many_changes_are_one_import(pe: Any) -> None:
    with OfflineRegistry(pe, "W:\\", pause=0) as registry:
        pe.log.clear()
        registry.change(RegistryChanges(tuple(VALUES), ((r"SOFTWARE\T", "edition"),), (r"SOFTWARE\T\Deep",)))
        assert [argv[1] for argv in pe.log] == ["import"]
        assert registry.enum_values(r"SOFTWARE\T\Deep") is None
        assert registry.get_string(r"SOFTWARE\T", "edition") is None
        pe.log.clear()
        registry.change(RegistryChanges())
        assert pe.log == []


def test_a_hive_left_loaded_is_loaded_anew_and_a_busy_one_is_waited_for(pe: Any) -> None:
    pe.root.create("OSD_SYSTEM")
    with OfflineRegistry(pe, "W:", pause=0):
        pe.unload_refusals = 3
    assert list(pe.root.subkeys) == []


def test_a_hive_that_stays_busy_is_an_error_unless_there_is_one_already(pe: Any) -> None:
    with pytest.raises(RegistryError, match="another process"), OfflineRegistry(pe, "W:", attempts=2, pause=0):
        pe.unload_refusals = 99
    pe.unload_refusals = 0
    with pytest.raises(KeyError), OfflineRegistry(pe, "W:", attempts=2, pause=0):
        pe.unload_refusals = 99
        raise KeyError("the real reason")


def test_a_missing_hive_is_named(pe: Any) -> None:
    with pytest.raises(RegistryError, match=r"V:\\Windows\\System32\\config\\SYSTEM"), OfflineRegistry(pe, "V:\\"):
        pass
