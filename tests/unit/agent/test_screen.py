# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The screen of Windows PE: each fact once, again when it has changed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.screen import Screen, fingerprint, percent
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.settings import AgentSettings
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError


class Cim:
    """A computer whose WMI is not ready at first."""

    ready = False

    def instances(self, namespace: str, class_name: str) -> Any:
        if not self.ready:
            raise CimError(0x80041013, "not ready")
        if class_name == "Win32_ComputerSystem":
            return [Instance(class_name, {"Name": "MININT-1"})]
        return [
            Instance(class_name, {"IPEnabled": True, "IPAddress": ["192.0.2.17", "fe80::1"]}),
            Instance(class_name, {"IPEnabled": False, "IPAddress": ["192.0.2.18"]}),
        ]


class Jobs:
    def __init__(self) -> None:
        self.rows: list[Instance] = []
        self.output = b""

    def instances(self, namespace: str, class_name: str) -> Any:
        return self.rows

    def invoke(self, namespace: str, class_name: str, method: str, selectors: Any, arguments: Any) -> Any:
        return {"Output": base64.b64encode(self.output[arguments["Offset"] :]).decode()}


def job(state: str, code: int | None, size: int = 0) -> Instance:
    return Instance("OSD_Job", {"Id": "apply-image", "State": state, "ExitCode": code, "OutputSize": size})


def test_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_bytes(certificates.make("windows-pe.goldimage.osd")[0])
    settings = AgentSettings("winpe-1", 5986, "osd", "windows-pe.goldimage.osd", {}, tmp_path / "certificate.pem", tmp_path / "key.pem")
    cim, jobs, lines = Cim(), Jobs(), list[str]()
    screen = Screen(settings, cim, jobs, lines.append)  # type: ignore[arg-type]
    screen.look()
    assert lines == [
        "Boot image: winpe-1",
        f"Certificate (SHA-256): {fingerprint(tmp_path / 'certificate.pem')}",
        "Computer name: not known yet",
        "Answers on: no address yet, port 5986",
    ]
    lines.clear()
    screen.look()
    assert lines == []
    cim.ready = True
    for dummy in range(20):
        screen.look()
    assert lines == ["Computer name: MININT-1", "Answers on: 192.0.2.17, port 5986"]
    lines.clear()
    jobs.output = b"x" * 3000 + b"[==   20.0%   ]\r[====  41.7%  ]"
    jobs.rows = [job("Running", None, len(jobs.output))]
    screen.look()
    screen.look()
    jobs.rows = [job("Finished", 5)]
    screen.look()
    jobs.rows = [job("Finished", 0)]
    screen.look()
    assert lines == ["apply-image: running, 41 %", "apply-image: ended with exit code 5", "apply-image: done"]


@pytest.mark.parametrize(
    ("output", "number"), [(b"", None), (b"no number", None), (b"5 % and 100%", 100), (b"12,5 %", 12), (b"7% 900%", 7), (b"%", None)]
)
def test_percent(output: bytes, number: int | None) -> None:
    assert percent(output) == number
