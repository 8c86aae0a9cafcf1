# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""sysprep.exe: its command line [doc: cp/sysprep-command-line-options]; what it does to Windows is ``lab/sysprep.py``."""

from __future__ import annotations

from . import files
from .grammar import Cancelled
from .interface import ToolCall
from .programs import FULL_OS, register

_FLAGS = frozenset({"generalize", "oobe", "audit", "quiet", "quit", "shutdown", "reboot"})
_BAD_PARAMETER = 87


@register("sysprep", FULL_OS)
def sysprep(call: ToolCall) -> int:
    """``sysprep [/generalize] {/oobe|/audit} [/quiet] {/quit|/shutdown|/reboot} [/unattend:file] [/mode:vm]``.

    Without /quiet a wrong command line, or any error, is a window that waits for a user for ever.
    """
    flags: set[str] = set()
    answer_file = ""
    virtual = wrong = False
    for word in call.argv[1:]:
        name, _, value = word[1:].partition(":")
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
    from .. import sysprep as effects  # the machine's side imports this package

    code = int(effects.run(call, generalize="generalize" in flags, audit="audit" in flags, answer_file=answer_file))
    if code == 0 and ends != {"quit"}:
        call.machine.request_restart("restart" if ends == {"reboot"} else "shutdown")
    return code
