# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a user declares to a lab's folder: content, ``lab.json``, one folder for each computer. What is there already stays."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import ssl
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agent.authentication import hash_password, verify_password
from ..media import boot_image, certificates
from ..windows import image
from ..windows.boot_store import TYPE_OS_LOADER, BootStore
from ..windows.disks import MIB
from ..windows.https_opening import CERTIFICATE_NAME as WINDOWS_CERTIFICATE_NAME
from ..windows.https_opening import Https
from ..windows.https_opening import values as listener_values
from ..windows.image import ImageError
from ..windows.opening import FIREWALL_RULES
from ..windows.registry_hive import Value
from ..wsman.known import known
from . import certificates as windows_certificates
from . import content, firmware, hardware
from .accounts import LabAccounts
from .disks import LabDisks
from .file_system import make_on_volume
from .firmware import Nvram
from .hardware import Hardware, write_json
from .registry import LabRegistry
from .tools.interface import Partition

SERVER = "deploy.lab.test"
BOOT_IMAGE = "lab"
CERTIFICATE_NAME = "windows-pe.goldimage.osd"
STARTING_STATES = ("bare_metal_in_windows_pe", "existing_windows", "off")
_FIRST_ADDRESS = 11


class LabProblem(Exception):
    """The lab cannot be made or started; the message says what to change."""


def addresses(network: str, index: int) -> dict[str, str]:
    """Return what the lab's DHCP gives to the computer of that index: one address in Windows PE, the next one in Windows."""
    base = ipaddress.ip_network(network)
    if not base.subnet_of(ipaddress.ip_network("127.0.0.0/8")):  # type: ignore[arg-type]
        raise LabProblem(f"network is {network}; the lab's network must lie in 127.0.0.0/8, as 127.80.0.0/24 does.")
    first = _FIRST_ADDRESS + 2 * index
    if first + 1 >= base.num_addresses - 1:
        raise LabProblem(f"network is {network}, which has no addresses left for computer number {index + 1}.")
    return {"winpe": str(base[first]), "windows": str(base[first + 1])}


def prepare(directory: Path, wishes: Mapping[str, Any], boot_password: str) -> bool:
    """Make or complete a lab's folder; tell whether something was made. ``boot_password`` is that of the agent in the boot image."""
    directory.mkdir(parents=True, exist_ok=True)
    network = str(wishes.get("network") or "127.80.0.0/24")
    made = make_content(directory / "content", boot_password)
    boot = directory / "content" / "boot"
    names = []
    for index, wish in enumerate(wishes.get("computers") or []):
        name = str(wish["name"])
        names.append(name)
        folder = directory / "computers" / name
        if (folder / "computer.json").exists():
            continue
        state = wish.get("starting_state") or STARTING_STATES[0]
        if state == "existing_windows" and not (wish.get("existing") or {}).get("password"):
            raise LabProblem(f"{name}: existing.password is missing: somebody must be able to log on to the Windows that is there.")
        plain = dict(wish)
        if state == "bare_metal_in_windows_pe":
            plain.setdefault("media", [{"kind": "usb", "folder": str(boot)}])
        computer = hardware.make(name, index + 1, plain, addresses(network, index))
        computer.save(folder)
        make_volumes(folder, computer, wish.get("disks") or [])
        if state == "existing_windows":
            make_existing_windows(folder, computer, wish.get("existing") or {})
        write_json(folder / "power.json", {"schema": 1, "on": state != "off", "state": "off"})
        made = True
    definition = {
        "schema": 1,
        "speed": float(wishes.get("speed") or 20.0),
        "behaviour": dict(wishes.get("behaviour") or {}),
        "computers": names,
        "network": network_definition(directory, wishes),
    }
    place = directory / "lab.json"
    old = place.read_text("utf-8") if place.exists() else ""
    if not old or json.loads(old) != definition:
        write_json(place, definition)
        os.chmod(place, 0o600)
        made = True
    return made


