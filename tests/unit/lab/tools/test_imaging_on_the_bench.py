# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Partition, apply, prepare and capture with the lab's own diskpart, bcdedit, dism and sysprep; each step's effect is also broken."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content, machine
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps import boot_staging
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps import capture_operating_system_image as capture_module
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps import prepare_windows_for_capture as prepare_module
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.apply_operating_system_image import ApplyOperatingSystemImage
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import JobResult
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.capture_operating_system_image import CaptureOperatingSystemImage
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.format_and_partition_disk import FormatAndPartitionDisk
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.prepare_windows_for_capture import PrepareWindowsForCapture
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import boot_store, https_opening, image, opening, registry_hive, sysprep
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import quote
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import (
    CommandResult,
    ComputerLost,
    Environment,
    FileInfo,
    Job,
    JobStatus,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.names import FIREWALL_RULE
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.tests.unit.lab.tools.test_steps_on_the_bench import BenchComputer, LabContext, lay_files
from ansible_collections.goldimage.osd.tests.unit.steps.test_documented_options import documented, filled
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import failure, run_step

needs_wimlib = pytest.mark.skipif(not shutil.which("wimlib-imagex"), reason="wimlib-imagex (wimtools) is not installed")
ACCOUNT = {"user": "writer", "password": "Secret2"}
BOOT = {"target": r"\\srv\images\boot\boot.wim", "account": ACCOUNT}
STATE = sysprep.STATE_KEY.removeprefix("SOFTWARE\\")
INSTALL = {"target": r"\\srv\images\install.wim", "account": ACCOUNT}


class Computer(BenchComputer):
    """With the agent's ranges, and jobs that run to their end at once."""

    def __init__(self, bench: Any) -> None:
        super().__init__(bench)
        self.jobs: dict[str, Job] = {}
        self.codes: dict[str, int] = {}
        self.asked = 0

    def query(self, text: str, namespace: str = "root/cimv2") -> list[Instance]:
        self.asked += 1
        return super().query(text, namespace)

    def invoke(self, *given: Any, **named: Any) -> Mapping[str, Any]:
        self.asked += 1
        return super().invoke(*given, **named)

    def run(self, argv: Sequence[str], **given: Any) -> CommandResult:
        self.asked += 1
        return super().run(argv, **given)

    def get_file(self, path: str) -> bytes:
        self.asked += 1
        return super().get_file(path)

    def file_info(self, path: str) -> FileInfo | None:
        self.asked += 1
        return FileInfo(self.bench.files.size(path)) if self.bench.files.is_file(path) else None

    def is_folder(self, path: str) -> bool:
        return self.bench.files.is_directory(path)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.asked += 1
        return self.bench.files.read(path)[offset : offset + length]

    def write_range(self, path: str, offset: int, data: bytes) -> None:
        old = self.get_file(path)
        self.bench.files.write(path, old[:offset] + data + old[offset + len(data) :])

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        self.asked += 1
        self.jobs[job.id] = job
        directory = job.directory or lay_files(self.bench, job.id, job.files)
        self.codes[job.id] = self.bench.run(quote(job.argv), directory=directory).code
        return JobStatus(self.codes[job.id] if wait else None)

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        return JobStatus(self.codes[job_id])


class Context(LabContext):
    """In Windows PE all jobs are of one session, and a share is connected once. ``broken`` names jobs that do nothing and end with 0."""

    def __init__(self, bench: Any, *broken: str, **remembered: Any) -> None:
        super().__init__(bench, **remembered)
        self.broken = broken

    def content(self, source: Mapping[str, Any]) -> str:
        share = "\\".join(source["target"].split("\\")[:4])
        account = source.get("account")
        if account:
            self.bench.run(quote(["net.exe", "use", share, account["password"], f"/user:{account['user']}"]))
        return str(source["target"])

    def controller_address(self) -> str:
        return "127.0.0.1"

    def run_job(self, computer: Any, label: str, argv: Sequence[str], **given: Any) -> JobResult:
        if label in self.broken:
            self.events.append(label)
            return JobResult(0, b"", None, 0.1)
        if self.bench.machine.environment is Environment.FULL_OS:
            return super().run_job(computer, label, argv, **given)
        self.jobs.append((label, list(argv)))
        self.time_limits.append(given.get("time_limit", 0))
        self.events.append(label)
        result = self.bench.run(quote(argv), directory=lay_files(self.bench, label, given.get("files")))
        self.outputs.append(f"{label}: {result.code} {result.out}{result.err}")
        return JobResult(result.code, result.out.encode(), None, 0.1)


@pytest.fixture(scope="session")
def install_image(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("images") / "install.wim"
    content.make_install_image(path)
    return path


def with_images(bench: Any, install: Any) -> Any:
    folder = bench.share / "boot"
    folder.mkdir()
    (folder / "boot.wim").write_bytes(b"the boot image")
    (folder / "boot.sdi").write_bytes(b"sdi")
    shutil.copy(install, bench.share / "install.wim")
    machine.record_firmware(bench.machine.live_registry, bench.machine.hardware["firmware"])
    return bench


@pytest.fixture
def uefi(pe: Any, install_image: Any) -> Any:
    return with_images(pe, install_image)


@pytest.fixture
def bios(pe_bios: Any, install_image: Any) -> Any:
    return with_images(pe_bios, install_image)


def partition(context: Any, **given: Any) -> FormatAndPartitionDisk:
    return FormatAndPartitionDisk(filled(documented("format_and_partition_disk"), given), context)


def apply(context: Any, **given: Any) -> ApplyOperatingSystemImage:
    return ApplyOperatingSystemImage(filled(documented("apply_operating_system_image"), {"image": INSTALL, **given}), context)


def capture(context: Any, **given: Any) -> CaptureOperatingSystemImage:
    wish = {"path": r"\\srv\images\ref.wim", "account": ACCOUNT, "image_name": "Reference", "after_capture": "stay", **given}
    return CaptureOperatingSystemImage(filled(documented("capture_operating_system_image"), wish), context)


def state(bench: Any, firmware: str = "uefi", drive: str = "W:") -> Any:
    kind = boot_staging.Firmware.UEFI if firmware == "uefi" else boot_staging.Firmware.BIOS
    entry = boot_staging.WindowsPeEntry(drive, kind, boot_staging.store_path("S:", kind))
    return boot_staging.read_state(Computer(bench), entry)  # type: ignore[arg-type]


# Format and Partition Disk


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_partitioned_disk_starts_windows_pe(firmware: str, request: pytest.FixtureRequest) -> None:
    bench = request.getfixturevalue(firmware)
    context = Context(bench)
    dummy, result = run_step(partition(context, boot_image=BOOT), Computer(bench))
    assert [(p["type"], p["letter"]) for p in result["partitions"]] == (
        [("EFI", "S"), ("MSR", None), ("Primary", "W"), ("Recovery", "R")]
        if firmware == "uefi"
        else [("Primary", "S"), ("Primary", "W"), ("Recovery", "R")]
    )
    assert context.remembered["volumes"]["windows"]["letter"] == "W"
    assert state(bench, firmware).starts_always
    assert bench.files.read(r"W:\_osd\pe\boot.wim") == b"the boot image"
    plan, dummy = run_step(partition(context), Computer(bench))
    assert plan.changes, "in a run it always wipes"
    context.run_id = ""
    computer = Computer(bench)
    plan, dummy = run_step(partition(context), computer)
    assert computer.asked == 5, "as the module's documentation says"
    assert not plan.changes, "alone it leaves a disk that has the layout"


def test_partitioning_that_does_nothing_is_seen(uefi: Any) -> None:
    problem = failure(lambda: run_step(partition(Context(uefi, "diskpart")), Computer(uefi)))
    assert "the disk is RAW, not GPT" in problem.message


def test_a_letter_that_was_not_given_is_seen(uefi: Any) -> None:
    step = partition(Context(uefi))
    plan = step.plan(step.observe(Computer(uefi)))  # type: ignore[arg-type]
    broken = replace(plan, script=plan.script.replace("assign letter=S\r\n", ""))  # type: ignore[attr-defined, type-var]
    step.apply(Computer(uefi), broken)  # type: ignore[arg-type]
    assert "partition 1: drive letter is none, not S" in failure(lambda: step.verify(Computer(uefi), plan)).message


def test_a_partition_that_is_not_active_is_seen(bios: Any) -> None:
    step = partition(Context(bios))
    plan = step.plan(step.observe(Computer(bios)))  # type: ignore[arg-type]
    step.apply(Computer(bios), replace(plan, script=plan.script.replace("active\r\n", "")))  # type: ignore[attr-defined, arg-type, type-var]
    assert "partition 1: it is not active" in failure(lambda: step.verify(Computer(bios), plan)).message


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (r" copy .*\\pe\\boot\.", r"_osd\pe\boot.wim, _osd\pe\boot.sdi on W: is missing or empty"),
        (r" copy .*network", r"_osd\pe\network.json on W: is missing or empty"),
        (r" md ", "failed (stage-boot-image, exit code 42)"),
        ("/createstore", "failed (stage-boot-image, exit code 50)"),
        ("/default", "it is not what starts next"),
        ("", r"boot.wim, _osd\pe\boot.sdi, _osd\pe\network.json on W: is missing or empty"),
    ],
)
def test_windows_pe_that_would_not_start_is_seen(uefi: Any, broken: str, word: str) -> None:
    class Leaves(Context):
        """Leaves commands of the staging script out."""

        def run_job(self, computer: Any, label: str, argv: Sequence[str], **given: Any) -> JobResult:
            if label == "stage-boot-image":
                name = "stage-boot-image.cmd"
                lines = given["files"][name].decode().splitlines()
                kept = "".join(f"{line}\r\n" for line in lines[:1] + [line for line in lines[1:] if not re.search(broken, line)])
                given["files"] = {**given["files"], name: kept.encode()}
            return super().run_job(computer, label, argv, **given)

    problem = failure(lambda: run_step(partition(Leaves(uefi), boot_image=BOOT), Computer(uefi)))
    assert word in problem.message


