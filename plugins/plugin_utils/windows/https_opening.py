# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The built Windows on HTTPS: the listener's values, the script that Setup runs in specialize, and what all of that leaves behind.

The listener is registry values, written offline, since the certificate's thumbprint is known. The certificate itself needs Windows:
its key is protected with keys of that installation. Setup imports it in specialize and binds it to the port; PFX file and its one-time
password lie in the work folder, are deleted by the same script, and are worth nothing afterwards: certutil knows no other way than the
password on its own command line, which lasts as long as it runs and is in no file of Windows.
Facts: windows-mechanics 5.5 C (certutil, listener) [knowledge]; netsh http add sslcert, WinRM's application id [doc: win32/Http
netsh-http; knowledge]; where keys of certificates lie [doc: win32/SecCNG key-storage-and-retrieval].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .command_line import batch_line
from .names import WORK_FOLDER
from .registry import RegistryValue

HTTPS_PORT = 5986
#: The DNS name in the certificate, fixed: the computer's own is not known before Setup, and the certificate is trusted as itself.
CERTIFICATE_NAME = "windows.goldimage.osd"
#: Of the answer file's command, so that a second try replaces the first one's.
DESCRIPTION = "goldimage.osd: certificate of WinRM"

LISTENER = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WSMAN\Listener\*+HTTPS"
CERTIFICATES = r"SOFTWARE\Microsoft\SystemCertificates\MY\Certificates"
BINDINGS = r"SYSTEM\CurrentControlSet\Services\HTTP\Parameters\SslBindingInfo"
_APPLICATION = "{afebb9ad-9b97-4a91-9ab5-daf4d59122f6}"
_FOLDER = rf"{WORK_FOLDER}\https"
SCRIPT = rf"{_FOLDER}\open.cmd"
PFX = rf"{_FOLDER}\windows.pfx"
PASSWORD = rf"{_FOLDER}\password.txt"
KEYS_BEFORE = rf"{_FOLDER}\keys-before.txt"
KEYS_AFTER = rf"{_FOLDER}\keys-after.txt"
LOG = rf"{_FOLDER}\open.log"
_KEYS = r"C:\ProgramData\Microsoft\Crypto"


@dataclass(frozen=True)
class Https:
    """What opens Windows over HTTPS. ``pfx`` and ``password`` are there only while it is made; the run remembers the rest."""

    thumbprint: str
    port: int = HTTPS_PORT
    pfx: bytes = field(default=b"", repr=False)
    password: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, object]:
        """Return what the capture needs, as plain data."""
        return {"thumbprint": self.thumbprint, "port": self.port}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Https:
        """Read what :meth:`as_dict` gave."""
        return cls(str(plain["thumbprint"]), int(str(plain["port"])))

    @property
    def binding_key(self) -> str:
        """The key in which Windows keeps the port's binding to the certificate [knowledge]."""
        return rf"{BINDINGS}\0.0.0.0:{self.port}"

    @property
    def certificate_key(self) -> str:
        """The certificate's key in the store of the computer."""
        return rf"{CERTIFICATES}\{self.thumbprint}"


def values(https: Https) -> tuple[tuple[RegistryValue, str], ...]:
    """Return the listener's values, each with its reason."""
    reason = "WinRM's listener on HTTPS"
    return (
        (RegistryValue(LISTENER, "uriprefix", "REG_SZ", "wsman"), reason),
        (RegistryValue(LISTENER, "Port", "REG_DWORD", https.port), reason),
        (RegistryValue(LISTENER, "hostname", "REG_SZ", CERTIFICATE_NAME), reason),
        (RegistryValue(LISTENER, "certThumbprint", "REG_SZ", https.thumbprint), reason),
    )


def command_line() -> str:
    """Return what the answer file has Setup run."""
    return rf"cmd.exe /d /c C:\{SCRIPT}"


def script(https: Https) -> bytes:
    """Return the batch file. It holds no secret, and ends with 0: Setup goes on, the log says what went wrong."""
    system, drive = r"C:\Windows\System32", "C:\\"
    log = f">>{drive}{LOG} 2>&1"
    keys = rf"dir /b /s /a-d {_KEYS}"
    bind = [
        rf"{system}\netsh.exe",
        *("http", "add", "sslcert", f"ipport=0.0.0.0:{https.port}", f"certhash={https.thumbprint.lower()}"),
        *(f"appid={_APPLICATION}", "certstorename=MY"),
    ]
    lines = [
        "@echo off",
        f"{keys} >{drive}{KEYS_BEFORE} 2>nul",
        f"set /p secret=<{drive}{PASSWORD}",
        rf"{system}\certutil.exe -f -p %secret% -importpfx My {drive}{PFX} NoExport {log}",
        "set secret=",
        f"del /f /q {drive}{PFX} {drive}{PASSWORD}",
        f"{keys} >{drive}{KEYS_AFTER} 2>nul",
        f"{batch_line(bind)} {log}",
        "exit /b 0",
    ]
    return "".join(line + "\r\n" for line in lines).encode("ascii")


def files(https: Https) -> dict[str, bytes]:
    """Return what is written to the Windows volume, by path below its root. The script comes last."""
    return {PFX: https.pfx, PASSWORD: https.password.encode("ascii") + b"\r\n", SCRIPT: script(https)}


def private_keys(before: bytes, after: bytes) -> list[str]:
    r"""Return the key files that the import made, below the volume's root, from the lists of the script (``C:\ProgramData\…``)."""
    old = set(_lines(before))
    return [path[3:] for path in _lines(after) if path not in old]


def _lines(listed: bytes) -> Iterable[str]:
    return [line.strip().lower() for line in listed.decode("ascii", "replace").splitlines() if line.strip()]
