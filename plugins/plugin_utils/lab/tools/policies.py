# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""netsh advfirewall and http, icacls, takeown, attrib: what is allowed. netsh ends with 1 for every failure.

A firewall rule is the registry value that Windows keeps it as, so the lab's network reads the same thing that an offline edit writes.
"""

from __future__ import annotations

import re
import uuid

from ...windows.opening import parse_firewall_rule
from ...windows.registry_hive import Value
from .. import certificates
from . import files
from .grammar import complain, say
from .interface import ToolCall
from .programs import FULL_OS, register

_RULES = r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
_PROFILES = r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy"
_BINDINGS = r"HKLM\SYSTEM\CurrentControlSet\Services\HTTP\Parameters\SslBindingInfo"
_PROTOCOLS = {"tcp": "6", "udp": "17", "icmpv4": "1", "any": ""}
_PROFILE_NAMES = {"public": "Public", "private": "Private", "domain": "Domain"}
_RULE_OPTIONS = frozenset(
    [
        "name",
        "dir",
        "action",
        "protocol",
        "localport",
        "remoteport",
        "remoteip",
        "localip",
        "profile",
        "program",
        "enable",
        "description",
        "group",
    ]
)


@register("netsh")
def netsh(call: ToolCall) -> int:
    """``advfirewall firewall {add|delete|show} rule name=…``, ``advfirewall set <profile> state on|off``, ``http {add|delete} sslcert``."""
    words = [word.lower() for word in call.argv[1:]]
    if words[:1] == ["http"] and words[2:3] == ["sslcert"] and words[1] in ("add", "delete"):
        return _ssl_binding(call, words[1], call.argv[4:])
    if words[:2] == ["advfirewall", "firewall"] and words[3:4] == ["rule"]:
        options = _options(call.argv[5:])
        if options is not None and options.get("name"):
            action = {"add": _add_rule, "delete": _delete_rule, "show": _show_rule}.get(words[2])
            if action:
                return action(call, options)
    if len(words) == 5 and words[:2] == ["advfirewall", "set"] and words[3] == "state" and words[4] in ("on", "off"):
        return _set_state(call, words[2], words[4] == "on")
    complain(call, "The syntax supplied for this command is not valid. Check help for the correct syntax.")
    return 1


def _ssl_binding(call: ToolCall, action: str, words: list[str]) -> int:
    """Bind a port to a certificate of the computer's store [doc: win32/Http netsh-http]."""
    pairs = {name.lower(): value for name, dummy, value in (word.partition("=") for word in words)}
    thumbprint, port = pairs.get("certhash", "").upper(), pairs.get("ipport", "")
    wanted = {"ipport", "certhash", "appid"} if action == "add" else {"ipport"}
    if not wanted <= set(pairs) <= {*wanted, "certstorename"} or not re.fullmatch(r"[\d.]+:\d+", port):
        complain(call, "The syntax supplied for this command is not valid. Check help for the correct syntax.")
        return 1
    if not call.session.elevated:
        complain(call, "The requested operation requires elevation (Run as administrator).")
        return 1
    registry = call.machine.registry
    key = rf"{_BINDINGS}\{port}"
    if action == "delete":
        if registry.find(key) is None:
            complain(call, "SSL Certificate deletion failed, Error: 2", "The system cannot find the file specified.")
            return 1
        registry.delete_key(key)
    else:
        if registry.find(key) is not None or certificates.find(registry, thumbprint, pairs.get("certstorename", "MY")) is None:
            code = 183 if registry.find(key) is not None else 1312
            complain(call, f"SSL Certificate add failed, Error: {code}")
            return 1
        registry.set(key, "SslCertHash", Value.binary(bytes.fromhex(thumbprint)))
        registry.set(key, "SslCertStoreName", Value.sz(pairs.get("certstorename", "MY")))
        registry.set(key, "AppId", Value.binary(uuid.UUID(pairs["appid"]).bytes_le))
    say(call, f"SSL Certificate successfully {action}ed", "")
    return 0


