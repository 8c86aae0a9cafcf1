# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running lab computer refuses on the wire: what Windows lacks, too many shells, silent connections; faults in their four shapes."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import LabFileSystem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import SYSTEM, Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import OTHER_CLASSES, SCHEMA, WINDOWS_CLASSES
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults, wql
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, identify_request
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Schema

pytest.importorskip("winrm")
pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

PASSWORD = "Old-Pass-1"
CIMV2 = "root/cimv2"
#: What a client might believe there is, and Windows lacks.
BELIEVED = Schema(
    {
        **WINDOWS_CLASSES,
        **OTHER_CLASSES,
        CIMV2: {
            **WINDOWS_CLASSES[CIMV2],
            "Win32_Nonsense": "key string Name",
            "Win32_BIOS": f"{WINDOWS_CLASSES[CIMV2]['Win32_BIOS']}; string Nonsense",
            "Win32_OperatingSystem": f"{WINDOWS_CLASSES[CIMV2]['Win32_OperatingSystem']}; Nonsense(); Reboot(string Nonsense)",
            "Win32_Process": "key string Handle; static Nonsense(string CommandLine) -> uint32 ProcessId",
        },
    }
)


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory, addresses_of: Callable[[int], dict[str, str]]) -> Iterator[LabComputer]:
    folder = tmp_path_factory.mktemp("wire") / "pc"
    parts = hardware.make("pc", 1, {}, addresses_of(8))
    parts.save(folder)
    prepare.make_existing_windows(folder, parts, {"password": PASSWORD})
    made = LabComputer(folder, LabNetwork.from_plain({}), Settings(speed=2000))
    made.power_on()
    assert wait_for_state(made, {"windows", "lab_defect"}, 20) == "windows", made.message
    yield made
    made.power_off()


class Wire:
    """Envelopes over pywinrm's sealed NTLM; the last answer stays as it came."""

    def __init__(self, address: str) -> None:
        from winrm.protocol import Protocol

        url = f"http://{address}:5985/wsman"
        self._protocol = Protocol(url, transport="ntlm", username="Administrator", password=PASSWORD, proxy=None, ca_trust_path=None)
        self.answer = b""

    def send(self, body: bytes) -> tuple[int, bytes]:
        from winrm.exceptions import WinRMTransportError

        self._protocol.transport.build_session()
        try:
            answer = self._protocol.transport.send_message(body)
        except WinRMTransportError as error:
            self.answer = str(error.response_text).encode()
            return int(error.code), self.answer
        self.answer = answer if isinstance(answer, bytes) else answer.encode()
        return 200, self.answer


@pytest.fixture
def wire(computer: LabComputer) -> Wire:
    return Wire(computer.hardware.addresses["windows"])


# --- what Windows lacks


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.query("SELECT * FROM Win32_Nonsense"),
        lambda c: c.query("SELECT Name FROM Win32_Nonsense"),
        lambda c: c.get("Win32_Nonsense", {"Name": "x"}),
        lambda c: c.query("SELECT Nonsense FROM Win32_BIOS"),
        lambda c: c.query("SELECT * FROM Win32_BIOS WHERE Nonsense='x'"),
        lambda c: c.query("SELECT * FROM Win32_BIOS", "root/nonsense"),
        lambda c: c.query("SELECT * FROM SMS_Client", "root/ccm"),
        lambda c: c.invoke("Win32_Process", "Nonsense", {"CommandLine": "x"}),
        lambda c: c.invoke("Win32_OperatingSystem", "Nonsense", {}, selectors={}),
        lambda c: c.invoke("Win32_OperatingSystem", "Reboot", {"Nonsense": "x"}, selectors={}),
        lambda c: c.get("Win32_Process", {"Handle": "99999"}),
    ],
)
def test_what_windows_lacks_is_refused(computer: LabComputer, wire: Wire, ask: Callable[[Client], Any]) -> None:
    with pytest.raises(WsmanFault):
        ask(Client(wire.send, BELIEVED))
    assert b"Fault" in wire.answer, "the lab refused it, not the client"
    assert computer.state == "windows"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense.exe", 1),
        (r"C:\Windows\System32\nonsense.exe", 1),
        ("wmic os get name", 1),
        ("curl.exe --nonsense", 2),
        ("dism.exe /Online /Nonsense", 87),
        ("schtasks /nonsense", 1),
        ("net nonsense", 1),
    ],
)
def test_what_the_tools_lack_is_never_zero(wire: Wire, line: str, code: int) -> None:
    with Client(wire.send, SCHEMA).open_shell() as shell:
        assert shell.run(line)[0] == code


