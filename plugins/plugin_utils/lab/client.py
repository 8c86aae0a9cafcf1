# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting and stopping a lab's process from Ansible or a test, and asking what its computers do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .prepare import LabProblem
from .service import RUN_FILE

#: States in which a computer is where it stays until somebody does something.
SETTLED = frozenset({"off", "windows_pe", "windows"})
_ON_THE_WAY = frozenset({"firmware", "windows_pe_starts", "windows_setup"})


def status(directory: Path) -> dict[str, Any]:
    """Return ``{pid, computers}`` of a running lab, {} where none runs in that folder."""
    try:
        found = json.loads((directory / RUN_FILE).read_text("utf-8"))
        pid = int(found["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return {}
    return found if _is_lab(pid) else {}


def _is_lab(pid: int) -> bool:
    """Tell whether that process is a lab's: a number of an ended one may belong to somebody else by now."""
    try:
        return b"plugin_utils.lab" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def start(directory: Path, *, timeout: float = 60.0) -> bool:
    """Start the lab's process and wait until its computers are where they stay; tell whether it had to be started."""
    if status(directory):
        return False
    (directory / RUN_FILE).unlink(missing_ok=True)
    package = __name__.rpartition(".")[0]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (_import_root(), os.environ.get("PYTHONPATH", "")) if p)}
    with (directory / "lab.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", package, str(directory.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        if process.poll() is not None:
            tail = (directory / "lab.log").read_text("utf-8", "replace")[-2000:]
            raise LabProblem(f"The lab's process ended with {process.returncode}; {directory}/lab.log says: {tail}")
        computers = status(directory).get("computers")
        if computers is not None and not any(c["state"] in _ON_THE_WAY for c in computers.values()):
            return True
        time.sleep(0.1)
    raise LabProblem(f"The lab's computers did not start within {timeout:.0f} s; see console.log of each in {directory}/computers.")


def _import_root() -> str:
    """Return the folder from which this very package is imported: it may be a symlinked collection."""
    return str(Path(__file__).absolute().parents[len(__name__.split(".")) - 1])


def stop(directory: Path, *, timeout: float = 20.0) -> bool:
    """Stop the lab's process by its id; tell whether one ran."""
    found = status(directory)
    if not found:
        return False
    pid = int(found["pid"])
    os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    raise LabProblem(f"The lab's process {pid} did not end within {timeout:.0f} s.")


def command(directory: Path, computer: str, what: str) -> None:
    """Ask the running lab for ``power_on``, ``power_off`` or ``pull_plug`` of one computer."""
    folder = directory / "commands"
    folder.mkdir(exist_ok=True)
    (folder / f"{computer}.{what}").touch()


def wait_for(directory: Path, computer: str, states: Iterable[str], *, timeout: float = 60.0) -> str:
    """Wait until a computer of the running lab is in one of the states and return it. LabProblem when the time is over."""
    wanted = set(states)
    limit = time.monotonic() + timeout
    state = ""
    while time.monotonic() < limit:
        state = str(status(directory).get("computers", {}).get(computer, {}).get("state", ""))
        if state in wanted:
            return state
        time.sleep(0.05)
    raise LabProblem(f"{computer} is in the state {state!r} after {timeout:.0f} s, not in {sorted(wanted)}.")
