# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare Windows for Capture: Windows PE staged and made the default start, then one SYSTEM job that runs Sysprep and restarts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import boot_store, sysprep
from ..windows.boot_store import WindowsPeEntry
from ..windows.cim_classes import VOLUME_ENCRYPTION
from ..windows.computer import Computer, ComputerLost, Environment, Job
from ..windows.firmware import Firmware, read_firmware
from ..windows.job_files import job_folder
from ..windows.names import BOOT_LOADER_ENTRY, RUN_ACCOUNT, SCHEDULED_TASK_FOLDER
from ..windows.pending_restart import pending_restart_reasons
from ..windows.registry import OfflineRegistry, Registry
from ..windows.volumes import NoWindows, file_sizes, windows_root
from ..wsman.faults import WsmanFault
from ..wsman.known import known
from . import boot_staging
from .base import Change, Plan, Step, StepFailure

_DRIVE = "C:"
_SCRIPT, _ANSWER_FILE = "prepare.cmd", "generalize.xml"
_PROFILES = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList"
_ARCHITECTURES = {0: "x86", 9: "amd64", 12: "arm64"}
#: The wait is on the computer, which tells the end within a second.
_WAIT = 60.0
#: Seconds that a computer whose connection was lost is waited for in Windows PE, then looked for in Windows, and so on.
_AWAY, _BACK = 60, 10


@dataclass(frozen=True)
class Readiness:
    """What Sysprep looks at, and what the job needs to know."""

    situation: sysprep.SysprepSituation
    firmware: Firmware | None
    architecture: str
    clone_tag: bool
    stale_files: tuple[str, ...]
    account_sid: str


@dataclass(frozen=True)
class PreparePlan(Plan):
    """What was found, for the job."""

    readiness: Readiness | None = None