def test_another_boot_image_than_declared_is_refused(uefi: Any) -> None:
    right = hashlib.sha256(b"the boot image").hexdigest()
    run_step(partition(Context(uefi), boot_image={**BOOT, "sha256": right.upper()}), Computer(uefi))
    problem = failure(lambda: run_step(partition(Context(uefi), boot_image={**BOOT, "sha256": "0" * 64}), Computer(uefi)))
    assert right in problem.message


def test_windows_goes_to_the_larger_partition_whatever_its_unit(bios: Any) -> None:
    rows = [
        {"type": "Primary", "volume_name": "System Reserved", "size": 350, "file_system": "NTFS", "bootable": True},
        {"type": "Primary", "volume_name": "Windows", "size": 100, "size_units": "Percent", "file_system": "NTFS"},
    ]
    context = Context(bios)
    run_step(partition(context, partitions=rows), Computer(bios))
    volumes = context.remembered["volumes"]
    assert (volumes["windows"]["partition"], volumes["system"]["partition"]) == (2, 1)


@pytest.mark.parametrize(
    ("rows", "lacks"),
    [
        ([{"type": "Primary", "file_system": "NTFS"}], "EFI partition with FAT32"),
        ([{"type": "EFI", "size": 260}, {"type": "Primary", "file_system": "NTFS"}], "EFI partition with FAT32"),
        (
            [
                {"type": "EFI", "size": 260, "file_system": "FAT32"},
                {"type": "Primary", "file_system": "NTFS", "assign_volume_letter": False},
            ],
            "Primary partition with NTFS and a drive letter",
        ),
    ],
)
def test_a_layout_that_cannot_start_windows_pe_is_refused_before_the_disk_is_wiped(uefi: Any, rows: Any, lacks: str) -> None:
    context = Context(uefi)
    assert lacks in failure(lambda: run_step(partition(context, boot_image=BOOT, partitions=rows), Computer(uefi))).message
    assert not context.jobs


