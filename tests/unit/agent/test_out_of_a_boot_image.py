# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent zip out of a boot image that the builder made, as a process of its own: whatever one client does, the others are served."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import Cim, Folders, Shells, Starter, make_certificate
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.http_server import MAX_ENVELOPE_BODY
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.agent_process import AgentProcess, Computer
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.boot_image import Archive, Request, build
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity, identify_request
from fuzzing import REQUESTS, mutate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "media"))

from media_files import comtypes_archive, make_winpe, python_archive  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="wimlib-imagex is not installed")
PASSWORD = "correct horse: battery"
NAME = "windows-pe.goldimage.osd"
HOST = "127.90.78.1"
#: Seconds that a request of somebody else may take while an attack goes on; alone it takes a hundredth of it, on two busy cores.
_SERVED_WITHIN = 3.0
_QUERY = "SELECT SystemDrive FROM Win32_OperatingSystem"


def _query_request() -> bytes:
    """Return the bytes of a query as the collection's client sends it."""
    sent: list[bytes] = []

    def keep(body: bytes) -> tuple[int, bytes]:
        sent.append(body)
        raise InterruptedError

    with contextlib.suppress(InterruptedError):
        Client(keep, SCHEMA).query(_QUERY)
    return sent[0]


class Agent:
    """The process, and how a client speaks to it."""

    def __init__(self, osd: Path, drives: Path) -> None:
        files = Folders(drives)
        files.make_directories("X:\\")
        nothing: Any = object()
        identity = Identity("goldimage.osd lab", "OS: 10.0.26100 SP: 0.0 Stack: 3.0")
        self.drives = drives / "X"
        self.process = AgentProcess(osd, Computer(Cim(), Shells(), files, Starter(), nothing, HOST, identity, 0.2))
        self.process.start()
        self.context = ssl.create_default_context(cafile=str(osd / "certificate.pem"))
        self.query = _query_request()

    def dial(self) -> socket.socket:
        """Connect, without TLS."""
        return socket.create_connection((HOST, self.process.port), 20)

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """Connect as a client does that trusts the boot image's certificate and no other."""
        return (context or self.context).wrap_socket(self.dial(), server_hostname=NAME)

    def post(self, body: bytes, *headers: str, password: str = PASSWORD) -> bytes:
        """Return a request with a password."""
        return request("POST /wsman", *headers, f"Content-Length: {len(body)}", password=password) + body

    def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Send one request over a new connection; return status and body of the answer."""
        with self.connect() as link:
            link.sendall(raw)
            return answer(link)

    def numbers(self) -> tuple[int, int]:
        """Return how many threads and open files the process has."""
        place = Path(f"/proc/{self.process._process.pid}")
        return len(list((place / "task").iterdir())), len(list((place / "fd").iterdir()))


def request(first: str, *headers: str, password: str = PASSWORD) -> bytes:
    """Return a request's head."""
    token = base64.b64encode(f"osd:{password}".encode()).decode()
    lines = [f"{first} HTTP/1.1", f"Host: {HOST}", f"Authorization: Basic {token}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(link: socket.socket) -> tuple[int, bytes]:
    """Return status and body of the answer that comes next."""
    with link.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, dummy, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return status, stream.read(length)


@pytest.fixture(scope="module")
def osd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a boot image as the module does; return the folder \\osd that wimlib takes out of it."""
    folder = tmp_path_factory.mktemp("boot")
    make_winpe(folder / "winpe.wim")
    archives = []
    for name, data in (("python.zip", python_archive()), ("comtypes.whl", comtypes_archive())):
        (folder / name).write_bytes(data)
        archives.append(Archive(str(folder / name), hashlib.sha256(data).hexdigest()))
    python, comtypes = archives
    build(Request("test", folder / "winpe.wim", folder / "out", PASSWORD, python=python, comtypes=comtypes))
    command = ["wimlib-imagex", "extract", folder / "out" / "boot.wim", "1", "/osd", f"--dest-dir={folder}", "--no-acls", "--quiet"]
    subprocess.run(command, check=True)
    return folder / "osd"


@pytest.fixture(scope="module")
def agent(osd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    made = Agent(osd, tmp_path_factory.mktemp("drives"))
    yield made
    made.process.stop()


@pytest.fixture(autouse=True)
def others(agent: Agent) -> Iterator[None]:
    """Two further clients ask all the time, one over one connection, one over new ones: each is answered, rightly and soon."""
    end = threading.Event()
    slowest, served = [0.0, 0.0], [0, 0]
    problems: list[BaseException] = []

    def go_on(which: int, send: Callable[[], tuple[int, bytes]]) -> None:
        try:
            # Two at least, however short the attack.
            while not end.wait(0.02) or served[which] < 2:
                began = time.monotonic()
                status, body = send()
                slowest[which] = max(slowest[which], time.monotonic() - began)
                served[which] += 1
                assert (status, b">X:<" in body) == (200, True), body
        except BaseException as problem:
            problems.append(problem)

    raw = agent.post(agent.query)
    assert agent.ask(raw)[0] == 200
    before = agent.numbers()
    with agent.connect() as link:

        def on_the_same() -> tuple[int, bytes]:
            link.sendall(raw)
            return answer(link)

        asking = [threading.Thread(target=go_on, args=pair) for pair in ((0, on_the_same), (1, lambda: agent.ask(raw)))]
        for thread in asking:
            thread.start()
        yield
        end.set()
        for thread in asking:
            thread.join()
    assert not problems, problems
    assert max(slowest) < _SERVED_WITHIN, slowest
    # What the attack opened is closed again: nothing of it is left in the process. Idle threads for calls are kept, eight at most.
    deadline = time.monotonic() + 5
    while (left := agent.numbers()) > (before[0] + 8, before[1]) or left[1] > before[1]:
        assert time.monotonic() < deadline, (before, left)
        time.sleep(0.02)


def test_a_wrong_password(agent: Agent) -> None:
    """Guesses wait for one another, on however many connections they come; who knows the password does not wait."""
    statuses: list[int] = []
    wrong = agent.post(agent.query, password="correct horse: batterz")
    guessers = [threading.Thread(target=lambda: statuses.append(agent.ask(wrong)[0])) for dummy in range(6)]
    began = time.monotonic()
    for guesser in guessers:
        guesser.start()
    for guesser in guessers:
        guesser.join()
    assert statuses == [401] * 6
    assert time.monotonic() - began >= 6 * 0.2
    without = f"POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Length: {len(agent.query)}\r\n\r\n".encode() + agent.query
    assert agent.ask(without)[0] == 401
    assert agent.ask(request("GET /osd/files/X:/a", password="x"))[0] == 401
    # Unasked for, only Identify is answered.
    identify = identify_request()
    assert agent.ask(agent.post(identify, "WSMANIDENTIFY: unauthenticated", password="x"))[0] == 200
    assert agent.ask(agent.post(agent.query, "WSMANIDENTIFY: unauthenticated", password="x"))[0] == 401


def test_a_wrong_certificate(agent: Agent, tmp_path: Path) -> None:
    """A client that trusts another boot image's certificate sends nothing; one that speaks no TLS, or an old one, gets nothing."""
    make_certificate(tmp_path, NAME)
    other = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    with pytest.raises(ssl.SSLCertVerificationError):
        agent.connect(other)
    other_name = agent.context
    with pytest.raises(ssl.SSLCertVerificationError), agent.dial() as link:
        other_name.wrap_socket(link, server_hostname="another.goldimage.osd")
    for said in (agent.post(agent.query), b"\x16\x03\x01\xff\xff" + b"\0" * 400, b"\0" * 5000):
        with agent.dial() as link, contextlib.suppress(ConnectionError):
            link.sendall(said)
            assert b"HTTP/" not in link.recv(1000)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request("POST /wsman", f"Content-Length: {MAX_ENVELOPE_BODY + 1}"), 413),
        (request("POST /wsman", "Content-Length: 999999999999999"), 413),
        (request("POST /wsman", "Transfer-Encoding: chunked") + b"80000\r\n" + b"x" * 0x80000 + b"\r\n7fffffff\r\n" + b"x" * 600000, 413),
        (request("POST /" + "a" * 70000), 414),
        (request("POST /wsman", *[f"X-{number}: y" for number in range(200)]), 431),
        (request("POST /wsman", "X: " + "y" * 70000), 431),
        (request("PUT /osd/files/X:/huge", "Content-Length: 99999999999999"), 413),
    ],
)
def test_what_is_too_large(agent: Agent, raw: bytes, status: int) -> None:
    with agent.connect() as link:
        # The agent may answer and hang up before everything is sent.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            link.sendall(raw)
        with contextlib.suppress(ConnectionError):
            assert answer(link)[0] == status
    assert not (agent.drives / "huge").exists()


