# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo's own project and sequence against a boot image in which one byte of the agent is broken: it fails, and says one thing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client
from integration_support import MISSING_PROGRAMS, PLAY_LIMIT, ROOT, reserve_network

pytestmark = pytest.mark.skipif(bool(MISSING_PROGRAMS), reason=f"not installed: {', '.join(MISSING_PROGRAMS)}")


class Demo:
    """A copy of the example project, as the demo makes one, with a network of its own."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder
        self.lab = folder / "lab"
        self.network = network
        shutil.copytree(ROOT / "docs/examples/project", folder)
        (folder / "capture").mkdir()
        for name in ("inventory.yml", "group_vars/all/lab.yml"):
            text = (folder / name).read_text(encoding="utf-8")
            assert "127.80.0." in text
            (folder / name).write_text(text.replace("127.80.0.", f"{network}."), encoding="utf-8")

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PLAY_LIMIT,
            check=False,
        )

    def state(self) -> dict[str, str]:
        found: dict[str, str] = client.status(self.lab)["computers"]["reference-01"]
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    reserved, network = reserve_network()
    made = Demo(tmp_path / "project", network)
    yield made
    client.stop(made.lab)
    reserved.close()


def break_one_byte(boot: Path, work: Path) -> None:
    """Take the agent out of the boot image, change a byte in it, and put it back, with Debian's wimlib."""
    subprocess.run(["wimlib-imagex", "extract", boot, "1", "/osd/agent.zip", f"--dest-dir={work}", "--no-acls", "--quiet"], check=True)
    data = bytearray((work / "agent.zip").read_bytes())
    data[data.index(b"goldimage_osd/agent/service.py") + 1000] ^= 1
    (work / "agent.zip").write_bytes(data)
    command = f'add "{work / "agent.zip"}" /osd/agent.zip\n'
    subprocess.run(["wimlib-imagex", "update", boot, "1", "--check"], input=command, text=True, check=True, capture_output=True)


def test_the_demo_fails_with_one_message(demo: Demo, tmp_path: Path) -> None:
    started = demo.play("goldimage.osd.lab")
    assert started.returncode == 0, started.stdout + started.stderr
    assert demo.state()["state"] == "windows_pe"
    client.stop(demo.lab)
    break_one_byte(demo.lab / "content" / "boot" / "boot.wim", tmp_path / "broken")
    # The lab's process alone: preparing it would make the boot image anew.
    client.start(demo.lab)
    assert demo.state()["state"] == "no_agent"
    played = demo.play("build_and_capture.yml")
    shown = played.stdout + played.stderr
    # ansible-playbook ends with 4 where a host cannot be reached.
    assert played.returncode == 4, shown
    assert shown.count("fatal:") == 1, shown
    said = (
        f"{demo.network}.11:5986 refuses the connection: the computer is there, but nothing listens on that port (yet). Is it still "
        "starting, or in another environment? Is the port right in osd_winpe_connection?"
    )
    assert shown.count(said) == 1, shown
    report = json.loads((demo.folder / "result.json").read_text(encoding="utf-8"))
    assert report["ok"] is False
    assert report["image"] is None
    assert list((demo.folder / "capture").iterdir()) == []
    # Nothing was done to the computer: it is where it was, and no disk has a partition that it had not.
    assert demo.state()["state"] == "no_agent"
