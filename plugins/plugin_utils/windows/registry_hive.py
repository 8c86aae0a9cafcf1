# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registry hive files (regf): a tree of keys and values in memory, read from and written to bytes.

Reads what Windows and hivex write: hash, fast, plain and index lists (lh, lf, li, ri), big data (db), Latin-1 and UTF-16 names.
Writes version 1.5 with lh lists, ri above 500 subkeys and db above 16344 bytes; one security descriptor serves all keys, so a hive
that went through here is fit for the lab, not for a computer whose access rights matter. Transaction logs are not read.

The layout is that of the public regf descriptions and of what hivex accepts (the tests hold both against each other).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

REG_NONE = 0
REG_SZ = 1
REG_EXPAND_SZ = 2
REG_BINARY = 3
REG_DWORD = 4
REG_DWORD_BIG_ENDIAN = 5
REG_LINK = 6
REG_MULTI_SZ = 7
REG_QWORD = 11

TYPE_NAMES: dict[int, str] = {
    REG_NONE: "REG_NONE",
    REG_SZ: "REG_SZ",
    REG_EXPAND_SZ: "REG_EXPAND_SZ",
    REG_BINARY: "REG_BINARY",
    REG_DWORD: "REG_DWORD",
    REG_DWORD_BIG_ENDIAN: "REG_DWORD_BIG_ENDIAN",
    REG_LINK: "REG_LINK",
    REG_MULTI_SZ: "REG_MULTI_SZ",
    REG_QWORD: "REG_QWORD",
}
TYPES: dict[str, int] = {name: number for number, name in TYPE_NAMES.items()}

_BASE = 4096
_BIN_HEADER = 32
_NONE = 0xFFFFFFFF
_SEGMENT = 16344
_LIST_LIMIT = 500
_MAX_DEPTH = 512
_COMPRESSED_NAME = 0x20

_NK = struct.Struct("<2sHQIIIIIIIIIIIIIIIHH")
_VK = struct.Struct("<2sHIIIHH")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")

T = TypeVar("T")


class HiveError(ValueError):
    """A file is no registry hive, or is damaged; the message says what was met at which offset."""


def fold(name: str) -> str:
    """Return a name as the registry compares it: upper case, one character for one character."""
    if name.isascii():
        return name.upper()
    return "".join(u if len(u := c.upper()) == 1 else c for c in name)


