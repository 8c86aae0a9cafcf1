# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo's sequence: requests and milliseconds a step, and its CPU time against as many debug tasks with the same inventory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import datetime
from typing import Any

from measuring import BENCH, PROGRAMS, ROOT, cpu_seconds, ratio, spread

DEMO = BENCH / "demo"
PROJECT = DEMO / "project"


def measure(runs: int) -> dict[str, Any]:
    """Play the sequence and its floor in turn."""
    from integration_support import reserve_network

    sequence: list[float] = []
    floor: list[float] = []
    steps: list[dict[str, Any]] = []
    tasks = 0
    environment = {
        # Without that variable Python keeps what it has compiled, as it does for everybody who has not set it.
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "ANSIBLE_COLLECTIONS_PATH": str(DEMO / "collections"),
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "OSD_REPORT": str(DEMO / "result.json"),
    }
    program = str(PROGRAMS / "ansible-playbook")
    # Installed once, as a user does: the first of the plays compiles what it imports.
    _phase("prepare")
    reserved, network = reserve_network()
    with reserved:
        _take_network(network)
        for _run in range(runs):
            _forget_last_run()
            _phase("start")
            try:
                sequence.append(cpu_seconds([program, "build_and_capture.yml"], PROJECT, environment))
                steps = json.loads((DEMO / "result.json").read_text(encoding="utf-8"))["steps"]
                tasks = _count_tasks()
                _write_floor(tasks)
                floor.append(cpu_seconds([program, "floor.yml"], PROJECT, environment))
            finally:
                _phase("stop")
    return {
        "steps": [{"name": step["name"], "requests": step["requests"], "milliseconds": _milliseconds(step)} for step in steps],
        "tasks": tasks,
        "sequence_cpu_seconds": spread(sequence),
        "floor_cpu_seconds": spread(floor),
        "ratio": ratio(sequence, floor),
    }


def show(result: dict[str, Any]) -> None:
    """Print what was measured."""
    for step in result["steps"]:
        print(f"  {step['name']:32} {step['requests']:5} requests {step['milliseconds']:8} ms")
    print(
        f"  {result['tasks']} tasks: sequence {result['sequence_cpu_seconds']['median']:.2f} s CPU, "
        f"as many debug tasks {result['floor_cpu_seconds']['median']:.2f} s"
    )


def _phase(name: str) -> None:
    """Run one phase of the demo in the bench's own folder."""
    subprocess.run([ROOT / "tests/tooling/demo.sh", name], env={**os.environ, "DEMO": str(DEMO)}, check=True, stdout=subprocess.DEVNULL)


def _take_network(network: str) -> None:
    for name in ("inventory.yml", "group_vars/all/lab.yml"):
        text = (PROJECT / name).read_text(encoding="utf-8")
        (PROJECT / name).write_text(text.replace("127.80.0.", f"{network}."), encoding="utf-8")


def _count_tasks() -> int:
    """Return how many tasks ansible-playbook started for the sequence: its steps, and what the roles need around them."""
    return (PROJECT / "bench.log").read_text(encoding="utf-8").count("\nTASK [")


def _forget_last_run() -> None:
    """Leave the project as it is copied: without computers, state and image."""
    for name in ("lab", "osd-state"):
        shutil.rmtree(PROJECT / name, ignore_errors=True)
    for image in (PROJECT / "capture").iterdir():
        image.unlink()


def _milliseconds(step: dict[str, Any]) -> int:
    duration = datetime.fromisoformat(step["end"]) - datetime.fromisoformat(step["start"])
    return round(duration.total_seconds() * 1000)


def _write_floor(tasks: int) -> None:
    play = {
        "name": "Floor",
        "hosts": "reference_computers",
        "gather_facts": False,
        "tasks": [{"name": f"Task {number}", "ansible.builtin.debug": {"msg": "floor"}} for number in range(tasks)],
    }
    (PROJECT / "floor.yml").write_text(json.dumps([play]), encoding="utf-8")
