# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sysprep: what it would refuse, its answer file for generalize, and the one job that runs it and hands over to Windows PE.

The exit code of sysprep.exe is not reliable across builds; the image state and the success tag are the proof
[doc: cp/windows-setup-states; knowledge].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .command_line import batch_line

#: Registry key of the image state, below HKLM [doc: cp/windows-setup-states].
STATE_KEY = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
#: ActiveScenario in it is 0 while nothing uses the reserved storage [knowledge].
RESERVES_KEY = r"SOFTWARE\Microsoft\Windows\CurrentVersion\ReserveManager"
COMPLETE = "IMAGE_STATE_COMPLETE"
GENERALIZED = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
UNDEPLOYABLE = "IMAGE_STATE_UNDEPLOYABLE"
#: Written by generalize and never removed: an image-born Windows has an old one, so it is deleted first [code: MDT LTISysprep].
CLONE_TAG_KEY, CLONE_TAG_VALUE = r"SYSTEM\Setup", "CloneTag"

PROGRAM = r"C:\Windows\System32\Sysprep\sysprep.exe"
SUCCESS_TAG = r"C:\Windows\System32\Sysprep\Sysprep_succeeded.tag"
LOGS = (
    r"C:\Windows\System32\Sysprep\Panther\setupact.log",
    r"C:\Windows\System32\Sysprep\Panther\setuperr.log",
)
#: Cached answer files would be used by the clones, or hold secrets.
STALE_ANSWER_FILES = (
    r"C:\Windows\Panther\unattend.xml",
    r"C:\Windows\Panther\Unattend\unattend.xml",
    r"C:\Windows\System32\Sysprep\unattend.xml",
    r"C:\unattend.xml",
)
#: Exit codes of the job, beyond those of cmd itself.
NOT_GENERALIZED, NO_SUCCESS_TAG, BOOT_ENTRY_FAILED, ACCOUNT_LEFT, NOT_RESTARTED = 31, 32, 33, 34, 35
JOB_CODES = {
    NOT_GENERALIZED: "Sysprep ended and Windows is not generalized",
    NO_SUCCESS_TAG: "Sysprep ended without its success tag",
    BOOT_ENTRY_FAILED: "Windows is generalized, but the boot entry of Windows PE could not be set again",
    ACCOUNT_LEFT: "Windows is generalized, but the run's account could not be removed",
    NOT_RESTARTED: "Windows is generalized, but the restart in Windows PE was refused",
}


@dataclass(frozen=True)
class SysprepSituation:
    """What Sysprep looks at. ``rearm_left`` None where Windows does not say; ``encrypted`` are drive letters."""

    image_state: str
    domain: str
    domain_controller: bool
    rearm_left: int | None
    pending_restart: tuple[str, ...]
    encrypted: tuple[str, ...]
    upgraded: bool
    reserved_storage: bool
    running: bool


@dataclass(frozen=True)
class Problem:
    """A reason why Sysprep would fail, with what to do about it."""

    message: str
    remedy: str


def problems(situation: SysprepSituation, *, keep_activation: bool) -> list[Problem]:
    """Return every reason why Sysprep would refuse or leave a bad image; empty where it can run."""
    found = []
    if situation.domain_controller:
        found.append(Problem("The computer is a domain controller.", "Build a reference computer that is none."))
    elif situation.domain:
        found.append(Problem(f"The computer is a member of the domain {situation.domain}.", "Run Join Domain or Workgroup first."))
    if situation.image_state != COMPLETE:
        found.append(Problem(f"The image state is {situation.image_state or 'not recorded'}, not {COMPLETE}.", "Let setup finish."))
    if situation.rearm_left == 0 and not keep_activation:
        found.append(
            Problem(
                "Windows cannot be rearmed once more (0xC004D307 would follow).",
                "Set keep_activation, or build from an image with rearms left.",
            )
        )
    if situation.pending_restart:
        found.append(Problem(f"A restart is pending ({', '.join(situation.pending_restart)}).", "Restart the computer first."))
    if situation.encrypted:
        drives = ", ".join(situation.encrypted)
        found.append(
            Problem(
                f"BitLocker has encrypted {drives} (0x80310039 would follow).",
                "Decrypt the volume and wait for the end.",
            )
        )
    if situation.upgraded:
        found.append(Problem("Windows was upgraded in place; such an installation cannot be imaged.", "Build the computer anew."))
    if situation.reserved_storage:
        found.append(
            Problem(
                "Servicing uses the reserved storage (0x800F0975 would follow).",
                "Let updates finish and restart the computer.",
            )
        )
    if situation.running:
        found.append(Problem("sysprep.exe is running already.", "Wait for its end, or restart the computer."))
    return found


