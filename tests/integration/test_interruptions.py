# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is broken off again and again, by Ctrl+C and by power cuts, goes on where it was; the computer always comes back reachable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from integration_support import Played, Project, apply, bare, files_with, hives_of, images_of, sha256, verify

STOP = """
- name: Stop here
  ansible.builtin.fail:
    msg: stopped here
  when: stop_at | default('') == '{place}'
"""
DISKPART, APPLY = "partition-disk-0-diskpart.log", "apply-operating-system-apply.log"


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    project = new_project({"name": "ref"})
    places = {"Apply Operating System": "applied.yml", "Prepare Operating System": "prepared.yml"}
    for file in places.values():
        (project.folder / file).write_text(STOP.format(place=Path(file).stem), encoding="utf-8")
    project.write_inventory({"ref": project.host("ref")}, {**bare(), "osd_steps_after": places, "osd_run": "broken"})
    return project


def power_cut(project: Project) -> SimpleNamespace:
    """Cut the power, restore it, and return where the computer comes back, and what it was started from."""
    project.press("ref", "pull_plug")
    project.wait_for("ref", "off")
    project.press("ref", "power_on")
    state = project.wait_for("ref", "windows_pe", "windows", "oobe_waits", "setup_failed", "no_boot_device")
    return SimpleNamespace(state=state, address=project.state_of("ref")["address"])


def console(project: Project) -> str:
    return (project.computer_folder("ref") / "console.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def story(project: Project) -> SimpleNamespace:
    """The whole story, told once."""
    logs = project.state / "broken" / "logs" / "ref"
    first = project.play("build_and_capture.yml", "-e", "stop_at=applied")
    kept = {name: (logs / name).stat().st_mtime_ns for name in (DISKPART, APPLY)}
    after_apply = power_cut(project)
    during_setup = project.interrupt("build_and_capture.yml", lambda: "state windows_setup" in console(project))
    prepared = project.play("build_and_capture.yml", "-e", "stop_at=prepared")
    after_prepare = [power_cut(project), power_cut(project)]
    during_capture = project.interrupt(
        "build_and_capture.yml", lambda: any(path.name.endswith(".part") for path in project.capture.iterdir())
    )
    last = project.play("build_and_capture.yml")
    unrepeated = {name: (logs / name).stat().st_mtime_ns for name in (DISKPART, APPLY)} == kept
    return SimpleNamespace(
        first=first,
        after_apply=after_apply,
        during_setup=during_setup,
        prepared=prepared,
        after_prepare=after_prepare,
        during_capture=during_capture,
        last=last,
        unrepeated=unrepeated,
    )


def test_a_power_cut_before_setup_comes_back_in_windows_pe_from_the_disk(project: Project, story: SimpleNamespace) -> None:
    assert story.first.rc != 0
    assert "stopped here" in story.first.text
    assert story.after_apply.state == "windows_pe"
    assert story.after_apply.address == project.address("ref", "winpe")


def test_finished_steps_are_recognised(story: SimpleNamespace) -> None:
    assert story.unrepeated
    steps = story.prepared.steps()
    for name in ("Partition Disk 0", "Apply Operating System", "Apply Windows Settings"):
        assert not steps[name]["changed"], name


def test_after_ctrl_c_during_setup_the_run_goes_on(story: SimpleNamespace) -> None:
    assert story.during_setup.rc != 0
    assert story.prepared.steps()["Prepare Operating System"]["changed"]
    assert "stopped here" in story.prepared.text


def test_after_sysprep_every_start_is_windows_pe(story: SimpleNamespace) -> None:
    assert [cut.state for cut in story.after_prepare] == ["windows_pe", "windows_pe"]


def test_a_capture_that_was_interrupted_leaves_no_half_written_file(project: Project, story: SimpleNamespace, tmp_path: Path) -> None:
    story.last.ok()
    assert [path.name for path in project.capture.iterdir()] == ["reference.wim"]
    wim = project.capture / "reference.wim"
    verify(wim)
    assert [image.index for image in images_of(wim)] == [1]
    assert story.last.report["image"]["sha256"] == sha256(wim)
    state = hives_of(apply(wim, 1, tmp_path / "windows"))["SOFTWARE"]
    assert state.get(r"microsoft\windows\currentversion\setup\state", "ImageState") == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"


def test_every_play_says_what_happened(story: SimpleNamespace) -> None:
    played: list[Played] = [story.first, story.during_setup, story.prepared, story.during_capture, story.last]
    assert not [text for text in (play.text for play in played) if "Traceback" in text]


@pytest.fixture(scope="module")
def impatient(new_project: Callable[..., Project]) -> SimpleNamespace:
    """Ctrl+C while DISM applies the image, and while Sysprep runs: the jobs go on without the control node."""
    project = new_project({"name": "ref"}, speed=20.0)
    project.write_inventory({"ref": project.host("ref")}, {**bare(), "osd_run": "impatient"})
    volumes = project.computer_folder("ref") / "disks" / "0" / "volumes"
    during_apply = project.interrupt("build_and_capture.yml", lambda: any(volumes.glob("*/[Ww]indows")))
    tag = "[Ww]indows/[Ss]ystem32/[Ss]ysprep/[Pp]anther/setupact.log"
    during_sysprep = project.interrupt("build_and_capture.yml", lambda: any(volumes.glob(f"*/{tag}")))
    last = project.play("build_and_capture.yml")
    return SimpleNamespace(project=project, during_apply=during_apply, during_sysprep=during_sysprep, last=last)


def test_after_ctrl_c_during_apply_and_sysprep_the_run_ends_well(impatient: SimpleNamespace) -> None:
    impatient.last.ok()
    assert "Apply Operating System" in impatient.during_apply.stdout
    assert "Apply Windows Settings" not in impatient.during_apply.stdout.split("TASK [")[-1]
    assert "Prepare Operating System" in impatient.during_sysprep.stdout.split("TASK [")[-1]
    verify(impatient.project.capture / "reference.wim")
    secrets = impatient.project.secrets("impatient", "ref")
    assert files_with([impatient.project.state, impatient.project.capture], secrets) == []
