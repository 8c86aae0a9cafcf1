# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From power-on to what is started: firmware, boot manager, boot store.

UEFI takes BootNext once, then BootOrder; BIOS the first disk with boot code and an active partition, then the media. The boot manager
reads the real boot store of the system partition: the one-time sequence first, then the default. What cannot start is a named state,
shown on the console, and the computer stays there as a real one does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..windows.boot_store import (
    TYPE_OS_LOADER,
    BootDevice,
    BootStore,
    BootStoreError,
    Device,
    PartitionDevice,
    RamdiskDevice,
)
from ..windows.disks import EFI_SYSTEM
from ..windows.registry_hive import HiveError
from .disks import LabDisks
from .file_system import find_on_volume
from .hardware import Hardware, write_atomically, write_json
from .tools.interface import Disk, NvramEntry, Partition, Volume, Win32Problem

UEFI_STORE = r"EFI\Microsoft\Boot\BCD"
BIOS_STORE = r"Boot\BCD"
UEFI_FALLBACK = r"\EFI\Boot\bootx64.efi"
UEFI_MANAGER = r"\EFI\Microsoft\Boot\bootmgfw.efi"
WINDOWS_BOOT_MANAGER = "Windows Boot Manager"


class BootFailure(Exception):
    """The computer does not start. ``state`` is a stable name (``no_boot_device``, ``0xc000000f`` …), the text what the screen shows."""

    def __init__(self, state: str, text: str) -> None:
        """Take the state's name and the screen's text."""
        super().__init__(text)
        self.state = state


@dataclass(frozen=True)
class BootTarget:
    """What is started. Windows PE: ``image`` is the boot image on the host, ``volume`` where it lies (None: a medium).

    Windows: ``volume`` is the Windows volume. ``system`` is the partition that holds the boot store, None for a medium.
    """

    kind: str
    image: Path | None = None
    volume: Volume | None = None
    system: Partition | None = None
    entry: str = ""


class Nvram:
    """The firmware's variables, in ``nvram.json``."""

    def __init__(self, folder: Path, hardware: Hardware) -> None:
        """Read them; a new computer starts from its disks, then its media."""
        self._file = folder / "nvram.json"
        self.kind = hardware.firmware
        if self._file.exists():
            plain = json.loads(self._file.read_text("utf-8"))
            self._entries = [NvramEntry(**entry) for entry in plain["entries"]]
            self._order: list[int] = plain["boot_order"]
            self._next: int | None = plain["boot_next"]
        elif self.kind == "uefi":
            media = [m.kind for m in hardware.media]
            self._entries = [NvramEntry(number, f"UEFI {device}", device=device) for number, device in enumerate(["disk", *media])]
            self._order = [entry.number for entry in self._entries]
            self._next = None
            self._save()
        else:
            self._entries, self._order, self._next = [], [], None

    def _save(self) -> None:
        write_json(
            self._file,
            {"schema": 1, "entries": [asdict(e) for e in self._entries], "boot_order": self._order, "boot_next": self._next},
        )

    def _uefi(self) -> None:
        if self.kind != "uefi":
            raise Win32Problem(1, "Incorrect function.")

    def entries(self) -> list[NvramEntry]:
        """Return all boot entries."""
        return list(self._entries)

    def boot_order(self) -> list[int]:
        """Return BootOrder."""
        return list(self._order)

    def set_boot_order(self, numbers: list[int]) -> None:
        """Set BootOrder; unknown entries are refused."""
        self._uefi()
        known = {entry.number for entry in self._entries}
        if not set(numbers) <= known:
            raise Win32Problem(87, "The parameter is incorrect.")
        self._order = list(numbers)
        self._save()

    def boot_next(self) -> int | None:
        """Return BootNext."""
        return self._next

    def set_boot_next(self, number: int | None) -> None:
        """Set or clear BootNext."""
        self._uefi()
        self._next = number
        self._save()

    def add_windows_entry(self, partition_guid: str, *, first: bool = True) -> int:
        """Add or refresh the Windows Boot Manager."""
        self._uefi()
        found = next((e for e in self._entries if e.description == WINDOWS_BOOT_MANAGER), None)
        if found is None:
            found = NvramEntry(max((e.number for e in self._entries), default=-1) + 1, WINDOWS_BOOT_MANAGER)
            self._entries.append(found)
        found.partition_guid, found.loader, found.device = partition_guid.lower(), UEFI_MANAGER, "entry"
        others = [number for number in self._order if number != found.number]
        self._order = [found.number, *others] if first else [*others, found.number]
        self._save()
        return found.number

    def take_next(self) -> list[NvramEntry]:
        """Return the entries in the order they are tried now; BootNext is used up."""
        numbers = list(self._order)
        if self._next is not None:
            numbers = [self._next, *(n for n in numbers if n != self._next)]
            self._next = None
            self._save()
        by_number = {entry.number: entry for entry in self._entries}
        return [by_number[n] for n in numbers if n in by_number]


