# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running Windows on the network: it listens only as its hives, services, firewall rules and accounts say.

A missing value is a closed port. What is changed while it runs takes effect within half a second.
"""

from __future__ import annotations

import contextlib
import threading

from ..agent.http_server import HttpServer
from ..windows.cim_classes import SCHEMA
from ..windows.opening import FIREWALL_RULES, HTTP_PORT, SYSTEM_POLICIES, WINRM_POLICY, parse_firewall_rule
from ..wsman.client import Identity
from ..wsman.server import Server
from .cim_provider import LabCim
from .machine import LabMachine
from .md4 import nt_hash
from .ntlm import NtlmAuthenticator
from .tools.interface import Session
from .tools.winrs import WinrsProvider
from .windows_pe import VENDOR

#: The control node as every lab computer sees it: the source address of connections over the loopback.
CONTROL_NODE = "127.0.0.1"
_ADMINISTRATOR_RID = 500
_CHECK_SECONDS = 0.5
_LISTENERS = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WSMAN\Listener"
_VERSION = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"


def closed_because(machine: LabMachine) -> str:
    """Return why WinRM cannot be reached over HTTP, '' where it can. For the console log: the first reason found."""
    registry = machine.live_registry
    service = machine.services.find("WinRM")
    if service is None or service.state != "Running":
        return "the WinRM service does not run"
    server = registry.get_string(_VERSION, "InstallationType") == "Server"
    policy = registry.get_dword(f"HKLM\\{WINRM_POLICY}", "AllowAutoConfig") == 1
    filtered = registry.get_string(f"HKLM\\{WINRM_POLICY}", "IPv4Filter") or ""
    if policy and not _covers(filtered, machine.address):
        return "the policy's IPv4Filter admits no address of this computer"
    if not (policy or server or registry.find(rf"{_LISTENERS}\*+HTTP") is not None):
        return "WinRM has no listener"
    rules = registry.find(f"HKLM\\{FIREWALL_RULES}")
    parsed = [parse_firewall_rule(value.text or "") for value in rules.values.values()] if rules else []
    if not any(rule and rule.admits(CONTROL_NODE, HTTP_PORT) for rule in parsed):
        return f"no firewall rule admits {CONTROL_NODE} to port {HTTP_PORT}"
    return ""


def _covers(text: str, address: str) -> bool:
    """Tell whether an IPv4Filter (``*`` or ranges ``a-b`` with commas) holds an address."""
    if text.strip() == "*":
        return True
    number = _number(address)
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        with contextlib.suppress(ValueError):
            if _number(low.strip()) <= number <= _number(high.strip() or low.strip()):
                return True
    return False


def _number(address: str) -> int:
    parts = [int(part) for part in address.split(".")]
    if len(parts) != 4:
        raise ValueError(address)
    return int.from_bytes(bytes(parts), "big")


def find_user(machine: LabMachine, name: str, domain: str = "") -> bytes | None:
    """Return the NT hash of who may log on through WinRM: an enabled administrator with a full token; None for anybody else."""
    if domain not in ("", ".") and domain.upper() != machine.name.upper():
        return None  # lab rule: accounts of the domain do not log on to reference computers
    account = machine.accounts.find(name)
    if account is None or not account.enabled or account.nt_hash in (b"", nt_hash("")):
        return None
    if not account.groups & {"Administrators", "Remote Management Users"}:
        return None
    full = machine.live_registry.get_dword(f"HKLM\\{SYSTEM_POLICIES}", "LocalAccountTokenFilterPolicy") == 1
    if account.rid != _ADMINISTRATOR_RID and not full:
        return None
    return account.nt_hash


class FullOsEndpoint:
    """WinRM of a running Windows. A watcher opens and closes the port as the state says."""

    def __init__(self, machine: LabMachine) -> None:
        """Take the machine; nothing listens before ``start``."""
        self._machine = machine
        build = machine.live_registry.get_string(_VERSION, "CurrentBuildNumber") or "0"
        self._server = Server(
            SCHEMA,
            LabCim(machine),
            shells=WinrsProvider(machine, self._session),
            identity=Identity(VENDOR, f"OS: 10.0.{build} SP: 0.0 Stack: 3.0"),
            machine=machine.name,
        )
        self._http: HttpServer | None = None
        self._reason: str | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="winrm")

    def _session(self, user: str) -> Session:
        return Session(user.rpartition("\\")[2], elevated=True, network_logon=True, id="winrs")

    def _handle(self, body: bytes, user: str | None, content_type: str) -> tuple[int, bytes]:
        return self._server.handle(body, user=user, content_type=content_type)

    def start(self, *, hanging_seconds: float) -> None:
        """Open the port if the state says so; the first answers come after the hanging phase."""
        self._update(ready=False)
        threading.Timer(hanging_seconds, self._ready).start()
        self._watcher.start()

    def _ready(self) -> None:
        with self._lock:
            if self._http is not None:
                self._http.ready.set()

    def _watch(self) -> None:
        while not self._stop.wait(_CHECK_SECONDS):
            self._update(ready=True)

    def _update(self, *, ready: bool) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            reason = closed_because(self._machine)
            if reason != self._reason:
                self._machine.console(f"WinRM: {reason or 'listens on ' + self._machine.address + f':{HTTP_PORT}'}")
                self._reason = reason
            if not reason and self._http is None:
                self._http = HttpServer(
                    (self._machine.address, HTTP_PORT),
                    wsman=self._handle,
                    authenticator=NtlmAuthenticator(lambda name, domain: find_user(self._machine, name, domain)),
                )
                if not ready:
                    self._http.ready.clear()
                self._http.start()
            elif reason and self._http is not None:
                self._close()

    def _close(self) -> None:
        if self._http is not None:
            self._http.stop()
            self._http = None

    def stop(self) -> None:
        """Cut everything."""
        self._stop.set()
        with self._lock:
            self._close()
        self._server.close()
