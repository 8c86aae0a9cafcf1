# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer of BIOS firmware: MBR, an active system partition, a boot store that knows no UEFI. Built and captured by two playbooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from integration_support import SERVER, WRITER, Played, Project, apply, bare, hives_of, images_of, paths_of, sha256, verify


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    return new_project({"name": "ref", "firmware": "bios"})


@pytest.fixture(scope="module")
def run(project: Project) -> Played:
    """Both playbooks one after the other, without any path of the control node: only the computer sees the shares."""
    capture = {"path": rf"{SERVER}\capture\reference.wim", "account": WRITER}
    project.write_inventory({"ref": project.host("ref")}, {**bare(), "osd_capture": capture})
    project.play("build.yml").ok()
    assert project.state_of("ref")["state"] == "windows"
    assert not list(project.capture.iterdir())
    return project.play("capture.yml").ok()


def test_a_bios_computer_is_built_and_captured(project: Project, run: Played) -> None:
    rows = [(row["disk"], row["label"], row["image_index"], row["reason"]) for row in run.report["volumes"]]
    assert [(disk, label, index) for disk, label, index, dummy in rows] == [
        (0, "System Reserved", None),
        (0, "Windows", 1),
        (0, "Recovery", None),
    ]
    assert all(bool(reason) is (index is None) for dummy, dummy, index, reason in rows)
    wim = project.capture / "reference.wim"
    verify(wim)
    assert [image.name for image in images_of(wim)] == ["Windows 11 reference"]
    assert run.report["image"]["sha256"] == sha256(wim)


def test_its_windows_is_generalized_and_has_no_boot_entry_of_the_run(project: Project, run: Played, tmp_path: Path) -> None:
    tree = apply(project.capture / "reference.wim", 1, tmp_path / "windows")
    state = hives_of(tree)["SOFTWARE"].get(r"microsoft\windows\currentversion\setup\state", "ImageState")
    assert state == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    assert [path for path in paths_of(tree) if path == "_osd" or path.startswith("boot\\") or path == "bootmgr"] == []


def test_again_without_a_controller_path_the_computer_is_asked(project: Project, run: Played) -> None:
    """The computer is off, so nobody can say that the file is still the same."""
    project.wait_for("ref", "off")
    again = project.play("build_and_capture.yml")
    assert again.rc != 0
    assert project.address("ref", "winpe") in again.text
    assert sha256(project.capture / "reference.wim") == run.report["image"]["sha256"]
