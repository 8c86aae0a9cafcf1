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

import pytest
from agent_fakes import PASSWORD
from wine_agent import ADDRESS, USER, AgentOnX

ROOT = Path(__file__).parents[2]
KEEP = {
    "ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": "{{ place }}/found.json"},
    "delegate_to": "localhost",
    "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
}


def play(agent, folder, task):
    """Run one task against an agent and return the finished ansible-playbook, and what the task returned, None where it failed."""
    module = next(name for name in task if name.startswith("goldimage.osd."))
    tasks = [{**task, "register": "found", "name": module}, KEEP]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    variables = {
        "ansible_host": ADDRESS, "ansible_port": agent.port, "ansible_connection": "winrm", "ansible_winrm_transport": "basic",
        "ansible_winrm_scheme": "https", "ansible_winrm_server_cert_validation": "ignore", "ansible_user": USER,
        "ansible_password": PASSWORD, "place": str(folder),
    }  # fmt: skip
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"pe": variables}}}))
    (folder / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {ROOT / 'collections'}\n")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(folder / "tmp")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    place = folder / "found.json"
    return done, json.loads(place.read_text()) if place.exists() else None


def test_task_sequence_facts(agent, tmp_path):
    done, found = play(agent, tmp_path, {"goldimage.osd.task_sequence_facts": {}})
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["changed"] is False
    assert found["environment"] == "full operating system"  # SystemDrive is C:, see the last test
    variables = found["variables"]
    assert (variables["_SMSTSInWinPE"], variables["_SMSTSModel"], variables["version"]) == (False, "Wine", "10.0.18362")
    assert variables["_SMSTSMachineName"]
    assert all(":" in address for address in variables["_SMSTSMacAddresses"])


@pytest.fixture(scope="module")
def windows_pe(agent):
    made = AgentOnX(agent.build)
    yield made
    made.kill()


COMMAND = "goldimage.osd.run_command_line"


def test_a_command_line(windows_pe, tmp_path):
    text = "import os, sys; sys.stdout.buffer.write(('|'.join(sys.argv[1:]) + os.environ['OSD_WORD']).encode()); sys.exit(3010)"
    argv = [r"X:\osd\python\python.exe", "-I", "-c", text, 'a "quoted" word', "50% & ^more", "Grüße"]
    options = {"argv": argv, "environment": {"OSD_WORD": " 100%"}, "success_codes": [0, 3010], "restart": False}
    done, found = play(windows_pe, tmp_path, {COMMAND: options})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (found["environment"], found["changed"], found["rc"], found["restarted"]) == ("Windows PE", True, 3010, False)
    assert found["output"] == 'a "quoted" word|50% & ^more|Grüße 100%'


def test_lines_of_cmd(windows_pe, tmp_path):
    lines = 'cd /d X:\\\nset /a OSD_COUNT=2*3 >nul\nfor %%i in ("a & b") do echo %OSD_COUNT% %%~i> "made by cmd.txt"'
    (windows_pe.drive / "made by cmd.txt").unlink(missing_ok=True)
    task = {COMMAND: {"command_line": lines, "shell": True, "creates": r"X:\made by cmd.txt"}}
    done, found = play(windows_pe, tmp_path, task)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (found["changed"], found["rc"]) == (True, 0)
    assert (windows_pe.drive / "made by cmd.txt").read_text().strip() == "6 a & b"
    done, found = play(windows_pe, tmp_path, task)
    assert (done.returncode, found["changed"]) == (0, False)


def test_a_command_that_fails(windows_pe, tmp_path):
    done, found = play(windows_pe, tmp_path, {COMMAND: {"command_line": r"X:\Windows\System32\cmd.exe /d /c exit 1605"}})
    assert (done.returncode, found) == (2, None)
    assert "1605" in done.stdout


def test_without_the_drive_of_windows_pe_it_is_taken_for_an_installed_windows(agent, tmp_path):
    """SystemDrive is C: as Wine leaves it: the fence says so, and the job of an installed Windows needs what Wine has not."""
    done, found = play(agent, tmp_path, {COMMAND: {"argv": [r"C:\osd\python\python.exe", "-V"]}})
    assert (done.returncode, found) == (2, None)
    assert '"environment": "full operating system"' in done.stdout
