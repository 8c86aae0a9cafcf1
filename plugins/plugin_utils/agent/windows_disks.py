# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Disks, partitions and volumes as ``MSFT_Disk``, ``MSFT_Partition`` and ``MSFT_Volume``, from IOCTLs.

A boot image rarely has the Storage Management provider (it needs PowerShell's component), so the agent answers these classes itself,
read only. Structures and codes: [doc: Windows SDK winioctl.h, ntddstor.h]. Under Wine only volumes and a disk's geometry answer, partitions
do not [wine]; the decoding is tested with made bytes, the calls have not run on real Windows yet [unverified].
"""

from __future__ import annotations

import ctypes
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..wsman.faults import WBEM_E_INVALID_METHOD
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from . import win32

NAMESPACE = "root/microsoft/windows/storage"
STORAGE_CLASSES = tuple((NAMESPACE, name) for name in ("msft_disk", "msft_partition", "msft_volume"))

IOCTL_STORAGE_QUERY_PROPERTY = 0x002D1400
IOCTL_DISK_GET_DRIVE_GEOMETRY_EX = 0x000700A0
IOCTL_DISK_GET_DRIVE_LAYOUT_EX = 0x00070050
IOCTL_DISK_GET_DISK_ATTRIBUTES = 0x000700F0
IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS = 0x00560000
#: Disk numbers that are tried; a number may be missing where a disk was taken out.
_MOST_DISKS = 64
_MBR, _GPT, _RAW = 0, 1, 2
#: PARTITION_STYLE of the IOCTL → MSFT_Disk.PartitionStyle.
_STYLES = {_MBR: 1, _GPT: 2, _RAW: 0}
_EXTENDED = (0x05, 0x0F)
_HIDDEN, _READ_ONLY, _NO_LETTER = 1 << 62, 1 << 60, 1 << 63


@dataclass(frozen=True)
class VolumeFacts:
    r"""What Windows tells of a volume: ``\\?\Volume{…}\``, its folders and letters, file system ('' unformatted), sizes in bytes."""

    path: str
    access_paths: tuple[str, ...]
    drive_type: int
    file_system: str = ""
    label: str = ""
    size: int = 0
    free: int = 0
    cluster: int = 0

    @property
    def letter(self) -> str:
        """The drive letter, NUL where there is none, as CIM's char16 has it."""
        return next((path[0].upper() for path in self.access_paths if path[1:] == ":\\"), "\0")


class Storage(Protocol):
    """Windows' side."""

    def control(self, device: str, code: int, data: bytes = b"", size: int = 65536) -> bytes | None:
        """Send an IOCTL; None where device or answer is not there."""

    def volumes(self) -> Iterable[VolumeFacts]:
        """Return all volumes."""


@dataclass(frozen=True)
class _Partition:
    number: int
    offset: int
    size: int
    gpt_type: str = ""
    guid: str = ""
    attributes: int = 0
    mbr_type: int = 0
    active: bool = False


@dataclass(frozen=True)
class _Layout:
    style: int
    guid: str = ""
    signature: int = 0
    partitions: tuple[_Partition, ...] = ()


class Disks:
    """``wmi_cim.Part`` for the three classes."""

    def __init__(self, storage: Storage | None = None, *, system_drive: str = "") -> None:
        self._storage = storage or WindowsStorage()
        self._system = (system_drive or os.environ.get("SYSTEMDRIVE", ""))[:1].upper()

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances of a class."""
        make = {"msft_disk": self._disks, "msft_partition": self._partitions, "msft_volume": self._volumes}[class_name.lower()]
        name = {"msft_disk": "MSFT_Disk", "msft_partition": "MSFT_Partition", "msft_volume": "MSFT_Volume"}[class_name.lower()]
        return [Instance(name, properties, NAMESPACE) for properties in make()]

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """The agent changes no disks; diskpart does."""
        raise CimError(WBEM_E_INVALID_METHOD, f"{class_name} has no method {method} in the agent.")

    def _numbers(self) -> Iterator[tuple[int, str, bytes]]:
        for number in range(_MOST_DISKS):
            device = rf"\\.\PhysicalDrive{number}"
            geometry = self._storage.control(device, IOCTL_DISK_GET_DRIVE_GEOMETRY_EX)
            if geometry is not None and len(geometry) >= 32:
                yield number, device, geometry

    def _disks(self) -> Iterator[dict[str, Value]]:
        own = self._system_disks()
        for number, device, geometry in self._numbers():
            sector, size = struct.unpack_from("<Iq", geometry, 20)
            description = _description(self._storage.control(device, IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<III", 0, 0, 0)))
            alignment = self._storage.control(device, IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<III", 6, 0, 0))
            physical = struct.unpack_from("<I", alignment, 20)[0] if alignment and len(alignment) >= 24 else sector
            attributes = self._storage.control(device, IOCTL_DISK_GET_DISK_ATTRIBUTES)
            flags = struct.unpack_from("<Q", attributes, 8)[0] if attributes and len(attributes) >= 16 else 0
            layout = _layout(self._storage.control(device, IOCTL_DISK_GET_DRIVE_LAYOUT_EX))
            serial, model = description.serial, description.model
            yield {
                "ObjectId": f"Disk:{number}",
                "Number": number,
                "FriendlyName": model or None,
                "Model": model or None,
                "SerialNumber": serial or None,
                "UniqueId": layout.guid or serial or None,
                "Path": device,
                "Location": None,
                "Size": size,
                "AllocatedSize": sum(partition.size for partition in layout.partitions),
                "LogicalSectorSize": sector,
                "PhysicalSectorSize": physical,
                "BusType": description.bus,
                "PartitionStyle": _STYLES[layout.style],
                "NumberOfPartitions": len(layout.partitions),
                "IsBoot": number in own,
                "IsSystem": None,
                "IsOffline": bool(flags & 1),
                "IsReadOnly": bool(flags & 2),
                "Guid": layout.guid or None,
                "Signature": layout.signature if layout.style == _MBR else None,
            }

    def _system_disks(self) -> set[int]:
        """Return the disks that the running Windows is on; none for Windows PE in RAM."""
        found = (self._extents(volume) for volume in self._storage.volumes() if volume.letter == self._system)
        return {disk for extents in found for disk, dummy in extents}

    def _extents(self, volume: VolumeFacts) -> list[tuple[int, int]]:
        """Return disk and offset of each part of a volume."""
        answer = self._storage.control(volume.path.rstrip("\\"), IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS)
        if answer is None or len(answer) < 8:
            return []
        count = min(struct.unpack_from("<I", answer)[0], (len(answer) - 8) // 24)
        return [struct.unpack_from("<I4xq", answer, 8 + 24 * index) for index in range(count)]

    def _partitions(self) -> Iterator[dict[str, Value]]:
        places = {place: volume for volume in self._storage.volumes() for place in self._extents(volume)}
        for number, device, dummy in self._numbers():
            layout = _layout(self._storage.control(device, IOCTL_DISK_GET_DRIVE_LAYOUT_EX))
            for partition in layout.partitions:
                volume = places.get((number, partition.offset))
                paths: list[Value] = [*volume.access_paths, volume.path] if volume else []
                gpt = layout.style == _GPT
                yield {
                    "ObjectId": f"Partition:{number}:{partition.offset}",
                    "UniqueId": f"{partition.guid or layout.signature}:{partition.offset}",
                    "DiskNumber": number,
                    "PartitionNumber": partition.number,
                    "Offset": partition.offset,
                    "Size": partition.size,
                    "GptType": partition.gpt_type if gpt else None,
                    "MbrType": None if gpt else partition.mbr_type,
                    "Guid": partition.guid if gpt else None,
                    "DriveLetter": volume.letter if volume else "\0",
                    "AccessPaths": paths or None,
                    "IsActive": partition.active,
                    "IsBoot": volume is not None and volume.letter == self._system,
                    "IsSystem": None,
                    "IsHidden": bool(partition.attributes & _HIDDEN),
                    "IsReadOnly": bool(partition.attributes & _READ_ONLY),
                    "NoDefaultDriveLetter": bool(partition.attributes & _NO_LETTER),
                }

    def _volumes(self) -> Iterator[dict[str, Value]]:
        for volume in self._storage.volumes():
            yield {
                "ObjectId": f"Volume:{volume.path}",
                "UniqueId": volume.path,
                "Path": volume.path,
                "DriveLetter": volume.letter,
                "FileSystem": volume.file_system,
                "FileSystemLabel": volume.label,
                "Size": volume.size,
                "SizeRemaining": volume.free,
                "DriveType": volume.drive_type,
                "AllocationUnitSize": volume.cluster,
            }


@dataclass(frozen=True)
class _Description:
    model: str = ""
    serial: str = ""
    bus: int = 0


def _description(answer: bytes | None) -> _Description:
    """Decode STORAGE_DEVICE_DESCRIPTOR; its bus types are MSFT_Disk's."""
    if answer is None or len(answer) < 36:
        return _Description()

    def text(place: int) -> str:
        offset = struct.unpack_from("<I", answer, place)[0]
        return answer[offset:].partition(b"\0")[0].decode("ascii", "replace").strip() if 0 < offset < len(answer) else ""

    model = " ".join(part for part in (text(12), text(16)) if part)
    return _Description(model, text(24), struct.unpack_from("<I", answer, 28)[0])


def _layout(answer: bytes | None) -> _Layout:
    """Decode DRIVE_LAYOUT_INFORMATION_EX. MBR: unused entries and the extended partition itself are left out."""
    if answer is None or len(answer) < 48:
        return _Layout(_RAW)
    style, count = struct.unpack_from("<II", answer)
    entries = [answer[place : place + 144] for place in range(48, min(len(answer) - 143, 48 + 144 * count), 144)]
    if style == _GPT:
        return _Layout(_GPT, guid=_guid(answer, 8), partitions=tuple(_gpt_partition(entry) for entry in entries))
    if style == _MBR:
        used = tuple(_mbr_partition(entry) for entry in entries if entry[32] and entry[32] not in _EXTENDED)
        return _Layout(_MBR, signature=struct.unpack_from("<I", answer, 8)[0], partitions=used)
    return _Layout(_RAW)


def _gpt_partition(entry: bytes) -> _Partition:
    offset, size, number = struct.unpack_from("<qqI", entry, 8)
    attributes = struct.unpack_from("<Q", entry, 64)[0]
    return _Partition(number, offset, size, _guid(entry, 32), _guid(entry, 48), attributes)


def _mbr_partition(entry: bytes) -> _Partition:
    offset, size, number = struct.unpack_from("<qqI", entry, 8)
    return _Partition(number, offset, size, mbr_type=entry[32], active=bool(entry[33]))


def _guid(data: bytes, place: int) -> str:
    return f"{{{uuid.UUID(bytes_le=data[place : place + 16])}}}"


class WindowsStorage:
    """``Storage`` by DeviceIoControl and the volume functions."""

    def control(self, device: str, code: int, data: bytes = b"", size: int = 65536) -> bytes | None:
        """Send an IOCTL."""
        share = win32.SHARE_READ | win32.SHARE_WRITE
        try:
            # No access at all is asked for: these IOCTLs need none, and a disk in use refuses any.
            handle = win32.open_handle(device, 0, share, win32.OPEN_EXISTING)
        except OSError:
            return None
        answer, length = ctypes.create_string_buffer(size), ctypes.c_uint32()
        try:
            done = win32.kernel32().DeviceIoControl(handle, code, data or None, len(data), answer, size, ctypes.byref(length), None)
        finally:
            win32.kernel32().CloseHandle(handle)
        return answer.raw[: length.value] if done else None

    def volumes(self) -> Iterable[VolumeFacts]:
        """Return all volumes; one that cannot be read has no file system."""
        library: Any = win32.kernel32()
        library.FindFirstVolumeW.restype = ctypes.c_void_p
        name = ctypes.create_unicode_buffer(64)
        search = library.FindFirstVolumeW(name, len(name))
        found: list[VolumeFacts] = []
        if search in (None, ctypes.c_void_p(-1).value):
            return found
        more = True
        while more:
            found.append(_volume(library, name.value))
            more = bool(library.FindNextVolumeW(ctypes.c_void_p(search), name, len(name)))
        library.FindVolumeClose(ctypes.c_void_p(search))
        return found


def _volume(library: Any, path: str) -> VolumeFacts:
    names, length = ctypes.create_unicode_buffer(4096), ctypes.c_uint32()
    told = library.GetVolumePathNamesForVolumeNameW(ctypes.c_wchar_p(path), names, len(names), ctypes.byref(length))
    places = tuple(part for part in ctypes.wstring_at(names, length.value).split("\0") if part) if told else ()
    kind = int(library.GetDriveTypeW(ctypes.c_wchar_p(path)))
    label, system = ctypes.create_unicode_buffer(261), ctypes.create_unicode_buffer(261)
    if not library.GetVolumeInformationW(ctypes.c_wchar_p(path), label, 261, None, None, None, system, 261):
        return VolumeFacts(path, places, kind)
    free, size, sectors, sector = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint32(), ctypes.c_uint32()
    library.GetDiskFreeSpaceExW(ctypes.c_wchar_p(path), None, ctypes.byref(size), ctypes.byref(free))
    library.GetDiskFreeSpaceW(ctypes.c_wchar_p(path), ctypes.byref(sectors), ctypes.byref(sector), None, None)
    return VolumeFacts(path, places, kind, system.value, label.value, size.value, free.value, sectors.value * sector.value)
