# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The black box under Wine: what ran is in the file, also what ended while there was no agent."""

from __future__ import annotations

import json
import time

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe
from wine_agent import python, run

PATH = r"C:\_osd\recorder.log"


def recorded(computer, name):
    lines = [json.loads(line) for line in computer.get_file(PATH).splitlines()]
    return [line for line in lines if line.get("id") == name]


def test_what_ran_is_recorded(computer, cim):
    assert run(computer, python("recorded", "print('50 %'); raise SystemExit(9)"))[0] == 9
    start, end = (line for line in recorded(computer, "recorded") if line["event"] != "running")
    assert start["command"].endswith("-c \"print('50 %'); raise SystemExit(9)\"")
    assert (end["exit_code"], end["percent"], end["tail"]) == (9, 50, "50 %\r\n")
    with cim.open_shell() as shell:
        assert shell.run("echo to the shell & exit 4")[0] == 4
    last = json.loads(computer.get_file(PATH).splitlines()[-1])
    assert (last["event"], last["job"], last["exit_code"]) == ("ended", False, 4)
    assert last["tail"].strip() == "to the shell"


def test_the_end_without_an_agent_is_recorded_by_the_next_one(agent, computer):
    computer.start_job(python("alone", "import time; time.sleep(1); print('done alone'); raise SystemExit(5)"))
    agent.kill()
    time.sleep(3)
    agent.start()
    link = agent.connect()
    again = WindowsPe(link.client(SCHEMA), link.http)
    limit = time.monotonic() + 20
    while (events := [line["event"] for line in recorded(again, "alone")])[-1] != "ended" and time.monotonic() < limit:
        time.sleep(0.2)
    end = recorded(again, "alone")[-1]
    assert (events, end["exit_code"], end["tail"]) == (["started", "ended"], 5, "done alone\r\n")
    again.close()
    link.close()
