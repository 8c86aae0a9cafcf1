# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals of a pending restart."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.pending_restart import (
    join_is_pending,
    pending_restart_reasons,
    read_servicing,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import Registry
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeWindows

CBS = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
NAME = r"SYSTEM\CurrentControlSet\Control\ComputerName"


def windows(*values: tuple[str, str, str, Any]) -> FakeWindows:
    made = FakeWindows()
    made.set_value(rf"{NAME}\ComputerName", "ComputerName", "REG_SZ", "REF01")
    made.set_value(rf"{NAME}\ActiveComputerName", "ComputerName", "REG_SZ", "ref01")
    for value in values:
        made.set_value(*value)
    return made


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((rf"{CBS}\RebootPending", "x", "REG_SZ", ""), "component servicing"),
        ((rf"{CBS}\PackagesPending", "x", "REG_SZ", ""), "component servicing"),
        ((rf"{CBS}\Interface", "ServicingInProgress", "REG_DWORD", 1), "component servicing"),
        ((r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired", "x", "REG_SZ", ""), "Windows Update"),
        (
            (r"SYSTEM\CurrentControlSet\Control\Session Manager", "PendingFileRenameOperations", "REG_MULTI_SZ", ["a", ""]),
            "file renames",
        ),
        ((rf"{NAME}\ComputerName", "ComputerName", "REG_SZ", "NEW"), "a new computer name"),
        ((r"SYSTEM\CurrentControlSet\Services\Netlogon", "JoinDomain", "REG_DWORD", 1), "a change of the domain"),
        ((r"SYSTEM\CurrentControlSet\Services\Netlogon", "AvoidSpnSet", "REG_DWORD", 1), "a change of the domain"),
    ],
)
def test_each_signal_alone(value: tuple[str, str, str, Any], reason: str) -> None:
    assert pending_restart_reasons(Registry(windows(value))) == [reason]


def test_none() -> None:
    made = windows()
    assert pending_restart_reasons(Registry(made)) == []
    assert made.requests == 7
    assert not join_is_pending(Registry(made))


def test_servicing_that_works_is_no_pending_restart() -> None:
    works = read_servicing(Registry(windows((rf"{CBS}\Interface", "ServicingInProgress", "REG_DWORD", 2))))
    assert (works.working, works.restart_pending) == (True, False)
    after = read_servicing(Registry(windows((rf"{CBS}\RebootInProgress", "x", "REG_SZ", ""))))
    assert after.working
