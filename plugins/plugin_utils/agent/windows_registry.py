# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods of StdRegProv, by Python's own winreg, for a WMI that does not have them all. Always the 64-bit view.

Return values are the provider's own: 0, 1 value missing or of another type, 2 key missing, 5 denied or not empty [knowledge].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..wsman.faults import WBEM_E_INVALID_METHOD
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from . import win32

_VIEW_64 = 0x0100
_READ, _WRITE = 0x20019 | _VIEW_64, 0x2001F | _VIEW_64
_MISSING_VALUE, _MISSING_KEY, _DENIED = 1, 2, 5
#: Types by the word in the method's name; text of both kinds is read by both methods.
_TYPES = {"dword": 4, "qword": 11, "string": 1, "expandedstring": 2, "multistring": 7, "binary": 3}


class RegistryMethods:
    """``wmi_cim.Part`` for StdRegProv. ``registry`` is the module winreg; tests give another."""

    def __init__(self, registry: Any = None) -> None:
        self._registry = registry or win32.module("winreg")

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return none: StdRegProv is a class of static methods."""
        return []

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call a method. A Win32 error becomes the ReturnValue."""
        name = method.lower()
        root = arguments.get("hDefKey")
        root = root if isinstance(root, int) else 0x80000002
        key, value_name = str(arguments.get("sSubKeyName") or ""), str(arguments.get("sValueName") or "")
        try:
            if name.startswith("get") and name[3:].removesuffix("value") in _TYPES:
                return self._get(root, key, value_name, _TYPES[name[3:].removesuffix("value")])
            if name.startswith("set") and name[3:].removesuffix("value") in _TYPES:
                return self._set(root, key, value_name, _TYPES[name[3:].removesuffix("value")], arguments)
            return self._other(name, root, key, value_name)
        except OSError as error:
            return {"ReturnValue": int(getattr(error, "winerror", None) or error.errno or 31)}

    def _other(self, name: str, root: int, key: str, value_name: str) -> Mapping[str, Value]:
        registry = self._registry
        if name == "createkey":
            registry.CreateKeyEx(root, key, 0, _WRITE).Close()
        elif name == "deletekey":
            with registry.OpenKey(root, key, 0, _READ) as opened:
                if registry.QueryInfoKey(opened)[0]:
                    return {"ReturnValue": _DENIED}
            registry.DeleteKeyEx(root, key, _VIEW_64, 0)
        elif name == "deletevalue":
            with registry.OpenKey(root, key, 0, _WRITE) as opened:
                registry.DeleteValue(opened, value_name)
        elif name == "enumkey":
            with registry.OpenKey(root, key, 0, _READ) as opened:
                names: list[Value] = [registry.EnumKey(opened, index) for index in range(registry.QueryInfoKey(opened)[0])]
            return {"ReturnValue": 0, "sNames": names or None}
        elif name == "enumvalues":
            with registry.OpenKey(root, key, 0, _READ) as opened:
                found = [registry.EnumValue(opened, index) for index in range(registry.QueryInfoKey(opened)[1])]
            return {"ReturnValue": 0, "sNames": [row[0] for row in found] or None, "Types": [row[2] for row in found] or None}
        elif name == "checkaccess":
            with registry.OpenKey(root, key, 0, _READ):
                return {"ReturnValue": 0, "bGranted": True}
        else:
            raise CimError(WBEM_E_INVALID_METHOD, f"StdRegProv has no method {name}.")
        return {"ReturnValue": 0}

    def _get(self, root: int, key: str, name: str, wanted: int) -> Mapping[str, Value]:
        with self._registry.OpenKey(root, key, 0, _READ) as opened:
            try:
                value, kind = self._registry.QueryValueEx(opened, name)
            except FileNotFoundError:
                return {"ReturnValue": _MISSING_VALUE}
        texts = (1, 2)
        if kind != wanted and not (kind in texts and wanted in texts):
            return {"ReturnValue": _MISSING_VALUE}
        if wanted in (4, 11):
            return {"ReturnValue": 0, "uValue": int(value or 0)}
        if wanted == 3:
            return {"ReturnValue": 0, "uValue": list(value or b"") or None}
        if wanted == 7:
            return {"ReturnValue": 0, "sValue": list(value or []) or None}
        # ExpandedString gives variables resolved, String gives the text as it is only for REG_SZ [doc: win32/WmiSdk].
        return {"ReturnValue": 0, "sValue": self._registry.ExpandEnvironmentStrings(value) if wanted == 2 else str(value)}

    def _set(self, root: int, key: str, name: str, kind: int, arguments: Mapping[str, Value]) -> Mapping[str, Value]:
        given = arguments.get("uValue", arguments.get("sValue"))
        data: Any = given
        if kind in (4, 11):
            data = given if isinstance(given, int) else 0
        elif kind == 3:
            data = bytes(item for item in given if isinstance(item, int)) if isinstance(given, list) else b""
        elif kind == 7:
            data = [str(item) for item in given] if isinstance(given, list) else []
        else:
            data = str(given or "")
        try:
            with self._registry.OpenKey(root, key, 0, _WRITE) as opened:
                self._registry.SetValueEx(opened, name, 0, kind, data)
        except FileNotFoundError:
            return {"ReturnValue": _MISSING_KEY}
        return {"ReturnValue": 0}
