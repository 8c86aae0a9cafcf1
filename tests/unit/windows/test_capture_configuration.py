# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WimScript.ini: what DISM and wimlib read, and who stays out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import capture_configuration as cc
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.capture_configuration import (
    CaptureConfiguration,
    ConfigurationError,
)


def test_render_and_parse() -> None:
    wanted = cc.for_capture([r"\Windows\Temp\*", "*.tmp"], [r"\keep\k.tmp"])
    text = cc.render(wanted)
    assert text.startswith(b"[ExclusionList]\r\n\\$ntfs.log\r\n")
    assert b"\r\n\\_osd\r\n" in text
    assert cc.parse(text) == wanted
    assert cc.parse(text.decode().encode("utf-16")) == wanted


@pytest.mark.parametrize(
    ("path", "out"),
    [
        (r"\pagefile.sys", True),
        (r"\data\pagefile.sys", False),
        (r"\$Recycle.Bin\S-1-5\x", True),
        (r"\_OSD\jobs\1\run.cmd", True),
        (r"\_osd2\x", False),
        (r"\a\b.TMP", True),
        (r"\keep\k.tmp", False),
        (r"\Windows\Panther\setup.etl", True),
        (r"\Windows\Panther\UnattendGC\setup.etl", False),
        (r"\Windows\CSC", True),
        (r"\Windows\System32", False),
    ],
)
def test_matching(path: str, out: bool) -> None:
    assert cc.for_capture(["*.tmp"], [r"\keep\k.tmp"]).excludes(path) is out


@pytest.mark.parametrize("pattern", ["", " x", "C:\\x", "ä", 'a"b', "[Section]", r"\a*\b"])
def test_bad_patterns_are_named(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="The exclusion"):
        cc.for_capture([pattern])


@pytest.mark.parametrize("text", [b"x\n", b"[Colours]\n"])
def test_bad_files(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match="Line 1"):
        cc.parse(text)


def test_comments_and_unused_sections() -> None:
    text = b'; c\n[PrepopulateList]\n*\n[ExclusionList]\n# d\n"\\a b"\n'
    assert cc.parse(text) == CaptureConfiguration((r"\a b",), (), ())


@pytest.mark.skipif(not shutil.which("wimlib-imagex"), reason="wimlib-imagex (wimtools) is not installed")
def test_wimlib_leaves_out_what_we_say(tmp_path: Path) -> None:
    configuration = cc.for_capture(["*.tmp"], [r"\keep\k.tmp"])
    files = ["pagefile.sys", "data/pagefile.sys", "_osd/state.json", "a/b.tmp", "keep/k.tmp", "Windows/Panther/x.etl", "Windows/a.dll"]
    for name in files:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    (tmp_path / "WimScript.ini").write_bytes(cc.render(configuration))
    command = ["wimlib-imagex", "capture", "tree", "x.wim", "n", "--quiet", "--config=WimScript.ini"]
    subprocess.run(command, cwd=tmp_path, check=True)
    listed = subprocess.run(["wimlib-imagex", "dir", "x.wim", "1"], cwd=tmp_path, check=True, capture_output=True, text=True)
    kept = {line.lstrip("/") for line in listed.stdout.splitlines()}
    assert {name for name in files if name in kept} == {n for n in files if not configuration.excludes("\\" + n)}
