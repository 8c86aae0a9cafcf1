# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Installers of the lab: declared JSON files with a Windows name, run by msiexec or by themselves; ccmsetup; wusa; pnputil.

A declaration (docs/lab.md) says what the installer puts on the computer and how it ends: ``kind``, ``name``, ``version``,
``product_code``, ``publisher``, ``seconds``, ``exit_code``, ``restart``, ``files``, ``registry``, ``services``, ``switches`` (what an
.exe needs to be silent: without one of them it waits for a user for ever), ``uninstall`` (``files``, ``keys``, ``services`` to
remove besides its own).
Exit codes: [knowledge: windows-mechanics 8.3, 9.2, 10.2].
"""

from __future__ import annotations

import contextlib
import json
import ntpath
import re
import threading
from collections.abc import Mapping
from typing import Any

from ...windows.computer import Environment
from ...windows.registry_hive import Value
from . import files, servicing
from .grammar import Cancelled, complain, say
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, register

_UNINSTALL = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
_IN_PROGRESS = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Installer\InProgress"
_SESSION_MANAGER = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager"
_PRODUCT_CODE = re.compile(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", re.IGNORECASE)
_DEFAULT_SWITCHES = ("/quiet", "/q", "/qn", "/s", "/silent", "/verysilent", "-q", "-s", "--silent", "/uninstall")
_RESTART, _RESTARTED, _BUSY, _FATAL = 3010, 1641, 1618, 1603
_UNKNOWN_PRODUCT, _NO_PACKAGE, _BAD_PACKAGE, _BAD_LOG, _BAD_ARGUMENT = 1605, 1619, 1620, 1622, 1639
_busy = threading.Lock()


def is_declared(call: ToolCall, path: str) -> bool:
    """Tell whether the file at a path is a declared installer that starts by itself (an .exe)."""
    return path.lower().endswith(".exe") and servicing.read_declaration(call, path, "lab_installer") is not None


def run_declared(call: ToolCall) -> int:
    """Run a declared .exe. In Windows PE it ends as a program does that lacks its DLLs."""
    declaration = servicing.read_declaration(call, call.argv[0], "lab_installer") or {}
    if call.machine.environment is Environment.WINDOWS_PE:
        return 0xC0000135
    if str(declaration.get("kind")) == "ccmsetup" or ntpath.basename(call.argv[0]).lower() == "ccmsetup.exe":
        return _ccmsetup(call, declaration)
    words = [word.lower() for word in call.argv[1:]]
    switches = [str(s).lower() for s in declaration.get("switches", _DEFAULT_SWITCHES)]
    if not any(word in switches for word in words):
        _wait_for_ever(call)
    quiet_restart = any(word in ("/norestart", "-norestart", "/noreboot") for word in words) or "norestart" not in declaration.get(
        "options", []
    )
    if "/uninstall" in words:
        _remove(call, declaration)
        return 0
    return _install(call, declaration, may_restart=not quiet_restart)


def _wait_for_ever(call: ToolCall) -> None:
    """A window that nobody sees."""
    call.machine.console(f"{ntpath.basename(call.argv[0])} shows a window and waits for a user")
    call.cancelled.wait()
    raise Cancelled


def _install(call: ToolCall, declaration: Mapping[str, Any], *, may_restart: bool) -> int:
    if not call.session.elevated:
        return 5
    if call.machine.wait(float(declaration.get("seconds", 0)), call.cancelled):
        raise Cancelled
    code = int(declaration.get("exit_code", 0)) & 0xFFFFFFFF
    if code not in (0, _RESTART, _RESTARTED):
        return code
    windows = servicing.online(call)
    try:
        servicing.put_files(call, windows, declaration.get("files", {}))
        servicing.set_values(call, windows, servicing.registry_values(list(declaration.get("registry", []))))
    except servicing.Refused as error:
        complain(call, str(error))
        return _FATAL
    except Win32Problem as problem:
        complain(call, files.describe(problem))
        return 112 if problem.code == 112 else _FATAL
    for service in declaration.get("services", []):
        _make_service(call, service)
    _register_product(call, declaration)
    if not declaration.get("restart") and code == 0:
        return 0
    call.machine.registry.set(
        _SESSION_MANAGER, "PendingFileRenameOperations", Value.multi_sz([rf"\??\{call.machine.windows}\Temp\osd-lab.tmp"])
    )
    if may_restart:
        call.machine.request_restart("restart")
        return _RESTARTED
    return _RESTART


def _make_service(call: ToolCall, service: Mapping[str, Any]) -> None:
    services = call.machine.services
    name = str(service["name"])
    if services.find(name) is None:
        services.create(
            name,
            display_name=str(service.get("display_name", name)),
            path=str(service.get("path", rf"C:\Windows\System32\{name}.exe")),
            start=int(service.get("start", 2)),
        )
    if service.get("state", "Running") == "Running" and int(service.get("start", 2)) != 4:
        try:
            services.start(name)
        except Win32Problem as problem:
            if problem.code != 1056:
                raise


def _register_product(call: ToolCall, declaration: Mapping[str, Any]) -> None:
    """Write what 'Apps' shows; the declaration is kept, as Windows keeps a product's package, so that it can be removed."""
    code = str(declaration.get("product_code") or declaration.get("uninstall_key") or "")
    if not code:
        return
    folder = rf"{call.machine.windows}\Installer"
    cached = rf"{folder}\{code.strip('{}').lower()}.msi"
    if not call.files.is_directory(folder):
        call.files.make_directories(folder)
    call.files.write(cached, json.dumps(declaration).encode())
    key = rf"{_UNINSTALL}\{code}"
    for name, text in {
        "DisplayName": str(declaration.get("name", code)),
        "DisplayVersion": str(declaration.get("version", "1.0")),
        "Publisher": str(declaration.get("publisher", "Lab")),
        "UninstallString": f"MsiExec.exe /X{code}",
        "InstallSource": ntpath.dirname(call.argv[0]),
    }.items():
        call.machine.registry.set(key, name, Value.sz(text))


