# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks, roles, hooks and the report, with steps that do nothing: what Ansible itself makes of them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.filter.with_own_steps import STEPS

ROOT = Path(__file__).resolve().parents[2]
STEP = """
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        about = {"environment": "windows_pe", "simulated": True}
        result.update(changed=True, requests=3, _osd=about)
        if self._task.action.endswith("capture_operating_system_image"):
            result["image"] = {"path": "C:/x.wim", "sha256": "00", "images": []}
            result["volumes"] = [{"disk": 0, "partition": 1, "image_index": 1}]
        if self._task.action.endswith("restart_computer"):
            result.update(changed=False, skipped_reason="_SMSTSInWinPE is true")
        return result
"""
VARIABLES = {
    "osd_secret": "a secret of the tests",
    "osd_boot_image": {"target": r"\\server\share\boot.wim"},
    "osd_image": {"target": r"\\server\share\install.wim"},
    "osd_image_name": "Reference",
    "osd_capture": {"path": r"\\server\share\reference.wim"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose collection has our roles and playbooks, and steps that only say what they would be."""
    collection = tmp_path / "collections/ansible_collections/goldimage/osd"
    actions = collection / "plugins/action"
    actions.mkdir(parents=True)
    for name in ("roles", "playbooks", "meta", "galaxy.yml", "plugins/filter", "plugins/lookup", "plugins/callback"):
        (collection / name).symlink_to(ROOT / name)
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    for step in runtime["action_groups"]["osd"]:
        (actions / f"{step}.py").write_text(STEP, encoding="utf-8")
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ncollections_path = collections\ncallbacks_enabled = goldimage.osd.report\n", encoding="utf-8"
    )
    inventory = {
        "reference_computers": {"hosts": {"reference-01": None}, "vars": VARIABLES},
        "others": {"hosts": {"printer": None}},
    }
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
    (tmp_path / "build_and_capture.yml").write_text("- import_playbook: goldimage.osd.build_and_capture\n", encoding="utf-8")
    (tmp_path / "own.yml").write_text("- name: My own step\n  ansible.builtin.debug:\n", encoding="utf-8")
    return tmp_path


def playing(project: Path, *arguments: str, **variables: Any) -> tuple[list[str], dict[str, str]]:
    """Return the command that plays the project's playbook, and its environment."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", "inventory.yml", "build_and_capture.yml", "-e", json.dumps(variables), *arguments]
    return command, {"PATH": "/usr/bin:/bin", "HOME": str(project), "ANSIBLE_CONFIG": str(project / "ansible.cfg")}


def play(project: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the project's playbook as a user does."""
    command, environment = playing(project, *arguments, **variables)
    return subprocess.run(command, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def task_names(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the names of the tasks in the order in which they ran."""
    return [line.split("] ")[0].split(" : ")[-1] for line in done.stdout.splitlines() if line.startswith("TASK [")]


def report(project: Path) -> dict[str, Any]:
    return json.loads((project / "result.json").read_text(encoding="utf-8"))


def test_the_report_names_every_step_with_its_group(project: Path) -> None:
    done = play(project, osd_drivers=[{"target": "d"}], osd_applications=[{"name": "a", "install": ["a.exe"]}])
    assert done.returncode == 0, done.stdout + done.stderr
    result = report(project)
    assert {step["group"] for step in result["steps"]} == {"Build the Reference Machine", "Capture the Reference Machine"}
    steps = [step for step in result["steps"] if step["name"] in STEPS]
    # Without packages Install Updates is left out, and says why.
    assert [step["name"] for step in steps] == list(STEPS)
    assert [step["group"] for step in steps] == ["Build the Reference Machine"] * 9 + ["Capture the Reference Machine"] * 4
    by_name = {step["name"]: step for step in steps}
    assert by_name["Install Updates"]["skipped"]
    assert by_name["Install Updates"]["reason"] == "condition not met: osd_updates is defined"
    assert by_name["Restart in Windows PE"]["skipped"]
    assert by_name["Restart in Windows PE"]["reason"] == "_SMSTSInWinPE is true"
    partition = by_name["Partition Disk 0"]
    assert partition.keys() == {
        "name", "module", "group", "environment", "start", "end", "requests", "changed", "skipped", "reason"
    }  # fmt: skip
    assert (partition["module"], partition["environment"], partition["requests"], partition["changed"]) == (
        "goldimage.osd.format_and_partition_disk",
        "windows_pe",
        3,
        True,
    )
    assert partition["start"] < partition["end"]
    assert (result["ok"], result["simulated"]) == (True, True)
    assert result["image"]["path"] == "C:/x.wim"
    assert result["volumes"][0]["image_index"] == 1


def test_own_steps_run_where_the_user_said(project: Path) -> None:
    done = play(
        project,
        osd_steps_before={"Partition Disk 0": "own.yml"},
        osd_steps_after={"Join Workgroup": "own.yml"},
        osd_steps_disabled=["Install Updates", "Apply Network Settings", "Prepare ConfigMgr Client"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = task_names(done)
    assert tasks[tasks.index("My own step") + 1] == "Partition Disk 0"
    assert tasks[tasks.index("Join Workgroup") + 1] == "My own step"
    for name in ("Apply Network Settings", "Prepare ConfigMgr Client"):
        step = next(step for step in report(project)["steps"] if step["name"] == name)
        assert (step["skipped"], step["reason"]) == (True, "condition not met: __osd_entry.disabled is not defined")


def test_pause_before_does_not_wait_without_a_terminal(project: Path) -> None:
    done = play(project, osd_pause_before=["Apply Operating System"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not waiting for response to prompt as stdin is not interactive" in done.stderr
    tasks = task_names(done)
    assert tasks[tasks.index("Pause") + 1] == "Apply Operating System"


def test_pause_before_waits_at_a_terminal(project: Path) -> None:
    """A terminal of its own, since Ansible asks only where it is in the foreground of one."""
    command, environment = playing(project, osd_pause_before=["Apply Operating System"])
    master, terminal = pty.openpty()
    options: dict[str, Any] = {"cwd": project, "env": environment, "stdin": terminal, "stdout": terminal, "stderr": terminal}
    shown, waited = b"", 0
    with subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options) as process:
        os.close(terminal)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                try:
                    shown += os.read(master, 4096)
                except OSError:  # Linux' way to say that nobody holds the other side any more
                    break
            elif b"The next step is 'Apply Operating System'" in shown and b" : Apply Operating System]" not in shown:
                # Nothing more comes by itself. Pressed again where Ansible forgot the key: it empties the keyboard after its question.
                os.write(master, b"\r")
                waited += 1
        else:
            process.kill()
    os.close(master)
    assert (process.returncode, waited > 0) == (0, True), shown.decode()
    assert b" : Apply Operating System]" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "osd_target=nobody"], "No host of the inventory matches 'nobody'."),
        (
            ["-e", "osd_target=all"],
            "osd_target is 'all': these playbooks wipe disks, so name the computers or their group.",
        ),
        (["--limit", "printer"], "--limit printer leaves no host of 'reference_computers'."),
    ],
)
def test_no_computer_is_an_error(project: Path, arguments: list[str], message: str) -> None:
    done = play(project, *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (project / "result.json").exists()


def test_a_syntax_check_needs_no_inventory(project: Path) -> None:
    (project / "inventory.yml").write_text("{}", encoding="utf-8")
    done = play(project, "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_several_computers_have_a_report_each(project: Path) -> None:
    inventory = json.loads((project / "inventory.yml").read_text(encoding="utf-8"))
    inventory["reference_computers"]["hosts"]["reference-02"] = None
    (project / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
    done = play(project)
    assert done.returncode == 0, done.stdout + done.stderr
    result = report(project)
    assert result["ok"]
    assert result["hosts"].keys() == {"reference-01", "reference-02"}
    assert all(host["ok"] for host in result["hosts"].values())