def _options(words: list[str]) -> dict[str, str] | None:
    pairs = [word.partition("=") for word in words]
    if any(not equal or name.lower() not in _RULE_OPTIONS for name, equal, dummy in pairs):
        return None
    return {name.lower(): value for name, dummy, value in pairs}


def _add_rule(call: ToolCall, options: dict[str, str]) -> int:
    direction = options.get("dir", "").lower()
    action = options.get("action", "").lower()
    protocol = options.get("protocol", "any").lower()
    if direction not in ("in", "out") or action not in ("allow", "block") or (protocol not in _PROTOCOLS and not protocol.isdigit()):
        complain(call, "A specified value is not valid.")
        return 1
    if ("localport" in options or "remoteport" in options) and protocol not in ("tcp", "udp"):
        complain(call, "Port can only be specified when the protocol is TCP or UDP.")
        return 1
    if not call.session.elevated:
        complain(call, "The requested operation requires elevation (Run as administrator).")
        return 1
    parts = [
        "v2.31",
        f"Action={action.capitalize()}",
        f"Active={'FALSE' if options.get('enable', 'yes').lower() == 'no' else 'TRUE'}",
        f"Dir={direction.capitalize()}",
    ]
    number = _PROTOCOLS.get(protocol, protocol)
    parts += [f"Protocol={number}"] if number else []
    for profile in options.get("profile", "any").lower().split(","):
        if profile == "any":
            continue
        if profile not in _PROFILE_NAMES:
            complain(call, "A specified value is not valid.")
            return 1
        parts.append(f"Profile={_PROFILE_NAMES[profile]}")
    parts += [f"LPort={port}" for port in options.get("localport", "").split(",") if port and port.lower() != "any"]
    parts += [f"RPort={port}" for port in options.get("remoteport", "").split(",") if port and port.lower() != "any"]
    for address in options.get("remoteip", "any").split(","):
        if address.lower() not in ("any", ""):
            parts.append(f"{'RA6' if ':' in address else 'RA4'}={'LocalSubnet' if address.lower() == 'localsubnet' else address}")
    parts += [f"App={options['program']}"] if "program" in options else []
    parts.append(f"Name={options['name']}")
    call.machine.registry.set(_RULES, f"{{{uuid.uuid4()}}}".upper(), Value.sz("|".join(parts) + "|"))
    say(call, "Ok.", "")
    return 0


def _named(call: ToolCall, name: str) -> list[str]:
    key = call.machine.registry.find(_RULES)
    found = []
    for value_name, value in key.values.items() if key else ():
        rule = parse_firewall_rule(value.text or "")
        match = re.search(r"\|Name=([^|]*)", value.text or "")
        if rule is not None and match and (name.lower() == "all" or match[1].lower() == name.lower()):
            found.append(value_name)
    return found


def _delete_rule(call: ToolCall, options: dict[str, str]) -> int:
    if not call.session.elevated:
        return 1
    found = _named(call, options["name"])
    if not found:
        say(call, "No rules match the specified criteria.", "")
        return 1
    for value_name in found:
        call.machine.registry.delete_value(_RULES, value_name)
    say(call, "", f"Deleted {len(found)} rule(s).", "Ok.", "")
    return 0


def _show_rule(call: ToolCall, options: dict[str, str]) -> int:
    found = _named(call, options["name"])
    say(call, *(f"Rule Name: {options['name']} ({name})" for name in found), *([] if found else ["No rules match the specified criteria."]))
    return 0 if found else 1


def _set_state(call: ToolCall, profile: str, on: bool) -> int:
    names = {"publicprofile": ["PublicProfile"], "privateprofile": ["StandardProfile"], "domainprofile": ["DomainProfile"]}
    chosen = ["PublicProfile", "StandardProfile", "DomainProfile"] if profile in ("allprofiles", "currentprofile") else names.get(profile)
    if chosen is None:
        return 1
    for name in chosen:
        call.machine.registry.set(rf"{_PROFILES}\{name}", "EnableFirewall", Value.dword(int(on)))
    say(call, "Ok.", "")
    return 0


