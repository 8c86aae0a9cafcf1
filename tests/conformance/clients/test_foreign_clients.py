# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients that others wrote against real Windows: pywinrm and pypsrp, by Basic over HTTPS and by NTLM, sealed over HTTP."""

from __future__ import annotations

import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import requests
from agent_fakes import BOOTED, NAME, PASSWORD, Cim, Computer, Shells
from ansible_collections.goldimage.osd.plugins.plugin_utils import connection
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.http_server import HttpServer
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.settings import read_settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import ConnectionProblem, Endpoint, open_endpoint
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.ntlm import NtlmAuthenticator, certificate_der
from ansible_collections.goldimage.osd.plugins.plugin_utils.nt_hash import nt_hash
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Server

USER = "osd-run"


class Windows:
    """A WS-Management server behind NTLM, as in Windows."""

    def __init__(self, *, osd=None, idle_timeout: float = 120.0) -> None:
        self.shells = Shells()
        self.lookups: list[tuple[str, str]] = []
        self.carried_out: list[bytes] = []
        #: Cut the connection instead of answering what was just carried out.
        self.cut = False
        self.server = Server(
            SCHEMA, Cim(), shells=self.shells, identity=Identity("Microsoft Corporation", "OS: 10.0.20348 SP: 0.0 Stack: 3.0")
        )
        settings = read_settings(osd) if osd else None
        self.http = HttpServer(
            ("127.0.0.1", 0),
            wsman=self.answer,
            authenticator=NtlmAuthenticator(self.find, certificate=certificate_der(str(settings.certificate)) if settings else None),
            tls=settings.tls() if settings else None,
            idle_timeout=idle_timeout,
        )
        self.http.start()

    def answer(self, body: bytes, user: str | None, content_type: str) -> tuple[int, bytes]:
        answer = self.server.handle(body, user=user, content_type=content_type)
        self.carried_out.append(body)
        if self.cut:
            self.cut = False
            raise ConnectionAbortedError
        return answer

    def find(self, user: str, domain: str) -> bytes | None:
        self.lookups.append((user, domain))
        return nt_hash(PASSWORD) if user.lower() == USER else None

    @property
    def port(self) -> int:
        return self.http.port


@pytest.fixture
def agent(tmp_path):
    made = Computer(tmp_path)
    yield made
    made.service.stop()


@pytest.fixture
def windows():
    made = Windows()
    yield made
    made.http.stop()


@pytest.fixture
def secure_windows(tmp_path, agent):
    made = Windows(osd=agent.osd)
    yield made
    made.http.stop()


def ntlm(windows: Windows, **changes) -> Endpoint:
    return replace(Endpoint("127.0.0.1", windows.port, "http", USER, "ntlm", PASSWORD), **changes)


@pytest.fixture(autouse=True)
def plugin_by_its_short_name(monkeypatch):
    monkeypatch.setattr(connection, "_PLUGIN", "winrm")


def run_with_pywinrm(url: str, user: str, **options) -> None:
    import winrm

    session = winrm.Session(url, auth=(user, PASSWORD), proxy=None, **options)
    answer = session.run_cmd("ipconfig", ["/all", "fail"])
    assert (answer.status_code, answer.std_out, answer.std_err) == (3, b"<ipconfig /all fail>", b"warned")


def run_with_pypsrp(port: int, user: str, **options) -> None:
    from pypsrp.shell import Process, SignalCode, WinRS
    from pypsrp.wsman import WSMan

    with WSMan("127.0.0.1", port=port, username=user, password=PASSWORD, no_proxy=True, **options) as wsman, WinRS(wsman) as shell:
        process = Process(shell, "ipconfig", ["/all"])
        process.invoke()
        process.signal(SignalCode.CTRL_C)
        assert (process.rc, process.stdout, process.stderr) == (0, b"<ipconfig /all>", b"warned")


def test_pywinrm_basic_https(agent):
    run_with_pywinrm(f"https://127.0.0.1:{agent.port}/wsman", "osd", transport="ssl", server_cert_validation="ignore")


def test_pywinrm_ntlm_http_is_sealed(windows):
    run_with_pywinrm(f"http://127.0.0.1:{windows.port}/wsman", USER, transport="ntlm")
    run_with_pywinrm(f"http://127.0.0.1:{windows.port}/wsman", f"LAB\\{USER.upper()}", transport="ntlm")
    assert {domain for dummy, domain in windows.lookups} >= {"", "LAB"}


def test_pywinrm_ntlm_https_with_channel_binding(secure_windows):
    url = f"https://127.0.0.1:{secure_windows.port}/wsman"
    run_with_pywinrm(url, USER, transport="ntlm", server_cert_validation="ignore")


def test_pypsrp_basic_https(agent):
    run_with_pypsrp(agent.port, "osd", auth="basic", ssl=True, cert_validation=False)


@pytest.mark.parametrize("auth", ["ntlm", "negotiate"])
def test_pypsrp_over_http_is_sealed(windows, auth):
    run_with_pypsrp(windows.port, USER, auth=auth, ssl=False)


