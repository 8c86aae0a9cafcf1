# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which computer it is: its SMBIOS UUID, or serial number and MAC addresses where the UUID is junk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..steps.base import StepFailure
from ..windows.computer import Cim

_JUNK_SERIALS = {"", "0", "none", "default string", "system serial number", "to be filled by o.e.m.", "not specified", "n/a"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


@dataclass(frozen=True)
class Machine:
    """The hardware's own names, in lower case; '' and () where there is none to trust."""

    uuid: str = ""
    serial: str = ""
    macs: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The one name that the run keeps."""
        return self.uuid or self.serial or (self.macs[0] if self.macs else "")

    def is_named(self, name: str) -> bool:
        """Tell whether a user's text is the UUID, the serial number or a MAC address of this computer."""
        wanted = normalise(name)
        return bool(wanted) and wanted in {self.uuid, self.serial, *self.macs}

    def is_same(self, other: Machine) -> bool:
        """Tell whether both are one computer."""
        if self.uuid and other.uuid:
            return self.uuid == other.uuid
        return bool((self.serial and self.serial == other.serial) or set(self.macs) & set(other.macs))

    @property
    def describe(self) -> str:
        """What the user can compare with the label on the computer."""
        parts = [f"UUID {self.uuid}" if self.uuid else "", f"serial number {self.serial}" if self.serial else ""]
        parts.append(f"MAC {', '.join(self.macs)}" if self.macs else "")
        return "; ".join(filter(None, parts)) or "a computer without UUID, serial number and network adapter"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"uuid": self.uuid, "serial": self.serial, "macs": list(self.macs)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Machine:
        """Read what :meth:`as_dict` gave."""
        return cls(str(plain.get("uuid", "")), str(plain.get("serial", "")), tuple(plain.get("macs") or ()))


def normalise(name: str) -> str:
    """Return a UUID without braces, a MAC address with colons, all in lower case."""
    text = name.strip().strip("{}").lower()
    colons = text.replace("-", ":")
    return colons if _MAC.match(colons) else text


def read_machine(cim: Cim) -> Machine:
    """Read all names. Three requests."""
    product = cim.query("SELECT UUID FROM Win32_ComputerSystemProduct")
    bios = cim.query("SELECT SerialNumber FROM Win32_BIOS")
    adapters = cim.query("SELECT MACAddress FROM Win32_NetworkAdapter WHERE MACAddress IS NOT NULL")
    serial = normalise(str((bios[0]["SerialNumber"] if bios else "") or ""))
    return Machine(
        uuid=trusted_uuid(str((product[0]["UUID"] if product else "") or "")),
        serial="" if serial in _JUNK_SERIALS else serial,
        macs=tuple(dict.fromkeys(normalise(str(row["MACAddress"])) for row in adapters if row["MACAddress"])),
    )


def read_uuid(cim: Cim) -> str:
    """Read the UUID alone; '' where it is junk. One request."""
    rows = cim.query("SELECT UUID FROM Win32_ComputerSystemProduct")
    return trusted_uuid(str((rows[0]["UUID"] if rows else "") or ""))


def trusted_uuid(text: str) -> str:
    """Return a UUID in lower case, '' for one that many computers share: all zeros, all F, a counting pattern."""
    uuid = normalise(text)
    digits = uuid.replace("-", "")
    if not _UUID.match(uuid) or len(set(digits)) < 3 or digits.startswith("0001020304050607") or digits.startswith("03000200"):
        return ""
    return uuid


def unnamed(host: str, machine: Machine) -> StepFailure:
    """Return the refusal of a computer with data that the user has not named."""
    return StepFailure(
        f"The disks of {host} are not empty ({machine.describe}), and osd_machine does not name it. Nothing was changed on it.",
        remedy=f"If its data may be lost, add to its host variables: {line_to_add(machine)}",
    )


def line_to_add(machine: Machine) -> str:
    """Return the host variable that names this computer."""
    return f'osd_machine: "{machine.id}"'
