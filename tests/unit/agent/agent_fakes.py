# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer for the agent: folders as drives, threads as processes, a certificate of its own."""

from __future__ import annotations

import datetime
import json
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.service import VENDOR, Service
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.settings import read_settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

NAME = "pe.goldimage.test"
PASSWORD = "correct horse: battery"
BOOTED = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def fail(error: BaseException | None) -> None:
    """Raise what a test wants to go wrong."""
    if error is not None:
        raise error


def make_certificate(folder: Path, name: str = NAME) -> None:
    """Write ``certificate.pem`` and ``key.pem``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, private, serialization.NoEncryption()))


class Folders:
    """Drives as folders below one, on the host's own case-sensitive file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problem: OSError | None = None

    def host(self, path: str) -> Path:
        fail(self.problem)
        return self.root / path[0] / path[3:].replace("\\", "/")

    def is_file(self, path: str) -> bool:
        return self.host(path).is_file()

    def is_directory(self, path: str) -> bool:
        return self.host(path).is_dir()

    def size(self, path: str) -> int:
        return self.host(path).stat().st_size

    def open_read(self, path: str) -> BinaryIO:
        return self.host(path).open("rb")

    def open_write(self, path: str, *, append: bool = False) -> BinaryIO:
        return self.host(path).open("ab" if append else "wb")

    def open_update(self, path: str) -> BinaryIO:
        return self.host(path).open("r+b")

    def make_directories(self, path: str) -> None:
        self.host(path).mkdir(parents=True, exist_ok=True)

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        assert replace or not self.host(target).exists()
        shutil.move(self.host(source), self.host(target))

    def delete(self, path: str) -> None:
        self.host(path).unlink()


class Process:
    """What a test makes of a process: it writes to ``stdout`` and ends by ``end``."""

    id = 4711

    def __init__(self, line: str, directory: str, environment: Mapping[str, str], stdin: bytes, stdout: BinaryIO) -> None:
        self.line, self.directory, self.environment, self.stdin, self.stdout = line, directory, environment, stdin, stdout
        self.code: int | None = None
        self.terminated_by: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self.code = code
        self._ended.set()

    def wait(self, timeout: float | None = None) -> int | None:
        self._ended.wait(timeout)
        return self.code

    def terminate(self, exit_code: int) -> None:
        self.terminated_by = exit_code
        self.end(1)


class Starter:
    """Keeps every process it started; ``behave`` is called with each."""

    def __init__(self) -> None:
        self.started: list[Process] = []
        self.behave: Callable[[Process], None] = lambda process: None
        self.problem: OSError | None = None

    def start(self, command_line: str, *, directory: str, environment: Mapping[str, str], stdin: BinaryIO, stdout: BinaryIO) -> Process:
        fail(self.problem)
        process = Process(command_line, directory, environment, stdin.read(), stdout)
        self.started.append(process)
        self.behave(process)
        return process


class Command:
    """A command that says its own line and stdin, and ends with 3 where the line holds 'fail'."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._output: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.exit_code: int | None = None
        if "stdin" not in line:
            self.write(b"", True)

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        try:
            return [self._output.get(timeout=0.01 if self.exit_code is not None else timeout)]
        except queue.Empty:
            return []

    def write(self, data: bytes, end: bool) -> None:
        if data:
            self._output.put(("stdout", data))
        if end:
            self._output.put(("stdout", f"<{self._line}>".encode()))
            self._output.put(("stderr", b"warned"))
            self.exit_code = 3 if "fail" in self._line else 0

    def terminate(self) -> None:
        pass


class Shells:
    """Opens shells and remembers how they were asked for."""

    def __init__(self) -> None:
        self.opened: list[object] = []
        self.open_now = 0

    def open(self, options: object) -> Shells:
        self.opened.append(options)
        self.open_now += 1
        return self

    def start(self, command_line: str) -> Command:
        return Command(command_line)

    def close(self) -> None:
        self.open_now -= 1


class Connections:
    """A network of one server with one account; ``problem`` and ``hold`` change what the next connection does."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], str] = {}
        self.calls: list[tuple[str, str, str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.stuck = 0

    def connect(self, remote: str, user: str, password: str, local: str) -> int:
        self.calls.append((remote, user, password, local))
        self.hold.wait(20)
        if not remote.lower().startswith("\\\\server\\"):
            return 53
        if any(other != user for (dummy, share), other in self.made.items() if share.lower().startswith("\\\\server\\")):
            return 1219
        if password != "right":
            return 1326
        self.made[local, remote] = user
        return 0

    def disconnect(self, name: str) -> int:
        if self.stuck:
            return self.stuck
        for key in list(self.made):
            if name.lower() in (key[0].lower(), key[1].lower()):
                del self.made[key]
                return 0
        return 2250

    def connected(self) -> list[tuple[str, str]]:
        return list(self.made)


class Cim:
    """A computer with one class that has an instance."""

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        if class_name == "Win32_OperatingSystem":
            return [Instance(class_name, {"SystemDrive": "X:", "LastBootUpTime": BOOTED}, namespace)]
        return []

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        for instance in self.instances(namespace, class_name):
            return instance
        raise CimError(faults.WBEM_E_NOT_FOUND, "there is none")


class Computer:
    """The agent running on a free port of 127.0.0.1."""

    def __init__(self, folder: Path, *, name: str = NAME, password: str = PASSWORD, failure_delay: float = 0.0) -> None:
        self.osd = folder / "osd"
        make_certificate(self.osd, name)
        record = {
            "schema": 1, "boot_image": "test-1", "port": 5986, "user": "osd", "name": name,
            "password": hash_password(password, iterations=1000), "certificate": "certificate.pem", "key": "key.pem",
        }  # fmt: skip
        (self.osd / "agent.json").write_text(json.dumps(record))
        self.files = Folders(folder / "drives")
        self.files.make_directories("X:\\")
        self.starter = Starter()
        self.shells = Shells()
        self.network = Connections()
        self.service = Service(
            read_settings(self.osd),
            host="127.0.0.1",
            schema=SCHEMA,
            cim=Cim(),
            shells=self.shells,
            files=self.files,
            starter=self.starter,
            network=self.network,
            identity=Identity(VENDOR, "OS: 10.0.20348 SP: 0.0 Stack: 3.0"),
            port=0,
            failure_delay=failure_delay,
        )
        self.service.start()
        self.port = self.service.port
        self.certificate = str(self.osd / "certificate.pem")
