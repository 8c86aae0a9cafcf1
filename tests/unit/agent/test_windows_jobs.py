# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Windows PE's jobs are started beside one another; the jobs themselves run under Wine (tests/wine/test_jobs.py)."""

from __future__ import annotations

import sys
import threading

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import windows_jobs
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.jobs import CLASS, NAMESPACE
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.windows_jobs import WindowsJobs
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WBEM_E_NOT_FOUND
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

PATIENCE = 10


class Jobs(WindowsJobs):
    """Without Windows: a start is noted, and waits where its id says so."""

    def __init__(self, folder):
        super().__init__(str(folder), [])
        self.asked = []
        self.known = {}
        self.under_way = threading.Event()
        self.go_on = threading.Event()

    def _state(self, job_id):
        if job_id.lower() not in self.known:
            raise CimError(WBEM_E_NOT_FOUND, job_id)
        return self.known[job_id.lower()]

    def _start(self, description):
        self.asked.append(description["id"])
        if description["id"] == "slow":
            self.under_way.set()
            assert self.go_on.wait(PATIENCE)
        self.known[description["id"].lower()] = {"process": len(self.asked)}
        return {"ReturnValue": 0, "ProcessId": len(self.asked)}

    def _wait(self, job_id, offset, wait):
        return {"ReturnValue": 0}

    def create(self, job_id):
        return self.invoke(NAMESPACE, CLASS, "Create", None, {"Id": job_id, "CommandLine": "program.exe"})


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(windows_jobs.WindowsFiles, "make_directories", lambda self, path: None)
    return Jobs(tmp_path)


def test_a_start_that_hangs_holds_up_no_other_job_and_is_made_once(jobs):
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(jobs.create("slow")), daemon=True) for dummy in range(2)]
    for thread in asking:
        thread.start()
    assert jobs.under_way.wait(PATIENCE)
    other = threading.Thread(target=lambda: answers.append(jobs.create("other")), daemon=True)
    other.start()
    other.join(PATIENCE)
    assert [answer["ReturnValue"] for answer in answers] == [0], "the other job waited for the one that hangs"
    jobs.go_on.set()
    for thread in asking:
        thread.join(PATIENCE)
    assert sorted(jobs.asked) == ["other", "slow"]
    assert [answer["ReturnValue"] for answer in answers] == [0, 0, 0]


class Broken:
    """The end of a pipe that nobody reads any more."""

    def write(self, text):
        raise OSError(22, "Invalid argument")


def test_a_job_goes_on_where_the_agent_that_started_it_has_ended(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    windows_jobs._answer({"process": 1})
