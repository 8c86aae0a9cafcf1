# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer whose old Windows is found by the inventory's own connection (HTTP, sealed NTLM) and restarted in Windows PE from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from integration_support import Played, Project, bare, content_of, images_of, sha256, verify

OLD_PASSWORD = "Old-windows-password-1"


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    return new_project(
        {"name": "ref", "starting_state": "existing_windows", "existing": {"password": OLD_PASSWORD, "computer_name": "OLD"}}
    )


def host(project: Project, **variables: Any) -> dict[str, Any]:
    """Return the host with the connection to the Windows that is found."""
    found = {
        "ansible_host": project.address("ref", "windows"),
        "ansible_port": 5985,
        "ansible_user": "Administrator",
        "ansible_password": OLD_PASSWORD,
        "ansible_winrm_transport": "ntlm",
        "ansible_winrm_message_encryption": "always",
    }
    return project.host("ref", **found, **variables)


@pytest.fixture(scope="module")
def refused(project: Project) -> Played:
    """The same playbook where no host variable names the computer."""
    project.write_inventory({"ref": host(project, osd_machine=None)}, bare(), "unnamed.yml")
    before = content_of(project.computer_folder("ref") / "disks")
    played = project.play("build_and_capture.yml", inventory="unnamed.yml")
    assert content_of(project.computer_folder("ref") / "disks") == before
    return played


@pytest.fixture(scope="module")
def checked(project: Project, refused: Played) -> tuple[Played, bool]:
    """The whole playbook in check mode, and whether the computer is as before."""
    project.write_inventory({"ref": host(project)}, bare())
    before = content_of(project.computer_folder("ref"))
    played = project.play("build_and_capture.yml", "--check", "--diff", "-e", "osd_run=checked")
    return played, content_of(project.computer_folder("ref")) == before


@pytest.fixture(scope="module")
def run(project: Project, checked: tuple[Played, bool]) -> Played:
    return project.play("build_and_capture.yml").ok()


def test_a_computer_that_nobody_named_is_left_alone(project: Project, refused: Played) -> None:
    assert refused.rc != 0
    assert f'osd_machine: "{project.machine("ref")}"' in refused.text


def test_check_mode_ends_well_and_changes_nothing(checked: tuple[Played, bool]) -> None:
    played, unchanged = checked
    played.ok()
    assert unchanged
    steps = played.steps()
    assert steps["Restart in Windows PE"]["changed"]
    assert steps["Capture the Reference Machine"]["changed"]
    assert not [step for step in played.report["steps"] if step["skipped"] and step["name"] == "Partition Disk 0"]


def test_it_is_restarted_in_windows_pe_built_and_captured(project: Project, run: Played) -> None:
    step = run.steps()["Restart in Windows PE"]
    assert step["changed"]
    assert not step["skipped"]
    wim = project.capture / "reference.wim"
    verify(wim)
    assert images_of(wim)[0].name == "Windows 11 reference"
    assert run.report["image"]["sha256"] == sha256(wim)


def test_nothing_of_the_old_windows_is_left(project: Project, run: Played) -> None:
    console = (project.computer_folder("ref") / "console.log").read_text(encoding="utf-8")
    assert "Windows runs as OLD" in console
    assert "Windows runs as OLD" not in console.partition("Setup:")[2]
    assert OLD_PASSWORD not in run.text