def test_what_is_no_request(agent: Agent) -> None:
    """Broken envelopes are answered with a fault; broken HTTP with a status or with nothing. The seed is fixed."""
    cut = agent.query[: len(agent.query) // 2]
    dtd = b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>' + agent.query
    deep = agent.query.replace(b"<s:Body>", b"<s:Body>" + b"<a>" * 5000 + b"</a>" * 5000)
    other = agent.query.replace(b"Enumerate", b"Enumerat")
    broken = (b"", b"\0" * 100, b"<a/>", cut, dtd, deep, other, agent.query.replace(b"SELECT", b"\xff"))
    for body in broken:
        status, said = agent.ask(agent.post(body))
        assert status >= 400 and b"<" in said and b">X:<" not in said, (body[:200], status, said)
    rng = random.Random(20261124)
    for dummy in range(50):
        raw = mutate(rng, rng.choice(REQUESTS).replace(b"Host: x", request("", password=PASSWORD).split(b"\r\n")[2]))
        found = b""
        with agent.connect() as link, contextlib.suppress(ConnectionError, ssl.SSLError):
            link.sendall(raw)
            # What follows is the end of the connection below TLS: the client is gone, without a word.
            socket.socket.shutdown(link, socket.SHUT_WR)
            while piece := link.recv(65536):
                found += piece
        assert not found or found.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), (raw, found)
        assert b"Fault>" in found or not found.startswith(b"HTTP/1.1 500"), (raw, found)
        assert not [error for error in (b"RuntimeError", b"KeyError", b"TypeError", b"AttributeError") if error in found], (raw, found)