def _remove(call: ToolCall, declaration: Mapping[str, Any]) -> None:
    extra = declaration.get("uninstall") or {}
    for service in [*declaration.get("services", []), *extra.get("services", [])]:
        name = str(service["name"] if isinstance(service, Mapping) else service)
        if call.machine.services.find(name) is not None:
            with contextlib.suppress(Win32Problem):  # it may not run
                call.machine.services.stop(name)
            call.machine.services.delete(name)
    for path in [*declaration.get("files", {}), *extra.get("files", [])]:
        _remove_path(call, str(path))
    for entry in declaration.get("registry", []):
        key = call.machine.registry.find(entry["key"])
        if key is not None and entry.get("name") in key.values:
            call.machine.registry.delete_value(entry["key"], entry["name"])
    code = str(declaration.get("product_code") or declaration.get("uninstall_key") or "")
    for name in [*extra.get("keys", []), *([rf"{_UNINSTALL}\{code}"] if code else [])]:
        if call.machine.registry.find(name) is not None:
            call.machine.registry.delete_key(name)


def _remove_path(call: ToolCall, path: str) -> None:
    if call.files.is_directory(path):
        call.files.delete_tree(path)
        return
    if call.files.exists(path):
        call.files.delete(path)
    folder = ntpath.dirname(path)
    while len(folder) > 3 and call.files.is_directory(folder) and not call.files.names(folder):
        call.files.delete(folder)
        folder = ntpath.dirname(folder)


# --- msiexec


