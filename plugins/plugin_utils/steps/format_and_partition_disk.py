# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Format and Partition Disk: wipe one disk in Windows PE and give it the partitions of the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..windows import disks
from ..windows.boot_store import WindowsPeEntry
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import describe_exit_code
from ..windows.firmware import Firmware, read_firmware
from . import boot_staging
from .base import Change, Plan, Step, StepFailure

_SCRIPT = "diskpart.txt"
#: Minutes. A full format writes the whole volume, which takes hours on a large disk.
_QUICK_LIMIT, _FULL_LIMIT = 10, 720
#: Longest labels of the file systems; an unformatted partition has none.
_LABELS = {"NTFS": 32, "FAT32": 11}


@dataclass(frozen=True)
class DiskSituation:
    """What the computer has: all disks, the letters in use, the firmware mode."""

    disks: tuple[disks.DiskState, ...]
    letters: frozenset[str]
    firmware: Firmware | None


@dataclass(frozen=True)
class PartitionPlan(Plan):
    """The layout to make on one disk and diskpart's script for it."""

    disk: int = 0
    style: str = ""
    partitions: tuple[disks.PlannedPartition, ...] = ()
    script: str = ""

    def drive(self, role: str) -> str:
        """Return the drive (``W:``) that the layout gives to Windows or to the boot files (role ``system``)."""
        index = _roles(self.partitions)[role]
        letter = self.partitions[index].letter if index is not None else ""
        return f"{letter}:" if letter else ""


