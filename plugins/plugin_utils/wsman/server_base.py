# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both halves of the server share: limits, refused requests, the size of answers."""

from __future__ import annotations

from dataclasses import dataclass

from . import envelope, faults
from .envelope import Header
from .faults import FaultShape


@dataclass(frozen=True)
class Limits:
    """Windows' default limits (``winrm get winrm/config``). Sizes count as Windows does: two bytes a character.

    Times in seconds. ``None`` as ``max_shells_per_user`` would be no limit; Windows always has one.
    """

    max_envelope: int = 500 * 1024
    max_timeout: float = 60.0
    max_batch_items: int = 32000
    enumeration_timeout: float = 240.0
    max_operations_per_user: int = 1500
    max_shells_per_user: int = 30
    max_processes_per_shell: int = 25
    idle_timeout: float = 7200.0


class RefusedRequest(Exception):
    """Leaves an operation with a fault to answer."""

    def __init__(self, shape: FaultShape) -> None:
        super().__init__(shape.reason)
        self.shape = shape


def answer(action: str, header: Header, body: str, limits: Limits) -> bytes:
    """Return the answer's envelope; what is larger than the client or the server allows is refused."""
    built = envelope.build_answer(f"{action}Response", header.message_id, body)
    if len(built.decode()) > room(header, limits):
        raise RefusedRequest(
            FaultShape(
                "The response that the WS-Management service computed exceeds the maximum envelope size in the request.",
                faults.ANSWER_TOO_LARGE,
                "w:EncodingLimit",
            )
        )
    return built


def timeout(header: Header, limits: Limits) -> float:
    """Return the seconds an answer may take. A longer or missing OperationTimeout counts as MaxTimeoutms (MS-WSMV)."""
    wanted = header.operation_timeout
    return limits.max_timeout if wanted is None else min(wanted, limits.max_timeout)


def room(header: Header, limits: Limits) -> int:
    """Return the characters that an answer may have: Windows counts sizes as UTF-16."""
    wanted = header.max_envelope or 153600
    return min(wanted, limits.max_envelope) // 2