def test_slow_clients(agent: Agent) -> None:
    """One is silent before TLS, one within its request, one sends a file by the byte, one does not read what it asked for."""
    (agent.drives / "large").write_bytes(os.urandom(8 * 1024 * 1024))
    with contextlib.ExitStack() as stack:
        stack.enter_context(agent.dial())
        within = stack.enter_context(agent.connect())
        within.sendall(agent.post(agent.query)[:80])
        reader = stack.enter_context(agent.connect())
        reader.sendall(request("GET /osd/files/X:/large"))
        writer = stack.enter_context(agent.connect())
        writer.sendall(request("PUT /osd/files/X:/slow", "Content-Length: 30"))
        for dummy in range(30):
            time.sleep(0.03)
            writer.sendall(b"x")
        assert answer(writer)[0] == 201
        assert (agent.drives / "slow").read_bytes() == b"x" * 30
        within.sendall(agent.post(agent.query)[80:])
        assert answer(within)[0] == 200
        assert answer(reader) == (200, (agent.drives / "large").read_bytes())


def test_two_hundred_connections_at_once(agent: Agent) -> None:
    """All are open at the same time, and all are answered on them, twice."""
    raw = agent.post(agent.query)
    links: list[ssl.SSLSocket] = []
    answers: list[tuple[int, bytes]] = []
    together = threading.Barrier(200, timeout=30)

    def be_one() -> None:
        link = agent.connect()
        links.append(link)
        together.wait()
        for dummy in range(2):
            link.sendall(raw)
            answers.append(answer(link))

    clients = [threading.Thread(target=be_one) for dummy in range(200)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    try:
        assert len(answers) == 400
        assert {status for status, dummy in answers} == {200}
        assert all(b">X:<" in body for dummy, body in answers)
    finally:
        for link in links:
            link.close()
