# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""net.exe: connections, services, accounts; ipconfig and ping. net ends with 2 for every failure [knowledge: windows-mechanics 14.4]."""

from __future__ import annotations

import re

from ...windows.computer import Environment
from . import files
from .grammar import complain, say
from .interface import ToolCall, Win32Problem
from .programs import register

_FAILED, _USAGE = 2, 1
_TEXTS = {
    1056: (2182, "The requested service has already been started."),
    1060: (2185, "The service name is invalid."),
    1062: (3521, "The service is not started."),
}


class _UsageError(Exception):
    """net prints its syntax and ends with 1."""


@register("net")
def net(call: ToolCall) -> int:
    """Run one net command."""
    words = call.argv[1:]
    commands = {"use": _use, "start": _start, "stop": _stop, "user": _user, "localgroup": _localgroup}
    command = commands.get(words[0].lower()) if words else None
    try:
        if command is None:
            raise _UsageError
        command(call, words[1:])
    except _UsageError:
        complain(call, "The syntax of this command is:", "", "NET", "    [ ACCOUNTS | COMPUTER | … | USE | USER | VIEW ]")
        return _USAGE
    except Win32Problem as problem:
        number, text = _TEXTS.get(problem.code, (problem.code, ""))
        if number > 2100:
            complain(call, text or files.describe(problem), "", f"More help is available by typing NET HELPMSG {number}.", "")
        else:
            complain(call, f"System error {number} has occurred.", "", files.describe(problem), "")
        return _FAILED
    return 0


def _done(call: ToolCall) -> None:
    say(call, "The command completed successfully.", "")


def _use(call: ToolCall, words: list[str]) -> None:
    plain = [word for word in words if not word.startswith("/")]
    switches = [word for word in words if word.startswith("/")]
    user = password = ""
    delete = False
    for switch in switches:
        name, dummy, value = switch.partition(":")
        if name.lower() in ("/user", "/u") and value:
            user = value
        elif name.lower() in ("/delete", "/del", "/d") and not value:
            delete = True
        elif name.lower() in ("/persistent", "/p") and value.lower() in ("yes", "no") or switch.lower() in ("/y", "/n", "/yes", "/no"):
            continue
        else:
            raise _UsageError
    if delete:
        _disconnect(call, plain)
        return
    if not plain:
        for name, connection in call.session.connections.items():
            say(call, f"OK           {connection.letter or '':9} {connection.unc}" if connection.unc else name)
        _done(call)
        return
    letter = ""
    if re.fullmatch(r"[A-Za-z]:|\*", plain[0]):
        letter = plain.pop(0).upper()
        if letter == "*":
            letter = _free_letter(call)
    if not plain or not re.fullmatch(r"\\\\[^\\]+\\[^\\]+\\?", plain[0]):
        raise Win32Problem(67)
    unc = plain[0].rstrip("\\")
    if len(plain) > 2:
        raise _UsageError
    if len(plain) == 2:
        password = plain[1]
        if password == "*":
            password = call.stdin.readline().decode("utf-8", "replace").rstrip("\r\n")
    call.machine.network.connect(call.session, unc, user=user, password=password, letter=letter)
    _done(call)


def _free_letter(call: ToolCall) -> str:
    used = set(call.machine.disks.letters()) | {name[0].upper() for name in call.session.connections if name[1:2] == ":"}
    return next(letter + ":" for letter in "ZYWVUTSRQPONMLKJIHGFED" if letter not in used)


def _disconnect(call: ToolCall, names: list[str]) -> None:
    if len(names) != 1:
        raise _UsageError
    found = list(call.session.connections) if names[0] == "*" else [names[0].rstrip("\\")]
    for name in found:
        call.machine.network.disconnect(call.session, name)
    _done(call)


def _start(call: ToolCall, words: list[str]) -> None:
    if not words:
        for service in call.machine.services.list():
            if service.state == "Running":
                say(call, f"   {service.display_name}")
        _done(call)
        return
    if len(words) != 1:
        raise _UsageError
    call.machine.services.start(_service(call, words[0]))
    say(call, f"The {words[0]} service was started successfully.", "")


def _stop(call: ToolCall, words: list[str]) -> None:
    names = [word for word in words if word.lower() not in ("/y", "/yes")]
    if len(names) != 1:
        raise _UsageError
    call.machine.services.stop(_service(call, names[0]))
    say(call, f"The {names[0]} service was stopped successfully.", "")


