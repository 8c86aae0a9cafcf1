# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The self-signed certificate of a boot image: a fixed name, trusted as itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

_DAYS = 3650


def make(name: str) -> tuple[bytes, bytes]:
    """Return certificate and key in PEM for a DNS name. RuntimeError where the Python package cryptography is missing."""
    if not HAS_CRYPTOGRAPHY:
        raise RuntimeError(
            "The certificate of a boot image needs the Python package cryptography on the control node: pip install cryptography."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


def problem(certificate: bytes, key: bytes, name: str) -> str:
    """Return why a certificate and key cannot be an agent's, '' where they can. RuntimeError as in ``make``."""
    if not HAS_CRYPTOGRAPHY:
        raise RuntimeError(
            "The certificate of a boot image needs the Python package cryptography on the control node: pip install cryptography."
        )
    try:
        found = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        return f"certificate or key cannot be read (both must be PEM, the key without a password): {error}"
    if private.public_key() != found.public_key():
        return "the key does not belong to the certificate"
    if found.not_valid_after_utc < datetime.now(UTC):
        return f"the certificate is not valid since {found.not_valid_after_utc:%Y-%m-%d}"
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    if name not in names:
        return f"certificate_name is '{name}', but the certificate's DNS names are: {', '.join(names) or 'none'}"
    return ""
