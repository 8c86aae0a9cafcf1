# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent of a boot image, running under Wine in the prefix that ``make wine-test`` has made."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "unit" / "agent"))

from agent_fakes import NAME, PASSWORD, make_certificate  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils import connection  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import Endpoint, open_endpoint  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import agent_zip  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe  # noqa: E402

ADDRESS = "127.0.0.1"
USER = "osd"


class WineAgent:
    """The agent as the boot image starts it: same zip, same command line, on a port of the loopback."""

    def __init__(self, build: Path) -> None:
        self.build = build
        self.drive = build / "prefix" / "drive_c"
        self.osd = self.drive / "osd"
        self.process: subprocess.Popen | None = None
        self.output: list[bytes] = []
        make_certificate(self.osd)
        self.certificate = str(self.osd / "certificate.pem")
        with socket.create_server((ADDRESS, 0)) as free:
            self.port = free.getsockname()[1]
        settings = {
            "schema": 1, "boot_image": "wine-1", "port": self.port, "address": ADDRESS, "user": USER, "name": NAME,
            "password": hash_password(PASSWORD, iterations=1000), "certificate": "certificate.pem", "key": "key.pem",
        }  # fmt: skip
        (self.osd / "agent.json").write_text(json.dumps(settings))
        library = agent_zip.library_files((build / "comtypes.whl").read_bytes())
        (self.osd / "agent.zip").write_bytes(agent_zip.make(agent_zip.plugin_utils(), library))
        if not (self.osd / "python").exists():
            subprocess.run(["cp", "-r", str(build / "python"), str(self.osd / "python")], check=True)
        self.start()

    def start(self) -> None:
        command = ["wine", r"C:\osd\python\python.exe", "-I", r"C:\osd\agent.zip"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            try:
                socket.create_connection((ADDRESS, self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise AssertionError(f"the agent does not start: {b''.join(self.output).decode(errors='replace')}")

    def _collect(self, process: subprocess.Popen) -> None:
        while data := os.read(process.stdout.fileno(), 65536):
            self.output.append(data)

    def kill(self) -> None:
        """End the agent's own process at once, as Task Manager would; nothing else of the prefix."""
        self.process.kill()
        self.process.wait()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            ADDRESS, self.port, "https", USER, "basic", PASSWORD, certificate=self.certificate, certificate_name=NAME
        )  # fmt: skip

    def connect(self):
        return open_endpoint(self.endpoint)


@pytest.fixture(autouse=True, scope="session")
def plugin_by_its_short_name():
    """Outside of an Ansible run nothing maps ansible.builtin; the same plugin is found by its short name."""
    before, connection._PLUGIN = connection._PLUGIN, "winrm"
    yield
    connection._PLUGIN = before


@pytest.fixture(scope="session")
def agent():
    build = os.environ.get("WINE_BUILD")
    if not build:
        pytest.skip("run by make wine-test")
    made = WineAgent(Path(build))
    yield made
    made.kill()


@pytest.fixture
def wire(agent):
    made = agent.connect()
    yield made
    made.close()


@pytest.fixture
def cim(wire):
    return wire.client(SCHEMA)


@pytest.fixture
def computer(cim, wire):
    made = WindowsPe(cim, wire.http)
    yield made
    made.close()
