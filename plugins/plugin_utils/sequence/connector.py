# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Opens the sequence's targets over ``connection``: the one module here that knows Ansible's connections."""

from __future__ import annotations

import socket
from typing import Any

from ..connection import ConnectionProblem, Endpoint, WinrmConnection, open_endpoint, probe
from ..windows.cim_classes import SCHEMA
from ..windows.computer import Computer, Environment
from ..windows.full_os import FullOs
from ..windows.windows_pe import WindowsPe
from .endpoints import Identity, Target
from .fence import Fence, read_fence


class AnsibleLink:
    """One open connection. Implements ``contact.Link``."""

    def __init__(self, connection: WinrmConnection) -> None:
        """Take a connection on which nothing was sent yet."""
        self._connection = connection
        self._client = connection.client(SCHEMA)
        self._computer: Any = None

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return int((self._computer or self._client).requests)

    def fence(self) -> Fence:
        """Send the fence request."""
        return read_fence(self._client)

    def computer(self, environment: Environment) -> Computer:
        """Return the four verbs over this connection."""
        if environment is Environment.WINDOWS_PE:
            self._computer = WindowsPe(self._client, self._connection.http)
        else:
            self._computer = FullOs(self._client)
        computer: Computer = self._computer
        return computer

    def vendor(self) -> str:
        """Return the product vendor that Identify names."""
        return self._client.identify().product_vendor

    def close(self) -> None:
        """Close shell and connection; a computer that is gone cannot object."""
        try:
            if self._computer:
                self._computer.close()
            self._connection.close()
        except Exception:  # noqa: BLE001, S110 - closing is a courtesy; the task's own outcome is what counts
            return


class AnsibleConnector:
    """Makes links. Implements ``contact.Connector``."""

    def __init__(self, connection: Any, step: str) -> None:
        """Take the task's own connection, for the Windows that the inventory describes, and the name that Windows PE shows."""
        self._connection = connection
        self._step = step

    def open(self, target: Target) -> AnsibleLink:
        """Open a connection; nothing is sent yet."""
        own = self._connection if target.identity is Identity.FOUND else None
        return AnsibleLink(open_endpoint(self._endpoint(target), connection=own))

    def probe(self, target: Target, timeout: float) -> None:
        """Ask without an account who is there; raise what keeps it from answering."""
        answer = probe(self._endpoint(target), timeout)
        if isinstance(answer, ConnectionProblem):
            raise answer

    def own_address(self, target: Target) -> str:
        """Return the control node's address on the way to the target; nothing is sent for it."""
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe_socket:
            probe_socket.connect(found[4])
            return str(probe_socket.getsockname()[0])

    def _endpoint(self, target: Target) -> Endpoint:
        if target.identity is Identity.FOUND:
            return self._found(target)
        return Endpoint(
            host=target.host,
            port=target.port,
            scheme=target.scheme,
            user=target.user,
            transport=target.transport,
            password=target.password,
            certificate=target.certificate or None,
            certificate_name=target.certificate_name or None,
            step=self._step if target.identity is Identity.WINDOWS_PE else "",
            settings=target.identity.settings,
            remedy=target.password_remedy,
        )

    def _found(self, target: Target) -> Endpoint:
        """The inventory's own connection keeps its options; this is for the probe and for messages."""

        def option(name: str, default: Any = None) -> Any:
            try:
                return self._connection.get_option(name) or default
            except KeyError:
                return default

        transport = option("transport") or ["ntlm"]
        extras = option("_extras", {})
        scheme = option("scheme") or ("http" if target.port == 5985 else "https")
        return Endpoint(
            host=target.host,
            port=target.port,
            scheme=str(scheme),
            user=str(option("remote_user", "")),
            transport=str(transport[0] if isinstance(transport, list) else transport),
            path=str(option("path", "/wsman")),
            server_cert_validation=str(extras.get("ansible_winrm_server_cert_validation", "validate")),
            settings=target.identity.settings,
        )
