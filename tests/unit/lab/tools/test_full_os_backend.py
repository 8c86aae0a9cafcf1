# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The full Windows backend's own command lines, wrapper and queries on a lab computer."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.cim_provider import LabCim
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session, Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.winrs import WinrsProvider
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import full_os
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import ComputerLost, Job, JobStatus
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


def test_what_changed_among_files(computer, windows):
    computer.put_file(r"C:\_osd\logs\one (1).log", b"1" * 10)
    computer.put_file(r"C:\_osd\logs\two.log", b"2" * 20)
    computer.put_file(r"C:\_osd\logs\none.txt", b"3")
    computer.put_file(r"C:\Windows\a (b)\x.log", b"4" * 2000)
    computer.put_file(r"C:\Windows\empty.log", b"")
    places = [r"C:\Windows\a (b)\x.log", r"C:\Windows\empty.log", r"C:\no\such.log", r"C:\_osd\logs\*.log", r"C:\no\*.log"]
    before = computer.requests
    found = computer.fetch_changed(places, {r"c:\_osd\LOGS\two.log": 20, r"C:\Windows\a (b)\x.log": 1}, 100)
    assert not windows.files.names(r"C:\Windows\Temp")
    assert found == {r"C:\Windows\a (b)\x.log": (2000, b"4" * 100), r"C:\_osd\logs\one (1).log": (10, b"1" * 10)}
    # the command, its output
    assert computer.requests == before + 2
    assert computer.fetch_changed([r"C:\no\such.log"], {}, 100) == {}
    known = {rf"C:\_osd\logs\a name that is rather long, number {number}.log": 1 for number in range(200)}
    assert set(computer.fetch_changed([r"C:\_osd\logs\*.log"], known, 100)) == {r"C:\_osd\logs\one (1).log", r"C:\_osd\logs\two.log"}


def test_a_large_file_is_not_fetched_from_the_running_windows(computer, windows):
    windows.files.write(r"C:\large.log", b"x" * 1048577)
    windows.files.write(r"C:\right.log", b"y" * 1048576)
    found = computer.fetch_changed([r"C:\large.log", r"C:\right.log"], {}, 5)
    assert found == {r"C:\right.log": (1048576, b"yyyyy")}
    with pytest.raises(ValueError, match="larger than"):
        computer.get_file(r"C:\large.log")


class Line:
    """A connection that breaks once: at request ``at``, on the way there or (``answered``) on the way back."""

    def __init__(self, server: Server, at: int, answered: bool) -> None:
        self.server, self.at, self.answered, self.sent = server, at, answered, 0

    def send(self, body: bytes) -> tuple[int, bytes]:
        self.sent += 1
        if self.sent == self.at and not self.answered:
            raise ComputerLost("gone before it arrived")
        answer = self.server.handle(body, user="osd-run")
        if self.sent == self.at:
            raise ComputerLost("gone before the answer came")
        return answer


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_job_whose_start_was_lost_anywhere_runs_once(windows, at, answered):
    session = Session("osd-run", elevated=True, network_logon=True)
    provider = WinrsProvider(windows.machine, lambda user: session)
    server = Server(SCHEMA, LabCim(windows.machine), shells=provider, identity=Identity("v", "p", "w"))
    script = b"@echo off\r\necho run>>C:\\count.txt\r\necho %WORD%\r\nping -n 4 127.0.0.1 >nul\r\nexit /b 7\r\n"
    cmd = r"C:\Windows\System32\cmd.exe"
    job = Job("once", (cmd, "/d", "/c", r".\x.cmd"), files={"x.cmd": script}, environment={"WORD": "secret"})
    line = Line(server, at, answered)
    broken = FullOs(Client(line.send, SCHEMA))
    with pytest.raises(ComputerLost):
        broken.start_job(job, 5)
    again = FullOs(Client(lambda body: server.handle(body, user="osd-run"), SCHEMA))
    assert finish(again, job) == (7, b"secret\r\n")
    assert windows.files.read(r"C:\count.txt") == b"run\r\n"
    left = windows.files.names(r"C:\_osd\jobs\once")
    assert "env.cmd" not in left
    # and once more, when it is over
    assert again.start_job(job).exit_code == 7
    assert windows.files.read(r"C:\count.txt") == b"run\r\n"
    assert "env.cmd" not in windows.files.names(r"C:\_osd\jobs\once")


def test_a_start_that_was_broken_off_halfway_does_not_block_its_own_repeat(windows):
    """The first tar.exe goes on waiting for the rest of its archive, with a file open that it shares with nobody."""
    session = Session("osd-run", elevated=True, network_logon=True)
    provider = WinrsProvider(windows.machine, lambda user: session)
    server = Server(SCHEMA, LabCim(windows.machine), shells=provider, identity=Identity("v", "p", "w"))
    content = bytes(range(256)) * 3600
    find = (r"C:\Windows\System32\find.exe", "/c", "line")
    job = Job("halfway", find, stdin=b"line\r\n" + content, environment={"WORD": "secret"})
    sent = []

    def send(body: bytes) -> tuple[int, bytes]:
        # a shell, the command, the first of three pieces
        sent.append(body)
        if len(sent) > 3:
            raise ComputerLost("gone for good")
        return server.handle(body, user="osd-run")

    broken = FullOs(Client(send, SCHEMA))
    with pytest.raises(ComputerLost):
        broken.start_job(job, 5)
    for dummy in range(500):
        # The archive's small files are held, too, while they are written.
        if [host.name for host in windows.machine.disks.held] == ["stdin.bin"]:
            break
        windows.machine.wait(10)
    else:
        raise AssertionError([host.name for host in windows.machine.disks.held])
    again = FullOs(Client(lambda body: server.handle(body, user="osd-run"), SCHEMA))
    assert finish(again, job) == (0, b"1\r\n")
    assert not list(windows.machine.windows_root.rglob("env.cmd"))