def test_a_data_disk_does_not_take_the_place_of_the_disk_with_the_boot_files(uefi: Any) -> None:
    known = {"disk": 7, "windows": {"partition": 3, "offset": 1, "letter": "W"}}
    context = Context(uefi, volumes=known)
    run_step(partition(context, partitions=[{"type": "Primary", "volume_name": "Data", "file_system": "NTFS"}]), Computer(uefi))
    assert context.remembered["volumes"] == known


def test_a_full_format_gets_hours(uefi: Any) -> None:
    context = Context(uefi)
    run_step(partition(context, partitions=[{"type": "Primary", "file_system": "NTFS", "quick_format": False}]), Computer(uefi))
    assert context.time_limits == [12 * 3600]


def test_every_limit_of_the_tools_is_the_users(uefi: Any) -> None:
    context = Context(uefi)
    run_step(partition(context, time_limit=3), Computer(uefi))
    run_step(apply(context, time_limit=5), Computer(uefi))
    assert context.time_limits[0] == 180
    assert [limit for (label, dummy), limit in zip(context.jobs, context.time_limits, strict=True) if label == "apply"] == [300]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"volume_name": 'A" \r\nclean all', "file_system": "NTFS"}, "printable ASCII"),
        ({"volume_name": "Données", "file_system": "NTFS"}, "printable ASCII"),
        ({"volume_name": "TWELVE CHARS", "file_system": "FAT32"}, "at most 11 on FAT32"),
        ({"volume_name": "A", "file_system": None}, "no file_system"),
    ],
)
def test_labels_that_a_script_cannot_take(row: Any, word: str) -> None:
    problems = FormatAndPartitionDisk.validate({"partitions": [{"type": "Primary", "size": None, "size_units": "MB", **row}]})
    assert len(problems) == 1
    assert word in problems[0]


# Apply Operating System Image


@needs_wimlib
@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_an_applied_image_is_complete_and_windows_pe_still_starts(firmware: str, request: pytest.FixtureRequest) -> None:
    bench = request.getfixturevalue(firmware)
    context = Context(bench)
    run_step(partition(context, boot_image=BOOT), Computer(bench))
    context.jobs.clear()
    bench.files.make_directories(r"W:\R&D old\deep")
    bench.files.write(r"W:\R&D old\deep\a.txt", b"x")
    bench.files.write(r"W:\left.txt", b"x")
    dummy, result = run_step(apply(context), Computer(bench))
    assert result["OSDTargetSystemDrive"] == "W:"
    assert not bench.files.exists(r"W:\R&D old")
    assert not bench.files.exists(r"W:\left.txt")
    assert bench.files.is_file(r"R:\Recovery\WindowsRE\Winre.wim"), context.outputs
    assert state(bench, firmware).starts_always
    assert len(state(bench, firmware).displayorder) == 2
    computer = Computer(bench)
    plan, dummy = run_step(apply(context), computer)
    assert computer.asked == 12, "as the module's documentation says; the share's connection is one more"
    assert not plan.changes, "this very image lies there"
    other, dummy = run_step(apply(Context(bench, **context.remembered), image_index=2), Computer(bench))
    assert other.changes


def applied(bench: Any, *broken: str) -> Any:
    context = Context(bench)
    run_step(partition(context, boot_image=BOOT), Computer(bench))
    return Context(bench, *broken, **context.remembered)


@needs_wimlib
def test_windows_that_was_started_is_not_taken_for_a_fresh_image(uefi: Any) -> None:
    context = applied(uefi)
    run_step(apply(context), Computer(uefi))
    assert uefi.run(r"reg load HKLM\T W:\Windows\System32\config\SOFTWARE").code == 0
    assert uefi.run(rf"reg add HKLM\T\{STATE} /v ImageState /d IMAGE_STATE_COMPLETE /f").code == 0
    assert uefi.run(r"reg unload HKLM\T").code == 0
    step = apply(Context(uefi, **context.remembered))
    assert step.plan(step.observe(Computer(uefi))).changes  # type: ignore[arg-type]


@needs_wimlib
@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (("apply", "bcdboot"), r"W:\Windows\System32\ntoskrnl.exe"),
        (("bcdboot",), "no entry for the Windows"),
        (("recovery-copy", "reagentc"), r"Recovery\WindowsRE\Winre.wim"),
        (("rd-old",), "could not be emptied"),
    ],
)
def test_an_image_that_was_not_applied_is_seen(uefi: Any, broken: tuple[str, ...], word: str) -> None:
    context = applied(uefi, *broken)
    uefi.files.make_directories(r"W:\Old")
    assert word in failure(lambda: run_step(apply(context), Computer(uefi))).message


@needs_wimlib
def test_letters_that_a_restart_took_are_given_again(uefi: Any) -> None:
    context = applied(uefi)
    for letter in "SR":
        dummy, place = uefi.machine.disks.locate(letter)
        uefi.machine.disks.remove_letter(place)
    plan, dummy = run_step(apply(context), Computer(uefi))
    assert [c.summary for c in plan.changes][:2] == [
        "give partition 1 of disk 0 the letter S:",
        "give partition 4 of disk 0 the letter R:",
    ]
    assert uefi.files.is_file(r"R:\Recovery\WindowsRE\Winre.wim")


@needs_wimlib
def test_images_that_are_no_operating_system_are_refused(uefi: Any) -> None:
    context = applied(uefi)
    assert "has no image 9" in failure(lambda: run_step(apply(context, image_index=9), Computer(uefi))).message
    data = uefi.share.parent / "data"
    data.mkdir()
    (data / "a.txt").write_bytes(b"x")
    content.capture(data, uefi.share / "data.wim", "Data")
    wish = {"target": r"\\srv\images\data.wim", "account": ACCOUNT}
    assert "is no Windows" in failure(lambda: run_step(apply(context, image=wish), Computer(uefi))).message
    assert "is no image" in failure(lambda: run_step(apply(context, image=BOOT), Computer(uefi))).message
    wish = {**wish, "target": r"\\srv\images\none.wim"}
    assert "does not find" in failure(lambda: run_step(apply(context, image=wish), Computer(uefi))).message


# Capture Operating System Image


