# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""sysprep.exe: its command line [doc: cp/sysprep-command-line-options]; what it does to Windows is ``lab/sysprep.py``.

The lab generalizes to OOBE only: without /generalize, or with /audit, it ends with 50 (lab rule).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from . import files
from .grammar import Cancelled
from .interface import ToolCall
from .programs import FULL_OS, register

if TYPE_CHECKING:
    from ..machine import LabMachine

_FLAGS = frozenset({"generalize", "oobe", "audit", "quiet", "quit", "shutdown", "reboot"})
_BAD_PARAMETER, _NOT_SUPPORTED = 87, 50


@register("sysprep", FULL_OS)
def sysprep(call: ToolCall) -> int:
    """``sysprep [/generalize] {/oobe|/audit} [/quiet] {/quit|/shutdown|/reboot} [/unattend:file] [/mode:vm]``.

    Without /quiet a wrong command line, or any error, is a window that waits for a user for ever.
    """
    flags: set[str] = set()
    answer_file = ""
    virtual = wrong = False
    for word in call.argv[1:]:
        name, dummy, value = word[1:].partition(":")
        if word[:1] in "/-" and name.lower() in _FLAGS and not value:
            flags.add(name.lower())
        elif word[:1] in "/-" and name.lower() == "unattend" and value:
            answer_file = files.resolve(call, value)
        elif word[:1] in "/-" and name.lower() == "mode" and value.lower() == "vm":
            virtual = True
        else:
            wrong = True
    ends = flags & {"quit", "shutdown", "reboot"}
    wrong = wrong or {"oobe", "audit"} <= flags or len(ends) > 1 or (bool(answer_file) and not call.files.is_file(answer_file))
    wrong = wrong or not flags & {"oobe", "audit"} or (virtual and "generalize" not in flags)
    if "quiet" not in flags:
        call.machine.console("sysprep shows a window and waits for a user")
        call.cancelled.wait()
        raise Cancelled
    if wrong:
        return _BAD_PARAMETER
    if not call.session.elevated:
        return 5
    if "generalize" not in flags or "audit" in flags:
        return _NOT_SUPPORTED
    from .. import sysprep as effects  # the machine's side imports this package

    try:
        effects.generalize(cast("LabMachine", call.machine), answer_file)
    except effects.SysprepRefused as refused:
        return refused.code
    if ends != {"quit"}:
        call.machine.request_restart("restart" if ends == {"reboot"} else "shutdown")
    return 0
