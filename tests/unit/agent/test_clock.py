# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer whose clock is wrong, and is set while it works: nothing that the agent waits for, or keeps, goes by it."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

import pytest
from agent_fakes import NAME, PASSWORD
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import jobs, recorder
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import Endpoint, open_endpoint
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe

#: At every look another time: an empty battery, and a year in which every certificate has run out.
YEARS = itertools.cycle((datetime(1980, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)))


class Jumping(datetime):
    """The class of times, with a clock that jumps."""

    @classmethod
    def now(cls, tz=None):
        return next(YEARS)


@pytest.fixture
def pe(computer, monkeypatch):
    for module in (jobs, recorder):
        monkeypatch.setattr(module, "datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: next(YEARS).timestamp())
    link = open_endpoint(
        Endpoint(
            host="127.0.0.1", port=computer.port, scheme="https", user="osd", password=PASSWORD, transport="basic",
            certificate=computer.certificate, certificate_name=NAME,
        )
    )  # fmt: skip
    made = WindowsPe(link.client(SCHEMA), link.http)
    yield made
    made.close()
    link.close()


def test_a_query_goes_on_with_its_next_page(pe):
    for number in range(10):
        pe.start_job(Job(f"job-{number}", ("program.exe", "x" * 30_000)))
    before = pe.requests
    assert len(pe.cim.query("SELECT * FROM OSD_Job", "root/osd")) == 10
    assert pe.requests > before + 1, "all came in one page: nothing was kept between two"


def test_a_job_is_waited_for_as_long_as_asked_and_no_longer(pe, computer):
    pe.start_job(Job("job", ("program.exe",)))
    started = time.monotonic()
    assert pe.job_status("job", 0, 1).exit_code is None
    assert 0.9 < time.monotonic() - started < 5
    (process,) = computer.starter.started
    process.stdout.write(b"done")
    process.end(7)
    status = pe.job_status("job", 0, 20)
    assert (status.exit_code, status.output) == (7, b"done")


def test_a_jobs_time_limit_holds(pe, computer):
    pe.start_job(Job("job", ("program.exe",), time_limit=1))
    started = time.monotonic()
    assert pe.job_status("job", 0, 20).exit_code == jobs.STOPPED_CODE
    assert 0.5 < time.monotonic() - started < 5
    assert computer.starter.started[0].terminated_by == jobs.STOPPED_CODE
