# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A captured computer is spent, and its run is done once: decided on the control node where the image file can be read there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from .endpoints import Variables
from .journal import Entry
from .run import Run

CAPTURE_MODULE = "capture_operating_system_image"
_BLOCK = 1 << 20


def complete_entry(entries: list[Entry]) -> Entry | None:
    """Return the capture that completed a run, None for a run that is not complete."""
    return next((e for e in reversed(entries) if e.module == CAPTURE_MODULE and e.finished and e.result.get("image")), None)


def captured_result(run: Run, variables: Variables) -> dict[str, Any] | None:
    """Return the result of a complete run whose file is there unchanged, without any connection; None where that cannot be said."""
    entry = complete_entry(run.journal.read())
    controller = variables.mapping("osd_capture").get("controller") if entry else None
    if entry is None or not controller:
        return None
    image = entry.result["image"]
    path = variables.path(controller)
    if not path.is_file() or sha256_of(path) != image.get("sha256"):
        return None
    return {
        "changed": False,
        "image": dict(image),
        "msg": f"This run is complete: {path} has SHA-256 {image['sha256']}. Nothing is sent and nothing changes.",
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
