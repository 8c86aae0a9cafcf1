# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that make Windows PE the next start share this: the boot image on the disk, hashed, and its boot entry, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..windows import boot_store, staged_network
from ..windows.boot_store import BootState, BootStoreError, WindowsPeEntry
from ..windows.command_line import CommandLineError, batch_line
from ..windows.computer import Computer
from ..windows.disks import read_disks, used_letters
from ..windows.exit_codes import describe_exit_code
from ..windows.firmware import Firmware, read_firmware
from ..windows.local_content import Source
from ..windows.names import BOOT_LOADER_ENTRY, STAGED_BOOT_IMAGE, STAGED_BOOT_SDI, STAGED_NETWORK_SETTINGS, WORK_FOLDER
from ..windows.registry_hive import HiveError
from ..windows.volumes import file_sizes, placed
from .base import StepContext, StepFailure
from .content_copy import fetch_content
from .drive_letters import assign_letters, free_letters

_FAILED = 40
#: The adapters' settings beside the script that copies them.
_SETTINGS = "network.json"


def stage_in_windows(context: StepContext, computer: Computer, image: Mapping[str, Any]) -> None:
    r"""Bring boot.wim and the boot.sdi beside it to ``C:\_osd\pe`` of the running Windows, hashed; the rest goes with the boot entry."""
    source = Source.from_option(image)
    folder = rf"C:\{WORK_FOLDER}\pe"
    if source.is_share:
        fetch_content(context, computer, source, "boot-image", folder=folder, also="boot.sdi")
    elif source.is_web:
        fetch_content(context, computer, source, "boot-image", folder=folder)
        fetch_content(context, computer, _beside(source), "boot-sdi", folder=folder)
    commands = _place(source, folder)
    if commands:
        _script(context, computer, "stage-boot-image", "C:", commands)
    _check_there(computer, "C:", (STAGED_BOOT_IMAGE, STAGED_BOOT_SDI))
    _check_hash(computer, "C:", context.boot_image_hash(image))


def _place(source: Source, folder: str) -> list[list[str]]:
    """Return the commands that give the files the names that the boot entry knows; none where they have them."""
    cmd = [r"C:\Windows\System32\cmd.exe", "/d", "/c"]
    image, sdi = rf"C:\{STAGED_BOOT_IMAGE}", rf"C:\{STAGED_BOOT_SDI}"
    if source.is_share or source.is_web:
        brought = rf"{folder}\{source.file_name}"
        return [] if brought.lower() == image.lower() else [[*cmd, "move", "/y", brought, image]]
    return [
        _make_folder(cmd[0], "C:"),
        [*cmd, "copy", "/y", "/b", source.target, image],
        [*cmd, "copy", "/y", "/b", _beside(source).target, sdi],
    ]


def stage_on_disk(context: StepContext, computer: Computer, image: Mapping[str, Any], entry: WindowsPeEntry, system: str) -> None:
    """Put Windows PE on a disk that was just partitioned, as what starts always; read files and entry back.

    boot.wim and boot.sdi come from the connected share to the Windows volume, seen from Windows PE as the entry's drive (``W:``); a boot
    manager with a new store goes to the system volume ``system`` (``S:``). One job, and a request for each proof.
    """
    path = context.content(image)
    folder = path.rsplit("\\", 1)[0]
    copy = [r"X:\Windows\System32\cmd.exe", "/d", "/c", "copy", "/y", "/b"]
    commands = [
        _make_folder(copy[0], entry.drive),
        [*copy, path, rf"{entry.drive}\{STAGED_BOOT_IMAGE}"],
        [*copy, rf"{folder}\boot.sdi", rf"{entry.drive}\{STAGED_BOOT_SDI}"],
        [*copy, _SETTINGS, rf"{entry.drive}\{STAGED_NETWORK_SETTINGS}"],
        *new_store(entry, system),
        *boot_store.create_entry(entry, BootState()),
        *boot_store.boot_always(entry),
    ]
    _script(context, computer, "stage-boot-image", "X:", [_full_path(argv, "X:") for argv in commands], _settings(computer))
    _check_there(computer, entry.drive, (STAGED_BOOT_IMAGE, STAGED_BOOT_SDI, STAGED_NETWORK_SETTINGS))
    _check_hash(computer, entry.drive, context.boot_image_hash(image))
    check_boot_entry(computer, entry, once=False)


def _make_folder(cmd: str, drive: str) -> list[str]:
    folder = rf"{drive}\{WORK_FOLDER}\pe"
    return [cmd, "/d", "/c", "if", "not", "exist", folder, "md", folder]


