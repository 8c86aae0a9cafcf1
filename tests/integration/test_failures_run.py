# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run refuses while it is under way: another controller, other options, a computer put back, an image too large, a disk too full."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client
from failures_support import APPLY, PARTITION, START, play_tasks, refusal, unc
from integration_support import READER, Played, Project, content_of

RUN = "the-run"


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    made = new_project({"name": "ref"}, {"name": "small"})
    for name in ("ref", "small"):
        made.wait_for(name, "windows_pe")
    return made


def tasks(project: Project, *listed: dict[str, Any], arguments: tuple[str, ...] = (), **variables: Any) -> Played:
    return play_tasks(project, {"ref": project.host("ref")}, START, *listed, arguments=arguments, **{"osd_run": RUN, **variables})


@pytest.fixture(scope="module")
def partitioned(project: Project) -> Path:
    """The run has made the disk; returns a copy of the computer as it is then."""
    tasks(project, PARTITION).ok()
    project.stop_lab()
    snapshot = project.folder / "snapshot"
    shutil.copytree(project.computer_folder("ref"), snapshot, symlinks=True)
    client.start(project.lab)
    project.wait_for("ref", "windows_pe")
    return snapshot


def disks(project: Project) -> dict[str, str]:
    """Return what is on the disks but for the lease, which every start renews."""
    found = content_of(project.computer_folder("ref") / "disks")
    return {name: value for name, value in found.items() if not name.endswith("_osd/state.json")}


# --- the same computer twice


def test_a_computer_that_another_controller_holds(project: Project, partitioned: Path) -> None:
    before = content_of(project.computer_folder("ref") / "disks")
    played = tasks(project, PARTITION, arguments=("-e", "osd_state_dir=elsewhere"))
    (state,) = (json.loads(path.read_text("utf-8")) for path in (project.computer_folder("ref") / "disks").rglob("_osd/state.json"))
    until = state["lease"]["expires"][:16].replace("T", " ")
    holder = state["lease"]["holder"].split("/")[0]
    assert refusal(played) == (
        f"The computer is held by the run '{RUN}' of {holder} until {until} UTC. "
        "Wait for its end. A run that was broken off gives the computer up when its time is over."
    )
    assert content_of(project.computer_folder("ref") / "disks") == before


# --- changed inputs


def test_other_options_of_a_finished_step_are_refused_however_often_they_are_tried(project: Project, partitioned: Path) -> None:
    other = {**PARTITION, "goldimage.osd.format_and_partition_disk": {"boot_image": "{{ osd_boot_image }}", "disk_type": "MBR"}}
    before = disks(project)
    for dummy in range(2):
        message = refusal(tasks(project, other))
        assert message.startswith(f"The options of 'Partition Disk 0' are not those with which the run '{RUN}' did it (20")
        assert message.endswith("). A finished step is not done again with other options. Restore the options, or start another osd_run.")
    assert disks(project) == before


# --- images


def test_an_index_that_the_image_does_not_have(project: Project, partitioned: Path) -> None:
    unchecked = {**START, "goldimage.osd.start_task_sequence": {"phases": ["build"], "check_content": False}}
    played = play_tasks(project, {"ref": project.host("ref")}, unchecked, PARTITION, APPLY, osd_run=RUN, osd_image_index=3)
    assert refusal(played) == (
        rf"{unc('')}\osd\images\install.wim has no image 3; it holds 1 Windows 11 Enterprise, 2 Windows 11 Pro. "
        "Set image_index to one of these; it counts from 1."
    )


def test_an_image_that_is_larger_than_its_volume(project: Project) -> None:
    image = project.lab / "content" / "images" / "large.wim"
    shutil.copy(image.with_name("install.wim"), image)
    large = project.folder / "large.bin"
    with large.open("wb") as file:
        file.truncate(160_000_000)
    subprocess.run(["wimlib-imagex", "update", str(image), "1", "--command", f"add {large} /large.bin"], check=True, capture_output=True)
    partitions = [
        {"type": "EFI", "size": 260, "file_system": "FAT32"},
        {"type": "MSR", "size": 16},
        {"type": "Primary", "size": 128, "file_system": "NTFS", "volume_name": "Windows"},
    ]
    options = {"boot_image": "{{ osd_boot_image }}", "partitions": partitions}
    partition = {**PARTITION, "goldimage.osd.format_and_partition_disk": options}
    source = {"target": unc(r"\osd\images\large.wim"), "account": READER}
    played = play_tasks(project, {"small": project.host("small")}, START, partition, APPLY, osd_run="large", osd_image=source)
    assert refusal(played).partition(" Log: ")[0] == ("The image needs 160 MB, W: has 133 MB. Choose a larger disk or another image_index.")


# --- a computer that was put back


def test_a_computer_that_was_put_back_is_refused(project: Project, partitioned: Path) -> None:
    tasks(project, PARTITION, APPLY).ok()
    project.stop_lab()
    shutil.rmtree(project.computer_folder("ref"))
    shutil.copytree(partitioned, project.computer_folder("ref"), symlinks=True)
    client.start(project.lab)
    project.wait_for("ref", "windows_pe")
    assert refusal(tasks(project, PARTITION, APPLY)) == (
        f"The computer is behind the run '{RUN}': it knows 1 of the steps that changed it, the journal has 2. "
        "It was put back to an earlier state, or its disk was replaced. Start another osd_run."
    )