@register("msiexec", FULL_OS)
def msiexec(call: ToolCall) -> int:
    """``msiexec {/i|/x|/p|/f} package [/qn] [/norestart] [/l*v log] [PROPERTY=value …]`` [doc: win32/Msi command-line options]."""
    words = _msiexec_words(call.command_line)
    action = package = log = ""
    quiet = no_restart = False
    properties: dict[str, str] = {}
    while words:
        word = words.pop(0)
        lower = word.lower().replace("-", "/", 1) if word.startswith("-") else word.lower()
        match = re.match(r"/(i|x|p|f[pomeusdcav]*|package|uninstall|update)(.*)", lower)
        if lower in ("/qn", "/quiet", "/passive", "/q", "/qb", "/qb!", "/qb-", "/qr", "/qf", "/qn+", "/qb+"):
            quiet = lower in ("/qn", "/quiet", "/q", "/qb", "/qb-", "/qb!", "/passive")
        elif lower in ("/norestart", "/promptrestart", "/forcerestart"):
            no_restart = lower == "/norestart"
        elif re.fullmatch(r"/l(og|[iwearucmopvx*+!]*)", lower) and words:
            log = words.pop(0)
        elif match and not action and (match[1] in ("package", "uninstall", "update") or not match[2] or match[2].startswith(("{", '"'))):
            action = {"package": "i", "uninstall": "x", "update": "p"}.get(match[1], match[1][0])
            package = word[1 + len(match[1]) :] or (words.pop(0) if words else "")
        elif re.fullmatch(r"[A-Za-z_][\w.]*=.*", word, re.DOTALL):
            name, dummy, value = word.partition("=")
            properties[name.upper()] = value
        else:
            return _BAD_ARGUMENT
    if not action or not package:
        return _BAD_ARGUMENT
    no_restart = no_restart or properties.get("REBOOT", "").lower() in ("reallysuppress", "r", "suppress", "s")
    return _msi(call, action, package, log, quiet=quiet, no_restart=no_restart)


def _msiexec_words(line: str) -> list[str]:
    """Take the line apart as msiexec does, not by the C rules.

    A doubled quote within quotes is one [doc: win32/Msi command-line-options], a backslash escapes nothing [wine]. Quotes belong around a
    property's value alone; one that is quoted as a whole stays so, and is no argument then [seen: rust-lang/rustup issue 89].
    """
    words = re.findall(r'(?:[^\s"]|"(?:[^"]|"")*"?)+', line)[1:]
    whole = re.compile(r'"[A-Za-z_][\w.]*=')
    return [word if whole.match(word) else re.sub(r'"((?:[^"]|"")*)"?', lambda found: found[1].replace('""', '"'), word) for word in words]


def _msi(call: ToolCall, action: str, package: str, log: str, *, quiet: bool, no_restart: bool) -> int:
    if log:
        path = files.resolve(call, log)
        if not call.files.is_directory(ntpath.dirname(path)):
            return _BAD_LOG
        call.files.write(path, b"=== Verbose logging started ===\r\n")
    code, declaration = _package(call, action, package)
    if code == 0:
        if not quiet:
            _wait_for_ever(call)
        code = _exclusive(call, action, declaration, no_restart=no_restart)
    if log:
        with call.files.open_write(files.resolve(call, log), append=True) as file:
            file.write(f"MainEngineThread is returning {code}\r\n=== Verbose logging stopped ===\r\n".encode())
    return code


def _package(call: ToolCall, action: str, package: str) -> tuple[int, Mapping[str, Any]]:
    """Open a package by path, or for removal and repair the kept one of a product code."""
    if _PRODUCT_CODE.fullmatch(package):
        cached = rf"{call.machine.windows}\Installer\{package.strip('{}').lower()}.msi"
        if call.machine.registry.find(rf"{_UNINSTALL}\{package}") is None or action == "p":
            return _UNKNOWN_PRODUCT, {}
        return 0, servicing.read_declaration(call, cached, "lab_installer") or {"product_code": package}
    path = files.resolve(call, package)
    try:
        there = call.files.is_file(path)
    except Win32Problem:
        there = False
    if not there:
        return _NO_PACKAGE, {}
    declaration = servicing.read_declaration(call, path, "lab_installer")
    if declaration is None or declaration.get("kind") != "msi" or not _PRODUCT_CODE.fullmatch(str(declaration.get("product_code", ""))):
        return _BAD_PACKAGE, {}
    installed = call.machine.registry.find(rf"{_UNINSTALL}\{declaration['product_code']}")
    if action in ("x", "f") and installed is None:
        return _UNKNOWN_PRODUCT, {}
    if action == "i" and installed is not None and installed.get_string("", "DisplayVersion") != str(declaration.get("version", "1.0")):
        return 1638, {}
    return 0, declaration


