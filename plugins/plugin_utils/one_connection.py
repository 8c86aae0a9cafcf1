# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What sends pywinrm's requests over one kept connection: a requests adapter without urllib3's pool and http.client's e-mail parser.

They take more than half of the control node's time for a request of WS-Management; HTTP/1.1 to one known server needs neither.
There is no proxy, no redirect, no compression and no retry here: ``connection`` takes it only where none of them is wanted.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from io import BufferedReader
from typing import Any
from urllib.parse import urlsplit

try:
    import requests
    from requests.adapters import BaseAdapter
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import ConnectTimeout, HTTPError, ReadTimeout, SSLError
    from requests.structures import CaseInsensitiveDict
except ImportError:
    # It comes with pywinrm; ``connection`` says what is missing before anything of this is used.
    BaseAdapter = object  # type: ignore[assignment, misc, unused-ignore]

#: A line of a head is not longer, and there are not more of them (the limits of http.client).
_LONGEST_LINE = 65536
_MOST_HEADERS = 100
#: Answers that have no body, whatever their head says (RFC 9112, 6.3).
_WITHOUT_BODY = (204, 304)
#: What this adapter does itself.
_OWN_HEADERS = frozenset({"accept-encoding", "connection", "host"})


class PreparedOnce:
    """What prepares a session's requests: each method once, with the session's headers and its authentication.

    requests joins them anew for each request, half of what one costs. Here only the URL, the body with its length and the request's own
    headers differ from the first. It serves authentication that looks at none of them: Basic, and NTLM, which belongs to the connection.
    """

    def __init__(self, session: requests.Session) -> None:
        """Take the session whose ``prepare_request`` this becomes."""
        self._prepare = session.prepare_request
        self._known: dict[str, requests.PreparedRequest] = {}

    def __call__(self, request: requests.Request) -> requests.PreparedRequest:
        """Return a request ready to be sent. Its URL is quoted already, its body bytes or nothing."""
        method, url, body = str(request.method), str(request.url), request.data or None
        if method not in self._known:
            self._known[method] = self._prepare(requests.Request(method, url))
        known = self._known[method]
        # A copy of all but the cookies, of which WS-Management has none: making a jar of its own for each request takes the longest.
        prepared = requests.PreparedRequest()
        prepared._cookies = known._cookies  # type: ignore[attr-defined, unused-ignore]
        prepared.method, prepared.url, prepared.headers, prepared.hooks = method, url, known.headers.copy(), known.hooks
        prepared.headers.update(request.headers)
        if body is not None:
            prepared.body = body  # type: ignore[assignment, unused-ignore]
            prepared.headers["Content-Length"] = str(len(body))
        return prepared


class SentDirectly:
    """What sends a session's requests: over the one connection, without looking for proxies, cookies and redirects around each."""

    def __init__(self, connection: OneConnection) -> None:
        """Take the connection. This becomes its session's ``send``."""
        self._connection = connection

    def __call__(self, request: requests.PreparedRequest, *, timeout: Any, allow_redirects: bool = True) -> requests.Response:
        """Send a prepared request. HTTPError for a redirect that would be followed: the account is for this server alone."""
        response = self._connection.send(request, timeout=timeout)
        # Whoever logs on asks for the answer: NTLM's handshake is such a hook.
        for hook in request.hooks["response"]:
            answer = hook(response, timeout=timeout)
            response = response if answer is None else answer
        if allow_redirects and response.is_redirect:
            raise HTTPError(f"The answer is a redirect (HTTP {response.status_code})", response=response)
        return response


class NotSent(OSError):
    """The connection broke before the request had left whole: the server cannot have carried it out."""


class _Malformed(OSError):
    """The answer is no HTTP/1.1, or ends too early."""


class _Released:
    """What stands for urllib3's response: requests_ntlm gives its connection back with it; ours stays."""

    @staticmethod
    def release_conn() -> None:
        """Do nothing."""


