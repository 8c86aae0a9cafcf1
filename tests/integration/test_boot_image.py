# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A boot image that the module made starts a lab computer, and its agent answers; with one byte of the agent broken nothing does."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from integration_support import SECRET, Project

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "media"))

from media_files import comtypes_archive, make_winpe, python_archive, write_udf_iso  # noqa: E402


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    """A computer whose stick holds what the module made from an ISO; the key is the lab's, so that the inventory stays right."""
    made = new_project({"name": "ref"})
    made.stop_lab()
    inputs = made.folder / "inputs"
    inputs.mkdir()
    make_winpe(inputs / "winpe.wim")
    write_udf_iso(
        inputs / "windows.iso", {"sources/boot.wim": (inputs / "winpe.wim").read_bytes(), "boot/boot.sdi": b"$SDI0001" + bytes(4096)}
    )
    archives = {}
    for name, data in (("python", python_archive()), ("comtypes", comtypes_archive())):
        (inputs / name).write_bytes(data)
        archives[name] = {"source": str(inputs / name), "sha256": hashlib.sha256(data).hexdigest()}
    task = {"name": "lab", "source": "inputs/windows.iso", "destination": "lab/content/boot", **archives}
    play = {"hosts": "reference_computers", "gather_facts": False, "tasks": [{"goldimage.osd.boot_image": task}]}
    (made.folder / "boot_image.yml").write_text(yaml.safe_dump([play]), "utf-8")
    facts = {"goldimage.osd.task_sequence_facts": {"subset": ["environment"]}}
    (made.folder / "facts.yml").write_text(yaml.safe_dump([{**play, "tasks": [facts]}]), "utf-8")
    made.write_inventory({"ref": made.host("ref")}, {"osd_secret": SECRET})
    return made


def test_the_agent_of_the_module_answers(project: Project) -> None:
    played = project.play(project.folder / "boot_image.yml").ok()
    assert played.recap()["changed"] == 1
    assert project.play(project.folder / "boot_image.yml").ok().recap()["changed"] == 0
    assert SECRET not in played.text
    project_start(project)
    assert project.wait_for("ref", "windows_pe", "windows_pe_starts", "no_agent") != "no_agent", project.state_of("ref")
    assert project.wait_for("ref", "windows_pe") == "windows_pe"
    assert "Windows PE" in project.play(project.folder / "facts.yml", "-v").ok().text


def test_one_broken_byte_of_the_agent(project: Project) -> None:
    project.stop_lab()
    boot = project.lab / "content" / "boot" / "boot.wim"
    work = project.folder / "broken"
    subprocess.run(["wimlib-imagex", "extract", boot, "1", "/osd/agent.zip", f"--dest-dir={work}", "--no-acls", "--quiet"], check=True)
    data = bytearray((work / "agent.zip").read_bytes())
    data[data.index(b"goldimage_osd/agent/http_server.py") + 2000] ^= 1
    (work / "agent.zip").write_bytes(data)
    kept = project.folder / "boot.wim"
    shutil.copyfile(boot, kept)
    command = f'add "{work / "agent.zip"}" /osd/agent.zip\n'
    subprocess.run(["wimlib-imagex", "update", boot, "1", "--check"], input=command, text=True, check=True, capture_output=True)
    project_start(project)
    assert project.wait_for("ref", "no_agent", "windows_pe") == "no_agent"
    assert "agent" in project.state_of("ref")["message"]
    assert project.play(project.folder / "facts.yml").rc != 0
    # The module sees that it is not the file it made, and makes it again.
    assert project.play(project.folder / "boot_image.yml").ok().recap()["changed"] == 1
    assert boot.read_bytes() == kept.read_bytes()


def test_it_refuses_to_be_delegated_to_a_computer(project: Project) -> None:
    """It works on the control node: elsewhere there would be neither the inputs nor wimlib."""
    play = yaml.safe_load((project.folder / "boot_image.yml").read_text("utf-8"))
    play[0]["tasks"][0]["delegate_to"] = "ref"
    (project.folder / "delegated.yml").write_text(yaml.safe_dump(play), "utf-8")
    before = {path.name: path.stat().st_mtime_ns for path in (project.lab / "content" / "boot").iterdir()}
    played = project.play(project.folder / "delegated.yml")
    assert played.rc == 2
    assert "boot_image works on the control node; delegate_to: ref would do nothing there. Leave it out." in played.text
    assert {path.name: path.stat().st_mtime_ns for path in (project.lab / "content" / "boot").iterdir()} == before


def project_start(project: Project) -> None:
    """Start the lab's process alone: preparing it would make the lab's own boot image where the module's is not whole."""
    from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client

    client.start(project.lab)
