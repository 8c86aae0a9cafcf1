# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Sysprep would refuse, its answer file, and the order of the job that runs it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file, sysprep

READY = sysprep.SysprepSituation(
    image_state=sysprep.COMPLETE,
    domain="",
    domain_controller=False,
    rearm_left=3,
    pending_restart=(),
    encrypted=(),
    upgraded=False,
    reserved_storage=False,
    running=False,
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image_state": sysprep.UNDEPLOYABLE}, sysprep.UNDEPLOYABLE),
        ({"image_state": ""}, "not recorded"),
        ({"domain": "corp.example"}, "corp.example"),
        ({"domain": "corp.example", "domain_controller": True}, "domain controller"),
        ({"rearm_left": 0}, "0xC004D307"),
        ({"pending_restart": ("servicing",)}, "servicing"),
        ({"encrypted": ("C:", "D:")}, "C:, D:"),
        ({"upgraded": True}, "upgraded"),
        ({"reserved_storage": True}, "0x800F0975"),
        ({"running": True}, "running already"),
    ],
)
def test_each_reason_alone(change: Any, word: str) -> None:
    found = sysprep.problems(replace(READY, **change), keep_activation=False)
    assert len(found) == 1
    assert word in found[0].message
    assert found[0].remedy


def test_nothing_is_refused_without_reason() -> None:
    assert not sysprep.problems(READY, keep_activation=False)
    assert not sysprep.problems(replace(READY, rearm_left=0), keep_activation=True)
    assert not sysprep.problems(replace(READY, rearm_left=None), keep_activation=False)


@pytest.mark.parametrize(("keep", "value"), [(True, "1"), (False, "0")])
def test_the_answer_file_has_only_the_generalize_pass(keep: bool, value: str) -> None:
    data = sysprep.generalize_answer_file("amd64", keep_activation=keep)
    assert answer_file.parse(data).text("generalize", "Microsoft-Windows-Security-SPP", "amd64", "SkipRearm") == value
    assert data.count(b"<settings ") == 1


def test_the_job_checks_before_it_goes_on_and_restarts_before_its_task_goes() -> None:
    script = sysprep.job_script(
        r"C:\_osd\g.xml", [["back.exe"]], [["forget.exe"]], [["entry.exe"]], [["account.exe"]], [["left.exe"]], ["task.exe"]
    )
    lines = script.split("\r\n")
    assert lines[1].endswith(r"/generalize /oobe /quiet /quit /unattend:C:\_osd\g.xml")
    assert lines[2].endswith("|| goto refused")
    assert lines[3].endswith("exit /b 32")
    assert lines[4:8] == ["forget.exe", "entry.exe || exit /b 33", "account.exe || exit /b 34", "left.exe"]
    assert "shutdown.exe /r" in lines[8]
    assert lines[9:12] == ["task.exe", "exit /b 0", ":refused"]
    assert sysprep.COMPLETE in lines[12]
    assert lines[12].endswith("|| exit /b 31")
    assert lines[13:] == ["back.exe", "exit /b 31", ""]
    assert set(sysprep.JOB_CODES) == {31, 32, 33, 34, 35}
