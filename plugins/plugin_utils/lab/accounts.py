# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Local accounts, kept in the SAM hive.

The places are Windows' own (``SAM\SAM\Domains\Account\Users\<RID>`` and ``…\Names\<name>``, whose default value's type is the RID);
what is in them is a lab rule: plain values ``Enabled``, ``FullName``, ``Groups`` and ``NtHash`` instead of the encrypted F and V.
"""

from __future__ import annotations

import secrets

from ..nt_hash import nt_hash
from ..windows.registry_hive import REG_NONE, Value
from .registry import LabRegistry
from .tools.interface import Account, Win32Problem

_DOMAIN = r"HKLM\SAM\SAM\Domains\Account"
_USERS = rf"{_DOMAIN}\Users"
_NAMES = rf"{_USERS}\Names"
GROUPS = ("Administrators", "Users", "Guests", "Remote Management Users", "Remote Desktop Users")
_NO_USER = "The user name could not be found."
_NO_GROUP = "The group name could not be found."


def find_group(name: str) -> str:
    """Return a group's name as Windows writes it; 2220 where there is none. SIDs of the built-in groups are taken too."""
    sids = {"S-1-5-32-544": "Administrators", "S-1-5-32-545": "Users", "S-1-5-32-546": "Guests"}
    wanted = sids.get(name.upper().lstrip("*"), name)
    found = next((group for group in GROUPS if group.lower() == wanted.lower()), None)
    if found is None:
        raise Win32Problem(2220, _NO_GROUP)
    return found


def new_machine_sid() -> str:
    """Return a new machine SID."""
    return "S-1-5-21-" + "-".join(str(secrets.randbits(32)) for dummy in range(3))


class LabAccounts:
    """The accounts of the running Windows."""

    def __init__(self, registry: LabRegistry) -> None:
        """Take the live registry."""
        self._registry = registry

    @property
    def machine_sid(self) -> str:
        """The machine's SID, '' in a generalized image."""
        return self._registry.get_string(_DOMAIN, "MachineSid") or ""

    def set_machine_sid(self, sid: str) -> None:
        """Set it."""
        self._registry.set(_DOMAIN, "MachineSid", Value.sz(sid))

    def list(self) -> list[Account]:
        """Return all accounts in the order of their RIDs."""
        names = self._registry.find(_NAMES)
        found = [self._read(name, key.values[""].type) for name, key in names.subkeys.items() if "" in key.values] if names else []
        return sorted(found, key=lambda account: account.rid)

    def _read(self, name: str, rid: int) -> Account:
        path = rf"{_USERS}\{rid:08X}"
        groups = self._registry.get(path, "Groups")
        hashed = self._registry.get(path, "NtHash")
        return Account(
            name=name,
            rid=rid,
            sid=f"{self.machine_sid}-{rid}",
            enabled=self._registry.get_dword(path, "Enabled") == 1,
            full_name=self._registry.get_string(path, "FullName") or "",
            groups=frozenset(groups.strings or ()) if groups else frozenset(),
            nt_hash=hashed.data if hashed else b"",
        )

    def find(self, name: str) -> Account | None:
        r"""Return the account of that name in any case; ``.\\name`` and ``COMPUTER\\name`` are taken by the last part."""
        plain = name.rpartition("\\")[2].lower()
        return next((account for account in self.list() if account.name.lower() == plain), None)

    def _need(self, name: str) -> Account:
        account = self.find(name)
        if account is None:
            raise Win32Problem(2221, _NO_USER)
        return account

    def create(self, name: str, password: str, *, full_name: str = "", rid: int | None = None) -> Account:
        """Create an enabled account in the group Users."""
        if self.find(name) is not None:
            raise Win32Problem(2224, "The account already exists.")
        if not name or len(name) > 20 or any(c in '"/\\[]:;|=,+*?<>@' for c in name):
            raise Win32Problem(2202, "The user name or group name parameter is invalid.")
        number = rid or max([1000, *(account.rid for account in self.list())]) + 1
        with self._registry.batch():
            self._registry.set(rf"{_NAMES}\{name}", "", Value(number if number else REG_NONE, b""))
            path = rf"{_USERS}\{number:08X}"
            self._registry.set(path, "Enabled", Value.dword(1))
            self._registry.set(path, "FullName", Value.sz(full_name))
            self._registry.set(path, "NtHash", Value.binary(nt_hash(password)))
            self._registry.set(path, "Groups", Value.multi_sz(["Users"]))
        return self._need(name)

    def delete(self, name: str) -> None:
        """Delete an account; the built-in ones (RID below 1000) stay, with 1371."""
        account = self._need(name)
        if account.rid < 1000:
            raise Win32Problem(1371, "Cannot perform this operation on built-in accounts.")
        with self._registry.batch():
            self._registry.delete_key(rf"{_NAMES}\{account.name}")
            self._registry.delete_key(rf"{_USERS}\{account.rid:08X}")

    def _set(self, name: str, value_name: str, value: Value) -> None:
        self._registry.set(rf"{_USERS}\{self._need(name).rid:08X}", value_name, value)

    def set_password(self, name: str, password: str) -> None:
        """Set a password."""
        self._set(name, "NtHash", Value.binary(nt_hash(password)))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Enable or disable."""
        self._set(name, "Enabled", Value.dword(int(enabled)))

    def add_to_group(self, name: str, group: str) -> None:
        """Add to a group."""
        known, account = find_group(group), self._need(name)
        if known in account.groups:
            raise Win32Problem(1378, "The specified account name is already a member of the group.")
        self._set(name, "Groups", Value.multi_sz(sorted({*account.groups, known})))

    def remove_from_group(self, name: str, group: str) -> None:
        """Remove from a group."""
        known, account = find_group(group), self._need(name)
        if known not in account.groups:
            raise Win32Problem(1377, "The specified account name is not a member of the group.")
        self._set(name, "Groups", Value.multi_sz(sorted(account.groups - {known})))

    def rename(self, name: str, new: str) -> None:
        """Rename an account; RID and all else stay."""
        account = self._need(name)
        with self._registry.batch():
            self._registry.delete_key(rf"{_NAMES}\{account.name}")
            self._registry.set(rf"{_NAMES}\{new}", "", Value(account.rid, b""))
