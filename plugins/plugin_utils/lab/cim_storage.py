# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks, partitions and volumes as CIM shows them, and a file's version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..windows.disks import BUS_NAMES
from ..wsman.schema import Value
from .disks import NO_DRIVE_LETTER
from .file_system import LabFileSystem, used_space
from .firmware import system_partition
from .machine import LabMachine
from .tools.interface import Disk, Partition, Volume, Win32Problem

_BUS_NUMBERS = {name.upper(): number for number, name in BUS_NAMES.items()}
_STYLES = {"RAW": 0, "MBR": 1, "GPT": 2}
#: How a file of the lab carries its version resource: its first line.
_VERSION = re.compile(rb"^lab-file-version: (\d+(?:\.\d+){1,3})\r\n")
_VERSION_AREA = 4096


def all_volumes(machine: LabMachine) -> Iterator[Volume]:
    """Iterate over every volume, the RAM disk included."""
    for dummy, partition in machine.disks.all_partitions():
        if partition.volume:
            yield partition.volume
    yield from (volume for volume in machine.disks.letters().values() if volume.ram)


def is_system_volume(machine: LabMachine, volume: Volume) -> bool:
    """Tell whether a volume holds the boot manager that started this computer."""
    found = system_partition(machine.disks, machine.firmware.kind)
    return found is not None and found[0].volume is volume


def _is_boot(machine: LabMachine, partition: Partition) -> bool:
    return partition.volume is not None and partition.volume is machine.windows_volume()


def disks(machine: LabMachine) -> Iterator[dict[str, Value]]:
    """MSFT_Disk, with the properties that IOCTLs give."""
    for disk in machine.disks:
        yield {
            "ObjectId": f"{{1}}\\\\{machine.name}\\root/Microsoft/Windows/Storage/Providers_v2\\Disk:{disk.number}",
            "Number": disk.number,
            "FriendlyName": disk.model,
            "Model": disk.model,
            "SerialNumber": disk.serial,
            "UniqueId": f"LAB{disk.serial}",
            "Path": f"\\\\?\\scsi#disk&ven_lab#{disk.number}",
            "Location": f"Integrated : Bus 0 : Device {disk.number} : Function 0",
            "Size": disk.size,
            "AllocatedSize": sum(p.size for p in disk.partitions if p.kind != "logical"),
            "LogicalSectorSize": disk.sector,
            "PhysicalSectorSize": disk.sector,
            "BusType": _BUS_NUMBERS.get(disk.bus.upper(), 0),
            "PartitionStyle": _STYLES[disk.style],
            "NumberOfPartitions": len(disk.partitions),
            "IsBoot": any(_is_boot(machine, p) for p in disk.partitions),
            "IsSystem": any(p.volume and is_system_volume(machine, p.volume) for p in disk.partitions),
            "IsOffline": not disk.online,
            "IsReadOnly": disk.read_only,
            "Guid": disk.guid or None,
            "Signature": disk.signature if disk.style == "MBR" else None,
        }


def partitions(machine: LabMachine) -> Iterator[dict[str, Value]]:
    """MSFT_Partition."""
    for disk, partition in machine.disks.all_partitions():
        yield _partition(machine, disk, partition)


def _partition(machine: LabMachine, disk: Disk, partition: Partition) -> dict[str, Value]:
    gpt = disk.style == "GPT"
    letter = partition.letter
    paths: list[Value] = [f"{letter}:\\"] if letter else []
    if partition.volume:
        paths.append(partition.volume.path)
    return {
        "ObjectId": f"{{1}}\\\\{machine.name}\\root/Microsoft/Windows/Storage/Providers_v2\\Partition:{disk.number}:{partition.offset}",
        "UniqueId": f"{partition.guid}LAB{disk.serial}",
        "DiskNumber": disk.number,
        "PartitionNumber": partition.number,
        "Offset": partition.offset,
        "Size": partition.size,
        "GptType": partition.gpt_type if gpt else None,
        "MbrType": None if gpt else partition.mbr_type,
        "Guid": partition.guid if gpt else None,
        "DriveLetter": letter or "\0",
        "AccessPaths": paths or None,
        "IsActive": partition.active,
        "IsBoot": _is_boot(machine, partition),
        "IsSystem": partition.volume is not None and is_system_volume(machine, partition.volume),
        "IsHidden": bool(partition.attributes & 0x4000000000000000),
        "IsReadOnly": False,
        "NoDefaultDriveLetter": bool(partition.attributes & NO_DRIVE_LETTER),
    }


def volumes(machine: LabMachine) -> Iterator[dict[str, Value]]:
    """MSFT_Volume."""
    for volume in all_volumes(machine):
        yield {
            "ObjectId": f"{{1}}\\\\{machine.name}\\root/Microsoft/Windows/Storage/Providers_v2\\Volume:{volume.path}",
            "UniqueId": volume.path,
            "Path": volume.path,
            "DriveLetter": volume.letter or "\0",
            "FileSystem": volume.file_system,
            "FileSystemLabel": volume.label,
            "Size": volume.capacity,
            "SizeRemaining": max(0, volume.capacity - used_space(volume.root)),
            "DriveType": 3,
            "AllocationUnitSize": 4096,
        }


def file_version(files: LabFileSystem, path: str) -> str | None:
    """Return a file's version from the lab's mark in its first line, None for none."""
    try:
        with files.open_read(path) as file:
            match = _VERSION.match(file.read(_VERSION_AREA))
    except Win32Problem as problem:
        if problem.code != 32:  # a hive of the running system is there all the same
            raise
        return None
    return match[1].decode() if match else None
