# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows PE takes identity, credentials, certificate and port from its boot image; what is missing there is a closed port."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import identify_request

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

PASSWORD, OTHER = "Boot-Image-1", "Another-Image-2"
STATES = {"windows_pe", "no_agent", "lab_defect", "no_boot_device"}
Change = Callable[[Path], list[str]]


@pytest.fixture
def started_from(make_computer: Callable[..., LabComputer], lab_content: Path, tmp_path: Path) -> Callable[[Change], LabComputer]:
    """Start a computer from a medium whose boot image was changed with Debian's wimlib."""

    def start(change: Change) -> LabComputer:
        boot = tmp_path / "medium"
        shutil.copytree(lab_content / "boot", boot)
        work = tmp_path / "work"
        work.mkdir()
        subprocess.run(
            ["wimlib-imagex", "extract", str(boot / "boot.wim"), "1", "/osd/agent.json", f"--dest-dir={work}", "--no-acls"],
            capture_output=True,
            check=True,
        )
        commands = "".join(line + "\n" for line in change(work))
        if commands:
            update = ["wimlib-imagex", "update", str(boot / "boot.wim"), "1", "--no-acls"]
            subprocess.run(update, input=commands, text=True, capture_output=True, check=True)
        computer = make_computer(media=[{"kind": "usb", "folder": str(boot)}])
        computer.power_on()
        wait_for_state(computer, STATES, 30)
        return computer

    return start


def settings(**values: Any) -> Change:
    """Write other values into agent.json; None takes one out."""

    def change(work: Path) -> list[str]:
        place = work / "agent.json"
        found = json.loads(place.read_text())
        found.update(values)
        place.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
        return [f"add '{place}' /osd/agent.json"]

    return change


def without(name: str) -> Change:
    return lambda work: [f"delete /osd/{name}"]


def status(computer: LabComputer, user: str = "osd", password: str = PASSWORD, port: int = 5986) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(computer.hardware.addresses["winpe"], port, context=context, timeout=10)
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {token}"}
    try:
        connection.request("POST", "/wsman", identify_request(), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def open_ports(computer: LabComputer) -> list[int]:
    found = []
    for port in (5985, 5986, 15986):
        with socket.socket() as probe:
            probe.settimeout(2)
            if probe.connect_ex((computer.hardware.addresses["winpe"], port)) == 0:
                found.append(port)
    return found


def test_as_it_is(started_from: Callable[[Change], LabComputer]) -> None:
    computer = started_from(lambda work: [])
    assert (status(computer), status(computer, password=OTHER), status(computer, user="other")) == (200, 401, 401)
    assert open_ports(computer) == [5986]


def test_the_port_is_the_images(started_from: Callable[[Change], LabComputer]) -> None:
    computer = started_from(settings(port=15986))
    assert open_ports(computer) == [15986]
    assert status(computer, port=15986) == 200


def test_user_and_password_are_the_images(started_from: Callable[[Change], LabComputer]) -> None:
    computer = started_from(settings(user="other", password=hash_password(OTHER)))
    assert (status(computer, "other", OTHER), status(computer, "osd", OTHER), status(computer, "other", PASSWORD)) == (200, 401, 401)


def test_the_certificate_is_the_images(started_from: Callable[[Change], LabComputer]) -> None:
    certificate, key = certificates.make("another.example")

    def change(work: Path) -> list[str]:
        (work / "certificate.pem").write_bytes(certificate)
        (work / "key.pem").write_bytes(key)
        return [f"add '{work / name}' /osd/{name}" for name in ("certificate.pem", "key.pem")]

    computer = started_from(change)
    served = ssl.get_server_certificate((computer.hardware.addresses["winpe"], 5986))
    assert ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(certificate.decode())


@pytest.mark.parametrize(
    "change",
    [
        without("agent.json"),
        without("certificate.pem"),
        without("key.pem"),
        settings(password=None),
        settings(user=None),
        settings(port=None),
        settings(certificate="other.pem"),
        settings(schema=2),
    ],
    ids=["no settings", "no certificate", "no key", "no password", "no user", "no port", "another certificate's name", "another version"],
)
def test_what_is_missing_is_a_closed_port(started_from: Callable[[Change], LabComputer], change: Change) -> None:
    computer = started_from(change)
    assert computer.state == "no_agent", computer.message
    assert open_ports(computer) == []
