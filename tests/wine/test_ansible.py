# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ansible-playbook`` with the real winrm plugin against the agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from agent_fakes import PASSWORD
from wine_agent import ADDRESS, USER

ROOT = Path(__file__).parents[2]
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - goldimage.osd.task_sequence_facts:
      register: found
    - ansible.builtin.copy:
        content: "{{ found | to_json }}"
        dest: "{{ place }}/found.json"
      delegate_to: localhost
      vars:
        ansible_connection: local
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""


def test_task_sequence_facts(agent, tmp_path):
    (tmp_path / "play.yml").write_text(PLAY)
    variables = {
        "ansible_host": ADDRESS, "ansible_port": agent.port, "ansible_connection": "winrm", "ansible_winrm_transport": "basic",
        "ansible_winrm_scheme": "https", "ansible_winrm_server_cert_validation": "ignore", "ansible_user": USER,
        "ansible_password": PASSWORD, "place": str(tmp_path),
    }  # fmt: skip
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"pe": variables}}}))
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {ROOT / 'collections'}\n")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["changed"] is False
    text = json.dumps(found)
    assert "Wine" in text or "10.0.18362" in text
