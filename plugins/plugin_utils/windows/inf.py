# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Driver INF files: reading them, and which of their models count for one Windows.

Rules: [doc: wdd/install inf-version-section, inf-manufacturer-section, inf-models-section, combining-platform-
extensions]. Sections are split at once and read when asked for: a graphics driver's INF has thousands of sections
nobody needs here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

#: Undecorated models sections count for this architecture only, since Server 2003 SP1.
_UNDECORATED_ARCHITECTURE = "x86"
ARCHITECTURES = frozenset({"x86", "amd64", "arm", "arm64", "ia64"})
DEFAULT_FEATURE_SCORE = 0xFF


class InfError(ValueError):
    """A file that is no INF file, with the reason."""


@dataclass(frozen=True)
class TargetWindows:
    """The Windows that drivers are chosen for. ``product_type`` 1 workstation, 2 domain controller, 3 server."""

    architecture: str
    version: tuple[int, int] = (10, 0)
    build: int = 0
    product_type: int = 1
    suite_mask: int = 0


@dataclass(frozen=True)
class Decoration:
    """A TargetOSVersion: ``NT[arch][.major[.minor[.product type[.suite mask[.build]]]]]``. Empty fields are None."""

    architecture: str | None = None
    major: int | None = None
    minor: int | None = None
    product_type: int | None = None
    suite_mask: int | None = None
    build: int | None = None

    @classmethod
    def parse(cls, text: str) -> Decoration | None:
        """Parse a decoration; None where it is none (``$ARCH$`` of a template, for example)."""
        head, *fields = text.strip().lower().split(".")
        if not head.startswith("nt") or len(fields) > 5:
            return None
        architecture = head[2:] or None
        if architecture is not None and architecture not in ARCHITECTURES:
            return None
        try:
            numbers = [int(part, 0) if part else None for part in fields]
        except ValueError:
            return None
        return cls(architecture, *numbers)

    def applies_to(self, target: TargetWindows) -> bool:
        """Tell whether a section of this decoration may be used.

        A build is a minimum, and only for the same major and minor.
        """
        if (self.architecture or _UNDECORATED_ARCHITECTURE) != target.architecture:
            return False
        if self.product_type is not None and self.product_type != target.product_type:
            return False
        if self.suite_mask is not None and not self.suite_mask & target.suite_mask:
            return False
        version = (self.major or 0, self.minor or 0)
        if version > target.version:
            return False
        return not (version == target.version and self.build is not None and self.build > target.build)

    def closeness(self, target: TargetWindows) -> tuple[int, ...]:
        """Return a key that is higher the closer the decoration is.

        Version, build, product type, suite, architecture.
        """
        version = (self.major or 0, self.minor or 0)
        build = self.build or 0 if version == target.version else 0
        named = (self.product_type is not None, self.suite_mask is not None, self.architecture is not None)
        return (*version, build, *(int(flag) for flag in named))


@dataclass(frozen=True)
class Entry:
    """One line of a section: the key before ``=`` ('' without one) and the fields after it; strings are filled in."""

    key: str
    values: tuple[str, ...]

    def value(self, position: int) -> str:
        """Return a field, '' where the line is shorter."""
        return self.values[position] if position < len(self.values) else ""


@dataclass(frozen=True)
class Model:
    """One line of a models section. Identifiers keep their case; the first may be ''."""

    description: str
    install_section: str
    hardware_id: str
    compatible_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionSection:
    """What the Version section says. ``driver_date`` is None and ``driver_version`` () without a usable DriverVer."""

    signature: str = ""
    device_class: str = ""
    class_guid: str = ""
    provider: str = ""
    driver_date: date | None = None
    driver_version: tuple[int, ...] = ()
    extension_id: str = ""
    catalogs: Mapping[str, str] = field(default_factory=dict)

    def catalog(self, architecture: str) -> str:
        """Return the catalogue for an architecture.

        ``CatalogFile.nt<arch>``, then ``.nt``, then ``CatalogFile``; '' is unsigned.
        """
        for suffix in (f".nt{architecture}", ".nt", ""):
            if self.catalogs.get(suffix):
                return self.catalogs[suffix]
        return ""


