# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the demo's sequence: requests and milliseconds a step, and CPU time against the floor of Ansible itself.

The floor is as many ``ansible.builtin.debug`` tasks as the sequence has steps, with the same inventory and configuration, measured in turn
with the sequence. CPU time is user and system time of ``ansible-playbook`` with all its children.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build/bench"


def phase(name: str) -> None:
    """Run one phase of the demo in the bench's own folder."""
    environment = {**os.environ, "DEMO": str(BENCH)}
    subprocess.run([ROOT / "tests/tooling/demo.sh", name], env=environment, check=True, stdout=subprocess.DEVNULL)


def cpu_seconds(playbook: str) -> float:
    """Play a playbook of the project and return the CPU seconds that it took."""
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(BENCH / "collections"),
        "ANSIBLE_CONFIG": str(BENCH / "project/ansible.cfg"),
        "OSD_REPORT": str(BENCH / "result.json"),
    }
    process = subprocess.Popen(["ansible-playbook", playbook], cwd=BENCH / "project", env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{playbook} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def milliseconds(step: dict[str, Any]) -> int:
    """Return how long a step of the report took."""
    duration = datetime.fromisoformat(step["end"]) - datetime.fromisoformat(step["start"])
    return round(duration.total_seconds() * 1000)


def write_floor(tasks: int) -> None:
    """Write the playbook of as many debug tasks."""
    play = {
        "name": "Floor",
        "hosts": "reference_computers",
        "gather_facts": False,
        "tasks": [{"name": f"Task {number}", "ansible.builtin.debug": {"msg": "floor"}} for number in range(tasks)],
    }
    (BENCH / "project/floor.yml").write_text(json.dumps([play]), encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main() -> None:
    """Measure, print, and write build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured")
    runs = parser.parse_args().runs
    sequence: list[float] = []
    floor: list[float] = []
    steps: list[dict[str, Any]] = []
    for _run in range(runs):
        phase("prepare")
        phase("start")
        try:
            sequence.append(cpu_seconds("build_and_capture.yml"))
            steps = json.loads((BENCH / "result.json").read_text(encoding="utf-8"))["steps"]
            write_floor(len(steps))
            floor.append(cpu_seconds("floor.yml"))
        finally:
            phase("stop")
    result = {
        "steps": [{"name": step["name"], "requests": step["requests"], "milliseconds": milliseconds(step)} for step in steps],
        "tasks": len(steps),
        "sequence_cpu_seconds": spread(sequence),
        "floor_cpu_seconds": spread(floor),
        "ratio": statistics.median(sequence) / statistics.median(floor),
    }
    (ROOT / "build/bench.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for step in result["steps"]:
        print(f"{step['name']:32} {step['requests']:5} requests {step['milliseconds']:8} ms")
    print(
        f"{result['tasks']} tasks: sequence {result['sequence_cpu_seconds']['median']:.2f} s CPU, "
        f"as many debug tasks {result['floor_cpu_seconds']['median']:.2f} s, ratio {result['ratio']:.2f} (median of {runs})"
    )


if __name__ == "__main__":
    main()