class OneConnection(BaseAdapter):
    """Sends over one connection, opened anew where the server has closed it in between. ``seal`` makes it TLS; None for http."""

    def __init__(self, seal: Callable[[socket.socket], socket.socket] | None = None) -> None:
        """Nothing is opened before the first request."""
        super().__init__()
        self._seal = seal
        self._socket: socket.socket | None = None
        self._file: BufferedReader | None = None

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request and return its answer, read to the end. Raises requests' exceptions as its own adapter does."""
        try:
            file = self._connected(request, timeout)
            status, reason, headers, body = self._exchange(file, request)
        except ssl.SSLError as error:
            self.close()
            raise SSLError(error, request=request) from error
        except TimeoutError as error:
            self.close()
            raise ReadTimeout(error, request=request) from error
        except OSError as error:
            self.close()
            raise Unreachable(error, request=request) from error
        except BaseException:
            # Whatever broke it off: the rest of this answer must not be taken for the next one.
            self.close()
            raise
        response = requests.Response()
        response.status_code, response.reason, response.headers = status, reason, headers
        response._content, response._content_consumed = body, True  # type: ignore[attr-defined, unused-ignore]
        response.url, response.request, response.raw = str(request.url), request, _Released
        # requests_ntlm sends the rest of its handshake over the same connection.
        response.connection = self  # type: ignore[assignment, attr-defined, unused-ignore]
        return response

    def close(self) -> None:
        """Close the connection."""
        if self._file:
            self._file.close()
        if self._socket:
            self._socket.close()
        self._socket = self._file = None

    def _connected(self, request: requests.PreparedRequest, timeout: Any) -> BufferedReader:
        # What can be read before anything was asked is the end of the connection: a server closes an idle one.
        if self._socket and self._file and not _readable(self._socket):
            self._socket.settimeout(timeout)
            return self._file
        self.close()
        place = urlsplit(str(request.url))
        try:
            plain = socket.create_connection((str(place.hostname), place.port or 80), timeout)
        except TimeoutError as error:
            raise ConnectTimeout(error, request=request) from error
        self._socket = plain
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._seal:
            self._socket = self._seal(plain)
        self._file = self._socket.makefile("rb")
        return self._file

    def _exchange(self, file: BufferedReader, request: requests.PreparedRequest) -> tuple[int, str, CaseInsensitiveDict[str], bytes]:
        if self._socket is None:
            raise _Malformed("There is no connection")
        try:
            self._socket.sendall(_message(request))
        except (TimeoutError, ssl.SSLError):
            raise
        except OSError as error:
            raise NotSent(*error.args) from error
        version, status, reason, headers = _head(file)
        while status == 100:
            version, status, reason, headers = _head(file)
        kept = version == b"HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if request.method == "HEAD" or status in _WITHOUT_BODY:
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = _chunks(file)
        elif "content-length" in headers:
            body = _exactly(file, _number(headers["content-length"], 10))
        else:
            body, kept = file.read(), False
        if not kept:
            self.close()
        return status, reason, headers, body


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _message(request: requests.PreparedRequest) -> bytes:
    lines = [f"{request.method} {request.path_url} HTTP/1.1", f"Host: {urlsplit(str(request.url)).netloc}"]
    for name, value in request.headers.items():
        if name.lower() not in _OWN_HEADERS:
            lines.append(f"{name}: {value.decode('latin-1') if isinstance(value, bytes) else value}")
    body = request.body or b""
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (body.encode() if isinstance(body, str) else bytes(body))


def _line(file: BufferedReader) -> bytes:
    line = file.readline(_LONGEST_LINE + 1)
    if not line.endswith(b"\n") or len(line) > _LONGEST_LINE:
        raise _Malformed("The connection was closed without an answer" if not line else "The answer's head is cut short or too long")
    return line.rstrip(b"\r\n")


def _head(file: BufferedReader) -> tuple[bytes, int, str, CaseInsensitiveDict[str]]:
    version, *rest = _line(file).split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise _Malformed("The answer is not HTTP")
    status, reason = [*rest, b"", b""][:2]
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for dummy in range(_MOST_HEADERS + 1):
        line = _line(file).decode("latin-1")
        if not line:
            return version, _number(status.decode("latin-1"), 10), reason.decode("latin-1"), headers
        name, value = [*line.split(":", 1), ""][:2]
        # Several of one name are one list (RFC 9110, 5.3): a server names each kind of authentication in a header of its own.
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    raise _Malformed("The answer has too many headers")


def _chunks(file: BufferedReader) -> bytes:
    parts = []
    while size := _number(_line(file).partition(b";")[0].decode("latin-1"), 16):
        parts.append(_exactly(file, size))
        _line(file)
    while _line(file):
        # Headers after the last chunk say nothing that is needed.
        continue
    return b"".join(parts)


def _exactly(file: BufferedReader, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise _Malformed("The answer is cut short")
    return content


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise _Malformed("The answer holds no number where one must be")
    return number
