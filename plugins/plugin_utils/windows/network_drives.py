# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network drives of Windows PE by the agent's class ``OSD_NetworkDrive``. All of Windows PE is one logon session."""

from __future__ import annotations

import time

from .cim_classes import OSD
from .computer import Cim

#: The agent still waits for the server (ERROR_IO_PENDING); the same call again waits on.
_PENDING = 997
#: Another account is connected to that server (ERROR_SESSION_CREDENTIAL_CONFLICT).
_OTHER_ACCOUNT = 1219
#: Seconds for one connection: longer than Windows tries a server that does not answer.
_TIME_LIMIT = 120.0


def connect(cim: Cim, share: str, user: str, password: str, *, fresh: bool = False) -> tuple[int, bool]:
    r"""Connect ``\\server\share`` and return the code of ``WNetAddConnection2W`` (0 is done), and whether others to it were ended.

    ``fresh``: no earlier connection may answer for the account, so those to the server are ended first. Otherwise that is done only where
    another account is connected to it: steps use one share after the other. One request, two there.
    """
    deadline = time.monotonic() + _TIME_LIMIT
    while True:
        code = _code(cim, "Connect", {"RemoteName": share, "UserName": user, "Password": password, "Fresh": fresh})
        if code == _OTHER_ACCOUNT and not fresh:
            fresh = True
        elif code != _PENDING or time.monotonic() > deadline:
            return code, fresh


def disconnect_all(cim: Cim) -> int:
    """End every connection and return the code of ``WNetCancelConnection2W``; 0 is done. One request."""
    return _code(cim, "Disconnect", {})


def _code(cim: Cim, method: str, arguments: dict[str, str | bool]) -> int:
    code = cim.invoke("OSD_NetworkDrive", method, arguments, namespace=OSD)["ReturnValue"]
    return code if isinstance(code, int) else 0
