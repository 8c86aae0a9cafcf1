# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing but the report knows that the computer is simulated: Identify names another vendor, and only that one word differs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client
from integration_support import Played, Project, bare

TIMES = {"start", "end", "seconds", "duration"}


@pytest.fixture(scope="module")
def plays(new_project: Callable[..., Project]) -> list[Played]:
    """The same build's first steps on two fresh computers; the second one says that it is a real one."""
    project = new_project({"name": "one"}, {"name": "two"})
    played = []
    for name, vendor in (("one", ""), ("two", "Microsoft Corporation")):
        project.stop_lab()
        place = project.lab / "lab.json"
        definition = json.loads(place.read_text())
        definition["behaviour"] = {"vendor": vendor} if vendor else {}
        place.write_text(json.dumps(definition))
        client.start(project.lab)
        play = project.folder / f"{name}.yml"
        play.write_text(
            "- hosts: reference_computers\n  gather_facts: false\n  tasks:\n"
            "    - goldimage.osd.start_task_sequence:\n"
            "    - goldimage.osd.task_sequence_facts:\n        subset: [environment, firmware, machine, network]\n"
        )
        project.write_inventory(
            {name: project.host(name)}, {**bare(), "osd_run": "same", "osd_state_dir": str(project.folder / f"state-{name}")}
        )
        played.append(project.play(play).ok())
    return played


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_only_the_report_differs(plays: list[Played]) -> None:
    simulated, real = (play.report for play in plays)
    assert (simulated["simulated"], real["simulated"]) == (True, False)
    assert without_times({**simulated, "simulated": None}) == without_times({**real, "simulated": None})


def test_what_is_shown_is_the_same(plays: list[Played]) -> None:
    def shown(play: Played) -> str:
        return re.sub(r"\b(one|two)\b|127\.\d+\.\d+\.\d+|\*+", "", play.stdout)

    assert shown(plays[0]) == shown(plays[1])
