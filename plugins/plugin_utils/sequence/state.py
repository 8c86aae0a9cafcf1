# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The run's state on the computer itself: ``\_osd\state.json`` on the Windows volume, ``X:\_osd`` before there is one.

It says whose the computer is (the lease) and how far the run is (the counter); the control node's journal is checked against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..steps.base import StepFailure
from ..windows.computer import Computer
from ..windows.names import STATE_FILE

SCHEMA = 1
#: How long a controller that died keeps its computer. The polls of a job renew it.
LEASE = timedelta(hours=1)


@dataclass(frozen=True)
class MachineState:
    """What the file holds. ``expires`` is UTC."""

    run: str
    holder: str
    expires: datetime
    counter: int = 0
    step: str = ""
    remembered: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> bytes:
        """Return the file."""
        document = {
            "schema": SCHEMA,
            "run": self.run,
            "counter": self.counter,
            "step": self.step,
            "lease": {"holder": self.holder, "expires": self.expires.isoformat(timespec="seconds")},
            "remembered": dict(self.remembered),
        }
        return json.dumps(document, indent=1, default=str).encode()


def parse_state(content: bytes) -> MachineState | None:
    """Read the file; None for one that is none (cut short by a power failure)."""
    try:
        document = json.loads(content)
        lease = document["lease"]
        return MachineState(
            str(document["run"]),
            str(lease["holder"]),
            datetime.fromisoformat(lease["expires"]),
            int(document["counter"]),
            str(document.get("step", "")),
            document.get("remembered") or {},
        )
    except (ValueError, KeyError, TypeError):
        return None


def read_state(computer: Computer, drive: str) -> MachineState | None:
    """Return the state on the volume ``drive`` (``C:``), None where there is none."""
    try:
        return parse_state(computer.get_file(rf"{drive}\{STATE_FILE}"))
    except FileNotFoundError:
        return None


def write_state(computer: Computer, drive: str, state: MachineState) -> None:
    """Write the state."""
    computer.put_file(rf"{drive}\{STATE_FILE}", state.render())


def check_lease(state: MachineState | None, holder: str, run: str, now: datetime | None = None) -> None:
    """Refuse a computer that another controller holds, and a run that another controller began, also when its time is over.

    StepFailure names holder and expiry.
    """
    now = now or datetime.now(UTC)
    if state is None or state.holder == holder:
        return
    whose = f"the run '{state.run}' of {state.holder.split('/')[0]}"
    if state.expires > now:
        raise StepFailure(
            f"The computer is held by {whose} until {state.expires:%Y-%m-%d %H:%M} UTC.",
            remedy="Wait for its end. A run that was broken off gives the computer up when its time is over.",
        )
    if state.run == run:
        raise StepFailure(
            f"The computer was held by {whose} until {state.expires:%Y-%m-%d %H:%M} UTC, and its journal is not in this osd_state_dir. "
            "A run cannot be taken over.",
            remedy="Go on where it was begun, or start another osd_run.",
        )


def check_reverted(state: MachineState | None, run: str, counter: int) -> None:
    """Refuse a computer that is behind the journal. ``counter`` is what the run wrote to its disk last, 0 for nothing that counts."""
    found = state.counter if state and state.run == run else None
    if not counter or (found is not None and found >= counter):
        return
    what = "it does not know the run" if found is None else f"it knows {found} of the steps that changed it"
    raise StepFailure(
        f"The computer is behind the run '{run}': {what}, the journal has {counter}. "
        "It was put back to an earlier state, or its disk was replaced.",
        remedy="Start another osd_run.",
    )


def lease_end(now: datetime | None = None) -> datetime:
    """Return when a lease that is taken now ends."""
    return (now or datetime.now(UTC)) + LEASE
