# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab as a process: made from wishes, started, stopped as by pulling plugs, and going on from its folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.prepare import LabProblem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.service import Lab

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")


def wishes() -> dict[str, object]:
    network = f"127.{150 + os.getpid() % 60}.{os.getpid() // 60 % 250}.0/24"
    return {
        "network": network,
        "speed": 1000,
        "computers": [
            {"name": "bare"},
            {"name": "old", "starting_state": "existing_windows", "existing": {"password": "Old-Pass-1"}},
            {"name": "idle", "starting_state": "off"},
        ],
    }


@pytest.fixture
def directory(tmp_path: Path, lab_content: Path) -> Iterator[Path]:
    folder = tmp_path / "lab"
    shutil.copytree(lab_content, folder / "content")
    shutil.copy(lab_content.parent / "boot-password.json", folder / "boot-password.json")
    yield folder
    client.stop(folder)


def states(directory: Path) -> dict[str, str]:
    return {name: computer["state"] for name, computer in client.status(directory)["computers"].items()}


def test_a_lab_lives_in_its_folder(directory: Path) -> None:
    assert prepare.prepare(directory, wishes(), "Boot-Image-1")
    assert not prepare.prepare(directory, wishes(), "Boot-Image-1"), "the second time there is nothing to make"
    assert client.start(directory)
    assert not client.start(directory)
    assert states(directory) == {"bare": "windows_pe", "old": "windows", "idle": "off"}
    client.command(directory, "old", "power_off")
    client.wait_for(directory, "old", {"off"}, timeout=10)
    assert client.stop(directory)
    assert not client.stop(directory)
    assert client.status(directory) == {}
    client.start(directory)
    assert states(directory) == {"bare": "windows_pe", "old": "off", "idle": "off"}, "what was on is on again"


def test_another_secret_makes_another_boot_image(directory: Path) -> None:
    prepare.prepare(directory, wishes(), "Boot-Image-1")
    before = (directory / "content" / "boot" / "boot.wim").read_bytes()
    assert prepare.prepare(directory, wishes(), "Boot-Image-2")
    assert (directory / "content" / "boot" / "boot.wim").read_bytes() != before


@pytest.mark.parametrize("network", ["192.0.2.0/24", "127.80.0.0/28"])
def test_a_network_that_does_not_fit(network: str) -> None:
    with pytest.raises(LabProblem, match="network is"):
        prepare.addresses(network, 3)


def test_an_old_windows_needs_a_password(directory: Path) -> None:
    plain = {**wishes(), "computers": [{"name": "old", "starting_state": "existing_windows"}]}
    with pytest.raises(LabProblem, match=r"existing\.password"):
        prepare.prepare(directory, plain, "Boot-Image-1")


def test_every_time_of_the_lab_is_an_option(directory: Path) -> None:
    prepare.prepare(directory, wishes(), "Boot-Image-1")
    assert Lab(directory).settings == Settings(speed=1000), "the defaults are Windows'"
    changed = {"hang_seconds": 7.0, "idle_seconds": 60.0, "answers_in_setup": False}
    assert prepare.prepare(directory, {**wishes(), "behaviour": changed}, "Boot-Image-1")
    assert Lab(directory).settings == Settings(speed=1000, hang_seconds=7.0, idle_seconds=60.0, answers_in_setup=False)
    options = yaml.safe_load((Path(__file__).parents[3] / "plugins/modules/lab.py").read_text().split('"""')[1])["options"]
    documented = {name: option["default"] for name, option in options["behaviour"]["suboptions"].items()}
    known = vars(Settings())
    assert documented == {name: known[name] for name in documented}
    assert {"speed", "vendor", *documented} == set(known)
