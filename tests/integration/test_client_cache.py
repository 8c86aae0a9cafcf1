# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The condition of the example's step Partition Disk 0: it runs where no client cache exists."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from integration_support import Played, Project


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    """A computer whose disk has a volume with drivers on it, in Windows PE."""
    made = new_project({"name": "ref", "disks": [{"size_gb": 64, "volumes": [{"label": "Content", "files": {r"drivers\a.txt": "x"}}]}]})
    task = {
        "name": "Partition Disk 0",
        "goldimage.osd.format_and_partition_disk": {"machine": made.machine("ref")},
        "register": "partitioned",
    }
    play = {"hosts": "reference_computers", "gather_facts": False, "tasks": [task]}
    (made.folder / "partition.yml").write_text(yaml.safe_dump([play]), "utf-8")
    return made


def partition(project: Project, target: str) -> Played:
    project.write_inventory({"ref": project.host("ref")}, {"osd_drivers": [{"target": target}]})
    return project.play(project.folder / "partition.yml", "-v").ok()


def test_it_is_left_out_where_the_builds_content_lies_on_the_disk(project: Project) -> None:
    played = partition(project, r"C:\drivers")
    assert played.recap()["skipped"] == 1
    assert played.recap()["changed"] == 0
    assert "_SMSTSClientCache exists: C:\\\\" in played.text
    (step,) = played.report["steps"]
    assert (step["skipped"], step["reason"]) == (True, "_SMSTSClientCache exists: C:\\")


def test_it_runs_where_the_content_lies_elsewhere(project: Project) -> None:
    assert partition(project, r"\\deploy.lab.test\osd\drivers").recap()["changed"] == 1
    # What was there is gone.
    assert partition(project, r"X:\drivers").recap()["changed"] == 0
