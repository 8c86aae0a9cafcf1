# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP server against what no friendly client sends, and against many clients at once."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time

import pytest
from agent_fakes import PASSWORD
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import BasicAuthenticator, hash_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.files import FileRoutes, parse_target, status_of
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.http_server import MAX_ENVELOPE_BODY, ConnectionState, HttpServer, Outcome
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import identify_request


class Everybody:
    def authenticate(self, headers, state, body):
        return Outcome("somebody")


def make_server(files=None, **options) -> HttpServer:
    server = HttpServer(
        ("127.0.0.1", 0),
        wsman=lambda body, user, content_type: (200 if user else 401, body),
        authenticator=Everybody(),
        routes={"/osd/files/": FileRoutes(files)} if files else {},
        **options,
    )
    server.start()
    return server


@pytest.fixture
def server():
    made = make_server()
    yield made
    made.stop()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def read_answer(link: socket.socket) -> tuple[int, dict[str, str], bytes]:
    file = link.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, dummy, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, file.read(int(headers.get("content-length", "0")))


def ask(port: int, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    with dial(port) as link:
        link.sendall(raw)
        return read_answer(link)


def post(body: bytes, *headers: str, path: str = "/wsman") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"POST\r\n\r\n", 400),
        (b"POST /wsman HTTP/9.9\r\n\r\n", 505),
        (b"BREW /wsman HTTP/1.1\r\n\r\n", 501),
        (b"POST /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (post(b"", *[f"X-{i}: y" for i in range(200)]), 431),
        (post(b"", "Content-Length: x"), 400),
        (post(b"", "Content-Length: -1"), 400),
        (post(b"ab", "Content-Length: 1", "Content-Length: 2"), 400),
        (post(b"", "Content-Length: 2", "Transfer-Encoding: chunked"), 400),
        (post(b"", "Transfer-Encoding: gzip"), 400),
        (post(b"zz\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 400),
        (post(b"1\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 400),
        (post(b"", f"Content-Length: {MAX_ENVELOPE_BODY + 1}"), 413),
        (post(b"", path="/other"), 404),
        (b"GET /wsman HTTP/1.1\r\n\r\n", 405),
        (b"GET /osd/files/X:/a HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_what_is_no_request(server, raw, status):
    got, dummy, body = ask(server.port, raw)
    assert (got, body) == (status, b"")
    # And it serves on.
    assert ask(server.port, post(b"hi", "Content-Length: 2"))[2] == b"hi"


def test_bodies_in_chunks_and_after_a_go_on(server):
    chunked = post(b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: t\r\n\r\n", "Transfer-Encoding: chunked")
    with dial(server.port) as link:
        link.sendall(chunked)
        assert read_answer(link)[2] == b"abc"
        link.sendall(post(b"", "Content-Length: 2", "Expect: 100-continue"))
        assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"hi")
        assert read_answer(link)[2] == b"hi"


def test_only_identify_is_answered_without_credentials(server):
    status, dummy, dummy = ask(server.port, post(b"ab", "Content-Length: 2", "WSMANIDENTIFY: unauthenticated"))
    assert status == 401


def test_an_answer_is_one_write(server):
    with dial(server.port) as link:
        link.sendall(post(b"hi", "Content-Length: 2"))
        assert link.recv(4096).endswith(b"\r\n\r\nhi")


def test_a_slow_client_does_not_block_the_others(computer):
    silent = dial(computer.port)  # never begins its TLS handshake
    context = ssl.create_default_context(cafile=computer.certificate)
    body = identify_request()
    started = time.monotonic()
    with context.wrap_socket(dial(computer.port), server_hostname="pe.goldimage.test") as link:
        link.sendall(post(body, f"Content-Length: {len(body)}", "WSMANIDENTIFY: unauthenticated"))
        assert read_answer(link)[0] == 200
    assert time.monotonic() - started < 2
    silent.close()


def test_two_hundred_connections_and_the_one_too_many():
    server = make_server(max_connections=200)
    links = [dial(server.port) for dummy in range(200)]
    try:
        for link in links:
            link.sendall(post(b"hi", "Content-Length: 2"))
        assert all(read_answer(link)[0] == 200 for link in links)
        with dial(server.port) as extra:
            assert extra.recv(1) == b""
        links.pop().close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                if ask(server.port, post(b"hi", "Content-Length: 2"))[0] == 200:
                    break
            except (OSError, IndexError):
                time.sleep(0.02)
        else:
            pytest.fail("the place of a closed connection is not given again")
    finally:
        for link in links:
            link.close()
        server.stop()


def test_silence_ends_a_connection_and_stop_cuts_them():
    server = make_server(idle_timeout=0.2)
    with dial(server.port) as link:
        assert link.recv(1) == b""
    server.idle_timeout = 60
    with dial(server.port) as link:
        link.sendall(post(b"hi", "Content-Length: 2"))
        assert read_answer(link)[0] == 200
        server.stop()
        assert link.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        dial(server.port)


def test_stop_cuts_connections_with_tls_too(computer):
    context = ssl.create_default_context(cafile=computer.certificate)
    body = identify_request()
    with context.wrap_socket(dial(computer.port), server_hostname="pe.goldimage.test") as link:
        link.sendall(post(body, f"Content-Length: {len(body)}", "WSMANIDENTIFY: unauthenticated"))
        assert read_answer(link)[0] == 200
        computer.service.stop()
        link.settimeout(2)
        # Cut, not closed: the end of the TLS connection itself does not come.
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):
            if link.recv(1) == b"":
                raise ConnectionError


def test_put_streams_and_leaves_nothing_of_a_broken_one(computer):
    files = computer.files
    server = make_server(files)
    routes = FileRoutes(files, limit=10)
    server.routes["/small/"] = lambda method, target, headers, body: routes(method, "/osd/files/" + target[7:], headers, body)
    with dial(server.port) as link:
        link.sendall(b"PUT /osd/files/X:/a/b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
        status, headers, dummy = read_answer(link)
        assert (status, len(headers["x-osd-sha256"])) == (201, 64)
        link.sendall(b"PUT /osd/files/X:/a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        assert read_answer(link)[0] == 204
    with dial(server.port) as link:
        link.sendall(b"PUT /osd/files/X:/a/c HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
        link.shutdown(socket.SHUT_WR)
        assert read_answer(link)[0] == 400
    assert ask(server.port, b"PUT /small/X:/a/d HTTP/1.1\r\nContent-Length: 11\r\n\r\n")[0] == 413
    too_long = b"PUT /small/X:/a/d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"
    assert ask(server.port, too_long)[0] == 413
    assert [path.name for path in files.host("X:\\a").iterdir()] == ["b"]
    get = "GET /osd/files/X:/a/b HTTP/1.1\r\nRange: {}\r\n\r\n"
    assert ask(server.port, get.format("bytes=-1").encode())[2] == b"x"
    assert ask(server.port, get.format("bytes=0-9").encode())[1]["content-range"] == "bytes 0-0/1"
    assert ask(server.port, get.format("bytes=5-").encode())[0] == 416
    assert ask(server.port, get.format("lines=1-2").encode())[0] == 400
    for bad in (b"X:/", b"X:/..%2Fa", b"X:/../a", b"X:/a:b", b"X:/nul", b"a/b", b"X:/a%00b", b"X:/%ff", b"X:/a%5Cb", b"X:/a."):
        assert ask(server.port, b"GET /osd/files/" + bad + b" HTTP/1.1\r\n\r\n")[0] == 400, bad
    server.stop()


def test_problems_of_files_as_statuses():
    class Win32(OSError):
        code = 0

    def problem(code: int) -> Win32:
        error = Win32(code, "x")
        error.code = code
        return error

    assert [status_of(problem(code)) for code in (2, 3, 5, 32, 112, 123, 999)] == [404, 404, 403, 423, 507, 400, 500]
    assert [status_of(OSError(number, "x")) for number in (2, 13, 21, 28, 5)] == [404, 403, 409, 507, 500]
    assert parse_target("/osd/files/w:/a%20b/%C3%BC?hash=sha256") == ("W:\\a b\\ü", {"hash": "sha256"})


def test_basic_authentication():
    record = hash_password(PASSWORD, iterations=1000)
    assert PASSWORD not in str(record)
    authenticator = BasicAuthenticator("osd", record, failure_delay=0)
    state = ConnectionState("127.0.0.1", True)

    def outcome(header: str) -> str | None:
        return authenticator.authenticate({"Authorization": header} if header else {}, state, b"").user

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert outcome(basic(f"osd:{PASSWORD}")) == "osd"
    assert outcome(basic(f"OSD:{PASSWORD}")) == "osd"
    for header in ("", "Basic", "Basic !", "Basic " + "A" * 10000, basic("osd"), basic("osd:"), basic(f"x:{PASSWORD}"), "Negotiate abc"):
        assert outcome(header) is None
    with pytest.raises(ValueError, match="algorithm"):
        BasicAuthenticator("osd", {"algorithm": "plain"})


def test_guesses_wait_for_one_another():
    authenticator = BasicAuthenticator("osd", hash_password("x", iterations=1), failure_delay=0.05)
    state = ConnectionState("127.0.0.1", True)
    threads = [
        threading.Thread(target=authenticator.authenticate, args=({"Authorization": "Basic eDp5"}, state, b"")) for dummy in range(6)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 0.3


def test_what_waited_for_an_answer_is_not_carried_out_after_the_power_cut():
    handled = []
    server = HttpServer(
        ("127.0.0.1", 0), wsman=lambda body, user, content_type: handled.append(body) or (200, body), authenticator=Everybody()
    )
    server.ready.clear()
    server.start()
    with dial(server.port) as link:
        link.sendall(post(b"hi", "Content-Length: 2"))
        time.sleep(0.1)
        server.stop()
        assert link.recv(1) == b""
    assert handled == []
