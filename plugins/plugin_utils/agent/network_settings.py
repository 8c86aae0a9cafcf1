# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Fixed addresses of Windows PE: taken by MAC address from the file staged beside the boot image, or from the boot image itself.

The staged file ``<volume>:\_osd\pe\network.json`` says where the computer was before its restart, and wins over ``X:\osd\network.json``. An
adapter that had its address from DHCP asks DHCP again, which knows its MAC; nothing is set. Set by Win32_NetworkAdapterConfiguration
[doc: win32/CIMWin32Prov]; not tried in Windows PE.
"""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Iterable, Mapping
from typing import Protocol

from ..windows.cim_classes import CIMV2
from ..windows.names import AGENT_FOLDER, STAGED_NETWORK_SETTINGS
from ..windows.staged_network import Adapter, parse
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from .files import FileSystem

CLASS = "Win32_NetworkAdapterConfiguration"
#: 0 done; 1 done, to be taken over at a restart that Windows PE never makes [doc: win32/CIMWin32Prov, EnableStatic].
_DONE = (0, 1)
_LARGEST_FILE = 256 * 1024


class _Cim(Protocol):
    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]: ...

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]: ...


def find(files: FileSystem) -> tuple[Adapter, ...]:
    """Return the adapters with a fixed address: staged ones first, those of the boot image for other adapters."""
    found: dict[str, Adapter] = {}
    # X: is the RAM disk, A: and B: are floppies.
    places = [rf"{letter}:\{STAGED_NETWORK_SETTINGS}" for letter in string.ascii_uppercase[2:] if letter != "X"]
    for place in (*places, rf"X:\{AGENT_FOLDER}\network.json"):
        for adapter in _read(files, place):
            found.setdefault(adapter.mac, adapter)
    return tuple(adapter for adapter in found.values() if not adapter.dhcp)


def _read(files: FileSystem, place: str) -> tuple[Adapter, ...]:
    try:
        if not files.is_file(place):
            return ()
        with files.open_read(place) as file:
            return parse(file.read(_LARGEST_FILE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # What somebody left on a disk must not keep Windows PE from answering.
        return ()


def apply(cim: _Cim, adapters: Iterable[Adapter]) -> list[str]:
    """Give the computer's adapters their fixed addresses; return what could not be done, in words for the screen."""
    wanted = {adapter.mac: adapter for adapter in adapters}
    if not wanted:
        return []
    problems = []
    try:
        rows = list(cim.instances(CIMV2, CLASS))
    except CimError as error:
        return [f"the network adapters cannot be read: {error}"]
    for row in rows:
        adapter = wanted.get(str(row["MACAddress"] or "").lower().replace("-", ":"))
        if adapter is None or not row["IPEnabled"]:
            continue
        for method, arguments in _calls(adapter):
            try:
                code = cim.invoke(CIMV2, CLASS, method, {"Index": str(row["Index"])}, arguments).get("ReturnValue")
            except CimError as error:
                code = f"0x{error.wbem_code:08X}"
            if code not in _DONE:
                problems.append(f"{adapter.mac} did not get {adapter.address}: {method} returned {code}")
                break
    return problems


def _calls(adapter: Adapter) -> list[tuple[str, Mapping[str, Value]]]:
    mask = str(ipaddress.ip_network(f"0.0.0.0/{adapter.prefix}").netmask)
    calls: list[tuple[str, Mapping[str, Value]]] = [("EnableStatic", {"IPAddress": [adapter.address], "SubnetMask": [mask]})]
    if adapter.gateway:
        calls.append(("SetGateways", {"DefaultIPGateway": [adapter.gateway], "GatewayCostMetric": [1]}))
    if adapter.dns:
        calls.append(("SetDNSServerSearchOrder", {"DNSServerSearchOrder": list(adapter.dns)}))
    return calls
