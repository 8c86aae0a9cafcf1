# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Network drives by API: the class ``OSD_NetworkDrive`` in ``root/osd``.

``Connect`` and ``Disconnect`` answer with the code of the API itself (``WNetAddConnection2W``, ``WNetCancelConnection2W``): 0, 53 no
such server, 67 no such share, 86 and 1326 wrong account, 1219 another account is connected to that server. A server that does not
answer costs Windows longer than a request may last: then the code is 997 (ERROR_IO_PENDING), and the same call again waits on.
``Fresh`` ends the connections to that server first, and to no other: jobs may be using those.
The password is in the request's body alone and is kept nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ..wsman.faults import WBEM_E_INVALID_METHOD, WBEM_E_NOT_FOUND
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError

NAMESPACE = "root/osd"
CLASS = "OSD_NetworkDrive"
INVALID_PARAMETER, BUSY, PENDING, NOT_CONNECTED = 87, 170, 997, 2250
#: Seconds that one Connect waits; clients give a request 20.
MAX_WAIT = 15.0
#: Connections that may be under way at the same time.
MAX_ATTEMPTS = 16
#: What comes back where the connection's own code does not: ERROR_GEN_FAILURE.
_FAILED = 31


class NetworkConnections(Protocol):
    """The network connections of the agent's logon session, which all its jobs share. Codes are the API's own, 0 is done."""

    def connect(self, remote: str, user: str, password: str, local: str) -> int:
        r"""Connect ``\\server\share``, without a drive letter where ``local`` is ''. It may take a minute."""

    def disconnect(self, name: str) -> int:
        """End the connection of a drive (``Z:``) or a share, open files or not."""

    def connected(self) -> Sequence[tuple[str, str]]:
        """Return the drive ('' where there is none) and the share of every connection."""


class _Attempt:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.code = _FAILED


class NetworkDrives:
    """``OSD_NetworkDrive`` on one computer.

    Args:
        connections: the computer's own.
        wait: seconds that one Connect waits.
    """

    def __init__(self, connections: NetworkConnections, *, wait: float = MAX_WAIT) -> None:
        self._connections = connections
        self._wait = wait
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, str, str, str, bool], _Attempt] = {}

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return every connection of the session."""
        return [Instance(CLASS, {"LocalName": local, "RemoteName": remote}, NAMESPACE) for local, remote in self._connections.connected()]

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one connection."""
        wanted = {name.lower(): value.lower() for name, value in selectors.items()}
        for instance in self.instances(namespace, class_name):
            if all(str(value).lower() == wanted.get(name.lower(), "") for name, value in instance.properties.items()):
                return instance
        raise CimError(WBEM_E_NOT_FOUND, "There is no such network connection.")

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call Connect or Disconnect."""
        texts = {name: str(value or "") for name, value in arguments.items()}
        if method == "Connect":
            return {"ReturnValue": self._connect(texts, fresh=bool(arguments.get("Fresh")))}
        if method == "Disconnect":
            name = texts.get("Name", "")
            return {"ReturnValue": self._connections.disconnect(name) if name else self._disconnect_all()}
        raise CimError(WBEM_E_INVALID_METHOD, f"{CLASS} has no method {method[:100]}.")

    def _connect(self, texts: Mapping[str, str], *, fresh: bool) -> int:
        remote, local = texts.get("RemoteName", ""), texts.get("LocalName", "")
        if not remote:
            return INVALID_PARAMETER
        request = (remote.lower(), texts.get("UserName", ""), texts.get("Password", ""), local.upper(), fresh)
        with self._lock:
            attempt = self._attempts.get(request)
            if attempt is None:
                if len(self._attempts) >= MAX_ATTEMPTS:
                    return BUSY
                attempt = self._attempts[request] = _Attempt()
                threading.Thread(target=self._try, args=(attempt, request, remote), daemon=True, name="network drive").start()
        return attempt.code if attempt.ended.wait(self._wait) else PENDING

    def _try(self, attempt: _Attempt, request: tuple[str, str, str, str, bool], remote: str) -> None:
        dummy, user, password, local, fresh = request
        try:
            code = self._disconnect_all(_server(remote)) if fresh else 0
            attempt.code = code or self._connections.connect(remote, user, password, local)
        finally:
            with self._lock:
                del self._attempts[request]
            attempt.ended.set()

    def _disconnect_all(self, server: str = "") -> int:
        """End every connection, or those to one server; the code is of the first that does not end."""
        found = [(local, remote) for local, remote in self._connections.connected() if server in ("", _server(remote))]
        codes = [self._connections.disconnect(local or remote) for local, remote in found]
        return next((code for code in codes if code not in (0, NOT_CONNECTED)), 0)


def _server(remote: str) -> str:
    return remote.lower().lstrip("\\").partition("\\")[0]