def test_pypsrp_negotiate_over_https(secure_windows):
    run_with_pypsrp(secure_windows.port, USER, auth="negotiate", ssl=True, cert_validation=False)


def test_messages_in_plain_text_are_refused_without_content(windows):
    from requests_ntlm import HttpNtlmAuth

    url = f"http://127.0.0.1:{windows.port}/wsman"
    answer = requests.post(url, data=b"<x/>", auth=HttpNtlmAuth(USER, PASSWORD), proxies={"no_proxy": "*"}, timeout=5)
    assert (answer.status_code, answer.content) == (500, b"")
    basic = requests.post(url, data=b"<x/>", auth=(USER, PASSWORD), proxies={"no_proxy": "*"}, timeout=5)
    assert (basic.status_code, basic.headers["WWW-Authenticate"]) == (401, "Negotiate")
    link = open_endpoint(ntlm(windows, extras={"ansible_winrm_message_encryption": "never"}))
    with pytest.raises(ConnectionProblem, match="AllowUnencrypted") as caught:
        link.client(SCHEMA).query("SELECT SystemDrive FROM Win32_OperatingSystem")
    assert caught.value.kind == connection.REFUSED


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"user": "nobody"}])
def test_wrong_credentials_by_ntlm(windows, change):
    link = open_endpoint(ntlm(windows, **change))
    with pytest.raises(ConnectionProblem) as caught:
        link.client(SCHEMA).query("SELECT SystemDrive FROM Win32_OperatingSystem")
    assert caught.value.kind == connection.WRONG_CREDENTIALS
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("change", [{"user": f"LAB\\{USER}"}, {"password": f"{'0' * 32}:{nt_hash(PASSWORD).hex()}"}])
def test_ntlm_with_a_domain_and_with_hashes_in_place_of_the_password(windows, change):
    link = open_endpoint(ntlm(windows, **change))
    assert link.client(SCHEMA).get("Win32_OperatingSystem")["SystemDrive"] == "X:"
    link.close()


def test_our_client_by_sealed_ntlm_and_after_an_idle_close():
    windows = Windows(idle_timeout=0.3)
    link = open_endpoint(ntlm(windows))
    client = link.client(SCHEMA)
    assert client.query("SELECT LastBootUpTime FROM Win32_OperatingSystem")[0]["LastBootUpTime"] == BOOTED
    with client.open_shell() as shell:
        assert shell.run("fail", timeout=5)[0] == 3
        # The server closes the silent connection; the shell belongs to the user, not to the connection.
        time.sleep(0.6)
        assert shell.run("stdin", stdin=b"\0" * 200_000, timeout=5)[1].startswith(b"\0" * 200_000)
    assert windows.shells.open_now == 0
    link.close()
    windows.http.stop()


def test_what_was_carried_out_before_its_connection_was_cut_is_not_sent_again(windows, monkeypatch):
    link = open_endpoint(ntlm(windows))
    client = link.client(SCHEMA)
    client.identify()
    windows.carried_out.clear()
    windows.cut = True
    with pytest.raises(ConnectionProblem) as caught:
        client.query("SELECT SystemDrive FROM Win32_OperatingSystem")
    assert (caught.value.kind, caught.value.in_doubt) == (connection.UNREACHABLE, True)
    assert len(windows.carried_out) == 1
    # The old session's key is worth nothing on another connection: the next request begins a new session at once.
    statuses = []
    authenticate = windows.http.authenticator.authenticate

    def noted(*given):
        outcome = authenticate(*given)
        statuses.append(outcome.status)
        return outcome

    monkeypatch.setattr(windows.http.authenticator, "authenticate", noted)
    assert client.query("SELECT SystemDrive FROM Win32_OperatingSystem")[0]["SystemDrive"] == "X:"
    assert 400 not in statuses and len(windows.carried_out) == 2
    link.close()


def test_a_sealed_session_is_renewed_before_windows_closes_it(windows, monkeypatch):
    link = open_endpoint(ntlm(windows))
    client = link.client(SCHEMA)
    client.identify()
    logons = len(windows.lookups)
    client.identify()
    assert len(windows.lookups) == logons
    monkeypatch.setattr(connection, "_IDLE_LIMIT", -1.0)
    assert client.identify().product_vendor == "Microsoft Corporation"
    assert len(windows.lookups) > logons
    link.close()


def test_our_client_by_ntlm_over_https_with_the_exact_certificate(secure_windows, agent):
    place = ntlm(secure_windows, scheme="https", certificate=agent.certificate, certificate_name=NAME)
    link = open_endpoint(place)
    assert link.client(SCHEMA).get("Win32_OperatingSystem")["SystemDrive"] == "X:"
    link.close()


def test_pypsrp_reads_objects(agent):
    from pypsrp.wsman import WSMan

    uri = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_OperatingSystem"
    with WSMan(
        "127.0.0.1", port=agent.port, username="osd", password=PASSWORD, auth="basic", ssl=True, cert_validation=False, no_proxy=True
    ) as wsman:
        answer = wsman.get(uri)
    assert "X:" in ElementTree.tostring(answer, "unicode")
