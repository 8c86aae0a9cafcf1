# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading UDF: Microsoft's media hold everything in it and nothing but a README in ISO 9660 beside it.

Source: ECMA-167 (section numbers 4/x below) as UDF 1.02 to 2.60 use it on read-only media. A metadata or virtual partition (Blu-ray,
packet writing) is named, not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .extents import DamagedMedium, Extent, Node

SECTOR = 2048
_ANCHOR = 256
_PRIMARY_END = 64
_TAG_ANCHOR, _TAG_PARTITION, _TAG_LOGICAL_VOLUME, _TAG_TERMINATOR = 2, 5, 6, 8
_TAG_FILE_SET, _TAG_FILE_IDENTIFIER, _TAG_ALLOCATION_EXTENT, _TAG_FILE_ENTRY, _TAG_EXTENDED_FILE_ENTRY = 256, 257, 258, 261, 266
_DIRECTORY, _PARENT, _DELETED = 0x02, 0x08, 0x04
#: No directory of a medium is that large; a damaged one must not fill the memory.
_MAX_DIRECTORY = 64 * 1024 * 1024
_MAX_EXTENTS = 1_000_000


@dataclass(frozen=True)
class _Place:
    """A long allocation descriptor: bytes, logical block, number of the partition reference."""

    length: int
    block: int
    partition: int

    @classmethod
    def unpack(cls, data: bytes, offset: int) -> _Place:
        length, block, partition = struct.unpack_from("<IIH", data, offset)
        return cls(length & 0x3FFFFFFF, block, partition)


