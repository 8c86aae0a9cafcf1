# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Membership of a domain or workgroup through Win32_ComputerSystem: state, argument values, what the return codes mean.

Flags, methods and return codes: [doc: win32/CIMWin32Prov joindomainorworkgroup, unjoindomainorworkgroup;
NetJoinDomain].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..wsman.schema import Value
from .computer import Cim

#: NetJoinDomain's flags.
JOIN_DOMAIN = 0x1
ACCOUNT_CREATE = 0x2
ACCOUNT_DELETE = 0x4
JOIN_IF_JOINED = 0x20

#: Win32_ComputerSystem.DomainRole of a domain controller: backup and primary.
_CONTROLLER_ROLES = frozenset({4, 5})

#: Return code of the join methods → (what it means, what to do). The numbers are Win32 and NetLib errors.
_CODES: Mapping[int, tuple[str, str]] = {
    5: ("access denied", "Use an account that may join computers to this domain or OU."),
    53: (
        "the network path was not found",
        "Check the computer's DNS server and the firewall towards the domain controllers.",
    ),
    87: ("a parameter is wrong", "Check the domain, OU and account names."),
    110: (
        "a domain controller could not be opened",
        "Check the computer's DNS server and that a domain controller is reachable.",
    ),
    1219: (
        "another connection to the domain controller with other credentials exists",
        "Restart the computer and try again.",
    ),
    1311: ("no domain controller is available", "Check the network and the computer's DNS server."),
    1323: (
        "the computer account's password could not be set",
        "Reset or delete the computer account in the directory.",
    ),
    1326: ("user name or password is wrong", "Check account.user (DOMAIN\\user) and account.password."),
    1355: ("no such domain, or it could not be contacted", "Check the domain's name and the computer's DNS server."),
    1722: (
        "the domain controller does not answer",
        "Check the network; the clocks must not differ by more than five minutes.",
    ),
    1909: ("the account is locked out", "Unlock the account, then try again."),
    2224: (
        "the computer account exists already",
        "Delete the account in the directory or use an account that may reuse it.",
    ),
    2691: ("the computer is a member of a domain already", "Restart the computer, then run the step again."),
    2692: ("the computer is not a member of a domain", "Nothing to leave; run the step again."),
    2695: (
        "the workgroup's name is not valid",
        "Use 1 to 15 characters without blanks at the ends and without / \\ [ ] : ; | = , + * ? < >.",
    ),
    2732: (
        "reuse of the existing computer account was blocked by a security policy",
        "Delete the account in the directory, or use the account that made it (Microsoft KB5020276).",
    ),
    8557: (
        "the account has made as many computer accounts as it may",
        "Use an account with the right to create computer objects.",
    ),
    0x80041087: (
        "credentials were given and the connection is not encrypted",
        "Use HTTPS or sealed NTLM for the built Windows.",
    ),
}

_BAD_WORKGROUP = re.compile(r'["/\\\[\]:;|=,+*?<>]')


@dataclass(frozen=True)
class Membership:
    """Where a computer belongs: ``name`` is the domain's DNS name or the workgroup."""

    computer: str
    in_domain: bool
    name: str
    is_controller: bool = False

    @property
    def describe(self) -> str:
        """Return the membership as the user reads it."""
        return f"{'domain' if self.in_domain else 'workgroup'} {self.name}"


@dataclass(frozen=True)
class Credentials:
    r"""An account of the domain, ``DOMAIN\user`` or ``user@domain``."""

    user: str
    password: str = field(repr=False)


def read_membership(cim: Cim) -> Membership:
    """Read the computer's membership. One request."""
    row = cim.query("SELECT Name,PartOfDomain,Domain,Workgroup,DomainRole FROM Win32_ComputerSystem")[0]
    in_domain = bool(row["PartOfDomain"])
    name = row["Domain"] if in_domain else row["Workgroup"] or row["Domain"]
    return Membership(str(row["Name"] or ""), in_domain, str(name or ""), row["DomainRole"] in _CONTROLLER_ROLES)


def is_member(state: Membership, *, domain: str = "", workgroup: str = "") -> bool:
    """Tell whether the computer is where it is to be.

    A domain without a dot is compared with the first label of the DNS name [knowledge].
    """
    if domain:
        have = state.name.lower()
        want = domain.rstrip(".").lower()
        return state.in_domain and want in (have, have.split(".", 1)[0])
    return not state.in_domain and state.name.lower() == workgroup.lower()


def workgroup_problem(name: str) -> str:
    """Return what is wrong with a workgroup's name, '' where nothing is. NetBIOS names have at most 15 characters."""
    if not 1 <= len(name) <= 15:
        return f"{len(name)} characters; allowed are 1 to 15"
    if _BAD_WORKGROUP.search(name) or name != name.strip():
        return 'characters that are not allowed; leave out " / \\ [ ] : ; | = , + * ? < > and blanks at the ends'
    return ""


def account_ou(text: str) -> str:
    """Return the organizational unit as the method wants it: the editor's ``LDAP://`` in front is taken off."""
    return re.sub(r"^LDAP:/*", "", text.strip(), flags=re.IGNORECASE)


def leave_arguments(credentials: Credentials | None) -> dict[str, Value]:
    """Arguments of UnjoinDomainOrWorkgroup.

    With credentials the account in the directory is disabled, without them it stays.
    """
    if credentials is None:
        return {"FUnjoinOptions": 0}
    return {"FUnjoinOptions": ACCOUNT_DELETE, "Password": credentials.password, "UserName": credentials.user}


def join_workgroup_arguments(name: str) -> dict[str, Value]:
    """Arguments of JoinDomainOrWorkgroup for a workgroup: no options, no credentials."""
    return {"FJoinOptions": 0, "Name": name}


def join_domain_arguments(state: Membership, domain: str, credentials: Credentials, ou: str) -> dict[str, Value]:
    """Arguments of JoinDomainOrWorkgroup for a domain; a member of another one joins with JOIN_IF_JOINED."""
    options = JOIN_DOMAIN | ACCOUNT_CREATE | (JOIN_IF_JOINED if state.in_domain else 0)
    arguments: dict[str, Value] = {
        "FJoinOptions": options,
        "Name": domain,
        "Password": credentials.password,
        "UserName": credentials.user,
    }
    if ou:
        arguments["AccountOU"] = account_ou(ou)
    return arguments


def describe_code(code: int) -> tuple[str, str]:
    """Return meaning and remedy of a return code; the log NetSetup.LOG tells the rest."""
    known = _CODES.get(code & 0xFFFFFFFF)
    if known:
        return known
    return "not a code with a known meaning", r"Read C:\Windows\debug\NetSetup.LOG on the computer."
