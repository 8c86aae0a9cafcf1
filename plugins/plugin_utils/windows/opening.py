# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What opens the built Windows for the run: THE list. Whatever is applied from it is removed, and proven gone, from it.

Windows client starts with WinRM off and without a listener; these values, written into the hives of the applied Windows before its
first boot, let the WinRM service make a listener by policy, admit the control node alone through the firewall, and give the run's
own administrator a full token. Facts: windows-mechanics 5.2, 5.5, 13.1 [doc: policy CSP WinRM; code; knowledge].
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import https_opening
from .https_opening import Https
from .names import FIREWALL_RULE, FIREWALL_RULE_NAME
from .registry import OfflineRegistry, RegistryChanges, RegistryData, RegistryReader, RegistryValue

HTTP_PORT = 5985

WINRM_POLICY = r"SOFTWARE\Policies\Microsoft\Windows\WinRM\Service"
WINRM_SERVICE = r"SYSTEM\CurrentControlSet\Services\WinRM"
SYSTEM_POLICIES = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"
FIREWALL_RULES = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
DEVICE_ENCRYPTION = r"SYSTEM\CurrentControlSet\Control\BitLocker"
OOBE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\OOBE"
STORE_POLICY = r"SOFTWARE\Policies\Microsoft\WindowsStore"
CLOUD_POLICY = r"SOFTWARE\Policies\Microsoft\Windows\CloudContent"


@dataclass(frozen=True)
class Setting:
    """One registry value of the opening and why it is there.

    ``client_only``: not needed and not set on a Windows Server. What was there before is put back when the opening goes; a value that
    was not there is removed.
    """

    value: RegistryValue
    reason: str
    client_only: bool = False


@dataclass(frozen=True)
class Before:
    """What a value was before the opening: data None means that it was not there. Kept by the run as plain data.

    ``makes_key``: the key was not there either.
    """

    key: str
    name: str
    type: str
    data: RegistryData | None
    makes_key: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return it as plain data for ``context.remember``."""
        data = self.data.hex() if isinstance(self.data, bytes) else self.data
        plain = {"key": self.key, "name": self.name, "type": self.type, "data": list(data) if isinstance(data, tuple) else data}
        return {**plain, "makes_key": self.makes_key}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Before:
        """Read what :meth:`as_dict` gave."""
        data = plain.get("data")
        if isinstance(data, list):
            data = tuple(str(part) for part in data)
        if plain.get("type") == "REG_BINARY" and isinstance(data, str):
            data = bytes.fromhex(data)
        if not (data is None or isinstance(data, str | int | bytes | tuple)):
            raise TypeError(f"A registry value cannot be {data!r}")
        return cls(str(plain["key"]), str(plain["name"]), str(plain["type"]), data, plain.get("makes_key") is True)


@dataclass(frozen=True)
class FirewallRule:
    """A rule as the registry holds it: ``v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|RA4=…|Name=…|``.

    ``remote`` are single addresses or ``LocalSubnet``; none admits everybody. Several ports, profiles or addresses repeat the field.
    """

    name: str
    action: str = "Allow"
    active: bool = True
    direction: str = "In"
    protocol: int | None = None
    ports: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    other: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def render(self) -> str:
        """Return the registry's text."""
        fields: list[tuple[str, str]] = [("Action", self.action), ("Active", "TRUE" if self.active else "FALSE")]
        fields.append(("Dir", self.direction))
        if self.protocol is not None:
            fields.append(("Protocol", str(self.protocol)))
        fields += [("Profile", profile) for profile in self.profiles]
        fields += [("LPort", port) for port in self.ports]
        fields += [("RA6" if ":" in address else "RA4", address) for address in self.remote]
        fields += [(key, value) for key, values in self.other.items() for value in values]
        fields.append(("Name", self.name))
        return "v2.31|" + "".join(f"{key}={value}|" for key, value in fields)

    def admits(self, address: str, port: int, profile: str = "Public") -> bool:
        """Tell whether this rule lets a TCP connection in from an address."""
        if not self.active or self.action != "Allow" or self.direction != "In" or self.protocol not in (None, 6):
            return False
        if self.ports and str(port) not in self.ports:
            return False
        if self.profiles and profile.lower() not in {p.lower() for p in self.profiles}:
            return False
        return not self.remote or any(_within(address, pattern) for pattern in self.remote)


