# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What opens Windows over HTTPS: what is written where, what is secret, and which key files were the import's."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import windows_certificate
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import https_opening, opening
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.https_opening import Https

HTTPS = Https("0123456789ABCDEF0123456789ABCDEF01234567", pfx=b"pfx", password="one-time-secret")


def test_the_script_and_the_command_hold_no_secret() -> None:
    assert b"one-time-secret" not in https_opening.script(HTTPS)
    assert "one-time-secret" not in https_opening.command_line()
    assert "one-time-secret" not in repr(HTTPS) and "pfx=" not in repr(HTTPS)
    assert HTTPS.as_dict() == {"thumbprint": HTTPS.thumbprint, "port": 5986}


def test_the_script_deletes_pfx_and_password_after_the_import() -> None:
    lines = https_opening.script(HTTPS).decode().splitlines()
    imported = next(i for i, line in enumerate(lines) if "-importpfx" in line)
    assert lines[imported + 2] == r"del /f /q C:\_osd\https\windows.pfx C:\_osd\https\password.txt"


def test_everything_is_written_below_the_work_folder_and_the_script_last() -> None:
    names = list(https_opening.files(HTTPS))
    assert all(name.startswith("_osd\\") for name in names)
    assert names[-1] == https_opening.SCRIPT


def test_https_opens_nothing_for_http() -> None:
    listed = opening.settings("192.0.2.7", https=HTTPS)
    assert not [s for s in listed if s.value.key == opening.WINRM_POLICY]
    (rule,) = [opening.parse_firewall_rule(str(s.value.data)) for s in listed if s.value.key == opening.FIREWALL_RULES]
    assert rule is not None
    assert rule.admits("192.0.2.7", 5986) and not rule.admits("192.0.2.7", 5985)


def test_private_keys_are_those_that_came_with_the_import() -> None:
    old = b"C:\\ProgramData\\Microsoft\\Crypto\\Keys\\one\r\n"
    assert https_opening.private_keys(old, old + b"C:\\ProgramData\\Microsoft\\Crypto\\RSA\\MachineKeys\\Two\r\n") == [
        r"programdata\microsoft\crypto\rsa\machinekeys\two"
    ]
    assert https_opening.private_keys(old, old) == []


def test_the_thumbprint_is_the_certificates_hash() -> None:
    certificate, https = windows_certificate.make()
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    assert https.thumbprint == hashlib.sha1(der).hexdigest().upper()
    assert b"PRIVATE KEY" not in certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_reads_the_pfx_as_old_windows_would(tmp_path: Path) -> None:
    certificate, https = windows_certificate.make()
    file = tmp_path / "windows.pfx"
    file.write_bytes(https.pfx)
    command = ["openssl", "pkcs12", "-legacy", "-info", "-in", str(file), "-nodes", "-passin", f"pass:{https.password}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pbeWithSHA1And3-KeyTripleDES-CBC" in shown.stderr
    assert certificate.decode().strip() in shown.stdout
    wrong = subprocess.run([*command[:-1], "pass:other"], capture_output=True, check=False)
    assert wrong.returncode != 0
