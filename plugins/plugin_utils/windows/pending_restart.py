# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals that Windows waits for a restart or is still servicing itself.

Sources: [code: ansible.windows], [knowledge].
"""

from __future__ import annotations

from dataclasses import dataclass

from .registry import Registry

_SERVICING = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
_UPDATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update"
_SESSION_MANAGER = r"SYSTEM\CurrentControlSet\Control\Session Manager"
_COMPUTER_NAME = r"SYSTEM\CurrentControlSet\Control\ComputerName"
_NETLOGON = r"SYSTEM\CurrentControlSet\Services\Netlogon"

#: ServicingInProgress: 1 waits for a restart, 2 works now.
SERVICING_WAITS = 1
SERVICING_WORKS = 2


@dataclass(frozen=True)
class Servicing:
    """What component servicing does: waits for a restart, or works (then wait, do not restart)."""

    restart_pending: bool
    working: bool


def read_servicing(registry: Registry) -> Servicing:
    """Read what component servicing says. Two requests: its subkeys (volatile ones tell) and ServicingInProgress."""
    keys = {name.lower() for name in registry.enum_keys(_SERVICING) or []}
    state = registry.get_dword(rf"{_SERVICING}\Interface", "ServicingInProgress") or 0
    return Servicing(
        restart_pending="rebootpending" in keys or "packagespending" in keys or state == SERVICING_WAITS,
        working=state == SERVICING_WORKS or "rebootinprogress" in keys,
    )


def join_is_pending(registry: Registry) -> bool:
    """Tell whether a change of the domain waits for a restart. One request."""
    names = {name.lower() for name in registry.enum_values(_NETLOGON) or ()}
    return bool(names & {"joindomain", "avoidspnset"})


def rename_is_pending(registry: Registry) -> bool:
    """Tell whether a new computer name waits for a restart. Two requests."""
    active = registry.get_string(rf"{_COMPUTER_NAME}\ActiveComputerName", "ComputerName")
    wanted = registry.get_string(rf"{_COMPUTER_NAME}\ComputerName", "ComputerName")
    return (active or "").lower() != (wanted or "").lower()


def pending_restart_reasons(registry: Registry) -> list[str]:
    """Return every reason why a restart is pending, as the user reads them. Seven requests.

    File renames are often only rubbish of an uninstaller: report them, do not restart for them more than once.
    """
    reasons = []
    if read_servicing(registry).restart_pending:
        reasons.append("component servicing")
    if registry.exists(rf"{_UPDATE}\RebootRequired"):
        reasons.append("Windows Update")
    if registry.get_multi(_SESSION_MANAGER, "PendingFileRenameOperations"):
        reasons.append("file renames")
    if rename_is_pending(registry):
        reasons.append("a new computer name")
    if join_is_pending(registry):
        reasons.append("a change of the domain")
    return reasons
