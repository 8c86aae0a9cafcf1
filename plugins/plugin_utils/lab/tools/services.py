# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""sc, tasklist, taskkill: services and processes [doc: wsd/sc-query, wsd/sc-config, wsd/taskkill]. sc ends with the Win32 error."""

from __future__ import annotations

import fnmatch

from ...windows.registry_hive import Value
from . import files
from .grammar import UsageError, complain, say, spaced_options
from .interface import Process, ToolCall, Win32Problem
from .programs import FULL_OS, register

_STARTS = {"auto": 2, "demand": 3, "disabled": 4, "boot": 0, "system": 1, "delayed-auto": 2}
_STATES = {"Stopped": (1, "STOPPED"), "Running": (4, "RUNNING"), "Start Pending": (2, "START_PENDING"), "Stop Pending": (3, "STOP_PENDING")}
_SC_USAGE = 1639


@register("sc", FULL_OS)
def sc(call: ToolCall) -> int:
    """``sc {query|queryex|qc|start|stop|delete|config|create|description} name [option= value …]``."""
    words = call.argv[1:]
    verb = words[0].lower() if words else ""
    try:
        if verb in ("query", "queryex"):
            return _query(call, words[1:])
        if verb in ("qc", "start", "stop", "delete") and len(words) == 2:
            return _simple(call, verb, words[1])
        if verb in ("config", "create") and len(words) > 1:
            return _configure(call, verb, words[1], words[2:])
        if verb == "description" and len(words) == 3:
            return _describe(call, words[1], words[2])
        if verb == "failure" and len(words) > 2:
            _find(call, words[1])
            say(call, "[SC] ChangeServiceConfig2 SUCCESS")
            return 0
    except Win32Problem as problem:
        say(call, f"[SC] {verb} FAILED {problem.code}:", "", files.describe(problem))
        return problem.code
    say(
        call,
        "DESCRIPTION:",
        "        SC is a command line program used for communicating with the",
        "        Service Control Manager and services.",
    )
    return _SC_USAGE


def _find(call: ToolCall, name: str) -> str:
    service = call.machine.services.find(name)
    if service is None:
        raise Win32Problem(1060, "The specified service does not exist as an installed service.")
    return service.name


def _query(call: ToolCall, words: list[str]) -> int:
    if len(words) > 1:
        return _SC_USAGE
    if words:
        _find(call, words[0])
    for service in call.machine.services.list():
        if words and service.name.lower() != words[0].lower():
            continue
        number, text = _STATES.get(service.state, (1, service.state.upper()))
        say(
            call,
            "",
            f"SERVICE_NAME: {service.name}",
            "        TYPE               : 10  WIN32_OWN_PROCESS",
            f"        STATE              : {number}  {text}",
        )
    return 0


def _simple(call: ToolCall, verb: str, name: str) -> int:
    services = call.machine.services
    found = _find(call, name)
    if verb != "qc" and not call.session.elevated:
        raise Win32Problem(5)
    if verb == "start":
        services.start(found)
    elif verb == "stop":
        services.stop(found)
    elif verb == "delete":
        services.delete(found)
    else:
        service = services.find(found)
        say(
            call,
            "[SC] QueryServiceConfig SUCCESS",
            "",
            f"SERVICE_NAME: {found}",
            f"        START_TYPE         : {service.start if service else 3}",
        )
        return 0
    say(call, f"[SC] {verb} SUCCESS")
    return 0


def _pairs(words: list[str]) -> dict[str, str] | None:
    """Read ``option= value`` pairs: the equals sign belongs to the name, a blank must follow."""
    if len(words) % 2 or any(not name.endswith("=") for name in words[::2]):
        return None
    return {name[:-1].lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _configure(call: ToolCall, verb: str, name: str, words: list[str]) -> int:
    pairs = _pairs(words)
    if pairs is None or set(pairs) - {"start", "binpath", "displayname", "obj", "type", "error", "depend", "password", "group", "tag"}:
        return _SC_USAGE
    start = pairs.get("start", "demand").lower()
    if start not in _STARTS:
        return _SC_USAGE
    if not call.session.elevated:
        raise Win32Problem(5)
    services = call.machine.services
    if verb == "create":
        if "binpath" not in pairs:
            return _SC_USAGE
        if services.find(name) is not None:
            raise Win32Problem(1073, "The specified service already exists.")
        account = pairs.get("obj", "LocalSystem")
        services.create(name, display_name=pairs.get("displayname", name), path=pairs["binpath"], start=_STARTS[start], account=account)
    else:
        found = _find(call, name)
        key = rf"HKLM\SYSTEM\CurrentControlSet\Services\{found}"
        if "start" in pairs:
            services.set_start(found, _STARTS[start])
            call.machine.registry.set(key, "DelayedAutoStart", Value.dword(int(start == "delayed-auto")))
        for option, value_name in (("displayname", "DisplayName"), ("binpath", "ImagePath"), ("obj", "ObjectName")):
            if option in pairs:
                call.machine.registry.set(key, value_name, Value.sz(pairs[option]))
    say(call, "[SC] ChangeServiceConfig SUCCESS")
    return 0


def _describe(call: ToolCall, name: str, text: str) -> int:
    found = _find(call, name)
    call.machine.registry.set(rf"HKLM\SYSTEM\CurrentControlSet\Services\{found}", "Description", Value.sz(text))
    return 0


@register("tasklist", FULL_OS)
def tasklist(call: ToolCall) -> int:
    """``tasklist [/fo table|csv|list] [/nh] [/fi "IMAGENAME eq x"]``."""
    try:
        options = spaced_options(call.argv[1:], ("nh", "v", "svc"), ("fo", "fi"), "/")
    except UsageError:
        complain(call, "ERROR: Invalid argument/option.")
        return 1
    chosen = [p for p in call.machine.processes.list() if all(_filtered(p, text) for text in options.values.get("fi", []))]
    if not chosen:
        say(call, "INFO: No tasks are running which match the specified criteria.")
    for process in chosen:
        say(call, f"{process.name:25} {process.id:>8} Services                   0")
    return 0


def _filtered(process: Process, text: str) -> bool:
    field, dummy, rest = text.partition(" ")
    operator, dummy, value = rest.partition(" ")
    actual = {"imagename": process.name, "pid": str(process.id), "username": process.session.user}.get(field.lower(), "")
    equal = fnmatch.fnmatch(actual.lower(), value.lower())
    return equal if operator.lower() == "eq" else not equal


@register("taskkill", FULL_OS)
def taskkill(call: ToolCall) -> int:
    """``taskkill {/pid n|/im name} … [/t] [/f]``: 0, 128 where no such process is."""
    try:
        options = spaced_options(call.argv[1:], ("t", "f"), ("pid", "im", "fi"), "/")
    except UsageError:
        complain(call, "ERROR: Invalid syntax.")
        return 1
    wanted = options.values.get("pid", []) + options.values.get("im", [])
    if not wanted or options.rest:
        complain(call, "ERROR: Invalid syntax. Neither /FI nor /PID nor /IM were specified.")
        return 1
    code = 0
    for name in wanted:
        found = [p for p in call.machine.processes.list() if str(p.id) == name or fnmatch.fnmatch(p.name.lower(), name.lower())]
        if not found:
            complain(call, f'ERROR: The process "{name}" not found.')
            code = 128
        for process in found:
            call.machine.processes.terminate(process.id, 1)
            say(call, f"SUCCESS: The process with PID {process.id} has been terminated.")
    return code