# --- files, which are asked for by name


def test_files_are_found_by_one_of_several_names_and_never_by_looking_everywhere(wire: Wire) -> None:
    client = Client(wire.send, SCHEMA)
    system, none = (f"Name={wql.quote(name)}" for name in (r"c:\windows\system32\config\system", r"c:\none.log"))
    rows = client.query(f"SELECT Name FROM CIM_DataFile WHERE {none} OR {system}")
    assert [row["Name"] for row in rows] == [r"c:\windows\system32\config\system"]
    with pytest.raises(WsmanFault, match="without the full Name"):
        client.query(f"SELECT Name FROM CIM_DataFile WHERE {system} OR FileSize=1")


# --- the four shapes


def test_faults_come_in_four_shapes(wire: Wire) -> None:
    client = Client(wire.send, BELIEVED)
    shapes = {}
    with pytest.raises(WsmanFault):
        client.query("SELECT * FROM Win32_BIOS", "root/nonsense")
    shapes["provider"] = wire.answer
    with pytest.raises(WsmanFault):
        client.query("SELECT * FROM CIM_DataFile")
    shapes["wmi"] = wire.answer
    request = client_request(wire)
    wire.send(re.sub(rb"http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd", b"http://example.org/nothing", request))
    shapes["wsman"] = wire.answer
    wire.send(request.replace(b"</s:Header>", b'<x:New xmlns:x="urn:new" s:mustUnderstand="true">1</x:New></s:Header>'))
    shapes["plain"] = wire.answer
    found = {name: shape_of(answer) for name, answer in shapes.items()}
    assert found == {name: name for name in shapes}


def client_request(wire: Wire) -> bytes:
    """Return the envelope that opens a shell."""
    sent: list[bytes] = []

    def keep(body: bytes) -> tuple[int, bytes]:
        sent.append(body)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Client(keep, SCHEMA).open_shell().__enter__()
    return sent[0]


def shape_of(answer: bytes) -> str:
    if b"Detail>" not in answer:
        return "plain"
    if b"MSFT_WmiError" in answer:
        return "wmi"
    return "provider" if b"ProviderFault" in answer else "wsman"


# --- quotas and connections


def test_the_thirty_first_shell_is_refused(wire: Wire) -> None:
    client = Client(wire.send, SCHEMA)
    shells = [client.open_shell() for dummy in range(30)]
    try:
        with pytest.raises(WsmanFault) as refused:
            client.open_shell()
        assert refused.value.code == faults.QUOTA_MAX_SHELLS
    finally:
        for shell in shells:
            shell.close()
    client.open_shell().close()


def test_a_silent_connection_is_closed(computer: LabComputer) -> None:
    """120 s on Windows; at this lab's speed the shortest there is."""
    with socket.create_connection((computer.hardware.addresses["windows"], 5985), 10) as connection:
        body = identify_request()
        head = f"POST /wsman HTTP/1.1\r\nHost: x\r\nWSMANIDENTIFY: unauthenticated\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 8


# --- the host's files


@pytest.mark.parametrize(
    "path",
    [
        r"C:\..\..\..\..\..\..\..\..\..\..\etc\passwd",
        "C:/../../../../../../../../../../etc/passwd",
        r"C:\Windows\..\..\..\..\..\..\..\..\..\..\..\etc\passwd",
        r"\\?\C:\..\..\..\..\..\etc\passwd",
        r"\\.\C:\etc\passwd",
        r"\\localhost\C$\etc\passwd",
        r"C:\link\passwd",
        r"C:\LINK~1\passwd",
        r"C:\link::$INDEX_ALLOCATION\passwd",
        "/etc/passwd",
        r"\etc\passwd",
        r"Z:\etc\passwd",
    ],
)
def test_no_name_leads_to_the_host(computer: LabComputer, path: str) -> None:
    assert Path("/etc/passwd").is_file()
    assert computer.machine is not None
    link = computer.machine.windows_root / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    files: LabFileSystem = computer.machine.files(SYSTEM)
    with pytest.raises(Win32Problem):
        files.read(path)


@pytest.mark.parametrize("line", [r"type C:\link\passwd", r"copy C:\link\passwd C:\copy.txt", r"type C:\..\..\..\..\..\..\etc\passwd"])
def test_no_command_shows_the_host(computer: LabComputer, wire: Wire, line: str) -> None:
    assert computer.machine is not None
    link = computer.machine.windows_root / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    with Client(wire.send, SCHEMA).open_shell() as shell:
        code, out, error = shell.run(line)
    assert code != 0
    assert b"root:" not in out + error
    assert not (computer.machine.windows_root / "copy.txt").exists()
