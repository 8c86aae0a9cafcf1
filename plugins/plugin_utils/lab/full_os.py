# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running Windows on the network: it listens only as its hives, certificates, services, firewall rules and accounts say.

A missing value is a closed port. What is changed while it runs takes effect within half a second.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass

from ..agent.http_server import HttpServer
from ..nt_hash import nt_hash
from ..windows.cim_classes import SCHEMA
from ..windows.https_opening import BINDINGS, HTTPS_PORT, LISTENER
from ..windows.opening import FIREWALL_RULES, HTTP_PORT, SYSTEM_POLICIES, WINRM_POLICY, parse_firewall_rule
from ..wsman.client import Identity
from ..wsman.server import Server
from . import certificates
from .cim_provider import LabCim
from .machine import SYSTEM, LabMachine
from .ntlm import NtlmAuthenticator
from .tools.interface import Session
from .tools.winrs import WinrsProvider

#: The control node as every lab computer sees it: the source address of connections over the loopback.
CONTROL_NODE = "127.0.0.1"
_ADMINISTRATOR_RID = 500
_CHECK_SECONDS = 0.5
#: Real seconds: a client that thinks is not an idle one, however fast the lab is.
_SHORTEST_IDLE = 2.0
_LISTENERS = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WSMAN\Listener"
_HTTPS_LISTENER = f"HKLM\\{LISTENER}"
_VERSION = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"


def closed_because(machine: LabMachine) -> str:
    """Return why WinRM cannot be reached over HTTP, '' where it can. For the console log: the first reason found."""
    registry = machine.live_registry
    if not _service_runs(machine):
        return _NO_SERVICE
    server = registry.get_string(_VERSION, "InstallationType") == "Server"
    policy = registry.get_dword(f"HKLM\\{WINRM_POLICY}", "AllowAutoConfig") == 1
    filtered = registry.get_string(f"HKLM\\{WINRM_POLICY}", "IPv4Filter") or ""
    if policy and not _covers(filtered, machine.address):
        return "the policy's IPv4Filter admits no address of this computer"
    if not (policy or server or registry.find(rf"{_LISTENERS}\*+HTTP") is not None):
        return "WinRM has no listener"
    return _firewall(machine, HTTP_PORT)


def https_closed_because(machine: LabMachine) -> str:
    """Return why WinRM cannot be reached over HTTPS, '' where it can."""
    registry = machine.live_registry
    if not _service_runs(machine):
        return _NO_SERVICE
    port, thumbprint = registry.get_dword(_HTTPS_LISTENER, "Port"), registry.get_string(_HTTPS_LISTENER, "certThumbprint") or ""
    if not port or registry.get_string(_HTTPS_LISTENER, "uriprefix") != "wsman":
        return "WinRM has no listener for HTTPS"
    bound = registry.get(rf"HKLM\{BINDINGS}\0.0.0.0:{port}", "SslCertHash")
    if not thumbprint or bound is None or bound.data.hex().upper() != thumbprint.upper():
        return f"the port {port} is not bound to the listener's certificate"
    if certificates.tls(machine.registry, machine.files(SYSTEM), thumbprint) is None:
        return f"the certificate {thumbprint} or its private key is not there"
    return _firewall(machine, port)


_NO_SERVICE = "the WinRM service does not run"


def _service_runs(machine: LabMachine) -> bool:
    service = machine.services.find("WinRM")
    return service is not None and service.state == "Running"


def _firewall(machine: LabMachine, port: int) -> str:
    rules = machine.live_registry.find(f"HKLM\\{FIREWALL_RULES}")
    parsed = [parse_firewall_rule(value.text or "") for value in rules.values.values()] if rules else []
    if not any(rule and rule.admits(CONTROL_NODE, port) for rule in parsed):
        return f"no firewall rule admits {CONTROL_NODE} to port {port}"
    return ""


def _covers(text: str, address: str) -> bool:
    """Tell whether an IPv4Filter (``*`` or ranges ``a-b`` with commas) holds an address."""
    if text.strip() == "*":
        return True
    number = _number(address)
    for part in text.split(","):
        low, dummy, high = part.strip().partition("-")
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


@dataclass
class _Listener:
    """One of WinRM's two listeners: why it is closed (None: not looked at yet), and what serves it."""

    secure: bool
    reason: str | None = None
    http: HttpServer | None = None


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
            identity=Identity(machine.settings.vendor, f"OS: 10.0.{build} SP: 0.0 Stack: 3.0"),
            machine=machine.name,
        )
        self._listeners = (_Listener(secure=False), _Listener(secure=True))
        self._is_ready = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="winrm")

    def _session(self, user: str) -> Session:
        return Session(user.rpartition("\\")[2], elevated=True, network_logon=True, id="winrs")

    def _handle(self, body: bytes, user: str | None, content_type: str) -> tuple[int, bytes]:
        return self._server.handle(body, user=user, content_type=content_type)

    def start(self, *, hanging_seconds: float) -> None:
        """Open the port if the state says so; the first answers come after the hanging phase."""
        self._update()
        threading.Timer(hanging_seconds, self._ready).start()
        self._watcher.start()

    def _ready(self) -> None:
        with self._lock:
            self._is_ready = True
            for listener in self._listeners:
                if listener.http is not None:
                    listener.http.ready.set()

    def _watch(self) -> None:
        while not self._stop.wait(_CHECK_SECONDS):
            self._update()

    def _update(self) -> None:
        with self._lock:
            for listener in self._listeners:
                if not self._stop.is_set():
                    self._update_listener(listener)

    def _update_listener(self, listener: _Listener) -> None:
        machine = self._machine
        reason = https_closed_because(machine) if listener.secure else closed_because(machine)
        port = self._https_port() if listener.secure else HTTP_PORT
        if reason != listener.reason:
            name = "WinRM over HTTPS" if listener.secure else "WinRM"
            machine.console(f"{name}: {reason or f'listens on {machine.address}:{port}'}")
            listener.reason = reason
        if not reason and listener.http is None:
            listener.http = self._serve(port, secure=listener.secure)
            if not self._is_ready:
                listener.http.ready.clear()
            listener.http.start()
        elif reason and listener.http is not None:
            listener.http.stop()
            listener.http = None

    def _https_port(self) -> int:
        return self._machine.live_registry.get_dword(_HTTPS_LISTENER, "Port") or HTTPS_PORT

    def _serve(self, port: int, *, secure: bool) -> HttpServer:
        machine = self._machine
        context: ssl.SSLContext | None = None
        certificate: bytes | None = None
        if secure:
            thumbprint = machine.live_registry.get_string(_HTTPS_LISTENER, "certThumbprint") or ""
            context, certificate = certificates.tls(machine.registry, machine.files(SYSTEM), thumbprint) or (None, None)
        return HttpServer(
            (machine.address, port),
            wsman=self._handle,
            authenticator=NtlmAuthenticator(lambda name, domain: find_user(machine, name, domain), certificate=certificate),
            tls=context,
            idle_timeout=max(_SHORTEST_IDLE, machine.settings.idle_seconds / machine.settings.speed),
        )

    def stop(self) -> None:
        """Cut everything."""
        self._stop.set()
        with self._lock:
            for listener in self._listeners:
                if listener.http is not None:
                    listener.http.stop()
                    listener.http = None
        self._server.close()