class PrepareWindowsForCapture(Step[Readiness, PreparePlan]):
    """The step. It crosses: it begins in Windows and ends in Windows PE."""

    name: ClassVar[str] = "Prepare Windows for Capture"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.FULL_OS})
    secrets: ClassVar[tuple[str, ...]] = ("boot_image.account.password",)

    def observe(self, computer: Computer) -> Readiness:
        """Read what Sysprep would refuse for."""
        registry, cim = Registry(computer.cim), computer.cim
        stale = (*sysprep.STALE_ANSWER_FILES, sysprep.SUCCESS_TAG)
        held = file_sizes(computer, stale)
        firmware = read_firmware(cim)
        processor = cim.query("SELECT Architecture FROM Win32_Processor")[0]["Architecture"]
        account = cim.query(f"SELECT SID FROM Win32_UserAccount WHERE LocalAccount=TRUE AND Name='{RUN_ACCOUNT}'")
        return Readiness(
            situation=self._situation(computer, registry),
            firmware=firmware,
            architecture=_ARCHITECTURES.get(processor if isinstance(processor, int) else -1, "amd64"),
            clone_tag=registry.get_multi(sysprep.CLONE_TAG_KEY, sysprep.CLONE_TAG_VALUE) is not None,
            stale_files=tuple(path for path in stale if path.lower() in held),
            account_sid=str(account[0]["SID"]) if account else "",
        )

    def _situation(self, computer: Computer, registry: Registry) -> sysprep.SysprepSituation:
        cim = computer.cim
        system = cim.query("SELECT PartOfDomain,Domain,DomainRole FROM Win32_ComputerSystem")[0]
        rearm = cim.query("SELECT RemainingWindowsReArmCount FROM SoftwareLicensingService")
        left = rearm[0]["RemainingWindowsReArmCount"] if rearm else None
        role = system["DomainRole"]
        return sysprep.SysprepSituation(
            image_state=registry.get_string(sysprep.STATE_KEY, "ImageState") or "",
            domain=str(system["Domain"]) if system["PartOfDomain"] else "",
            domain_controller=role in (4, 5),
            rearm_left=left if isinstance(left, int) else None,
            pending_restart=tuple(pending_restart_reasons(registry)),
            encrypted=_encrypted(computer),
            upgraded=any(name.startswith("Source OS") for name in registry.enum_keys(r"SYSTEM\Setup") or ()),
            reserved_storage=bool(registry.get_dword(sysprep.RESERVES_KEY, "ActiveScenario")),
            running=bool(cim.query("SELECT ProcessId FROM Win32_Process WHERE Name='sysprep.exe'")),
        )

    def plan(self, state: Readiness) -> PreparePlan:
        """Refuse with every reason at once; else say what will happen."""
        found = sysprep.problems(state.situation, keep_activation=self.options["keep_activation"])
        if found:
            raise StepFailure(
                "Windows cannot be generalized. " + " ".join(p.message for p in found),
                remedy=" ".join(p.remedy for p in found),
            )
        if state.firmware is None:
            # A guess could be the wrong loader, which is found out only when Windows is generalized.
            raise StepFailure(
                "Windows has not recorded whether the firmware is BIOS or UEFI (PEFirmwareType is missing).",
                remedy="Restart the computer; the boot loader records it at every start.",
            )
        changes = [
            Change("stage Windows PE on the Windows volume and make it the default start"),
            *(Change(f"delete {path}") for path in state.stale_files),
            Change("run Sysprep (generalize, OOBE) as SYSTEM"),
            *([Change(f"remove the account {RUN_ACCOUNT}")] if state.account_sid else []),
            Change("restart in Windows PE"),
        ]
        return PreparePlan(
            tuple(changes),
            before={"image_state": state.situation.image_state},
            after={"image_state": sysprep.GENERALIZED},
            readiness=state,
        )

    def predict(self) -> PreparePlan:
        """Windows is not there yet."""
        return PreparePlan((Change("run Sysprep (generalize, OOBE) and restart in Windows PE"),), predicted=True)

    def apply(self, computer: Computer, plan: PreparePlan) -> Computer:
        """Stage and hash first, read the boot entry back, and only then hand over to the job."""
        ready = known(plan.readiness)
        entry = WindowsPeEntry(_DRIVE, known(ready.firmware))
        boot_staging.stage_in_windows(self.context, computer, self.options["boot_image"])
        before = boot_staging.read_state(computer, entry)
        try:
            first, gone = _forget_earlier(ready), ready.stale_files
            boot_staging.set_boot_entry(self.context, computer, entry, once=False, state=before, first=first, gone=gone)
            last_boot = self.context.boot_id(computer)
            job = self._job(ready, entry, _default_before(before))
            computer.start_job(job)
        except (StepFailure, WsmanFault, OSError):
            self._undo(computer, entry, before)
            raise
        return self._cross(computer, job, entry, before, last_boot)

    def _job(self, ready: Readiness, entry: WindowsPeEntry, default: str) -> Job:
        answers = sysprep.generalize_answer_file(ready.architecture, keep_activation=self.options["keep_activation"])
        job_id = f"{self.context.run_id or 'alone'}-prepare-{int(time.time())}"
        nothing = boot_store.BootState()
        everything = boot_store.BootState(has_loader=True, has_options=True)
        script = sysprep.job_script(
            rf"{job_folder(job_id)}\{_ANSWER_FILE}",
            give_back=_full(boot_store.remove_entry(entry, everything, default)),
            forget_entries=_full(boot_store.remove_entry(entry, everything)),
            boot_entries=_full([*boot_store.create_entry(entry, nothing), *boot_store.boot_always(entry)]),
            remove_account=self._remove_account(ready),
            leftovers=self._leftovers(ready),
            delete_task=[rf"{_DRIVE}\Windows\System32\schtasks.exe", "/delete", "/tn", f"{SCHEDULED_TASK_FOLDER}{job_id}", "/f"],
        )
        argv = (rf"{_DRIVE}\Windows\System32\cmd.exe", "/d", "/c", rf".\{_SCRIPT}")
        return Job(job_id, argv, files={_SCRIPT: script.encode("ascii"), _ANSWER_FILE: answers})

    def _remove_account(self, ready: Readiness) -> list[list[str]]:
        return [[rf"{_DRIVE}\Windows\System32\net.exe", "user", RUN_ACCOUNT, "/delete"]] if ready.account_sid else []

    def _leftovers(self, ready: Readiness) -> list[list[str]]:
        if not ready.account_sid:
            return []
        system = rf"{_DRIVE}\Windows\System32"
        return [
            [rf"{system}\reg.exe", "delete", rf"HKLM\{_PROFILES}\{ready.account_sid}", "/f"],
            [rf"{system}\cmd.exe", "/d", "/c", "rd", "/s", "/q", rf"{_DRIVE}\Users\{RUN_ACCOUNT}"],
        ]

    def _cross(self, computer: Computer, job: Job, entry: WindowsPeEntry, before: boot_store.BootState, last_boot: str) -> Computer:
        """Follow the job, then the computer. A connection that is lost may be the restart, or the network that generalize takes away."""
        limit = self.options["time_limit"] * 60
        deadline = time.monotonic() + limit
        self.context.progress(None, "Sysprep is running")
        here: Computer | None = computer
        while here is None or not self._ended(here, job, entry, before, deadline):
            with contextlib.suppress(ComputerLost):
                return self.context.wait_for(Environment.WINDOWS_PE, time_limit=_AWAY, last_boot=last_boot)
            if time.monotonic() >= deadline:
                raise StepFailure(
                    "The connection was lost while Sysprep ran, and the computer answered neither in Windows nor in Windows PE within "
                    f"{self.options['time_limit']} minutes.",
                    remedy="Look at its screen; the run goes on from here when it is started again.",
                )
            here = None
            with contextlib.suppress(ComputerLost):
                here = self.context.wait_for(Environment.FULL_OS, time_limit=_BACK, last_boot="")
        return self.context.wait_for(Environment.WINDOWS_PE, time_limit=limit, last_boot=last_boot)

    def _ended(self, computer: Computer, job: Job, entry: WindowsPeEntry, before: boot_store.BootState, deadline: float) -> bool:
        """Watch the job until it ends, False where the connection is lost before: no failure, the job removes the account itself."""
        while time.monotonic() < deadline:
            try:
                status = computer.job_status(job.id, wait=_WAIT)
            except (ComputerLost, KeyError, WsmanFault):
                return False
            if status.exit_code is not None:
                if status.exit_code:
                    raise self._refusal(computer, status.exit_code, status.output, entry, before)
                return True
        raise StepFailure(
            f"Sysprep did not end within {self.options['time_limit']} minutes.",
            remedy="Look at the console; raise time_limit, or build the computer anew. Windows PE stays what starts next.",
        )

    def _refusal(self, computer: Computer, code: int, output: bytes, entry: WindowsPeEntry, before: boot_store.BootState) -> StepFailure:
        """Return why the job ended. Only where Windows is as before it starts as before; any other state must not start at all."""
        state = Registry(computer.cim).get_string(sysprep.STATE_KEY, "ImageState") or "missing"
        if state == sysprep.COMPLETE:
            self._undo(computer, entry, before)
            remedy = "Read setuperr.log. Sysprep refused before it began: Windows is as before and the step can run again."
        else:
            remedy = "Read setuperr.log and build the computer anew. Windows PE stays what starts next."
        logs = [name for path in sysprep.LOGS if (name := self.context.fetch_log(computer, path))]
        what = sysprep.JOB_CODES.get(code, "The job that runs Sysprep failed")
        return StepFailure(
            f"{what} (exit code {code}, image state {state}).",
            code=code,
            remedy=remedy,
            log=", ".join(logs) or output.decode("utf-8", "replace")[-2000:],
        )

    def _undo(self, computer: Computer, entry: WindowsPeEntry, before: boot_store.BootState) -> None:
        """Sysprep did not begin: Windows starts as it did before."""
        commands = boot_store.remove_entry(entry, boot_staging.read_state(computer, entry), _default_before(before))
        if commands:
            boot_staging.run_commands(self.context, computer, "boot-entry-undo", _DRIVE, commands)

    def verify(self, computer: Computer, plan: PreparePlan) -> Mapping[str, Any]:
        """The computer answers in Windows PE, and Windows' own offline record says that it is generalized."""
        if computer.environment is not Environment.WINDOWS_PE:
            raise StepFailure("The computer is not in Windows PE after Sysprep.", remedy="Look at its console.")
        try:
            root = windows_root(computer, self.context.windows_drive(computer))
        except NoWindows as error:
            raise StepFailure(str(error), remedy="Check that the disk is seen in Windows PE (storage driver).") from error
        registry = OfflineRegistry(computer, root)
        registry.read((sysprep.STATE_KEY, sysprep.CLONE_TAG_KEY))
        state = registry.get_string(sysprep.STATE_KEY, "ImageState") or "missing"
        tag = registry.get_multi(sysprep.CLONE_TAG_KEY, sysprep.CLONE_TAG_VALUE)
        if state != sysprep.GENERALIZED or tag is None:
            raise StepFailure(
                f"Windows is not generalized: image state {state}, CloneTag {'missing' if tag is None else 'present'}.",
                remedy="Build the computer anew; the logs of Sysprep lie in Windows\\System32\\Sysprep\\Panther.",
            )
        return {"image_state": state, "OSDTargetSystemRoot": r"C:\Windows"}


