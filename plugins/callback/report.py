# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The callback that writes what every step did, one file a play run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Write a report of the task sequence as JSON
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
description:
  - Writes one JSON file with every task-sequence step, the volumes and the captured image.
  - It is written anew after every step, so that a run that was broken off leaves a report too.
  - One computer is reported at the top level. With several, C(hosts) holds one such report for each.
requirements:
  - Enable it with C(callbacks_enabled = goldimage.osd.report) in C(ansible.cfg).
options:
  path:
    description: The file. Empty switches the report off.
    type: path
    default: result.json
    env:
      - name: OSD_REPORT
    ini:
      - section: goldimage_osd
        key: report
"""

PREFIX = "goldimage.osd."
#: Not steps: they run on the control node.
NOT_A_STEP = frozenset({"lab", "operating_system_image_info", "boot_image", "bootable_media"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _group(task: Any) -> str:
    """Return the nearest named block around the task, else its role; '' for a task of the play itself."""
    parent = getattr(task, "_parent", None)
    while parent is not None:
        if type(parent).__name__ == "Block" and parent.name:
            return str(parent.name)
        parent = getattr(parent, "_parent", None)
    role = getattr(task, "_role", None)
    return str(role.get_name()) if role else ""


def _reason(result: Mapping[str, Any]) -> str:
    """Return why a step was skipped, in the step's words or Ansible's condition."""
    if reason := result.get("skipped_reason") or result.get("skip_reason"):
        condition = result.get("false_condition")
        return f"condition not met: {condition}" if condition else str(reason)
    return str(result.get("msg", ""))


import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Collects the steps of every computer and writes them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "goldimage.osd.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Start with no computers."""
        super().__init__()
        self._reports: dict[str, dict[str, Any]] = {}
        self._started: dict[tuple[str, str], str] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note when the step began."""
        if self._module(task):
            self._started[host.get_name(), task._uuid] = _now()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Add a finished step."""
        self._add(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Add a skipped step."""
        self._add(result, skipped=True)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Add a failed step."""
        self._add(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Add a step whose computer did not answer."""
        self._add(result, failed=True)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Mark the computers that came to the end, and write the last report."""
        for host, report in self._reports.items():
            summary = stats.summarize(host)
            report["ok"] = not (summary["failures"] or summary["unreachable"])
        self._write(indent=2)

    @staticmethod
    def _module(task: Any) -> str:
        """Return the step module's short name, '' for any other task."""
        action = str(task.action)
        name = action.removeprefix(PREFIX)
        return name if action.startswith(PREFIX) and name not in NOT_A_STEP else ""

    def _add(self, callback_result: Any, *, skipped: bool = False, failed: bool = False) -> None:
        task, host, result = callback_result.task, callback_result.host.get_name(), callback_result.result
        module = self._module(task)
        if not module:
            return
        report = self._reports.setdefault(host, {"ok": False, "simulated": None, "steps": [], "volumes": [], "image": None})
        about = result.get("_osd") or {}
        skipped = skipped or bool(result.get("skipped")) or bool(result.get("skipped_reason"))
        step = {
            "name": task.get_name().removeprefix(f"{task._role.get_name()} : ") if task._role else task.get_name(),
            "module": PREFIX + module,
            "group": _group(task),
            "environment": about.get("environment", ""),
            "start": self._started.pop((host, task._uuid), _now()),
            "end": _now(),
            "requests": int(result.get("requests", 0)),
            "changed": bool(result.get("changed", False)),
            "skipped": skipped,
            "reason": _reason(result) if skipped or failed else "",
        }
        report["steps"].append(step)
        if about.get("simulated") is not None:
            report["simulated"] = bool(about["simulated"])
        if result.get("image") and result.get("volumes") and module == "capture_operating_system_image":
            report["image"], report["volumes"] = result["image"], result["volumes"]
        self._write()

    def _write(self, indent: int | None = None) -> None:
        path = self.get_option("path")
        if not path or not self._reports:
            return
        reports = list(self._reports.values())
        content = reports[0] if len(reports) == 1 else {"ok": all(report["ok"] for report in reports), "hosts": self._reports}
        target = Path(path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: who reads the report while the play runs never sees half of it.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            # Only the last one is set out for readers: without indentation the C encoder writes it, ten times as fast.
            file.write(json.dumps(content, indent=indent, default=str) + "\n")
        os.chmod(name, 0o644)
        os.replace(name, target)
