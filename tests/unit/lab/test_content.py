# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images made for the lab, looked at with Debian's tools."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")


def info(image: Path, index: int) -> dict[str, str]:
    command = ["wimlib-imagex", "info", str(image), str(index)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key.strip(): value.strip() for key, dummy, value in (line.partition(":") for line in shown.splitlines())}


def test_wimlib_sees_windows(lab_content: Path) -> None:
    found = info(lab_content / "images" / "install.wim", 1)
    assert found["Architecture"] == "x86_64"
    assert found["Edition ID"] == "Enterprise"
    assert found["Build"] == "26100"
    assert found["Languages"] == "en-US"
    assert info(lab_content / "images" / "install.wim", 2)["Edition ID"] == "Professional"


def test_wimlib_sees_windows_pe(lab_content: Path) -> None:
    found = info(lab_content / "boot" / "boot.wim", 1)
    assert found["Edition ID"] == "WindowsPE"
    assert found["Flags"] == "9"


@pytest.mark.skipif(shutil.which("hivexget") is None, reason="Debian's libhivex-bin is not installed")
def test_hivex_reads_the_image_state(lab_content: Path, tmp_path: Path) -> None:
    image = lab_content / "images" / "install.wim"
    path = "/Windows/System32/config/SOFTWARE"
    command = ["wimlib-imagex", "extract", str(image), "1", path, f"--dest-dir={tmp_path}", "--no-acls"]
    subprocess.run(command, capture_output=True, check=True)
    key = r"Microsoft\Windows\CurrentVersion\Setup\State"
    shown = subprocess.run(["hivexget", str(tmp_path / "SOFTWARE"), key, "ImageState"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"


def test_the_boot_image_keeps_no_password(lab_content: Path) -> None:
    about = json.loads((lab_content / "boot" / "boot.json").read_text())
    assert about["schema"] == 1
    assert set(about["sha256"]) == {"boot.wim", "boot.sdi", "certificate.pem"}
    shown = subprocess.run(
        ["wimlib-imagex", "extract", str(lab_content / "boot" / "boot.wim"), "1", "/osd/agent.json", "--to-stdout"],
        capture_output=True,
        check=True,
    )
    agent = json.loads(shown.stdout)
    assert agent["password"]["algorithm"] == "pbkdf2_sha256"
    assert b"Boot-Image-1" not in shown.stdout
