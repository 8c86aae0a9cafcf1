# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""INF files: syntax, encodings, and which models section counts for which Windows."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.inf import Decoration, Entry, Inf, InfError, TargetWindows

WIN11 = TargetWindows("amd64", (10, 0), 22621, 1)
SERVER = TargetWindows("amd64", (10, 0), 20348, 3)
WIN7_X86 = TargetWindows("x86", (6, 1), 7601, 1)

TEXT = r"""
; a comment; with [brackets]
[Version]
Signature = "$WINDOWS NT$" ; after a value
Class=Net
ClassGuid={4D36E972-E325-11CE-BFC1-08002BE10318}
Provider=%Maker%
CatalogFile=plain.cat
CatalogFile.NTamd64=wide.cat
DriverVer=05/01/2024,1.2.3.4

[Manufacturer]
%Maker% = Nic, NTamd64, NTamd64.10.0...16299, NTamd64.10.0.3, NTx86
"Second; Maker" = Other,NTamd64

[Nic]
%Nic.Desc% = Old, PCI\VEN_0001
[Nic.NTamd64]
%Nic.Desc% = Base, PCI\VEN_1234&DEV_0001
[NIC.ntamd64.10.0...16299]
%Nic.Desc% = New.Install, PCI\VEN_1234&DEV_0002, PCI\VEN_1234&DEV_0003, \
   PCI\CC_0200
%Nic.Desc%=NoHardwareId,,PCI\CC_0200
[Nic.NTamd64.10.0.3]
; excluded on servers
[Other.NTamd64]
"A ""quoted"", name" = Install,"USB\VID_0001&PID_0002"
50%%=Install,USB\VID_0003&PID_%Pid%

[New.Install]
FeatureScore=12
[New.Install.NT]
FeatureScore=0xFC
[New.Install.NTamd64]
AddReg=x
FeatureScore=F8

[Strings]
Maker = "Goldimage Test"
nic.desc = Adapter   ; text
[strings]
Pid = "00FF"
"""


