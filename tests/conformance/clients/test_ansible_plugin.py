# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract with ansible-core: its winrm plugin under its full name, as the task's own connection and as a second one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from agent_fakes import NAME, PASSWORD, Computer

ROOT = Path(__file__).parents[3]

_PROGRAM = """
import json, sys
from ansible.plugins.loader import connection_loader, init_plugin_loader
init_plugin_loader([sys.argv[1]])
from ansible.playbook.play_context import PlayContext
from ansible_collections.goldimage.osd.plugins.plugin_utils import connection
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe
given = json.loads(sys.stdin.read())
second = connection.open_endpoint(connection.Endpoint(**given, user="osd", scheme="https", transport="basic"))
pe = WindowsPe(second.client(SCHEMA), second.http)
drive = pe.cim.query("SELECT SystemDrive FROM Win32_OperatingSystem")[0]["SystemDrive"]
pe.put_file("X:\\\\a\\\\b", b"c")
shell_before = second._plugin.shell_id
pe.close(); second.close()

task = connection_loader.get("ansible.builtin.winrm", PlayContext())
task.set_options(var_options={
    "ansible_host": given["host"], "ansible_port": given["port"], "ansible_user": "osd", "ansible_password": given["password"],
    "ansible_winrm_scheme": "https", "ansible_winrm_transport": ["ssl"], "_extras": {"ansible_winrm_server_cert_validation": "ignore"},
})
own = connection.open_endpoint(connection.Endpoint(host=given["host"], port=given["port"], user="", scheme="https", transport="ssl"),
                               connection=task)
client = own.client(SCHEMA)
own_drive = client.get("Win32_OperatingSystem")["SystemDrive"]
task.close()
# After Ansible closed it (meta: reset_connection, a loop's next item) it opens again.
again = client.get("Win32_OperatingSystem")["SystemDrive"]
task.close()
print(json.dumps({"drive": drive, "own": own_drive, "again": again, "requests": pe.requests, "shell": shell_before}))
"""


@pytest.fixture
def agent(tmp_path):
    made = Computer(tmp_path)
    yield made
    made.service.stop()


def test_the_plugin_under_its_full_name(agent, tmp_path):
    given = {
        "host": "127.0.0.1", "port": agent.port, "password": PASSWORD, "certificate": agent.certificate, "certificate_name": NAME,
    }  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:winrm", "-c", _PROGRAM, str(ROOT / "collections")],
        input=json.dumps(given), capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"drive": "X:", "own": "X:", "again": "X:", "requests": 2, "shell": None}
    assert agent.shells.opened == []
