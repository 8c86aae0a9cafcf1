# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exit codes: numbers to words."""

from __future__ import annotations

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import exit_codes as ec


def test_signed_and_hresult_numbers() -> None:
    assert ec.normalise(-2147024891) == 0x80070005
    assert ec.win32_part(-2147024891) == 5
    assert ec.win32_part(3010) is None
    assert ec.format_code(-2147024891) == "0x80070005"
    assert ec.format_code(3010) == "3010"


@pytest.mark.parametrize(
    ("tool", "code", "text"),
    [
        ("dism", 112, "exit code 112 (the disk is full)"),
        ("dism", -2147024784, "exit code 0x80070070 (the disk is full)"),
        (r"X:\Windows\System32\diskpart.exe", 5, "exit code 5 (a command of the script has an error)"),
        ("cmd", 5, "exit code 5 (access denied)"),
        ("msiexec", 1618, "exit code 1618 (another installation is running)"),
        ("robocopy", 3, "exit code 3 (done)"),
        ("bcdedit", 5, "exit code 5"),
        ("whatever", 4242, "exit code 4242"),
    ],
)
def test_descriptions(tool: str, code: int, text: str) -> None:
    assert ec.describe_exit_code(tool, code) == text


def test_success_and_restart() -> None:
    assert ec.is_success("msiexec", 3010)
    assert ec.wants_restart("msiexec", 3010)
    assert ec.is_success("robocopy", 7)
    assert not ec.is_success("robocopy", 8)
    assert not ec.is_success("msiexec", 1603)
    assert not ec.wants_restart("msiexec", 0)
    assert ec.is_success("anything", 0)


def test_failures_of_the_tools_have_a_remedy() -> None:
    assert "driver" in ec.remedy_for("diskpart", 4)
    assert ec.remedy_for("bcdedit", 77) == ""
