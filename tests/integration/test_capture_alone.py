# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""capture.yml alone: the image of a reference computer that somebody else has built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from integration_support import (
    Hive,
    Played,
    Project,
    apply,
    capturing,
    content_of,
    files_with,
    hives_of,
    images_of,
    paths_of,
    sha256,
    verify,
)

PASSWORD = "Reference-administrator-1"
STEPS = ["Join Workgroup", "Prepare ConfigMgr Client", "Prepare Operating System", "Capture the Reference Machine"]


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    project = new_project(
        {"name": "ref", "starting_state": "existing_windows", "existing": {"password": PASSWORD, "computer_name": "REFERENCE"}}
    )
    host = project.host(
        "ref",
        ansible_host=project.address("ref", "windows"),
        ansible_port=5985,
        ansible_user="Administrator",
        ansible_password=PASSWORD,
        ansible_winrm_transport="ntlm",
        osd_windows_connection=None,
    )
    project.write_inventory({"ref": host}, {**capturing(), "osd_client_poll_interval": 1})
    return project


@pytest.fixture(scope="module")
def checked(project: Project) -> tuple[Played, bool]:
    """The playbook in check mode first, and whether the computer is as before."""
    before = content_of(project.computer_folder("ref"))
    played = project.play("capture.yml", "--check", "--diff")
    return played, content_of(project.computer_folder("ref")) == before


@pytest.fixture(scope="module")
def run(project: Project, checked: tuple[Played, bool]) -> Played:
    return project.play("capture.yml").ok()


@pytest.fixture(scope="module")
def tree(project: Project, run: Played, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return apply(project.capture / "reference.wim", 1, tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def hives(tree: Path) -> dict[str, Hive]:
    return hives_of(tree)


def test_check_mode_ends_well_and_changes_nothing(checked: tuple[Played, bool]) -> None:
    played, unchanged = checked
    played.ok()
    assert unchanged
    assert played.steps()["Capture the Reference Machine"]["changed"]


def test_the_steps_of_the_capture_run_and_no_others(project: Project, run: Played) -> None:
    assert [step["name"] for step in run.report["steps"] if step["name"] != "Start the task sequence"] == STEPS
    assert {step["group"] for step in run.report["steps"]} == {"Capture the Reference Machine"}
    wim = project.capture / "reference.wim"
    verify(wim)
    assert images_of(wim)[0].name == "Windows 11 reference"
    assert run.report["image"]["sha256"] == sha256(wim)
    assert project.wait_for("ref", "off") == "off"


def test_windows_is_generalized_and_what_was_open_before_stays_open(tree: Path, hives: dict[str, Hive]) -> None:
    state = hives["SOFTWARE"].get(r"microsoft\windows\currentversion\setup\state", "ImageState")
    assert state == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    assert "_osd" not in paths_of(tree)
    # This run did not open Windows: WinRM is as its owner had it, and there is no account to remove.
    assert hives["SYSTEM"].get(r"controlset001\services\winrm", "Start") == "2"
    assert hives["SAM"].below(r"sam\domains\account\users\names") == ["administrator", "guest"]
    assert not hives["SOFTWARE"].has(r"microsoft\windows nt\currentversion\schedule\taskcache\tree\osd")


def test_no_secret_stands_anywhere(project: Project, run: Played, tree: Path) -> None:
    shown = project.folder / "shown.txt"
    shown.write_text(run.text, encoding="utf-8")
    secrets = {**project.secrets("Windows-11-reference-1.0", "ref"), "the administrator's password": PASSWORD}
    assert files_with([tree, project.state, shown, *project.folder.glob("result-*.json")], secrets) == []
