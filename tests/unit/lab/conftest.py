# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab computer for the tests of the machine model: fast, in a temporary folder, on addresses of its own."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client

PASSWORD = "Boot-Image-1"


def own_network(number: int) -> dict[str, str]:
    """Return addresses that no other test process uses."""
    return prepare.addresses(f"127.{90 + os.getpid() % 60}.{os.getpid() // 60 % 250}.0/24", number)


@pytest.fixture(scope="session")
def addresses_of() -> Callable[[int], dict[str, str]]:
    """Return the addresses of a computer by its number, for test modules that make their own."""
    return own_network


@pytest.fixture(scope="session")
def lab_content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and samples, made once."""
    folder = tmp_path_factory.mktemp("lab") / "content"
    prepare.make_content(folder, PASSWORD)
    return folder


@pytest.fixture
def network(lab_content: Path, tmp_path: Path) -> LabNetwork:
    """A network with one server: the content to read, a share to write to."""
    (tmp_path / "capture").mkdir()
    return LabNetwork.from_plain(
        {
            "accounts": [
                {"name": "LAB\\reader", "password": "Read-1"},
                {"name": "LAB\\writer", "password": "Write-1", "may_join": True},
            ],
            "shares": [
                {"server": "srv", "name": "osd", "path": str(lab_content), "read": ["LAB\\reader", "LAB\\writer"]},
                {
                    "server": "srv",
                    "name": "capture",
                    "path": str(tmp_path / "capture"),
                    "write": ["LAB\\writer"],
                    "size_mb": 1,
                },
            ],
            "sites": [{"host": "srv.lab.test", "path": str(lab_content), "account": "LAB\\reader"}],
            "domain": {"name": "lab.test", "netbios": "LAB"},
        }
    )


@pytest.fixture
def make_computer(lab_content: Path, network: LabNetwork, tmp_path: Path) -> Iterator[Callable[..., LabComputer]]:
    """Make computers that are switched off at the end."""
    made: list[LabComputer] = []

    def make(name: str = "pc", *, medium: bool = True, existing: str = "", scheme: str = "http", **wishes: object) -> LabComputer:
        media = [{"kind": "usb", "folder": str(lab_content / "boot")}] if medium else []
        parts = hardware.make(name, len(made) + 1, {"media": media, **wishes}, own_network(len(made)))
        folder = tmp_path / name
        parts.save(folder)
        if existing:
            prepare.make_existing_windows(folder, parts, {"password": existing, "scheme": scheme})
        made.append(LabComputer(folder, network, Settings(speed=2000)))
        return made[-1]

    yield make
    for computer in made:
        computer.power_off()


@pytest.fixture
def client_of() -> Iterator[Callable[[LabComputer], Client]]:
    """Return a WS-Management client of a computer in Windows PE."""
    connections: list[http.client.HTTPSConnection] = []

    def connect(computer: LabComputer) -> Client:
        assert computer.machine is not None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(computer.machine.address, 5986, context=context, timeout=20)
        connections.append(connection)
        token = base64.b64encode(f"osd:{PASSWORD}".encode()).decode()

        def send(body: bytes) -> tuple[int, bytes]:
            headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {token}"}
            connection.request("POST", "/wsman", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

        return Client(send, SCHEMA)

    yield connect
    for connection in connections:
        connection.close()
