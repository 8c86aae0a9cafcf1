# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter that keeps one connection: what it sends, every form of an answer, and what a server may do to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import requests
from ansible_collections.goldimage.osd.plugins.plugin_utils.one_connection import (
    NotSent,
    OneConnection,
    PreparedOnce,
    SentDirectly,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Server:
    """Gives each connection its list of answers, one a request, and then closes it; None answers nothing."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/wsman"
        self.requests: list[bytes] = []
        self.connections = 0

    def answer(self, *connections: Sequence[bytes | None]) -> None:
        threading.Thread(target=self._serve, args=(connections,), daemon=True).start()

    def _serve(self, connections: Sequence[Sequence[bytes | None]]) -> None:
        for answers in connections:
            client, dummy = self.listening.accept()
            self.connections += 1
            with client:
                for answer in answers:
                    request = client.recv(65536)
                    if not request:
                        break
                    self.requests.append(request)
                    if answer is None:
                        time.sleep(1)
                        continue
                    client.sendall(answer)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listening.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", OneConnection())
    yield made
    made.close()


MOVED = b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"


def send(session: requests.Session, url: str, **options: bool) -> requests.Response:
    """Send as pywinrm does."""
    return session.send(session.prepare_request(requests.Request("POST", url, data=b"body")), timeout=5, **options)


@pytest.fixture
def direct(session: requests.Session) -> requests.Session:
    connection = OneConnection()
    session.prepare_request, session.send = PreparedOnce(session), SentDirectly(connection)  # type: ignore[method-assign]
    session.mount("http://", connection)
    return session


def test_a_redirect_is_an_answer_to_who_follows_none(server: Server, direct: requests.Session) -> None:
    server.answer([MOVED, OK])
    for status in (301, 200):
        assert send(direct, server.url, allow_redirects=False).status_code == status


def test_a_redirect_that_would_be_followed_is_an_error_and_nothing_is_sent_elsewhere(server: Server, direct: requests.Session) -> None:
    server.answer([MOVED, OK])
    with pytest.raises(requests.HTTPError) as caught:
        send(direct, server.url)
    assert caught.value.response.status_code == 301
    assert send(direct, server.url).content == b"hi"
    assert [request.partition(b" HTTP")[0] for request in server.requests] == [b"POST /wsman"] * 2


def test_who_logs_on_by_a_hook_sees_the_refusal_and_sends_the_next_over_the_same_connection(
    server: Server, direct: requests.Session
) -> None:
    server.answer([b"HTTP/1.1 401 \r\nContent-Length: 0\r\n\r\n", OK])

    def log_on(response: requests.Response, **options: object) -> requests.Response:
        return response.connection.send(response.request, **options) if response.status_code == 401 else response  # type: ignore[attr-defined]

    direct.hooks["response"].append(log_on)
    assert send(direct, server.url).content == b"hi"
    assert server.connections == 1


def test_closing_the_session_closes_the_connection(server: Server, direct: requests.Session) -> None:
    server.answer([OK], [OK])
    assert send(direct, server.url).content == b"hi"
    direct.close()
    assert send(direct, server.url).content == b"hi"
    assert server.connections == 2


def test_a_request_goes_out_whole_and_two_share_a_connection(server: Server, session: requests.Session) -> None:
    server.answer([OK, OK])
    answer = session.post(server.url, data=b"\x00body", headers={"X-One": "1"}, timeout=5)
    assert (answer.status_code, answer.reason, answer.content, answer.headers["content-length"]) == (200, "OK", b"hi", "2")
    assert session.get(server.url + "?a=b c", timeout=5).content == b"hi"
    head, dummy, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /wsman HTTP/1.1" and f"Host: {server.url.split('/')[2]}" in lines
    assert "X-One: 1" in lines and "Content-Length: 5" in lines and body == b"\x00body"
    # It undoes no compression, so it must not ask for one.
    assert b"gzip" not in head
    assert server.requests[1].startswith(b"GET /wsman?a=b%20c HTTP/1.1\r\n")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nLast: 1\r\n\r\n", b"abc0123456789"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hi"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    ],
    ids=["chunked", "100", "204", "without a length", "HTTP/1.0"],
)
def test_forms_of_an_answer(server: Server, session: requests.Session, answer: bytes, content: bytes) -> None:
    server.answer([answer], [OK])
    assert session.get(server.url, timeout=5).content == content
    time.sleep(0.1)
    assert session.get(server.url, timeout=5).content == b"hi"


def test_an_answer_that_says_close_is_the_last_of_its_connection(server: Server, session: requests.Session) -> None:
    server.answer([b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nhi", None], [OK])
    session.get(server.url, timeout=5)
    assert session.get(server.url, timeout=0.5).content == b"hi"


def test_kinds_of_authentication_in_headers_of_their_own_are_one_list(server: Server, session: requests.Session) -> None:
    server.answer([b"HTTP/1.1 401 \r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"])
    assert session.get(server.url, timeout=5).headers["www-authenticate"] == "Negotiate, NTLM"


def test_a_connection_that_the_server_closed_is_opened_again(server: Server, session: requests.Session) -> None:
    server.answer([OK], [OK])
    session.get(server.url, timeout=5)
    time.sleep(0.1)
    assert session.get(server.url, timeout=5).content == b"hi"
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_a_lost_connection_and_the_next_one_is_new(
    server: Server, session: requests.Session, answer: bytes
) -> None:
    server.answer([answer], [OK])
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(server.url, timeout=5)
    assert session.get(server.url, timeout=5).content == b"hi"


def test_a_late_answer_is_never_taken_for_the_next_one(server: Server, session: requests.Session) -> None:
    server.answer([None, OK], [OK])
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(server.url, timeout=0.2)
    assert session.get(server.url, timeout=5).content == b"hi"
    assert server.connections == 2


def test_a_request_that_did_not_leave_whole_is_told_from_one_without_an_answer(server: Server, session: requests.Session) -> None:
    """A server that is gone before it took all cannot have carried it out; one that took all and closes may have."""
    large = b"\0" * 64 * 1024 * 1024
    server.answer([b""], [b""])
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        session.post(server.url, data=large, timeout=5)
    assert isinstance(caught.value.__cause__, NotSent)
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        session.post(server.url, data=b"small", timeout=5)
    assert not isinstance(caught.value.__cause__, NotSent)


def test_a_closed_port_is_refused(session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        session.get("http://127.0.0.1:1/wsman", timeout=5)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
