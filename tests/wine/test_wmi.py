# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Identify, and WMI through COM, asked from Linux over WS-Management."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.service import VENDOR
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

HKLM = 0x80000002


def test_identify(cim):
    found = cim.identify()
    assert found.product_vendor == VENDOR
    assert found.product_version.startswith("OS: 10.0.")


def test_the_fence_query(cim):
    (row,) = cim.query("SELECT SystemDrive, LastBootUpTime FROM Win32_OperatingSystem")
    assert row["SystemDrive"] == "C:"
    assert isinstance(row["LastBootUpTime"], datetime)
    assert abs(datetime.now(UTC) - row["LastBootUpTime"]) < timedelta(days=2)


def test_a_uint32_above_2_31_and_a_uint64(cim):
    row = cim.get("Win32_OperatingSystem")
    assert isinstance(row["TotalVisibleMemorySize"], int)
    assert row["TotalVisibleMemorySize"] > 0
    (disk,) = cim.query("SELECT Size, Signature FROM Win32_DiskDrive WHERE Index = 0")
    assert isinstance(disk["Size"], int) and disk["Size"] > 2**32
