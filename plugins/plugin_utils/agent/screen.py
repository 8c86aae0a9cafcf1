# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the screen of Windows PE shows: who it is, where it answers, and what is going on. Only what has changed is written."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from ..windows.cim_classes import CIMV2
from ..wsman.schema import Instance
from ..wsman.server import CimError, CimProvider
from .jobs import CLASS, NAMESPACE, RUNNING, Jobs
from .settings import AgentSettings

#: Seconds between two looks; the addresses are asked for at each so many looks.
PAUSE = 2.0
_ADDRESSES_EVERY = 15
#: Bytes of a job's output in which its percentage is looked for.
_TAIL = 2000
_PERCENT = re.compile(rb"(\d{1,3})(?:[.,]\d+)?\s?%")


def fingerprint(certificate: Path) -> str:
    """Return the certificate's SHA-256 as browsers show it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text("ascii"))).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def percent(output: bytes) -> int | None:
    """Return the last percentage in a program's output, None where there is none."""
    found = [int(number) for number in _PERCENT.findall(output)]
    return next((number for number in reversed(found) if number <= 100), None)


class Screen:
    """Looks at the computer and writes lines.

    Args:
        settings: of the boot image.
        cim: the computer's objects, asked for its name and addresses.
        jobs: what runs.
        write: takes one line.
    """

    def __init__(self, settings: AgentSettings, cim: CimProvider, jobs: Jobs, write: Callable[[str], None]) -> None:
        self._settings = settings
        self._cim = cim
        self._jobs = jobs
        self._write = write
        self._shown: dict[str, str] = {}
        self._looks = 0

    def look(self) -> None:
        """Write what is new. What cannot be read now is read at another look."""
        if self._looks == 0:
            self._show("boot image", f"Boot image: {self._settings.boot_image}")
            self._show("certificate", f"Certificate (SHA-256): {fingerprint(self._settings.certificate)}")
        if self._looks % _ADDRESSES_EVERY == 0:
            self._show("name", f"Computer name: {self._name()}")
            self._show("addresses", f"Answers on: {', '.join(self._addresses()) or 'no address yet'}, port {self._settings.port}")
        self._looks += 1
        try:
            jobs = list(self._jobs.instances(NAMESPACE, CLASS))
        except (CimError, OSError):
            return
        for job in jobs:
            self._show_job(job)

    def _show(self, what: str, line: str) -> None:
        if self._shown.get(what) != line:
            self._shown[what] = line
            self._write(line)

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

    def _show_job(self, job: Instance) -> None:
        name = str(job["Id"])
        if job["State"] == RUNNING:
            number = self._percent(name, job["OutputSize"])
            self._show(name, f"{name}: running{'' if number is None else f', {number} %'}")
        elif job["ExitCode"] == 0:
            self._show(name, f"{name}: done")
        else:
            self._show(name, f"{name}: ended with exit code {job['ExitCode']}")

    def _percent(self, name: str, size: object) -> int | None:
        offset = max(0, size - _TAIL) if isinstance(size, int) else 0
        try:
            answer = self._jobs.invoke(NAMESPACE, CLASS, "Get", {"Id": name}, {"Offset": offset, "Wait": 0})
        except (CimError, OSError):
            return None
        return percent(base64.b64decode(str(answer.get("Output") or "")))