def generalize_answer_file(architecture: str, *, keep_activation: bool) -> bytes:
    """Return the answer file for generalize alone: the clones must not find settings for later passes in it."""
    skip = 1 if keep_activation else 0
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<unattend xmlns="urn:schemas-microsoft-com:unattend">\n'
        ' <settings pass="generalize">\n'
        f'  <component name="Microsoft-Windows-Security-SPP" processorArchitecture="{architecture}"'
        ' publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS">\n'
        f"   <SkipRearm>{skip}</SkipRearm>\n"
        "  </component>\n"
        " </settings>\n"
        "</unattend>\n"
    ).encode()


def command(answer_file: str) -> list[str]:
    """Return the command line; ``/quiet`` is mandatory in session 0, ``/quit`` keeps Windows up for what follows."""
    return [PROGRAM, "/generalize", "/oobe", "/quiet", "/quit", f"/unattend:{answer_file}"]


def job_script(
    answer_file: str,
    give_back: Sequence[Sequence[str]],
    forget_entries: Sequence[Sequence[str]],
    boot_entries: Sequence[Sequence[str]],
    remove_account: Sequence[Sequence[str]],
    leftovers: Sequence[Sequence[str]],
    delete_task: Sequence[str],
) -> str:
    """Return the batch file that runs as SYSTEM without the control node and ends in a restart into Windows PE.

    ``forget_entries`` and ``leftovers`` may fail (nothing there); ``boot_entries`` and ``remove_account`` may not. ``delete_task``
    removes the task that runs this file: after the restart is ordered, for its end could be the script's. Where Sysprep refused before it
    began, ``give_back`` has Windows start as before, also where the control node is gone.
    The registry search compares a token that is the same in every language.
    """
    system = r"C:\Windows\System32"

    def has_state(state: str) -> str:
        return batch_line([rf"{system}\reg.exe", "query", rf"HKLM\{STATE_KEY}", "/f", state, "/d", "/e"])

    lines = [
        "@echo off",
        batch_line(command(answer_file)),
        f"{has_state(GENERALIZED)} || goto refused",
        f'if not exist "{SUCCESS_TAG}" exit /b {NO_SUCCESS_TAG}',
        *(batch_line(argv) for argv in forget_entries),
    ]
    # Unlike 'if errorlevel 1', || also sees the negative codes of a program that crashed.
    lines += [f"{batch_line(argv)} || exit /b {BOOT_ENTRY_FAILED}" for argv in boot_entries]
    lines += [f"{batch_line(argv)} || exit /b {ACCOUNT_LEFT}" for argv in remove_account]
    lines += [batch_line(argv) for argv in leftovers]
    restart = [rf"{system}\shutdown.exe", "/r", "/f", "/t", "5", "/d", "p:2:4"]
    lines += [f"{batch_line(restart)} || exit /b {NOT_RESTARTED}", batch_line(delete_task), "exit /b 0"]
    lines += [":refused", f"{has_state(COMPLETE)} || exit /b {NOT_GENERALIZED}"]
    lines += [*(batch_line(argv) for argv in give_back), f"exit /b {NOT_GENERALIZED}"]
    return "".join(line + "\r\n" for line in lines)
