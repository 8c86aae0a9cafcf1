# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step with nothing to do sends the fence and as many requests as its page states: each is done, done again, and counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from integration_support import NETWORK_CARD, READER, ROOT, SERVER, Project

OLD_PASSWORD = "Old-windows-password-1"
BOOT_IMAGE = {"target": rf"{SERVER}\osd\boot\boot.wim", "account": READER}
FILE = {"type": "file", "path": r"C:\Windows\System32\ntoskrnl.exe"}

#: Module → host, options, how often what the page states for 'each' of something is there.
TASKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "format_and_partition_disk": ("ref", {"machine": "{{ osd_machine }}", "boot_image": BOOT_IMAGE}, 1),
    "apply_operating_system_image": (
        "ref",
        {"machine": "{{ osd_machine }}", "image": {"target": rf"{SERVER}\osd\images\install.wim", "account": READER}},
        1,
    ),
    "apply_windows_settings": ("ref", {"user_name": "User", "organization_name": "Example", "time_zone": "UTC"}, 1),
    "apply_network_settings": ("ref", {"join_type": "workgroup", "workgroup": "LAB"}, 1),
    "auto_apply_drivers": ("ref", {"sources": [{"target": rf"{SERVER}\osd\drivers", "account": READER}]}, 1),
    "restart_computer": ("ref", {"target": "windows_pe", "boot_image": BOOT_IMAGE}, 1),
    "task_sequence_facts": ("ref", {"subset": ["environment"]}, 1),
    "run_command_line": ("old", {"command_line": "whoami.exe", "creates": FILE["path"]}, 1),
    "join_domain_or_workgroup": ("old", {"join_type": "workgroup", "workgroup": "WORKGROUP"}, 1),
    "install_application": (
        "old",
        {
            "applications": [
                {
                    "name": name,
                    "source": {"target": r"C:\Windows"},
                    "install": ["setup.exe"],
                    "detection": [FILE],
                }
                for name in ("one", "two")
            ]
        },
        2,
    ),
    "prepare_configmgr_client_for_capture": ("old", {}, 1),
    "install_software_updates": (
        "old",
        {
            "source": {"target": rf"{SERVER}\osd\updates", "account": READER},
            "updates": [{"file": "KB5000001.cab", "identity": "Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0"}],
            "poll_interval": 1,
        },
        1,
    ),
}
#: Those that always have something to do, inside a run and outside: no number, but their pages say so.
NEVER_NOTHING = ("start_task_sequence", "setup_windows_and_configmgr", "prepare_windows_for_capture", "capture_operating_system_image")


def page(module: str) -> str:
    """Return what a module's own page says before its options."""
    text = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    return " ".join(text.split("options:", 1)[0].split())


def stated(module: str) -> int:
    """Return the number of requests beside the fence that the module's own page states."""
    found = re.search(r"\bSends (no|\d+) requests?\b", page(module))
    assert found, f"the page of {module} does not say how many requests it sends when there is nothing to do"
    return 0 if found[1] == "no" else int(found[1])


@pytest.fixture(scope="module")
def counted(new_project: Callable[..., Project]) -> dict[str, dict[str, Any]]:
    project = new_project(
        {"name": "ref", "starting_state": "bare_metal_in_windows_pe", "devices": [NETWORK_CARD]},
        {"name": "old", "starting_state": "existing_windows", "existing": {"password": OLD_PASSWORD}},
    )
    found = {
        "ansible_host": project.address("old", "windows"),
        "ansible_port": 5985,
        "ansible_user": "Administrator",
        "ansible_password": OLD_PASSWORD,
        "ansible_winrm_transport": "ntlm",
    }
    project.write_inventory({"ref": project.host("ref", osd_run="counted"), "old": project.host("old", **found)}, {})
    tasks = [
        {"name": f"{module} {time}", f"goldimage.osd.{module}": options, "when": f"inventory_hostname == '{host}'"}
        for module, (host, options, dummy) in TASKS.items()
        for time in ("first", "again")
    ]
    # Inside a run it always wipes: this one is counted before the run begins.
    tasks.insert(2, {"goldimage.osd.start_task_sequence": {"check_content": False}, "when": "inventory_hostname == 'ref'"})
    path = project.folder / "twice.yml"
    path.write_text(yaml.safe_dump([{"hosts": "reference_computers", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    played = project.play(path).ok()
    return {step["name"]: step for host in played.report["hosts"].values() for step in host["steps"] if step.get("environment")}


@pytest.mark.parametrize("module", TASKS)
def test_a_step_with_nothing_to_do_sends_what_its_page_states(counted: dict[str, dict[str, Any]], module: str) -> None:
    step = counted[f"{module} again"]
    assert not step["changed"]
    assert step["requests"] == 1 + stated(module) * TASKS[module][2]


def test_every_step_says_what_it_sends() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert set(runtime["action_groups"]["osd"]) == {*TASKS, *NEVER_NOTHING}
    assert [module for module in NEVER_NOTHING if "never nothing to do" not in page(module)] == []
