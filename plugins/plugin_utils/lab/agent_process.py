# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The agent of a lab computer's Windows PE: the zip application out of its boot image, as a process of its own.

It is started as in Windows PE, ``python -I agent.zip``, without site-packages on top of that: standard library and zip are all it has. The
machine model is attached over a socket.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agent import attached
from ..agent.jobs import ProcessStarter
from ..agent.network_drives import NetworkConnections
from ..wsman.client import Identity
from ..wsman.server import CimProvider, ShellProvider

_START_SECONDS = 30.0


class AgentProblem(Exception):
    """The agent does not start; the message is what it said."""


@dataclass
class Computer:
    """What the agent finds at the other end: the providers of the computer and how it is to behave."""

    cim: CimProvider
    shells: ShellProvider
    files: Any
    starter: ProcessStarter
    network: NetworkConnections
    host: str
    identity: Identity
    failure_delay: float

    def __post_init__(self) -> None:
        self._said = threading.Event()
        self._problem = ""

    def hello(self, problem: str) -> None:
        """Take the agent's word that it can start, or why not."""
        self._problem = problem
        self._said.set()

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for that word. Raises AgentProblem."""
        for dummy in range(int(_START_SECONDS / 0.05)):
            if self._said.wait(0.05):
                break
            if process.poll() is not None:
                said = process.stderr.read().decode("utf-8", "replace") if process.stderr is not None else ""
                last = said.strip().splitlines()[-1:] or ["nothing"]
                raise AgentProblem(f"it ended with exit code {process.returncode} and said: {last[0][:500]}")
        else:
            raise AgentProblem(f"it said nothing for {_START_SECONDS:.0f} seconds")
        if self._problem:
            raise AgentProblem(self._problem)


class AgentProcess:
    """A running agent; made in front of a computer, not yet listening."""

    def __init__(self, folder: Path, computer: Computer) -> None:
        """Start ``agent.zip`` of a folder with ``agent.json``. Raises AgentProblem, OSError."""
        ours, theirs = socket.socketpair()
        interpreter = getattr(sys, "_base_executable", "") or sys.executable
        command = [interpreter, "-I", "-S", str(folder / "agent.zip"), "attached", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder
            )
        self._peer = attached.Peer(ours, computer)
        self._agent = self._peer.root(*attached.AGENT)
        self._peer.start()
        self.port = 0
        try:
            computer.wait(self._process)
        except BaseException:
            self.stop()
            raise

    def start(self, *, ready: bool = True) -> None:
        """Listen; with ``ready`` False connections are taken and get no answer yet. Raises OSError."""
        self.port = self._agent.start(ready)

    def answer(self) -> None:
        """Answer what came and comes."""
        # The plug may be pulled in this very moment.
        with contextlib.suppress(OSError):
            self._agent.answer()

    def stop(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.wait()
        self._peer.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
