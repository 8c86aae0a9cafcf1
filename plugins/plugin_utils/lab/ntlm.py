# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NTLM on a lab computer's WinRM port: raw NTLMSSP (pywinrm) or SPNEGO (pypsrp) under Negotiate, sealed messages over HTTP.

Bound to the TCP connection, as in Windows. Over plain HTTP a message that is not sealed gets HTTP 500 without content, as
AllowUnencrypted=false gives. Over TLS the channel binding is checked where the client sends one. pyspnego's acceptor rebuilds the
client's AV pairs instead of hashing what came, so it is stricter than Windows (ws-management 2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from ..agent.http_server import ConnectionState, Headers, Outcome

try:
    import spnego
    from spnego._ntlm_raw.messages import Authenticate
    from spnego.channel_bindings import GssChannelBindings

    HAS_SPNEGO = True
except ImportError:
    HAS_SPNEGO = False

#: Returns the NT hash of a user who may log on, None for everybody else. The domain is what the client sent: '', '.', a name.
NtHashLookup = Callable[[str, str], bytes | None]

_NEGOTIATE = "Negotiate"
_AUTHENTICATE = b"NTLMSSP\0\x03\0\0\0"
_RAW = b"NTLMSSP\0"
_PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
_BOUNDARY = "Encrypted Boundary"


class _UserFile:
    """The file in which pyspnego's acceptor looks for a user: its only way in is the environment variable NTLM_USER_FILE.

    It lies in memory, holds the one user who logs on just now, and the lock keeps logons apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def step(self, context: Callable[[], Any], token: bytes, line: str) -> tuple[Any, bytes | None]:
        """Make or take the context and give it a token while the file holds ``line``."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.memfd_create("ntlm-user")
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, line.encode(), 0)
            before = os.environ.get("NTLM_USER_FILE")
            os.environ["NTLM_USER_FILE"] = f"/proc/self/fd/{self._descriptor}"
            try:
                found = context()
                return found, found.step(token)
            finally:
                os.ftruncate(self._descriptor, 0)
                if before is None:
                    del os.environ["NTLM_USER_FILE"]
                else:
                    os.environ["NTLM_USER_FILE"] = before


_user_file = _UserFile()


class NtlmAuthenticator:
    """Lets in who proves to know the NT hash of an account.

    Args:
        lookup: the accounts.
        certificate: the server's certificate in DER, for channel bindings over TLS.
        allow_unencrypted: take messages over plain HTTP that are not sealed (the policy AllowUnencrypted).
    """

    def __init__(self, lookup: NtHashLookup, *, certificate: bytes | None = None, allow_unencrypted: bool = False) -> None:
        if not HAS_SPNEGO:
            raise RuntimeError("The Python library pyspnego is not installed; the lab needs it for NTLM. Install it: pip install pyspnego")
        self._lookup = lookup
        self._allow_unencrypted = allow_unencrypted
        self._bindings: Any = None
        if certificate is not None:
            digest = hashlib.sha256(certificate).digest()
            self._bindings = GssChannelBindings(application_data=b"tls-server-end-point:" + digest)

    def authenticate(self, headers: Headers, state: ConnectionState, body: bytes) -> Outcome:
        """Take one leg of the negotiation, or a message of a connection that has logged on."""
        scheme, dummy, text = (headers.get("Authorization") or "").partition(" ")
        challenges: tuple[str, ...] = ()
        if scheme:
            if scheme.lower() != _NEGOTIATE.lower():
                return Outcome(None, challenges=(_NEGOTIATE,))
            try:
                token = base64.b64decode(text.strip(), validate=True)
            except (binascii.Error, ValueError):
                return Outcome(None, challenges=(_NEGOTIATE,))
            answer = self._step(state, token)
            if state.values.get("user") is None:
                given = f"{_NEGOTIATE} {base64.b64encode(answer).decode()}" if answer else _NEGOTIATE
                return Outcome(None, challenges=(given,))
            if answer:
                challenges = (f"{_NEGOTIATE} {base64.b64encode(answer).decode()}",)
        user = state.values.get("user")
        if user is None:
            return Outcome(None, challenges=(_NEGOTIATE,))
        if not body:
            return Outcome(user, 200, challenges, finished=bool(scheme) and _is_empty(headers))
        return self._message(headers, state, body, user, challenges)

    def _message(self, headers: Headers, state: ConnectionState, body: bytes, user: str, challenges: tuple[str, ...]) -> Outcome:
        content_type = headers.get("Content-Type") or ""
        if not content_type.lower().startswith("multipart/encrypted"):
            if state.tls or self._allow_unencrypted:
                return Outcome(user, challenges=challenges)
            return Outcome(None, 500)
        context, lock = state.values["context"], state.values["lock"]
        try:
            with lock:
                message = _unseal(context, body)
        except (ValueError, spnego.exceptions.SpnegoError):
            # Windows answers 400 where the two sides' keys are out of step.
            return Outcome(None, 400)

        def seal(answer: bytes, answer_type: str) -> tuple[bytes, str]:
            with lock:
                return _seal(context, answer, answer_type)

        return Outcome(user, challenges=challenges, body=message, content_type="application/soap+xml;charset=UTF-8", seal=seal)

    def _step(self, state: ConnectionState, token: bytes) -> bytes | None:
        """Give a token to the connection's context; a first one begins anew. Sets ``user`` when the logon is complete."""
        values = state.values
        if values.get("user") is not None or values.get("context") is None:
            values.clear()
            values["raw"] = token.startswith(_RAW)
            values["lock"] = threading.Lock()
        line, name = self._line(token)
        context = values.get("context")
        try:
            context, answer = _user_file.step(lambda: context if context is not None else self._context(values["raw"]), token, line)
        except Exception:  # pyspnego and the parser below it raise many kinds for a token that is none
            values.clear()
            return None
        values["context"] = context
        values["name"] = name or values.get("name", "")
        if context.complete:
            values["user"] = values["name"]
        return answer

    def _context(self, raw: bool) -> Any:
        options = spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate
        return spnego.server(protocol="ntlm" if raw else "negotiate", channel_bindings=self._bindings, options=options)

    def _line(self, token: bytes) -> tuple[str, str]:
        """Return the line of the user file for who logs on, in the form of smbpasswd, and the name."""
        start = token.find(_AUTHENTICATE)
        if start < 0:
            return "", ""
        try:
            message = Authenticate.unpack(token[start:])
            user, domain = message.user_name or "", message.domain_name or ""
        except Exception:  # not a token; the context will say so
            return "", ""
        found = self._lookup(user, domain) if user and ":" not in user + domain else None
        if found is None:
            return "", ""
        account = f"{domain}\\{user}" if domain else user
        return f"{account}:1000:{'0' * 32}:{found.hex().upper()}:[U]:LCT-00000000\n", user


