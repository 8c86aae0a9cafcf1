# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart Computer: into Windows PE, or into the installed Windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows.boot_store import WindowsPeEntry
from ..windows.computer import Computer, Environment
from ..windows.firmware import Firmware, read_firmware
from ..windows.local_content import Source
from . import boot_staging
from .base import Change, Plan, Step, StepFailure

_TARGETS = {"windows_pe": Environment.WINDOWS_PE, "installed_os": Environment.FULL_OS}
_DRIVE = "C:"


@dataclass(frozen=True)
class Here:
    """Where the computer is; the firmware counts only where Windows PE has to be staged."""

    environment: Environment
    firmware: Firmware | None


@dataclass(frozen=True)
class RestartPlan(Plan):
    """Where to, and whether a boot image has to be put on the disk first."""

    target: Environment = Environment.FULL_OS
    stage: bool = False
    firmware: Firmware = Firmware.UEFI


class RestartComputer(Step[Here, RestartPlan]):
    """The step. It ends when the same computer answers on the other side since another start."""

    name: ClassVar[str] = "Restart Computer"
    environments: ClassVar[frozenset[Environment]] = frozenset(Environment)
    secrets: ClassVar[tuple[str, ...]] = ("boot_image.account.password",)

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check the boot image's path and the limit."""
        problems = []
        if options["target"] == "windows_pe" and options.get("boot_image"):
            problem = Source.from_option(options["boot_image"]).problem()
            if problem:
                problems.append(f"boot_image: {problem}")
        if options["time_limit"] < 1:
            problems.append(f"time_limit: {options['time_limit']} minutes; at least 1")
        return problems

    def observe(self, computer: Computer) -> Here:
        """The fence tells where the computer is; the firmware is one request, asked only where Windows PE has to be staged."""
        stages = self._target is Environment.WINDOWS_PE and computer.environment is Environment.FULL_OS
        return Here(computer.environment, read_firmware(computer.cim) if stages else None)

    @property
    def _target(self) -> Environment:
        return _TARGETS[self.options["target"]]

    def plan(self, state: Here) -> RestartPlan:
        """Nothing where the computer runs Windows PE already and is to run it; else a restart."""
        if state.environment is self._target is Environment.WINDOWS_PE:
            return RestartPlan(target=self._target)
        stage = self._target is Environment.WINDOWS_PE
        if stage and not self.options["boot_image"]:
            raise StepFailure(
                "To restart in Windows PE the boot image must be known.", remedy="Set boot_image (osd_boot_image in the roles)."
            )
        if stage and state.firmware is None:
            raise StepFailure("Windows does not say whether the firmware is BIOS or UEFI (PEFirmwareType is missing).")
        changes = [Change("stage Windows PE on C: as the next start")] if stage else []
        changes.append(Change(f"restart to {self._target.value}"))
        return RestartPlan(
            tuple(changes),
            before={"environment": state.environment.value},
            after={"environment": self._target.value},
            target=self._target,
            stage=stage,
            firmware=state.firmware or Firmware.UEFI,
        )

    def predict(self) -> RestartPlan:
        """A restart."""
        return RestartPlan((Change(f"restart to {self._target.value}"),), predicted=True, target=self._target)

    def apply(self, computer: Computer, plan: RestartPlan) -> Computer:
        """Stage, read the entry back, and only then restart."""
        if plan.stage:
            boot_staging.stage_in_windows(self.context, computer, self.options["boot_image"])
            boot_staging.set_boot_entry(self.context, computer, WindowsPeEntry(_DRIVE, plan.firmware), once=True)
        return self.context.restart(computer, plan.target, time_limit=self.options["time_limit"] * 60)

    def verify(self, computer: Computer, plan: RestartPlan) -> Mapping[str, Any]:
        """The crossing proved the environment, the machine and the new start."""
        if computer.environment is not plan.target:
            raise StepFailure(f"The computer is in {computer.environment.value} after the restart, not in {plan.target.value}.")
        return {"restarted": True}

    def result(self, plan: RestartPlan) -> Mapping[str, Any]:
        """No restart was needed."""
        return {"restarted": False}
