# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Certificates of a lab computer, where Windows keeps them: ``SystemCertificates\<store>`` in SOFTWARE, private keys as files.

Lab rule: a key file holds the plain key, and the certificate's property 2 the name of that file; Windows encrypts the one with keys of the
installation and describes the key's container in the other.
"""

from __future__ import annotations

import hashlib
import ssl
import struct
import tempfile
from pathlib import Path

from ..windows.registry_hive import Key, Value
from .registry import LabRegistry
from .tools.interface import FileSystem, Registry, Win32Problem

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

_STORES = r"HKLM\SOFTWARE\Microsoft\SystemCertificates"
_KEYS = r"C:\ProgramData\Microsoft\Crypto\Keys"
#: Properties in a certificate's blob: key, SHA-1 hash, the certificate itself [doc: wincrypt.h CERT_*_PROP_ID].
_KEY_PROPERTY, _HASH_PROPERTY, _CERTIFICATE_PROPERTY = 2, 3, 32
_WRONG_PASSWORD, _NO_PFX = 86, 13


def store_certificate(registry: Registry | LabRegistry, store: str, certificate: bytes, key_file: str = "") -> str:
    """Put a certificate (DER) into a store and return its thumbprint."""
    digest = hashlib.sha1(certificate, usedforsecurity=False).digest()
    parts = [(_HASH_PROPERTY, digest), (_CERTIFICATE_PROPERTY, certificate)]
    if key_file:
        parts.insert(0, (_KEY_PROPERTY, key_file.encode("utf-16-le")))
    blob = b"".join(struct.pack("<III", number, 1, len(data)) + data for number, data in parts)
    thumbprint = digest.hex().upper()
    registry.set(rf"{_STORES}\{store}\Certificates\{thumbprint}", "Blob", Value.binary(blob))
    return thumbprint


def import_pfx(registry: Registry, files: FileSystem, store: str, pfx: bytes, password: str) -> str:
    """Take a PFX file: the certificate into the store, its key into a file of its own. Win32Problem as certutil fails."""
    if not HAS_CRYPTOGRAPHY:
        raise Win32Problem(50, "The lab needs the Python package cryptography for certificates.")
    try:
        key, certificate, dummy = pkcs12.load_key_and_certificates(pfx, password.encode() or None)
    except ValueError as problem:
        wrong = "password" in str(problem).lower()
        raise Win32Problem(_WRONG_PASSWORD if wrong else _NO_PFX, "The specified network password is not correct.") from None
    if key is None or certificate is None:
        raise Win32Problem(_NO_PFX, "The data is invalid.")
    der = certificate.public_bytes(serialization.Encoding.DER)
    name = hashlib.md5(der, usedforsecurity=False).hexdigest() + "_" + hashlib.md5(pfx, usedforsecurity=False).hexdigest()
    files.make_directories(_KEYS)
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.write(rf"{_KEYS}\{name}", plain)
    return store_certificate(registry, store, der, rf"{_KEYS}\{name}")


def find(registry: Registry, thumbprint: str, store: str = "MY") -> Key | None:
    """Return the key of a certificate in a store."""
    return registry.find(rf"{_STORES}\{store}\Certificates\{thumbprint}")


def tls(registry: Registry, files: FileSystem, thumbprint: str) -> tuple[ssl.SSLContext, bytes] | None:
    """Return a server's context and the certificate in DER; None where certificate or private key are not there."""
    found = find(registry, thumbprint)
    value = found.values.get("Blob") if found else None
    parts = _properties(value.data) if value else {}
    key_file = parts.get(_KEY_PROPERTY, b"").decode("utf-16-le", "replace")
    certificate = parts.get(_CERTIFICATE_PROPERTY)
    if not HAS_CRYPTOGRAPHY or certificate is None or not key_file or not files.is_file(key_file):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "server.pem"
        try:
            key = serialization.load_der_private_key(files.read(key_file), None)
            public = x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
            private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            place.write_bytes(public + private)
            context.load_cert_chain(place)
        except (ValueError, ssl.SSLError):
            return None
    return context, certificate


def _properties(blob: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 12 <= len(blob):
        number, dummy, length = struct.unpack_from("<III", blob, at)
        found[number] = blob[at + 12 : at + 12 + length]
        at += 12 + length
    return found
