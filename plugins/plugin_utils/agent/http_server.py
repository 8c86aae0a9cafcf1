# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 in front of the WS-Management server: one thread a connection, so that authentication state hangs on it as in Windows.

Everything that has to wait for a slow client waits in that client's own thread (TLS handshake too), and an answer leaves in one
write: headers and body apart cost 44 ms a request on loopback [measured].
"""

from __future__ import annotations

import contextlib
import http.server
import io
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import Any, Protocol

#: A request to WS-Management that is larger is refused before it is read. The envelope limit proper is the server's.
MAX_ENVELOPE_BODY = 1024 * 1024
_CHUNK = 64 * 1024


class Headers(Protocol):
    """A request's headers; names are compared ignoring case."""

    def get(self, name: str, /) -> str | None:
        """Return a header's value, None where it was not sent."""


@dataclass
class ConnectionState:
    """What belongs to one TCP connection. ``values`` is the authenticator's own; ``certificate`` the server's in DER on TLS."""

    peer: str
    tls: bool
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What an authenticator makes of a request.

    ``user`` None: not let in; the answer is ``status`` with ``challenges`` as WWW-Authenticate headers. ``body`` and
    ``content_type`` replace the request's where it was sealed, and ``seal`` turns an answer into what goes over the wire.
    ``finished`` True: there is nothing to handle, the answer is an empty ``status``.
    """

    user: str | None
    status: int = 401
    challenges: tuple[str, ...] = ()
    body: bytes | None = None
    content_type: str | None = None
    seal: Callable[[bytes, str], tuple[bytes, str]] | None = None
    finished: bool = False


class Authenticator(Protocol):
    """Decides who sends a request. Called from the connection's thread; ``state`` is the same for all requests of a connection."""

    def authenticate(self, headers: Headers, state: ConnectionState, body: bytes) -> Outcome:
        """Return who it is. ``body`` is b'' for file routes, which are not sealed."""


@dataclass(frozen=True)
class Answer:
    """An answer: ``body`` in one piece, or ``length`` bytes from ``stream`` (closed at the end). HEAD sends only the length."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: io.BufferedIOBase | Any = None
    length: int | None = None


class RequestBody(Protocol):
    """The body of a request as it comes in. ``length`` is None for a chunked one."""

    length: int | None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, b'' at the end. Raises BodyTooLarge or BadRequest."""


#: Handles the requests below a path: method, target as received, headers, body.
Route = Callable[[str, str, Headers, RequestBody], Answer]
#: Answers an envelope: body, user (None: not authenticated), content type. ``wsman.server.Server.handle`` fits.
WsmanHandler = Callable[[bytes, str | None, str], tuple[int, bytes]]


class BadRequest(Exception):
    """What came is no HTTP; the connection ends."""


class BodyTooLarge(Exception):
    """The body is larger than the route takes; the connection ends."""


class _Body:
    """Reads a body with a length or in chunks; says 'go on' before the first byte where the client asked for it."""

    def __init__(self, stream: Any, length: int | None, go_on: Callable[[], None] | None) -> None:
        self.length = length
        self._stream = stream
        self._left = length if length is not None else 0
        self._chunked = length is None
        self._ended = length == 0
        self._go_on = go_on

    @property
    def ended(self) -> bool:
        return self._ended

    def read(self, size: int) -> bytes:
        if self._ended or size <= 0:
            return b""
        if self._go_on is not None:
            self._go_on()
            self._go_on = None
        if self._chunked and self._left == 0 and not self._next_chunk():
            return b""
        data: bytes = self._stream.read(min(size, self._left))
        if not data:
            raise BadRequest("the connection ended within the body")
        self._left -= len(data)
        if self._left == 0:
            if self._chunked:
                if self._stream.readline(3) not in (b"\r\n", b"\n"):
                    raise BadRequest("a chunk is longer than it says")
            else:
                self._ended = True
        return data

    def _next_chunk(self) -> bool:
        line = self._stream.readline(1024)
        digits = line.split(b";")[0].strip()
        if not line.endswith(b"\n") or not digits or len(digits) > 8 or not all(c in b"0123456789abcdefABCDEF" for c in digits):
            raise BadRequest("a chunk has no size")
        self._left = int(digits, 16)
        if self._left:
            return True
        while self._stream.readline(65537) not in (b"\r\n", b"\n", b""):
            pass
        self._ended = True
        return False