@pytest.fixture
def generalized(uefi: Any) -> Any:
    """An applied Windows with what Sysprep leaves in its registry."""
    context = applied(uefi)
    run_step(apply(context), Computer(uefi))
    assert uefi.run(r"reg load HKLM\T W:\Windows\System32\config\SYSTEM").code == 0
    assert uefi.run(r"reg add HKLM\T\Setup /v CloneTag /t REG_MULTI_SZ /d Tue /f").code == 0
    assert uefi.run(r"reg unload HKLM\T").code == 0
    return uefi


@needs_wimlib
def test_a_captured_file_is_described_and_the_earlier_one_is_kept(generalized: Any) -> None:
    context = Context(generalized)
    (generalized.share / "ref.wim.run.part").write_bytes(b"what a capture left that was broken off")
    wish = {"image_version": "1.2", "image_created_by": "Me & you", "image_description": "All of it"}
    dummy, result = run_step(capture(context, **wish), Computer(generalized))
    file = generalized.share / "ref.wim"
    wim = image.read_wim_file(file)
    assert [(i.name, i.description) for i in wim.images] == [("Reference", "All of it")]
    assert dict(wim.images[0].properties) == {"CREATEDBY": "Me & you", "VERSION": "1.2", "RUN": "run"}
    assert result["image"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert generalized.files.is_file(r"W:\_osd\captured.json")
    assert {row["reason"] for row in result["volumes"]} == {
        "", "EFI system partition", "Microsoft reserved partition", "recovery partition"
    }  # fmt: skip
    again = Context(generalized)
    run_step(capture(again), Computer(generalized))
    assert len(list(generalized.share.glob("ref.wim.prev-*"))) == 1
    assert not list(generalized.share.glob("*.part"))
    assert "is kept as" in again.warnings[0]


@needs_wimlib
@pytest.mark.parametrize(("broken", "word"), [("capture-1", "not there"), ("publish", "not there")])
def test_a_capture_that_did_nothing_is_seen_and_leaves_no_name(generalized: Any, broken: str, word: str) -> None:
    assert word in failure(lambda: run_step(capture(Context(generalized, broken)), Computer(generalized))).message
    assert not (generalized.share / "ref.wim").exists()


@pytest.mark.parametrize(("part", "code", "there"), [("new.wim", 40, b"new"), ("none.wim", 1, b"old")])
def test_what_has_the_name_keeps_it_where_the_new_file_cannot_take_it(pe: Any, part: str, code: int, there: bytes) -> None:
    pe.files.make_directories(r"X:\a b")
    pe.files.write(r"X:\a b\ref.wim", b"old")
    pe.files.write(r"X:\a b\new.wim", b"new")
    pe.files.write(r"X:\publish.cmd", "".join(f"{line}\r\n" for line in capture_module._PUBLISH).encode())
    argv = [r"X:\Windows\System32\cmd.exe", "/d", "/c", r"X:\publish.cmd", rf"X:\a b\{part}", r"X:\a b\ref.wim", r"X:\a b\ref.wim.prev"]
    assert pe.run(quote(argv)).code == code
    assert pe.files.read(r"X:\a b\ref.wim") == there
    assert pe.files.exists(r"X:\a b\ref.wim.prev") is (code == 40)


@needs_wimlib
def test_where_the_earlier_file_cannot_take_its_name_back_either_the_message_says_what_it_is_called(
    generalized: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (generalized.share / "ref.wim").write_bytes(b"earlier")
    files = type(generalized.files)
    rename = files.rename

    def refuse(own: Any, source: str, target: str, *, replace: bool = False) -> None:
        if target.endswith("\\ref.wim"):
            raise Win32Problem(5, "Access is denied.")
        rename(own, source, target, replace=replace)

    monkeypatch.setattr(files, "rename", refuse)
    problem = failure(lambda: run_step(capture(Context(generalized)), Computer(generalized)))
    (kept,) = generalized.share.glob("ref.wim.prev-*")
    assert kept.read_bytes() == b"earlier"
    assert problem.code == 41
    assert f"(code 41). That file is whole; it is kept as {kept.name} in the same folder" in problem.message
    assert f"Rename {kept.name}" in problem.remedy and "untouched" not in problem.message


@needs_wimlib
def test_what_opened_windows_is_removed_or_nothing_is_captured(generalized: Any) -> None:
    script = b"@echo off\r\nrem \\_osd\r\n"
    generalized.files.make_directories(r"W:\Windows\Setup\Scripts")
    generalized.files.write(r"W:\Windows\Setup\Scripts\SetupComplete.cmd", script)
    generalized.files.write(r"W:\Windows\Panther\unattend.xml", b"<unattend/>")
    problem = failure(lambda: run_step(capture(Context(generalized, "clean")), Computer(generalized)))
    assert r"W:\Windows\Setup\Scripts\SetupComplete.cmd" in problem.message
    assert r"W:\Windows\Panther\unattend.xml" in problem.message
    run_step(capture(Context(generalized)), Computer(generalized))
    assert not generalized.files.exists(r"W:\Windows\Setup\Scripts\SetupComplete.cmd")


class Hive:
    """One hive of the Windows on W:, loaded while reg.exe works on it."""

    def __init__(self, bench: Any, name: str) -> None:
        self.bench, self.name = bench, name

    def __enter__(self) -> Callable[[str], None]:
        assert self.bench.run(rf"reg load HKLM\T W:\Windows\System32\config\{self.name}").code == 0
        return self._reg

    def _reg(self, line: str) -> None:
        result = self.bench.run(f"reg {line} /f")
        assert result.code == 0, (line, result)

    def __exit__(self, *dummy: Any) -> None:
        assert self.bench.run(r"reg unload HKLM\T").code == 0


def captured(bench: Any, path: str, to: Any) -> Any:
    """Return the hive of the captured file."""
    subprocess.run(
        ["wimlib-imagex", "extract", str(bench.share / "ref.wim"), "1", path, f"--dest-dir={to}", "--no-acls"],
        check=True,
        capture_output=True,
    )
    return registry_hive.load((to / path.rsplit("/", 1)[-1]).read_bytes())


@needs_wimlib
def test_nothing_of_the_run_is_in_the_captured_file(generalized: Any, tmp_path: Any) -> None:
    cache = r"Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache"
    profiles = r"Microsoft\Windows NT\CurrentVersion\ProfileList"
    task = "{11111111-2222-3333-4444-555555555555}"
    other = "{99999999-2222-3333-4444-555555555555}"
    with Hive(generalized, "SOFTWARE") as reg:
        for group in ("Tasks", "Plain"):
            reg(rf'add "HKLM\T\{cache}\{group}\{task}" /v Hash /d x')
            reg(rf'add "HKLM\T\{cache}\{group}\{other}" /v Hash /d x')
        reg(rf'add "HKLM\T\{cache}\Tree\OSD\job-1" /v Id /d {task}')
        reg(rf'add "HKLM\T\{cache}\Tree\Other" /v Id /d {other}')
        reg(rf'add "HKLM\T\{profiles}\S-1-5-21-1-2-3-1001" /v ProfileImagePath /t REG_EXPAND_SZ /d C:\Users\osd-run')
        reg(rf'add "HKLM\T\{profiles}\S-1-5-21-1-2-3-1002" /v ProfileImagePath /t REG_EXPAND_SZ /d C:\Users\other')
        for setting in opening.settings("127.0.0.1"):
            value = setting.value
            if value.key.startswith("SOFTWARE"):
                key = value.key.replace("SOFTWARE", r"HKLM\T", 1)
                reg(f'add "{key}" /v "{value.name}" /t {value.type} /d "{value.data}"')
    with Hive(generalized, "SYSTEM") as reg:
        # What tells that it was a run that opened this Windows.
        key = opening.FIREWALL_RULES.replace(r"SYSTEM\CurrentControlSet", r"HKLM\T\ControlSet001", 1)
        reg(f'add "{key}" /v "{FIREWALL_RULE}" /d "{opening.firewall_rule("127.0.0.1").render()}"')
    generalized.files.make_directories(r"W:\Windows\System32\Tasks\OSD")
    generalized.files.write(r"W:\Windows\System32\Tasks\OSD\job-1", b"x")
    generalized.files.make_directories(r"W:\Users\osd-run")
    step = capture(Context(generalized))
    computer = Computer(generalized)
    plan = step.plan(step.observe(computer))  # type: ignore[arg-type]
    said = " ".join(c.summary for c in plan.changes)
    assert "LocalAccountTokenFilterPolicy" in said
    assert rf"Plain\{task}" in said
    assert other not in said
    step.verify(step.apply(computer, plan), plan)  # type: ignore[arg-type]
    software = captured(generalized, "/Windows/System32/config/SOFTWARE", tmp_path)
    found = software.find(cache)
    assert found is not None
    assert {name: list(found.subkeys[name].subkeys) for name in ("Tree", "Tasks", "Plain")} == {
        "Tree": ["Other"],
        "Tasks": [other],
        "Plain": [other],
    }
    left = software.find(profiles)
    assert left is not None
    assert "S-1-5-21-1-2-3-1001" not in left.subkeys
    assert "S-1-5-21-1-2-3-1002" in left.subkeys
    for setting in opening.settings("127.0.0.1"):
        if setting.value.key.startswith("SOFTWARE\\"):
            key = software.find(setting.value.key.removeprefix("SOFTWARE\\"))
            assert key is None or setting.value.name not in key.values, setting
    listing = subprocess.run(
        ["wimlib-imagex", "dir", str(generalized.share / "ref.wim"), "1"], check=True, capture_output=True, text=True
    ).stdout.lower()
    assert "osd" not in listing.replace("bcdosdisk", "")
    assert "/windows/system32/ntoskrnl.exe" in listing


THUMBPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
HTTPS = {"opening_https": {"thumbprint": THUMBPRINT, "port": 5986}, "opening_before": []}
KEYS = r"ProgramData\Microsoft\Crypto\Keys"


def open_over_https(bench: Any) -> None:
    """Leave in Windows what the run's HTTPS leaves: certificate, key, binding, listener. Another key was there before."""
    with Hive(bench, "SOFTWARE") as reg:
        reg(rf'add "HKLM\T\Microsoft\SystemCertificates\MY\Certificates\{THUMBPRINT}" /v Blob /t REG_BINARY /d 00')
        reg(r'add "HKLM\T\Microsoft\SystemCertificates\MY\Certificates\FF" /v Blob /t REG_BINARY /d 00')
        for value, dummy in https_opening.values(https_opening.Https(THUMBPRINT)):
            reg(rf'add "HKLM\T\{value.key.partition(chr(92))[2]}" /v {value.name} /t {value.type} /d {value.data}')
    with Hive(bench, "SYSTEM") as reg:
        bindings = r"HKLM\T\ControlSet001\Services\HTTP\Parameters\SslBindingInfo"
        reg(rf'add "{bindings}\0.0.0.0:5986" /v SslCertHash /t REG_BINARY /d {THUMBPRINT}')
        reg(rf'add "{bindings}\0.0.0.0:443" /v SslCertHash /t REG_BINARY /d FF')
    bench.files.make_directories(rf"W:\{KEYS}")
    for name in ("ours", "others"):
        bench.files.write(rf"W:\{KEYS}\{name}", name.encode())
    bench.files.make_directories(r"W:\_osd\https")
    bench.files.write(rf"W:\{https_opening.KEYS_BEFORE}", rf"C:\{KEYS}\others".encode() + b"\r\n")
    bench.files.write(rf"W:\{https_opening.KEYS_AFTER}", rf"C:\{KEYS}\others".encode() + b"\r\n" + rf"C:\{KEYS}\Ours".encode() + b"\r\n")


@needs_wimlib
def test_what_opened_windows_over_https_is_not_in_the_captured_file(generalized: Any, tmp_path: Any) -> None:
    open_over_https(generalized)
    run_step(capture(Context(generalized, **HTTPS)), Computer(generalized))
    software = captured(generalized, "/Windows/System32/config/SOFTWARE", tmp_path)
    certificates = software.find(r"Microsoft\SystemCertificates\MY\Certificates")
    assert certificates is not None
    assert list(certificates.subkeys) == ["FF"]
    assert software.find(r"Microsoft\Windows\CurrentVersion\WSMAN\Listener\*+HTTPS") is None
    bindings = captured(generalized, "/Windows/System32/config/SYSTEM", tmp_path).find(
        r"ControlSet001\Services\HTTP\Parameters\SslBindingInfo"
    )
    assert bindings is not None
    assert list(bindings.subkeys) == ["0.0.0.0:443"]
    listed = subprocess.run(
        ["wimlib-imagex", "dir", str(generalized.share / "ref.wim"), "1"], check=True, capture_output=True, text=True
    ).stdout
    assert "/ProgramData/Microsoft/Crypto/Keys/others" in listed
    assert "/ProgramData/Microsoft/Crypto/Keys/ours" not in listed


@needs_wimlib
@pytest.mark.parametrize("name", [https_opening.KEYS_BEFORE, https_opening.KEYS_AFTER])
def test_a_private_key_that_nobody_can_name_stops_the_capture(generalized: Any, name: str) -> None:
    open_over_https(generalized)
    generalized.files.delete(rf"W:\{name}")
    said = failure(lambda: run_step(capture(Context(generalized, **HTTPS)), Computer(generalized))).message
    assert f"the private key of the certificate {THUMBPRINT}" in said
    assert not (generalized.share / "ref.wim").exists()


@needs_wimlib
def test_the_account_that_is_still_there_stops_the_capture(generalized: Any) -> None:
    with Hive(generalized, "SAM") as reg:
        reg(r"add HKLM\T\SAM\Domains\Account\Users\Names\osd-run")
    assert "account osd-run is still in Windows" in failure(lambda: run_step(capture(Context(generalized)), Computer(generalized))).message
    assert not (generalized.share / "ref.wim").exists()


@needs_wimlib
def test_windows_on_a_later_partition_is_image_one_and_empty_volumes_are_left_out(uefi: Any) -> None:
    rows = [
        {"type": "EFI", "size": 260, "file_system": "FAT32"},
        {"type": "Primary", "volume_name": "Data", "size": 1, "size_units": "GB", "file_system": "NTFS"},
        {"type": "Primary", "volume_name": "Empty", "size": 1, "size_units": "GB", "file_system": "NTFS"},
        {"type": "Primary", "volume_name": "Windows", "file_system": "NTFS"},
    ]
    context = Context(uefi)
    run_step(partition(context, partitions=rows), Computer(uefi))
    run_step(apply(Context(uefi, **context.remembered)), Computer(uefi))
    uefi.run(r"reg load HKLM\T W:\Windows\System32\config\SYSTEM")
    uefi.run(r"reg add HKLM\T\Setup /v CloneTag /t REG_MULTI_SZ /d Tue /f")
    uefi.run(r"reg unload HKLM\T")
    uefi.files.write(r"C:\data.txt", b"x")
    dummy, place = uefi.machine.disks.locate("C")
    uefi.machine.disks.remove_letter(place)
    dummy, result = run_step(capture(Context(uefi)), Computer(uefi))
    assert [i["name"] for i in result["image"]["images"]] == ["Reference", "Reference - Data (0-2)"]
    assert [row["reason"] for row in result["volumes"] if row["label"] == "Empty"] == ["nothing to capture"]


@needs_wimlib
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (r"reg delete HKLM\T\Setup /v CloneTag /f", "CloneTag missing"),
        (rf"reg add HKLM\T\{STATE} /v ImageState /d IMAGE_STATE_UNDEPLOYABLE /f", "image state IMAGE_STATE_UNDEPLOYABLE"),
    ],
)
def test_windows_that_is_not_generalized_is_not_captured(generalized: Any, command: str, said: str) -> None:
    hive = "SYSTEM" if "Setup /v" in command else "SOFTWARE"
    assert generalized.run(rf"reg load HKLM\T W:\Windows\System32\config\{hive}").code == 0
    assert generalized.run(command).code == 0
    assert generalized.run(r"reg unload HKLM\T").code == 0
    assert said in failure(lambda: run_step(capture(Context(generalized)), Computer(generalized))).message
    assert not (generalized.share / "ref.wim").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"path": r"\\srv\R&D\ref.wim"}, "cmd.exe would not take"),
        ({"path": r"\\srv\images\ref.esd"}, "does not end in .wim"),
        ({"image_name": 'a"b'}, "double quote"),
        ({"image_name": " "}, "is empty"),
        ({"image_created_by": "a\x07b"}, "control character"),
        ({"image_version": "1" * 33}, "at most 32"),
    ],
)
def test_options_that_dism_cannot_take(given: Any, word: str) -> None:
    problems = CaptureOperatingSystemImage.validate(capture(None, **given).options)
    assert len(problems) == 1
    assert word in problems[0]


