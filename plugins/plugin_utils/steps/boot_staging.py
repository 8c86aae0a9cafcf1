# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that make Windows PE the next start share this: the boot image on the disk, hashed, and its boot entry, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..windows import boot_store, staged_network
from ..windows.boot_store import BootState, WindowsPeEntry
from ..windows.command_line import batch_line
from ..windows.computer import Computer
from ..windows.exit_codes import describe_exit_code
from ..windows.firmware import Firmware
from ..windows.local_content import Source
from ..windows.names import STAGED_BOOT_IMAGE, STAGED_BOOT_SDI, STAGED_NETWORK_SETTINGS, WORK_FOLDER
from ..windows.registry import Registry, reg_load, reg_unload
from .base import StepContext, StepFailure
from .content_copy import fetch_content

_FAILED = 40


def stage_in_windows(context: StepContext, computer: Computer, image: Mapping[str, Any]) -> None:
    r"""Bring boot.wim and the boot.sdi beside it to ``C:\_osd\pe`` of the running Windows, with the adapters' settings."""
    source = Source.from_option(image)
    for name, wanted in (("boot-image", source), ("boot-sdi", _beside(source))):
        folder = fetch_content(context, computer, wanted, name)
        target = STAGED_BOOT_IMAGE if name == "boot-image" else STAGED_BOOT_SDI
        _script(
            context,
            computer,
            f"stage-{name}",
            "C:",
            [
                [
                    r"C:\Windows\System32\cmd.exe",
                    "/d",
                    "/c",
                    "if",
                    "not",
                    "exist",
                    rf"C:\{WORK_FOLDER}\pe",
                    "md",
                    rf"C:\{WORK_FOLDER}\pe",
                ],
                [
                    r"C:\Windows\System32\cmd.exe",
                    "/d",
                    "/c",
                    "copy",
                    "/y",
                    "/b",
                    rf"{folder}\{wanted.file_name}",
                    rf"C:\{target}",
                ],
            ],
        )
    _finish(computer, "C:", source.sha256)


def stage_on_disk(context: StepContext, computer: Computer, image: Mapping[str, Any], drive: str) -> None:
    """Copy boot.wim and boot.sdi from the connected share to the Windows volume, seen from Windows PE as ``drive`` (``W:``)."""
    path = context.content(image)
    folder = path.rsplit("\\", 1)[0]
    cmd = r"X:\Windows\System32\cmd.exe"
    _script(
        context,
        computer,
        "stage-boot-image",
        "X:",
        [
            [cmd, "/d", "/c", "if", "not", "exist", rf"{drive}\{WORK_FOLDER}\pe", "md", rf"{drive}\{WORK_FOLDER}\pe"],
            [cmd, "/d", "/c", "copy", "/y", "/b", path, rf"{drive}\{STAGED_BOOT_IMAGE}"],
            [cmd, "/d", "/c", "copy", "/y", "/b", rf"{folder}\boot.sdi", rf"{drive}\{STAGED_BOOT_SDI}"],
        ],
    )
    _finish(computer, drive, (image.get("sha256") or "").lower())


def _beside(source: Source) -> Source:
    return Source(source.target[: -len(source.file_name)] + "boot.sdi", source.user, source.password)


def _finish(computer: Computer, drive: str, sha256: str) -> None:
    computer.put_file(rf"{drive}\{STAGED_NETWORK_SETTINGS}", staged_network.render(staged_network.read_adapters(computer.cim)))
    found = computer.file_hash(rf"{drive}\{STAGED_BOOT_IMAGE}")
    if sha256 and found != sha256:
        raise StepFailure(
            f"The boot image on {drive} has SHA-256 {found}, declared is {sha256}.",
            remedy="Correct sha256 of the boot image, or restore the file.",
        )


def set_boot_entry(context: StepContext, computer: Computer, entry: WindowsPeEntry, *, once: bool) -> BootState:
    """Make the entry and have it start next (``once``) or always; read it back. Raises StepFailure before anything restarts."""
    state = read_state(computer, entry)
    start = boot_store.boot_once if once else boot_store.boot_always
    commands = [*boot_store.create_entry(entry, state), *start(entry)]
    drive = "X:" if entry.store else "C:"
    _script(context, computer, "boot-entry", drive, [_full_path(argv, drive) for argv in commands])
    return check_boot_entry(computer, entry, once=once)


