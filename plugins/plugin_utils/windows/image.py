# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WIM files: header and image facts of any WIM, ESD or split part, and the one change we make, new XML.

The header has 208 bytes and names the XML resource, which is never compressed; both are read without touching the rest, so a 5 GB
file costs two short reads. Layout: Microsoft's 'Windows Imaging File Format' white paper [doc] and wimlib's sources [code].
Pipable WIMs (wimlib's own) keep their header at the end and are named, not read: DISM cannot read them either.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from xml.etree import ElementTree

HEADER_SIZE = 208
_MAGIC = b"MSWIM\0\0\0"
_PIPABLE = b"WLPWM\0\0\0"
_HEADER = struct.Struct("<8sIIII16sHHI24s24s24sI24s")
_RESOURCE = struct.Struct("<QQQ")
_XML_RESOURCE_AT = 0x48
_MAX_XML = 64 * 1024 * 1024
_WRITE_IN_PROGRESS = 0x40
_COMPRESSED = 0x2
_COMPRESSIONS = {0x20000: "XPRESS", 0x40000: "LZX", 0x80000: "LZMS", 0x100000: "XPRESS"}
_SOLID_VERSION = 0xE00

#: WINDOWS/ARCH of the XML, PROCESSOR_ARCHITECTURE_* of Windows.
ARCHITECTURES: dict[int, str] = {0: "x86", 5: "arm", 9: "x64", 12: "arm64"}
#: The names that answer files and packages use for the same.
ANSWER_FILE_ARCHITECTURES: dict[str, str] = {"x86": "x86", "arm": "arm", "x64": "amd64", "arm64": "arm64"}
#: Element under IMAGE that holds what DISM has no field for: CREATEDBY, VERSION, RUN.
PROPERTIES_NODE = "GOLDIMAGE"


class ImageError(ValueError):
    """A file is no WIM, is incomplete or damaged; the message says which, in words for the user."""


@dataclass(frozen=True)
class Resource:
    """Where a part of the file lies: stored size, flags, offset, size when unpacked; all in bytes."""

    size: int
    flags: int
    offset: int
    original_size: int

    @classmethod
    def unpack(cls, data: bytes) -> Resource:
        """Read the 24 bytes of a resource header."""
        packed, offset, original = _RESOURCE.unpack(data)
        return cls(packed & ((1 << 56) - 1), packed >> 56, offset, original)

    def pack(self) -> bytes:
        """Return the 24 bytes of a resource header."""
        return _RESOURCE.pack(self.size | self.flags << 56, self.offset, self.original_size)


@dataclass(frozen=True)
class WimHeader:
    """The first 208 bytes of a WIM. ``boot_index`` 0 means none; ``chunk_size`` in bytes."""

    version: int
    flags: int
    chunk_size: int
    guid: uuid.UUID
    part: int
    parts: int
    image_count: int
    table: Resource
    xml: Resource
    boot_index: int
    integrity: Resource

    @property
    def compression(self) -> str:
        """The compression's name: none, XPRESS, LZX or LZMS."""
        if not self.flags & _COMPRESSED:
            return "none"
        return next((name for bit, name in _COMPRESSIONS.items() if self.flags & bit), "unknown")

    @property
    def has_integrity(self) -> bool:
        """Tell whether the file carries an integrity table."""
        return self.integrity.size > 0

    @property
    def is_solid(self) -> bool:
        """Tell whether it is an ESD (solid resources)."""
        return self.version == _SOLID_VERSION

    @property
    def write_in_progress(self) -> bool:
        """Tell whether a writer was interrupted, or is at work."""
        return bool(self.flags & _WRITE_IN_PROGRESS)


@dataclass(frozen=True)
class WimImage:
    """One image of a WIM as its XML describes it. Sizes in bytes; '' and None stand for what the XML does not say."""

    index: int
    name: str = ""
    description: str = ""
    display_name: str = ""
    display_description: str = ""
    flags: str = ""
    architecture: str = ""
    edition: str = ""
    installation_type: str = ""
    product_name: str = ""
    product_type: str = ""
    version: str = ""
    build: int | None = None
    languages: tuple[str, ...] = ()
    default_language: str = ""
    system_root: str = ""
    total_bytes: int = 0
    directories: int = 0
    files: int = 0
    created: datetime | None = None
    modified: datetime | None = None
    is_windows: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_windows_pe(self) -> bool:
        """Tell whether it is Windows PE: edition WindowsPE, or FLAGS 9 as boot images carry it [doc]."""
        return self.edition.lower() == "windowspe" or self.flags == "9"


@dataclass(frozen=True)
class Wim:
    """Header, images and raw XML of one file, and the file's size in bytes."""

    header: WimHeader
    images: tuple[WimImage, ...]
    xml: bytes = field(repr=False)
    size: int = 0

    def image(self, index: int) -> WimImage:
        """Return the image of that index. KeyError where there is none."""
        for image in self.images:
            if image.index == index:
                return image
        raise KeyError(index)


def read_header(data: bytes) -> WimHeader:
    """Read the first 208 bytes of a file. Raises ImageError."""
    if data[:8] == _PIPABLE:
        raise ImageError("This is a pipable WIM, which only wimlib reads; export it with 'wimlib-imagex export' first")
    if data[:8] != _MAGIC:
        raise ImageError("This is no WIM file: it does not begin with MSWIM")
    if len(data) < HEADER_SIZE:
        raise ImageError(f"This WIM file is cut off: its header has {len(data)} of {HEADER_SIZE} bytes")
    fields = _HEADER.unpack_from(data)
    dummy, size, version, flags, chunk, guid, part, parts, count, table, xml, _boot, boot_index, integrity = fields
    if size != HEADER_SIZE:
        raise ImageError(f"This WIM file has a header of {size} bytes; only {HEADER_SIZE} are known")
    return WimHeader(
        version=version,
        flags=flags,
        chunk_size=chunk,
        guid=uuid.UUID(bytes_le=guid),
        part=part,
        parts=parts,
        image_count=count,
        table=Resource.unpack(table),
        xml=Resource.unpack(xml),
        boot_index=boot_index,
        integrity=Resource.unpack(integrity),
    )


def read_wim(file: BinaryIO) -> Wim:
    """Read header and XML of an open file. Raises ImageError for what is no WIM, is cut off or was never finished."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = read_header(file.read(HEADER_SIZE))
    if header.xml.offset == 0:
        raise ImageError("This WIM file was never finished: the program that wrote it was interrupted")
    if header.xml.size > _MAX_XML or header.xml.offset + header.xml.size > size:
        raise ImageError(
            f"This WIM file is cut off or damaged: its description should lie at {header.xml.offset}, the file has {size} bytes"
        )
    file.seek(header.xml.offset)
    xml = file.read(header.xml.size)
    images = parse_xml(xml)
    if header.part == 1 and len(images) != header.image_count:
        raise ImageError(f"This WIM file is damaged: {header.image_count} images, but {len(images)} descriptions")
    return Wim(header, images, xml, size)


def read_wim_file(path: str | os.PathLike[str]) -> Wim:
    """Read header and XML of the file at a path. ImageError, OSError."""
    with open(path, "rb") as file:
        return read_wim(file)


def parse_xml(xml: bytes) -> tuple[WimImage, ...]:
    """Read the XML resource of a WIM: UTF-16LE with a byte order mark."""
    return tuple(_image(node) for node in _root(xml).findall("IMAGE"))


def _root(xml: bytes) -> ElementTree.Element:
    try:
        text = xml.decode("utf-16-le").lstrip("\ufeff").rstrip("\0")
        if "<!DOCTYPE" in text:
            raise ImageError("This WIM file's description holds a document type")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise ImageError(f"This WIM file's description cannot be read: {error}") from error


def _image(node: ElementTree.Element) -> WimImage:
    windows = node.find("WINDOWS")
    version = [_number(node, f"WINDOWS/VERSION/{part}") for part in ("MAJOR", "MINOR", "BUILD", "SPBUILD")]
    architecture = _number(node, "WINDOWS/ARCH")
    custom = node.find(PROPERTIES_NODE)
    return WimImage(
        index=int(node.get("INDEX") or 0),
        name=_text(node, "NAME"),
        description=_text(node, "DESCRIPTION"),
        display_name=_text(node, "DISPLAYNAME"),
        display_description=_text(node, "DISPLAYDESCRIPTION"),
        flags=_text(node, "FLAGS"),
        architecture="" if architecture is None else ARCHITECTURES.get(architecture, str(architecture)),
        edition=_text(node, "WINDOWS/EDITIONID"),
        installation_type=_text(node, "WINDOWS/INSTALLATIONTYPE"),
        product_name=_text(node, "WINDOWS/PRODUCTNAME"),
        product_type=_text(node, "WINDOWS/PRODUCTTYPE"),
        version=".".join(str(part or 0) for part in version) if version[0] is not None else "",
        build=version[2],
        languages=tuple((e.text or "").strip() for e in node.findall("WINDOWS/LANGUAGES/LANGUAGE")),
        default_language=_text(node, "WINDOWS/LANGUAGES/DEFAULT"),
        system_root=_text(node, "WINDOWS/SYSTEMROOT"),
        total_bytes=_number(node, "TOTALBYTES") or 0,
        directories=_number(node, "DIRCOUNT") or 0,
        files=_number(node, "FILECOUNT") or 0,
        created=_time(node, "CREATIONTIME"),
        modified=_time(node, "LASTMODIFICATIONTIME"),
        is_windows=windows is not None,
        properties={e.tag: (e.text or "").strip() for e in custom} if custom is not None else {},
    )


def _text(node: ElementTree.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()


def _number(node: ElementTree.Element, path: str) -> int | None:
    text = _text(node, path)
    return int(text) if text.isdigit() else None


def _time(node: ElementTree.Element, path: str) -> datetime | None:
    try:
        ticks = int(_text(node, f"{path}/HIGHPART"), 16) << 32 | int(_text(node, f"{path}/LOWPART"), 16)
        return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)
    except (ValueError, OverflowError):
        return None


def edit_xml(xml: bytes, index: int, elements: Mapping[str, str] | None = None, properties: Mapping[str, str] | None = None) -> bytes:
    """Return the XML with elements of one image (NAME, DESCRIPTION, DISPLAYNAME …) and of its GOLDIMAGE node set.

    Everything else stays, unknown elements too. An empty value removes the element. KeyError where there is no such image.
    """
    root = _root(xml)
    node = next((n for n in root.findall("IMAGE") if n.get("INDEX") == str(index)), None)
    if node is None:
        raise KeyError(index)
    for tag, value in (elements or {}).items():
        _set(node, tag, value)
    if properties:
        custom = node.find(PROPERTIES_NODE)
        if custom is None:
            custom = ElementTree.SubElement(node, PROPERTIES_NODE)
        for tag, value in properties.items():
            _set(custom, tag, value)
    return ("\ufeff" + ElementTree.tostring(root, encoding="unicode")).encode("utf-16-le")


def _set(node: ElementTree.Element, tag: str, value: str) -> None:
    child = node.find(tag)
    if value:
        if child is None:
            child = ElementTree.SubElement(node, tag)
        child.text = value
    elif child is not None:
        node.remove(child)


def xml_patch(header: WimHeader, file_size: int, xml: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the two writes (offset, bytes), in this order, that give a file new XML: the XML at its end, then the header's record.

    The integrity table covers the bytes from 208 to the end of the blob table and stays valid [code: wimlib integrity.c]; the old
    XML remains in the file, unused. Flush between the two writes: until the second the file is as it was.
    """
    record = Resource(len(xml), header.xml.flags, file_size, len(xml))
    return ((file_size, xml), (_XML_RESOURCE_AT, record.pack()))


def set_xml(file: BinaryIO, xml: bytes) -> None:
    """Give an open file (read and write) new XML. Raises ImageError for a split part: its description is the same in each part."""
    wim = read_wim(file)
    if wim.header.parts != 1:
        raise ImageError(f"This is part {wim.header.part} of {wim.header.parts} of a split WIM; its description cannot be changed alone")
    parse_xml(xml)
    for offset, data in xml_patch(wim.header, wim.size, xml):
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
