# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply Operating System Image: empty the target volume, extract one image to it and make it startable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..windows import dism, sysprep
from ..windows.boot_store import WindowsPeEntry
from ..windows.command_line import Verbatim, batch_line
from ..windows.computer import Computer, Environment
from ..windows.disks import DiskState, candidates, gigabytes, read_disks, used_letters
from ..windows.exit_codes import describe_exit_code, remedy_for
from ..windows.firmware import Firmware, read_firmware
from ..windows.image import ImageError, Wim, WimImage, read_wim
from ..windows.names import BOOT_LOADER_ENTRY, STAGED_BOOT_IMAGE, WORK_FOLDER
from ..windows.range_file import open_ranges
from ..windows.registry import OfflineRegistry
from ..windows.volumes import Placed, file_sizes, placed, root_entries
from ..wsman.known import known
from . import boot_staging
from .base import Change, Plan, Step, StepFailure
from .drive_letters import assign_letters, free_letters

_SYSTEM32 = r"X:\Windows\System32"
#: Names that Windows puts into every volume's root; they are no content.
_VOLUME_FOLDERS = frozenset({"system volume information", "$recycle.bin", WORK_FOLDER})
_BOOT_FILES = frozenset({"boot", "bootmgr", "bootnxt", "bootsect.bak"})
_RECOVERY_IMAGE = r"System32\Recovery\Winre.wim"
_LETTERS = {"system": "S", "recovery": "R"}
_RECORD = rf"{WORK_FOLDER}\applied.json"


@dataclass(frozen=True)
class Target:
    """The volume to fill, the letters of its system and recovery volumes ('' where there is none), files and folders in its root.

    ``assign`` are the partitions that have no letter yet, with the one that they will get. ``record`` is the last one written.
    """

    windows: Placed
    system: str
    recovery: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    record: Mapping[str, Any]
    assign: tuple[tuple[Placed, str], ...] = ()

    @property
    def spared(self) -> frozenset[str]:
        """Names in the root that stay; without a system partition the boot files that start Windows PE are among them."""
        return _VOLUME_FOLDERS | (_BOOT_FILES if self.system in ("", self.windows.letter) else frozenset())


@dataclass(frozen=True)
class Situation:
    """The target, the firmware and the facts of the image asked for; ``guid`` names the file, ``started`` tells of the target's Windows."""

    target: Target
    firmware: Firmware | None
    source: str
    image: WimImage
    guid: str
    started: bool


@dataclass(frozen=True)
class ApplyPlan(Plan):
    """What to apply where."""

    situation: Situation | None = None


