# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is broken off again and again, by Ctrl+C and by power cuts, goes on where it was; the computer always comes back reachable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from integration_support import Played, Project, apply, bare, files_with, hives_of, images_of, paths_of, sha256, verify

STOP = """
- name: Stop here
  ansible.builtin.fail:
    msg: stopped here
  when: stop | default(false)
"""
PLAYBOOK = "build_and_capture.yml"
SYSPREP_LOG = "[Ww]indows/[Ss]ystem32/[Ss]ysprep/[Pp]anther/setupact.log"
#: They look at the computer each time.
NOT_FINISHED = ("goldimage.osd.start_task_sequence",)


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    project = new_project({"name": "ref"})
    (project.folder / "stop.yml").write_text(STOP, encoding="utf-8")
    project.write_inventory(
        {"ref": project.host("ref")}, {**bare(), "osd_steps_after": {"Apply Operating System": "stop.yml"}, "osd_run": "broken"}
    )
    return project


def power_cut(project: Project) -> tuple[str, str]:
    """Cut the power, restore it, and return where the computer comes back: its state and its address."""
    project.press("ref", "pull_plug")
    project.wait_for("ref", "off")
    project.press("ref", "power_on")
    state = project.wait_for("ref", "windows_pe", "windows", "oobe_waits", "setup_failed", "no_boot_device")
    return state, project.state_of("ref")["address"]


@pytest.fixture(scope="module")
def story(project: Project) -> SimpleNamespace:
    """The whole story, told once."""
    volumes = project.computer_folder("ref") / "disks" / "0" / "volumes"
    console = project.computer_folder("ref") / "console.log"
    during_apply = project.interrupt(PLAYBOOK, lambda: any(volumes.glob("*/[Ww]indows")))
    applied = project.play(PLAYBOOK, "-e", "stop=true")
    kept = finished_jobs(project)
    after_apply = power_cut(project)
    during_setup = project.interrupt(PLAYBOOK, lambda: "state windows_setup" in console.read_text(encoding="utf-8"))
    during_sysprep = project.interrupt(PLAYBOOK, lambda: any(volumes.glob(f"*/{SYSPREP_LOG}")))
    # The job on the computer goes on without the control node.
    after_sysprep = [(project.wait_for("ref", "windows_pe"), project.state_of("ref")["address"]), power_cut(project), power_cut(project)]
    during_capture = project.interrupt(PLAYBOOK, lambda: any(path.name.endswith(".part") for path in project.capture.iterdir()))
    last = project.play(PLAYBOOK)
    return SimpleNamespace(
        during_apply=during_apply,
        applied=applied,
        after_apply=after_apply,
        during_setup=during_setup,
        during_sysprep=during_sysprep,
        after_sysprep=after_sysprep,
        during_capture=during_capture,
        last=last,
        repeated=[name for name, time in finished_jobs(project).items() if name in kept and kept[name] != time],
    )


def finished_jobs(project: Project) -> dict[str, int]:
    """Return when each job's output of the destructive steps was written."""
    logs = project.state / "broken" / "logs" / "ref"
    return {
        path.name: path.stat().st_mtime_ns for step in ("partition-disk-0", "apply-operating-system") for path in logs.glob(f"{step}-*")
    }


def last_task(played: Played) -> str:
    """Return what a play was at when it ended."""
    return played.stdout.partition("PLAY RECAP")[0].split("TASK [")[-1].partition("]")[0].rpartition(" : ")[2]


def test_each_play_was_broken_off_where_the_story_says(story: SimpleNamespace) -> None:
    assert last_task(story.during_apply) == "Apply Operating System"
    assert "stopped here" in story.applied.text
    assert last_task(story.during_setup) == "Setup Windows and ConfigMgr"
    assert last_task(story.during_sysprep) == "Prepare Operating System"
    assert last_task(story.during_capture) == "Capture the Reference Machine"
    assert not [play for play in vars(story).values() if isinstance(play, Played) and "Traceback" in play.text]


def test_a_power_cut_before_setup_comes_back_in_windows_pe(project: Project, story: SimpleNamespace) -> None:
    assert story.after_apply == ("windows_pe", project.address("ref", "winpe"))


def test_finished_steps_are_not_done_again(story: SimpleNamespace) -> None:
    assert story.repeated == []
    steps = story.last.steps()
    assert [name for name, step in steps.items() if step["changed"]] in (
        ["Prepare Operating System", "Capture the Reference Machine"],
        ["Capture the Reference Machine"],
    )
    # What was left out by a role's 'when' has no environment.
    asked = {name: step for name, step in steps.items() if step["environment"] and step["module"] not in NOT_FINISHED}
    finished = {name: step["requests"] for name, step in asked.items() if not step["changed"]}
    assert finished.keys() >= {"Partition Disk 0", "Apply Operating System", "Setup Windows and ConfigMgr"}
    assert set(finished.values()) == {1}, finished


def test_after_sysprep_every_start_is_windows_pe(project: Project, story: SimpleNamespace) -> None:
    """Staged with the adapter's settings: it has the address through which it was staged."""
    assert [state for state, dummy in story.after_sysprep] == ["windows_pe"] * 3
    assert len({address for dummy, address in story.after_sysprep}) == 1


def test_the_image_is_whole_and_the_only_file(project: Project, story: SimpleNamespace, tmp_path: Path) -> None:
    story.last.ok()
    assert [path.name for path in project.capture.iterdir()] == ["reference.wim"]
    wim = project.capture / "reference.wim"
    verify(wim)
    assert [image.index for image in images_of(wim)] == [1]
    assert story.last.report["image"]["sha256"] == sha256(wim)
    tree = apply(wim, 1, tmp_path / "windows")
    state = hives_of(tree)["SOFTWARE"].get(r"microsoft\windows\currentversion\setup\state", "ImageState")
    assert state == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    assert hives_of(tree)["SAM"].below(r"sam\domains\account\users\names") == ["administrator", "guest"]
    assert "_osd" not in paths_of(tree)
    assert files_with([tree, project.state], project.secrets("broken", "ref")) == []