class Names(MutableMapping[str, T], Generic[T]):
    """A mapping by names that keeps their case and order, and finds them in any case."""

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        """Take pairs of name and item; a later pair replaces an earlier one of the same name."""
        self._items: dict[str, tuple[str, T]] = {fold(name): (name, item) for name, item in items}

    def __getitem__(self, name: str) -> T:
        """Return the item of that name."""
        return self._items[fold(name)][1]

    def __setitem__(self, name: str, item: T) -> None:
        """Set the item; a name that is there already keeps its case."""
        key = fold(name)
        known = self._items.get(key)
        self._items[key] = (known[0] if known else name, item)

    def __delitem__(self, name: str) -> None:
        """Remove the item of that name."""
        del self._items[fold(name)]

    def __contains__(self, name: object) -> bool:
        """Tell whether the name is there, in any case."""
        return isinstance(name, str) and fold(name) in self._items

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order they came."""
        return (name for name, dummy in self._items.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._items)

    def __repr__(self) -> str:
        """Show it like a dict."""
        return f"{dict(self.items())!r}"


@dataclass(frozen=True)
class Value:
    """One registry value: the numeric type and the raw data. ``''`` as name is a key's default value."""

    type: int
    data: bytes

    @classmethod
    def sz(cls, text: str) -> Value:
        """Make a REG_SZ."""
        return cls(REG_SZ, (text + "\0").encode("utf-16-le"))

    @classmethod
    def expand_sz(cls, text: str) -> Value:
        """Make a REG_EXPAND_SZ."""
        return cls(REG_EXPAND_SZ, (text + "\0").encode("utf-16-le"))

    @classmethod
    def dword(cls, number: int) -> Value:
        """Make a REG_DWORD."""
        return cls(REG_DWORD, _U32.pack(number))

    @classmethod
    def qword(cls, number: int) -> Value:
        """Make a REG_QWORD."""
        return cls(REG_QWORD, struct.pack("<Q", number))

    @classmethod
    def multi_sz(cls, texts: Sequence[str]) -> Value:
        """Make a REG_MULTI_SZ."""
        return cls(REG_MULTI_SZ, ("".join(t + "\0" for t in texts) + "\0").encode("utf-16-le"))

    @classmethod
    def binary(cls, data: bytes) -> Value:
        """Make a REG_BINARY."""
        return cls(REG_BINARY, bytes(data))

    @classmethod
    def make(cls, type_name: str, value: object) -> Value:
        """Make a value from a type's name and a plain value, as a JSON file declares it.

        Numbers may be text (``"0x10"``), REG_BINARY is bytes or hex text, REG_MULTI_SZ a list. ValueError for what does not fit.
        """
        kind = type_name.upper()
        if kind in ("REG_DWORD", "REG_QWORD") and isinstance(value, int | str):
            number = int(value, 0) if isinstance(value, str) else int(value)
            return cls.dword(number & 0xFFFFFFFF) if kind == "REG_DWORD" else cls.qword(number & 0xFFFFFFFFFFFFFFFF)
        if kind == "REG_MULTI_SZ" and isinstance(value, list | tuple):
            return cls.multi_sz([str(v) for v in value])
        if kind in ("REG_BINARY", "REG_NONE"):
            data = bytes.fromhex(value) if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else None
            if data is not None:
                return cls(TYPES[kind], data)
        if kind in ("REG_SZ", "REG_EXPAND_SZ") and isinstance(value, str | int):
            return cls.sz(str(value)) if kind == "REG_SZ" else cls.expand_sz(str(value))
        raise ValueError(f"A value of type {type_name} cannot be {value!r}")

    @property
    def text(self) -> str | None:
        """The text of REG_SZ and REG_EXPAND_SZ up to the first NUL, None for other types."""
        if self.type not in (REG_SZ, REG_EXPAND_SZ):
            return None
        return self.data.decode("utf-16-le", "replace").split("\0", 1)[0]

    @property
    def number(self) -> int | None:
        """The number of REG_DWORD and REG_QWORD, None for other types and short data."""
        if self.type == REG_DWORD and len(self.data) >= 4:
            return int.from_bytes(self.data[:4], "little")
        if self.type == REG_QWORD and len(self.data) >= 8:
            return int.from_bytes(self.data[:8], "little")
        return None

    @property
    def strings(self) -> list[str] | None:
        """The texts of REG_MULTI_SZ up to the empty one that ends it, None for other types."""
        if self.type != REG_MULTI_SZ:
            return None
        texts: list[str] = []
        for text in self.data.decode("utf-16-le", "replace").split("\0"):
            if not text:
                break
            texts.append(text)
        return texts

    @property
    def python(self) -> str | int | list[str] | bytes:
        """The value as the plain Python type that fits; raw bytes where none does."""
        for plain in (self.text, self.number, self.strings):
            if plain is not None:
                return plain
        return self.data


@dataclass
class Key:
    """One key with all below it. Paths are relative, with backslashes; '' is the key itself. ``time`` is a FILETIME."""

    name: str = ""
    values: Names[Value] = field(default_factory=Names)
    subkeys: Names[Key] = field(default_factory=Names)
    class_name: str = ""
    time: int = 0

    def find(self, path: str) -> Key | None:
        """Return the key at a path, or None."""
        key = self
        for part in _parts(path):
            child = key.subkeys.get(part)
            if child is None:
                return None
            key = child
        return key

    def create(self, path: str) -> Key:
        """Return the key at a path, made with its parents where it was not there."""
        key = self
        for part in _parts(path):
            child = key.subkeys.get(part)
            if child is None:
                child = key.subkeys[part] = Key(part)
            key = child
        return key

    def delete(self, path: str) -> bool:
        """Remove the key at a path with all below it; tell whether it was there."""
        *parents, last = _parts(path) or [""]
        parent = self.find("\\".join(parents))
        if parent is None or last not in parent.subkeys:
            return False
        del parent.subkeys[last]
        return True

    def get(self, path: str, name: str) -> Value | None:
        """Return a value, None where the key or the value is not there."""
        key = self.find(path)
        return key.values.get(name) if key else None

    def get_string(self, path: str, name: str) -> str | None:
        """Return a REG_SZ or REG_EXPAND_SZ as text, None where there is none."""
        value = self.get(path, name)
        return value.text if value else None

    def get_dword(self, path: str, name: str) -> int | None:
        """Return a REG_DWORD, None where there is none."""
        value = self.get(path, name)
        return value.number if value and value.type == REG_DWORD else None

    def get_multi(self, path: str, name: str) -> list[str] | None:
        """Return a REG_MULTI_SZ as a list, None where there is none."""
        value = self.get(path, name)
        return value.strings if value else None

    def get_binary(self, path: str, name: str) -> bytes | None:
        """Return a REG_BINARY, None where there is none."""
        value = self.get(path, name)
        return value.data if value and value.type == REG_BINARY else None

    def set(self, path: str, name: str, value: Value) -> None:
        """Set a value; its key is made where it was not there."""
        self.create(path).values[name] = value

    def set_string(self, path: str, name: str, text: str) -> None:
        """Set a REG_SZ."""
        self.set(path, name, Value.sz(text))

    def set_dword(self, path: str, name: str, number: int) -> None:
        """Set a REG_DWORD."""
        self.set(path, name, Value.dword(number))

    def set_multi(self, path: str, name: str, texts: Sequence[str]) -> None:
        """Set a REG_MULTI_SZ."""
        self.set(path, name, Value.multi_sz(texts))

    def set_binary(self, path: str, name: str, data: bytes) -> None:
        """Set a REG_BINARY."""
        self.set(path, name, Value.binary(data))

    def delete_value(self, path: str, name: str) -> bool:
        """Remove a value; tell whether it was there."""
        key = self.find(path)
        if key is None or name not in key.values:
            return False
        del key.values[name]
        return True

    def walk(self, path: str = "") -> Iterator[tuple[str, Key]]:
        """Yield every key below with its path, this one first under ``path``."""
        yield path, self
        for name, child in self.subkeys.items():
            yield from child.walk(f"{path}\\{name}" if path else name)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("\\") if part]


