# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the two steps that write the answer file share: read it, merge into it, write it, read it again."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..windows import answer_file
from ..windows.answer_file import AnswerFile, AnswerFileError
from ..windows.applied_windows import AppliedWindows, UnknownArchitecture, read_applied_windows
from ..windows.computer import Computer
from ..windows.registry import RegistryError
from ..windows.volumes import NoWindows
from ..wsman.known import known
from .base import Plan, StepContext, StepFailure


@dataclass(frozen=True)
class AnswerFilePlan(Plan):
    """The file as it will be, and where."""

    windows: AppliedWindows | None = None
    file: AnswerFile = field(default_factory=AnswerFile, repr=False)


def read_windows(computer: Computer, context: StepContext) -> AppliedWindows:
    """Return the applied Windows with its answer file, or fail in the user's words."""
    try:
        return read_applied_windows(computer, context.recall("applied_image"), context.windows_drive(computer))
    except NoWindows as error:
        raise StepFailure(str(error), remedy="Run Apply Operating System Image first.") from error
    except (UnknownArchitecture, RegistryError) as error:
        raise StepFailure(str(error), remedy="Apply the image again; its SYSTEM hive may be damaged.") from error


def parse_present(windows: AppliedWindows, context: StepContext) -> AnswerFile:
    """Return the answer file that is there, or an empty one; fail where Setup would not take it.

    Setup's own cached copy, which an image that was captured without cleaning brings along, is no answer file: it is replaced.
    """
    if windows.answer_file is None:
        return AnswerFile()
    path = windows.answer_file_path
    remedy = f"Correct or delete {path}; Setup would stop at it and the computer would never answer."
    try:
        file = answer_file.parse(windows.answer_file)
    except AnswerFileError as error:
        raise StepFailure(f"{path}: {error}.", remedy=remedy) from error
    if file.processed_passes:
        context.warn(f"{path} came with the image and is the remainder of an earlier setup; it is replaced.")
        return AnswerFile()
    others = file.architectures()
    if others and windows.architecture not in {name.lower() for name in others}:
        names = ", ".join(sorted(others))
        raise StepFailure(f"{path} is for {names}, the image is {windows.architecture}.", remedy=remedy)
    if any(pass_name == "offlineServicing" for pass_name, dummy, dummy in file.components):
        context.warn(f"{path} has settings for the pass offlineServicing, which nobody runs on an image that was applied.")
    return file


def check_result(file: AnswerFile, windows: AppliedWindows) -> None:
    """Fail where the merged file holds what Setup would stop at: what the step did not set comes from the file that was there."""
    problems = answer_file.content_problems(file, windows.architecture)
    if problems:
        raise StepFailure(
            f"The answer file for {windows.answer_file_path} would stop Setup: {'; '.join(problems)}.",
            remedy="Correct the answer file that was given with the image.",
        )


def write(computer: Computer, plan: AnswerFilePlan) -> None:
    """Write the file beside its final name and rename it; parent folders are made."""
    computer.put_file(known(plan.windows).answer_file_path, plan.file.render())


def verify_written(computer: Computer, plan: AnswerFilePlan) -> None:
    """Read the file again: it must be the one that was written."""
    path = known(plan.windows).answer_file_path
    try:
        same = computer.get_file(path) == plan.file.render()
    except FileNotFoundError:
        same = False
    if not same:
        raise StepFailure(f"{path} is not what was written to it.", remedy="Check the Windows volume with chkdsk.")
