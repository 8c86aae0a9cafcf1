# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the screen of Windows PE shows: who it is, where it answers, and what is going on."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..windows.cim_classes import CIMV2
from ..wsman.schema import Instance
from ..wsman.server import CimError, CimProvider
from .recorder import Recorder
from .settings import AgentSettings

#: Seconds between two looks; the addresses are asked for at each so many looks.
PAUSE = 2.0
_ADDRESSES_EVERY = 15
#: What the controller appends to a job's name.
_MARK = re.compile(r"-[0-9a-f]{12}$")


def fingerprint(certificate: Path) -> str:
    """Return the certificate's SHA-256 as browsers show it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text("ascii"))).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def job_label(name: str) -> str:
    """Return a job's name without the mark that tells it from others: ``apply-operating-system-image-0123456789ab``."""
    return _MARK.sub("", name)


class Screen:
    """Looks at the computer and shows lines, all of them again whenever one has changed.

    Args:
        settings: of the boot image.
        cim: the computer's objects, asked for its name and addresses.
        recorder: knows the step, what runs and what has failed.
        show: takes all lines.
    """

    def __init__(self, settings: AgentSettings, cim: CimProvider, recorder: Recorder, show: Callable[[Sequence[str]], None]) -> None:
        self._settings = settings
        self._cim = cim
        self._recorder = recorder
        self._show = show
        self._fingerprint = fingerprint(settings.certificate)
        self._place: list[str] = []
        self._shown: list[str] = []
        self._looks = 0

    def look(self) -> None:
        """Show what is new. What cannot be read now is read at another look."""
        if self._looks % _ADDRESSES_EVERY == 0:
            addresses = ", ".join(self._addresses()) or "no address yet"
            self._place = [f"Computer name: {self._name()}", f"Answers on: {addresses}, port {self._settings.port}"]
        self._looks += 1
        lines = [
            f"Boot image: {self._settings.boot_image}",
            f"Certificate (SHA-256): {self._fingerprint}",
            *self._place,
            f"Step: {self._recorder.step or 'none yet'}",
            f"Now: {', '.join(self._running()) or 'nothing runs'}",
            f"Last error: {self._last_error()}",
        ]
        if lines != self._shown:
            self._shown = lines
            self._show(lines)

    def _running(self) -> list[str]:
        return [job_label(name) + ("" if percent is None else f", {percent} %") for name, percent in self._recorder.open_jobs().items()]

    def _last_error(self) -> str:
        found = self._recorder.last_error
        return f"{job_label(found[0])} ended with exit code {found[1]}" if found else "none"

    def _rows(self, class_name: str) -> Iterable[Instance]:
        try:
            return list(self._cim.instances(CIMV2, class_name))
        except (CimError, OSError):
            return []

    def _name(self) -> str:
        return next((str(row["Name"]) for row in self._rows("Win32_ComputerSystem")), "not known yet")

    def _addresses(self) -> list[str]:
        found = []
        for row in self._rows("Win32_NetworkAdapterConfiguration"):
            addresses = row["IPAddress"]
            if row["IPEnabled"] and isinstance(addresses, list):
                found += [str(address) for address in addresses if ":" not in str(address)]
        return found
