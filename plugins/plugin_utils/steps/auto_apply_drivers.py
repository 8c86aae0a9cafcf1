# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Auto Apply Drivers.

Rank the drivers of the sources for the computer's devices as Windows does, and add the chosen ones offline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import drivers
from ..windows.computer import Computer, Environment
from ..windows.drivers import Device, DriverIndex, DriverPackage, Selection
from ..windows.exit_codes import describe_exit_code, remedy_for
from ..windows.inf import TargetWindows
from ..windows.local_content import COPY_FAILED, Source
from ..windows.names import WORK_FOLDER
from ..windows.select import SelectionError, expression_problem, select
from ..windows.volumes import NoWindows, windows_root
from ..wsman.known import known
from .base import Change, Plan, Step, StepFailure
from .driver_source import SourceInfo, in_folder, read_computer_folder, read_controller_folder

_SYSTEM32 = r"X:\Windows\System32"
_STORE = r"Windows\System32\DriverStore\FileRepository"
_KERNEL = r"Windows\System32\ntoskrnl.exe"
#: Win32_Processor.Architecture → the name INF files use [doc: win32/CIMWin32Prov win32-processor].
_PROCESSORS = {0: "x86", 5: "arm", 9: "amd64", 12: "arm64"}


@dataclass(frozen=True)
class Situation:
    """Where Windows lies, what was chosen, where each source's files are, and which INF files the store has already."""

    root: str
    target: TargetWindows
    selection: Selection
    folders: Mapping[int, str]
    in_store: frozenset[str]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class DriverPlan(Plan):
    """The packages to add."""

    situation: Situation | None = None
    packages: tuple[DriverPackage, ...] = ()


