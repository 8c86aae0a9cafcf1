# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The built Windows on HTTPS: its certificate made for the run, trusted as itself, and gone from the image with its key."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import integration_support as support
import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import windows_certificate
from integration_support import Played, Project

RUN = "https"


class Run:
    """The run, played once: first the build, to look at the computer, then the capture."""

    def __init__(self, project: Project) -> None:
        self.project = project
        host = project.host("ref01")
        host["osd_windows_connection"] = {**host["osd_windows_connection"], "scheme": "https"}
        project.write_inventory({"ref01": host}, {"osd_run": RUN, "osd_state_dir": str(project.state), **support.bare()})
        self.built: Played = project.play("build.yml")
        self.address = project.address("ref01", "windows")
        self.ports = {port: listens(self.address, port) for port in (5985, 5986)}
        self.served = served_certificate(self.address) if self.ports[5986] else b""
        windows = [path for path in project.computer_folder("ref01").glob("disks/*/volumes/*") if (path / "Windows").is_dir()]
        self.secrets_on_disk = (
            [str(path) for path in windows[0].rglob("*") if path.name in ("windows.pfx", "password.txt")] if windows else []
        )
        self.key_files = [path for path in windows[0].rglob("*") if path.parent.name == "Keys"] if windows else []
        self.certificates = (
            support.hives_of(windows[0])["SOFTWARE"].below(r"microsoft\systemcertificates\my\certificates") if windows else []
        )
        self.distrusted: Played = self._with_another_certificate()
        self.captured: Played = project.play("capture.yml")

    def _with_another_certificate(self) -> Played:
        """Capture while the control node trusts another certificate than the one that is served."""
        (place,) = self.project.state.rglob("windows-certificate.pem")
        own = place.read_bytes()
        place.write_bytes(windows_certificate.make()[0])
        try:
            return self.project.play("capture.yml")
        finally:
            place.write_bytes(own)


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def served_certificate(address: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 5986), 5) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def run(new_project: Callable[..., Project]) -> Run:
    return Run(new_project({"name": "ref01", "firmware": "uefi"}))


@pytest.fixture(scope="module")
def windows(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run.captured.ok()
    return support.apply(run.project.capture / "reference.wim", 1, tmp_path_factory.mktemp("image") / "windows")


def certificate_of(run: Run) -> bytes:
    (file,) = run.project.state.rglob("windows-certificate.pem")
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def test_the_build_ends_in_a_windows_on_https_alone(run: Run) -> None:
    run.built.ok()
    assert run.ports == {5985: False, 5986: True}


def test_what_is_served_is_what_the_control_node_trusts(run: Run) -> None:
    run.built.ok()
    assert run.served == certificate_of(run)


def test_the_certificate_and_its_key_are_in_the_built_windows(run: Run) -> None:
    """Without them the tests of the image below would prove nothing."""
    run.built.ok()
    assert run.certificates == [hashlib.sha1(certificate_of(run)).hexdigest()]
    assert len(run.key_files) == 1


def test_another_certificate_of_the_same_name_is_refused(run: Run) -> None:
    assert run.distrusted.rc != 0
    assert f"{run.address}:5986" in run.distrusted.text
    assert "certificate" in run.distrusted.text
    assert "Traceback" not in run.distrusted.text


def test_setup_leaves_neither_pfx_nor_its_password(run: Run) -> None:
    run.built.ok()
    assert run.secrets_on_disk == []


def test_the_image_has_neither_certificate_nor_key_nor_listener(run: Run, windows: Path) -> None:
    thumbprint = hashlib.sha1(certificate_of(run)).hexdigest()
    hives = support.hives_of(windows)
    software, system = hives["SOFTWARE"], hives["SYSTEM"]
    assert not software.has(rf"microsoft\systemcertificates\my\certificates\{thumbprint}")
    assert not software.has(r"microsoft\windows\currentversion\wsman\listener\*+https")
    assert system.below(r"controlset001\services\http\parameters\sslbindinginfo") == []
    assert [path for path in support.paths_of(windows) if path.startswith(r"programdata\microsoft\crypto\keys" + "\\")] == []
    rules: Any = system.keys[r"controlset001\services\sharedaccess\parameters\firewallpolicy\firewallrules"]
    assert not [rule for rule in rules.values() if "LPort=5986" in str(rule) or "osd-winrm" in str(rule)]


def test_no_file_of_the_image_holds_the_certificate(run: Run, windows: Path) -> None:
    der = certificate_of(run)
    assert [path for path in windows.rglob("*") if path.is_file() and der in path.read_bytes()] == []
