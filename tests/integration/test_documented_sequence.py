# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sequence that docs/sequence-from-modules.md shows, played as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from integration_support import ROOT, apply, capturing, everything, hives_of, images_of, paths_of, verify

PAGE = ROOT / "docs/sequence-from-modules.md"


def documented() -> str:
    """Return the page's playbook, unchanged."""
    (block,) = re.findall(r"```yaml\n(---\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block


def names(tasks: list[dict]) -> list[tuple[str, str]]:
    """Return group and name of every step of the playbook."""
    found = []
    for task in tasks:
        found += [(task["name"], step["name"]) for step in task["block"]] if "block" in task else [("", task["name"])]
    return found


@pytest.fixture(scope="module")
def played(new_project):
    project = new_project({"name": "reference-01"})
    variables = {name: everything()[name] for name in ("osd_boot_image", "osd_image")}
    project.write_inventory({"reference-01": project.host("reference-01")}, {**capturing(), **variables, "osd_setup_poll_seconds": 0.2})
    playbook = project.folder / "from_modules.yml"
    playbook.write_text(documented(), encoding="utf-8")
    return project, project.play(playbook).ok()


def test_every_step_ran_in_its_group(played):
    dummy, done = played
    (play,) = yaml.safe_load(documented())
    steps = [(step["group"] or "", step["name"]) for step in done.report["steps"]]
    assert steps == names(play["tasks"])
    assert done.report["ok"] is True
    skipped = {step["name"]: step["reason"] for step in done.report["steps"] if step["skipped"]}
    assert skipped.keys() == {"Restart in Windows PE"}
    assert "_SMSTSInWinPE" in skipped["Restart in Windows PE"]


def test_the_image_is_what_the_page_promises(played, tmp_path: Path):
    project, done = played
    image = project.capture / "reference.wim"
    verify(image)
    assert [found.name for found in images_of(image)] == ["Windows 11 from modules"]
    assert done.report["image"]["path"] == capturing()["osd_capture"]["path"]
    tree = apply(image, 1, tmp_path)
    software = hives_of(tree)["SOFTWARE"]
    assert software.get(r"Microsoft\Windows NT\CurrentVersion", "RegisteredOwner") == "Example"
    assert software.get(r"Microsoft\Windows NT\CurrentVersion", "RegisteredOrganization") == "Example Ltd"
    assert software.get("Example", "Built") == "from modules"
    assert "_osd" not in paths_of(tree)
