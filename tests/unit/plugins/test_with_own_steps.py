# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user's own steps come where he said, and a misspelt step name is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.goldimage.osd.plugins.filter.with_own_steps import DISABLED, STEPS, with_own_steps

GROUP = ["Partition Disk 0", "Install Updates"]


def test_nothing_added_is_the_group_itself() -> None:
    assert with_own_steps(GROUP) == [
        {"name": "Partition Disk 0", "file": "partition_disk_0.yml"},
        {"name": "Install Updates", "file": "install_updates.yml"},
    ]


def test_order_is_before_pause_step_after() -> None:
    entries = with_own_steps(
        GROUP,
        before={"Install Updates": "wsus.yml"},
        after={"Install Updates": "check.yml"},
        pause_before=["Install Updates"],
    )
    assert [Path(entry["file"]).name for entry in entries] == [
        "partition_disk_0.yml",
        "wsus.yml",
        "pause.yml",
        "install_updates.yml",
        "check.yml",
    ]


def test_own_files_are_seen_from_the_start_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = with_own_steps(GROUP, before={"Partition Disk 0": "steps/raid.yml"})
    assert entries[0]["file"] == str(tmp_path / "steps/raid.yml")


def test_a_disabled_step_keeps_its_neighbours() -> None:
    entries = with_own_steps(GROUP, before={"Install Updates": "/own.yml"}, disabled=["Install Updates"])
    assert entries == [
        {"name": "Partition Disk 0", "file": "partition_disk_0.yml"},
        {"name": "before Install Updates", "file": "/own.yml"},
        {"name": "Install Updates", "file": DISABLED, "disabled": "install_updates.yml"},
    ]


def test_names_of_the_other_group_are_left_to_it() -> None:
    assert with_own_steps(GROUP, disabled=["Join Workgroup"]) == with_own_steps(GROUP)


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        ({"before": {"Partition Disk": "a.yml"}}, "osd_steps_before"),
        ({"after": {"Partition Disk": "a.yml"}}, "osd_steps_after"),
        ({"disabled": ["Partition Disk"]}, "osd_steps_disabled"),
        ({"pause_before": ["Partition Disk"]}, "osd_pause_before"),
    ],
)
def test_a_misspelt_name_is_told(options: dict, variable: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        with_own_steps(GROUP, **options)
    assert str(caught.value) == (f"{variable}: there is no step 'Partition Disk'. The steps are: {', '.join(STEPS)}.")
