# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The black box: what ran, with which end, whoever asked; kept over the agent's restart and within its size."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from agent_fakes import NAME, PASSWORD, Folders
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import recorder as module
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.jobs import JobProvider
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.recorder import Recorder
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import ConnectionProblem, Endpoint, open_endpoint
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe

PATH = r"X:\_osd\recorder.log"


@pytest.fixture
def endpoint(computer):
    return Endpoint(
        host="127.0.0.1", port=computer.port, scheme="https", user="osd", password=PASSWORD, transport="basic",
        certificate=computer.certificate, certificate_name=NAME, step="Apply: Größe & more",
    )  # fmt: skip


@pytest.fixture
def link(endpoint):
    made = open_endpoint(endpoint)
    yield made
    made.close()


@pytest.fixture
def cim(link):
    return link.client(SCHEMA)


@pytest.fixture
def pe(link, cim):
    made = WindowsPe(cim, link.http)
    yield made
    made.close()


def lines(content: bytes):
    found = [json.loads(line) for line in content.splitlines()]
    for line in found:
        assert line.pop("time").endswith("+00:00")
    return found


def recorded(files: Folders):
    return lines(files.host(PATH).read_bytes())


def test_jobs_commands_and_steps_are_handed_over(pe, cim, computer):
    threading.Timer(0.05, lambda: computer.starter.started[0].end(7)).start()
    computer.starter.behave = lambda process: process.stdout.write(b"10 %\r\n99.5 %\r\n")
    job = Job("image-1", ("dism.exe", "/x y"), environment={"PASSWORD": "hidden"}, stdin=b"hidden too")
    assert pe.start_job(job, 20).exit_code == 7
    # Attached to, not started.
    assert pe.start_job(job, 20).exit_code == 7
    with cim.open_shell() as shell:
        assert shell.run("fail.exe")[0] == 3
    content = pe.get_file(PATH)
    assert b"hidden" not in content
    found = lines(content)
    shell = found[-1]["id"]
    assert shell.startswith("shell-")
    assert found == [
        {"event": "agent", "boot_image": "test-1"},
        {"event": "step", "step": "Apply: Größe & more"},
        {"event": "started", "id": "image-1", "job": True, "command": 'dism.exe "/x y"'},
        {"event": "ended", "id": "image-1", "job": True, "exit_code": 7, "percent": 99, "tail": "10 %\r\n99.5 %\r\n"},
        {"event": "started", "id": shell, "job": False, "command": "fail.exe"},
        {"event": "ended", "id": shell, "job": False, "exit_code": 3, "percent": None, "tail": "<fail.exe>warned"},
    ]
    assert computer.service.recorder.last_error == ("image-1", 7)


def test_what_the_controller_does_not_see_is_recorded_too(pe, computer):
    pe.start_job(Job("lost-1", ("dism.exe",)))
    process = computer.starter.started[0]
    for output in (b"11 %", b"12 %", b"25 %"):
        process.stdout.write(b"x" * 3000 + output)
        computer.service.jobs.look()
    assert computer.service.recorder.open_jobs() == {"lost-1": 25}
    process.stdout.write(b"y" * 3000 + b"the last words")
    process.end(0xC0000005)
    while pe.job_status("lost-1", 12_000, 20).exit_code is None:
        pass
    computer.service.jobs.look()
    events = recorded(computer.files)[1:]
    assert [event.get("percent") for event in events if event["event"] == "running"] == [11, 25]
    (end,) = [event for event in events if event["event"] == "ended"]
    assert (end["exit_code"], len(end["tail"]), end["tail"][-14:]) == (0xC0000005, 2000, "the last words")


def test_the_end_is_noticed_with_nobody_there(computer):
    computer.service.jobs.invoke("root/osd", "OSD_Job", "Create", None, {"Id": "alone", "CommandLine": "x.exe"})
    computer.starter.started[0].end(0)
    for dummy in range(100):
        computer.service.jobs.look()
        if recorded(computer.files)[-1]["event"] == "ended":
            break
        threading.Event().wait(0.02)
    assert recorded(computer.files)[-1] == {"event": "ended", "id": "alone", "job": True, "exit_code": 0, "percent": None, "tail": ""}


