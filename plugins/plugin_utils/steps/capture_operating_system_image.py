# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capture Operating System Image: every volume worth it into one WIM file, written beside its name, read back, then renamed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import boot_store, capture_configuration, dism, opening, sysprep, traces
from ..windows.boot_store import WindowsPeEntry
from ..windows.capture_volumes import VolumeChoice, choose_volumes, without_letter
from ..windows.computer import Computer, ComputerLost, Environment
from ..windows.disks import WINDOWS_LETTER, read_disks, used_letters
from ..windows.exit_codes import describe_exit_code, remedy_for
from ..windows.firmware import Firmware
from ..windows.https_opening import Https
from ..windows.image import ImageError, Wim, edit_xml, read_wim, xml_patch
from ..windows.names import BOOT_LOADER_ENTRY, FIREWALL_RULE, RECORDER, WORK_FOLDER
from ..windows.range_file import open_ranges
from ..windows.registry import OfflineRegistry, RegistryError
from ..windows.volumes import Placed, placed, root_entries, windows_volumes
from ..wsman.known import known
from . import boot_staging
from .base import Change, Plan, Step, StepFailure
from .drive_letters import assign_letters, free_letters
from .spent import CAPTURED_FILE

_SYSTEM32 = r"X:\Windows\System32"
_WIM_SCRIPT = "WimScript.ini"
_CONFIGURATION = rf"X:\{WORK_FOLDER}\{_WIM_SCRIPT}"
#: begin.cmd PART WORK: lays the configuration down, makes DISM's folders, deletes the file that a broken capture left.
_BEGIN = (
    "@echo off",
    rf"copy /y /b {_WIM_SCRIPT} {_CONFIGURATION} >nul || exit /b 1",
    r'if not exist "%~2\logs" md "%~2\logs" || exit /b 1',
    r'if not exist "%~2\scratch" md "%~2\scratch" || exit /b 1',
    'if exist "%~1" del /f /q "%~1"',
    'if exist "%~1" exit /b 1',
    "exit /b 0",
)
#: publish.cmd PART TARGET PREVIOUS: what has the name keeps it where the new file cannot take it.
_KEPT, _NAMELESS = 40, 41
_PUBLISH = (
    "@echo off",
    'if not exist "%~2" goto publish',
    'move /y "%~2" "%~3" >nul || exit /b 1',
    f'move /y "%~1" "%~2" >nul && exit /b {_KEPT}',
    f'move /y "%~3" "%~2" >nul || exit /b {_NAMELESS}',
    "exit /b 1",
    ":publish",
    'move /y "%~1" "%~2" >nul || exit /b 1',
    "exit /b 0",
)
#: What the computer keeps of a capture; the folder is not in the image and is gone with the next partitioning.
_AGAIN = "The step deletes its unfinished file and starts over when it runs again."

Opened = tuple[tuple[opening.Setting, ...], tuple[opening.Before, ...]]


@dataclass(frozen=True)
class CaptureSituation:
    """The volumes with their choices, what Windows' own records say, and what of the run is still in it."""

    windows: Placed
    choices: tuple[VolumeChoice, ...]
    image_state: str
    clone_tag: bool
    traces: traces.Traces
    opened: Opened
    registry: OfflineRegistry
    free_letters: tuple[str, ...]


@dataclass(frozen=True)
class CapturePlan(Plan):
    """What to capture into which file."""

    situation: CaptureSituation | None = None
    part: str = ""