def empty(name: str = "ROOT") -> Key:
    """Return the root of a hive without anything in it."""
    return Key(name)


# --- reading


def load(data: bytes) -> Key:
    """Read a hive file's bytes. Raises HiveError for what is no hive or is damaged."""
    return _Reader(data).root()


class _Reader:
    def __init__(self, data: bytes) -> None:
        if data[:4] != b"regf" or len(data) < _BASE:
            raise HiveError(f"Not a registry hive: it starts with {data[:4]!r} and has {len(data)} bytes")
        (major,) = _U32.unpack_from(data, 0x14)
        if major != 1:
            raise HiveError(f"Registry hive of version {major}; only version 1 is known")
        self._data = data
        self._keys = 0

    def root(self) -> Key:
        (offset,) = _U32.unpack_from(self._data, 0x24)
        return self._key(offset, 0)

    def _cell(self, offset: int) -> memoryview:
        """Return a cell's content without its size."""
        start = _BASE + offset
        if offset == _NONE or start + 4 > len(self._data):
            raise HiveError(f"Damaged registry hive: cell offset {offset:#x} lies outside the file")
        size = abs(_I32.unpack_from(self._data, start)[0])
        if size < 8 or start + size > len(self._data):
            raise HiveError(f"Damaged registry hive: the cell at {offset:#x} has the size {size}")
        return memoryview(self._data)[start + 4 : start + size]

    def _key(self, offset: int, depth: int) -> Key:
        cell = self._cell(offset)
        if len(cell) < _NK.size or bytes(cell[:2]) != b"nk":
            raise HiveError(f"Damaged registry hive: no key at {offset:#x}")
        if depth > _MAX_DEPTH:
            raise HiveError(f"Damaged registry hive: more than {_MAX_DEPTH} keys within each other at {offset:#x}")
        fields = _NK.unpack_from(cell)
        flags, time = fields[1], fields[2]
        subkey_count, subkey_list = fields[5], fields[7]
        value_count, value_list = fields[9], fields[10]
        class_offset, name_length, class_length = fields[12], fields[18], fields[19]
        key = Key(_name(cell[_NK.size : _NK.size + name_length], bool(flags & _COMPRESSED_NAME)), time=time)
        if class_length and class_offset != _NONE:
            key.class_name = bytes(self._cell(class_offset)[:class_length]).decode("utf-16-le", "replace")
        if value_count and value_list != _NONE:
            key.values = Names(self._value(o) for o in self._offsets(value_list, value_count))
        if subkey_count and subkey_list != _NONE:
            children = [self._key(o, depth + 1) for o in self._subkeys(subkey_list, 0)]
            key.subkeys = Names((child.name, child) for child in children)
        return key

    def _offsets(self, offset: int, count: int) -> tuple[int, ...]:
        cell = self._cell(offset)
        if count * 4 > len(cell):
            raise HiveError(f"Damaged registry hive: the list at {offset:#x} is too short for {count} entries")
        return struct.unpack_from(f"<{count}I", cell)

    def _subkeys(self, offset: int, depth: int) -> Iterator[int]:
        cell = self._cell(offset)
        kind = bytes(cell[:2])
        (count,) = _U16.unpack_from(cell, 2)
        step = {b"lh": 8, b"lf": 8, b"li": 4, b"ri": 4}.get(kind)
        if step is None or depth > 4 or 4 + count * step > len(cell):
            raise HiveError(f"Damaged registry hive: no list of keys at {offset:#x} (it says {kind!r}, {count} entries)")
        for index in range(count):
            (entry,) = _U32.unpack_from(cell, 4 + index * step)
            if kind == b"ri":
                yield from self._subkeys(entry, depth + 1)
            else:
                yield entry

    def _value(self, offset: int) -> tuple[str, Value]:
        cell = self._cell(offset)
        if len(cell) < _VK.size or bytes(cell[:2]) != b"vk":
            raise HiveError(f"Damaged registry hive: no value at {offset:#x}")
        dummy, name_length, size, data_offset, kind, flags, dummy = _VK.unpack_from(cell)
        name = _name(cell[_VK.size : _VK.size + name_length], bool(flags & 1))
        if size & 0x80000000:
            data = bytes(cell[8 : 8 + min(size & 0x7FFFFFFF, 4)])
        elif size == 0:
            data = b""
        else:
            data = self._content(data_offset, size)
        return name, Value(kind, data)

    def _content(self, offset: int, size: int) -> bytes:
        cell = self._cell(offset)
        if size > _SEGMENT and bytes(cell[:2]) == b"db":
            count, segment_list = struct.unpack_from("<HI", cell, 2)
            segments = (self._cell(o)[:_SEGMENT] for o in self._offsets(segment_list, count))
            data = b"".join(segments)
        else:
            data = bytes(cell[:size])
        if len(data) < size:
            raise HiveError(f"Damaged registry hive: the data at {offset:#x} has {len(data)} of {size} bytes")
        return data[:size]


