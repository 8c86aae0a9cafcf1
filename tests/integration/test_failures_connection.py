# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer that cannot be spoken to: each reason has its own message, which names the place and the variables to look at."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import certificates
from failures_support import FAILED, LOOK, OLD_PASSWORD, UNREACHABLE, existing, play_tasks, the_message, with_winpe
from integration_support import Played, Project

CERTIFICATE_NAME = "windows-pe.goldimage.osd"
NOT_ACCEPTED = "the password is wrong, the user may not log on remotely, or that transport is off"
SECRETS = ("another-secret-of-these-tests", "not-the-password")


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    made = new_project({"name": "ref"}, {"name": "old", "starting_state": "existing_windows", "existing": {"password": OLD_PASSWORD}})
    made.wait_for("ref", "windows_pe")
    made.wait_for("old", "windows")
    return made


@pytest.fixture(scope="module")
def web_server() -> Iterator[str]:
    """A web server that answers whatever it is asked with a page; its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *dummy: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(server.server_address[1])
        server.shutdown()


@pytest.fixture(scope="module")
def ssh_server() -> Iterator[str]:
    """A server that speaks no TLS; its port."""

    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(server.server_address[1])
        server.shutdown()


@pytest.fixture(scope="module")
def other_certificate(project: Project) -> Path:
    """A certificate of the right name from another boot image, with its boot.json."""
    folder = project.folder / "other-boot"
    folder.mkdir()
    certificate, dummy = certificates.make(CERTIFICATE_NAME)
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "boot.json").write_bytes((project.lab / "content/boot/boot.json").read_bytes())
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def failed(project: Project, web_server: str, ssh_server: str, other_certificate: Path) -> Played:
    """One play in which every host has one mistake of its own."""
    ref, old = project.host("ref"), existing(project, "old")
    web = {"ansible_host": "127.0.0.1", "ansible_port": int(web_server), "ansible_winrm_scheme": "http"}
    hosts = {
        "another_secret": {**ref, "osd_secret": SECRETS[0]},
        "no_secret": {**ref, "osd_secret": ""},
        "short_secret": {**ref, "osd_secret": "too short"},
        "wrong_password_of_windows_pe": with_winpe(ref, password=SECRETS[1]),
        "wrong_password_of_windows": {**old, "ansible_user": r"OLD\somebody", "ansible_password": SECRETS[1]},
        "no_place": {"osd_machine": ref["osd_machine"]},
        "no_port": with_winpe(ref, port="https"),
        "no_such_setting": with_winpe(ref, certficate="boot.pem"),
        "web_server": {**old, **web, "ansible_winrm_transport": "basic"},
        "web_server_by_ntlm": {**old, **web},
        "web_server_or_windows_pe": {**old, **web, "osd_winpe_connection": {**ref["osd_winpe_connection"], "port": 5999}},
        "no_tls": with_winpe(ref, host="127.0.0.1", port=int(ssh_server)),
        "other_path": {**old, "ansible_winrm_path": "/elsewhere"},
        "other_certificate": with_winpe(ref, certificate=str(other_certificate)),
        "missing_certificate": with_winpe(ref, certificate=str(other_certificate.with_name("nowhere.pem"))),
        "damaged_certificate": with_winpe(ref, certificate=str(other_certificate.with_name("boot.json"))),
        "no_certificate": with_winpe(ref, certificate=None),
        "psrp": {**old, "ansible_connection": "psrp"},
        "ssh": {**old, "ansible_connection": "ssh"},
        "local": {**old, "ansible_connection": "local"},
    }
    return play_tasks(project, hosts, LOOK)


@pytest.fixture(scope="module")
def unreachable(project: Project) -> Played:
    """One play in which nobody listens where each host says."""
    ref, old = project.host("ref"), existing(project, "old")
    hosts = {
        "closed_port": with_winpe(ref, port=5999),
        "unknown_name": {**old, "ansible_host": "no-such-computer.invalid"},
        "neither": {**old, "ansible_port": 5999, "osd_winpe_connection": {**ref["osd_winpe_connection"], "port": 5998}},
    }
    return play_tasks(project, hosts, LOOK)


def test_no_wrong_password_is_shown(failed: Played) -> None:
    assert not [secret for secret in SECRETS if secret in failed.text]


def test_the_computers_of_these_tests_answer_where_everything_is_right(project: Project) -> None:
    play_tasks(project, {"ref": project.host("ref"), "old": existing(project, "old")}, LOOK).ok()


# --- the password


def test_another_secret_than_the_boot_images(project: Project, failed: Played) -> None:
    assert the_message(failed, FAILED, "another_secret") == (
        f"{project.address('ref', 'winpe')}:5986 does not accept the user 'osd' by basic: {NOT_ACCEPTED}. "
        "The password is derived from osd_secret: is that the osd_secret with which the boot image was made?"
    )


def test_a_secret_that_is_none(failed: Played) -> None:
    assert the_message(failed, FAILED, "no_secret") == (
        "osd_secret is not set: the passwords of Windows PE and of the run's account are derived from it. "
        "Put osd_secret into an Ansible Vault file of the group."
    )
    assert the_message(failed, FAILED, "short_secret") == "osd_secret has 9 characters; at least 16 are needed. Choose a longer one."


def test_a_wrong_password_of_windows_pe(project: Project, failed: Played) -> None:
    assert the_message(failed, FAILED, "wrong_password_of_windows_pe") == (
        f"{project.address('ref', 'winpe')}:5986 does not accept the user 'osd' by basic: {NOT_ACCEPTED}. "
        "Check user, password and transport in osd_winpe_connection."
    )


def test_a_wrong_password_of_the_windows_found(project: Project, failed: Played) -> None:
    assert the_message(failed, FAILED, "wrong_password_of_windows") == (
        rf"{project.address('old', 'windows')}:5985 does not accept the user 'OLD\somebody' by ntlm: {NOT_ACCEPTED}. "
        "Check user, password and transport in the host's ansible_* variables."
    )


# --- the place


def test_a_closed_port(project: Project, unreachable: Played) -> None:
    assert the_message(unreachable, UNREACHABLE, "closed_port") == (
        f"{project.address('ref', 'winpe')}:5999 refuses the connection: the computer is there, but nothing listens on that port (yet). "
        "Is it still starting, or in another environment? Is the port right in osd_winpe_connection?"
    )


def test_a_name_that_nobody_has(unreachable: Played) -> None:
    assert the_message(unreachable, UNREACHABLE, "unknown_name") == (
        "no-such-computer.invalid:5985 does not answer. "
        "Is the computer on, started and on the network? Are host and port right in the host's ansible_* variables?"
    )


def test_a_computer_that_answers_in_no_environment(project: Project, unreachable: Played) -> None:
    windows, winpe = (project.address(*place) for place in (("old", "windows"), ("ref", "winpe")))
    refuses = "refuses the connection: the computer is there, but nothing listens on that port (yet). Is it still starting, or in another "
    assert the_message(unreachable, UNREACHABLE, "neither") == (
        f"The computer does not answer. {windows}:5999 {refuses}environment? Is the port right in the host's ansible_* variables? "
        f"{winpe}:5998 {refuses}environment? Is the port right in osd_winpe_connection?"
    )


def test_an_inventory_that_names_no_place(failed: Played) -> None:
    assert the_message(failed, FAILED, "no_place") == (
        "The inventory says nowhere how the computer can be reached. "
        "Set osd_winpe_connection.host for a computer in Windows PE, or ansible_host and ansible_user for one in Windows."
    )


def test_a_port_that_is_none(failed: Played) -> None:
    assert the_message(failed, FAILED, "no_port") == (
        "osd_winpe_connection.port is 'https', which is no port number. Give a number from 1 to 65535, or leave it out."
    )


def test_a_setting_that_there_is_not(failed: Played) -> None:
    assert the_message(failed, FAILED, "no_such_setting") == (
        "osd_winpe_connection has no 'certficate'; it may have host, port, certificate, certificate_name, boot_image, user, password. "
        "Correct the host's variable."
    )


# --- what answers there


@pytest.mark.parametrize(
    ("host", "detail"),
    [
        ("web_server", "HTTP 200 with other content"),
        ("web_server_by_ntlm", "it does not ask for an account, or its answer lacks what WinRM sends"),
        ("web_server_or_windows_pe", "its answer to Identify is none"),
    ],
)
def test_a_web_server(web_server: str, failed: Played, host: str, detail: str) -> None:
    assert the_message(failed, FAILED, host) == (
        f"127.0.0.1:{web_server} answers, but not as WS-Management ({detail}). "
        "Check host, port, scheme (http) and path (/wsman) in the host's ansible_* variables."
    )


def test_a_server_without_tls(ssh_server: str, failed: Played) -> None:
    assert the_message(failed, FAILED, "no_tls") == (
        f"127.0.0.1:{ssh_server} answers, but not as WS-Management (it does not speak TLS as expected). "
        "Check host, port, scheme (https) and path (/wsman) in osd_winpe_connection."
    )


def test_another_path(project: Project, failed: Played) -> None:
    assert the_message(failed, FAILED, "other_path") == (
        f"{project.address('old', 'windows')}:5985 answers, but not as WS-Management (HTTP 404 without content). "
        "Check host, port, scheme (http) and path (/elsewhere) in the host's ansible_* variables."
    )


# --- the certificate


def test_the_certificate_of_another_boot_image(project: Project, other_certificate: Path, failed: Played) -> None:
    assert the_message(failed, FAILED, "other_certificate") == (
        f"{project.address('ref', 'winpe')}:5986 shows another certificate than the one that is trusted, {other_certificate} with the name "
        f"'{CERTIFICATE_NAME}'. Is it the right computer, and started from the right boot image? "
        "Then correct the certificate in osd_winpe_connection."
    )


def test_a_certificate_that_is_not_there(other_certificate: Path, failed: Played) -> None:
    assert the_message(failed, FAILED, "missing_certificate") == (
        f"The certificate of Windows PE is not there: {other_certificate.with_name('nowhere.pem')}. "
        "Correct osd_winpe_connection.certificate."
    )


def test_a_file_that_is_no_certificate(project: Project, other_certificate: Path, failed: Played) -> None:
    file = other_certificate.with_name("boot.json")
    assert the_message(failed, FAILED, "damaged_certificate") == (
        f"The certificate to trust at {project.address('ref', 'winpe')}:5986 cannot be read from {file}. "
        "Correct it in osd_winpe_connection."
    )


def test_windows_pe_is_never_trusted_blindly(failed: Played) -> None:
    assert the_message(failed, FAILED, "no_certificate") == (
        "The certificate of Windows PE is not declared. "
        "Set osd_winpe_connection.certificate to the certificate.pem that was made with the boot image."
    )


# --- the plugin


@pytest.mark.parametrize("plugin", ["psrp", "ssh", "local"])
def test_another_connection_plugin(failed: Played, plugin: str) -> None:
    assert the_message(failed, FAILED, plugin) == (
        f"This host is connected by the plugin 'ansible.builtin.{plugin}'; the steps speak WS-Management over Ansible's plugin winrm only. "
        "Set for this host: ansible_connection: winrm, with ansible_port, ansible_winrm_scheme and ansible_winrm_transport."
    )