def _service(call: ToolCall, name: str) -> str:
    """Find a service by its name or display name, as net does."""
    for service in call.machine.services.list():
        if name.lower() in (service.name.lower(), service.display_name.lower()):
            return service.name
    raise Win32Problem(1060)


def _needs_accounts(call: ToolCall) -> None:
    if call.machine.environment is Environment.WINDOWS_PE:
        raise Win32Problem(1722, "The RPC server is unavailable.")
    if not call.session.elevated:
        raise Win32Problem(5)


def _user(call: ToolCall, words: list[str]) -> None:
    _needs_accounts(call)
    accounts = call.machine.accounts
    plain = [word for word in words if not word.startswith("/")]
    switches = [word.lower() for word in words if word.startswith("/")]
    full_name = next((word.partition(":")[2] for word in words if word.lower().startswith("/fullname:")), "")
    known = ("/add", "/delete", "/del", "/active:yes", "/active:no", "/expires:never", "/passwordchg:no", "/passwordchg:yes", "/y")
    if len(plain) > 2 or any(switch not in known and not switch.startswith(("/fullname:", "/comment:")) for switch in switches):
        raise _UsageError
    if not plain:
        say(call, *(account.name for account in accounts.list()))
        _done(call)
        return
    password = plain[1] if len(plain) == 2 else ""
    if password == "*":
        password = call.stdin.readline().decode("utf-8", "replace").rstrip("\r\n")
    name = plain[0]
    if "/add" in switches:
        accounts.create(name, password, full_name=full_name)
    elif "/delete" in switches or "/del" in switches:
        accounts.delete(name)
    else:
        if accounts.find(name) is None:
            raise Win32Problem(2221, "The user name could not be found.")
        if len(plain) == 2:
            accounts.set_password(name, password)
    for state in ("/active:yes", "/active:no"):
        if state in switches:
            accounts.set_enabled(name, state.endswith("yes"))
    _done(call)


def _localgroup(call: ToolCall, words: list[str]) -> None:
    _needs_accounts(call)
    accounts = call.machine.accounts
    plain = [word for word in words if not word.startswith("/")]
    switches = {word.lower() for word in words if word.startswith("/")}
    if switches - {"/add", "/delete", "/del"} or len(switches) > 1 or not plain:
        raise _UsageError
    group, members = plain[0], plain[1:]
    if switches and not members:
        raise Win32Problem(5, "The lab has no local groups of one's own (lab rule).")
    for member in members:
        if not switches:
            raise _UsageError
        if "/add" in switches:
            accounts.add_to_group(member, group)
        else:
            accounts.remove_from_group(member, group)
    if not members:
        say(call, f"Alias name     {group}", *(a.name for a in accounts.list() if group.lower() in {g.lower() for g in a.groups}))
    _done(call)


@register("ipconfig")
def ipconfig(call: ToolCall) -> int:
    """``ipconfig [/all | /renew | /release | /flushdns | /registerdns]``; it says little: addresses are read through CIM."""
    words = [word.lower() for word in call.argv[1:]]
    if words and (len(words) > 1 or words[0] not in ("/all", "/renew", "/release", "/flushdns", "/registerdns")):
        complain(call, f"Error: unrecognized or incomplete command line: {words[0]}")
        return 1
    say(call, "", "Windows IP Configuration", "", f"   Host Name . . . . . . . . . . . . : {call.machine.name}")
    return 0


@register("ping")
def ping(call: ToolCall) -> int:
    """``ping [-n count] [-w milliseconds] [-4] host``: also what batch files wait with."""
    words = call.argv[1:]
    count, host = 4, ""
    while words:
        word = words.pop(0)
        if word.lower() in ("-n", "/n", "-w", "/w", "-l", "/l") and words and words[0].isdigit():
            value = int(words.pop(0))
            count = value if word[1:].lower() == "n" else count
        elif word.lower() in ("-4", "/4"):
            continue
        elif not word.startswith(("-", "/")) and not host:
            host = word
        else:
            complain(call, f"Bad option {word}.")
            return 1
    if not host:
        return 1
    call.machine.wait(max(count - 1, 0), call.cancelled)
    if not call.machine.network.ping(host):
        say(call, f"Ping request could not find host {host}. Please check the name and try again.")
        return 1
    say(call, f"Reply from {host}: bytes=32 time<1ms TTL=128")
    return 0
