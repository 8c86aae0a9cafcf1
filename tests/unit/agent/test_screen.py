# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The screen of Windows PE: all of it, again when something has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_fakes import Folders
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.recorder import Recorder, percent
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.screen import Screen, fingerprint
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


def test_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_bytes(certificates.make("windows-pe.goldimage.osd")[0])
    settings = AgentSettings("winpe-1", 5986, "osd", "windows-pe.goldimage.osd", {}, tmp_path / "certificate.pem", tmp_path / "key.pem")
    cim, recorder, shown = Cim(), Recorder(Folders(tmp_path), r"X:\_osd"), list[list[str]]()
    screen = Screen(settings, cim, recorder, lambda lines: shown.append(list(lines)))  # type: ignore[arg-type]
    screen.look()
    screen.look()
    assert shown == [
        [
            "Boot image: winpe-1",
            f"Certificate (SHA-256): {fingerprint(tmp_path / 'certificate.pem')}",
            "Computer name: not known yet",
            "Answers on: no address yet, port 5986",
            "Step: none yet",
            "Now: nothing runs",
            "Last error: none",
        ]
    ]
    cim.ready = True
    for dummy in range(20):
        screen.look()
    assert len(shown) == 2
    assert shown[-1][2:4] == ["Computer name: MININT-1", "Answers on: 192.0.2.17, port 5986"]
    recorder.heard_step("Apply the operating system")
    recorder.started("apply-the-operating-system-image-0123456789ab", "dism.exe", job=True)
    recorder.started("shell-1", "cmd.exe", job=False)
    screen.look()
    assert shown[-1][4:] == ["Step: Apply the operating system", "Now: apply-the-operating-system-image", "Last error: none"]
    recorder.running("apply-the-operating-system-image-0123456789ab", 41)
    screen.look()
    assert shown[-1][5] == "Now: apply-the-operating-system-image, 41 %"
    recorder.ended("apply-the-operating-system-image-0123456789ab", 5, b"")
    recorder.ended("shell-1", 1, b"")
    screen.look()
    assert shown[-1][5:] == ["Now: nothing runs", "Last error: apply-the-operating-system-image ended with exit code 5"]


@pytest.mark.parametrize(
    ("output", "number"), [(b"", None), (b"no number", None), (b"5 % and 100%", 100), (b"12,5 %", 12), (b"7% 900%", 7), (b"%", None)]
)
def test_percent(output: bytes, number: int | None) -> None:
    assert percent(output) == number
