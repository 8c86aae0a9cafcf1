# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python and comtypes by https with a pinned SHA-256, from a server of this test."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.boot_image import Archive, Request, build
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import BootImageError
from media_files import comtypes_archive, make_winpe, python_archive

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="wimlib-imagex is not installed")
HOST = "packages.goldimage.test"
OUTPUT = {"boot.json", "boot.sdi", "boot.wim", "certificate.pem", "key.pem"}


class Server:
    """An https server on a free port of 127.0.0.1 that remembers what was asked for."""

    def __init__(self, folder: Path, files: dict[str, bytes], name: str) -> None:
        self.asked: list[str] = []
        self.files = files
        self.trust = folder / f"{name}.pem"
        certificate, key = certificates.make(name)
        self.trust.write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.trust, folder / f"{name}.key")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.url = f"https://{name}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                data = owner.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data) * (2 if self.path == "/broken-off" else 1)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose name leads to 127.0.0.1 and whose certificate OpenSSL trusts, as it does those of the control node's store."""
    import socket

    real = socket.getaddrinfo

    def lead(host: object, *rest: object, **named: object) -> object:
        return real("127.0.0.1" if host == HOST else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lead)
    made = Server(tmp_path, {"/python.zip": python_archive(), "/comtypes.whl": comtypes_archive()}, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.trust))
    yield made
    made.stop()


@pytest.fixture
def request_by_https(server: Server, tmp_path: Path) -> Request:
    make_winpe(tmp_path / "winpe.wim")
    python, comtypes = (Archive(server.url + path, hashlib.sha256(data).hexdigest()) for path, data in server.files.items())
    return Request("test", tmp_path / "winpe.wim", tmp_path / "out", "a password of 28 characters!", python=python, comtypes=comtypes)


def left(request: Request) -> set[str]:
    """Return the files beside key and certificate, which are made once before anything else and stay."""
    return {path.name for path in request.destination.rglob("*")} - {"key.pem", "certificate.pem", ".boot_image.lock"}


def test_what_is_pinned_is_fetched_once(server: Server, request_by_https: Request) -> None:
    made = build(request_by_https)
    assert made.changed
    assert server.asked == ["/python.zip", "/comtypes.whl"]
    kept = request_by_https.destination / ".downloads"
    assert {path.name for path in kept.iterdir()} == {request_by_https.python.sha256, request_by_https.comtypes.sha256}
    assert not build(request_by_https).changed
    # Made anew, it needs no network; and a file that was damaged meanwhile is fetched again instead of being taken.
    assert build(dataclasses.replace(request_by_https, name="another")).changed
    assert len(server.asked) == 2
    (kept / request_by_https.python.sha256).write_bytes(b"damaged")
    assert build(dataclasses.replace(request_by_https, name="a third")).changed
    assert server.asked[2:] == ["/python.zip"]
    assert {path.name for path in request_by_https.destination.iterdir()} >= OUTPUT


def test_another_file_than_the_pinned_one_leaves_nothing(server: Server, request_by_https: Request) -> None:
    good = server.files["/python.zip"]
    server.files["/python.zip"] = good + b"\0"
    with pytest.raises(BootImageError) as refused:
        build(request_by_https)
    found, declared = (hashlib.sha256(data).hexdigest() for data in (good + b"\0", good))
    words = f"/python.zip has SHA-256 {found}, declared is {declared}: it is not the file that was meant."
    assert str(refused.value) == server.url + words
    assert left(request_by_https) == set()


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/nothing", "HTTP Error 404: Not Found"), ("/broken-off", "IncompleteRead(10 bytes read, 10 more expected)")],
)
def test_what_cannot_be_fetched_leaves_nothing(server: Server, request_by_https: Request, path: str, problem: str) -> None:
    server.files["/broken-off"] = b"0123456789"
    with pytest.raises(BootImageError) as refused:
        build(dataclasses.replace(request_by_https, python=Archive(server.url + path, "0" * 64)))
    assert str(refused.value).startswith(f"{server.url}{path} cannot be fetched: {problem}")
    assert str(refused.value).endswith("Give a path instead.")
    assert left(request_by_https) == set()


def test_a_certificate_that_is_not_trusted(
    server: Server, request_by_https: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(certificates.make(HOST)[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with pytest.raises(BootImageError, match=r"cannot be fetched: .*certificate verify failed.*Give a path instead\."):
        build(request_by_https)
    assert server.asked == []
    assert left(request_by_https) == set()
