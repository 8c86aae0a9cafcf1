# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Basic authentication against a password that the boot image holds only as a salted hash. Over TLS only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from .http_server import ConnectionState, Headers, Outcome

ALGORITHM = "pbkdf2_sha256"
_CHALLENGES = ('Basic realm="WSMAN"',)


def hash_password(password: str, *, iterations: int = 100_000, salt: bytes = b"") -> dict[str, Any]:
    """Return the record of a password as ``agent.json`` holds it: algorithm, iterations, salt and hash in base64.

    ``salt``: another one than chance's, for a boot image that is to be made the same again; it must not depend on the password.
    """
    salt = salt or secrets.token_bytes(16)
    return {
        "algorithm": ALGORITHM,
        "iterations": iterations,
        "salt": base64.b64encode(salt).decode(),
        "hash": base64.b64encode(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)).decode(),
    }


def verify_password(password: str, record: Mapping[str, Any]) -> bool:
    """Tell whether that is the password; as long either way. ValueError for a record that cannot be understood."""
    if record.get("algorithm") != ALGORITHM:
        raise ValueError(f"the password's algorithm is {record.get('algorithm')!r}; this agent knows {ALGORITHM}")
    salt = base64.b64decode(str(record["salt"]), validate=True)
    expected = base64.b64decode(str(record["hash"]), validate=True)
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(record["iterations"])), expected)


class BasicAuthenticator:
    """One user with one password.

    The last good credential is remembered as a keyed hash, so that a request costs no key derivation. Failures are answered one
    after the other, each after ``failure_delay`` seconds, whatever number of connections guesses.
    """

    def __init__(self, user: str, record: Mapping[str, Any], *, failure_delay: float = 1.0) -> None:
        self._user = user
        self._record = dict(record)
        self._failure_delay = failure_delay
        self._failures = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._known = b""
        verify_password("", self._record)

    def authenticate(self, headers: Headers, state: ConnectionState, body: bytes) -> Outcome:
        """Return the user where the header Authorization holds its name and password."""
        header = headers.get("Authorization") or ""
        if not header:
            return Outcome(None, challenges=_CHALLENGES)
        digest = hmac.new(self._key, header.encode("utf-8", "replace"), "sha256").digest()
        if self._known and hmac.compare_digest(digest, self._known):
            return Outcome(self._user)
        if self._verify(header):
            self._known = digest
            return Outcome(self._user)
        with self._failures:
            time.sleep(self._failure_delay)
        return Outcome(None, challenges=_CHALLENGES)

    def _verify(self, header: str) -> bool:
        scheme, dummy, token = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            raw = base64.b64decode(token.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        user, colon, password = raw.partition(b":")
        if not colon:
            return False
        # requests writes latin-1 where it can, others UTF-8: a password of plain ASCII is the same in both.
        good_password = verify_password(password.decode("utf-8", "replace"), self._record)
        good_user = hmac.compare_digest(user.lower(), self._user.lower().encode())
        return good_password and good_user
