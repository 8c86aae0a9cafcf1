# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files out of ISOs that other programs wrote: pycdlib (UDF), xorriso (ISO 9660 and Joliet)."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import iso
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.extents import DamagedMedium
from media_files import README, write_udf_iso

BIG = bytes(range(256)) * 900


@pytest.fixture
def udf_iso(tmp_path: Path) -> Path:
    path = tmp_path / "windows.iso"
    files = {"sources/boot.wim": BIG, "boot/boot.sdi": b"sdi", "sources/leer.txt": b"", "sources/größe.txt": "ä".encode()}
    write_udf_iso(path, files | {f"many/file {number:04d} with a long name.txt": str(number).encode() for number in range(300)})
    return path


def read(path: Path, name: str) -> bytes:
    with path.open("rb") as medium, iso.find(medium, name).open(medium) as file:
        return file.read()


def test_files_only_udf_has(udf_iso: Path) -> None:
    assert iso.is_iso(udf_iso)
    assert read(udf_iso, "SOURCES/Boot.WIM") == BIG
    assert read(udf_iso, r"\boot\boot.sdi") == b"sdi"
    assert read(udf_iso, "sources/leer.txt") == b""
    assert read(udf_iso, "sources/größe.txt") == "ä".encode()
    assert read(udf_iso, "many/file 0299 with a long name.txt") == b"299"


def test_the_iso_9660_side_holds_nothing_but_the_readme(udf_iso: Path) -> None:
    with udf_iso.open("rb") as medium:
        volume = iso.Iso9660(medium)
        assert [(node.name, node.open(medium).read()) for node in volume.children(volume.root)] == [("README.TXT", README)]


def test_reading_in_pieces(udf_iso: Path) -> None:
    with udf_iso.open("rb") as medium, iso.find(medium, "sources/boot.wim").open(medium) as file:
        assert file.seek(-10, os.SEEK_END) == len(BIG) - 10
        assert file.read() == BIG[-10:]
        file.seek(1000)
        assert file.read(70_000) == BIG[1000:71_000]


def test_what_is_not_there_is_named(udf_iso: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'sources/install.wim' is not there; 'sources' has: boot.wim"):
        read(udf_iso, "sources/install.wim")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read(udf_iso, "sources")


def test_a_medium_that_was_cut_off(udf_iso: Path) -> None:
    data = udf_iso.read_bytes()
    udf_iso.write_bytes(data[: 200 * 2048])
    with pytest.raises(DamagedMedium, match="cut off"):
        read(udf_iso, "sources/boot.wim")
    udf_iso.write_bytes(b"no iso")
    assert not iso.is_iso(udf_iso)
    with pytest.raises(DamagedMedium, match="no ISO file"):
        read(udf_iso, "sources/boot.wim")


def test_damaged_media_end_in_two_errors_only(udf_iso: Path) -> None:
    good = bytearray(udf_iso.read_bytes())
    used = next(at for at in range(len(good) - 2048, 0, -2048) if any(good[at : at + 2048]))
    chance = random.Random(5)
    for dummy in range(300):
        data = bytearray(good)
        for dummy in range(40):
            data[chance.randrange(32768, used)] = chance.randrange(256)
        udf_iso.write_bytes(data)
        try:
            read(udf_iso, "many/file 0299 with a long name.txt")
        except (DamagedMedium, FileNotFoundError):
            continue


def test_a_directory_that_names_a_huge_size(udf_iso: Path) -> None:
    with udf_iso.open("rb") as medium:
        node = iso.find(medium, "sources/boot.wim")
    damaged = type(node)("x", 1 << 40, node.extents, is_directory=True)
    with udf_iso.open("rb") as medium, pytest.raises(DamagedMedium):
        list(iso.Iso9660(medium).children(damaged))


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
@pytest.mark.parametrize("options", [["-J", "-joliet-long"], []])
def test_iso_9660_by_xorriso(tmp_path: Path, options: list[str]) -> None:
    tree = tmp_path / "tree" / "sources"
    tree.mkdir(parents=True)
    (tree / "boot.wim").write_bytes(BIG)
    for number in range(100):
        (tree / f"file{number}.txt").write_text(str(number))
    target = tmp_path / "x.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-iso-level", "3", *options, "-o", target, tree.parent], check=True)
    assert read(target, "sources/boot.wim") == BIG
    assert read(target, "sources/file99.txt") == b"99"


@pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage is not installed")
def test_udf_by_genisoimage(tmp_path: Path) -> None:
    """UDF 1.02, as Microsoft's tool writes it: short descriptors, no extended entries. ``-hide`` takes the file out of ISO 9660."""
    tree = tmp_path / "tree"
    for name, data in {"sources/boot.wim": BIG, **{f"many/{number} größe.txt": str(number).encode() for number in range(200)}}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    target = tmp_path / "x.iso"
    subprocess.run(["genisoimage", "-quiet", "-udf", "-input-charset", "utf-8", "-hide", "boot.wim", "-o", target, tree], check=True)
    assert read(target, "sources/boot.wim") == BIG
    assert read(target, "many/199 größe.txt") == b"199"
    with target.open("rb") as medium:
        volume = iso.Iso9660(medium)
        dummy, sources = volume.children(volume.root)
        assert (sources.name.lower(), list(volume.children(sources))) == ("sources", [])


def test_a_file_in_several_extents(tmp_path: Path) -> None:
    def record(flags: int, block: int, size: int, name: bytes) -> bytes:
        odd = (len(name) + 1) % 2
        head = struct.pack("<BBIxxxxIxxxx7sBBBHxxB", 33 + len(name) + odd, 0, block, size, bytes(7), flags, 0, 0, 1, len(name))
        return head + name + bytes(odd)

    descriptor = bytearray(2048)
    descriptor[0:7] = b"\1CD001\1"
    descriptor[156:190] = record(2, 20, 2048, b"\0")
    entries = record(2, 20, 2048, b"\0") + record(2, 20, 2048, b"\1") + record(0x80, 21, 2048, b"A.WIM;1") + record(0, 23, 5, b"A.WIM;1")
    sectors = [bytes(2048)] * 16 + [bytes(descriptor), b"\xffCD001\1".ljust(2048, b"\0"), bytes(2048), bytes(2048)]
    sectors += [entries.ljust(2048, b"\0"), b"a" * 2048, bytes(2048), b"bbbbb".ljust(2048, b"\0")]
    path = tmp_path / "two.iso"
    path.write_bytes(b"".join(sectors))
    assert read(path, "a.wim") == b"a" * 2048 + b"bbbbb"
