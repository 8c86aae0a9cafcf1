# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``--check --diff`` from bare metal: the whole sequence is told, nothing is done. An old Windows and a finished run: see their modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from integration_support import NETWORK_CARD, Played, Project, content_of, everything


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    project = new_project({"name": "ref", "devices": [NETWORK_CARD]})
    project.write_inventory({"ref": project.host("ref", osd_machine=None)}, everything())
    return project


@pytest.fixture(scope="module")
def kept(project: Project) -> dict[str, str]:
    """What was on the computer and in the project before."""
    return content_of(project.folder)


@pytest.fixture(scope="module")
def checked(project: Project, kept: dict[str, str]) -> Played:
    return project.play("build_and_capture.yml", "--check", "--diff").ok()


def test_every_step_says_what_it_would_do(checked: Played) -> None:
    steps = checked.steps()
    told = {name for name, step in steps.items() if step["changed"]}
    assert told >= {
        "Partition Disk 0",
        "Apply Operating System",
        "Apply Windows Settings",
        "Apply Network Settings",
        "Apply Device Drivers",
        "Setup Windows and ConfigMgr",
        "Install Updates",
        "Install Applications",
        "Join Workgroup",
        "Prepare ConfigMgr Client",
        "Prepare Operating System",
        "Capture the Reference Machine",
    }
    assert steps["Restart in Windows PE"]["skipped"]
    assert f"  ref: left out: {steps['Restart in Windows PE']['reason']}" in checked.stdout, "and why one is left out"


def test_the_diff_shows_the_partitions(checked: Played) -> None:
    assert "+++ after" in checked.stdout
    assert "Windows" in checked.stdout.partition("+++ after")[2]


def test_the_diff_shows_every_plan_and_marks_what_is_predicted(checked: Played) -> None:
    told = {part.partition("]")[0].rpartition(" : ")[2]: part for part in checked.stdout.partition("PLAY RECAP")[0].split("TASK [")[1:]}
    planned = [name for name, step in checked.steps().items() if step["changed"]]
    assert [name for name in planned if "+changes:" not in told[name]] == []
    assert [name for name in planned if "+++ after: predicted" not in told[name]] == ["Partition Disk 0"]
    assert "+  - run Sysprep (generalize, OOBE) and restart in Windows PE" in told["Prepare Operating System"]


def test_nothing_was_changed(project: Project, kept: dict[str, str], checked: Played) -> None:
    """Neither on the computer's disks nor in its boot entries; the control node keeps no run that has not begun."""
    now = content_of(project.folder)
    disks = {path for path in {*kept, *now} if "/disks/" in path or path.endswith(("nvram.json", "power.json"))}
    assert disks
    assert [path for path in sorted(disks) if kept.get(path) != now.get(path)] == []
    assert not project.state.exists()
    assert list(project.capture.iterdir()) == []


def test_one_play_after_it_starts_from_nothing(project: Project, checked: Played) -> None:
    """What check mode foresaw is forgotten."""
    facts = project.folder / "facts.yml"
    facts.write_text(
        "- hosts: reference_computers\n  gather_facts: false\n  tasks:\n"
        "    - goldimage.osd.task_sequence_facts:\n      register: facts\n"
        '    - ansible.builtin.debug:\n        msg: "in PE: {{ facts.variables._SMSTSInWinPE }}"\n',
        encoding="utf-8",
    )
    assert "in PE: True" in project.play(facts).ok().stdout