@needs_wimlib
def test_one_partition_for_windows_and_boot_files(bios: Any, tmp_path: Any) -> None:
    rows = [{"type": "Primary", "volume_name": "Windows", "file_system": "NTFS", "bootable": True}]
    context = Context(bios)
    run_step(partition(context, boot_image=BOOT, partitions=rows), Computer(bios))
    store = boot_staging.WindowsPeEntry("W:", boot_staging.Firmware.BIOS, r"W:\Boot\BCD")
    # Nothing is extracted: what starts Windows PE has to be there all the same.
    failure(lambda: run_step(apply(Context(bios, "apply", **context.remembered)), Computer(bios)))
    assert bios.files.is_file(r"W:\bootmgr")
    assert boot_staging.read_state(Computer(bios), store).starts_always  # type: ignore[arg-type]
    run_step(apply(Context(bios, **context.remembered)), Computer(bios))
    assert boot_staging.read_state(Computer(bios), store).starts_always  # type: ignore[arg-type]
    with Hive(bios, "SYSTEM") as reg:
        reg(r"add HKLM\T\Setup /v CloneTag /t REG_MULTI_SZ /d Tue")
    dummy, result = run_step(capture(Context(bios)), Computer(bios))
    assert [row["image_index"] for row in result["volumes"]] == [1]
    found = boot_staging.read_state(Computer(bios), store)  # type: ignore[arg-type]
    assert (found.has_loader, found.has_options, len(found.displayorder)) == (False, False, 1)
    assert found.default in found.displayorder


