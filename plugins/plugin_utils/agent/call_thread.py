# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A thread that works off calls one after the other, and a fresh one beside it when a call keeps it too long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from .providers import WmiError

WBEM_E_TIMED_OUT = 0x80043001
#: Threads that may hang at the same time; more is a service that answers nothing any more.
MAX_HANGING = 16
_Result = TypeVar("_Result")


class Session(Protocol):
    """What a thread keeps between calls. ``given_up`` tells a long call that nobody waits for it any more."""

    given_up: Callable[[], bool]


_Session = TypeVar("_Session", bound=Session)


class _Call(Generic[_Session]):
    def __init__(self, work: Callable[[_Session], Any]) -> None:
        self.work = work
        self.started = threading.Event()
        self.ended = threading.Event()
        self.result: Any = None
        self.error: WmiError | None = None
        self.given_up = False
        #: The queue of the thread that took it; it may have waited in another before.
        self.taken_from: queue.SimpleQueue[_Call[_Session]] | None = None


class CallThread(Generic[_Session]):
    """Calls in one thread.

    Args:
        begin: makes the session, in the thread.
        run: does a call's work with the session; raises WmiError.
        patience: seconds after which a call no longer keeps others waiting.
        limit: seconds after which a call is given up with WBEM_E_TIMED_OUT.
    """

    def __init__(
        self,
        begin: Callable[[], _Session],
        run: Callable[[Callable[[_Session], Any], _Session], Any],
        *,
        patience: float,
        limit: float,
    ) -> None:
        self._begin = begin
        self._run = run
        self._patience = patience
        self._limit = limit
        self._lock = threading.Lock()
        self._hanging = 0
        self._queue: queue.SimpleQueue[_Call[_Session]] = queue.SimpleQueue()
        self._start(self._queue)

    def _start(self, calls: queue.SimpleQueue[_Call[_Session]]) -> None:
        threading.Thread(target=self._main, args=(calls,), daemon=True, name="calls").start()

    def call(self, work: Callable[[_Session], _Result], what: str) -> _Result:
        """Do the work in the thread and return its result. WmiError of the work, or for a time limit; ``what`` names it there."""
        call: _Call[_Session] = _Call(work)
        with self._lock:
            if self._hanging >= MAX_HANGING:
                raise WmiError(WBEM_E_TIMED_OUT, f"{self._hanging} calls of WMI hang, so {what} was not tried")
            self._queue.put(call)
        deadline = time.monotonic() + self._limit
        call.started.wait(self._limit)
        if call.started.is_set() and not call.ended.wait(min(self._patience, max(0.0, deadline - time.monotonic()))):
            self._replace(call.taken_from)
            call.ended.wait(max(0.0, deadline - time.monotonic()))
        if not call.ended.is_set():
            call.given_up = True
            raise WmiError(WBEM_E_TIMED_OUT, f"WMI did not answer {what} in {self._limit:g} seconds")
        if call.error is not None:
            raise call.error
        result: _Result = call.result
        return result

    def _replace(self, calls: queue.SimpleQueue[_Call[_Session]] | None) -> None:
        """Leave the thread of these calls to the one it works on, and go on with a new one."""
        with self._lock:
            if calls is None or self._queue is not calls:
                return
            self._hanging += 1
            self._queue = queue.SimpleQueue()
            while True:
                try:
                    self._queue.put(calls.get_nowait())
                except queue.Empty:
                    break
            self._start(self._queue)

    def _main(self, calls: queue.SimpleQueue[_Call[_Session]]) -> None:
        session = self._begin()
        while True:
            call = calls.get()
            call.taken_from = calls
            call.started.set()
            if not call.given_up:
                session.given_up = lambda: call.given_up  # noqa: B023  # one call at a time
                try:
                    call.result = self._run(call.work, session)
                except WmiError as error:
                    call.error = error.with_traceback(None)
                except Exception as error:  # the caller gets an answer, the thread lives on
                    call.error = WmiError(0x80004005, f"{type(error).__name__}: {error}")
            call.ended.set()
            with self._lock:
                if self._queue is not calls:
                    # Replaced while it hung; what its session still holds goes with it.
                    self._hanging -= 1
                    return