class Udf:
    """An open UDF volume."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the volume descriptors. Raises DamagedMedium."""
        self._file = file
        partitions: dict[int, int] = {}
        volume: bytes = b""
        for tag, data in self._volume_descriptors():
            if tag == _TAG_PARTITION:
                number, start = struct.unpack_from("<H", data, 22)[0], struct.unpack_from("<I", data, 188)[0]
                partitions[number] = start
            elif tag == _TAG_LOGICAL_VOLUME:
                volume = data
        if not volume or not partitions:
            raise DamagedMedium("its UDF volume has no partition")
        block_size = struct.unpack_from("<I", volume, 212)[0]
        if block_size != SECTOR:
            raise DamagedMedium(f"its UDF volume has blocks of {block_size} bytes; media have {SECTOR}")
        self._starts = tuple(self._partition_maps(volume, partitions))
        file_set = self._block(_Place.unpack(volume, 248), _TAG_FILE_SET)
        self.root = self._node("", _Place.unpack(file_set, 400))

    def _volume_descriptors(self) -> Iterator[tuple[int, bytes]]:
        anchor = self._sector(_ANCHOR)
        if _tag(anchor) != _TAG_ANCHOR:
            raise DamagedMedium("its UDF volume has no anchor at sector 256: the file is cut off or damaged")
        length, start = struct.unpack_from("<II", anchor, 16)
        for number in range(min(length // SECTOR, _PRIMARY_END)):
            data = self._sector(start + number)
            tag = _tag(data)
            if tag in (_TAG_TERMINATOR, 0):
                return
            yield tag, data

    @staticmethod
    def _partition_maps(volume: bytes, partitions: dict[int, int]) -> Iterator[int]:
        count = struct.unpack_from("<I", volume, 268)[0]
        offset = 440
        for dummy in range(min(count, 16)):
            kind, length = volume[offset], volume[offset + 1]
            if kind != 1 or length != 6:
                raise DamagedMedium("its UDF volume has a virtual or metadata partition, which installation media do not have")
            number = struct.unpack_from("<H", volume, offset + 4)[0]
            if number not in partitions:
                raise DamagedMedium(f"its UDF volume names partition {number}, which is not there")
            yield partitions[number]
            offset += length

    def _sector(self, number: int) -> bytes:
        self._file.seek(number * SECTOR)
        data = self._file.read(SECTOR)
        if len(data) != SECTOR:
            raise DamagedMedium(f"it ends before sector {number}: the file is cut off")
        return data

    def _at(self, block: int, partition: int) -> int:
        if partition >= len(self._starts):
            raise DamagedMedium(f"its UDF volume names partition {partition}, which is not there")
        return self._starts[partition] + block

    def _block(self, place: _Place, *tags: int) -> bytes:
        data = self._sector(self._at(place.block, place.partition))
        if _tag(data) not in tags:
            raise DamagedMedium(f"its UDF volume has no {tags} at block {place.block}")
        return data

    def _node(self, name: str, place: _Place) -> Node:
        entry = self._block(place, _TAG_FILE_ENTRY, _TAG_EXTENDED_FILE_ENTRY)
        fixed = 176 if _tag(entry) == _TAG_FILE_ENTRY else 216
        kind, flags, size = entry[27], struct.unpack_from("<H", entry, 34)[0] & 7, struct.unpack_from("<Q", entry, 56)[0]
        attributes, descriptors = struct.unpack_from("<II", entry, fixed - 8)
        start = fixed + attributes
        if start + descriptors > SECTOR:
            raise DamagedMedium(f"the UDF entry of '{name}' is damaged")
        if flags == 3:
            at = self._at(place.block, place.partition) * SECTOR + start
            extents: tuple[Extent, ...] = (Extent(at, min(size, descriptors)),)
        elif flags in (0, 1):
            extents = tuple(self._extents(entry[start : start + descriptors], place.partition, long=flags == 1))
        else:
            raise DamagedMedium(f"the UDF entry of '{name}' has extended allocation descriptors")
        return Node(name, size, extents, is_directory=kind == 4)

    def _extents(self, data: bytes, partition: int, *, long: bool) -> Iterator[Extent]:
        width = 16 if long else 8
        seen = 0
        offset = 0
        while offset + width <= len(data):
            raw, block = struct.unpack_from("<II", data, offset)
            reference = struct.unpack_from("<H", data, offset + 8)[0] if long else partition
            offset += width
            length, kind = raw & 0x3FFFFFFF, raw >> 30
            if length == 0:
                return
            seen += 1
            if seen > _MAX_EXTENTS:
                raise DamagedMedium("a file of its UDF volume has no end")
            if kind == 3:
                more = self._sector(self._at(block, reference))
                if _tag(more) != _TAG_ALLOCATION_EXTENT:
                    raise DamagedMedium(f"its UDF volume has no further extents at block {block}")
                data, offset = more[24 : 24 + struct.unpack_from("<I", more, 20)[0]], 0
            elif kind == 0:
                yield Extent(self._at(block, reference) * SECTOR, length)
            else:
                yield Extent(None, length)

    def children(self, directory: Node) -> Iterator[Node]:
        """Yield what is in a directory."""
        if directory.size > _MAX_DIRECTORY:
            raise DamagedMedium(f"the directory '{directory.name}' says it has {directory.size} bytes")
        data = directory.open(self._file).read(directory.size)
        offset = 0
        while offset + 38 <= len(data):
            if _tag(data[offset:]) != _TAG_FILE_IDENTIFIER:
                raise DamagedMedium(f"the directory '{directory.name}' is damaged")
            characteristics, length = data[offset + 18], data[offset + 19]
            use = struct.unpack_from("<H", data, offset + 36)[0]
            name = data[offset + 38 + use : offset + 38 + use + length]
            place = _Place.unpack(data, offset + 20)
            offset += (38 + use + length + 3) // 4 * 4
            if not characteristics & (_PARENT | _DELETED) and name:
                yield self._node(_name(name), place)


def is_udf(file: BinaryIO) -> bool:
    """Tell whether the volume recognition sequence names UDF (4/2: NSR02, NSR03)."""
    for sector in range(16, 32):
        file.seek(sector * SECTOR)
        identifier = file.read(6)[1:6]
        if identifier in (b"NSR02", b"NSR03"):
            return True
        if identifier not in (b"CD001", b"BEA01", b"BOOT2", b"TEA01", b"CDW02"):
            return False
    return False


def _tag(data: bytes) -> int:
    """Return a descriptor's tag, 0 where its checksum is wrong."""
    if len(data) < 16 or (sum(data[:4]) + sum(data[5:16])) & 0xFF != data[4]:
        return 0
    return int(struct.unpack_from("<H", data)[0])


def _name(data: bytes) -> str:
    """Read OSTA compressed unicode (2.1.1 of UDF): 8 or 16 bits a character."""
    return data[1:].decode("utf-16-be", "replace") if data[0] == 16 else data[1:].decode("latin-1")
