# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DISM's imaging command lines; image facts are read from the file itself.

Command lines: [doc: cp/dism-image-management-command-line-options-s14]. DISM's default log and scratch folder lie on the RAM disk,
so both are always given [doc: cp/dism best practices].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Compression = Literal["none", "fast", "max"]


def _dism(program: str, log: str, scratch: str, *arguments: str) -> list[str]:
    options = [f"/LogPath:{log}"] if log else []
    options += [f"/ScratchDir:{scratch}"] if scratch else []
    return [program, "/English", *options, *arguments]


@dataclass(frozen=True)
class Dism:
    """Where DISM is and where it writes its log and scratch files on this computer."""

    program: str
    log: str
    scratch: str = ""

    def apply_image(self, image: str, index: int, folder: str, *, check_integrity: bool) -> list[str]:
        """Apply one image to a folder; what is there already stays and is merged."""
        check = ["/CheckIntegrity"] if check_integrity else []
        return _dism(
            self.program,
            self.log,
            self.scratch,
            "/Apply-Image",
            f"/ImageFile:{image}",
            f"/Index:{index}",
            f"/ApplyDir:{folder}",
            *check,
            "/Verify",
        )

    def capture_image(self, capture: CaptureArguments, compression: Compression) -> list[str]:
        """Capture a folder as the first image of a new file; its compression holds for the whole file."""
        return _dism(self.program, self.log, self.scratch, "/Capture-Image", *capture.arguments(), f"/Compress:{compression}")

    def append_image(self, capture: CaptureArguments) -> list[str]:
        """Capture a folder as a further image of the same file."""
        return _dism(self.program, self.log, self.scratch, "/Append-Image", *capture.arguments())


@dataclass(frozen=True)
class CaptureArguments:
    """What one volume's capture is given: file, folder, name (unique in the file), description, configuration list."""

    image: str
    folder: str
    name: str
    description: str
    configuration: str

    def arguments(self) -> list[str]:
        """Return the arguments that Capture-Image and Append-Image share."""
        description = [f"/Description:{self.description}"] if self.description else []
        return [
            f"/ImageFile:{self.image}",
            f"/CaptureDir:{self.folder}",
            f"/Name:{self.name}",
            *description,
            f"/ConfigFile:{self.configuration}",
            "/CheckIntegrity",
            "/Verify",
        ]