class FormatAndPartitionDisk(Step[DiskSituation, PartitionPlan]):
    """The step. In a run it always wipes, as Configuration Manager's does; alone it changes only a disk that differs."""

    name: ClassVar[str] = "Format and Partition Disk"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    destructive: ClassVar[bool] = True
    secrets: ClassVar[tuple[str, ...]] = ("boot_image.account.password",)

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check the list as a whole: sizes, percent, one partition that takes the rest."""
        problems = []
        for number, row in enumerate(options.get("partitions") or (), start=1):
            size, units = row.get("size"), row.get("size_units")
            if size is not None and size < 1:
                problems.append(f"partitions: size of partition {number} is {size}; give a whole number from 1, or leave it out")
            if units == "Percent" and size is not None and size > 100:
                problems.append(f"partitions: size of partition {number} is {size} percent; at most 100 of what is still free")
            problems += _label_problems(number, row.get("volume_name") or "", row.get("file_system") or "")
        if sum(1 for row in options.get("partitions") or () if row.get("size") is None) > 1:
            problems.append("partitions: only one partition can take all the space that remains; give the others a size")
        return problems

    def observe(self, computer: Computer) -> DiskSituation:
        """Read disks, partitions, volumes, letters and firmware. Five requests."""
        cim = computer.cim
        firmware = None if self.options["disk_type"] else read_firmware(cim)
        return DiskSituation(disks.read_disks(cim), disks.used_letters(cim), firmware)

    def plan(self, state: DiskSituation) -> PartitionPlan:
        """Choose style and layout; refuse a disk that is not there or is not the computer's own."""
        disk = self._disk(state)
        style = self._style(state.firmware)
        # The letters on the disk that is wiped become free.
        own = {p.letter for p in disk.partitions} | {p.volume.letter for p in disk.partitions if p.volume}
        try:
            layout = disks.plan_layout(self._specs(style), style, disk.size, state.letters - own)
        except disks.LayoutError as error:
            raise StepFailure(f"The layout does not fit {disk.describe}: {error}.") from error
        differences = disks.layout_differences(disk, style, layout)
        if not differences and not self.context.run_id:
            return PartitionPlan(disk=disk.number, style=style, partitions=layout)
        plan = replace(_wipe(disk, style, layout), erases=frozenset(own - {""}))
        if self.options["boot_image"]:
            _check_startable(plan)
            return replace(plan, changes=(*plan.changes, Change(f"put Windows PE on {plan.drive('windows')} as what starts next")))
        return plan

    def _disk(self, state: DiskSituation) -> disks.DiskState:
        wanted = self.options["disk_number"]
        disk = next((d for d in state.disks if d.number == wanted), None)
        table = "; ".join(d.describe for d in state.disks) or "no disk at all"
        if disk is None:
            raise StepFailure(
                f"Disk {wanted} does not exist. Windows PE sees {table}.",
                remedy="Set disk_number to one of these, or add the storage controller's driver to the boot image.",
            )
        if disk not in disks.candidates(state.disks):
            raise StepFailure(
                f"Disk {wanted} is removable or read-only and is not wiped ({disk.describe}). Windows PE sees {table}.",
                remedy="Set disk_number to the computer's own disk, or unplug the removable one.",
            )
        return disk

    def _style(self, firmware: Firmware | None) -> str:
        if self.options["disk_type"]:
            return str(self.options["disk_type"])
        if firmware is None:
            raise StepFailure(
                "Windows PE has not recorded whether the firmware is BIOS or UEFI (PEFirmwareType is missing).",
                remedy="Set disk_type to GPT or MBR, or run 'wpeutil UpdateBootInfo' in the boot image's startnet.cmd.",
            )
        return "GPT" if firmware is Firmware.UEFI else "MBR"

    def _specs(self, style: str) -> tuple[disks.PartitionSpec, ...]:
        rows = self.options["partitions"]
        if not rows:
            return disks.DEFAULT_GPT if style == "GPT" else disks.DEFAULT_MBR
        return tuple(
            disks.PartitionSpec(
                type=row["type"],
                name=row.get("volume_name") or "",
                size=row.get("size"),
                size_units=row.get("size_units") or "MB",
                file_system=row.get("file_system") or "",
                quick_format=row.get("quick_format", True),
                bootable=row.get("bootable", False),
                assign_volume_letter=row.get("assign_volume_letter", True),
            )
            for row in rows
        )

    def predict(self) -> PartitionPlan:
        """Without the disk only the wish is known."""
        style = self.options["disk_type"] or "GPT on UEFI, MBR on BIOS"
        number = self.options["disk_number"]
        return PartitionPlan(changes=(Change(f"wipe disk {number} and partition it ({style})"),), predicted=True, disk=number)

    def apply(self, computer: Computer, plan: PartitionPlan) -> Computer:
        """Run one diskpart script; the computer's other disks are not named in it."""
        limit = 60 * (self.options["time_limit"] or (_QUICK_LIMIT if all(p.spec.quick_format for p in plan.partitions) else _FULL_LIMIT))
        argv = [r"X:\Windows\System32\diskpart.exe", "/s", rf".\{_SCRIPT}"]
        result = self.context.run_job(computer, "diskpart", argv, time_limit=limit, files={_SCRIPT: plan.script.encode("ascii")})
        if result.exit_code:
            raise StepFailure(
                f"diskpart ended with {describe_exit_code('diskpart', result.exit_code)} while it partitioned disk {plan.disk}.",
                code=result.exit_code,
                remedy="Look at the script's output in the log; a disk in use or too small is the usual cause.",
                log=str(result.log or ""),
            )
        if self.options["boot_image"]:
            self._stage(computer, plan)
        return computer

    def _stage(self, computer: Computer, plan: PartitionPlan) -> None:
        """Put Windows PE on the new disk as what starts next: a power cut comes back to it."""
        windows, system = plan.drive("windows"), plan.drive("system")
        firmware = Firmware.UEFI if plan.style == "GPT" else Firmware.BIOS
        entry = WindowsPeEntry(windows, firmware, boot_staging.store_path(system, firmware))
        boot_staging.stage_on_disk(self.context, computer, self.options["boot_image"], entry, system)

    def verify(self, computer: Computer, plan: PartitionPlan) -> Mapping[str, Any]:
        """Re-read the disk and compare it with the layout, letters included."""
        disk = next((d for d in disks.read_disks(computer.cim) if d.number == plan.disk), None)
        if disk is None:
            raise StepFailure(f"Disk {plan.disk} is gone after it was partitioned.", remedy="Check the disk's connection.")
        lines = disks.layout_differences(disk, plan.style, plan.partitions) or _missing_letters(disk, plan)
        if lines:
            raise StepFailure(
                f"Disk {plan.disk} does not have the layout after it was partitioned: {'; '.join(lines)}.",
                remedy="Read the script's output in the log and run the step again.",
            )
        volumes = _places(disk, plan.partitions)
        if not self._is_data_disk(plan):
            self.context.remember("volumes", volumes)
        return {
            "disk": disk.number,
            "disk_type": plan.style,
            "partitions": disks.describe_disk(disk),
            "volumes": volumes,
        }

    def _is_data_disk(self, plan: PartitionPlan) -> bool:
        """Another disk has the boot files already and this one gets none: later steps keep to the other one."""
        known = self.context.recall("volumes")
        starts = any(p.spec.type == "EFI" or p.spec.bootable for p in plan.partitions)
        return bool(known) and known["disk"] != plan.disk and not starts


