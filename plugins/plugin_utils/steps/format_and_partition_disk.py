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

_SCRIPT = r"X:\_osd\diskpart.txt"


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
        index = _roles([p.spec for p in self.partitions])[role]
        return f"{self.partitions[index].letter}:" if index is not None else ""


class FormatAndPartitionDisk(Step[DiskSituation]):
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
        if sum(1 for row in options.get("partitions") or () if row.get("size") is None) > 1:
            problems.append("partitions: only one partition can take all the space that remains; give the others a size")
        return problems

    def observe(self, computer: Computer) -> DiskSituation:
        """Read disks, partitions, volumes, letters and firmware. Five requests."""
        cim = computer.cim
        firmware = None if self.options["disk_type"] else read_firmware(cim)
        return DiskSituation(disks.read_disks(cim), disks.used_letters(cim), firmware)

    def plan(self, state: DiskSituation) -> Plan:
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
        return _wipe(disk, style, layout)

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

    def predict(self) -> Plan:
        """Without the disk only the wish is known."""
        style = self.options["disk_type"] or "GPT on UEFI, MBR on BIOS"
        number = self.options["disk_number"]
        return PartitionPlan(changes=(Change(f"wipe disk {number} and partition it ({style})"),), predicted=True, disk=number)

    def apply(self, computer: Computer, plan: Plan) -> Computer:
        """Run one diskpart script; the computer's other disks are not named in it."""
        assert isinstance(plan, PartitionPlan)
        computer.put_file(_SCRIPT, plan.script.encode("ascii"))
        result = self.context.run_job(computer, "diskpart", [r"X:\Windows\System32\diskpart.exe", "/s", _SCRIPT], time_limit=600)
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
        boot_staging.stage_on_disk(self.context, computer, self.options["boot_image"], windows)
        boot_staging.run_commands(self.context, computer, "boot-manager", "X:", boot_staging.new_store(entry, system))
        boot_staging.set_boot_entry(self.context, computer, entry, once=False)

    def verify(self, computer: Computer, plan: Plan) -> Mapping[str, Any]:
        """Re-read the disk and compare it with the layout, letters included."""
        assert isinstance(plan, PartitionPlan)
        disk = next((d for d in disks.read_disks(computer.cim) if d.number == plan.disk), None)
        if disk is None:
            raise StepFailure(f"Disk {plan.disk} is gone after it was partitioned.", remedy="Check the disk's connection.")
        lines = disks.layout_differences(disk, plan.style, plan.partitions)
        if lines:
            raise StepFailure(f"Disk {plan.disk} does not have the layout after it was partitioned: {'; '.join(lines)}.")
        by_number = {p.number: p for p in plan.partitions}
        made = tuple(replace(by_number[index], number=p.number) for index, p in enumerate(disk.partitions, start=1))
        volumes = _letters(disk, made)
        self.context.remember("volumes", volumes)
        return {
            "disk": disk.number,
            "disk_type": plan.style,
            "partitions": disks.describe_disk(disk),
            "volumes": volumes,
        }


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


def _letters(disk: disks.DiskState, layout: tuple[disks.PlannedPartition, ...]) -> dict[str, Any]:
    """What later steps need: where Windows, the boot files and the recovery tools go, by partition GUID or offset."""
    roles = _roles([p.spec for p in layout])

    def place(index: int | None) -> dict[str, Any] | None:
        if index is None:
            return None
        partition = disk.partitions[index]
        return {"partition": partition.number, "offset": partition.offset, "letter": partition.letter}

    return {"disk": disk.number, **{role: place(index) for role, index in roles.items()}}


def _roles(specs: list[disks.PartitionSpec]) -> dict[str, int | None]:
    """Return which partition holds Windows, the boot files and the recovery tools."""
    windows = disks.windows_index(specs)
    return {
        "windows": windows,
        "system": next((i for i, s in enumerate(specs) if s.type == "EFI" or s.bootable), windows),
        "recovery": next((i for i, s in enumerate(specs) if s.type == "Recovery"), None),
    }