def system_partition(disks: LabDisks, kind: str) -> tuple[Partition, Path] | None:
    """Return the partition that holds the boot store of the disks and the store's host file."""
    for disk, partition in disks.all_partitions():
        if partition.volume is None:
            continue
        if kind == "uefi" and disk.style == "GPT" and partition.gpt_type == EFI_SYSTEM:
            found = find_on_volume(partition.volume.root, UEFI_STORE)
        elif kind == "bios" and disk.style == "MBR" and partition.active:
            found = find_on_volume(partition.volume.root, BIOS_STORE)
        else:
            continue
        if found is not None and found.is_file():
            return partition, found
    return None


def power_on(disks: LabDisks, nvram: Nvram, hardware: Hardware) -> BootTarget:
    """Return what this start of the computer leads to. Raises BootFailure."""
    if nvram.kind == "uefi":
        for entry in nvram.take_next():
            target = _try_uefi(entry, disks, hardware)
            if target is not None:
                return target
    else:
        target = _try_bios(disks)
        if target is not None:
            return target
        for medium in hardware.media:
            found = _medium(Path(medium.folder))
            if found is not None:
                return found
    raise BootFailure("no_boot_device", "No bootable device was found: no disk with a boot manager, no medium.")


def _try_uefi(entry: NvramEntry, disks: LabDisks, hardware: Hardware) -> BootTarget | None:
    if entry.device in ("usb", "cd"):
        folder = next((m.folder for m in hardware.media if m.kind == entry.device), None)
        return _medium(Path(folder)) if folder else None
    for disk, partition in disks.all_partitions():
        volume = partition.volume
        if disk.style != "GPT" or volume is None or partition.gpt_type != EFI_SYSTEM or volume.file_system != "FAT32":
            continue
        if entry.device == "entry" and partition.guid != entry.partition_guid:
            continue
        loader = find_on_volume(volume.root, entry.loader or UEFI_FALLBACK)
        if loader is not None and loader.is_file():
            return boot_manager(disks, "uefi", partition, volume, find_on_volume(volume.root, UEFI_STORE))
    return None


def _try_bios(disks: LabDisks) -> BootTarget | None:
    for disk, partition in disks.all_partitions():
        volume = partition.volume
        if disk.style != "MBR" or not disk.boot_code or not partition.active or volume is None:
            continue
        manager = find_on_volume(volume.root, "bootmgr")
        if manager is None:
            raise BootFailure("bootmgr_missing", "BOOTMGR is missing. Press Ctrl+Alt+Del to restart.")
        return boot_manager(disks, "bios", partition, volume, find_on_volume(volume.root, BIOS_STORE))
    return None


def _medium(folder: Path) -> BootTarget | None:
    image = next((f for f in (folder / "boot.wim", folder / "sources" / "boot.wim") if f.is_file()), None)
    return BootTarget("windows_pe", image=image) if image else None