def _beside(source: Source) -> Source:
    return Source(source.target[: -len(source.file_name)] + "boot.sdi", source.user, source.password)


def _settings(computer: Computer) -> dict[str, bytes]:
    """Return the adapters' settings as a file that travels with the job which copies it. One request."""
    return {_SETTINGS: staged_network.render(staged_network.read_adapters(computer.cim))}


def _check_there(computer: Computer, drive: str, names: Sequence[str], gone: Sequence[str] = ()) -> None:
    sizes = file_sizes(computer, [*(rf"{drive}\{name}" for name in names), *gone])
    # del ends with 0 where it could not delete.
    left = [path for path in gone if path.lower() in sizes]
    if left:
        raise StepFailure(f"{', '.join(left)} could not be deleted.", remedy="Delete it by hand and run the step again.")
    missing = [name for name in names if not sizes.get(rf"{drive}\{name}".lower())]
    if missing:
        raise StepFailure(
            f"{', '.join(missing)} on {drive} is missing or empty after it was copied.",
            remedy="Read the log of the copy; check that boot.sdi lies beside the boot image.",
        )


def _check_hash(computer: Computer, drive: str, sha256: str) -> None:
    if sha256 and (found := computer.file_hash(rf"{drive}\{STAGED_BOOT_IMAGE}")) != sha256:
        raise StepFailure(
            f"The boot image on {drive} has SHA-256 {found}, declared is {sha256}.",
            remedy="Correct sha256 of the boot image (without it, boot.json beside its certificate declares it), or restore the file.",
        )


def set_boot_entry(
    context: StepContext,
    computer: Computer,
    entry: WindowsPeEntry,
    *,
    once: bool,
    state: BootState | None = None,
    first: Sequence[Sequence[str]] = (),
    gone: Sequence[str] = (),
) -> None:
    r"""Have the staged Windows PE start next (``once``) or always from the running Windows; read it back.

    One job makes the entry in the system's own store, lays the adapters' settings beside the boot image, and shows the store as it is
    then. Raises StepFailure before anything restarts. ``state`` is what the store said just before, where it was read; ``first`` are
    commands that the job begins with, ``gone`` the files that these delete.
    """
    copy = [r"C:\Windows\System32\cmd.exe", "/d", "/c", "copy", "/y", "/b", _SETTINGS, rf"C:\{STAGED_NETWORK_SETTINGS}"]
    made = [_full_path(argv, "C:") for argv in _entry_commands(entry, state or read_state(computer, entry), once=once)]
    commands = [*(_full_path(argv, "C:") for argv in first), copy, *made, *boot_store.show_running_store()]
    output = _script(context, computer, "boot-entry", "C:", commands, _settings(computer))
    _check_there(computer, "C:", (STAGED_NETWORK_SETTINGS,), gone)
    try:
        approve_boot_entry(boot_store.shown_state(output), entry, once=once)
    except BootStoreError as error:
        raise _unreadable(entry, error) from error


def write_boot_entry(context: StepContext, computer: Computer, entry: WindowsPeEntry) -> None:
    """Make the entry in a store that Windows PE sees as a file, and have it start always; the caller reads it back."""
    run_commands(context, computer, "boot-entry", "X:", _entry_commands(entry, read_state(computer, entry), once=False))


def _entry_commands(entry: WindowsPeEntry, state: BootState, *, once: bool) -> list[list[str]]:
    return [*boot_store.create_entry(entry, state), *(boot_store.boot_once if once else boot_store.boot_always)(entry)]


def check_boot_entry(computer: Computer, entry: WindowsPeEntry, *, once: bool) -> BootState:
    """Return what the store says now; raise StepFailure where Windows PE would not start from it."""
    return approve_boot_entry(read_state(computer, entry), entry, once=once)


def approve_boot_entry(state: BootState, entry: WindowsPeEntry, *, once: bool) -> BootState:
    """Return a state that was read; raise StepFailure where Windows PE would not start from it."""
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
    r"""Read the running system's store as reg.exe exports it (``C:\_osd`` is there), another one, a hive of some 30 KB, from its file."""
    try:
        return boot_store.state_of(computer.get_file(entry.store)) if entry.store else boot_store.read_running_store(computer)
    except FileNotFoundError:
        return BootState()
    except (HiveError, BootStoreError) as error:
        raise _unreadable(entry, error) from error