# Prepare Windows for Capture


class PrepareContext(Context):
    """The restart ends in Windows PE, which sees the same disk."""

    def __init__(self, bench: Any, *broken: str, after: Callable[[], Any] | None = None) -> None:
        super().__init__(bench, *broken)
        self.after = after

    def wait_for(self, target: Environment, *, time_limit: int, last_boot: str) -> Any:
        assert target is Environment.WINDOWS_PE
        self.events.append("wait")
        return self.after() if self.after else self.computer


def prepare(context: Any, **given: Any) -> PrepareWindowsForCapture:
    return PrepareWindowsForCapture(filled(documented("prepare_windows_for_capture"), {"boot_image": BOOT, **given}), context)


def live_state(bench: Any) -> Any:
    entry = boot_staging.WindowsPeEntry("C:", boot_staging.Firmware.UEFI)
    bench.files.make_directories(r"C:\_osd")
    return boot_staging.read_state(Computer(bench), entry)  # type: ignore[arg-type]


@pytest.fixture
def built(windows: Any, install_image: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A running Windows that sees its own boot store in the registry."""
    disks = windows.machine.disks
    monkeypatch.setattr(windows.machine.live_registry, "_boot_store", lambda: machine.boot_store_key(disks, "uefi"))
    return with_images(windows, install_image)


def test_sysprep_runs_and_windows_pe_is_what_starts_then(built: Any) -> None:
    registry = built.machine.live_registry
    registry.set(rf"HKLM\{sysprep.CLONE_TAG_KEY}", sysprep.CLONE_TAG_VALUE, registry_hive.Value.multi_sz(["old"]))
    built.files.write(sysprep.SUCCESS_TAG, b"")
    context = PrepareContext(built)
    step = prepare(context)
    computer = Computer(built)
    plan = step.plan(step.observe(computer))  # type: ignore[arg-type]
    assert f"delete {sysprep.SUCCESS_TAG}" in [c.summary for c in plan.changes]
    step.apply(computer, plan)  # type: ignore[arg-type]
    assert list(computer.codes.values()) == [0]
    assert registry.get_string(rf"HKLM\{sysprep.STATE_KEY}", "ImageState") == sysprep.GENERALIZED
    assert live_state(built).starts_always, "generalize took the entry, the job made it again"
    assert context.events[-1] == "wait"
    assert "Secret2" not in str([job.argv for job in computer.jobs.values()])
    assert "not in Windows PE" in failure(lambda: step.verify(computer, plan)).message  # type: ignore[arg-type]


def test_where_sysprep_refuses_windows_starts_as_before(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live_state(built)
    monkeypatch.setattr(sysprep, "PROGRAM", r"C:\Windows\System32\cmd.exe")
    context = PrepareContext(built)
    problem = failure(lambda: run_step(prepare(context), Computer(built)))
    assert problem.code == sysprep.NOT_GENERALIZED
    assert "Windows is as before" in problem.remedy
    after = live_state(built)
    assert (after.default, after.has_loader, after.has_options) == (before.default, False, False)
    assert "wait" not in context.events


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        (r"SYSTEM\CurrentControlSet\Control\BitLockerStatus", "BootStatus", "BitLocker has encrypted C:"),
        (sysprep.RESERVES_KEY, "ActiveScenario", "reserved storage"),
        (r"SECURITY\Policy", "PartOfDomain", "member of the domain"),
        (r"SYSTEM\Setup\Source OS (Updated on 1/1/2024)", "x", "upgraded in place"),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending", "x", "restart is pending"),
    ],
)
def test_what_sysprep_would_refuse_is_seen_before_anything_is_done(built: Any, key: str, name: str, said: str) -> None:
    built.machine.live_registry.set(f"HKLM\\{key}", name, registry_hive.Value.dword(1))
    before, computer = live_state(built), Computer(built)
    assert said in failure(lambda: run_step(prepare(PrepareContext(built)), computer)).message
    assert not computer.jobs
    assert live_state(built) == before


def test_what_only_sysprep_sees_leaves_windows_as_it_was(built: Any) -> None:
    """An app of one user: Sysprep itself refuses, in the job."""
    store = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Appx\AppxAllUserStore"
    built.machine.live_registry.set(rf"{store}\S-1-5-21-1-2-3-1001\Game_1.0_x64__abc", "x", registry_hive.Value.dword(1))
    before = live_state(built)
    problem = failure(lambda: run_step(prepare(PrepareContext(built)), Computer(built)))
    assert problem.code == sysprep.NOT_GENERALIZED
    assert "Windows is as before" in problem.remedy
    assert live_state(built).default == before.default
    assert b"0x80073cf2" in built.files.read(sysprep.LOGS[1])


def test_where_sysprep_refuses_without_a_control_node_windows_starts_as_before(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live_state(built)
    monkeypatch.setattr(sysprep, "PROGRAM", r"C:\Windows\System32\cmd.exe")
    context, computer = PrepareContext(built), LosesItsNetwork(built)
    computer.losses = 99
    failure(lambda: run_step(prepare(context), computer))
    assert context.events[-1] == "wait"
    after = live_state(built)
    assert (after.default, after.has_loader, after.has_options) == (before.default, False, False)


def test_a_second_try_that_sysprep_refuses_gives_windows_its_start_back(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control node died after it had made Windows PE the default: the second try does not find the default that was before."""
    before = live_state(built)

    def dies(self: Any, job: Job, wait: float = 0) -> JobStatus:
        raise ComputerLost("the control node died")

    with monkeypatch.context() as dying:
        dying.setattr(Computer, "start_job", dies)
        with pytest.raises(ComputerLost):
            run_step(prepare(PrepareContext(built)), Computer(built))
    assert live_state(built).starts_always
    monkeypatch.setattr(sysprep, "PROGRAM", r"C:\Windows\System32\cmd.exe")
    assert failure(lambda: run_step(prepare(PrepareContext(built)), Computer(built))).code == sysprep.NOT_GENERALIZED
    after = live_state(built)
    assert (after.default, after.has_loader, after.has_options) == (before.default, False, False)


class LosesItsNetwork(Computer):
    """The connection is lost while Sysprep runs, as generalize may take the network away."""

    losses = 1

    def job_status(self, job_id: str, offset: int = 0, wait: float = 0) -> JobStatus:
        if self.losses:
            self.losses -= 1
            raise ComputerLost("gone")
        return super().job_status(job_id, offset, wait)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_connection_that_is_lost_while_sysprep_runs(built: Any, monkeypatch: pytest.MonkeyPatch, refuses: bool) -> None:
    """Windows PE does not come where Sysprep refused: then Windows answers again, and its reason is told."""
    before, waited = live_state(built), []
    if refuses:
        monkeypatch.setattr(sysprep, "PROGRAM", r"C:\Windows\System32\cmd.exe")
    context, computer = PrepareContext(built), LosesItsNetwork(built)

    def wait_for(target: Environment, *, time_limit: int, last_boot: str) -> Any:
        waited.append((target, time_limit))
        if target is Environment.WINDOWS_PE and refuses:
            raise ComputerLost("did not answer in Windows PE")
        return computer

    monkeypatch.setattr(context, "wait_for", wait_for)
    problem = failure(lambda: run_step(prepare(context), computer))
    if refuses:
        assert problem.code == sysprep.NOT_GENERALIZED
        assert waited == [(Environment.WINDOWS_PE, 60), (Environment.FULL_OS, 10)]
        assert live_state(built).default == before.default
    else:
        # This bench has no restart: the computer that answers is still Windows.
        assert "not in Windows PE after Sysprep" in problem.message
        assert waited == [(Environment.WINDOWS_PE, 60)]


def test_half_generalized_windows_is_not_started_again(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = PrepareContext(built)

    def sets_state(self: Any, job: Job) -> None:
        built.machine.live_registry.set(
            rf"HKLM\{sysprep.STATE_KEY}", "ImageState", registry_hive.Value.sz(sysprep.UNDEPLOYABLE)
        )  # fmt: skip
        self.codes[job.id] = sysprep.NOT_GENERALIZED

    monkeypatch.setattr(Computer, "start_job", sets_state)
    problem = failure(lambda: run_step(prepare(context), Computer(built)))
    assert "build the computer anew" in problem.remedy
    assert live_state(built).starts_always


@pytest.mark.parametrize(
    ("broken", "said"), [("copy-boot-image", "boot.sdi on C: is missing"), ("boot-entry", r"_osd\pe\network.json on C: is missing")]
)
def test_nothing_is_generalized_where_windows_pe_would_not_start(built: Any, broken: str, said: str) -> None:
    before = live_state(built)
    computer = Computer(built)
    assert said in failure(lambda: run_step(prepare(PrepareContext(built, broken)), computer)).message
    assert not computer.jobs
    assert live_state(built).default == before.default


@pytest.mark.parametrize("makes", ["create_entry", "boot_always"])
def test_a_store_that_is_not_as_it_must_be_is_seen_before_anything_is_generalized(
    built: Any, makes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = live_state(built)
    monkeypatch.setattr(boot_store, makes, lambda *given: [])
    computer = Computer(built)
    assert failure(lambda: run_step(prepare(PrepareContext(built)), computer)).message
    assert not computer.jobs
    assert live_state(built).default == before.default


def test_a_file_that_is_still_there_after_it_was_deleted_stops_sysprep(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old success tag would be taken for Sysprep's success; del ends with 0 all the same."""
    before = live_state(built)
    built.files.write(sysprep.SUCCESS_TAG, b"")
    monkeypatch.setattr(prepare_module, "_forget_earlier", lambda ready: [])
    computer = Computer(built)
    assert f"{sysprep.SUCCESS_TAG} could not be deleted" in failure(lambda: run_step(prepare(PrepareContext(built)), computer)).message
    assert not computer.jobs
    assert live_state(built) == before


def test_a_boot_store_that_reg_exe_does_not_export_is_said(built: Any) -> None:
    entry = boot_staging.WindowsPeEntry("C:", boot_staging.Firmware.UEFI)
    message = failure(lambda: boot_staging.read_state(Computer(built), entry)).message  # type: ignore[arg-type]
    assert r"reg.exe could not export HKLM\BCD00000000" in message


def test_firmware_is_not_guessed(built: Any) -> None:
    step = prepare(PrepareContext(built))
    found = replace(step.observe(Computer(built)), firmware=None)  # type: ignore[arg-type]
    assert "BIOS or UEFI" in failure(lambda: step.plan(found)).message


def test_the_account_its_profile_and_its_folder_go_with_the_job(built: Any) -> None:
    assert built.run("net user osd-run Pa55word!x /add").code == 0
    computer = Computer(built)
    sid = str(computer.query("SELECT SID FROM Win32_UserAccount WHERE LocalAccount=TRUE AND Name='osd-run'")[0]["SID"])
    profile = rf"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\{sid}"
    registry = built.machine.live_registry
    registry.set(profile, "ProfileImagePath", registry_hive.Value.make("REG_EXPAND_SZ", r"C:\Users\osd-run"))
    built.files.make_directories(r"C:\Users\osd-run\Desktop")
    step = prepare(PrepareContext(built))
    plan = step.plan(step.observe(computer))  # type: ignore[arg-type]
    assert "remove the account osd-run" in [c.summary for c in plan.changes]
    step.apply(computer, plan)  # type: ignore[arg-type]
    assert not computer.query("SELECT SID FROM Win32_UserAccount WHERE LocalAccount=TRUE AND Name='osd-run'")
    assert registry.find(profile) is None
    assert not built.files.exists(r"C:\Users\osd-run")


@needs_wimlib
def test_windows_pe_proves_that_windows_is_generalized(generalized: Any) -> None:
    step = prepare(Context(generalized))
    plan = step.predict()
    result = step.verify(Computer(generalized), plan)  # type: ignore[arg-type]
    assert result["image_state"] == sysprep.GENERALIZED
    assert generalized.run(r"reg load HKLM\T W:\Windows\System32\config\SYSTEM").code == 0
    assert generalized.run(r"reg delete HKLM\T\Setup /v CloneTag /f").code == 0
    assert generalized.run(r"reg unload HKLM\T").code == 0
    assert "CloneTag missing" in failure(lambda: step.verify(Computer(generalized), plan)).message  # type: ignore[arg-type]
