# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thread for all calls, replaced when one hangs."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import call_thread
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.call_thread import WBEM_E_TIMED_OUT, CallThread
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.providers import WmiError


class Session:
    def __init__(self):
        self.thread = threading.get_ident()
        self.given_up = lambda: False


def make(patience=0.05, limit=5.0):
    return CallThread(Session, lambda work, session: work(session), patience=patience, limit=limit)


def test_calls_of_many_threads_run_in_one():
    calls = make(patience=5)
    seen, busy = set(), threading.Lock()

    def work(session):
        assert busy.acquire(blocking=False), "two at once"
        time.sleep(0.001)
        busy.release()
        seen.add((session.thread, threading.get_ident()))
        return 7

    results = []
    threads = [threading.Thread(target=lambda: results.append(calls.call(work, "x"))) for dummy in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 20
    assert len(seen) == 1 and len(set(next(iter(seen)))) == 1


def test_errors_go_to_the_caller_and_the_thread_lives_on():
    calls = make()
    with pytest.raises(WmiError) as caught:
        calls.call(lambda session: (dummy for dummy in ()).throw(WmiError(0x80041017, "bad")), "x")
    assert caught.value.code == 0x80041017
    with pytest.raises(WmiError, match="ZeroDivisionError"):
        calls.call(lambda session: 1 // 0, "x")
    assert calls.call(lambda session: 1, "x") == 1


def test_a_call_that_hangs_keeps_nobody_waiting_and_may_still_end():
    calls, gate = make(), threading.Event()
    slow = []
    threads = [threading.Thread(target=lambda: slow.append(calls.call(lambda session: gate.wait(5), "slow"))) for dummy in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.01)
    started = time.monotonic()
    # Three hang one after the other in the queue: each is replaced in its turn, whichever queue it waited in.
    assert calls.call(lambda session: "quick", "quick") == "quick"
    assert time.monotonic() - started < 2
    gate.set()
    for thread in threads:
        thread.join()
    assert slow == [True] * 3


def test_a_call_that_outlives_its_limit_is_given_up(monkeypatch):
    monkeypatch.setattr(call_thread, "MAX_HANGING", 1)
    calls, gate, told = make(limit=0.2), threading.Event(), []

    def work(session):
        gate.wait(5)
        told.append(session.given_up())

    with pytest.raises(WmiError) as caught:
        calls.call(work, "SELECT slow")
    assert caught.value.code == WBEM_E_TIMED_OUT
    assert "SELECT slow" in str(caught.value)
    with pytest.raises(WmiError, match="hang"):
        calls.call(lambda session: 1, "next")
    gate.set()
    limit = time.monotonic() + 2
    while not told and time.monotonic() < limit:
        time.sleep(0.01)
    assert told == [True]
    time.sleep(0.05)
    assert calls.call(lambda session: 1, "next") == 1
