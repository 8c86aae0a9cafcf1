# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WIM files: our reader and our XML writer against wimlib-imagex, and against files of other makers."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import image as im
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.image import ImageError

CORPORA = Path(os.environ.get("CORPORA") or Path(__file__).parents[3].resolve().parent / "shared" / "corpora")
SAMPLES = sorted((CORPORA / "wim").rglob("*.*wim")) + sorted((CORPORA / "wim").rglob("*.swm"))
wimlib = pytest.mark.skipif(not shutil.which("wimlib-imagex"), reason="wimlib-imagex (wimtools) is not installed")


def run(*argv: object) -> str:
    return subprocess.run([str(a) for a in argv], capture_output=True, check=True).stdout.decode()


@pytest.fixture(scope="module")
def wim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Windows with hives of our own, captured by wimlib, with an integrity table."""
    folder = tmp_path_factory.mktemp("windows")
    system32 = folder / "tree" / "Windows" / "System32"
    (system32 / "config").mkdir(parents=True)
    stub = bytearray(1024)
    stub[0:2], stub[0x3C], stub[0x80:0x86] = b"MZ", 0x80, b"PE\0\0\x64\x86"
    (system32 / "kernel32.dll").write_bytes(stub)
    software, system = rh.empty(), rh.empty()
    version = r"Microsoft\Windows NT\CurrentVersion"
    software.set_string(version, "EditionID", "Enterprise")
    software.set_string(version, "ProductName", "Windows 10 Enterprise")
    software.set_string(version, "CurrentBuild", "26100")
    software.set_dword(version, "CurrentMajorVersionNumber", 10)
    software.set_dword(version, "CurrentMinorVersionNumber", 0)
    system.create(r"ControlSet001\Control\MUI\UILanguages\fr-FR")
    system.set_string(r"ControlSet001\Control\Nls\Language", "InstallLanguage", "040c")
    (system32 / "config" / "SOFTWARE").write_bytes(rh.dump(software))
    (system32 / "config" / "SYSTEM").write_bytes(rh.dump(system))
    path = folder / "install.wim"
    run("wimlib-imagex", "capture", folder / "tree", path, "Référence", "First & only", "--check", "--quiet")
    return path


@wimlib
def test_facts_of_an_image(wim: Path) -> None:
    found = im.read_wim_file(wim)
    assert (found.header.image_count, found.header.part, found.header.parts) == (1, 1, 1)
    assert found.header.compression == "LZX"
    assert found.header.has_integrity
    image = found.image(1)
    assert (image.name, image.description) == ("Référence", "First & only")
    assert (image.architecture, image.edition, image.build) == ("x64", "Enterprise", 26100)
    assert image.version.startswith("10.0.26100")
    assert image.languages == ("fr-FR",)
    assert image.is_windows
    assert not image.is_windows_pe
    assert image.total_bytes > 1024
    assert image.created is not None
    assert image.created.year >= 2024
    with pytest.raises(KeyError):
        found.image(2)


@wimlib
def test_new_xml_is_what_wimlib_reads_and_the_integrity_table_holds(wim: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.wim"
    shutil.copy(wim, copy)
    before = im.read_wim_file(copy)
    xml = im.edit_xml(before.xml, 1, {"DISPLAYNAME": "Büro", "DESCRIPTION": ""}, {"CREATEDBY": "Zoé", "VERSION": "2026.11"})
    with open(copy, "r+b") as file:
        im.set_xml(file, xml)
    after = im.read_wim_file(copy).image(1)
    assert (after.display_name, after.description) == ("Büro", "")
    assert after.properties == {"CREATEDBY": "Zoé", "VERSION": "2026.11"}
    assert after.total_bytes == before.image(1).total_bytes
    run("wimlib-imagex", "verify", copy)
    assert "Büro" in run("wimlib-imagex", "info", copy, 1)
    assert "<CREATEDBY>Zoé</CREATEDBY>" in subprocess.run(
        ["wimlib-imagex", "info", str(copy), "--xml"], capture_output=True, check=True
    ).stdout.decode("utf-16")
    # Someone else goes on writing into it, and our elements stay.
    run("wimlib-imagex", "append", wim.parent / "tree", copy, "second", "--quiet")
    again = im.read_wim_file(copy)
    assert [i.name for i in again.images] == ["Référence", "second"]
    assert again.image(1).properties["VERSION"] == "2026.11"
    run("wimlib-imagex", "verify", copy)


@wimlib
def test_until_the_header_is_written_the_file_is_as_it_was(wim: Path) -> None:
    data = wim.read_bytes()
    before = im.read_wim(io.BytesIO(data))
    first, second = im.xml_patch(before.header, len(data), im.edit_xml(before.xml, 1, {"NAME": "other"}))
    assert first[0] == len(data)
    halfway = data + first[1]
    assert im.read_wim(io.BytesIO(halfway)).image(1).name == "Référence"
    done = bytearray(halfway)
    done[second[0] : second[0] + len(second[1])] = second[1]
    assert im.read_wim(io.BytesIO(bytes(done))).image(1).name == "other"


@wimlib
def test_pipable_files_are_named(wim: Path, tmp_path: Path) -> None:
    run("wimlib-imagex", "export", wim, 1, tmp_path / "pipe.wim", "--pipable", "--quiet")
    with pytest.raises(ImageError, match="pipable"):
        im.read_wim_file(tmp_path / "pipe.wim")


@wimlib
def test_a_file_that_is_cut_off_is_refused(wim: Path) -> None:
    data = wim.read_bytes()
    for length in (0, 100, 208, len(data) // 2, len(data) - 20_000):
        with pytest.raises(ImageError):
            im.read_wim(io.BytesIO(data[: max(length, 0)]))


def test_what_is_no_wim_is_refused() -> None:
    with pytest.raises(ImageError, match="no WIM"):
        im.read_wim(io.BytesIO(b"PK" + bytes(400)))
    unfinished = bytearray(208)
    unfinished[:16] = b"MSWIM\0\0\0" + (208).to_bytes(4, "little") + (0x10D00).to_bytes(4, "little")
    with pytest.raises(ImageError, match="never finished"):
        im.read_wim(io.BytesIO(bytes(unfinished)))


def test_unknown_elements_survive_an_edit() -> None:
    xml = '<WIM><IMAGE INDEX="1"><NAME>a</NAME><X y="1"><Z/></X></IMAGE><IMAGE INDEX="2"><NAME>b</NAME></IMAGE></WIM>'
    edited = im.edit_xml(("\ufeff" + xml).encode("utf-16-le"), 2, {"NAME": "c"})
    assert '<X y="1"><Z /></X>' in edited.decode("utf-16")
    assert [i.name for i in im.parse_xml(edited)] == ["a", "c"]
    with pytest.raises(KeyError):
        im.edit_xml(edited, 3, {"NAME": "d"})


@pytest.mark.skipif(not SAMPLES, reason="no corpora of WIM files here")
@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_foreign_files(path: Path) -> None:
    found = im.read_wim_file(path)
    listed = run("wimlib-imagex", "info", path, "--header")
    fields = {k.strip(): v.strip() for k, dummy, v in (line.partition("=") for line in listed.splitlines()) if v}
    assert found.header.image_count == int(fields["Image Count"])
    assert found.header.guid.bytes_le.hex() == fields["GUID"].removeprefix("0x")
    assert found.header.boot_index == int(fields["Boot Index"])
    assert f"{found.header.part}/{found.header.parts}" == fields["Part Number"] + "/" + fields["Total Parts"]