def read_all(body: RequestBody, limit: int) -> bytes:
    """Return the whole body; BodyTooLarge where it has more than ``limit`` bytes."""
    if body.length is not None and body.length > limit:
        raise BodyTooLarge
    parts: list[bytes] = []
    size = 0
    while data := body.read(_CHUNK):
        size += len(data)
        if size > limit:
            raise BodyTooLarge
        parts.append(data)
    return b"".join(parts)


class HttpServer:
    """A listening server: ``/wsman`` and further routes by path prefix.

    Args:
        address: host and port; port 0 takes a free one, see ``port``.
        wsman: answers envelopes.
        authenticator: decides who sends; only Identify is answered to others, and only when the client asks for that.
        routes: handlers by path prefix, called only for who is let in.
        tls: context of the certificate, None for plain HTTP.
        idle_timeout: seconds after which a silent connection is closed (Windows: 120).
        max_connections: one more is closed at once (Windows: 300).
        name: the header ``Server``.
        admitted: sees the headers of every request of who is let in.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        wsman: WsmanHandler,
        authenticator: Authenticator,
        routes: Mapping[str, Route] | None = None,
        tls: ssl.SSLContext | None = None,
        idle_timeout: float = 120.0,
        max_connections: int = 300,
        name: str = "Microsoft-HTTPAPI/2.0",
        admitted: Callable[[Message], None] = lambda headers: None,
    ) -> None:
        self.wsman = wsman
        self.authenticator = authenticator
        self.routes = dict(routes or {})
        self.tls = tls
        self.idle_timeout = idle_timeout
        self.name = name
        self.admitted = admitted
        #: Cleared: connections are accepted and get no answer, as after a boot before the service is ready.
        self.ready = threading.Event()
        self.ready.set()
        self.stopped = False
        self._listener = _Listener(address, self, max_connections)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.server_address[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.1,), daemon=True, name="http")
        self._thread.start()

    def stop(self) -> None:
        """Close the port and cut every connection, as a power cut does. What waited for an answer is not carried out."""
        self.stopped = True
        if self._thread is not None:
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.cut_connections()
        self.ready.set()


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], owner: HttpServer, max_connections: int) -> None:
        self.owner = owner
        self._max_connections = max_connections
        self._lock = threading.Lock()
        #: Accepted socket → what holds its connection: itself, or the TLS socket that took it over.
        self._open: dict[socket.socket, socket.socket] = {}
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= self._max_connections
            if not full:
                self._open[request] = request
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def secured(self, request: socket.socket, connection: ssl.SSLSocket) -> None:
        """Note that TLS took a connection over: the accepted socket is an empty one from now on."""
        with self._lock:
            if request in self._open:
                self._open[request] = connection
                return
        # Cut during its handshake.
        _cut(connection)

    def cut_connections(self) -> None:
        with self._lock:
            connections, self._open = list(self._open.values()), {}
        for connection in connections:
            _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the client's affair; the server says nothing and goes on."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The plain socket's: a TLS socket's own would let its thread write in plain text.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        owner = self.server.owner
        self.timeout = owner.idle_timeout  # type: ignore[misc]
        self._plain_socket = self.request
        if owner.tls is not None:
            # The handshake is done here, in the connection's own thread: one slow client must not block the others.
            self.request.settimeout(min(15.0, owner.idle_timeout))
            self.request = owner.tls.wrap_socket(self.request, server_side=True)
            self.server.secured(self._plain_socket, self.request)
        super().setup()
        self.state = ConnectionState(str(self.client_address[0]), owner.tls is not None)

    def finish(self) -> None:
        super().finish()
        if self.request is not self._plain_socket:
            with contextlib.suppress(OSError):
                self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged: they hold credentials."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP: no page, and the connection ends."""
        self.close_connection = True
        self._send(Answer(int(code)), ())

    def handle_expect_100(self) -> bool:
        self._expects = True
        return True

    def handle_one_request(self) -> None:
        self._expects = False
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    def do_POST(self) -> None:
        self._handle()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_POST

    def _handle(self) -> None:
        owner = self.server.owner
        owner.ready.wait()
        if owner.stopped:
            self.close_connection = True
            return
        try:
            body = self._body()
        except BadRequest:
            self.send_error(400)
            return
        try:
            path = self.path.split("?", 1)[0]
            route = next((handler for prefix, handler in owner.routes.items() if path.startswith(prefix)), None)
            if route is not None:
                self._route(route, body)
            elif path.rstrip("/").lower() != "/wsman":
                self._send(Answer(404), ())
            elif self.command != "POST":
                self._send(Answer(405, headers={"Allow": "POST"}), ())
            else:
                self._wsman(read_all(body, MAX_ENVELOPE_BODY))
        except BodyTooLarge:
            self.send_error(413)
        except BadRequest:
            self.send_error(400)
        if not body.ended:
            self.close_connection = True

    def _body(self) -> _Body:
        headers: Message = self.headers
        lengths = headers.get_all("Content-Length") or []
        coding = (headers.get("Transfer-Encoding") or "").strip().lower()
        go_on = self._go_on if self._expects else None
        if coding:
            if coding != "chunked" or lengths:
                raise BadRequest("the body has another coding than 'chunked', or two lengths")
            return _Body(self.rfile, None, go_on)
        if not lengths:
            return _Body(self.rfile, 0, None)
        text = lengths[0].strip()
        if len(lengths) > 1 or not text.isascii() or not text.isdigit() or len(text) > 15:
            raise BadRequest("the length of the body is no number")
        return _Body(self.rfile, int(text), go_on)

    def _go_on(self) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _wsman(self, body: bytes) -> None:
        owner = self.server.owner
        content_type = self.headers.get("Content-Type") or ""
        if (self.headers.get("WSMANIDENTIFY") or "").strip().lower() == "unauthenticated":
            status, answer = owner.wsman(body, None, content_type)
            self._send(Answer(status, answer, {"Content-Type": "application/soap+xml;charset=UTF-8"} if answer else {}), ())
            return
        outcome = owner.authenticator.authenticate(self.headers, self.state, body)
        if outcome.user is None or outcome.finished:
            self._send(Answer(outcome.status), outcome.challenges)
            return
        owner.admitted(self.headers)
        sent = body if outcome.body is None else outcome.body
        sent_type = content_type if outcome.content_type is None else outcome.content_type
        status, answer = owner.wsman(sent, outcome.user, sent_type)
        answer_type = "application/soap+xml;charset=UTF-8"
        if outcome.seal is not None and answer:
            answer, answer_type = outcome.seal(answer, answer_type)
        self._send(Answer(status, answer, {"Content-Type": answer_type}), outcome.challenges)

    def _route(self, route: Route, body: _Body) -> None:
        outcome = self.server.owner.authenticator.authenticate(self.headers, self.state, b"")
        if outcome.user is None or outcome.finished:
            self._send(Answer(outcome.status), outcome.challenges)
            return
        self.server.owner.admitted(self.headers)
        self._send(route(self.command, self.path, self.headers, body), outcome.challenges)

    def _send(self, answer: Answer, challenges: Iterable[str]) -> None:
        length = answer.length if answer.length is not None else len(answer.body)
        try:
            reason = HTTPStatus(answer.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {answer.status} {reason}", f"Server: {self.server.owner.name}", f"Date: {self.date_time_string()}"]
        lines += [f"WWW-Authenticate: {challenge}" for challenge in challenges]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.status != 204:
            lines.append(f"Content-Length: {length}")
        if self.close_connection:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if answer.stream is None or getattr(self, "command", "") == "HEAD":
            self.wfile.write(head if getattr(self, "command", "") == "HEAD" else head + answer.body)
            if answer.stream is not None:
                answer.stream.close()
            return
        with answer.stream:
            left = length
            piece = answer.stream.read(min(_CHUNK, left)) if left else b""
            self.wfile.write(head + piece)
            left -= len(piece)
            while left:
                piece = answer.stream.read(min(_CHUNK, left))
                if not piece:
                    # The file became shorter; only a cut connection tells the client.
                    self.close_connection = True
                    return
                self.wfile.write(piece)
                left -= len(piece)