def _name(raw: memoryview, compressed: bool) -> str:
    return bytes(raw).decode("latin-1") if compressed else bytes(raw).decode("utf-16-le", "replace")


# --- writing


def dump(root: Key) -> bytes:
    """Return the bytes of a hive file with this key as its root. ValueError for names that the registry cannot hold."""
    return _Writer().hive(root)


class _Writer:
    """Cells go one after the other into bins of 4096 bytes; what does not fit opens a new bin of its own size."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._free = 0  # where the next cell goes
        self._end = 0  # end of the current bin
        self._security = 0
        self._key_count = 0

    def hive(self, root: Key) -> bytes:
        descriptor = _security_descriptor()
        self._security = self._alloc(20 + len(descriptor))
        root_offset = self._key(root, _NONE, 0)
        head = (b"sk", 0, self._security, self._security, self._key_count, len(descriptor))
        self._put(self._security, struct.pack("<2sHIIII", *head) + descriptor)
        self._close_bin()
        return _base_block(root_offset, len(self._data), root.time) + bytes(self._data)

    def _close_bin(self) -> None:
        if self._free < self._end:
            _I32.pack_into(self._data, self._free, self._end - self._free)

    def _alloc(self, length: int) -> int:
        """Take a cell for that many bytes and return its offset."""
        size = (length + 4 + 7) & ~7
        if self._free + size > self._end:
            self._close_bin()
            start = self._end
            bin_size = (size + _BIN_HEADER + _BASE - 1) & ~(_BASE - 1)
            self._data += struct.pack("<4sIIQQI", b"hbin", start, bin_size, 0, 0, 0)
            self._data += bytes(bin_size - _BIN_HEADER)
            self._free, self._end = start + _BIN_HEADER, start + bin_size
        offset = self._free
        _I32.pack_into(self._data, offset, -size)
        self._free += size
        return offset

    def _put(self, offset: int, content: bytes) -> None:
        self._data[offset + 4 : offset + 4 + len(content)] = content

    def _add(self, content: bytes) -> int:
        offset = self._alloc(len(content))
        self._put(offset, content)
        return offset

    def _key(self, key: Key, parent: int, depth: int) -> int:
        if "\\" in key.name or (not key.name and depth) or len(key.name) > 255:
            raise ValueError(f"The registry cannot hold a key of the name {key.name!r}")
        self._key_count += 1
        name, compressed = _encode_name(key.name)
        offset = self._alloc(_NK.size + len(name))
        value_list, longest_name, longest_data = self._values(key.values)
        class_name = key.class_name.encode("utf-16-le")
        class_offset = self._add(class_name) if class_name else _NONE
        children = sorted(key.subkeys.items(), key=lambda item: fold(item[0]))
        offsets = [(self._key(child, offset, depth + 1), child.name) for dummy, child in children]
        record = _NK.pack(
            b"nk",
            (_COMPRESSED_NAME if compressed else 0) | (0 if depth else 0x0C),
            key.time,
            0,
            parent if depth else 0,
            len(offsets),
            0,
            self._list(offsets) if offsets else _NONE,
            _NONE,
            len(key.values),
            value_list,
            self._security,
            class_offset,
            max((len(child.name) * 2 for dummy, child in children), default=0),
            max((len(child.class_name) * 2 for dummy, child in children), default=0),
            longest_name,
            longest_data,
            0,
            len(name),
            len(class_name),
        )
        self._put(offset, record + name)
        return offset

    def _list(self, entries: list[tuple[int, str]]) -> int:
        if len(entries) <= _LIST_LIMIT:
            pairs = b"".join(struct.pack("<II", offset, _hash(name)) for offset, name in entries)
            return self._add(b"lh" + _U16.pack(len(entries)) + pairs)
        parts = [entries[i : i + _LIST_LIMIT] for i in range(0, len(entries), _LIST_LIMIT)]
        lists = [self._list(part) for part in parts]
        return self._add(b"ri" + _U16.pack(len(lists)) + struct.pack(f"<{len(lists)}I", *lists))

    def _values(self, values: Names[Value]) -> tuple[int, int, int]:
        """Write the values; return the list's offset, the longest name and the longest data in bytes."""
        if not values:
            return _NONE, 0, 0
        offsets = [self._value(name, value) for name, value in values.items()]
        longest_name = max(len(name) * 2 for name in values)
        longest_data = max(len(value.data) for value in values.values())
        return self._add(struct.pack(f"<{len(offsets)}I", *offsets)), longest_name, longest_data

    def _value(self, name: str, value: Value) -> int:
        raw_name, compressed = _encode_name(name)
        size = len(value.data)
        if size <= 4:
            length, data = size | 0x80000000, _U32.unpack(value.data.ljust(4, b"\0"))[0]
        else:
            length, data = size, self._content(value.data)
        return self._add(_VK.pack(b"vk", len(raw_name), length, data, value.type, int(compressed), 0) + raw_name)

    def _content(self, data: bytes) -> int:
        if len(data) <= _SEGMENT:
            return self._add(data)
        segments = [self._add(data[i : i + _SEGMENT]) for i in range(0, len(data), _SEGMENT)]
        segment_list = self._add(struct.pack(f"<{len(segments)}I", *segments))
        return self._add(b"db" + struct.pack("<HI", len(segments), segment_list))