def _exclusive(call: ToolCall, action: str, declaration: Mapping[str, Any], *, no_restart: bool) -> int:
    """One installation at a time: the registry key tells others [knowledge]."""
    registry = call.machine.registry
    with _busy:
        if registry.find(_IN_PROGRESS) is not None:
            return _BUSY
        registry.create(_IN_PROGRESS)
    try:
        if action == "x":
            call.machine.wait(float(declaration.get("seconds", 0)), call.cancelled)
            _remove(call, declaration)
            return 0
        return _install(call, declaration, may_restart=not no_restart)
    finally:
        registry.delete_key(_IN_PROGRESS)


# --- the Configuration Manager client


_CCM_SWITCHES = re.compile(
    r"/(noservice|service|logon|forceinstall|uninstall|forcereboot|usepkicert|nocrlcheck|allowmetered|remediate)"
    r"|/(source|mp|bitspriority|downloadtimeout|retry|config|skipprereq|excludefeatures|regtoken):.+",
    re.IGNORECASE,
)


def _ccmsetup(call: ToolCall, declaration: Mapping[str, Any]) -> int:
    """``ccmsetup.exe [/switches] [PROPERTY=value …]``, in this order [doc: sccm/about-client-installation-properties]."""
    words = call.argv[1:]
    while words and words[0].startswith("/"):
        if not _CCM_SWITCHES.fullmatch(words[0]):
            return 6
        words = words[1:]
    if any(not re.fullmatch(r"[A-Za-z_]\w*=.*", word, re.DOTALL) for word in words):
        return 6
    switches = {word.lower() for word in call.argv[1:] if word.startswith("/")}
    if not call.session.elevated:
        return 5
    if "/uninstall" in switches:
        return _ccm_uninstall(call, declaration)
    properties = {word.partition("=")[0].upper(): word.partition("=")[2] for word in words}
    if call.machine.services.find("CcmExec") is not None and "/logon" in switches:
        return 0
    code = _install(call, declaration, may_restart=False)
    if code in (0, _RESTART):
        _ccm_state(call, declaration, properties)
    return {0: 0, _RESTART: 7}.get(code, code)


def _ccm_state(call: ToolCall, declaration: Mapping[str, Any], properties: Mapping[str, str]) -> None:
    """What the installed client leaves: service, folders, registry, the identity that cloning must not keep."""
    windows = call.machine.windows
    registry = call.machine.registry
    for folder in (rf"{windows}\CCM\Logs", rf"{windows}\ccmcache", rf"{windows}\ccmsetup\Logs"):
        if not call.files.is_directory(folder):
            call.files.make_directories(folder)
    if call.argv[0].lower() != rf"{windows}\ccmsetup\ccmsetup.exe".lower():
        call.files.copy(call.argv[0], rf"{windows}\ccmsetup\ccmsetup.exe")
    call.files.write(rf"{windows}\SMSCFG.INI", b"[Configuration - Client Properties]\r\nSMS Unique Identifier=GUID:lab\r\n")
    version = str(declaration.get("version", "5.00.9122.1000"))
    registry.set(r"HKLM\SOFTWARE\Microsoft\SMS\Mobile Client", "ProductVersion", Value.sz(version))
    if properties.get("SMSSITECODE"):
        registry.set(r"HKLM\SOFTWARE\Microsoft\SMS\Mobile Client", "AssignedSiteCode", Value.sz(properties["SMSSITECODE"]))
    registry.set(r"HKLM\SOFTWARE\Microsoft\CCMSetup", "LastSuccessfulInstallParams", Value.sz(" ".join(call.argv[1:])))
    registry.set(r"HKLM\SOFTWARE\Microsoft\CCM\CcmExec", "ProvisioningMode", Value.sz("false"))
    registry.set(
        r"HKLM\SOFTWARE\Microsoft\SystemCertificates\SMS\Certificates\LAB0000000000000000000000000000000000000A",
        "Blob",
        Value.binary(b"lab"),
    )
    _make_service(call, {"name": "CcmExec", "display_name": "SMS Agent Host", "path": rf"{windows}\CCM\CcmExec.exe"})
    with call.files.open_write(rf"{windows}\ccmsetup\Logs\ccmsetup.log", append=True) as log:
        log.write(b"CcmSetup is exiting with return code 0\r\n")