def _within(address: str, pattern: str) -> bool:
    if pattern.lower() == "localsubnet":
        return False  # what the local subnet is, only the caller's network knows
    first, dummy, last = pattern.partition("-")
    try:
        wanted = ipaddress.ip_address(address)
        if last:
            low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
            return low.version == wanted.version and int(low) <= int(wanted) <= int(high)
        return wanted in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


def parse_firewall_rule(text: str) -> FirewallRule | None:
    """Read a rule from the registry; None for a text that is no rule (the firewall ignores it)."""
    version, *parts = text.split("|")
    if not version.startswith("v2.") or not parts or parts[-1] != "":
        return None
    fields: dict[str, list[str]] = {}
    for part in parts[:-1]:
        key, separator, value = part.partition("=")
        if not separator:
            return None
        fields.setdefault(key.lower(), []).append(value)

    def first(key: str, default: str = "") -> str:
        return fields.get(key, [default])[0]

    known = {"action", "active", "dir", "protocol", "lport", "ra4", "ra6", "profile", "name"}
    protocol = first("protocol")
    return FirewallRule(
        name=first("name"),
        action=first("action"),
        active=first("active", "TRUE").upper() == "TRUE",
        direction=first("dir"),
        protocol=int(protocol) if protocol.isdigit() else None,
        ports=tuple(fields.get("lport", ())),
        remote=tuple(fields.get("ra4", [])) + tuple(fields.get("ra6", [])),
        profiles=tuple(fields.get("profile", ())),
        other={key: tuple(values) for key, values in fields.items() if key not in known},
    )


def firewall_rule(controller: str, port: int = HTTP_PORT) -> FirewallRule:
    """Return the rule that admits the control node's address and nobody else, on every profile. ValueError for no address."""
    return FirewallRule(name=FIREWALL_RULE_NAME, protocol=6, ports=(str(port),), remote=(str(ipaddress.ip_address(controller)),))


def settings(controller: str, *, https: Https | None = None, server: bool = False) -> tuple[Setting, ...]:
    """Return the list for a control node of that address; a Windows Server needs fewer.

    With ``https`` Windows listens on HTTPS alone: a listener of its own instead of the policy's, which is HTTP.
    """
    port = https.port if https else HTTP_PORT

    def dword(key: str, name: str, number: int, reason: str, *, client_only: bool = False) -> Setting:
        return Setting(RegistryValue(key, name, "REG_DWORD", number), reason, client_only)

    def text(key: str, name: str, value: str, reason: str) -> Setting:
        return Setting(RegistryValue(key, name, "REG_SZ", value), reason)

    listeners: tuple[Setting, ...] = (
        dword(WINRM_POLICY, "AllowAutoConfig", 1, "WinRM makes its listener by policy"),
        text(WINRM_POLICY, "IPv4Filter", "*", "the listener takes every IPv4 address; the firewall narrows it"),
        text(WINRM_POLICY, "IPv6Filter", "*", "the listener takes every IPv6 address; the firewall narrows it"),
    )
    if https:
        listeners = tuple(Setting(value, reason) for value, reason in https_opening.values(https))
    listed = (
        *listeners,
        dword(WINRM_SERVICE, "Start", 2, "the WinRM service starts with Windows"),
        dword(WINRM_SERVICE, "DelayedAutoStart", 0, "and does so at once"),
        dword(SYSTEM_POLICIES, "LocalAccountTokenFilterPolicy", 1, "the run's local account gets a full token"),
        text(FIREWALL_RULES, FIREWALL_RULE, firewall_rule(controller, port).render(), "the control node alone comes in"),
        dword(DEVICE_ENCRYPTION, "PreventDeviceEncryption", 1, "no device encryption: Sysprep and capture refuse it", client_only=True),
        dword(OOBE, "BypassNRO", 1, "first start does not wait for the Internet", client_only=True),
        dword(STORE_POLICY, "AutoDownload", 2, "no app updates for one user, which Sysprep refuses", client_only=True),
        dword(CLOUD_POLICY, "DisableWindowsConsumerFeatures", 1, "no consumer apps, which Sysprep refuses", client_only=True),
    )
    return tuple(setting for setting in listed if not (server and setting.client_only))


#: Key under which the run remembers what was there before: a list of :meth:`Before.as_dict`.
REMEMBERED = "opening_before"
#: Key under which the run remembers the HTTPS opening (:meth:`Https.as_dict`); nothing where Windows is opened over HTTP.
REMEMBERED_HTTPS = "opening_https"