class Inf:
    """One INF file. Section names and keys ignore case; sections of one name are one section."""

    def __init__(self, content: bytes) -> None:
        """Split the file. Raises InfError for a file without sections."""
        self._sections = _split(decode(content))
        if not self._sections:
            raise InfError("no section")
        self._strings: dict[str, str] | None = None

    def __contains__(self, section: str) -> bool:
        """Tell whether there is such a section."""
        return section.lower() in self._sections

    @property
    def section_names(self) -> tuple[str, ...]:
        """The names of all sections, lower case, in the file's order."""
        return tuple(self._sections)

    def entries(self, section: str) -> list[Entry]:
        """Return the lines of a section, [] where there is none."""
        strings = self.strings
        return [_entry(line, strings) for line in _logical_lines(self._sections.get(section.lower(), []))]

    @property
    def strings(self) -> Mapping[str, str]:
        """The ``%token%`` texts by lower-case name: [Strings], and English where it has no such section."""
        if self._strings is None:
            lines = self._sections.get("strings") or self._sections.get("strings.0409") or []
            raw = [_entry(line, {}) for line in _logical_lines(lines)]
            # Of a name that stands there twice the first counts, as for setupapi under Wine [wine].
            self._strings = {entry.key.lower(): entry.value(0) for entry in reversed(raw) if entry.key}
        return self._strings

    @cached_property
    def version(self) -> VersionSection:
        """What the Version section says."""
        fields: dict[str, Entry] = {}
        for entry in self.entries("version"):
            fields.setdefault(entry.key.lower(), entry)

        def first(key: str) -> str:
            return fields[key].value(0) if key in fields else ""

        when, number = _driver_version(fields.get("driverver"))
        catalogs = {key.removeprefix("catalogfile"): fields[key].value(0) for key in fields if key.startswith("catalogfile")}
        return VersionSection(
            signature=first("signature"),
            device_class=first("class"),
            class_guid=first("classguid").lower(),
            provider=first("provider"),
            driver_date=when,
            driver_version=number,
            extension_id=first("extensionid").lower(),
            catalogs=catalogs,
        )

    def models_sections(self, target: TargetWindows) -> list[str]:
        """Return the models section of each manufacturer that counts for a Windows.

        One that does not exist stands for 'no models'.
        """
        chosen = (_models_section(entry, target) for entry in self.entries("manufacturer"))
        return list(dict.fromkeys(name for name in chosen if name))

    def models(self, target: TargetWindows) -> list[Model]:
        """Return the models for a Windows.

        An empty chosen section excludes the manufacturer's devices on that Windows.
        """
        return [
            Model(entry.key, entry.value(0), entry.value(1), tuple(value for value in entry.values[2:] if value))
            for section in self.models_sections(target)
            for entry in self.entries(section)
            if len(entry.values) > 1
        ]

    def install_section(self, name: str, architecture: str) -> str:
        """Return the install section that Windows uses.

        ``name.nt<arch>``, ``name.nt``, ``name``; '' where none exists.
        """
        for candidate in (f"{name}.nt{architecture}", f"{name}.nt", name):
            if candidate in self:
                return candidate
        return ""

    def feature_score(self, install_section: str) -> int:
        """Return FeatureScore (0 best, 255 worst and default) of an install section."""
        for line in self._sections.get(install_section.lower(), []):
            if "featurescore" in line.lower():
                entry = _entry(_strip_comment(line), self.strings)
                if entry.key.lower() == "featurescore":
                    return _hexadecimal(entry.value(0))
        return DEFAULT_FEATURE_SCORE


def decode(content: bytes) -> str:
    """Return an INF's text.

    UTF-16 or UTF-8 by its mark, UTF-16 without one by its zero bytes, otherwise UTF-8 or Windows-1252.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if content.startswith(b"\xef\xbb\xbf"):
        return content[3:].decode("utf-8", "replace")
    if content[1:200:2].count(0) > len(content[1:200:2]) // 2:
        return content.decode("utf-16-le", "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _split(text: str) -> dict[str, list[str]]:
    """Split into sections of raw lines; comment lines and empty ones are left out."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for raw in re.split(r"\r\n|\r|\n", text):
        line = raw.strip(" \t\x00\x1a\ufeff")
        if not line or line[0] == ";":
            continue
        if line[0] == "[":
            end = line.find("]")
            if end > 0:
                current = sections.setdefault(line[1:end].strip().lower(), [])
                continue
        if current is not None:
            current.append(line)
    return sections