def _ccm_uninstall(call: ToolCall, declaration: Mapping[str, Any]) -> int:
    windows = call.machine.windows
    _remove(call, declaration)
    if call.machine.services.find("CcmExec") is not None:
        with contextlib.suppress(Win32Problem):  # it may not run
            call.machine.services.stop("CcmExec")
        call.machine.services.delete("CcmExec")
    for key in (r"SOFTWARE\Microsoft\CCM", r"SOFTWARE\Microsoft\SMS", r"SOFTWARE\Microsoft\SystemCertificates\SMS"):
        if call.machine.registry.find(rf"HKLM\{key}") is not None:
            call.machine.registry.delete_key(rf"HKLM\{key}")
    for folder in (rf"{windows}\CCM", rf"{windows}\ccmcache"):
        if call.files.is_directory(folder):
            call.files.delete_tree(folder)
    logs = rf"{windows}\ccmsetup\Logs"
    if not call.files.is_directory(logs):
        call.files.make_directories(logs)
    with call.files.open_write(rf"{logs}\ccmsetup.log", append=True) as log:
        log.write(b"CcmSetup is exiting with return code 0\r\n")
    return 0


# --- wusa and pnputil


@register("wusa", FULL_OS)
def wusa(call: ToolCall) -> int:
    """``wusa file.msu /quiet [/norestart]``: refused with 5 below WinRM [knowledge: KB2773898]."""
    words = [word.lower() for word in call.argv[1:]]
    if (
        not words
        or words[0].startswith("/")
        or any(word not in ("/quiet", "/norestart", "/warnrestart", "/forcerestart", "/promptrestart") for word in words[1:])
    ):
        return 87
    if call.session.network_logon:
        return 5
    if "/quiet" not in words:
        _wait_for_ever(call)
    path = files.resolve(call, call.argv[1])
    if not call.files.is_file(path):
        return 2
    before = dict(servicing.list_packages(call, servicing.online(call)))
    try:
        restart = servicing.add_package(call, servicing.online(call), path)
    except servicing.Refused as error:
        return 0x80240017 if error.code == servicing.NOT_APPLICABLE else error.code
    if dict(servicing.list_packages(call, servicing.online(call))) == before:
        return 0x00240006
    if restart and "/norestart" not in words:
        call.machine.request_restart("restart")
        return _RESTARTED
    return _RESTART if restart else 0


@register("pnputil", FULL_OS)
def pnputil(call: ToolCall) -> int:
    """``pnputil /add-driver x.inf [/subdirs] [/install] [/reboot]``, ``/enum-drivers`` [doc: wdd/pnputil]."""
    words = [word.lower() for word in call.argv[1:]]
    windows = servicing.online(call)
    if words == ["/enum-drivers"]:
        for driver in servicing.list_drivers(call, windows):
            say(call, f"Published Name:     {driver.published}", f"Original Name:      {driver.original}", "")
        return 0
    if len(words) < 2 or words[0] != "/add-driver" or any(word not in ("/subdirs", "/install", "/reboot") for word in words[2:]):
        return 87
    if not call.session.elevated:
        return 5
    path = files.resolve(call, call.argv[2])
    folder = ntpath.dirname(path) if "*" in path else path
    found = servicing.find_drivers(call, folder, recurse="/subdirs" in words)
    if not found or not call.files.exists(found[0]):
        return 2
    for inf in found:
        try:
            say(call, f"Published Name: {servicing.add_driver(call, windows, inf)}")
        except servicing.Refused as error:
            complain(call, str(error))
            return error.code
    return 0