def _unreadable(entry: WindowsPeEntry, error: Exception) -> StepFailure:
    store = f"store {entry.store}" if entry.store else "store of the running Windows"
    return StepFailure(f"The boot {store} cannot be read: {error}.", remedy="Run the step again.")


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


def start_windows(context: StepContext, computer: Computer, root: str) -> None:
    r"""Make the Windows on ``root`` (``W:\``) the default start again, seen from Windows PE; the entry of Windows PE stays.

    ``bcdboot`` refreshes the entry of its Windows and makes it the default [doc: cp/bcdboot-command-line-options-techref-di].
    """
    firmware = read_firmware(computer.cim)
    if firmware is None:
        raise StepFailure(
            "Windows PE has not recorded whether the firmware is BIOS or UEFI (PEFirmwareType is missing).",
            remedy="Run 'wpeutil UpdateBootInfo' in the boot image's startnet.cmd.",
        )
    system = _system_drive(context, computer, root, firmware)
    run_commands(context, computer, "bcdboot", "X:", [["bcdboot.exe", rf"{root}Windows", "/s", system, "/f", firmware.value]])
    entry = WindowsPeEntry(root[:2], firmware, store_path(system, firmware))
    state = read_state(computer, entry)
    if state.default in ("", BOOT_LOADER_ENTRY) or state.bootsequence:
        raise StepFailure(
            f"Windows is not what starts next: the default entry in {entry.store} is {state.default or 'not set'}.",
            remedy="Read the log of bcdboot.",
        )


def _system_drive(context: StepContext, computer: Computer, root: str, firmware: Firmware) -> str:
    places = placed(read_disks(computer.cim))
    disk = next((p.disk.number for p in places if p.root.upper() == root.upper()), None)
    own = [p for p in places if p.disk.number == disk]
    wanted = [p for p in own if (p.partition.kind == "EFI" if firmware is Firmware.UEFI else p.partition.active)]
    if not wanted:
        raise StepFailure(
            f"The disk of {root} has no system partition for {firmware.value}.",
            remedy="Run the build again from Format and Partition Disk.",
        )
    if not wanted[0].letter:
        # Started anew, Windows PE gives no letter to an EFI partition.
        letter = free_letters(used_letters(computer.cim), "S")[0]
        assign_letters(context, computer, [(wanted[0], letter)])
        return f"{letter}:"
    return f"{wanted[0].letter}:"


def run_commands(context: StepContext, computer: Computer, label: str, drive: str, commands: Sequence[Sequence[str]]) -> None:
    """Run commands in order as one job; the first that fails ends it. StepFailure names it."""
    _script(context, computer, label, drive, [_full_path(argv, drive) for argv in commands])


def _full_path(argv: Sequence[str], drive: str) -> list[str]:
    program = argv[0]
    return [program if "\\" in program else rf"{drive}\Windows\System32\{program}", *argv[1:]]


def _script(
    context: StepContext,
    computer: Computer,
    label: str,
    drive: str,
    commands: Sequence[Sequence[str]],
    files: Mapping[str, bytes] | None = None,
) -> bytes:
    """Run commands as one job whose script, with ``files`` beside it, travels with its start. Return what they said."""
    name = f"{label}.cmd"
    lines = ["@echo off"]
    try:
        # Unlike 'if errorlevel 1', || also sees the negative codes of a program that crashed.
        lines += [f"{batch_line(argv)} || exit /b {_FAILED + number}" for number, argv in enumerate(commands, start=1)]
        text = "".join(line + "\r\n" for line in lines).encode("ascii")
    except (CommandLineError, UnicodeEncodeError) as error:
        raise StepFailure(
            f"The commands of '{label}' cannot be written into a batch file: {error}.",
            remedy="Use paths of ASCII characters without quotation marks.",
        ) from error
    argv = [rf"{drive}\Windows\System32\cmd.exe", "/d", "/c", rf".\{name}"]
    result = context.run_job(computer, label, argv, time_limit=3600, files={name: text, **(files or {})})
    if result.exit_code:
        number = result.exit_code - _FAILED
        failed = commands[number - 1] if 0 < number <= len(commands) else ["cmd.exe"]
        # A number of ours is no code of cmd's.
        code = f"exit code {result.exit_code}" if 0 < number <= len(commands) else describe_exit_code("cmd", result.exit_code)
        raise StepFailure(
            f"'{' '.join(failed)}' failed ({label}, {code}).",
            code=result.exit_code,
            remedy="Read the log; nothing was restarted.",
            log=str(result.log or ""),
        )
    return result.output
