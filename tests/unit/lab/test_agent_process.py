# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent out of a boot image as its own process, with a computer at the other end of its socket."""

from __future__ import annotations

import base64
import http.client
import io
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import attached
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.agent_process import AgentProblem, AgentProcess, Computer
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="wimlib-imagex is not installed")
PASSWORD = "a password of the agent"
HOST = "127.90.77.1"


class Files:
    """The files of a computer below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _place(self, path: str) -> Path:
        return self._root.joinpath(*path.split("\\")[1:])

    def is_file(self, path: str) -> bool:
        return self._place(path).is_file()

    def is_directory(self, path: str) -> bool:
        return self._place(path).is_dir()

    def size(self, path: str) -> int:
        return self._place(path).stat().st_size

    def open_read(self, path: str) -> Any:
        return self._place(path).open("rb")

    def open_write(self, path: str, *, append: bool = False) -> Any:
        return self._place(path).open("ab" if append else "wb")

    def make_directories(self, path: str) -> None:
        self._place(path).mkdir(parents=True, exist_ok=True)

    def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        self._place(source).replace(self._place(target))

    def delete(self, path: str) -> None:
        self._place(path).unlink()


class Cim:
    """One class with one instance."""

    def query(self, namespace: str, query: Any) -> Any:
        yield Instance(query.class_name, {"LastBootUpTime": datetime(2026, 1, 2, tzinfo=UTC), "SystemDrive": "X:"}, namespace)

    def instances(self, namespace: str, class_name: str) -> Any:
        raise CimError(0x80041010, "Invalid class")


@pytest.fixture(scope="module")
def osd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder \\osd of an unpacked boot image."""
    folder = tmp_path_factory.mktemp("boot")
    certificate, key = certificates.make("windows-pe.goldimage.osd")
    content.make_boot_image(folder / "boot", "test", hash_password(PASSWORD, iterations=1000), certificate, key, "windows-pe.goldimage.osd")
    subprocess.run(["wimlib-imagex", "apply", folder / "boot" / "boot.wim", "1", folder / "x", "--no-acls", "--quiet"], check=True)
    return folder / "x" / "osd"


def computer(root: Path) -> Computer:
    files = Files(root)
    nothing: Any = object()
    return Computer(Cim(), nothing, files, nothing, nothing, HOST, Identity("a test", "1"), 0.0)  # type: ignore[arg-type]


@pytest.fixture
def agent(osd: Path, tmp_path: Path) -> Iterator[AgentProcess]:
    made = AgentProcess(osd, computer(tmp_path))
    made.start()
    yield made
    made.stop()


def ask(agent: AgentProcess, method: str, path: str, body: bytes = b"", password: str = PASSWORD) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(HOST, agent.port, context=context, timeout=10)
    token = base64.b64encode(f"osd:{password}".encode()).decode()
    connection.request(method, path, body, {"Authorization": f"Basic {token}", "Content-Type": "application/soap+xml;charset=UTF-8"})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_files_go_to_the_computer(agent: AgentProcess, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    assert ask(agent, "PUT", "/osd/files/W:/folder/name.bin", data)[0] == 201
    assert (tmp_path / "folder" / "name.bin").read_bytes() == data
    assert ask(agent, "GET", "/osd/files/W:/folder/name.bin") == (200, data)
    assert ask(agent, "GET", "/osd/files/W:/nothing")[0] == 404
    assert ask(agent, "GET", "/osd/files/W:/folder/name.bin", password="wrong")[0] == 401


def test_it_ends_with_the_computer(osd: Path, tmp_path: Path) -> None:
    made = AgentProcess(osd, computer(tmp_path))
    made.start()
    made._peer.close()
    assert made._process.wait(10) == 0
    made.stop()


def test_one_broken_byte_and_it_does_not_serve(osd: Path, tmp_path: Path) -> None:
    """Every byte of a module's compressed data counts: zlib or the checksum says so."""
    broken = tmp_path / "osd"
    shutil.copytree(osd, broken)
    data = bytearray((broken / "agent.zip").read_bytes())
    at = data.index(b"goldimage_osd/agent/http_server.py") + 2000
    data[at] ^= 1
    (broken / "agent.zip").write_bytes(data)
    with pytest.raises(AgentProblem, match="exit code 1"):
        AgentProcess(broken, computer(tmp_path))


def test_a_missing_setting_is_named(osd: Path, tmp_path: Path) -> None:
    broken = tmp_path / "osd"
    shutil.copytree(osd, broken)
    (broken / "agent.json").write_text('{"schema": 9}')
    with pytest.raises(AgentProblem, match="schema 1"):
        AgentProcess(broken, computer(tmp_path))


class Root:
    """Objects for the peers' own tests."""

    def __init__(self) -> None:
        self.number = 7

    def same(self, value: Any) -> Any:
        return value

    def fail(self, kind: str) -> None:
        if kind == "cim":
            raise CimError(0x80041002, "not found")
        if kind == "pipe":
            raise BrokenPipeError(109, "ended")
        if kind == "os":
            error = OSError(2, "no file")
            error.code = 3  # type: ignore[attr-defined]
            raise error
        raise KeyError("x")

    def call_back(self, target: Any, data: bytes) -> int:
        with target:
            return target.write(data)

    def rows(self) -> Iterator[int]:
        yield from range(3)


@pytest.fixture
def peers() -> Iterator[tuple[attached.Remote, attached.Peer]]:
    one, two = socket.socketpair()
    near, far = attached.Peer(one, object()), attached.Peer(two, Root())
    near.start()
    far.start()
    yield near.root(("same", "fail", "call_back", "rows"), ("number",)), near
    near.close()
    far.close()


def test_values_and_references(peers: tuple[attached.Remote, attached.Peer]) -> None:
    root, dummy = peers
    instance = Instance("C", {"a": datetime(2026, 1, 1, tzinfo=UTC), "b": [1, None], "c": Instance("D", {})}, "root/x")
    assert root.same(instance) == instance
    assert root.number == 7
    assert root.rows() == [0, 1, 2]
    target = io.FileIO(os.devnull, "wb")
    assert root.same(target) is target
    assert root.call_back(target, b"abc") == 3
    assert target.closed
    with pytest.raises(AttributeError):
        dummy = root.unknown


def test_errors_keep_what_counts(peers: tuple[attached.Remote, attached.Peer]) -> None:
    root, near = peers
    with pytest.raises(CimError) as cim:
        root.fail("cim")
    assert cim.value.wbem_code == 0x80041002
    with pytest.raises(OSError, match="no file") as problem:
        root.fail("os")
    assert (problem.value.errno, getattr(problem.value, "code", None)) == (2, 3)
    with pytest.raises(BrokenPipeError):
        root.fail("pipe")
    with pytest.raises(RuntimeError, match="KeyError"):
        root.fail("other")
    near.close()
    with pytest.raises(OSError):
        root.rows()


def test_nothing_but_values_is_unpickled(peers: tuple[attached.Remote, attached.Peer]) -> None:
    class Command:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    import pickle

    data = pickle.dumps(Command())
    with pytest.raises(pickle.UnpicklingError, match="no value of this protocol"):
        attached._Unpickler(io.BytesIO(data), peers[1]).load()
