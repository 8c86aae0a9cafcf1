# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The live registry on real hive files, checked with hivex; accounts in the SAM hive."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.accounts import LabAccounts
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.registry import LabRegistry
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.nt_hash import md4, nt_hash
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Value

SETUP = r"HKLM\SYSTEM\Setup"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    content.make_windows(tmp_path)
    return tmp_path / "Windows" / "System32" / "config"


@pytest.mark.skipif(shutil.which("hivexget") is None, reason="Debian's libhivex-bin is not installed")
def test_a_change_is_in_the_hive_file(config: Path) -> None:
    registry = LabRegistry(config, write_through=True)
    registry.set(r"HKLM\SYSTEM\CurrentControlSet\Services\WinRM", "Start", Value.dword(2))
    command = ["hivexget", str(config / "SYSTEM"), r"ControlSet001\Services\WinRM", "Start"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "2"


def test_windows_pe_forgets(config: Path) -> None:
    before = (config / "SYSTEM").read_bytes()
    registry = LabRegistry(config, write_through=False)
    registry.set(SETUP, "x", Value.dword(1))
    assert registry.get_dword(SETUP, "x") == 1
    assert (config / "SYSTEM").read_bytes() == before


def test_volatile_values_reach_no_file(config: Path) -> None:
    registry = LabRegistry(config, write_through=True)
    registry.set_volatile(SETUP, "firmware", Value.dword(2))
    registry.set(SETUP, "kept", Value.dword(1))
    again = LabRegistry(config, write_through=True)
    assert registry.get_dword(SETUP, "firmware") == 2
    assert (again.get_dword(SETUP, "firmware"), again.get_dword(SETUP, "kept")) == (None, 1)


def test_the_files_of_the_running_system_are_in_use(config: Path) -> None:
    names = {file.name for file in LabRegistry(config, write_through=True).files}
    assert names == {"SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT"}


def test_a_damaged_hive_is_1009(config: Path) -> None:
    (config / "SOFTWARE").write_bytes(b"regf" + bytes(100))
    with pytest.raises(Win32Problem) as problem:
        LabRegistry(config, write_through=True)
    assert problem.value.code == 1009


def test_md4_of_the_rfc() -> None:
    assert md4(b"").hex() == "31d6cfe0d16ae931b73c59d7e0c089c0"
    assert md4(b"message digest").hex() == "d9130a8164549fe818874806e1c7014b"
    assert nt_hash("password").hex() == "8846f7eaee8fb117ad06bdd830b7586c"


def test_accounts(config: Path) -> None:
    accounts = LabAccounts(LabRegistry(config, write_through=True))
    accounts.set_machine_sid("S-1-5-21-1-2-3")
    made = accounts.create("osd-run", "Secret-1")
    accounts.add_to_group("OSD-RUN", "*S-1-5-32-544")
    again = LabAccounts(LabRegistry(config, write_through=True)).find("osd-run")
    assert again is not None
    assert (again.rid, again.sid, again.enabled) == (1001, "S-1-5-21-1-2-3-1001", True)
    assert again.groups == {"Administrators", "Users"}
    assert again.nt_hash == nt_hash("Secret-1")
    assert "Secret" not in repr(made)
    accounts.delete("osd-run")
    assert accounts.find("osd-run") is None
    assert [a.name for a in accounts.list()] == ["Administrator", "Guest"]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda a: a.create("Administrator", "x"), 2224),
        (lambda a: a.delete("nobody"), 2221),
        (lambda a: a.delete("Administrator"), 1371),
        (lambda a: a.add_to_group("Guest", "No Group"), 2220),
        (lambda a: a.add_to_group("Guest", "Guests"), 1378),
        (lambda a: a.remove_from_group("Guest", "Users"), 1377),
    ],
)
def test_accounts_refuse_as_windows_does(config: Path, action: object, code: int) -> None:
    accounts = LabAccounts(LabRegistry(config, write_through=True))
    with pytest.raises(Win32Problem) as problem:
        action(accounts)  # type: ignore[operator]
    assert problem.value.code == code
