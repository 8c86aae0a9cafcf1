# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who signed what firmware starts: firmware with Secure Boot starts only what a certificate in its database has signed.

Microsoft's boot managers are signed below 'Microsoft Windows Production PCA 2011', and newer ones below 'Windows UEFI CA 2023'. Firmware
in which the first is revoked (KB5025885) refuses the old ones; firmware without the second refuses the new ones [doc: KB5025885].
Of an ISO firmware starts the loader in the boot sector ``efisys*.bin`` first, which has a signature of its own; the ADK has the newer one
beside it as ``efisys*_EX.bin`` [code: the ADK's copype.cmd, microsoft/secureboot_objects Make2023BootableMedia.ps1].
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs7
    from cryptography.x509.oid import NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

CA_2011 = "Microsoft Windows Production PCA 2011"
CA_2023 = "Windows UEFI CA 2023"
_SECURITY_DIRECTORY = 4
_PKCS_SIGNED_DATA = 2


def signers(program: bytes) -> tuple[str, ...]:
    """Return the common names of the authorities that issued the certificates in a program's signature, () for an unsigned one.

    Raises RuntimeError where the Python package cryptography is missing. What the signature covers is not checked here.
    """
    signature = _signature(program)
    if not signature:
        return ()
    if not HAS_CRYPTOGRAPHY:
        raise RuntimeError("reading a boot manager's signature needs the Python package cryptography: pip install cryptography.")
    try:
        with warnings.catch_warnings():
            # Old certificates have forms that the library will refuse one day.
            warnings.simplefilter("ignore")
            certificates = pkcs7.load_der_pkcs7_certificates(signature)
            names = [name.value for c in certificates for name in c.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, UnsupportedAlgorithm):
        return ()
    return tuple(str(name) for name in names)


def generation(program: bytes) -> str:
    """Return '2011' or '2023' after the authority, 'other' for another one, '' for an unsigned program."""
    names = signers(program)
    if CA_2023 in names:
        return "2023"
    if CA_2011 in names:
        return "2011"
    return "other" if names else ""


def what_firmware_refuses(programs: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return what to tell about programs, by the names that the user knows them by: one text for each generation among them."""
    names: dict[str, list[str]] = {}
    for name, program in programs.items():
        names.setdefault(generation(program), []).append(name)
    return tuple(f"{' and '.join(named)}: {_refusal(found)}" for found, named in names.items())


def _refusal(found: str) -> str:
    if found == "2011":
        return (
            f"signed below '{CA_2011}'; firmware with Secure Boot in which that is revoked (KB5025885) does not start it. For such "
            f"computers take the files of a current ADK that are signed below '{CA_2023}': bootmgfw_EX.efi in the place of the boot "
            "manager and, for an ISO, efisys_EX.bin or efisys_noprompt_EX.bin in the place of its boot sector."
        )
    if found == "2023":
        return f"signed below '{CA_2023}'; firmware with Secure Boot that does not know it yet does not start it."
    return "not signed by Microsoft; firmware with Secure Boot does not start it."


def _signature(program: bytes) -> bytes:
    """Return the PKCS #7 structure that a program's security directory names [doc: PE format, certificate table]."""
    try:
        (header,) = struct.unpack_from("<I", program, 0x3C)
        if program[:2] != b"MZ" or program[header : header + 4] != b"PE\0\0":
            return b""
        optional = header + 24
        (magic,) = struct.unpack_from("<H", program, optional)
        directories = optional + (112 if magic == 0x20B else 96)
        if struct.unpack_from("<I", program, directories - 4)[0] <= _SECURITY_DIRECTORY:
            return b""
        offset, size = struct.unpack_from("<II", program, directories + 8 * _SECURITY_DIRECTORY)
        if not size:
            return b""
        length, dummy, kind = struct.unpack_from("<IHH", program, offset)
    except struct.error:
        return b""
    if kind != _PKCS_SIGNED_DATA or not 8 <= length <= size or offset + length > len(program):
        return b""
    return program[offset + 8 : offset + length]