def keys(wanted: Iterable[Setting]) -> tuple[str, ...]:
    """Return the keys that the list lies in, to be read before anything is asked."""
    return tuple(dict.fromkeys(setting.value.key for setting in wanted))


def read_before(registry: RegistryReader, wanted: Iterable[Setting]) -> tuple[Before, ...]:
    """Tell what each value is now."""
    values = [setting.value for setting in wanted]
    return tuple(Before(v.key, v.name, v.type, registry.get(v.key, v.name, v.type), not registry.exists(v.key)) for v in values)


def apply(registry: OfflineRegistry, wanted: Iterable[Setting]) -> tuple[Before, ...]:
    """Set every value; return what was there before, which the run remembers and :func:`undoing` needs. Four requests."""
    listed = tuple(wanted)
    registry.read(keys(listed))
    before = read_before(registry, listed)
    wrong = (setting.value for setting, old in zip(listed, before, strict=True) if old.data != setting.value.data)
    registry.change(RegistryChanges(values=tuple(wrong)))
    return before


def remaining(registry: RegistryReader, wanted: Iterable[Setting], before: Iterable[Before] = ()) -> tuple[Setting, ...]:
    """Return what of the opening is still there; nothing is the proof that the capture asks for.

    Another value than ours is not of the opening; our firewall rule is, whatever it says.
    """
    known = _by_place(before)
    left = []
    for setting in wanted:
        value = setting.value
        found = registry.get(value.key, value.name, value.type)
        ours = found is not None and (found == value.data or value.key == FIREWALL_RULES)
        if ours and found != _old(known, value).data:
            left.append(setting)
    return tuple(left)


def made_keys(registry: RegistryReader, wanted: Iterable[Setting], before: Iterable[Before]) -> list[str]:
    """Return the keys that the opening made and that hold nothing but its own: they go with it."""
    made = {b.key.lower() for b in before if b.makes_key}
    own: dict[str, set[str]] = {}
    for setting in wanted:
        own.setdefault(setting.value.key, set()).add(setting.value.name.lower())
    return [
        key
        for key, names in own.items()
        if key.lower() in made and registry.enum_keys(key) == [] and {name.lower() for name in registry.enum_values(key) or ()} <= names
    ]


def undoing(left: Iterable[Setting], before: Iterable[Before] = ()) -> RegistryChanges:
    """Return what puts the values that remain back as they were; one that was not there, or of which nothing is known, is removed.

    WinRM's start type is never left at automatic without knowledge: Windows' own is 3 (by demand) on clients.
    """
    known = _by_place(before)
    old = [(setting.value, _old(known, setting.value)) for setting in left]
    return RegistryChanges(
        values=tuple(RegistryValue(value.key, value.name, was.type, was.data) for value, was in old if was.data is not None),
        removed_values=tuple((value.key, value.name) for value, was in old if was.data is None),
    )


def _by_place(before: Iterable[Before]) -> dict[tuple[str, str], Before]:
    return {(b.key.lower(), b.name.lower()): b for b in before}


def _old(known: Mapping[tuple[str, str], Before], value: RegistryValue) -> Before:
    return known.get((value.key.lower(), value.name.lower())) or _default(value)


def _default(value: RegistryValue) -> Before:
    """What Windows itself has where nothing is known: a service's start type cannot simply be removed [knowledge]."""
    data = 3 if (value.key, value.name) == (WINRM_SERVICE, "Start") else None
    return Before(value.key, value.name, value.type, data)


def describe_remaining(setting: Setting) -> str:
    """Return a value that is still there in words, with what it does."""
    return f"{describe(setting.value)} ({setting.reason})"


def describe(value: RegistryValue) -> str:
    """Return key and name as the user finds them in the Registry Editor."""
    return f"HKLM\\{value.key}\\{value.name}"


def listens(registry: RegistryReader, controller: str, *, https: Https | None = None) -> list[str]:
    """Return which values are missing for WinRM to answer the control node; empty when all are there."""
    needed = (WINRM_POLICY, WINRM_SERVICE, SYSTEM_POLICIES, FIREWALL_RULES, https_opening.LISTENER)
    return [describe(s.value) for s in settings(controller, https=https) if s.value.key in needed and not registry.holds(s.value)]