def _logical_lines(lines: list[str]) -> Iterator[str]:
    """Strip comments and join lines that end with a backslash."""
    pending = ""
    for raw in lines:
        line = _strip_comment(raw) if ";" in raw else raw
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        yield pending + line
        pending = ""
    if pending:
        yield pending


def _strip_comment(line: str) -> str:
    quoted = False
    for position, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == ";" and not quoted:
            return line[:position].rstrip()
    return line


_TOKEN = re.compile(r"%([^%]*)%")


def _entry(line: str, strings: Mapping[str, str]) -> Entry:
    if '"' not in line:
        key, separator, rest = line.partition("=")
        if not separator:
            key, rest = "", line
        fields = rest.split(",") if rest.strip() else []
        return Entry(_fill(key.strip(), strings), tuple(_fill(part.strip(), strings) for part in fields))
    key_text, rest = _split_key(line)
    return Entry(_fill(_unquote(key_text), strings), tuple(_fill(_unquote(part), strings) for part in _split_fields(rest)))


def _fill(text: str, strings: Mapping[str, str]) -> str:
    """Put strings in place of ``%token%``; ``%%`` is a percent sign; an unknown token stays as it is."""
    if "%" not in text:
        return text
    return _TOKEN.sub(lambda match: strings.get(match[1].lower().strip(), match[0]) if match[1] else "%", text)


def _split_key(line: str) -> tuple[str, str]:
    quoted = False
    for position, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "=" and not quoted:
            return line[:position], line[position + 1 :]
    return "", line


def _split_fields(text: str) -> list[str]:
    fields, start, quoted = [], 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append(text[start:position])
            start = position + 1
    fields.append(text[start:])
    return fields


def _unquote(text: str) -> str:
    """Take the quotes off; two inside quotes are one; a closing one may be missing at the line's end."""
    text = text.strip()
    if '"' not in text:
        return text
    parts, quoted, position = [], False, 0
    while position < len(text):
        character = text[position]
        if character == '"' and quoted and text[position + 1 : position + 2] == '"':
            parts.append('"')
            position += 1
        elif character == '"':
            quoted = not quoted
        else:
            parts.append(character)
        position += 1
    return "".join(parts)


def _driver_version(entry: Entry | None) -> tuple[date | None, tuple[int, ...]]:
    """Read ``mm/dd/yyyy[,w.x.y.z]``; a template's placeholder gives nothing."""
    if entry is None:
        return None, ()
    numbers = re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", entry.value(0))
    when = None
    if numbers:
        month, day, year = (int(part) for part in numbers.groups())
        try:
            when = date(year, month, day)
        except ValueError:
            when = None
    text = entry.value(1)
    number = tuple(int(part) for part in text.split(".")) if re.fullmatch(r"\d{1,9}(\.\d{1,9}){0,7}", text) else ()
    return when, number


def _models_section(entry: Entry, target: TargetWindows) -> str:
    """Choose the closest decorated section of one manufacturer; '' where none counts for this Windows."""
    base = entry.value(0)
    if not base:
        return ""
    best: tuple[tuple[int, ...], str] | None = None
    if target.architecture == _UNDECORATED_ARCHITECTURE:
        best = ((-1,), base)
    for text in entry.values[1:]:
        decoration = Decoration.parse(text)
        if decoration is None or not decoration.applies_to(target):
            continue
        key = decoration.closeness(target)
        if best is None or key > best[0]:
            best = (key, f"{base}.{text.strip()}")
    return best[1] if best else ""


def _hexadecimal(text: str) -> int:
    try:
        score = int(text, 16)
    except ValueError:
        return DEFAULT_FEATURE_SCORE
    return score if 0 <= score <= 0xFF else DEFAULT_FEATURE_SCORE
