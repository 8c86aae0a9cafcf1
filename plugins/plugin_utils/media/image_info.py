# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a WIM holds, also where it lies in an ISO, as plain values."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..windows.image import WimImage, read_wim
from . import iso


def read(path: Path, source_path: str, *, checksum: bool = False) -> dict[str, Any]:
    """Return the images and the file's facts. ImageError, DamagedMedium, OSError."""
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        if iso.is_iso(path):
            file = stack.enter_context(iso.find(file, source_path).open(file))
        wim = read_wim(file)
        found: dict[str, Any] = {
            "images": [_plain(image) for image in wim.images],
            "compression": wim.header.compression,
            "boot_index": wim.header.boot_index,
            "size": wim.size,
        }
        if checksum:
            file.seek(0)
            found["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _plain(image: WimImage) -> dict[str, Any]:
    plain = asdict(image)
    for name in ("created", "modified"):
        plain[name] = plain[name].isoformat() if plain[name] else ""
    return plain | {"languages": list(image.languages), "properties": dict(image.properties), "is_windows_pe": image.is_windows_pe}
