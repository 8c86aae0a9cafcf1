# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lab computer is made of: ``computer.json`` in its folder. Nothing in it changes while the computer runs."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GIB = 1024**3


@dataclass(frozen=True)
class DiskHardware:
    """One disk: capacity in bytes, model, serial number, bus (a name of ``windows.disks.BUS_NAMES``: SATA, NVMe, USB …)."""

    size: int = 64 * GIB
    model: str = "Goldimage Lab Disk"
    serial: str = ""
    bus: str = "SATA"
    sector: int = 512
    read_only: bool = False


@dataclass(frozen=True)
class Device:
    """One Plug and Play device. ``service`` and ``inf`` are what the image brings itself; empty: it needs a driver."""

    id: str
    name: str
    hardware_ids: tuple[str, ...]
    compatible_ids: tuple[str, ...] = ()
    inbox_service: str = ""
    pnp_class: str = ""
    manufacturer: str = ""


@dataclass(frozen=True)
class Medium:
    """A medium in a drive: ``usb`` or ``cd``; ``folder`` on the host holds ``boot.wim`` (or ``sources/boot.wim``)."""

    kind: str
    folder: str


@dataclass(frozen=True)
class Hardware:
    """The whole computer. ``uuid`` is the SMBIOS UUID, ``macs`` are written with colons."""

    name: str
    uuid: str
    serial: str
    firmware: str = "uefi"
    manufacturer: str = "Goldimage"
    model: str = "Lab Computer"
    memory_mb: int = 8192
    macs: tuple[str, ...] = ()
    disks: tuple[DiskHardware, ...] = (DiskHardware(),)
    devices: tuple[Device, ...] = ()
    media: tuple[Medium, ...] = ()
    #: What the lab's DHCP gives, by environment (``winpe``, ``windows``); one address for each network card's first.
    addresses: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write computer.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "computer.json", {"schema": 1, **asdict(self)})


def make(name: str, index: int, wishes: Mapping[str, Any], addresses: Mapping[str, str]) -> Hardware:
    """Return a computer from a user's wishes (options of the lab module); what is not wished is made from its name."""
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.lab.goldimage.osd")
    disks = tuple(
        DiskHardware(
            size=int(disk.get("size_gb") or 64) * GIB,
            model=disk.get("model") or "Goldimage Lab Disk",
            serial=disk.get("serial") or f"LAB-{name.upper()}-{number}",
            bus=disk.get("bus") or "SATA",
            sector=int(disk.get("sector") or 512),
            read_only=bool(disk.get("read_only")),
        )
        for number, disk in enumerate(wishes.get("disks") or [{}])
    )
    devices = tuple(
        Device(
            id=device.get("id") or f"PCI\\LAB\\{number}",
            name=device["name"],
            hardware_ids=tuple(device["hardware_ids"]),
            compatible_ids=tuple(device.get("compatible_ids") or ()),
            inbox_service=device.get("inbox_service") or "",
            pnp_class=device.get("pnp_class") or "",
            manufacturer=device.get("manufacturer") or "",
        )
        for number, device in enumerate(wishes.get("devices") or [])
    )
    return Hardware(
        name=name,
        uuid=str(wishes.get("uuid") or identity).upper(),
        serial=wishes.get("serial") or f"LAB{identity.int % 10**8:08d}",
        firmware=wishes.get("firmware") or "uefi",
        manufacturer=wishes.get("manufacturer") or "Goldimage",
        model=wishes.get("model") or "Lab Computer",
        memory_mb=int(wishes.get("memory_mb") or 8192),
        macs=tuple(wishes.get("macs") or [f"52:54:00:80:{index // 256:02x}:{index % 256:02x}"]),
        disks=disks,
        devices=devices,
        media=tuple(Medium(m["kind"], m["folder"]) for m in wishes.get("media") or ()),
        addresses=dict(addresses),
    )


def load(folder: Path) -> Hardware:
    """Read computer.json."""
    plain = json.loads((folder / "computer.json").read_text("utf-8"))
    plain.pop("schema", None)
    plain["macs"] = tuple(plain["macs"])
    plain["disks"] = tuple(DiskHardware(**disk) for disk in plain["disks"])
    plain["devices"] = tuple(
        Device(**{**d, "hardware_ids": tuple(d["hardware_ids"]), "compatible_ids": tuple(d["compatible_ids"])}) for d in plain["devices"]
    )
    plain["media"] = tuple(Medium(**medium) for medium in plain["media"])
    return Hardware(**plain)


def write_json(path: Path, content: object) -> None:
    """Write beside and rename: pulling the plug leaves the old file or the new one."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file beside and rename."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    os.replace(beside, path)
