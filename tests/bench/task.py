# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One task that sends one request to an endpoint with an exact certificate, against a debug task: a hundred of each, in turn."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from measuring import PROGRAMS, cpu_seconds, ratio, spread

TASKS = 100


def measure(runs: int) -> dict[str, Any]:
    """Play a hundred of each against one lab computer in Windows PE."""
    from integration_support import Project

    with tempfile.TemporaryDirectory(prefix="osd-bench-") as folder:
        project = Project(Path(folder), [{"name": "reference-01"}])
        try:
            project.start_lab()
            project.wait_for("reference-01", "windows_pe")
            project.write_inventory({"reference-01": project.host("reference-01")}, {})
            return _measure(Path(folder), runs)
        finally:
            project.close()


def _measure(folder: Path, runs: int) -> dict[str, Any]:
    kinds = {
        "debug": {"ansible.builtin.debug": {"msg": "floor"}},
        "one_request": {"goldimage.osd.task_sequence_facts": {"subset": ["environment"]}},
    }
    for name, task in kinds.items():
        tasks = [{"name": f"Task {number}", **task} for number in range(TASKS)]
        play = {"hosts": "reference_computers", "gather_facts": False, "tasks": tasks}
        (folder / f"{name}.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "OSD_REPORT": str(folder / "result.json")}
    environment.pop("ANSIBLE_COLLECTIONS_PATH", None)
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _run in range(runs):
        for name in kinds:
            command = [str(PROGRAMS / "ansible-playbook"), "-i", "inventory.yml", f"{name}.yml"]
            taken[name].append(cpu_seconds(command, folder, environment))
    return {
        "tasks": TASKS,
        "one_request_cpu_seconds": spread(taken["one_request"]),
        "debug_cpu_seconds": spread(taken["debug"]),
        "ratio": ratio(taken["one_request"], taken["debug"]),
    }


def show(result: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        f"  {result['tasks']} one-request tasks {result['one_request_cpu_seconds']['median']:.2f} s CPU, "
        f"as many debug tasks {result['debug_cpu_seconds']['median']:.2f} s"
    )