class CaptureOperatingSystemImage(Step[CaptureSituation, CapturePlan]):
    """The step."""

    name: ClassVar[str] = "Capture Operating System Image"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    secrets: ClassVar[tuple[str, ...]] = ("account.password",)
    #: DISM holds the volume's files open while Windows is looked at and cleaned offline, and nobody can append to half a file.
    starts_over: ClassVar[bool] = True

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check lengths and characters that the variables' reference and DISM allow."""
        problems = []
        for name, limit in (
            ("path", 255),
            ("image_description", 255),
            ("image_version", 32),
            ("image_created_by", 255),
        ):
            if len(options[name]) > limit:
                problems.append(f"{name}: has {len(options[name])} characters; at most {limit} are allowed")
        for name in ("image_name", "image_description"):
            if set(options[name]) & set('"%'):
                problems.append(f"{name}: {options[name]!r} holds a double quote or a percent sign, which DISM cannot take")
        for name in ("image_name", "image_description", "image_version", "image_created_by"):
            if not options[name].isprintable():
                problems.append(f"{name}: {options[name]!r} holds a line break or another control character")
        if set(options["path"]) & set('&|<>^%"'):
            problems.append(f"path: '{options['path']}' holds one of & | < > ^ % or a quote, which cmd.exe would not take as a name")
        if not options["image_name"].strip():
            problems.append("image_name: is empty; every image of a WIM file needs a name")
        if not options["path"].lower().endswith(".wim"):
            problems.append(f"path: '{options['path']}' does not end in .wim")
        return problems

    def observe(self, computer: Computer) -> CaptureSituation:
        """Find Windows and the volumes; read the offline registry; look for what the run left in Windows."""
        disks = read_disks(computer.cim)
        found = windows_volumes(computer, disks)
        if len(found) != 1:
            letters = ", ".join(f"{p.letter}:" for p in found) or "none"
            raise StepFailure(
                f"Exactly one volume must hold Windows to be captured; found: {letters}.",
                remedy="Remove or clear the other disks.",
            )
        windows = found[0]
        places = placed(disks)
        system = next((p for p in places if p.partition.active and p.disk.number == windows.disk.number), None)
        registry = OfflineRegistry(computer, windows.root, traces.HIVES)
        opened = self._read_opened(registry)
        image_state = registry.get_string(sysprep.STATE_KEY, "ImageState") or ""
        clone_tag = registry.get_multi(sysprep.CLONE_TAG_KEY, sysprep.CLONE_TAG_VALUE) is not None
        found_traces = traces.find(computer, registry, windows.root, *opened, self._https)
        choices = choose_volumes(places, windows, system)
        empty = [c.place for c in choices if c.image_index and c.place.letter and c.place != windows and _is_empty(computer, c.place)]
        if empty:
            choices = choose_volumes(places, windows, system, empty)
        free = free_letters(used_letters(computer.cim), WINDOWS_LETTER) if without_letter(choices) else ()
        return CaptureSituation(windows, choices, image_state, clone_tag, found_traces, opened, registry, free)

    def _read_opened(self, registry: OfflineRegistry) -> Opened:
        """Read the registry, and return what opened Windows for the run and what was there before; the same list that setup applied.

        A Windows that no run has opened is not closed either: how its owner reaches it is a part of it. Another run's opening, of which
        nothing is remembered here, is known by its firewall rule.
        """
        remembered = self.context.recall(opening.REMEMBERED) or []
        settings = opening.settings(self.context.controller_address(), https=self._https)
        registry.read((sysprep.STATE_KEY, sysprep.CLONE_TAG_KEY, *traces.keys(settings, self._https)))
        if not remembered and registry.get(opening.FIREWALL_RULES, FIREWALL_RULE, "REG_SZ") is None:
            return (), ()
        return settings, tuple(opening.Before.from_dict(row) for row in remembered)

    @property
    def _https(self) -> Https | None:
        remembered = self.context.recall(opening.REMEMBERED_HTTPS)
        return Https.from_dict(remembered) if remembered else None

    def plan(self, state: CaptureSituation) -> CapturePlan:
        """Refuse a Windows that is not generalized; then clean, capture, read back, rename."""
        if state.image_state != sysprep.GENERALIZED or not state.clone_tag:
            raise StepFailure(
                f"Windows on {state.windows.letter}: is not generalized (image state {state.image_state or 'missing'}, "
                f"CloneTag {'present' if state.clone_tag else 'missing'}).",
                remedy="Run Prepare Windows for Capture in the running Windows first.",
            )
        part = f"{self.options['path']}.{_slug(self.context.run_id) or 'capture'}.part"
        if state.traces.account:
            raise StepFailure(
                f"The run's account {state.traces.account} is still in Windows; Windows PE cannot remove it.",
                remedy="Build the computer anew: Prepare Windows for Capture removes the account before it restarts.",
            )
        changes = [Change(f"remove {what}", minor=True) for what in state.traces.lines]
        changes += [Change(f"capture {_describe(choice)} as image {choice.image_index}") for choice in state.choices if choice.image_index]
        changes.append(Change(f"read the file back and name it {self.options['path']}"))
        return CapturePlan(
            tuple(changes),
            before={"of_the_run": list(state.traces.lines)},
            after={"path": self.options["path"], "volumes": volume_rows(state.choices)},
            situation=state,
            part=part,
        )

    def predict(self) -> CapturePlan:
        """The volumes are not there yet."""
        return CapturePlan((Change(f"capture every NTFS and FAT32 volume into {self.options['path']}"),), predicted=True)

    def apply(self, computer: Computer, plan: CapturePlan) -> Computer:
        """Clean Windows offline, capture volume by volume, describe, read back, publish."""
        state = known(plan.situation)
        target = self.context.content({"target": self.options["path"], "account": self.options["account"]})
        part = target + plan.part.removeprefix(self.options["path"])
        self._clean(computer, state)
        choices = self._assign_letters(computer, state)
        files = {_WIM_SCRIPT: capture_configuration.render(capture_configuration.for_capture())}
        self._script(computer, "begin", _BEGIN, (part, state.windows.root + WORK_FOLDER), files)
        for choice in sorted(choices, key=lambda c: c.image_index or 0):
            # Windows first: DISM numbers the images as they come, and only the first one makes the file.
            if choice.image_index:
                self._capture(computer, state, choice, part)
            else:
                self.context.progress(None, f"not captured: {_describe(choice)}: {choice.reason}")
        self._publish(computer, choices, part, target, self._describe(computer, part, choices))
        return computer

    def _clean(self, computer: Computer, state: CaptureSituation) -> None:
        self.context.progress(None, "removing what opened the computer for the run")
        settings, before = state.opened
        root = state.windows.root
        try:
            # What is removed is read anew; what was not there when the plan was made is proven gone already.
            commands = traces.remove(state.registry, state.traces, before)
            if commands:
                boot_staging.run_commands(self.context, computer, "clean", "X:", commands)
            left = traces.find(computer, state.registry, root, settings, before, self._https).lines if state.traces.lines else ()
        except RegistryError as error:
            raise StepFailure(f"{error}. Nothing was captured.", code=error.code, remedy="Run the step again.") from error
        if left:
            raise StepFailure(
                f"Windows still holds what opened it for the run: {', '.join(left)}. Nothing was captured.",
                remedy="Remove these by hand in Windows PE and run the step again, or build the computer anew.",
            )
        self._forget_boot_entry(computer, state)

    def _forget_boot_entry(self, computer: Computer, state: CaptureSituation) -> None:
        """Where the boot files lie on the Windows volume they are captured with it: the entry of Windows PE goes first."""
        entry = WindowsPeEntry(
            f"{state.windows.letter}:",
            Firmware.BIOS,
            boot_staging.store_path(f"{state.windows.letter}:", Firmware.BIOS),
        )
        if not state.windows.partition.active or computer.file_info(entry.store) is None:
            return
        found = boot_staging.read_state(computer, entry)
        others = [guid for guid in found.displayorder if guid != BOOT_LOADER_ENTRY]
        commands = boot_store.remove_entry(entry, found, others[0] if others else "")
        if commands:
            boot_staging.run_commands(self.context, computer, "boot-entry", "X:", commands)

    def _assign_letters(self, computer: Computer, state: CaptureSituation) -> tuple[VolumeChoice, ...]:
        waiting = without_letter(state.choices)
        if not waiting:
            return state.choices
        if len(waiting) > len(state.free_letters):
            raise StepFailure(
                f"{len(waiting)} volumes need a drive letter to be captured; {len(state.free_letters)} are free. Nothing was captured.",
                remedy="Remove disks and media that the image does not need.",
            )
        wanted = [(choice.place, letter) for choice, letter in zip(waiting, state.free_letters, strict=False)]
        disks = assign_letters(self.context, computer, wanted)
        fresh = {(p.disk.number, p.partition.offset): p for p in placed(disks)}
        return tuple(VolumeChoice(fresh[(c.place.disk.number, c.place.partition.offset)], c.image_index, c.reason) for c in state.choices)

    def _capture(self, computer: Computer, state: CaptureSituation, choice: VolumeChoice, part: str) -> None:
        arguments = dism.CaptureArguments(part, choice.place.root, self._image_name(choice), self._description(choice), _CONFIGURATION)
        # In the work folder of the Windows volume, which no image gets; the RAM disk is too small for scratch files.
        work = state.windows.root + WORK_FOLDER
        tool = dism.Dism(rf"{_SYSTEM32}\dism.exe", rf"{work}\logs\dism-capture.log", rf"{work}\scratch")
        first = choice.image_index == 1
        argv = tool.capture_image(arguments, self.options["compression"]) if first else tool.append_image(arguments)
        self.context.progress(0, f"capture {_describe(choice)} as image {choice.image_index}")
        self._job(computer, f"capture-{choice.image_index}", "dism", argv, self.options["time_limit"] * 60)

    def _image_name(self, choice: VolumeChoice) -> str:
        name = str(self.options["image_name"])
        if choice.image_index == 1:
            return name
        volume = choice.place.partition.volume
        label = volume.label if volume else ""
        return f"{name} - {label or 'volume'} ({choice.place.disk.number}-{choice.place.partition.number})"

    def _description(self, choice: VolumeChoice) -> str:
        return str(self.options["image_description"]) if choice.image_index == 1 else ""

    def _describe(self, computer: Computer, part: str, choices: Sequence[VolumeChoice]) -> int:
        """Write creator and version, which DISM cannot, into the file's own description [unverified: ConfigMgr's node names].

        Return the size that the file must have then.
        """
        wim = _read(computer, part)
        xml = edit_xml(wim.xml, 1, properties=self._properties())
        for choice in choices:
            if choice.image_index and choice.image_index > 1:
                volume = choice.place.partition.volume
                xml = edit_xml(xml, choice.image_index, properties={"VOLUME": volume.label if volume else ""})
        size = wim.size
        for offset, content in xml_patch(wim.header, wim.size, xml):
            computer.write_range(part, offset, content)
            size = max(size, offset + len(content))
        return size

    def _publish(self, computer: Computer, choices: Sequence[VolumeChoice], part: str, target: str, size: int) -> None:
        self._check_images(_read(computer, part, size), choices, part)
        previous = f"{target}.prev-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
        path, kept_as = self.options["path"], previous.rsplit("\\", 1)[-1]
        code = self._script(computer, "publish", _PUBLISH, (part, target, previous), good=(0, _KEPT, _NAMELESS))
        if code == _NAMELESS:
            raise StepFailure(
                f"{path} was not written: the new image could not take this name, and the file that had it could not take it back "
                f"(code {_NAMELESS}). That file is whole; it is kept as {kept_as} in the same folder.",
                code=_NAMELESS,
                remedy=f"Rename {kept_as} if it is needed under its old name. Check the account's rights in the folder. {_AGAIN}",
            )
        if code == _KEPT:
            self.context.warn(f"{path} was there already; it is kept as {kept_as}.")

    def _properties(self) -> dict[str, str]:
        values = {
            "CREATEDBY": self.options["image_created_by"],
            "VERSION": self.options["image_version"],
            "RUN": self.context.run_id,
        }
        return {name: value for name, value in values.items() if value}

    def _check_images(self, wim: Wim, choices: Sequence[VolumeChoice], place: str) -> None:
        """Compare the file with what was to be captured. StepFailure says where it differs."""
        header = wim.header
        if header.parts != 1 or header.write_in_progress or not header.has_integrity:
            raise StepFailure(f"{place} is not a finished WIM file with an integrity table.", remedy=_AGAIN)
        captured = sorted((c for c in choices if c.image_index), key=lambda c: c.image_index or 0)
        wanted = [self._image_name(choice) for choice in captured]
        names = [image.name for image in wim.images]
        if names != wanted:
            raise StepFailure(f"{place} holds the images {', '.join(names)}; captured were {', '.join(wanted)}.", remedy=_AGAIN)
        properties = {name: value.strip() for name, value in self._properties().items()}
        if not wim.images[0].is_windows or properties != {n: v for n, v in wim.images[0].properties.items() if v}:
            raise StepFailure(f"Image 1 of {place} is not described as the Windows of this run.", remedy=_AGAIN)

    def _script(
        self,
        computer: Computer,
        label: str,
        lines: Sequence[str],
        arguments: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        good: Sequence[int] = (0,),
    ) -> int:
        """Run a batch file as one job, paths as its arguments: they may hold what a batch file cannot."""
        name = f"{label}.cmd"
        text = "".join(line + "\r\n" for line in lines).encode("ascii")
        argv = [rf"{_SYSTEM32}\cmd.exe", "/d", "/c", rf".\{name}", *arguments]
        return self._job(computer, label, "cmd", argv, 600, {name: text, **(files or {})}, good)

    def _job(
        self,
        computer: Computer,
        label: str,
        tool: str,
        argv: list[str],
        limit: int,
        files: Mapping[str, bytes] | None = None,
        good: Sequence[int] = (0,),
    ) -> int:
        result = self.context.run_job(computer, label, argv, time_limit=limit, files=files)
        if result.exit_code not in good:
            raise StepFailure(
                f"{self.options['path']} was not written: {tool} ({label}) ended with {describe_exit_code(tool, result.exit_code)}. "
                "A file that had this name before is untouched.",
                code=result.exit_code,
                remedy=f"{remedy_for(tool, result.exit_code) or 'Read the log.'} {_AGAIN}",
                log=str(result.log or ""),
            )
        return result.exit_code

    def verify(self, computer: Computer, plan: CapturePlan) -> Mapping[str, Any]:
        """Read the published file's header and description, hash it, and mark the computer as spent."""
        target = self.context.content({"target": self.options["path"], "account": self.options["account"]})
        wim = _read(computer, target)
        situation = known(plan.situation)
        wanted = [c for c in situation.choices if c.image_index]
        self._check_images(wim, wanted, self.options["path"])
        self.context.progress(None, "computing SHA-256")
        result = {
            "image": {
                "path": self.options["path"],
                "sha256": computer.file_hash(target),
                "images": [
                    {"index": image.index, "name": image.name, "volume": _describe(choice)}
                    for image, choice in zip(wim.images, sorted(wanted, key=lambda c: c.image_index or 0), strict=True)
                ],
            },
            "volumes": volume_rows(situation.choices),
        }
        computer.put_file(situation.windows.root + CAPTURED_FILE, json.dumps({"run": self.context.run_id, **result}).encode())
        self.context.fetch_log(computer, rf"{situation.windows.root}{WORK_FOLDER}\logs\dism-capture.log", RECORDER)
        self._leave(computer)
        return result

    def _leave(self, computer: Computer) -> None:
        verb = {"shutdown": "shutdown", "restart": "reboot"}.get(self.options["after_capture"])
        if verb:
            # The computer may be gone before it answers; the image is there, so this is no failure.
            with contextlib.suppress(ComputerLost):
                computer.run([rf"{_SYSTEM32}\wpeutil.exe", verb])


