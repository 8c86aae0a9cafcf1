# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The full Windows backend's own command lines, wrapper and queries on a lab computer."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.cim_provider import LabCim
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.winrs import WinrsProvider
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.full_os import FullOs
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Identity, Server


@pytest.fixture
def computer(windows):
    session = Session("osd-run", elevated=True, network_logon=True)
    provider = WinrsProvider(windows.machine, lambda user: session)
    server = Server(SCHEMA, LabCim(windows.machine), shells=provider, identity=Identity("v", "p", "w"))
    made = FullOs(Client(lambda body: server.handle(body, user="osd-run"), SCHEMA))
    yield made
    made.close()


def test_files(computer):
    content = bytes(range(256)) * 40
    path = r"C:\_osd\some folder\a & b (1).bin"
    computer.put_file(path, content)
    assert computer.get_file(path) == content
    assert computer.file_info(path).size == len(content)
    assert computer.file_hash(path) == hashlib.sha256(content).hexdigest()
    computer.put_file(path, b"new")
    assert computer.get_file(path.upper()) == b"new"
    assert computer.file_info(path + ".osdtmp") is None
    with pytest.raises(FileNotFoundError):
        computer.get_file(r"C:\none")


def finish(computer, job: Job):
    computer.start_job(job)
    output, offset = b"", 0
    for dummy in range(20):
        status = computer.job_status(job.id, offset, 5)
        output, offset = output + status.output, status.offset
        if status.exit_code is not None:
            return status.exit_code, output
    pytest.fail("the job does not end")


def test_jobs(computer):
    cmd = r"C:\Windows\System32\cmd.exe"
    assert finish(computer, Job("plain", (cmd, "/d", "/c", "exit", "3010"))) == (3010, b"")
    secret = Job("secret", (cmd, "/d", "/c", "set", "WORD"), environment={"WORD": "50% & more"})
    assert finish(computer, secret) == (0, b"WORD=50% & more\r\n")
    assert computer.file_info(r"C:\_osd\jobs\secret\env.cmd") is None
    given = Job("input", (r"C:\Windows\System32\find.exe", "/c", "line"), stdin=b"line 1\r\nline 2\r\n", directory=r"C:\Windows")
    assert finish(computer, given) == (0, b"2\r\n")
    assert computer.file_info(r"C:\_osd\jobs\input\stdin.bin") is None


def test_a_batch_file_and_a_missing_program(computer):
    computer.put_file(r"C:\_osd\a b.cmd", b"@echo off\r\necho %~1\r\nexit /b 7\r\n")
    assert finish(computer, Job("batch", (r"C:\_osd\a b.cmd", "x y"))) == (7, b"x y\r\n")
    code, dummy = finish(computer, Job("none", (r"C:\none.exe",)))
    assert code == 9009