_GRANT = re.compile(r"(\*?S-1-[\d-]+|[^:]+)(:(\([A-Z,]+\))*(\([A-Z,]+\)|[FMXRWDN]+))?", re.IGNORECASE)


@register("icacls")
def icacls(call: ToolCall) -> int:
    """``icacls path [/grant[:r] sid:perm …] [/inheritance:e|d|r] [/remove …] [/setowner sid] [/reset] [/t]``: checked, not kept."""
    words = call.argv[1:]
    if not words:
        return 87
    path = files.resolve(call, words[0])
    at = 1
    while at < len(words):
        word = words[at].lower()
        at += 1
        if word in ("/t", "/c", "/q", "/l", "/reset") or re.fullmatch(r"/inheritance:[edr]", word):
            continue
        if re.fullmatch(r"/(grant|deny)(:r)?|/remove(:[gd])?|/setowner", word) and at < len(words) and not words[at].startswith("/"):
            while at < len(words) and not words[at].startswith("/"):
                if not _GRANT.fullmatch(words[at]):
                    complain(call, f'Invalid parameter "{words[at]}"')
                    return 87
                at += 1
            continue
        complain(call, f'Invalid parameter "{word}"')
        return 87
    if "*" not in path and not call.files.exists(path):
        complain(call, f"{path}: The system cannot find the file specified.")
        return 2
    say(call, "Successfully processed 1 files; Failed processing 0 files")
    return 0


@register("takeown", FULL_OS)
def takeown(call: ToolCall) -> int:
    """``takeown /f path [/a] [/r] [/d y|n]``: checked, not kept."""
    words = [word.lower() for word in call.argv[1:]]
    path = ""
    while words:
        word = words.pop(0)
        if word == "/f" and words:
            path = words.pop(0)
        elif word == "/d" and words and words[0] in ("y", "n"):
            words.pop(0)
        elif word not in ("/a", "/r", "/skipsl"):
            complain(call, f"ERROR: Invalid argument/option - '{word}'.")
            return 1
    if not path or not call.files.exists(files.resolve(call, path)):
        complain(call, "ERROR: The system cannot find the file specified.")
        return 1
    say(call, "SUCCESS: The file (or folder) is now owned by the administrators group.")
    return 0


@register("attrib")
def attrib(call: ToolCall) -> int:
    """``attrib [+r|-r] [+h|-h] [+s|-s] [+a|-a] path [/s] [/d]``."""
    changes: dict[str, bool] = {}
    path = ""
    for word in call.argv[1:]:
        match = re.fullmatch(r"([+-])([rhsaix])", word, re.IGNORECASE)
        if match:
            changes[match[2].lower()] = match[1] == "+"
        elif word.lower() not in ("/s", "/d", "/l"):
            if path or word.startswith("/"):
                complain(call, f"Parameter format not correct - {word}")
                return 1
            path = files.resolve(call, word)
    if not path or not call.files.exists(path):
        say(call, f"File not found - {path}")
        return 0  # the real one ends with 0 as well [knowledge]
    if changes:
        call.files.set_attributes(path, read_only=changes.get("r"), hidden=changes.get("h"), system=changes.get("s"))
    else:
        marks = call.files.attributes(path)
        letters = "".join(name[0].upper() if name in marks else " " for name in ("system", "hidden", "read_only"))
        say(call, f"     {letters}       {path}")
    return 0


@register("gpupdate", FULL_OS)
def gpupdate(call: ToolCall) -> int:
    """``gpupdate [/force] [/target:computer|user] [/wait:n]``."""
    if any(not re.fullmatch(r"/(force|target:(computer|user)|wait:-?\d+|sync|boot|logoff)", word.lower()) for word in call.argv[1:]):
        return 1
    say(call, "Computer Policy update has completed successfully.")
    return 0
