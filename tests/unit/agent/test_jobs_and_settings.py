# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's jobs without a network, and its settings."""

from __future__ import annotations

import base64
import json
import threading
import time

import pytest
from agent_fakes import Folders, Starter, make_certificate
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.jobs import MAX_OUTPUT, JobProvider
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.settings import SettingsError, read_settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

JOBS = r"X:\_osd\jobs"


@pytest.fixture
def starter():
    return Starter()


@pytest.fixture
def files(tmp_path):
    made = Folders(tmp_path)
    made.make_directories("X:\\")
    return made


@pytest.fixture
def jobs(files, starter):
    return JobProvider(files, starter, JOBS)


def call(jobs: JobProvider, method: str, job_id: str = "", **arguments):
    return jobs.invoke("root/osd", "OSD_Job", method, {"Id": job_id} if job_id else None, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"Id": "a"},
        {"Id": "a", "CommandLine": " "},
        {"Id": r"..\a", "CommandLine": "x"},
        {"Id": "a/b", "CommandLine": "x"},
        {"Id": "a", "CommandLine": "x", "Environment": ["A"]},
        {"Id": "a", "CommandLine": "x", "Environment": ["=A"]},
        {"Id": "a", "CommandLine": "x", "Input": "no base64"},
    ],
)
def test_what_cannot_be_a_job(jobs, starter, arguments):
    assert call(jobs, "Create", **arguments)["ReturnValue"] == 87
    assert starter.started == []
    assert list(jobs.instances("root/osd", "OSD_Job")) == []


def test_the_exit_code_is_told_after_the_last_output(jobs, starter):
    assert call(jobs, "Create", Id="big", CommandLine="x")["ReturnValue"] == 0
    output = bytes(range(256)) * (MAX_OUTPUT // 128)
    starter.started[0].stdout.write(output)
    starter.started[0].end(3010)
    deadline = time.monotonic() + 5
    while jobs.get("root/osd", "OSD_Job", {"Id": "BIG"})["ExitCode"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first = call(jobs, "Get", "big", Offset=0, Wait=0)
    assert (first["State"], first["ExitCode"], first["NextOffset"]) == ("Running", None, MAX_OUTPUT)
    second = call(jobs, "Get", "big", Offset=MAX_OUTPUT, Wait=0)
    assert (second["State"], second["ExitCode"], second["NextOffset"]) == ("Finished", 3010, 2 * MAX_OUTPUT)
    assert base64.b64decode(first["Output"]) + base64.b64decode(second["Output"]) == output
    beyond = call(jobs, "Get", "big", Offset=10**12, Wait=0)
    assert (beyond["ExitCode"], beyond["Output"]) == (3010, "")


def test_get_waits_for_news_and_not_longer(jobs, starter):
    call(jobs, "Create", Id="j", CommandLine="x")
    started = time.monotonic()
    assert call(jobs, "Get", "j", Offset=0, Wait=0)["State"] == "Running"
    assert time.monotonic() - started < 0.5
    timer = threading.Timer(0.1, starter.started[0].end, (5,))
    timer.start()
    assert call(jobs, "Get", "j", Offset=0, Wait=20)["ExitCode"] == 5
    assert time.monotonic() - started < 2
    timer.join()


def test_a_full_disk_costs_output_and_not_the_job(jobs, starter, files):
    call(jobs, "Create", Id="j", CommandLine="x")
    files.problem = OSError(28, "full")
    starter.started[0].end(0)
    assert call(jobs, "Get", "j", Offset=0, Wait=5)["ExitCode"] == 0


def test_jobs_that_are_not_there(jobs):
    for method in ("Get", "Stop"):
        with pytest.raises(CimError):
            call(jobs, method, "none")


def test_a_power_cut_ends_all_jobs(jobs, starter):
    call(jobs, "Create", Id="j", CommandLine="x")
    jobs.close()
    assert starter.started[0].terminated_by == 1460


def test_settings(tmp_path):
    with pytest.raises(SettingsError, match=r"agent\.json"):
        read_settings(tmp_path)
    good = {
        "schema": 1, "boot_image": "b", "port": 5986, "user": "osd", "name": "n", "password": {"hash": "secret-hash"},
        "certificate": "certificate.pem", "key": "key.pem",
    }  # fmt: skip
    for wrong in ("{", "[]", json.dumps({**good, "schema": 2}), json.dumps({**good, "port": 0}), json.dumps({"schema": 1})):
        (tmp_path / "agent.json").write_text(wrong)
        with pytest.raises(SettingsError):
            read_settings(tmp_path)
    (tmp_path / "agent.json").write_text(json.dumps(good))
    settings = read_settings(tmp_path)
    assert (settings.boot_image, settings.port, settings.certificate) == ("b", 5986, tmp_path / "certificate.pem")
    assert "secret-hash" not in repr(settings)
    make_certificate(tmp_path)
    settings.tls()
