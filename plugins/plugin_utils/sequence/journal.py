# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal on the control node: one line of JSON for every task of the run. Nothing in it is secret.

It is log and cache; what the computer really is, is asked from the computer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One task. ``key`` tells tasks of a sequence apart, ``digest`` is that of their inputs, ``result`` what it returned."""

    key: str
    step: str
    module: str
    digest: str
    environment_before: str = ""
    environment_after: str = ""
    boot_before: str = ""
    boot_after: str = ""
    start: str = ""
    end: str = ""
    requests: int = 0
    changed: bool = False
    skipped: bool = False
    failed: bool = False
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the step need not be done again."""
        return not self.failed and not self.skipped


class Journal:
    """The file of one computer in one run."""

    def __init__(self, path: Path) -> None:
        """Take its path; it need not be there."""
        self.path = path

    def read(self) -> list[Entry]:
        """Return all entries; a last line that a crash cut short is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entries.append(Entry(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry; when this returns it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # One write: a crash leaves a whole line or a cut one, never two mixed.
            os.write(handle, (json.dumps(asdict(entry), default=str) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def digest_inputs(key: bytes, options: Mapping[str, Any], secrets: Sequence[str]) -> str:
    """Return the HMAC of a step's options; of a secret it counts only whether it is set."""
    plain = json.dumps(mask(options, secrets, "set"), sort_keys=True, default=str)
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def mask(value: Any, secrets: Sequence[str], replacement: str = "********") -> Any:
    """Return a copy in which the values at the dotted paths are replaced; lists are walked through, unset values stay unset."""
    paths = [path.split(".") for path in secrets]
    return _mask(value, paths, replacement)


def _mask(value: Any, paths: list[list[str]], replacement: str) -> Any:
    if isinstance(value, Mapping):
        masked = {}
        for name, item in value.items():
            below = [path[1:] for path in paths if path[0] == name]
            hide = item is not None and any(not path for path in below)
            masked[str(name)] = replacement if hide else _mask(item, [path for path in below if path], replacement)
        return masked
    if isinstance(value, list | tuple):
        return [_mask(item, paths, replacement) for item in value]
    return value


def secret_values(value: Any, secrets: Sequence[str]) -> set[str]:
    """Return the secret texts at the dotted paths, to be taken out of results."""
    found: set[str] = set()
    for path in secrets:
        _collect(value, path.split("."), found)
    return found


def _collect(value: Any, path: list[str], found: set[str]) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _collect(item, path, found)
    elif not path:
        if isinstance(value, str) and value:
            found.add(value)
        elif isinstance(value, Mapping):
            for item in value.values():
                _collect(item, [], found)
    elif isinstance(value, Mapping):
        _collect(value.get(path[0]), path[1:], found)