class AutoApplyDrivers(Step[Situation, DriverPlan]):
    """The step. It stages drivers only; plug and play installs them at the first start of Windows."""

    name: ClassVar[str] = "Auto Apply Drivers"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    secrets: ClassVar[tuple[str, ...]] = ("sources.account.password",)

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check the expression and that the categories asked for exist."""
        problems = []
        for source in options["sources"]:
            content = Source.from_option(source)
            if content.problem() or content.is_web:
                problems.append(f"sources: {content.problem() or repr(content.target) + ' is no folder; give a share or a local path'}")
        if options.get("select") and expression_problem(options["select"]):
            problems.append(f"select: {expression_problem(options['select'])}")
        known = {category for source in options["sources"] for category in source.get("categories") or ()}
        unknown = [category for category in options.get("categories") or () if category not in known]
        if unknown:
            listed = ", ".join(sorted(known)) or "none"
            problems.append(f"categories: {', '.join(unknown)} is in no source; the sources have {listed}")
        return problems

    def observe(self, computer: Computer) -> Situation:
        """Read devices, INF files and the driver store, and rank.

        Sources without ``controller`` are copied to the work folder first.
        """
        try:
            root = windows_root(computer, self.context.windows_drive(computer))
        except NoWindows as problem:
            raise StepFailure(str(problem), remedy="Run Apply Operating System Image first.") from problem
        target = self._target(computer, root)
        devices = self._devices(computer)
        index, folders, unread = self._index(computer, root, target)
        selection = drivers.choose(
            index,
            devices,
            best_match=self.options["best_match"],
            allow_unsigned=self.options["allow_unsigned"],
            categories=frozenset(self.options["categories"]),
        )
        in_store = self._in_store(computer, root, target, selection.packages)
        return Situation(root, target, selection, folders, in_store, tuple(unread))

    def _devices(self, computer: Computer) -> list[Device]:
        devices = drivers.read_devices(computer.cim)
        if not self.options["select"]:
            return devices
        try:
            kept = select([device.as_row() for device in devices], self.options["select"])
        except SelectionError as problem:
            raise StepFailure(f"select: {problem}.") from problem
        return [devices[position] for position in kept]

    def _target(self, computer: Computer, root: str) -> TargetWindows:
        """From the image that was applied; without a run, from the kernel's version and the processor."""
        applied = self.context.recall("applied_image") or {}
        text = str(applied.get("version") or "")
        numbers = [int(part) for part in re.findall(r"\d+", text)]
        if len(numbers) < 3:
            info = computer.file_info(root + _KERNEL)
            text = (info.version if info else None) or text
            numbers = [int(part) for part in re.findall(r"\d+", text)]
        if len(numbers) < 3:
            raise StepFailure(f"The version of Windows on {root} cannot be told from '{text}'.", remedy="Apply the image in this run.")
        if applied.get("architecture"):
            architecture = drivers.store_architecture(applied["architecture"])
        else:
            row = computer.cim.query("SELECT Architecture FROM Win32_Processor")[0]
            architecture = _PROCESSORS.get(int(str(row["Architecture"])), "amd64")
        server = str(applied.get("edition") or "").lower().startswith("server")
        return TargetWindows(architecture, (numbers[0], numbers[1]), numbers[2], 3 if server else 1)

    def _index(self, computer: Computer, root: str, target: TargetWindows) -> tuple[DriverIndex, dict[int, str], list[str]]:
        index = DriverIndex()
        folders: dict[int, str] = {}
        unread: list[str] = []
        for number, option in enumerate(self.options["sources"], start=1):
            path = self.context.content(option).rstrip("\\")
            categories = frozenset(option.get("categories") or ())
            if option.get("controller"):
                source = SourceInfo(number, path, categories)
                packages = read_controller_folder(option["controller"], target, source)
            else:
                if path.startswith("\\\\"):
                    if self.context.check_mode:
                        unread.append(option["target"])
                        continue
                    path = self._copy(computer, path, rf"{root}{WORK_FOLDER}\drivers\{number}", number)
                source = SourceInfo(number, path, categories)
                packages = read_computer_folder(computer, target, source)
            folders[number] = source.folder
            for package in packages:
                index.add(package)
        return index, folders, unread

    def _copy(self, computer: Computer, path: str, folder: str, number: int) -> str:
        """The computer reads only INF files on its own disk, so the source is copied there.

        Robocopy leaves out what is there already.
        """
        argv = [rf"{_SYSTEM32}\robocopy.exe", path, folder, "/E", "/R:3", "/W:5", "/NP", "/NFL", "/NDL"]
        job = self.context.run_job(computer, f"copy-{number}", argv, time_limit=self.options["time_limit"] * 60)
        if job.exit_code >= COPY_FAILED:
            raise StepFailure(
                f"{path} could not be copied: robocopy ended with {describe_exit_code('robocopy', job.exit_code)}.",
                code=job.exit_code,
                remedy=remedy_for("robocopy", job.exit_code),
                log=str(job.log or ""),
            )
        return folder

    def _in_store(self, computer: Computer, root: str, target: TargetWindows, packages: Sequence[DriverPackage]) -> frozenset[str]:
        """Return the hashes of the packages that the driver store holds.

        One request, and one a package that may be there.
        """
        if not packages:
            return frozenset()
        rows = computer.cim.query(f"SELECT Name FROM Win32_Directory WHERE {in_folder(root + _STORE)}")
        names = [str(row["Name"]).rsplit("\\", 1)[-1] for row in rows]
        found = set()
        for package in packages:
            for name in drivers.store_folders(names, package, target.architecture):
                try:
                    present = computer.file_hash(rf"{root}{_STORE}\{name}\{package.name}")
                except FileNotFoundError:
                    continue
                if present == package.content:
                    found.add(present)
        return frozenset(found)

    def plan(self, state: Situation) -> DriverPlan:
        """Add what was chosen and is not in the store."""
        packages = tuple(package for package in state.selection.packages if package.content not in state.in_store)
        changes = [Change(f"add driver {package.describe}{_devices_of(state.selection, package)}") for package in packages]
        changes += [Change(f"copy {path} and add the drivers that match the computer's devices") for path in state.unread]
        before = {p.path: "in the driver store" for p in state.selection.packages if p.content in state.in_store}
        after = {package.path: "in the driver store" for package in state.selection.packages}
        return DriverPlan(
            changes=tuple(changes), before=before, after=after, predicted=bool(state.unread), situation=state, packages=packages
        )

    def predict(self) -> DriverPlan:
        """The computer's devices are not known in another environment."""
        targets = ", ".join(option["target"] for option in self.options["sources"])
        return DriverPlan(changes=(Change(f"add the drivers of {targets} that match the computer's devices"),), predicted=True)

    def apply(self, computer: Computer, plan: DriverPlan) -> Computer:
        """Add one package after the other, so that a refused one is named."""
        state = known(plan.situation)
        log = rf"{state.root}{WORK_FOLDER}\logs\dism-drivers.log"
        computer.put_file(rf"{state.root}{WORK_FOLDER}\logs\.keep", b"")
        for done, package in enumerate(plan.packages):
            self.context.progress(0, f"{package.name} ({done + 1} of {len(plan.packages)})")
            inf = rf"{state.folders[package.source]}\{package.path}"
            force = self.options["allow_unsigned"] and not package.is_signed
            argv = drivers.add_driver(rf"{_SYSTEM32}\dism.exe", state.root, inf, log, force_unsigned=force)
            job = self.context.run_job(computer, f"add-{done + 1:03}", argv, time_limit=self.options["time_limit"] * 60)
            if job.exit_code:
                raise StepFailure(
                    f"{package.path} was not added: DISM ended with {describe_exit_code('dism', job.exit_code)}.",
                    code=job.exit_code,
                    remedy=remedy_for("dism", job.exit_code)
                    or "Check that the package is complete, signed and made for this architecture; read the DISM log.",
                    log=self.context.fetch_log(computer, log) or str(job.log or ""),
                )
        return computer

    def verify(self, computer: Computer, plan: DriverPlan) -> Mapping[str, Any]:
        """Each package must lie in the driver store with the very INF that was ranked."""
        state = known(plan.situation)
        found = self._in_store(computer, state.root, state.target, plan.packages)
        missing = [package.path for package in plan.packages if package.content not in found]
        if missing:
            raise StepFailure(
                f"After DISM ended these drivers are not in the driver store of {state.root}: {', '.join(missing)}.",
                remedy="Read dism-drivers.log.",
                log=self.context.fetch_log(computer, rf"{state.root}{WORK_FOLDER}\logs\dism-drivers.log"),
            )
        return {"added": [package.describe for package in plan.packages], **self._warned(state)}

    def result(self, plan: DriverPlan) -> Mapping[str, Any]:
        """Every chosen driver is in the store, or nothing matched."""
        return {"added": [], **(self._warned(plan.situation) if plan.situation else {})}

    def _warned(self, state: Situation) -> Mapping[str, Any]:
        shown = drivers.summary(state.selection)
        if shown["without_driver"]:
            self.context.warn(f"No driver was found for {', '.join(shown['without_driver'])}.")
        return shown


def _devices_of(selection: Selection, package: DriverPackage) -> str:
    names = [
        f"{choice.device.name or choice.device.device_id}: {match.why}"
        for choice in selection.devices
        for match in choice.chosen
        if match.package is package
    ]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f" for {names[0]}{more}" if names else ""
