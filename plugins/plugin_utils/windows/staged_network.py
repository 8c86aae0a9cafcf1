# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network settings staged beside a boot image: what Windows PE's agent takes for the adapter of a MAC address.

An adapter with a fixed address keeps it; one with DHCP asks for the address it had, so that the endpoint stays where it was.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..wsman.schema import Instance, Value
from .computer import Cim

SCHEMA = 1


@dataclass(frozen=True)
class Adapter:
    """One adapter: MAC in lower case with colons, IPv4 address with its prefix length, gateway or None, DNS servers."""

    mac: str
    dhcp: bool
    address: str
    prefix: int
    gateway: str | None
    dns: tuple[str, ...]


def read_adapters(cim: Cim) -> tuple[Adapter, ...]:
    """Return the adapters that have an IPv4 address. One request."""
    columns = "MACAddress,DHCPEnabled,IPAddress,IPSubnet,DefaultIPGateway,DNSServerSearchOrder"
    rows = cim.query(f"SELECT {columns} FROM Win32_NetworkAdapterConfiguration WHERE IPEnabled=TRUE")
    return tuple(adapter for adapter in map(_adapter, rows) if adapter)


def _adapter(row: Instance) -> Adapter | None:
    pairs = zip(_texts(row["IPAddress"]), _texts(row["IPSubnet"]), strict=False)
    address, mask = next(((a, m) for a, m in pairs if ":" not in a), ("", ""))
    mac = row["MACAddress"]
    if not address or not isinstance(mac, str):
        return None
    gateways = [g for g in _texts(row["DefaultIPGateway"]) if ":" not in g]
    return Adapter(
        mac=mac.lower().replace("-", ":"),
        dhcp=bool(row["DHCPEnabled"]),
        address=address,
        prefix=ipaddress.ip_network(f"0.0.0.0/{mask or 24}").prefixlen,
        gateway=gateways[0] if gateways else None,
        dns=tuple(_texts(row["DNSServerSearchOrder"])),
    )


def _texts(value: Value) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def render(adapters: Iterable[Adapter]) -> bytes:
    """Return the file that is staged."""
    rows = [
        {
            "mac": a.mac,
            "dhcp": a.dhcp,
            "address": a.address,
            "prefix": a.prefix,
            "gateway": a.gateway,
            "dns": list(a.dns),
        }
        for a in adapters
    ]
    return json.dumps({"schema": SCHEMA, "adapters": rows}, indent=1).encode()


def parse(content: bytes) -> tuple[Adapter, ...]:
    """Read the file. ValueError for anything that is none."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        return tuple(_from_row(row) for row in document["adapters"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"This is no file of staged network settings: {error}") from error


def _from_row(row: Mapping[str, Any]) -> Adapter:
    return Adapter(
        mac=row["mac"].lower(),
        dhcp=bool(row["dhcp"]),
        address=row["address"],
        prefix=int(row["prefix"]),
        gateway=row.get("gateway"),
        dns=tuple(row.get("dns") or ()),
    )