class ApplyOperatingSystemImage(Step[Situation, ApplyPlan]):
    """The step. The work folder of the run is what is spared on the target volume."""

    name: ClassVar[str] = "Apply Operating System Image"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    destructive: ClassVar[bool] = True
    secrets: ClassVar[tuple[str, ...]] = ("image.account.password",)
    #: It empties the volume first: what a job of a broken-off attempt has written, or still writes, must not count as this one's.
    starts_over: ClassVar[bool] = True

    def observe(self, computer: Computer) -> Situation:
        """Find the target, read its root, and read the image's own description on the computer."""
        target = self._target(computer)
        source = self.context.content(self.options["image"])
        wim = self._wim(computer, source)
        image = self._image(wim, source)
        situation = Situation(target, read_firmware(computer.cim), source, image, str(wim.header.guid), started=False)
        if self._is_applied(situation):
            return replace(situation, started=_was_started(computer, target.windows.root))
        return situation

    def _target(self, computer: Computer) -> Target:
        disks = read_disks(computer.cim)
        place = self._windows_place(disks)
        if not place.letter:
            raise StepFailure(
                f"Partition {place.partition.number} of disk {place.disk.number} is to receive Windows and has no drive letter.",
                remedy="Run Format and Partition Disk in this Windows PE, or give the partition a letter.",
            )
        roles = {role: self._place_of(disks, place.disk, role) for role in ("system", "recovery")}
        # Started anew, Windows PE gives no letter to EFI and recovery partitions.
        bare = [(role, found) for role, found in roles.items() if found and not found.letter]
        used = set(used_letters(computer.cim)) if bare else set()
        letters = {role: found.letter if found else "" for role, found in roles.items()}
        for role, dummy in bare:
            letters[role] = next(iter(free_letters(used, _LETTERS[role])), "")
            used.add(letters[role])
        files, folders = root_entries(computer, place.letter)
        return Target(
            windows=place,
            system=letters["system"],
            recovery=letters["recovery"],
            files=files,
            folders=folders,
            record=_read_record(computer, place.root + _RECORD),
            assign=tuple((found, letters[role]) for role, found in bare if letters[role]),
        )

    def _windows_place(self, disks: tuple[DiskState, ...]) -> Placed:
        volumes = self.context.recall("volumes")
        drive = self.options["destination_drive"]
        if drive:
            wanted = [p for p in placed(disks) if p.letter == drive.rstrip(":\\").upper()]
            said = f"destination_drive {drive}"
        elif volumes:
            place_made = _place(disks, volumes, "windows")
            wanted = [place_made] if place_made else []
            said = "the partition that Format and Partition Disk made for Windows"
        else:
            wanted = [p for p in placed(disks) if p.partition.kind == "Primary" and p.partition.volume and p.partition.volume.file_system]
            wanted = [p for p in wanted if p.disk in candidates(disks)]
            said = "a formatted partition of its own"
        if not wanted:
            raise StepFailure(
                f"The computer does not have {said}.",
                remedy="Run Format and Partition Disk first, or set destination_drive.",
            )
        if len(wanted) > 1 and not drive:
            letters = ", ".join(f"{p.letter}:" for p in wanted)
            raise StepFailure(f"Several formatted partitions could receive Windows ({letters}).", remedy="Set destination_drive.")
        if wanted[0].disk not in candidates(disks):
            raise StepFailure(
                f"{wanted[0].letter}: lies on a removable or read-only disk and is not emptied ({wanted[0].disk.describe}).",
                remedy="Set destination_drive to a volume of the computer's own disk.",
            )
        return wanted[0]

    def _place_of(self, disks: tuple[DiskState, ...], own: DiskState, role: str) -> Placed | None:
        """Return the partition of a role, as partitioned in this run, or on the target's own disk: never a stick's."""
        volumes = self.context.recall("volumes")
        if volumes:
            return _place(disks, volumes, role)
        kind = {"system": "EFI", "recovery": "Recovery"}[role]
        return next((p for p in placed([own]) if p.partition.kind == kind or (role == "system" and p.partition.active)), None)

    def _wim(self, computer: Computer, source: str) -> Wim:
        try:
            return read_wim(open_ranges(computer, source))
        except FileNotFoundError as error:
            raise StepFailure(
                f"The computer does not find the image {source}.",
                remedy="Check the path as the computer sees it, and that the account may read it.",
            ) from error
        except ImageError as error:
            raise StepFailure(f"{source} is no image that can be applied: {error}.", remedy="Choose another file.") from error

    def _image(self, wim: Wim, source: str) -> WimImage:
        index = self.options["image_index"]
        if wim.header.parts != 1:
            raise StepFailure(
                f"{source} is part {wim.header.part} of a file that was split into {wim.header.parts}.",
                remedy="Join the parts with 'dism /Export-Image' and give the whole file.",
            )
        try:
            image = wim.image(index)
        except KeyError as error:
            names = ", ".join(f"{image.index} {image.name}" for image in wim.images)
            raise StepFailure(
                f"{source} has no image {index}; it holds {names}.", remedy="Set image_index to one of these; it counts from 1."
            ) from error
        if not image.is_windows or image.is_windows_pe:
            what = "Windows PE" if image.is_windows_pe else "no Windows"
            raise StepFailure(
                f"Image {index} of {source} ({image.name}) is {what} and cannot be the operating system.",
                remedy="Set image_index to an image that holds an edition of Windows.",
            )
        return image

    def plan(self, state: Situation) -> ApplyPlan:
        """Refuse what cannot work; nothing to do where this very image lies there and was not started since."""
        self._check(state)
        wish = self._record_of(state)
        if self._is_applied(state) and not state.started:
            return ApplyPlan(situation=state)
        letter = state.target.windows.letter
        extra = [n for n in (*state.target.folders, *state.target.files) if n.lower() not in state.target.spared]
        changes = [Change(f"give partition {p.partition.number} of disk {p.disk.number} the letter {to}:") for p, to in state.target.assign]
        changes += [Change(f"delete everything on {letter}: but {WORK_FOLDER} ({', '.join(extra)})")] if extra else []
        changes.append(Change(f"apply {state.image.name or 'image'} (index {self.options['image_index']}) to {letter}:"))
        changes.append(Change(f"write boot files for {self._firmware(state).value} to {state.target.system or letter}:"))
        if state.target.recovery:
            changes.append(Change(f"put the recovery tools on {state.target.recovery}:"))
        return ApplyPlan(
            changes=tuple(changes),
            before={"volume": letter, **state.target.record},
            after={"volume": letter, **wish},
            situation=state,
            erases=frozenset({letter}),
        )

    def _check(self, state: Situation) -> None:
        volume = state.target.windows.partition.volume
        if volume is None or volume.file_system.upper() != "NTFS":
            raise StepFailure(
                f"{state.target.windows.letter}: is {volume.file_system if volume and volume.file_system else 'not formatted'}; "
                "Windows needs NTFS.",
                remedy="Run Format and Partition Disk, or set destination_drive to a volume with NTFS.",
            )
        if state.image.total_bytes > volume.size:
            raise StepFailure(
                f"The image needs {gigabytes(state.image.total_bytes)}, {state.target.windows.letter}: has {gigabytes(volume.size)}.",
                remedy="Choose a larger disk or another image_index.",
            )
        self._firmware(state)

    def _firmware(self, state: Situation) -> Firmware:
        if state.firmware is None:
            raise StepFailure(
                "Windows PE has not recorded whether the firmware is BIOS or UEFI (PEFirmwareType is missing).",
                remedy="Run 'wpeutil UpdateBootInfo' in the boot image's startnet.cmd.",
            )
        if state.firmware is Firmware.UEFI and not state.target.system:
            raise StepFailure(
                "The computer starts by UEFI and no EFI system partition is there that has, or can get, a drive letter.",
                remedy="Run Format and Partition Disk with disk_type GPT.",
            )
        return state.firmware

    def _record_of(self, state: Situation) -> dict[str, Any]:
        image = state.image
        return {
            "image": state.source,
            "guid": state.guid,
            "index": self.options["image_index"],
            "name": image.name,
            "edition": image.edition,
            "version": image.version,
            "architecture": image.architecture,
        }

    def _is_applied(self, state: Situation) -> bool:
        return state.target.record == {**self._record_of(state), "state": "applied"}

    def predict(self) -> ApplyPlan:
        """The volume does not exist yet."""
        index = self.options["image_index"]
        return ApplyPlan((Change(f"apply image {index} of {self.options['image']['target']}"),), predicted=True)

    def apply(self, computer: Computer, plan: ApplyPlan) -> Computer:
        """Empty the volume, extract, write boot files; the record says 'started' until all is done."""
        state = known(plan.situation)
        if state.target.assign:
            assign_letters(self.context, computer, state.target.assign)
        self._empty(computer, state)
        record = state.target.windows.root + _RECORD
        computer.put_file(record, _json({**self._record_of(state), "state": "started"}))
        self._extract(computer, state)
        staged, recovery = self._optional(state)
        there = file_sizes(computer, [staged, recovery])
        self._boot_files(computer, state, staged.lower() in there)
        if state.target.recovery:
            self._recovery(computer, state, recovery.lower() in there)
        computer.put_file(record, _json({**self._record_of(state), "state": "applied"}))
        return computer

    def _empty(self, computer: Computer, state: Situation) -> None:
        target = state.target
        if all(name.lower() in target.spared for name in (*target.folders, *target.files)):
            return
        for names, command in ((target.folders, ("rd", "/s", "/q")), (target.files, ("del", "/f", "/q", "/a"))):
            for name in names:
                if name.lower() not in target.spared:
                    # In quotes in any case: outside of them cmd would end the path at '&'.
                    path = Verbatim(f'"{target.windows.root}{name}"')
                    argv = [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", *command, path]
                    self._job(computer, f"{command[0]}-{name}", "cmd", argv, 3600, check=False)
        files, folders = root_entries(computer, target.windows.letter)
        left = [name for name in (*folders, *files) if name.lower() not in target.spared]
        if left:
            raise StepFailure(
                f"{state.target.windows.letter}: could not be emptied, {', '.join(left)} remain.",
                remedy="Enable Format and Partition Disk, or format the volume.",
            )

    def _extract(self, computer: Computer, state: Situation) -> None:
        root = state.target.windows.root
        tool = dism.Dism(rf"{_SYSTEM32}\dism.exe", rf"{root}{WORK_FOLDER}\logs\dism-apply.log", rf"{root}{WORK_FOLDER}\scratch")
        computer.put_file(rf"{root}{WORK_FOLDER}\scratch\.keep", b"")
        computer.put_file(rf"{root}{WORK_FOLDER}\logs\.keep", b"")
        argv = tool.apply_image(state.source, self.options["image_index"], root, check_integrity=self.options["check_integrity"])
        self.context.progress(0, f"apply {state.image.name or 'image'}")
        self._job(computer, "apply", "dism", argv, self.options["time_limit"] * 60)

    def _boot_files(self, computer: Computer, state: Situation, staged: bool) -> None:
        letter = state.target.windows.letter
        firmware = self._firmware(state)
        system = f"{state.target.system or letter}:"
        argv = [rf"{_SYSTEM32}\bcdboot.exe", rf"{letter}:\Windows", "/s", system, "/f", firmware.value]
        self._job(computer, "bcdboot", "bcdboot", argv, 300)
        entry = WindowsPeEntry(f"{letter}:", firmware, boot_staging.store_path(system, firmware))
        if staged:
            # Windows is not ready for its first start: until Setup Windows and ConfigMgr a power cut comes back to Windows PE.
            boot_staging.write_boot_entry(self.context, computer, entry)

    def _recovery(self, computer: Computer, state: Situation, there: bool) -> None:
        """Copy the recovery image beside Windows and register it; setup enables it during specialize [doc: cp/deploy-windows-re]."""
        windows, folder = state.target.windows.root + "Windows", rf"{state.target.recovery}:\Recovery\WindowsRE"
        image = rf"{windows}\{_RECOVERY_IMAGE}"
        if not there:
            self.context.warn(f"The image has no {image}; the recovery partition stays empty.")
            return
        # /h: the file is hidden in some images, and copy does not see it then [doc: cp/deploy-windows-re].
        copy = batch_line([rf"{_SYSTEM32}\xcopy.exe", image, folder + "\\", "/h", "/y"])
        script = f"@echo off\r\nif not exist {folder} md {folder}\r\n{copy}\r\n".encode("ascii")
        argv = [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", r".\copy.cmd"]
        self._job(computer, "recovery-copy", "xcopy", argv, 600, files={"copy.cmd": script})
        argv = [rf"{windows}\System32\reagentc.exe", "/setreimage", "/path", folder, "/target", windows]
        self._job(computer, "reagentc", "reagentc", argv, 300)

    def _job(
        self,
        computer: Computer,
        label: str,
        tool: str,
        argv: list[str],
        limit: int,
        *,
        check: bool = True,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        result = self.context.run_job(computer, label, argv, time_limit=limit, files=files)
        if check and result.exit_code:
            raise StepFailure(
                f"Windows was not laid on the disk: {tool} ({label}) ended with {describe_exit_code(tool, result.exit_code)}.",
                code=result.exit_code,
                remedy=f"{remedy_for(tool, result.exit_code) or 'Read the log.'} The volume is emptied and filled anew when the step runs "
                "again.",
                log=str(result.log or ""),
            )

    def verify(self, computer: Computer, plan: ApplyPlan) -> Mapping[str, Any]:
        """Kernel, loader, boot files and recovery tools must be there, and the store must have an entry for the new Windows."""
        state = known(plan.situation)
        goal, (staged, recovery) = self._goal(state), self._optional(state)
        copied = rf"{state.target.recovery}:\Recovery\WindowsRE\Winre.wim" if state.target.recovery else ""
        there = file_sizes(computer, [*goal, staged, recovery, *filter(None, [copied])])
        if copied and recovery.lower() in there:
            goal.append(copied)
        missing = [path for path in goal if path.lower() not in there]
        if missing:
            raise StepFailure(f"After the image was applied {', '.join(missing)} are missing.", remedy="Run the step again.")
        self._check_store(computer, state, staged.lower() in there)
        record = self._record_of(state)
        letter = f"{state.target.windows.letter}:"
        self.context.remember("applied_image", {**record, "drive": letter})
        return {"OSDTargetSystemDrive": letter, "image": record}

    def _check_store(self, computer: Computer, state: Situation, staged: bool) -> None:
        """The store is there before bcdboot has run, with nothing but Windows PE in it."""
        firmware, letter = self._firmware(state), state.target.windows.letter
        entry = WindowsPeEntry(f"{letter}:", firmware, boot_staging.store_path(f"{state.target.system or letter}:", firmware))
        found = boot_staging.read_state(computer, entry)
        if not set(found.displayorder) - {BOOT_LOADER_ENTRY}:
            raise StepFailure(
                f"The boot store {entry.store} has no entry for the Windows on {letter}:.",
                remedy="Read bcdboot's log and run the step again.",
            )
        if staged:
            boot_staging.approve_boot_entry(found, entry, once=False)

    @staticmethod
    def _optional(state: Situation) -> tuple[str, str]:
        """Where the staged boot image and the recovery image of the applied Windows lie, if they are there."""
        root = state.target.windows.root
        return root + STAGED_BOOT_IMAGE, rf"{root}Windows\{_RECOVERY_IMAGE}"

    def _goal(self, state: Situation) -> list[str]:
        windows = state.target.windows.root + "Windows"
        system = f"{state.target.system or state.target.windows.letter}:"
        if self._firmware(state) is Firmware.UEFI:
            loader = "bootaa64.efi" if state.image.architecture == "arm64" else "bootx64.efi"
            boot = [
                rf"{system}\EFI\Microsoft\Boot\BCD",
                rf"{system}\EFI\Boot\{loader}",
                rf"{windows}\System32\winload.efi",
            ]
        else:
            boot = [rf"{system}\Boot\BCD", rf"{system}\bootmgr", rf"{windows}\System32\winload.exe"]
        return [rf"{windows}\System32\ntoskrnl.exe", rf"{windows}\System32\config\SYSTEM", *boot]


def _place(disks: tuple[DiskState, ...], volumes: Mapping[str, Any], role: str) -> Placed | None:
    """Return the partition that the partitioning step made for a role, found by disk and offset: letters change, offsets do not."""
    wanted = volumes.get(role)
    if not wanted:
        return None
    return next(
        (p for p in placed(disks) if p.disk.number == volumes["disk"] and p.partition.offset == wanted["offset"]),
        None,
    )


def _was_started(computer: Computer, root: str) -> bool:
    """Tell whether setup has begun on an applied Windows: its image state is then no longer that of a generalized image."""
    registry = OfflineRegistry(computer, root, ("SOFTWARE",))
    registry.read((sysprep.STATE_KEY,))
    return registry.get_string(sysprep.STATE_KEY, "ImageState") != sysprep.GENERALIZED


def _read_record(computer: Computer, path: str) -> Mapping[str, Any]:
    try:
        record = json.loads(computer.get_file(path))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
