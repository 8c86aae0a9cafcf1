# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent under Wine, and what several tests do with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from agent_fakes import NAME, PASSWORD
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import Endpoint, open_endpoint
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import agent_zip, certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import AGENT_ZIP
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import PYTHON as BOOT_PYTHON
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job

ADDRESS = "127.0.0.1"
USER = "osd"


class WineAgent:
    """The agent as the boot image starts it: same zip, same command line, same kind of certificate, on a port of the loopback."""

    #: The line of startnet.cmd, on this drive.
    command = tuple(word.replace("X:", "C:", 1) for word in (BOOT_PYTHON, "-I", AGENT_ZIP))

    def __init__(self, build: Path) -> None:
        self.build = build
        self.drive = self.system_drive(build / "prefix")
        self.osd = self.drive / "osd"
        self.process: subprocess.Popen | None = None
        self.output: list[bytes] = []
        self.osd.mkdir(parents=True, exist_ok=True)
        for name, content in zip(("certificate.pem", "key.pem"), certificates.make(NAME), strict=True):
            (self.osd / name).write_bytes(content)
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

    def system_drive(self, prefix: Path) -> Path:
        """Return the folder of the drive that it is started from."""
        return prefix / "drive_c"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["wine", *self.command], cwd=self.drive, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
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
        raise AssertionError(f"the agent does not start: {b''.join(self.output).decode(errors='replace')[-2000:]}")

    def _collect(self, process: subprocess.Popen) -> None:
        while data := os.read(process.stdout.fileno(), 65536):
            self.output.append(data)

    def kill(self) -> None:
        """End the agent's own process at once, as Task Manager would; nothing else of the prefix."""
        self.process.kill()
        self.process.wait()
        # The socket is the wineserver's, who closes it a moment later; until then it would be taken for that of the next agent.
        limit = time.monotonic() + 10
        while self._listens():
            assert time.monotonic() < limit, "the agent was killed and still listens"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((ADDRESS, self.port)) == 0

    def restart_wine(self) -> None:
        """Start the whole prefix anew, and the agent in it: only then Wine sees a drive that was added or taken away."""
        self.kill()
        for option in ("-k", "-w"):
            subprocess.run(["wineserver", option], check=False)
        self.start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            ADDRESS, self.port, "https", USER, "basic", PASSWORD, certificate=self.certificate, certificate_name=NAME
        )  # fmt: skip

    def connect(self):
        return open_endpoint(self.endpoint)


class AgentOnX(WineAgent):
    r"""The same on a drive X: of its own, and told that this is its system drive.

    Wine sets SystemDrive to C: whenever a process starts, whatever it inherits; its WMI answers what stands in the process that asks it.
    So the variable is set in the agent's process, before the application: from there on the answer comes as from Windows PE.
    """

    command = (
        r"X:\osd\python\python.exe", "-I", "-c",
        r"import os, runpy; os.environ['SystemDrive'] = 'X:'; runpy.run_path(r'X:\osd\agent.zip', run_name='__main__')",
    )  # fmt: skip

    def system_drive(self, prefix: Path) -> Path:
        ram = prefix / "drive_x"
        ram.mkdir(exist_ok=True)
        for link, place in ((ram / "Windows", prefix / "drive_c" / "windows"), (prefix / "dosdevices" / "x:", ram)):
            link.unlink(missing_ok=True)
            link.symlink_to(place)
        return ram

    def kill(self) -> None:
        """End it and take its drive away, so that it is in no other test's queries."""
        super().kill()
        (self.build / "prefix" / "dosdevices" / "x:").unlink()


PYTHON = r"C:\osd\python\python.exe"


def run(computer, job, limit=60.0):
    computer.start_job(job)
    return finish(computer, job.id, limit=limit)


def finish(computer, job_id, *, offset=0, limit=60.0):
    output = b""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        status = computer.job_status(job_id, offset, 10)
        output += status.output
        offset = status.offset
        if status.exit_code is not None:
            return status.exit_code, output
    raise AssertionError(f"{job_id} does not end: {output!r}")


def python(job_id, text, **changes):
    return Job(id=job_id, argv=[PYTHON, "-I", "-c", text], **changes)
