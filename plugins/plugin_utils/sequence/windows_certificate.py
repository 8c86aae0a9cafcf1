# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate of the built Windows: made on the control node for one run, trusted there as itself, its key kept nowhere."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from ..steps.base import StepFailure
from ..windows.https_opening import CERTIFICATE_NAME, HTTPS_PORT, Https

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

_DAYS = 3650


def make(port: int = HTTPS_PORT) -> tuple[bytes, Https]:
    """Return the certificate in PEM, and what opens Windows with it: PFX, its one-time password, thumbprint.

    The PFX is encrypted as every Windows reads it (3DES, SHA-1); the password is random and thrown away with the file
    [doc: openssl pkcs12 -legacy; knowledge]. The certificate is valid from a year ago: a new computer's clock may be wrong.
    """
    if not HAS_CRYPTOGRAPHY:
        raise StepFailure(
            "The certificate of the built Windows cannot be made: the Python package cryptography is not installed on the control node.",
            remedy="pip install cryptography, or leave osd_windows_connection.scheme at http.",
        )
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFICATE_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=365))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CERTIFICATE_NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    password = secrets.token_hex(24)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(50000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - what Windows before 10 1709 reads
        .build(password.encode())
    )
    pfx = pkcs12.serialize_key_and_certificates(None, key, certificate, None, encryption)
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Windows' name of a certificate
    return certificate.public_bytes(serialization.Encoding.PEM), Https(thumbprint, port, pfx, password)
