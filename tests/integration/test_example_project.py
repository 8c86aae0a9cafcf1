# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as users have it: installed from its tarball with the example project, and as a checkout of any name used in place."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client
from integration_support import MISSING_PROGRAMS, PLAY_LIMIT, ROOT, images_of, reserve_network, verify

PROGRAMS = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(bool(MISSING_PROGRAMS), reason=f"not installed: {', '.join(MISSING_PROGRAMS)}")


@pytest.fixture
def network():
    reserved, prefix = reserve_network()
    yield prefix
    reserved.close()


@pytest.fixture
def user(tmp_path):
    """A user of this computer: runs programs with a home of their own, and leaves no lab behind."""
    labs: list[Path] = []

    def run(folder: Path, program: str, *arguments: str, lab: str = "lab", **variables: str) -> str:
        labs.append(folder / lab)
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", **variables}
        with subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                shown = process.communicate(timeout=PLAY_LIMIT)[0]
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, f"{program} {' '.join(arguments)} ended with {process.returncode}\n{shown}"
        return shown

    yield run
    for lab in labs:
        client.stop(lab)


def test_the_molecule_scenario_with_the_installed_tarball(user, network, tmp_path):
    user(ROOT, "ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    (tarball,) = tmp_path.glob("goldimage-osd-*.tar.gz")
    installed = tmp_path / "installed"
    user(tmp_path, "ansible-galaxy", "collection", "install", str(tarball), "--collections-path", str(installed), "--offline")
    project = tmp_path / "a user's project"
    shutil.copytree(ROOT / "docs/examples/project", project)
    for name in ("inventory.yml", "group_vars/all/lab.yml"):
        # The only change: other tests have labs at the same time.
        text = (project / name).read_text(encoding="utf-8")
        assert "127.80.0." in text
        (project / name).write_text(text.replace("127.80.0.", f"{network}."), encoding="utf-8")
    # Its last action, destroy, removes the image: look at it before.
    kept = tmp_path / "reference.wim"
    verification = project / "molecule/default/verify.yml"
    plays = yaml.safe_load(verification.read_text(encoding="utf-8"))
    plays[0]["tasks"].append(
        {"ansible.builtin.copy": {"src": "{{ playbook_dir }}/capture/reference.wim", "dest": str(kept), "mode": "0600"}}
    )
    verification.write_text(yaml.safe_dump(plays), encoding="utf-8")
    shown = user(project, "molecule", "test", ANSIBLE_COLLECTIONS_PATH=str(installed))
    assert "idempotence" in shown.lower()
    verify(kept)
    assert [image.name for image in images_of(kept)] == ["Windows 11 reference", "Windows 11 reference - Data (1-1)"]
    assert not [name for name in ("lab", "capture", "osd-state", "result.json") if (project / name).exists()]


def test_a_checkout_of_any_name_works_in_place(user, network, tmp_path):
    checkout = tmp_path / "some.other-name"
    checkout.mkdir()
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    user(checkout, "make", "collections/ansible_collections/goldimage/osd/galaxy.yml")
    lab = {
        "directory": "build/lab/lab",
        "network": f"{network}.0/24",
        "inventory": "build/lab/inventory.yml",
        "computers": [{"name": "pc"}],
    }
    variables = checkout / "build/variables.yml"
    variables.parent.mkdir()
    variables.write_text(yaml.safe_dump({"osd_lab": lab, "osd_secret": "only-for-a-checkout-of-any-name"}), encoding="utf-8")
    extra = ("-e", f"@{variables}", "-i", "build/lab/inventory.yml")
    own = checkout / "build/facts.yml"
    facts = [
        {"goldimage.osd.task_sequence_facts": {"subset": ["environment"]}, "register": "facts"},
        {"ansible.builtin.debug": {"msg": "in Windows PE: {{ facts.variables._SMSTSInWinPE }}"}},
    ]
    own.write_text(yaml.safe_dump([{"hosts": "reference_computers", "gather_facts": False, "tasks": facts}]), encoding="utf-8")
    user(checkout, "ansible-playbook", "goldimage.osd.lab", *extra[:2], lab=lab["directory"])
    assert "in Windows PE: True" in user(checkout, "ansible-playbook", *extra, "build/facts.yml", lab=lab["directory"])
    # Also by the file's own path.
    user(checkout, "ansible-playbook", *extra[:2], "-e", "osd_lab_state=stopped", "playbooks/lab.yml", lab=lab["directory"])
    assert client.status(checkout / lab["directory"]) == {}