def _default_before(before: boot_store.BootState) -> str:
    """Return what started before. An earlier try that was broken off made Windows PE the default: then it is the next one of the menu."""
    return next((guid for guid in (before.default, *before.displayorder) if guid and guid != BOOT_LOADER_ENTRY), "")


def _forget_earlier(ready: Readiness) -> list[list[str]]:
    """Return the commands that remove what was found of an earlier Sysprep or setup: an old success tag would be taken for the new one."""
    delete = ["cmd.exe", "/d", "/c", "del", "/f", "/q"]
    tag = ["reg.exe", "delete", rf"HKLM\{sysprep.CLONE_TAG_KEY}", "/v", sysprep.CLONE_TAG_VALUE, "/f"]
    return [*([tag] if ready.clone_tag else []), *([*delete, path] for path in ready.stale_files)]


def _full(commands: list[list[str]]) -> list[list[str]]:
    return [[rf"{_DRIVE}\Windows\System32\{argv[0]}", *argv[1:]] for argv in commands]


def _encrypted(computer: Computer) -> tuple[str, ...]:
    """Drive letters that are not fully decrypted; none where the namespace is absent (servers without the feature)."""
    try:
        rows = computer.cim.query("SELECT DriveLetter FROM Win32_EncryptableVolume WHERE ConversionStatus<>0", VOLUME_ENCRYPTION)
    except WsmanFault as fault:
        if fault.is_not_found:
            return ()
        raise
    return tuple(str(row["DriveLetter"] or "?") for row in rows)
