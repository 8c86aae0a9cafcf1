# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent of a boot image, running under Wine in the prefix that ``make wine-test`` has made."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit" / "agent")]

from ansible_collections.goldimage.osd.plugins.plugin_utils import connection  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe  # noqa: E402
from wine_agent import WineAgent  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def plugin_by_its_short_name():
    """Outside of an Ansible run nothing maps ansible.builtin; the same plugin is found by its short name."""
    before, connection._PLUGIN = connection._PLUGIN, "winrm"
    yield
    connection._PLUGIN = before


@pytest.fixture(scope="session")
def agent():
    build = os.environ.get("WINE_BUILD")
    if not build:
        pytest.skip("run by make wine-test")
    made = WineAgent(Path(build))
    yield made
    made.kill()


@pytest.fixture
def wire(agent):
    made = agent.connect()
    yield made
    made.close()


@pytest.fixture
def cim(wire):
    return wire.client(SCHEMA)


@pytest.fixture
def computer(cim, wire):
    made = WindowsPe(cim, wire.http)
    yield made
    made.close()
