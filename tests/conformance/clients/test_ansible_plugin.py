# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract with ansible-core, on every version that installs here.

Its winrm plugin under its full name, as the task's own connection and as a second one; and one task of the collection.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from agent_fakes import NAME, Computer
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.credentials import boot_image_purpose, derive_password
from ansible_cores import NEWEST, VERSIONS, NoInterpreter, python_of

SECRET = "only-for-the-contract-with-ansible"
PASSWORD = derive_password(SECRET, boot_image_purpose("test-1"))

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


@pytest.fixture(scope="module", params=[*VERSIONS.items(), NEWEST], ids=lambda pair: f"core {pair[0]} on Python {pair[1]}")
def python(request) -> Path:
    """The interpreter of an environment with that ansible-core."""
    core, version = request.param
    try:
        found = python_of(core, version)
    except NoInterpreter as missing:
        pytest.skip(f"ansible-core {core}: {missing}")
    program = "import ansible.release, platform; print(ansible.release.__version__, platform.python_version())"
    running = subprocess.run([found, "-c", program], capture_output=True, text=True, check=True).stdout
    assert running.startswith(f"{core} {version}.")
    return found


@pytest.fixture
def agent(tmp_path):
    made = Computer(tmp_path, password=PASSWORD)
    yield made
    made.service.stop()


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "LANG": "C.UTF-8", **more}


def play(python: Path, project: Path, collections: Path) -> subprocess.CompletedProcess[str]:
    """Run the project's play.yml with the ansible-playbook beside that interpreter; it has to succeed."""
    done = subprocess.run(
        [python.with_name("ansible-playbook"), "-i", "inventory.yml", "play.yml"],
        cwd=project, capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL,
        env=environment(project, ANSIBLE_COLLECTIONS_PATH=str(collections)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_plugin_under_its_full_name(python, agent, tmp_path):
    given = {
        "host": "127.0.0.1", "port": agent.port, "password": PASSWORD, "certificate": agent.certificate, "certificate_name": NAME,
    }  # fmt: skip
    done = subprocess.run(
        [python, "-W", "error::DeprecationWarning:winrm", "-c", _PROGRAM, str(ROOT / "collections")],
        input=json.dumps(given), capture_output=True, text=True, timeout=60, env=environment(tmp_path), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"drive": "X:", "own": "X:", "again": "X:", "requests": 2, "shell": None}
    assert agent.shells.opened == []


def test_a_task_of_the_collection(python, agent, tmp_path):
    connection = {"host": "127.0.0.1", "port": agent.port, "certificate": agent.certificate, "certificate_name": NAME}
    host = {"ansible_connection": "winrm", "osd_secret": SECRET, "osd_winpe_connection": {**connection, "boot_image": "test-1"}}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": {"reference": host}}}), encoding="utf-8")
    task = {"goldimage.osd.task_sequence_facts": {"subset": ["environment"]}, "register": "facts"}
    shown = {"ansible.builtin.debug": {"msg": "drive={{ facts.variables._SMSTSInWinPE }} requests={{ facts.requests }}"}}
    plays = [{"hosts": "all", "gather_facts": False, "tasks": [task, shown]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    done = play(python, tmp_path, ROOT / "collections")
    assert "drive=True requests=1" in done.stdout
    assert not re.search(r"(?i)deprecat|warning", done.stderr), done.stderr


_STEP = """
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        return {**super().run(tmp, task_vars), "changed": False}
"""
_VARIABLES = {
    "osd_secret": SECRET,
    "osd_boot_image": {"target": r"\\server\share\boot.wim"},
    "osd_image": {"target": r"\\server\share\install.wim"},
    "osd_image_name": "Reference",
    "osd_capture": {"path": r"\\server\share\reference.wim"},
    # As a play writes it: what is meant for each host stands in the inventory.
    "osd_steps_before": "{{ own_steps }}",
    "osd_steps_disabled": "{{ left_out }}",
}


def test_one_host_changes_both_groups_and_another_none(python, tmp_path):
    """Its own step imports a file, and includes one that has a usual name."""
    collection = tmp_path / "collections/ansible_collections/goldimage/osd"
    (collection / "plugins/action").mkdir(parents=True)
    for name in ("roles", "meta", "galaxy.yml", "plugins/filter"):
        (collection / name).symlink_to(ROOT / name)
    for step in yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["osd"]:
        (collection / f"plugins/action/{step}.py").write_text(_STEP, encoding="utf-8")
    own = [
        {"name": "imported", "ansible.builtin.import_tasks": "more.yml"},
        {"name": "included", "ansible.builtin.include_tasks": "steps.yml"},
    ]
    shown = {"ansible.builtin.debug": {"msg": "own"}}
    for name, tasks in (("own", own), ("more", [{"name": "More", **shown}]), ("steps", [{"name": "My steps", **shown}])):
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(tasks), encoding="utf-8")
    hosts = {
        "plain": {"own_steps": {}, "left_out": []},
        "changed": {"own_steps": {"Install Updates": "own.yml", "Join Workgroup": "own.yml"}, "left_out": ["Apply Network Settings"]},
    }
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    roles = ["goldimage.osd.build_reference_computer", "goldimage.osd.capture_reference_computer"]
    plays = [{"hosts": "all", "gather_facts": False, "vars": _VARIABLES, "roles": roles}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    done = play(python, tmp_path, tmp_path / "collections")
    ran = dict.fromkeys(hosts, ())
    for task in done.stdout.split("\nTASK [")[1:]:
        name = task.partition("]")[0].split(" : ")[-1]
        for host in re.findall(r"(?m)^ok: \[(\w+)\]", task):
            ran[host] += (name,)
    both = [name for name in ran["plain"] if name in ran["changed"]]
    assert len(both) == 9 + 4 + 2 + 2 - 4  # with the checks and starts of both roles; without what has a condition or is left out
    assert set(ran["plain"]) - set(ran["changed"]) == {"Apply Network Settings"}
    assert [name for name in ran["changed"] if name not in both] == ["More", "My steps"] * 2
