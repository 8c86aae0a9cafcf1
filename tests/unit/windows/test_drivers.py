# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows' ranking of drivers, and what is chosen for which device."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import drivers
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.drivers import (
    Device,
    DriverIndex,
    DriverModel,
    DriverPackage,
    MatchKind,
    choose,
    rank,
    read_devices,
    read_package,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.inf import Model, TargetWindows
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeWindows

WIN11 = TargetWindows("amd64", (10, 0), 22621, 1)
HW = (r"PCI\VEN_1&DEV_2&SUBSYS_3", r"PCI\VEN_1&DEV_2")
COMPATIBLE = (r"PCI\VEN_1&CC_0200", r"PCI\CC_0200")
NIC = Device(r"PCI\VEN_1&DEV_2\0", "Network controller", HW, COMPATIBLE, "Net", "Maker", 28)


def package(path: str, *models: tuple[str, tuple[str, ...]], signature: int = 0x0D, feature: int = 0xFF, **given: Any) -> DriverPackage:
    rows = tuple(DriverModel(Model("x", "i", hardware, compatible), feature, signature) for hardware, compatible in models)
    facts: dict[str, Any] = {
        "source": 1,
        "device_class": "Net",
        "class_guid": "",
        "provider": "P",
        "catalog": "x.cat" if signature == 0x0D else "",
        "date": date(2024, 1, 1),
        "version": (1, 0),
        "extension_id": "",
    }
    return DriverPackage(path=path, models=rows, **{**facts, **given})


def index(*packages: DriverPackage) -> DriverIndex:
    made = DriverIndex()
    for item in packages:
        made.add(item)
    return made


def chosen(*packages: DriverPackage, **given: Any) -> list[str]:
    return [item.path for item in choose(index(*packages), [NIC], **given).packages]


@pytest.mark.parametrize(
    ("kind", "device", "inf", "expected"),
    [
        (MatchKind.HARDWARE_HARDWARE, 0, 0, 0x0DFF0000),
        (MatchKind.HARDWARE_HARDWARE, 3, 0, 0x0DFF0003),
        (MatchKind.HARDWARE_COMPATIBLE, 2, 5, 0x0DFF1002),
        (MatchKind.COMPATIBLE_HARDWARE, 1, 0, 0x0DFF2001),
        (MatchKind.COMPATIBLE_COMPATIBLE, 1, 2, 0x0DFF3201),
        (MatchKind.HARDWARE_HARDWARE, 9999, 0, 0x0DFF0FFF),
    ],
)
def test_the_table_of_ranks(kind: MatchKind, device: int, inf: int, expected: int) -> None:
    assert rank(DriverModel(Model("", "", ""), 0xFF, 0x0D), kind, device, inf) == expected


def test_each_kind_of_match_in_its_order() -> None:
    best = package("a.inf", (HW[0], ()))
    general = package("b.inf", (HW[1], ()))
    as_compatible = package("c.inf", ("X", (HW[0],)))
    by_class = package("d.inf", (COMPATIBLE[1], ()))
    both_compatible = package("e.inf", ("X", ("Y", COMPATIBLE[0])))
    found = index(both_compatible, by_class, as_compatible, general, best).matches(NIC)
    assert [(match.package.path, match.rank & 0xFFFF) for match in found] == [
        ("a.inf", 0x0000),
        ("b.inf", 0x0001),
        ("c.inf", 0x1000),
        ("d.inf", 0x2001),
        ("e.inf", 0x3100),
    ]
    assert found[4].why == rf"rank 0x0DFF3100, compatible id of the device = compatible id of the INF: {COMPATIBLE[0]}"


def test_identifiers_ignore_case() -> None:
    assert chosen(package("a.inf", (HW[0].lower(), ()))) == ["a.inf"]


def test_signature_before_feature_score_before_identifier() -> None:
    signed_weak = package("signed.inf", (COMPATIBLE[1], ()))
    unsigned_exact = package("unsigned.inf", (HW[0], ()), signature=drivers.UNSIGNED)
    feature = package("feature.inf", (COMPATIBLE[1], ()), feature=0xC0)
    assert chosen(unsigned_exact, signed_weak, allow_unsigned=True) == ["signed.inf"]
    assert chosen(signed_weak, feature) == ["feature.inf"]


def test_ties_go_to_date_then_version_then_path() -> None:
    old = package("old.inf", (HW[0], ()), date=date(2020, 1, 1), version=(9, 9))
    new = package("new.inf", (HW[0], ()), date=date(2024, 1, 1), version=(1, 2))
    newer = package("newer.inf", (HW[0], ()), date=date(2024, 1, 1), version=(1, 10))
    undated = package("undated.inf", (HW[0], ()), date=None, version=())
    assert chosen(undated, old) == ["old.inf"]
    assert chosen(old, new) == ["new.inf"]
    assert chosen(newer, new) == ["newer.inf"]
    assert chosen(package("b.inf", (HW[0], ())), package("a.inf", (HW[0], ()))) == ["a.inf"]


def test_the_best_model_of_a_package_counts() -> None:
    found = index(package("a.inf", (HW[1], ()), (HW[0], ()))).matches(NIC)
    assert len(found) == 1
    assert found[0].matched_id == HW[0]


def test_all_compatible_instead_of_the_best() -> None:
    assert chosen(package("a.inf", (HW[0], ())), package("b.inf", (COMPATIBLE[1], ())), best_match=False) == ["a.inf", "b.inf"]


def test_unsigned_are_left_out_and_listed() -> None:
    selection = choose(index(package("u.inf", (HW[0], ()), signature=drivers.UNSIGNED)), [NIC])
    assert selection.packages == ()
    assert selection.without_driver == (NIC,)
    shown = drivers.summary(selection)
    assert shown["devices"][0]["unsigned"] == ["u.inf (P, 2024-01-01, 1.0)"]
    assert shown["without_driver"] == ["Network controller"]


def test_categories_are_or_ed() -> None:
    lab = package("lab.inf", (HW[0], ()), categories=frozenset({"lab", "old"}))
    other = package("other.inf", (HW[1], ()), categories=frozenset({"office"}))
    none = package("none.inf", (HW[1], ()))
    assert chosen(lab, other, none, categories=frozenset({"office"})) == ["other.inf"]
    assert chosen(lab, other, none, best_match=False, categories=frozenset({"office", "lab"})) == ["lab.inf", "other.inf"]
    assert chosen(none, categories=frozenset({"office"})) == []


def test_extensions_come_along_one_for_each_extension_id() -> None:
    base = package("base.inf", (HW[1], ()))
    exact = package("ext1.inf", (HW[0], ()), device_class="Extension", extension_id="{1}")
    weaker = package("ext2.inf", (HW[1], ()), device_class="Extension", extension_id="{1}")
    second = package("ext3.inf", (HW[1], ()), class_guid=drivers.EXTENSION_CLASS, extension_id="{2}")
    assert chosen(base, exact, weaker, second) == ["base.inf", "ext1.inf", "ext3.inf"]


def test_a_package_for_two_devices_is_added_once() -> None:
    again = Device(r"PCI\VEN_1&DEV_2\1", "second", HW)
    assert len(choose(index(package("a.inf", (HW[0], ()))), [NIC, again]).packages) == 1


INF = r"""[Version]
Class=Net
CatalogFile=a.cat
DriverVer=01/02/2023,1.0
[Manufacturer]
M=Models,NTamd64
[Models.NTamd64]
D=Install,PCI\VEN_1&DEV_2
[Install.NTamd64]
FeatureScore=80
"""


def read(text: str = INF, siblings: tuple[str, ...] = ("A.CAT", "a.inf")) -> DriverPackage | None:
    return read_package(text.encode(), WIN11, path="net\\a.inf", siblings=siblings, sha256="h", categories=["c"])


def test_reading_a_package() -> None:
    made = read()
    assert made is not None
    assert made.name == "a.inf"
    assert made.is_signed
    assert (made.models[0].feature_score, made.models[0].signature) == (0x80, drivers.SIGNED)
    assert made.describe == "net\\a.inf (2023-01-02, 1.0)"


def test_no_catalogue_beside_it_is_unsigned() -> None:
    missing = read(siblings=("a.inf",))
    undecorated = read(INF.replace("Install.NTamd64", "Install"), ("a.inf",))
    assert missing is not None
    assert undecorated is not None
    assert not missing.is_signed
    assert missing.models[0].signature == drivers.UNSIGNED
    assert undecorated.models[0].signature == drivers.UNSIGNED_UNDECORATED


def test_what_holds_no_driver_for_this_windows() -> None:
    assert read("[autorun]\nopen=setup.exe\n") is None
    assert read("no inf") is None
    assert read(INF.replace("NTamd64", "NTarm64")) is None


def test_devices_that_are_hardware() -> None:
    windows = FakeWindows()
    windows.rows["Win32_PnPEntity"] = [
        {"DeviceID": r"PCI\B", "Name": "b", "HardwareID": ["PCI\\B"], "CompatibleID": None, "ConfigManagerErrorCode": 28},
        {"DeviceID": r"ACPI\A", "Name": None, "HardwareID": ["ACPI\\A", "*A"], "PNPClass": "System"},
        {"DeviceID": r"SWD\X", "Name": "soft", "HardwareID": ["x"]},
        {"DeviceID": r"ROOT\X\0", "Name": "root", "HardwareID": ["x"]},
        {"DeviceID": r"HTREE\ROOT\0", "Name": "tree", "HardwareID": None},
        {"DeviceID": r"PCI\NONE", "Name": "none", "HardwareID": None},
    ]
    found = read_devices(windows)
    assert [device.device_id for device in found] == [r"ACPI\A", r"PCI\B"]
    assert found[1].problem == 28
    assert found[0].as_row()["hardware_ids"] == ["ACPI\\A", "*A"]
    assert windows.requests == 2


def test_store_folders() -> None:
    names = ["a.inf_amd64_0123456789abcdef", "A.INF_amd64_ffff", "a.inf_x86_0123", "ba.inf_amd64_1"]
    made = read()
    assert made is not None
    assert drivers.store_folders(names, made, "x64") == names[:2]


def test_a_large_index_is_fast() -> None:
    """23,000 identifiers of a corpus were matched in 28 ms by the measured prototype; here the look-ups are by identifier."""
    made = index(
        *(package(f"{n}.inf", *((rf"PCI\VEN_{n:04X}&DEV_{m:04X}", (rf"PCI\CC_{m:04X}",)) for m in range(100))) for n in range(230))
    )
    wanted = [Device("d", "d", (rf"PCI\VEN_{n:04X}&DEV_0001",), (rf"PCI\CC_{n:04X}",)) for n in range(50)]
    start = time.process_time()
    selection = choose(made, wanted)
    # Far above what it takes, far below what a search through every package would: the machines are shared.
    assert time.process_time() - start < 10
    assert len(selection.packages) == 50


def test_foreign_drivers_find_their_devices(corpora: Path, foreign_file) -> None:
    made = DriverIndex()
    root = corpora / "inf"
    for path in sorted(root.rglob("*.inf")):
        names = [item.name for item in path.parent.iterdir()]
        found = read_package(foreign_file(path).read_bytes(), WIN11, path=str(path.relative_to(root)), siblings=names)
        if found:
            made.add(found)
    realtek = Device("x", "Realtek", (r"PCI\VEN_10EC&DEV_8168&SUBSYS_012310EC&REV_15", r"PCI\VEN_10EC&DEV_8168&REV_15"))
    ftdi = Device("y", "FTDI", (r"PCI\NOTHING", r"USB\VID_0403&PID_6010&MI_00"))
    selection = choose(made, [realtek, ftdi], allow_unsigned=True)
    assert [Path(item.path).name for item in selection.packages] == ["rt640x64.inf", "ftdibus.inf"]
    assert selection.devices[0].chosen[0].kind is MatchKind.HARDWARE_HARDWARE