def inf(text: str = TEXT, encoding: str = "utf-8") -> Inf:
    return Inf(text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_encoding(encoding: str) -> None:
    text = TEXT.replace("Adapter", "Adaptér") if encoding != "utf-16-be" else TEXT
    content = text.encode(encoding)
    if encoding == "utf-16-be":
        content = b"\xfe\xff" + content
    parsed = Inf(content)
    assert parsed.version.provider == "Goldimage Test"
    assert parsed.models(WIN11)[0].description in ("Adapter", "Adaptér")
    assert encoding == "utf-16-be" or parsed.models(WIN11)[0].description == "Adaptér"


def test_line_ends_do_not_matter() -> None:
    assert inf(TEXT.replace("\n", "\r\n")).models(WIN11) == inf().models(WIN11)


def test_version_section() -> None:
    version = inf().version
    assert version.signature == "$WINDOWS NT$"
    assert version.device_class == "Net"
    assert version.class_guid == "{4d36e972-e325-11ce-bfc1-08002be10318}"
    assert version.driver_date == date(2024, 5, 1)
    assert version.driver_version == (1, 2, 3, 4)
    assert version.catalog("amd64") == "wide.cat"
    assert version.catalog("arm64") == "plain.cat"
    bare = inf("[Version]\nCatalogFile.nt=nt.cat\nDriverVer=13/45/2024\n").version
    assert bare.catalog("x86") == "nt.cat"
    assert bare.driver_date is None
    assert bare.driver_version == ()
    assert inf("[Version]\nClass=x\n").version.catalog("amd64") == ""


def test_the_closest_section_counts() -> None:
    models = inf().models(WIN11)
    assert [model.install_section for model in models] == ["New.Install", "NoHardwareId", "Install", "Install"]
    assert models[0].hardware_id == r"PCI\VEN_1234&DEV_0002"
    assert models[0].compatible_ids == (r"PCI\VEN_1234&DEV_0003", r"PCI\CC_0200")
    assert models[1].hardware_id == ""
    assert models[2].description == 'A "quoted", name'
    assert models[3].description == "50%"
    assert models[3].hardware_id == r"USB\VID_0003&PID_00FF"


def test_build_minimum_product_type_and_architecture() -> None:
    old = TargetWindows("amd64", (10, 0), 14393, 1)
    assert inf().models(old)[0].install_section == "Base"
    assert inf().models_sections(SERVER) == ["Nic.NTamd64.10.0...16299", "Other.NTamd64"]
    old_server = TargetWindows("amd64", (10, 0), 14393, 3)
    assert inf().models_sections(old_server)[0] == "Nic.NTamd64.10.0.3"
    assert [m.install_section for m in inf().models(old_server)] == ["Install", "Install"]
    assert inf().models(TargetWindows("arm64", (10, 0), 22621, 1)) == []
    assert inf().models_sections(WIN7_X86) == ["Nic.NTx86", "Other"]


def test_undecorated_sections_are_for_x86_only() -> None:
    text = "[Manufacturer]\nM=Models\n[Models]\nD=I,ID\\1\n"
    assert len(inf(text).models(WIN7_X86)) == 1
    assert inf(text).models(WIN11) == []


@pytest.mark.parametrize(
    ("text", "target", "applies"),
    [
        ("NTamd64", WIN11, True),
        ("ntAMD64.10.0", WIN11, True),
        ("NTamd64.10.1", WIN11, False),
        ("NTamd64.6.1", WIN11, True),
        ("NTamd64.6.3...99999", WIN11, True),
        ("NTamd64.10.0...22000", WIN11, True),
        ("NTamd64.10.0...26100", WIN11, False),
        ("NTamd64...1", WIN11, True),
        ("NTamd64...3", WIN11, False),
        ("NTamd64.10.0.0x3", SERVER, True),
        ("NTamd64.10.0..0x10", WIN11, False),
        ("NTarm64", WIN11, False),
        ("NT", WIN11, False),
        ("NT.6.0", WIN7_X86, True),
        ("NTx86.5.1", WIN7_X86, True),
    ],
)
def test_decorations(text: str, target: TargetWindows, applies: bool) -> None:
    decoration = Decoration.parse(text)
    assert decoration is not None
    assert decoration.applies_to(target) is applies


@pytest.mark.parametrize("text", ["NT$ARCH$", "amd64", "NTamd64.x", "NTamd64.1.2.3.4.5.6", "", "NTmips"])
def test_no_decoration(text: str) -> None:
    assert Decoration.parse(text) is None


def test_install_section_and_feature_score() -> None:
    parsed = inf()
    assert parsed.install_section("new.install", "amd64") == "new.install.ntamd64"
    assert parsed.install_section("New.Install", "arm64") == "New.Install.nt"
    assert parsed.install_section("Base", "amd64") == ""
    assert parsed.feature_score("New.Install.NTamd64") == 0xF8
    assert parsed.feature_score("New.Install.NT") == 0xFC
    assert parsed.feature_score("New.Install") == 0x12
    assert parsed.feature_score("Base") == 0xFF


def test_syntax_details() -> None:
    parsed = inf('[A]\nkey = a , "b;c" , "d, e" ; x\nalone\n"open = 1\n[ A ]\n,,x\n[B\nlost=1\n%unknown%=%unknown%\n')
    assert parsed.entries("a") == [
        Entry("key", ("a", "b;c", "d, e")),
        Entry("", ("alone",)),
        Entry("", ("open = 1",)),
        Entry("", ("", "", "x")),
        Entry("", ("[B",)),
        Entry("lost", ("1",)),
        Entry("%unknown%", ("%unknown%",)),
    ]
    assert parsed.entries("missing") == []
    assert parsed.entries("a")[0].value(7) == ""


def test_english_strings_where_there_are_no_others() -> None:
    assert inf("[V]\na=%T%\n[Strings.0409]\nT=text\n").entries("v")[0].value(0) == "text"


def test_no_inf() -> None:
    for content in (b"", b"MZ\x90\x00", b"just text\n"):
        with pytest.raises(InfError):
            Inf(content)


def test_foreign_files_all_parse(corpora: Path, foreign_file) -> None:
    files = sorted(path for path in (corpora / "inf").rglob("*") if path.suffix.lower() in (".inf", ".inx"))
    assert files
    models = 0
    for path in files:
        parsed = Inf(foreign_file(path).read_bytes())
        assert "version" in parsed
        assert parsed.version.device_class
        for architecture in ("x86", "amd64", "arm64"):
            found = parsed.models(TargetWindows(architecture, (10, 0), 22621, 1))
            models += len(found)
            assert not [m for m in found if "%" in m.hardware_id], path
            if path.suffix.lower() == ".inf":
                assert all("\\" in i or i[0] in "*{" or len(i) > 3 for m in found for i in (m.hardware_id, *m.compatible_ids) if i), path
    assert models > 15_000
