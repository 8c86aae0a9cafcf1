# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Auto Apply Drivers: where INF files are read, what is added, what the driver store proves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.auto_apply_drivers import AutoApplyDrivers
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure, run_step

STORE = r"W:\Windows\System32\DriverStore\FileRepository"
APPLIED = {"version": "10.0.22621", "architecture": "x64", "edition": "Professional"}
DEVICE = r"PCI\VEN_1AF4&DEV_1000"


def inf(device: str = DEVICE, catalog: str = "net.cat", day: str = "01/02/2024") -> bytes:
    return (
        f"[Version]\r\nClass=Net\r\nProvider=Test\r\nCatalogFile={catalog}\r\nDriverVer={day},1.0\r\n"
        f"[Manufacturer]\r\nM=Models,NTamd64\r\n[Models.NTamd64]\r\nD=Install,{device}\r\n[Install.NTamd64]\r\n"
    ).encode("utf-16")


def computer() -> FakeWindows:
    windows = FakeWindows(Environment.WINDOWS_PE)
    windows.rows["MSFT_Disk"] = [{"Number": 0, "Size": 64 * 10**9, "PartitionStyle": 2, "BusType": 17}]
    windows.rows["MSFT_Partition"] = [
        {"DiskNumber": 0, "PartitionNumber": n, "Offset": n, "Size": 1, "DriveLetter": letter, "AccessPaths": [path]}
        for n, letter, path in ((1, "S", "\\\\?\\Volume{0}\\"), (3, "W", "\\\\?\\Volume{1}\\"))
    ]
    windows.rows["MSFT_Volume"] = [
        {"Path": "\\\\?\\Volume{0}\\", "DriveLetter": "S", "FileSystem": "FAT32", "DriveType": 3},
        {"Path": "\\\\?\\Volume{1}\\", "DriveLetter": "W", "FileSystem": "NTFS", "DriveType": 3},
    ]
    windows.rows["Win32_PnPEntity"] = [
        {"DeviceID": DEVICE + r"\3", "Name": "Ethernet Controller", "HardwareID": [DEVICE + "&SUBSYS_1", DEVICE], "PNPClass": None},
        {"DeviceID": r"PCI\VEN_9\1", "Name": "Strange thing", "HardwareID": [r"PCI\VEN_9"], "ConfigManagerErrorCode": 28},
    ]
    windows.add_file(r"W:\Windows\System32\config\SYSTEM", b"regf")
    windows.add_file(STORE + r"\other.inf_amd64_1\other.inf", b"x")
    windows.add_file(STORE + r"\net.inf_x86_1\net.inf", b"x")
    return windows


def options(*sources: dict[str, Any], **given: Any) -> dict[str, Any]:
    full = [{"controller": None, "account": None, "categories": [], **source} for source in sources]
    base = {"sources": full, "best_match": True, "categories": [], "allow_unsigned": False, "select": None, "time_limit": 60}
    return {**base, **given}