def _label_problems(number: int, label: str, file_system: str) -> list[str]:
    """What diskpart's script, which is ASCII with the label in quotes, or the file system cannot take."""
    if not label:
        return []
    if not file_system:
        return [f"partitions: partition {number} has volume_name {label!r} and no file_system; only a formatted volume has a label"]
    bad = '"' if file_system == "NTFS" else '*?/\\|.,;:+=[]<>"'
    if not label.isascii() or not label.isprintable() or set(label) & set(bad):
        return [f"partitions: volume_name of partition {number} is {label!r}; give printable ASCII without {bad}"]
    if len(label) > _LABELS[file_system]:
        most = _LABELS[file_system]
        return [f"partitions: volume_name of partition {number} has {len(label)} characters; at most {most} on {file_system}"]
    return []


def _check_startable(plan: PartitionPlan) -> None:
    """Windows PE is to start from the new disk: that needs a letter for Windows and boot files where the firmware looks."""
    system = next((p for p in plan.partitions if (p.spec.type == "EFI" if plan.style == "GPT" else p.spec.bootable)), None)
    wanted = "an EFI partition with FAT32" if plan.style == "GPT" else "a bootable partition"
    if system is None or not system.letter or (plan.style == "GPT" and system.spec.file_system != "FAT32"):
        problem = f"{wanted} and a drive letter"
    elif not plan.drive("windows"):
        problem = "a Primary partition with NTFS and a drive letter"
    else:
        return
    raise StepFailure(
        f"boot_image is to start from disk {plan.disk}, and the layout lacks {problem}.",
        remedy="Add it to partitions, or leave boot_image out for a disk that nothing starts from.",
    )


def _missing_letters(disk: disks.DiskState, plan: PartitionPlan) -> list[str]:
    """Return the partitions that did not get the letter of the layout."""
    return [
        f"partition {want.number}: drive letter is {have.drive_letter or 'none'}, not {want.letter}"
        for have, want in zip(disk.partitions, plan.partitions, strict=True)
        if want.letter and have.drive_letter != want.letter
    ]


def _wipe(disk: disks.DiskState, style: str, layout: tuple[disks.PlannedPartition, ...]) -> PartitionPlan:
    changes = [Change(f"wipe {disk.describe}" + (f" with {len(disk.partitions)} partitions" if disk.partitions else ""))]
    for partition in layout:
        spec = partition.spec
        size = f"{partition.size_mib} MB" if partition.size_mib else "the rest"
        words = [spec.type, spec.name, spec.file_system, size, f"as {partition.letter}:" if partition.letter else ""]
        changes.append(Change(f"create partition {partition.number}: " + ", ".join(word for word in words if word)))
    return PartitionPlan(
        changes=tuple(changes),
        before={"disk": disk.number, "disk_type": disk.style, "partitions": disks.describe_disk(disk)},
        after={"disk": disk.number, "disk_type": style, "partitions": disks.describe_layout(layout)},
        disk=disk.number,
        style=style,
        partitions=layout,
        script=disks.diskpart_script(disk.number, style, layout),
    )


def _places(disk: disks.DiskState, layout: tuple[disks.PlannedPartition, ...]) -> dict[str, Any]:
    """What later steps need: where Windows, the boot files and the recovery tools go, by the offset on the disk."""

    def place(index: int | None) -> dict[str, Any] | None:
        if index is None:
            return None
        partition = disk.partitions[index]
        return {"partition": partition.number, "offset": partition.offset, "letter": partition.drive_letter}

    return {"disk": disk.number, **{role: place(index) for role, index in _roles(layout).items()}}


def _roles(layout: tuple[disks.PlannedPartition, ...]) -> dict[str, int | None]:
    """Return which partition holds Windows, the boot files and the recovery tools."""
    windows = disks.windows_index(layout)
    return {
        "windows": windows,
        "system": next((i for i, p in enumerate(layout) if p.spec.type == "EFI" or p.spec.bootable), windows),
        "recovery": next((i for i, p in enumerate(layout) if p.spec.type == "Recovery"), None),
    }
