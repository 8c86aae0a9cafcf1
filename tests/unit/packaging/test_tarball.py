# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tarball holds what a user needs, and nothing of the workshop."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "requirements.txt",
    "roles",
}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [
        str(Path(sys.executable).with_name("ansible-galaxy")),
        "collection",
        "build",
        "--output-path",
        str(folder),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("goldimage-osd-*.tar.gz")
    return path


def test_top_level(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == TOP_LEVEL


def test_size(tarball: Path) -> None:
    assert tarball.stat().st_size <= 2_000_000


def test_no_hidden_and_no_compiled_files(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert [name for name in names if "/." in f"/{name}" or "__pycache__" in name or name.endswith(".pyc")] == []
