# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script that connects, copies and disconnects, run by the lab's cmd.exe."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools import cmd, programs
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session, ToolCall
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.local_content import (
    CONNECT_FAILED,
    COPY_SCRIPT,
    COPY_SCRIPT_TEXT,
    Source,
    plan_fetch,
)

WITH_ACCOUNT = Source(r"\\srv\apps\7zip", r"LAB\read", "p a&|^%x%!")
ROBOCOPY = ["robocopy", r"\\srv\apps\7zip", r"C:\_osd\content\x", "*.*", "/E", "/R:3", "/W:5", "/NP", "/NFL", "/NDL"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the script for a source; net and robocopy only note how they were called and end with the given codes."""

    def start(source: Source, **codes: int) -> tuple[int, list[list[str]]]:
        started: list[list[str]] = []

        def launch(call: ToolCall) -> int:
            started.append(list(call.argv))
            return codes.get(call.argv[0], 0)

        monkeypatch.setattr(programs, "find", lambda call, name, *dummy: name)
        monkeypatch.setattr(programs, "launch", launch)
        fetch = plan_fetch(source, r"C:\_osd\content\x")
        assert fetch is not None
        machine: Any = SimpleNamespace(files=lambda dummy: SimpleNamespace(read=lambda dummy: COPY_SCRIPT_TEXT), system_drive="C:")
        streams = [io.BytesIO() for dummy in range(3)]
        call = ToolCall(machine, Session(), [], *streams, dict(fetch.environment), "C:\\", threading.Event())
        code = cmd.Interpreter(call).run_batch(COPY_SCRIPT, "")
        assert streams[2].getvalue() == b""
        return code, started

    return start


def test_with_an_account(run: Any) -> None:
    code, started = run(WITH_ACCOUNT, robocopy=8)
    assert code == 8
    assert started == [
        ["net", "use", r"\\srv\apps", "p a&|^%x%!", r"/user:LAB\read", "/persistent:no"],
        ROBOCOPY,
        ["net", "use", r"\\srv\apps", "/delete", "/y"],
    ]


def test_without_an_account_nothing_is_connected(run: Any) -> None:
    assert run(Source(r"\\srv\apps\7zip"), robocopy=3) == (3, [ROBOCOPY])


def test_one_file_is_copied_without_the_folders_below(run: Any) -> None:
    code, started = run(Source(r"\\srv\apps\a.msi"), robocopy=1)
    assert code == 1
    assert started[0][1:4] == [r"\\srv\apps", r"C:\_osd\content\x", "a.msi"]
    assert "/E" not in started[0]


def test_a_failed_connection_copies_nothing(run: Any) -> None:
    code, started = run(WITH_ACCOUNT, net=2)
    assert code == CONNECT_FAILED
    assert len(started) == 1