def certificate_der(path: str) -> bytes:
    """Return the certificate of a PEM file in DER, as :class:`NtlmAuthenticator` takes it."""
    with open(path, encoding="ascii") as file:
        text = file.read()
    start, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(text[start:end])


def _is_empty(headers: Headers) -> bool:
    return (headers.get("Content-Length") or "0").strip() == "0" and not headers.get("Transfer-Encoding")


def _unseal(context: Any, body: bytes) -> bytes:
    """Take the one message out of a multipart body. ValueError where it is none."""
    marker = b"--" + _BOUNDARY.encode()
    dummy, first, rest = body.partition(marker + b"\r\n")
    header, second, rest = rest.partition(marker + b"\r\n")
    if not first or not second:
        raise ValueError("the message has not two parts")
    length = header.partition(b"Length=")[2].split()
    prefix = b"\tContent-Type: application/octet-stream\r\n"
    plain_prefix = b"Content-Type: application/octet-stream\r\n"
    if rest.startswith(prefix):
        payload = rest[len(prefix) :]
    elif rest.startswith(plain_prefix):
        payload = rest[len(plain_prefix) :]
    else:
        raise ValueError("the second part is no octet stream")
    for end in (marker + b"--\r\n", marker + b"--"):
        if payload.endswith(end):
            payload = payload[: -len(end)]
            break
    else:
        raise ValueError("the message does not end")
    if len(payload) < 4 or not length or not length[0].isdigit():
        raise ValueError("the message has no length")
    (size,) = struct.unpack("<i", payload[:4])
    if not 0 < size <= len(payload) - 4:
        raise ValueError("the signature is longer than the message")
    message: bytes = context.unwrap_winrm(payload[4 : 4 + size], payload[4 + size :])
    if len(message) != int(length[0]):
        raise ValueError("the message is not as long as it says")
    return message


def _seal(context: Any, answer: bytes, answer_type: str) -> tuple[bytes, str]:
    sealed = context.wrap_winrm(answer)
    marker = f"--{_BOUNDARY}"
    head = (
        f"{marker}\r\n\tContent-Type: {_PROTOCOL}\r\n\tOriginalContent: type={answer_type};Length={len(answer)}\r\n"
        f"{marker}\r\n\tContent-Type: application/octet-stream\r\n"
    ).encode()
    body = head + struct.pack("<i", len(sealed.header)) + sealed.header + sealed.data + f"{marker}--\r\n".encode()
    return body, f'multipart/encrypted;protocol="{_PROTOCOL}";boundary="{_BOUNDARY}"'