def _encode_name(name: str) -> tuple[bytes, bool]:
    try:
        return name.encode("latin-1"), True
    except UnicodeEncodeError:
        return name.encode("utf-16-le"), False


def _hash(name: str) -> int:
    number = 0
    for char in fold(name):
        number = (number * 37 + ord(char)) & 0xFFFFFFFF
    return number


def _security_descriptor() -> bytes:
    """Owner and group Administrators; full control for SYSTEM and Administrators, read for Users; inherited below."""
    administrators = bytes.fromhex("01020000000000052000000020020000")
    users = bytes.fromhex("01020000000000052000000021020000")
    system = bytes.fromhex("010100000000000512000000")
    entries = b"".join(
        struct.pack("<BBHI", 0, 2, 8 + len(sid), mask) + sid
        for sid, mask in ((system, 0xF003F), (administrators, 0xF003F), (users, 0x20019))
    )
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 3, 0) + entries
    owner = 20 + len(acl)
    head = struct.pack("<BBHIIII", 1, 0, 0x8004, owner, owner + len(administrators), 0, 20)
    return head + acl + administrators + administrators


def _base_block(root_offset: int, size: int, time: int) -> bytes:
    block = bytearray(_BASE)
    struct.pack_into("<4sIIQIIIIIII", block, 0, b"regf", 1, 1, time, 1, 5, 0, 1, root_offset, size, 1)
    checksum = 0
    for (word,) in struct.iter_unpack("<I", block[:508]):
        checksum ^= word
    _U32.pack_into(block, 508, {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(checksum, checksum))
    return bytes(block)