def boot_manager(disks: LabDisks, kind: str, partition: Partition, volume: Volume, store_file: Path | None) -> BootTarget:
    """Start what the boot store says: the one-time sequence, then the default."""
    if store_file is None:
        raise BootFailure("0xc000000f", "The Boot Configuration Data for your PC is missing (0xc000000f).")
    try:
        store = BootStore.load(store_file.read_bytes())
    except (HiveError, BootStoreError):
        raise BootFailure("0xc0000098", "The Boot Configuration Data file is damaged (0xc0000098).") from None
    once = bool(store.bootsequence)
    guid = store.take_next()
    if once:
        write_atomically(store_file, store.dump())
    if guid is None or store.object_type(guid) is None:
        raise BootFailure("0xc0000225", f"The boot configuration data has no entry to start ({guid}) (0xc0000225).")
    if store.object_type(guid) != TYPE_OS_LOADER:
        raise BootFailure("0xc0000225", f"The boot entry {guid} is no operating system loader (0xc0000225).")
    device = store.get(guid, "device")
    path = str(store.get(guid, "path") or "")
    ending = ".efi" if kind == "uefi" else ".exe"
    if not path.lower().endswith(ending):
        raise BootFailure("0xc000000f", f"{path} cannot be started on {kind.upper()} firmware (0xc000000f).")
    if isinstance(device, RamdiskDevice):
        return _ramdisk(disks, store, guid, device, partition)
    windows = resolve_device(disks, device, volume)
    if windows is None:
        raise BootFailure("0xc000000e", "A required device isn't connected or can't be accessed (0xc000000e).")
    if find_on_volume(windows.root, path) is None:
        raise BootFailure("0xc000000f", f"{path} is missing (0xc000000f).")
    if find_on_volume(windows.root, r"Windows\System32\config\SYSTEM") is None:
        raise BootFailure("0xc0000001", r"\Windows\System32\config\SYSTEM is missing (0xc0000001).")
    return BootTarget("windows", volume=windows, system=partition, entry=guid)


def _ramdisk(disks: LabDisks, store: BootStore, guid: str, device: RamdiskDevice, system: Partition) -> BootTarget:
    source = resolve_device(disks, device.file_device, system.volume)
    image = find_on_volume(source.root, device.path) if source else None
    if source is None or image is None:
        raise BootFailure("0xc000000f", f"{device.path} is missing (0xc000000f).")
    try:
        sdi_device, sdi_path = store.get(device.options, "ramdisksdidevice"), store.get(device.options, "ramdisksdipath")
    except BootStoreError:
        raise BootFailure("0xc000000f", "The ramdisk options of the boot entry are missing (0xc000000f).") from None
    sdi_volume = resolve_device(disks, sdi_device, system.volume)
    if sdi_volume is None or find_on_volume(sdi_volume.root, str(sdi_path or "")) is None:
        raise BootFailure("0xc000000f", f"{sdi_path} is missing (0xc000000f).")
    if store.get(guid, "winpe") is not True:
        raise BootFailure("0xc0000225", f"The boot entry {guid} does not say winpe (0xc0000225).")
    return BootTarget("windows_pe", image=image, volume=source, system=system, entry=guid)


def resolve_device(disks: LabDisks, device: object, boot: Volume | None) -> Volume | None:
    """Return the volume that a boot store's device means."""
    if isinstance(device, BootDevice):
        return boot
    if not isinstance(device, PartitionDevice):
        return None
    for disk, partition in disks.all_partitions():
        if device.style == "GPT" and partition.guid and str(device.partition).lower() == partition.guid:
            return partition.volume
        if device.style == "MBR" and disk.signature == device.disk and partition.offset == device.partition:
            return partition.volume
    return None


def device_of(disk: Disk, partition: Partition) -> Device:
    """Return how a boot store writes a partition."""
    if disk.style == "GPT":
        return PartitionDevice("GPT", disk.guid, partition.guid)
    return PartitionDevice("MBR", disk.signature, partition.offset)
