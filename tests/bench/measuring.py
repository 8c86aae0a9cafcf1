# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parts of the bench share: folders, medians, CPU time of a program with its children, and the budgets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build/bench"
PROGRAMS = Path(sys.executable).parent
sys.path[:0] = [
    str(ROOT / "collections"),
    str(ROOT / "tests/integration"),
    str(ROOT / "tests/unit/agent"),
    str(ROOT / "tests/wine"),
    str(ROOT / "tests/unit/lab/tools"),
]


def find_plugins() -> None:
    """Let Ansible's loader find the collection, before any part imports of it: what Python's own has loaded is none to it."""
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(ROOT / "collections")])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(measured: Sequence[float], floor: Sequence[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(measured) / statistics.median(floor)


def cpu_seconds(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Run a program and return the CPU seconds, user and system, that it took with all its children."""
    log = folder / "bench.log"
    with log.open("wb") as shown:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.STDOUT
        )
        dummy, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {log.read_text(errors='replace')[-3000:]}")
    return usage.ru_utime + usage.ru_stime
