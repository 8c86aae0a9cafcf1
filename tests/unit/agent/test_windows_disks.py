# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks by IOCTL, with bytes made by the layout of winioctl.h; read on by the product's own disk reader."""

from __future__ import annotations

import struct
import uuid

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import windows_disks
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.windows_disks import NAMESPACE, Disks, VolumeFacts
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import values
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

MIB = 1024 * 1024
EFI = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BASIC = uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
DISK_ID = uuid.UUID("11111111-2222-3333-4444-555555555555")
VOLUME = "\\\\?\\Volume{aaaaaaaa-0000-0000-0000-000000000001}\\"


def geometry(size):
    return struct.pack("<qIIIIq", 1000, 12, 255, 63, 512, size)


def descriptor(bus):
    texts = b"ACME\0Disk 9000 \0   SN 1\0"
    head = struct.pack("<IIBBBBIIIII", 40, 40 + len(texts), 0, 0, 0, 1, 40, 45, 0, 56, bus)
    return head.ljust(40, b"\0") + texts


def gpt_entry(number, kind, offset, size, attributes=0):
    head = struct.pack("<I4xqqIBB2x", 1, offset, size, number, 0, 0)
    return (head + kind.bytes_le + uuid.UUID(int=number).bytes_le + struct.pack("<Q", attributes)).ljust(144, b"\0")


def mbr_entry(number, kind, offset, size, active=False):
    return (struct.pack("<I4xqqIBB2x", 0, offset, size, number, 0, 0) + bytes([kind, 0x80 if active else 0])).ljust(144, b"\0")


def layout(style, identity, entries):
    return struct.pack("<II", style, len(entries)) + identity.ljust(40, b"\0") + b"".join(entries)


class Storage:
    def __init__(self):
        self.answers = {}
        self.facts = [
            VolumeFacts(VOLUME, ("W:\\", "C:\\mount\\"), 3, "NTFS", "Windows", 900 * MIB, 100 * MIB, 4096),
            VolumeFacts("\\\\?\\Volume{ram}\\", ("X:\\",), 3, "NTFS", "Boot", 512 * MIB, 1, 4096),
        ]

    def control(self, device, code, data=b"", size=65536):
        return self.answers.get((device, code, data[:4]))

    def volumes(self):
        return self.facts


@pytest.fixture
def storage():
    made = Storage()
    zero, one = r"\\.\PhysicalDrive0", r"\\.\PhysicalDrive2"
    made.answers = {
        (zero, windows_disks.IOCTL_DISK_GET_DRIVE_GEOMETRY_EX, b""): geometry(1000 * MIB),
        (zero, windows_disks.IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<I", 0)): descriptor(17),
        (zero, windows_disks.IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<I", 6)): struct.pack("<7I", 28, 28, 0, 0, 512, 4096, 0),
        (zero, windows_disks.IOCTL_DISK_GET_DRIVE_LAYOUT_EX, b""): layout(
            1,
            DISK_ID.bytes_le,
            [gpt_entry(1, EFI, MIB, 99 * MIB, 1 << 63), gpt_entry(2, BASIC, 100 * MIB, 900 * MIB)],
        ),
        (one, windows_disks.IOCTL_DISK_GET_DRIVE_GEOMETRY_EX, b""): geometry(4000 * MIB),
        (one, windows_disks.IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<I", 0)): descriptor(7),
        (one, windows_disks.IOCTL_DISK_GET_DISK_ATTRIBUTES, b""): struct.pack("<IIQ", 16, 0, 3),
        (one, windows_disks.IOCTL_DISK_GET_DRIVE_LAYOUT_EX, b""): layout(
            0,
            struct.pack("<I", 0xDEADBEEF),
            [mbr_entry(1, 7, MIB, 10 * MIB, True), mbr_entry(0, 0x0F, 20 * MIB, 30 * MIB), mbr_entry(0, 0, 0, 0), mbr_entry(0, 0, 0, 0)],
        ),
        (VOLUME.rstrip("\\"), windows_disks.IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS, b""): struct.pack(
            "<I4xI4xqq", 1, 0, 100 * MIB, 900 * MIB
        ),
    }
    return made


def rows(storage, name):
    found = list(Disks(storage, system_drive="X:").instances(NAMESPACE, name))
    for row in found:
        # The server must be able to write it.
        values.encode_instance(row, SCHEMA.find(NAMESPACE, name), SCHEMA)
    return [row.properties for row in found]


def test_disks(storage):
    first, second = rows(storage, "MSFT_Disk")
    assert (first["Number"], first["Size"], first["BusType"], first["PartitionStyle"]) == (0, 1000 * MIB, 17, 2)
    assert (first["Model"], first["SerialNumber"], first["Guid"]) == ("ACME Disk 9000", "SN 1", f"{{{DISK_ID}}}")
    assert (first["LogicalSectorSize"], first["PhysicalSectorSize"], first["AllocatedSize"]) == (512, 4096, 999 * MIB)
    assert (first["IsOffline"], first["IsReadOnly"], first["IsBoot"]) == (False, False, False)
    assert (second["Number"], second["PartitionStyle"], second["Signature"], second["NumberOfPartitions"]) == (2, 1, 0xDEADBEEF, 1)
    assert (second["BusType"], second["IsOffline"], second["IsReadOnly"], second["PhysicalSectorSize"]) == (7, True, True, 512)


def test_partitions_and_their_volumes(storage):
    efi, basic, mbr = rows(storage, "MSFT_Partition")
    assert (efi["GptType"], efi["NoDefaultDriveLetter"], efi["DriveLetter"], efi["AccessPaths"]) == (f"{{{EFI}}}", True, "\0", None)
    assert (basic["Offset"], basic["Size"], basic["DriveLetter"]) == (100 * MIB, 900 * MIB, "W")
    assert basic["AccessPaths"] == ["W:\\", "C:\\mount\\", VOLUME]
    assert (basic["MbrType"], basic["Guid"]) == (None, f"{{{uuid.UUID(int=2)}}}")
    assert (mbr["DiskNumber"], mbr["MbrType"], mbr["GptType"], mbr["IsActive"]) == (2, 7, None, True)


def test_volumes(storage):
    windows, ram = rows(storage, "msft_volume".replace("msft_v", "MSFT_V"))
    assert (windows["DriveLetter"], windows["FileSystem"], windows["FileSystemLabel"]) == ("W", "NTFS", "Windows")
    assert (windows["Size"], windows["SizeRemaining"], windows["AllocationUnitSize"]) == (900 * MIB, 100 * MIB, 4096)
    assert ram["DriveLetter"] == "X"


def test_a_disk_without_partition_table_and_short_answers(storage):
    device = r"\\.\PhysicalDrive0"
    for answer in (None, b"", layout(2, b"", []), layout(1, DISK_ID.bytes_le, [b"x" * 20])):
        storage.answers[device, windows_disks.IOCTL_DISK_GET_DRIVE_LAYOUT_EX, b""] = answer
        assert rows(storage, "MSFT_Disk")[0]["NumberOfPartitions"] == 0
    storage.answers[device, windows_disks.IOCTL_STORAGE_QUERY_PROPERTY, struct.pack("<I", 0)] = b"short"
    assert rows(storage, "MSFT_Disk")[0]["BusType"] == 0


def test_nothing_is_written(storage):
    with pytest.raises(CimError):
        Disks(storage).invoke(NAMESPACE, "MSFT_Disk", "Clear", {}, {})