def test_a_job_that_is_stopped_leaves_1460(computer):
    computer.start_job(Job("long", (r"C:\Windows\System32\ping.exe", "-n", "600", "127.0.0.1")))
    assert computer.job_status("long", 0, 1).exit_code is None
    computer.stop_job("long")
    assert computer.job_status("long").exit_code == 1460
    computer.stop_job("long")
    computer.stop_job("none")
    with pytest.raises(KeyError):
        computer.job_status("none")


def test_secrets_go_with_a_job_that_is_ended_from_outside(computer, windows):
    """Its wrapper deletes nothing then: whoever finds that it is over does."""
    ping = (r"C:\Windows\System32\ping.exe", "-n", "6000", "127.0.0.1")
    computer.start_job(Job("stopped", ping, stdin=b"secret"))
    assert "stdin.bin" in windows.files.names(r"C:\_osd\jobs\stopped")
    # what a start that was repeated in between lays down again
    windows.files.write(r"C:\_osd\jobs\stopped\env.cmd", b"set WORD=secret")
    computer.stop_job("stopped")
    assert {"stdin.bin", "env.cmd"}.isdisjoint(windows.files.names(r"C:\_osd\jobs\stopped"))
    # and one that the task scheduler ends at its time limit, with all it started
    ping = (r"C:\Windows\System32\ping.exe", "-n", "60000", "127.0.0.1")
    status, polls = computer.start_job(Job("limited", ping, stdin=b"secret", time_limit=1)), 0
    while status.exit_code is None and polls < 200:
        status, polls = computer.job_status("limited", 0, 50), polls + 1
    assert status.exit_code == 1460
    assert "stdin.bin" not in windows.files.names(r"C:\_osd\jobs\limited")
    assert all(process.ended.wait(5) for process in windows.machine.processes.list())


def test_secrets_do_not_stay_where_a_job_cannot_be_started(computer, windows, monkeypatch):
    def refuse(*given, **named):
        raise Win32Problem(5)

    monkeypatch.setattr(windows.machine.scheduled_tasks, "register", refuse)
    ping = (r"C:\Windows\System32\ping.exe", "-n", "1", "127.0.0.1")
    with pytest.raises(OSError, match="The job refused could not be started in Windows: code 1: ERROR: Access is denied"):
        computer.start_job(Job("refused", ping, stdin=b"secret", environment={"WORD": "secret"}))
    assert {"stdin.bin", "env.cmd"}.isdisjoint(windows.files.names(r"C:\_osd\jobs\refused"))


def test_nothing_runs_without_its_variables(computer, windows, monkeypatch):
    run = windows.machine.scheduled_tasks.run

    def late(folder, name):
        windows.files.delete(rf"C:\_osd\jobs\{name}\env.cmd")
        run(folder, name)

    monkeypatch.setattr(windows.machine.scheduled_tasks, "run", late)
    monkeypatch.setattr(full_os, "_TASK_INTERVAL", 0.0)
    echo = (r"C:\Windows\System32\cmd.exe", "/d", "/c", "echo ran>C:\\ran.txt")
    assert finish(computer, Job("without", echo, environment={"WORD": "secret"})) == (1067, b"")
    assert computer.file_info(r"C:\ran.txt") is None


def test_what_a_running_job_wrote_so_far(computer):
    script = b"@echo off\r\necho 10 %%\r\nping -n 6000 127.0.0.1 >nul\r\necho 100 %%\r\n"
    cmd = r"C:\Windows\System32\cmd.exe"
    job = Job("long", (cmd, "/d", "/c", r".\x.cmd"), files={"x.cmd": script})
    assert computer.start_job(job, 20) == JobStatus(None, b"10 %\r\n", 6)
    assert computer.job_status("long", 6, 1) == JobStatus(None, b"", 6)
    computer.stop_job("long")
    assert computer.job_status("long") == JobStatus(1460, b"10 %\r\n", 6)


def test_a_shell_is_exchanged_before_it_holds_too_many_ended_commands(computer):
    before = computer.requests
    for dummy in range(30):
        assert computer.run([r"C:\Windows\System32\cmd.exe", "/d", "/c", "exit", "5"]).exit_code == 5
    # two a command, and three shells: open, close, open, close, open
    assert computer.requests == before + 30 * 2 + 5
    computer.leave()
    before = computer.requests
    computer.close()
    assert computer.requests == before
