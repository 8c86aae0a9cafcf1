# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running agent for the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agent_fakes import Computer
from ansible_collections.goldimage.osd.plugins.plugin_utils import connection


@pytest.fixture
def computer(tmp_path):
    """An agent on a free port, stopped at the end."""
    made = Computer(tmp_path)
    yield made
    made.service.stop()


@pytest.fixture(autouse=True)
def plugin_by_its_short_name(monkeypatch):
    """Outside of an Ansible run nothing maps ansible.builtin; the same plugin is found by its short name."""
    monkeypatch.setattr(connection, "_PLUGIN", "winrm")
