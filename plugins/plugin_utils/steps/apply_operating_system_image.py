# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply Operating System Image: empty the target volume, extract one image to it and make it startable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import dism
from ..windows.boot_store import WindowsPeEntry
from ..windows.computer import Computer, Environment
from ..windows.disks import DiskState, gigabytes, read_disks
from ..windows.exit_codes import describe_exit_code
from ..windows.firmware import Firmware, read_firmware
from ..windows.image import ImageError, WimImage, read_wim
from ..windows.names import WORK_FOLDER
from ..windows.range_file import open_ranges
from ..windows.volumes import Placed, placed
from . import boot_staging
from .base import Change, Plan, Step, StepFailure

_SYSTEM32 = r"X:\Windows\System32"
#: Names that Windows puts into every volume's root; they are no content.
_VOLUME_FOLDERS = frozenset({"system volume information", "$recycle.bin", WORK_FOLDER})
_RECORD = rf"{WORK_FOLDER}\applied.json"
#: Six hours: a slow share and a large image; a job that outlives it hangs.
_APPLY_LIMIT = 6 * 3600


@dataclass(frozen=True)
class Target:
    """The volume to fill, its system and recovery volumes ('' where there is none), what lies in its root, and the last record."""

    windows: Placed
    system: str
    recovery: str
    entries: tuple[str, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Situation:
    """The target, the firmware and the facts of the image asked for."""

    target: Target
    firmware: Firmware | None
    source: str
    image: WimImage


@dataclass(frozen=True)
class ApplyPlan(Plan):
    """What to apply where."""

    situation: Situation | None = None


class ApplyOperatingSystemImage(Step[Situation]):
    """The step. The work folder of the run is what is spared on the target volume."""

    name: ClassVar[str] = "Apply Operating System Image"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    destructive: ClassVar[bool] = True
    secrets: ClassVar[tuple[str, ...]] = ("image.account.password",)

    def observe(self, computer: Computer) -> Situation:
        """Find the target, read its root, and read the image's own description on the computer."""
        target = self._target(computer)
        source = self.context.content(self.options["image"])
        return Situation(target, read_firmware(computer.cim), source, self._image_info(computer, source))

    def _target(self, computer: Computer) -> Target:
        disks = read_disks(computer.cim)
        place = self._windows_place(disks)
        if not place.letter:
            raise StepFailure(
                f"Partition {place.partition.number} of disk {place.disk.number} is to receive Windows and has no drive letter.",
                remedy="Run Format and Partition Disk in this Windows PE, or give the partition a letter.",
            )
        return Target(
            windows=place,
            system=self._letter_of(disks, "system"),
            recovery=self._letter_of(disks, "recovery"),
            entries=root_entries(computer, place.letter),
            record=_read_record(computer, place.root + _RECORD),
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
            said = "a formatted partition"
        if not wanted:
            raise StepFailure(
                f"The computer does not have {said}.",
                remedy="Run Format and Partition Disk first, or set destination_drive.",
            )
        if len(wanted) > 1 and not drive:
            letters = ", ".join(f"{p.letter}:" for p in wanted)
            raise StepFailure(f"Several formatted partitions could receive Windows ({letters}).", remedy="Set destination_drive.")
        return wanted[0]

    def _letter_of(self, disks: tuple[DiskState, ...], role: str) -> str:
        volumes = self.context.recall("volumes")
        if volumes:
            place = _place(disks, volumes, role)
        else:
            kinds = {"system": "EFI", "recovery": "Recovery"}
            place = next(
                (p for p in placed(disks) if p.partition.kind == kinds[role] or (role == "system" and p.partition.active)),
                None,
            )
        return place.letter if place else ""

    def _image_info(self, computer: Computer, source: str) -> WimImage:
        index = self.options["image_index"]
        try:
            wim = read_wim(open_ranges(computer, source))
            return wim.image(index)
        except FileNotFoundError as error:
            raise StepFailure(
                f"The computer does not find the image {source}.",
                remedy="Check the path as the computer sees it, and that the account may read it.",
            ) from error
        except ImageError as error:
            raise StepFailure(f"{source} is no image that can be applied: {error}.", remedy="Choose another file.") from error
        except KeyError as error:
            names = ", ".join(f"{image.index} {image.name}" for image in wim.images)
            raise StepFailure(
                f"{source} has no image {index}; it holds {names}.", remedy="Set image_index to one of these; it counts from 1."
            ) from error

    def plan(self, state: Situation) -> Plan:
        """Refuse what cannot work; nothing to do where this very image lies there and was not started since."""
        self._check(state)
        wish = self._record_of(state)
        if state.target.record == {**wish, "state": "applied"}:
            return ApplyPlan(situation=state)
        letter = state.target.windows.letter
        extra = [name for name in state.target.entries if name.lower() not in _VOLUME_FOLDERS]
        changes = [Change(f"delete everything on {letter}: but {WORK_FOLDER} ({', '.join(extra)})")] if extra else []
        changes.append(Change(f"apply {state.image.name or 'image'} (index {self.options['image_index']}) to {letter}:"))
        changes.append(Change(f"write boot files for {self._firmware(state).value} to {state.target.system or letter}:"))
        if state.target.recovery:
            changes.append(Change(f"put the recovery tools on {state.target.recovery}:"))
        return ApplyPlan(
            tuple(changes),
            before={"volume": letter, **state.target.record},
            after={"volume": letter, **wish},
            situation=state,
        )

    def _check(self, state: Situation) -> None:
        volume = state.target.windows.partition.volume
        assert volume is not None
        if volume.file_system != "NTFS":
            raise StepFailure(f"{volume.letter}: is {volume.file_system or 'not formatted'}; Windows needs NTFS.")
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
                "The computer starts by UEFI and no EFI system partition with a drive letter is there.",
                remedy="Run Format and Partition Disk with disk_type GPT.",
            )
        return state.firmware

    def _record_of(self, state: Situation) -> dict[str, Any]:
        image = state.image
        return {
            "image": state.source,
            "index": self.options["image_index"],
            "name": image.name,
            "edition": image.edition,
            "version": image.version,
            "architecture": image.architecture,
        }

    def predict(self) -> Plan:
        """The volume does not exist yet."""
        index = self.options["image_index"]
        return ApplyPlan((Change(f"apply image {index} of {self.options['image']['target']}"),), predicted=True)

    def apply(self, computer: Computer, plan: Plan) -> Computer:
        """Empty the volume, extract, write boot files; the record says 'started' until all is done."""
        assert isinstance(plan, ApplyPlan)
        assert plan.situation is not None
        state = plan.situation
        self._empty(computer, state)
        record = state.target.windows.root + _RECORD
        computer.put_file(record, _json({**self._record_of(state), "state": "started"}))
        self._extract(computer, state)
        self._boot_files(computer, state)
        if state.target.recovery:
            self._recovery(computer, state)
        computer.put_file(record, _json({**self._record_of(state), "state": "applied"}))
        return computer

    def _empty(self, computer: Computer, state: Situation) -> None:
        for name in state.target.entries:
            if name.lower() in _VOLUME_FOLDERS:
                continue
            path = state.target.windows.root + name
            self._job(
                computer,
                f"delete-{name}",
                "cmd",
                [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", "rd", "/s", "/q", path],
                3600,
                check=False,
            )
            self._job(
                computer,
                f"remove-{name}",
                "cmd",
                [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", "del", "/f", "/q", "/a", path],
                600,
                check=False,
            )
        left = [n for n in root_entries(computer, state.target.windows.letter) if n.lower() not in _VOLUME_FOLDERS]
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
        self._job(computer, "apply", "dism", argv, _APPLY_LIMIT)

    def _boot_files(self, computer: Computer, state: Situation) -> None:
        letter = state.target.windows.letter
        firmware = self._firmware(state)
        system = f"{state.target.system or letter}:"
        argv = [rf"{_SYSTEM32}\bcdboot.exe", rf"{letter}:\Windows", "/s", system, "/f", firmware.value]
        self._job(computer, "bcdboot", "bcdboot", argv, 300)
        entry = WindowsPeEntry(f"{letter}:", firmware, boot_staging.store_path(system, firmware))
        if boot_staging.read_state(computer, entry).has_loader:
            # Windows is not ready for its first start: until Setup Windows and ConfigMgr a power cut comes back to Windows PE.
            boot_staging.set_boot_entry(self.context, computer, entry, once=False)

    def _recovery(self, computer: Computer, state: Situation) -> None:
        """Copy the recovery image beside Windows and register it; setup enables it during specialize [doc: cp/deploy-windows-re]."""
        windows, folder = state.target.windows.root + "Windows", rf"{state.target.recovery}:\Recovery\WindowsRE"
        image = rf"{windows}\System32\Recovery\Winre.wim"
        if computer.file_info(image) is None:
            self.context.warn(f"The image has no {image}; the recovery partition stays empty.")
            return
        cmd = rf"{_SYSTEM32}\cmd.exe"
        self._job(computer, "recovery-folder", "cmd", [cmd, "/d", "/c", "md", folder], 60, check=False)
        self._job(computer, "recovery-copy", "cmd", [cmd, "/d", "/c", "copy", "/y", "/b", image, rf"{folder}\Winre.wim"], 600)
        argv = [rf"{windows}\System32\reagentc.exe", "/setreimage", "/path", folder, "/target", windows]
        self._job(computer, "reagentc", "reagentc", argv, 300)

    def _job(self, computer: Computer, label: str, tool: str, argv: list[str], limit: int, *, check: bool = True) -> None:
        result = self.context.run_job(computer, label, argv, time_limit=limit)
        if check and result.exit_code:
            raise StepFailure(
                f"{tool} ended with {describe_exit_code(tool, result.exit_code)} ({label}).",
                code=result.exit_code,
                remedy="Read the log; the volume is emptied and filled anew when the step runs again.",
                log=str(result.log or ""),
            )

    def verify(self, computer: Computer, plan: Plan) -> Mapping[str, Any]:
        """Kernel, loader and boot files must be there."""
        assert isinstance(plan, ApplyPlan)
        assert plan.situation is not None
        state = plan.situation
        missing = [path for path in self._goal(state) if computer.file_info(path) is None]
        if missing:
            raise StepFailure(f"After the image was applied {', '.join(missing)} are missing.", remedy="Run the step again.")
        record = self._record_of(state)
        letter = f"{state.target.windows.letter}:"
        self.context.remember("applied_image", {**record, "drive": letter})
        return {"OSDTargetSystemDrive": letter, "image": record}

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


def root_entries(computer: Computer, letter: str) -> tuple[str, ...]:
    """Return the names in a volume's root. Two requests."""
    where = rf"WHERE Drive='{letter.lower()}:' AND Path='\\'"
    names: list[str] = []
    for class_name in ("Win32_Directory", "CIM_DataFile"):
        for row in computer.cim.query(f"SELECT Name FROM {class_name} {where}"):
            name = row["Name"]
            if isinstance(name, str) and len(name) > 3:
                names.append(name[3:])
    return tuple(sorted(names))


def _read_record(computer: Computer, path: str) -> Mapping[str, Any]:
    try:
        record = json.loads(computer.get_file(path))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
