# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A capture whose destination is full leaves nothing behind and goes on when there is room; what was captured is spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from failures_support import OLD_PASSWORD, existing, refusal, unc
from integration_support import WRITER, Played, Project, capturing, images_of, verify

MIB = 1024 * 1024
PATH = unc(r"\small\reference.wim")


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A reference computer that somebody else has built, and a share of one megabyte."""
    folder = tmp_path_factory.mktemp("small")
    share = {"server": "deploy.lab.test", "name": "small", "path": str(folder), "size_mb": 1}
    made = new_project(
        {"name": "ref", "starting_state": "existing_windows", "existing": {"password": OLD_PASSWORD}},
        shares=[{**share, "read": [WRITER["user"]], "write": [WRITER["user"]]}],
    )
    made.capture = folder
    made.wait_for("ref", "windows")
    return made


def capture(project: Project, **variables: Any) -> Played:
    destination = {"osd_capture": {"path": PATH, "account": WRITER}, "osd_client_poll_interval": 1}
    project.write_inventory({"ref": existing(project, "ref")}, {**capturing(), **destination, "osd_after_capture": "stay", **variables})
    return project.play("capture.yml")


@pytest.fixture(scope="module")
def full(project: Project) -> tuple[Played, list[str]]:
    """The capture into a share that is all but full, and what was in it afterwards."""
    filler = project.capture / "filler"
    filler.write_bytes(bytes(MIB - 4096))
    played = capture(project)
    left = [path.name for path in project.capture.iterdir()]
    filler.unlink()
    return played, left


@pytest.fixture(scope="module")
def captured(project: Project, full: tuple[Played, list[str]]) -> Played:
    return capture(project).ok()


def test_a_full_share_is_named_and_nothing_is_left_in_it(project: Project, full: tuple[Played, list[str]]) -> None:
    played, left = full
    assert refusal(played) == (
        f"{PATH} was not written: dism (capture-1) ended with exit code 112 (the disk is full). "
        "A file that had this name before is untouched. Free space there, or choose another place. "
        "The step deletes its unfinished file and starts over when it runs again. "
        f"Log: {project.state}/Windows-11-reference-1.0/logs/ref/capture-the-reference-machine-capture-1.log"
    )
    assert left == ["filler"]


def test_the_same_run_goes_on_where_there_is_room(project: Project, captured: Played) -> None:
    changed = [step["name"] for step in captured.report["steps"] if step["changed"]]
    assert changed == ["Capture the Reference Machine"]
    verify(project.capture / "reference.wim")
    assert len(images_of(project.capture / "reference.wim")) == 1


def test_another_run_refuses_the_spent_computer(project: Project, captured: Played) -> None:
    # The computer kept its address when Windows PE was staged from Windows.
    host = existing(project, "ref")
    host["osd_winpe_connection"]["host"] = project.state_of("ref")["address"]
    before = (project.capture / "reference.wim").read_bytes()
    project.write_inventory({"ref": host}, {**capturing(), "osd_capture": {"path": PATH, "account": WRITER}})
    message = refusal(project.play("capture.yml", "-e", "osd_run=another"))
    assert message.partition(" Log: ")[0] == (
        "This reference computer was captured already by the run 'Windows-11-reference-1.0' and is spent: what its first setup wrote into "
        "the registry would be in another image too. Build a reference computer for every capture: run build_and_capture.yml with "
        "another osd_run and with Partition Disk 0. "
        "To use an installed one again, uninstall the Configuration Manager client and reinstall it first."
    )
    assert (project.capture / "reference.wim").read_bytes() == before