def check_boot_entry(computer: Computer, entry: WindowsPeEntry, *, once: bool) -> BootState:
    """Return what the store says now; raise StepFailure where Windows PE would not start from it."""
    state = read_state(computer, entry)
    problems = state.entry_problems(entry)
    if not (state.starts_once if once else state.starts_always):
        problems.append("it is not what starts next")
    if problems:
        raise StepFailure(
            f"The boot entry of Windows PE is not as it must be: {'; '.join(problems)}. The computer is not restarted.",
            remedy="Read the log of the bcdedit commands.",
        )
    return state


def read_state(computer: Computer, entry: WindowsPeEntry) -> BootState:
    """Read the running system's store, or another one by loading it as a hive."""
    registry = Registry(computer.cim)
    if not entry.store:
        return boot_store.read_boot_state(registry)
    name = "OSD_BCD"
    if computer.file_info(entry.store) is None:
        return BootState()
    load = computer.run(reg_load(name, entry.store))
    if load.exit_code:
        raise StepFailure(f"The boot store {entry.store} cannot be read: reg load ended with {load.exit_code}.", code=load.exit_code)
    try:
        return boot_store.read_boot_state(registry, name)
    finally:
        computer.run(reg_unload(name))


def store_path(system_drive: str, firmware: Firmware) -> str:
    """Return where the store lies on a system partition that Windows PE sees as ``system_drive`` (``S:``)."""
    return rf"{system_drive}\EFI\Microsoft\Boot\BCD" if firmware is Firmware.UEFI else rf"{system_drive}\Boot\BCD"


def new_store(entry: WindowsPeEntry, system_drive: str) -> list[list[str]]:
    """Return the commands that put a boot manager with an empty store on a fresh system partition, from Windows PE's own files.

    The store is made as Microsoft's documentation makes one for network boot [doc: wsd/bcdedit /createstore].
    """
    cmd = [r"X:\Windows\System32\cmd.exe", "/d", "/c"]
    if entry.firmware is Firmware.UEFI:
        boot, own = rf"{system_drive}\EFI\Boot", rf"{system_drive}\EFI\Microsoft\Boot"
        manager = r"X:\Windows\Boot\EFI\bootmgfw.efi"
        files = [
            [*cmd, "md", boot],
            [*cmd, "md", own],
            [*cmd, "copy", "/y", "/b", manager, rf"{boot}\bootx64.efi"],
            [*cmd, "copy", "/y", "/b", manager, rf"{own}\bootmgfw.efi"],
        ]
    else:
        files = [
            [*cmd, "md", rf"{system_drive}\Boot"],
            [*cmd, "copy", "/y", "/b", r"X:\Windows\Boot\PCAT\bootmgr", rf"{system_drive}\bootmgr"],
            ["bootsect.exe", "/nt60", system_drive, "/mbr"],
        ]
    return [
        *files,
        ["bcdedit.exe", "/createstore", entry.store],
        entry.bcdedit("/create", "{bootmgr}", "/d", "Windows Boot Manager"),
        entry.bcdedit("/set", "{bootmgr}", "device", f"partition={system_drive}"),
    ]


def run_commands(context: StepContext, computer: Computer, label: str, drive: str, commands: Sequence[Sequence[str]]) -> None:
    """Run commands in order as one job; the first that fails ends it. StepFailure names it."""
    _script(context, computer, label, drive, [_full_path(argv, drive) for argv in commands])


def _full_path(argv: Sequence[str], drive: str) -> list[str]:
    program = argv[0]
    return [program if "\\" in program else rf"{drive}\Windows\System32\{program}", *argv[1:]]


def _script(context: StepContext, computer: Computer, label: str, drive: str, commands: Sequence[Sequence[str]]) -> None:
    path = rf"{drive}\{WORK_FOLDER}\{label}.cmd"
    lines = ["@echo off"]
    for number, argv in enumerate(commands, start=1):
        lines += [batch_line(argv), f"if errorlevel 1 exit /b {_FAILED + number}"]
    computer.put_file(path, "".join(line + "\r\n" for line in lines).encode("ascii"))
    result = context.run_job(computer, label, [rf"{drive}\Windows\System32\cmd.exe", "/d", "/c", path], time_limit=3600)
    if result.exit_code:
        number = result.exit_code - _FAILED
        argv = commands[number - 1] if 0 < number <= len(commands) else ["cmd.exe"]
        raise StepFailure(
            f"'{' '.join(argv)}' failed ({label}, {describe_exit_code('cmd', result.exit_code)}).",
            code=result.exit_code,
            remedy="Read the log; nothing was restarted.",
            log=str(result.log or ""),
        )
