# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DISM's command lines."""

from __future__ import annotations

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import dism

TOOL = dism.Dism(r"X:\Windows\System32\dism.exe", r"X:\_osd\dism.log", r"W:\_osd\scratch")


def test_log_and_scratch_are_always_given() -> None:
    argv = TOOL.apply_image(r"Z:\install.wim", 2, "W:\\", check_integrity=True)
    assert argv == [
        r"X:\Windows\System32\dism.exe",
        "/English",
        r"/LogPath:X:\_osd\dism.log",
        r"/ScratchDir:W:\_osd\scratch",
        "/Apply-Image",
        r"/ImageFile:Z:\install.wim",
        "/Index:2",
        "/ApplyDir:W:\\",
        "/CheckIntegrity",
        "/Verify",
    ]


def test_append_has_no_compression() -> None:
    capture = dism.CaptureArguments(r"\\s\c\a.wim", "D:\\", "Data", "", r"X:\_osd\WimScript.ini")
    assert not [a for a in TOOL.append_image(capture) if a.startswith("/Compress")]
    assert TOOL.capture_image(capture, "fast")[-1] == "/Compress:fast"
    assert not [a for a in TOOL.append_image(capture) if a.startswith("/Description")]