def _read(computer: Computer, path: str, size: int | None = None) -> Wim:
    """Read header and description; ``size`` where it is known, a file that is cut off has no description then."""
    try:
        return read_wim(open_ranges(computer, path, size))
    except FileNotFoundError as error:
        raise StepFailure(f"{path} is not there after the capture.") from error
    except ImageError as error:
        raise StepFailure(f"{path} cannot be read back: {error}.") from error


def _is_empty(computer: Computer, place: Placed) -> bool:
    """Tell whether nothing on a volume would be captured: DISM fails on an empty folder [doc]."""
    files, folders = root_entries(computer, place.letter)
    configuration = capture_configuration.for_capture()
    return all(configuration.excludes(f"\\{name}") for name in (*files, *folders))


def _describe(choice: VolumeChoice) -> str:
    place = choice.place
    volume = place.partition.volume
    label = f" ({volume.label})" if volume and volume.label else ""
    return f"disk {place.disk.number} partition {place.partition.number}{label}"


def volume_rows(choices: Sequence[VolumeChoice]) -> list[dict[str, Any]]:
    """Return every partition with its image or the reason why it is left out, as plain values."""
    rows = []
    for choice in choices:
        volume = choice.place.partition.volume
        rows.append(
            {
                "disk": choice.place.disk.number,
                "partition": choice.place.partition.number,
                "label": volume.label if volume else "",
                "file_system": volume.file_system if volume else "",
                "image_index": choice.image_index,
                "reason": choice.reason,
            }
        )
    return rows


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")
