# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Network connections of Windows by mpr.dll. Signatures, structure and constants as in winnetwk.h [doc: win32/api/winnetwk]."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, byref, c_uint32, c_void_p, c_wchar_p
from typing import Any

_RESOURCE_CONNECTED, _RESOURCETYPE_ANY, _RESOURCETYPE_DISK = 1, 0, 1
#: Not to be remembered for another logon.
_CONNECT_TEMPORARY = 4
_NO_ERROR, _NOT_CONNECTED = 0, 2250
_ALL = 0xFFFFFFFF
#: What the documentation advises for one call.
_BUFFER = 16 * 1024


class _NetResource(Structure):
    """``NETRESOURCEW``."""

    _fields_ = [
        ("scope", c_uint32),
        ("type", c_uint32),
        ("display_type", c_uint32),
        ("usage", c_uint32),
        ("local_name", c_wchar_p),
        ("remote_name", c_wchar_p),
        ("comment", c_wchar_p),
        ("provider", c_wchar_p),
    ]


@functools.cache
def _mpr() -> Any:
    library = ctypes.WinDLL("mpr")  # type: ignore[attr-defined]
    for name, arguments in (
        ("WNetAddConnection2W", (POINTER(_NetResource), c_wchar_p, c_wchar_p, c_uint32)),
        ("WNetCancelConnection2W", (c_wchar_p, c_uint32, c_uint32)),
        ("WNetOpenEnumW", (c_uint32, c_uint32, c_uint32, c_void_p, POINTER(c_void_p))),
        ("WNetEnumResourceW", (c_void_p, POINTER(c_uint32), c_void_p, POINTER(c_uint32))),
        ("WNetCloseEnum", (c_void_p,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = c_uint32, arguments
    return library


class WindowsConnections:
    """``agent.network_drives.NetworkConnections`` on Windows: SYSTEM's own session in Windows PE, that of the jobs too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Connections without a drive that were made here: whether Windows lists them, too, is [unverified].
        self._made: dict[str, str] = {}

    def connect(self, remote: str, user: str, password: str, local: str) -> int:
        """Connect a share."""
        resource = _NetResource(type=_RESOURCETYPE_DISK, local_name=local or None, remote_name=remote)
        code = int(_mpr().WNetAddConnection2W(byref(resource), password if user else None, user or None, _CONNECT_TEMPORARY))
        if code == _NO_ERROR and not local:
            with self._lock:
                self._made[remote.lower()] = remote
        return code

    def disconnect(self, name: str) -> int:
        """End a connection; where Windows has ended it already, that is as good."""
        code = int(_mpr().WNetCancelConnection2W(name, 0, 1))
        with self._lock:
            made = self._made.pop(name.lower(), None) if code in (_NO_ERROR, _NOT_CONNECTED) else None
        return _NO_ERROR if made is not None else code

    def connected(self) -> Sequence[tuple[str, str]]:
        """Return what Windows lists, and what was made here."""
        listed = list(_listed())
        shares = {remote.lower() for local, remote in listed if not local}
        with self._lock:
            return [*listed, *(("", remote) for lower, remote in self._made.items() if lower not in shares)]


def _listed() -> Iterator[tuple[str, str]]:
    handle = c_void_p()
    if _mpr().WNetOpenEnumW(_RESOURCE_CONNECTED, _RESOURCETYPE_ANY, 0, None, byref(handle)):
        return
    try:
        buffer = ctypes.create_string_buffer(_BUFFER)
        while True:
            count, size = c_uint32(_ALL), c_uint32(_BUFFER)
            if _mpr().WNetEnumResourceW(handle, byref(count), buffer, byref(size)):
                return
            for resource in (_NetResource * count.value).from_buffer(buffer):
                yield resource.local_name or "", resource.remote_name or ""
    finally:
        _mpr().WNetCloseEnum(handle)