@pytest.fixture
def drivers(tmp_path: Path) -> Path:
    """The folder of drivers on the control node."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.inf").write_bytes(inf())
    (tmp_path / "net" / "net.cat").write_bytes(b"catalogue")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "old.INF").write_bytes(inf(day="01/02/2010"))
    (tmp_path / "old" / "net.cat").write_bytes(b"catalogue")
    (tmp_path / "autorun.inf").write_bytes(b"[autorun]\nopen=x\n")
    return tmp_path


def adds(windows: FakeWindows, content: bytes) -> FakeContext:
    """DISM puts the package into the store."""

    def dism(label: str, argv: list[str]) -> int:
        if label.startswith("add"):
            windows.add_file(STORE + r"\net.inf_amd64_abcdef\net.inf", content)
        return 0

    return FakeContext(dism, applied_image=APPLIED)


def test_ranked_on_the_control_node_and_added_from_the_share(drivers: Path) -> None:
    windows = computer()
    context = adds(windows, inf())
    source = {"target": r"\\srv\drivers", "controller": str(drivers)}
    plan, result = run_step(AutoApplyDrivers(options(source), context), windows)
    assert [change.summary for change in plan.changes] == [
        r"add driver net\net.inf (Test, 2024-01-02, 1.0) for Ethernet Controller: "
        r"rank 0x0DFF0001, hardware id of the device = hardware id of the INF: PCI\VEN_1AF4&DEV_1000"
    ]
    assert context.jobs == [
        (
            "add-001",
            [
                r"X:\Windows\System32\dism.exe",
                "/English",
                r"/LogPath:W:\_osd\logs\dism-drivers.log",
                "/Image:W:\\",
                "/Add-Driver",
                r"/Driver:\\srv\drivers\net\net.inf",
            ],
        )
    ]
    assert result["added"] == [r"net\net.inf (Test, 2024-01-02, 1.0)"]
    assert result["devices"][0]["others"][0]["driver"] == r"old\old.INF (Test, 2010-01-02, 1.0)"
    assert result["without_driver"] == ["Strange thing"]
    assert context.warnings == ["No driver was found for Strange thing."]


def test_a_driver_in_the_store_is_not_added_again(drivers: Path) -> None:
    windows = computer()
    windows.add_file(STORE + r"\net.inf_amd64_abcdef\net.inf", inf())
    context = FakeContext(applied_image=APPLIED)
    plan, result = run_step(AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), context), windows)
    assert not plan.changes
    assert windows.requests == 4 + 1 + 1 + 1
    assert context.jobs == []
    assert result["added"] == []


def test_another_version_in_the_store_does_not_count(drivers: Path) -> None:
    windows = computer()
    windows.add_file(STORE + r"\net.inf_amd64_abcdef\net.inf", inf(day="01/01/2000"))
    step = AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), FakeContext(applied_image=APPLIED))
    assert len(step.plan(step.observe(windows)).changes) == 1


def test_dism_that_answers_0_and_does_nothing_fails_in_verify(drivers: Path) -> None:
    context = FakeContext(applied_image=APPLIED)
    problem = failure(lambda: run_step(AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), context), computer()))
    assert problem.message == r"After DISM ended these drivers are not in the driver store of W:\: net\net.inf."
    assert problem.log == "dism-drivers.log"


def test_a_refused_driver_is_named(drivers: Path) -> None:
    context = FakeContext(lambda label, argv: 0xE0000242, applied_image=APPLIED)
    step = AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), context)
    problem = failure(lambda: run_step(step, computer()))
    assert problem.message == r"net\net.inf was not added: DISM ended with exit code 0xe0000242."
    assert problem.remedy


def source_on_computer(windows: FakeWindows) -> None:
    windows.add_file(r"W:\_osd\drivers\1\net\net.inf", inf())
    windows.add_file(r"W:\_osd\drivers\1\net\net.cat", b"catalogue")
    big = inf(r"PCI\VEN_9").decode("utf-16") + "; padding\r\n" * 60_000
    windows.add_file(r"W:\_osd\drivers\1\big\big.inf", big.encode("utf-16"))
    windows.add_file(r"W:\_osd\drivers\1\big\net.cat", b"catalogue")


def test_without_controller_the_source_is_copied_and_read_through_the_computer() -> None:
    windows = computer()

    def job(label: str, argv: list[str]) -> int:
        if label == "copy-1":
            source_on_computer(windows)
            return 1
        name = argv[-1].rsplit("\\", 1)[-1]
        windows.add_file(rf"{STORE}\{name}_amd64_abcdef\{name}", windows.files[argv[-1].removeprefix("/Driver:").lower()])
        return 0

    context = FakeContext(job, applied_image=APPLIED)
    dummy, result = run_step(AutoApplyDrivers(options({"target": r"\\srv\drivers"}), context), windows)
    assert context.jobs[0][1][:4] == [r"X:\Windows\System32\robocopy.exe", r"\\srv\drivers", r"W:\_osd\drivers\1", "/E"]
    assert context.jobs[1][1][-1] == r"/Driver:W:\_osd\drivers\1\net\net.inf"
    assert context.jobs[2][1][-1] == r"/Driver:W:\_osd\drivers\1\big\big.inf"
    assert len(result["added"]) == 2
    assert result["without_driver"] == []


def test_check_mode_copies_nothing() -> None:
    windows, context = computer(), FakeContext(applied_image=APPLIED)
    context.check_mode = True
    step = AutoApplyDrivers(options({"target": r"\\srv\drivers"}), context)
    plan = step.plan(step.observe(windows))
    assert plan.predicted
    assert [change.summary for change in plan.changes] == [r"copy \\srv\drivers and add the drivers that match the computer's devices"]
    assert context.jobs == []


def test_a_copy_that_fails() -> None:
    context = FakeContext(lambda label, argv: 16, applied_image=APPLIED)
    problem = failure(lambda: run_step(AutoApplyDrivers(options({"target": r"\\srv\drivers"}), context), computer()))
    assert problem.message == r"\\srv\drivers could not be copied: robocopy ended with exit code 16 (nothing was copied)."


def test_unsigned_only_when_allowed_and_then_forced(drivers: Path) -> None:
    (drivers / "net" / "net.cat").unlink()
    (drivers / "old" / "net.cat").unlink()
    source = {"target": r"\\srv\d", "controller": str(drivers)}
    context = FakeContext(applied_image=APPLIED)
    plan, result = run_step(AutoApplyDrivers(options(source), context), computer())
    assert not plan.changes
    assert len(result["devices"][0]["unsigned"]) == 2
    windows = computer()
    context = adds(windows, inf())
    run_step(AutoApplyDrivers(options(source, allow_unsigned=True), context), windows)
    assert context.jobs[0][1][-1] == "/ForceUnsigned"


def test_select_and_categories_narrow(drivers: Path) -> None:
    source = {"target": r"\\srv\d", "controller": str(drivers), "categories": ["lab"]}

    def changes(**given: Any) -> int:
        step = AutoApplyDrivers(options(source, **given), FakeContext(applied_image=APPLIED))
        return len(step.plan(step.observe(computer())).changes)

    assert changes(select="[?name == 'Ethernet Controller']") == 1
    assert changes(select="[?name == 'Other']") == 0
    assert changes(categories=["lab"]) == 1
    assert AutoApplyDrivers.validate(options(source)) == []
    assert "select: '[?' is no JMESPath" in AutoApplyDrivers.validate(options(source, select="[?"))[0]
    assert "categories: office is in no source; the sources have lab" in AutoApplyDrivers.validate(options(source, categories=["office"]))
    assert "is no folder" in AutoApplyDrivers.validate(options({"target": "https://web.lab/drivers"}))[0]
    assert "neither" in AutoApplyDrivers.validate(options({"target": "drivers"}))[0]
    step = AutoApplyDrivers(options(source, select="[].name"), FakeContext(applied_image=APPLIED))
    assert "makes new values" in failure(lambda: step.observe(computer())).message


def test_outside_of_a_run_kernel_and_processor_tell_the_windows(drivers: Path) -> None:
    windows = computer()
    windows.add_file(r"W:\Windows\System32\ntoskrnl.exe", b"", "10.0.22621.1 (WinBuild.160101.0800)")
    windows.rows["Win32_Processor"] = [{"Architecture": 9}]
    step = AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), FakeContext())
    state = step.observe(windows)
    assert (state.target.architecture, state.target.version, state.target.build) == ("amd64", (10, 0), 22621)
    windows.versions.clear()
    assert "cannot be told" in failure(lambda: step.observe(windows)).message


def test_no_windows_and_no_folder(drivers: Path) -> None:
    windows = computer()
    windows.files.pop(r"w:\windows\system32\config\system")
    step = AutoApplyDrivers(options({"target": r"\\srv\d", "controller": str(drivers)}), FakeContext(applied_image=APPLIED))
    assert failure(lambda: step.observe(windows)).remedy == "Run Apply Operating System Image first."
    step = AutoApplyDrivers(options({"target": r"\\srv\d", "controller": "/nowhere"}), FakeContext(applied_image=APPLIED))
    assert "/nowhere is not on the control node" in failure(lambda: step.observe(computer())).message