def network_definition(directory: Path, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return shares, accounts, sites and domain; the declared ones, and for what is not declared the content's share."""
    accounts = [{"name": a["name"], "password": a["password"], "may_join": bool(a.get("may_join"))} for a in wishes.get("accounts") or ()]
    everybody = [account["name"] for account in accounts]
    shares = [dict(share) for share in wishes.get("shares") or ()]
    known = {(share["server"].lower(), share["name"].lower()) for share in shares}
    for name, folder in (("osd", directory / "content"), ("capture", directory.parent / "capture")):
        if (SERVER, name) not in known:
            write = everybody if name == "capture" else []
            shares.append({"server": SERVER, "name": name, "path": str(folder), "read": everybody, "write": write})
    for share in shares:
        path = Path(share["path"])
        share["path"] = str(path.absolute())
        path.mkdir(parents=True, exist_ok=True)
    sites = [dict(site) for site in wishes.get("sites") or ()] or [{"host": SERVER, "path": str(directory / "content")}]
    domain = wishes.get("domain") or {"name": "lab.test", "netbios": "LAB"}
    return {"accounts": accounts, "shares": shares, "sites": sites, "domain": domain}


def make_content(folder: Path, boot_password: str) -> bool:
    """Make images and samples where they are missing; the boot image again for another password or another agent than it has."""
    made = False
    install = folder / "images" / "install.wim"
    if not _readable(install):
        content.make_install_image(install)
        made = True
    boot = folder / "boot"
    password = folder.parent / "boot-password.json"
    agent = boot_image.read_manifest(boot).get("agent_sha256")
    if not _readable(boot / "boot.wim") or agent != boot_image.agent_hash() or not _is_password(password, boot_password):
        certificate, key = certificates.make(CERTIFICATE_NAME)
        record = hash_password(boot_password)
        content.make_boot_image(boot, BOOT_IMAGE, record, certificate, key, CERTIFICATE_NAME)
        write_json(password, record)
        made = True
    if not (folder / "applications").exists():
        content.make_samples(folder)
        made = True
    return made


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            image.read_wim(file)
    except (OSError, ImageError):
        return False
    return True


def _is_password(record: Path, password: str) -> bool:
    try:
        return verify_password(password, json.loads(record.read_text("utf-8")))
    except (OSError, ValueError, KeyError):
        return False


def make_volumes(folder: Path, computer: Hardware, wishes: Sequence[Mapping[str, Any]]) -> None:
    """Lay the declared volumes on the new disks: GPT, one partition each."""
    disks = LabDisks(folder, computer)
    for disk, wish in zip(disks, wishes, strict=False):
        if wish.get("volumes"):
            disks.convert(disk, "GPT")
        for volume in wish.get("volumes") or ():
            partition = disks.create_partition(disk, "primary", size=int(volume["size_mb"]) * MIB if volume.get("size_mb") else None)
            disks.format(partition, volume.get("file_system") or "NTFS", volume["label"])
            files = {name.strip("\\"): str(text).encode() for name, text in (volume.get("files") or {}).items()}
            content.write_tree(known(partition.volume).root, files)


def make_existing_windows(folder: Path, computer: Hardware, wish: Mapping[str, Any]) -> None:
    """Lay an old, set-up Windows on the first disk: partitions, files, accounts, boot store.

    ``wish``: user (an administrator, default ``Administrator``) and password; ``edition`` ``client`` or ``server``; ``scheme`` ``http`` or
    ``https``, by which alone WinRM is reached.
    """
    disks = LabDisks(folder, computer)
    disk = known(disks.find(0))
    uefi = computer.firmware == "uefi"
    disks.convert(disk, "GPT" if uefi else "MBR")
    system = disks.create_partition(disk, "efi" if uefi else "primary", size=(260 if uefi else 350) * MIB)
    disks.format(system, "FAT32" if uefi else "NTFS", "System")
    if uefi:
        disks.create_partition(disk, "msr", size=16 * MIB)
    windows = disks.create_partition(disk, "primary")
    disks.format(windows, "NTFS", "Windows")
    edition = content.SERVER if wish.get("edition") == "server" else content.ENTERPRISE
    https = wish.get("scheme") == "https"
    name = str(wish.get("computer_name") or computer.name)[:15]
    content.make_existing_windows(known(windows.volume).root, edition, name, winrm=not https)
    registry = LabRegistry(known(windows.volume).root / "Windows" / "System32" / "config", write_through=True)
    accounts = LabAccounts(registry)
    user = str(wish.get("user") or "Administrator")
    password = str(wish["password"])
    if accounts.find(user) is None:
        accounts.create(user, password)
        accounts.add_to_group(user, "Administrators")
    accounts.set_password(user, password)
    accounts.set_enabled(user, True)
    if https:
        listen_on_https(known(windows.volume).root, registry)
    make_bootable(disks, system, windows, uefi=uefi)
    if not uefi:
        disk.boot_code, system.active = True, True
        disks.save(disk)
    else:
        Nvram(folder, computer).add_windows_entry(system.guid)


def listen_on_https(root: Path, registry: LabRegistry) -> None:
    """Give a Windows a certificate with its key, bound to the port, a listener and a rule of the firewall, as its administrator would."""
    certificate, key = certificates.make(WINDOWS_CERTIFICATE_NAME)
    place = r"ProgramData\Microsoft\Crypto\Keys\winrm"
    make_on_volume(root, place).write_bytes(base64.b64decode(b"".join(key.splitlines()[1:-1])))
    with registry.batch():
        der = ssl.PEM_cert_to_DER_cert(certificate.decode())
        https = Https(windows_certificates.store_certificate(registry, "MY", der, rf"C:\{place}"))
        for value, _reason in listener_values(https):
            data = value.data
            registry.set(f"HKLM\\{value.key}", value.name, Value.dword(data) if isinstance(data, int) else Value.sz(str(data)))
        registry.set(f"HKLM\\{https.binding_key}", "SslCertHash", Value.binary(bytes.fromhex(https.thumbprint)))
        registry.set(r"HKLM\SYSTEM\CurrentControlSet\Services\WinRM", "Start", Value.dword(2))
        rule = f"v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort={https.port}|Name=WinRM|"
        registry.set(f"HKLM\\{FIREWALL_RULES}", "lab-winrm", Value.sz(rule))


def make_bootable(disks: LabDisks, system: Partition, windows: Partition, *, uefi: bool) -> None:
    """Write boot manager and boot store, as bcdboot does."""
    disk = next(d for d in disks if windows in d.partitions)
    store = BootStore()
    device = firmware.device_of(disk, windows)
    entry = store.create(f"{{{uuid.uuid4()}}}", TYPE_OS_LOADER, "Windows")
    store.set(entry, "device", device)
    store.set(entry, "osdevice", device)
    store.set(entry, "path", rf"\windows\system32\winload.{'efi' if uefi else 'exe'}")
    store.set(entry, "systemroot", r"\windows")
    store.set("{bootmgr}", "device", firmware.device_of(disk, system))
    store.set_displayorder([entry])
    store.set_default(entry)
    root = known(system.volume).root
    managers = (r"EFI\Microsoft\Boot\bootmgfw.efi", r"EFI\Boot\bootx64.efi") if uefi else ("bootmgr",)
    for path in managers:
        make_on_volume(root, path).write_bytes(content.stub("boot manager"))
    make_on_volume(root, firmware.UEFI_STORE if uefi else firmware.BIOS_STORE).write_bytes(store.dump())