def test_a_start_that_fails_can_be_tried_again(pe, computer):
    computer.starter.problem = OSError(2, "not found")
    for dummy in range(2):
        with pytest.raises(OSError, match="could not be started"):
            pe.start_job(Job("x", ("none.exe",)))
    assert [(event["event"], event.get("exit_code")) for event in recorded(computer.files)[2:]] == [("started", None), ("ended", 2)] * 2


def test_a_start_that_breaks_off_leaves_nothing_open(computer, monkeypatch):
    recorder = computer.service.recorder
    create = {"Id": "broken", "CommandLine": "x.exe"}
    computer.starter.problem = ValueError("embedded null character")
    with pytest.raises(ValueError, match="null"):
        computer.service.jobs.invoke("root/osd", "OSD_Job", "Create", None, create)
    assert recorder.open_jobs() == {}
    # The job runs, only its first answer does not come: it stays open.
    computer.starter.problem = None
    wait = JobProvider._wait
    monkeypatch.setattr(JobProvider, "_wait", lambda *given: fail())
    with pytest.raises(OSError, match="unreadable"):
        computer.service.jobs.invoke("root/osd", "OSD_Job", "Create", None, create)
    monkeypatch.setattr(JobProvider, "_wait", wait)
    assert recorder.open_jobs() == {"broken": None}
    events = [(event["event"], event.get("exit_code")) for event in recorded(computer.files)[1:]]
    assert events == [("started", None), ("ended", None), ("started", None)]


def fail():
    raise OSError(5, "unreadable")


def test_what_is_no_name_of_a_job_is_not_written_down(pe, computer):
    for name in ("x" * 100_000, "", "a/b"):
        with pytest.raises(OSError, match="could not be started"):
            pe.start_job(Job(name, ("x.exe",)))
    assert [event["event"] for event in recorded(computer.files)] == ["agent", "step"]


def test_a_command_that_is_cut_off_has_no_exit_code(pe, computer):
    session = computer.service.server._shells._provider.open(None)
    session.start("stdin wanted")
    session.close()
    assert recorded(computer.files)[-1] | {"id": ""} == {
        "event": "ended", "id": "", "job": False, "exit_code": None, "percent": None, "tail": "",
    }  # fmt: skip


def test_only_who_is_let_in_names_the_step(pe, endpoint, computer):
    link = open_endpoint(replace(endpoint, password="wrong", step="forged"))
    with pytest.raises(ConnectionProblem, match="does not accept"):
        link.client(SCHEMA).query("SELECT SystemDrive FROM Win32_OperatingSystem")
    link.close()
    assert computer.service.recorder.step == ""
    assert pe.file_info(r"X:\none") is None
    assert computer.service.recorder.step == "Apply: Größe & more"


def test_the_next_agent_goes_on_with_the_file(tmp_path):
    files = Folders(tmp_path)
    first = Recorder(files, r"X:\_osd")
    first.heard_step("Capture")
    first.started("one", "a", job=True)
    first.started("two", "b", job=True)
    first.started("shell-1", "c", job=False)
    first.ended("two", 5, b"")
    # Killed in the middle of a line.
    first._file.write(b'{"event": "sta')
    first.close()
    second = Recorder(files, r"X:\_osd")
    assert (second.step, second.last_error, second.open_jobs()) == ("Capture", ("two", 5), {"one": None})
    second.started("one", "a", job=True)
    second.ended("one", 0, b"")
    second.ended("two", 0, b"")
    events = [line for line in files.host(PATH).read_bytes().splitlines() if line.startswith(b'{"time"')]
    assert [(json.loads(line)["event"], json.loads(line).get("id")) for line in events] == [
        ("step", None), ("started", "one"), ("started", "two"), ("started", "shell-1"), ("ended", "two"), ("ended", "one"),
    ]  # fmt: skip


def test_the_file_has_a_limit_and_a_full_disk_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 4000)
    files = Folders(tmp_path)
    made = Recorder(files, r"X:\_osd")
    for number in range(100):
        made.started(f"job-{number}", "x" * 100, job=True)
        assert files.host(PATH).stat().st_size <= 4000
    kept = recorded(files)
    assert 8 < len(kept) < 40
    assert kept[-1]["id"] == "job-99"
    files.problem = OSError(28, "full")
    made.close()
    made.started("job-100", "x", job=True)
    files.problem = None
    made.ended("job-100", 0, b"")
    assert recorded(files)[-1]["event"] == "ended"
