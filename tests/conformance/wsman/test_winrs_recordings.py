# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WinRS as recorded between pypsrp and Windows 2008 R2 to 2019, and faults recorded by WinRb.

Every recorded answer goes through the client's decoder; every recorded request goes into the server, whose answers must have the
recorded shape: the same elements, attributes, actions, codes, streams and exit codes. ``recordings.md`` is the table.
"""

from __future__ import annotations

import base64
import re
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import client, envelope, faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Schema
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Server

sys.path.insert(0, str(Path(__file__).parent))

from recorded import ANSWERED, PYPSRP, compare_config, exchanges, learn, paths, shape  # noqa: E402

WINRB = "winrm/WinRb+WinRM/tests/spec/stubs/responses"
MASTERZEN = "winrm/masterzen+winrm/development/sample_requests.txt"


def _recordings(corpora: Path) -> list[Path]:
    return [path for path in sorted((corpora / PYPSRP).glob("*.yml")) if path.stem != "_template"]


def test_the_table_names_every_recording(corpora):
    table = (Path(__file__).parent / "recordings.md").read_text(encoding="utf-8")
    names = [path.stem for path in _recordings(corpora)]
    names += [path.name for path in sorted((corpora / WINRB).glob("*.xml"))]
    names += ["sample_requests.txt"]
    missing = [name for name in names if f"`{name}`" not in table]
    assert missing == []
    for name in ANSWERED:
        assert re.search(rf"^\| `{name}` \| answered \|", table, re.MULTILINE), name


def test_every_recorded_answer_is_decoded(corpora, foreign_file):
    decoded = 0
    for path in _recordings(corpora):
        foreign_file(path)
        for request, answer in exchanges(path):
            sent = envelope.parse(request.encode())
            message = envelope.parse(answer.encode())
            assert message.header.relates_to.startswith("uuid:")
            _decode(sent, message)
            decoded += 1
    assert decoded > 90


def _decode(sent: envelope.Message, message: envelope.Message) -> None:
    content = message.content
    if faults.is_fault(content):
        fault = faults.fault_from_element(content, 500)
        assert fault.code is not None
        assert fault.reason
    elif sent.header.action == ns.ACTION_CREATE:
        assert re.fullmatch(r"[0-9A-F-]{36}", client._shell_id(content))
    elif sent.header.action == ns.ACTION_RECEIVE:
        chunks, exit_code = client.parse_receive(content)
        assert chunks or exit_code is not None or _state(content) == "Running"
    elif sent.header.action == ns.ACTION_COMMAND:
        assert envelope.child_text(content, "CommandId").strip()


def _state(content: ElementTree.Element) -> str:
    state = envelope.child(content, "CommandState")
    return "" if state is None else state.get("State", "").rpartition("/")[2]


class _Recorded:
    """A shell that writes what the recording holds, one Receive at a time."""

    def __init__(self, answers: list[str]) -> None:
        self.waiting = [envelope.parse(answer.encode()).content for answer in answers]
        self.exit_code: int | None = None
        self.refuse = False
        self.received = b""

    def open(self, options: object) -> _Recorded:
        self.options = options
        return self

    def start(self, command_line: str) -> _Recorded:
        if self.refuse:
            raise OSError(2, "The system cannot find the file specified. ")
        self.command_line = command_line
        self.exit_code = None
        return self

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        if timeout == 0 or not self.waiting:
            time.sleep(min(timeout, 0.02))
            return []
        content = self.waiting[0]
        if faults.is_fault(content):
            time.sleep(timeout)
            self.waiting.pop(0)
            return []
        self.waiting.pop(0)
        chunks, self.exit_code = client.parse_receive(content)
        return chunks

    def write(self, data: bytes, end: bool) -> None:
        self.received += data

    def terminate(self) -> None:
        pass

    def close(self) -> None:
        pass


def _server(shell: _Recorded) -> Server:
    return Server(Schema({}), None, shells=shell, identity=Identity("v", "p"), machine="m")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ANSWERED)
def test_recorded_requests_get_answers_of_the_recorded_shape(corpora, foreign_file, name):
    recording = exchanges(foreign_file(corpora / PYPSRP / f"{name}.yml"))
    receives = [a for r, a in recording if "shell/Receive<" in r and "InvalidSelectors" not in a and 'Code="87"' not in a]
    shell = _Recorded(receives)
    server = _server(shell)
    ids: dict[str, str] = {}
    for request, recorded in recording:
        shell.refuse = 'Code="2147942402"' in recorded
        body = re.sub(r"PT10S|PT20S|PT5S", "PT0.05S", request) if "TimedOut" in recorded else request
        for theirs, ours in ids.items():
            body = body.replace(theirs, ours)
        status, answer = server.handle(body.encode(), user="vagrant")
        assert (status == 500) == ("<s:Fault>" in recorded), answer
        learn(ids, recorded, answer.decode())
        for theirs, ours in ids.items():
            recorded = recorded.replace(theirs, ours)
        if ns.CONFIG in request:
            compare_config(recorded, answer)
            continue
        assert shape(answer) == shape(recorded.encode())
        assert envelope.parse(answer).header.relates_to == envelope.parse(body.encode()).header.message_id


def test_the_powershell_resource_is_refused(corpora, foreign_file):
    refused = 0
    for path in _recordings(corpora):
        if path.stem in ANSWERED:
            continue
        request = exchanges(foreign_file(path))[0][0]
        assert "/powershell/" in request
        status, answer = _server(_Recorded([])).handle(request.encode(), user="vagrant")
        assert status == 500
        assert faults.parse(answer).subcode == "DestinationUnreachable"
        refused += 1
    assert refused == len(_recordings(corpora)) - len(ANSWERED)


def test_what_the_recorded_commands_wrote(corpora, foreign_file):
    """Decoded by hand once, so that the decoder is not its own judge."""
    expected = {
        "test_winrs_standard": (b"hi\r\n", b"", 0),
        "test_winrs_send": (b"output 1\noutput 2\n", b"", 0),
        "test_winrs_operation_timeout": (b"hi\nhi again\n", b"", 0),
    }
    for name, result in expected.items():
        streams = {"stdout": b"", "stderr": b""}
        last: int | None = None
        for request, answer in exchanges(foreign_file(corpora / PYPSRP / f"{name}.yml")):
            content = envelope.parse(answer.encode()).content
            if "shell/Receive<" in request and not faults.is_fault(content):
                chunks, last = client.parse_receive(content)
                for stream, data in chunks:
                    streams[stream] += data
        assert (streams["stdout"], streams["stderr"], last) == result


def test_an_invalid_timeout_gets_the_recorded_fault(corpora, foreign_file):
    path = foreign_file(corpora / PYPSRP / "test_psrp_is_alive_other_wsman_error.yml")
    request, recorded = next(pair for pair in exchanges(path) if "PT-1S" in pair[0])
    status, answer = _server(_Recorded([])).handle(request.replace("powershell/Microsoft.PowerShell", "cmd").encode(), user="u")
    assert status == 500
    assert shape(answer)[1] == shape(recorded.encode())[1]


def test_recorded_faults(corpora, foreign_file):
    expected = {
        "soap_fault_v1.xml": (2150858778, None, "CannotProcessFilter", "The specified class does not exist"),
        "soap_fault_v2.xml": (2150858778, None, "CannotProcessFilter", "The specified class does not exist"),
        "soap_fault_omi.xml": (None, None, "InternalError", ""),
        "get_omi_config_response.xml": (None, None, "InternalError", ""),
        "wmi_error_v2.xml": (0x803381A5, 27, "QuotaLimit", "The WS-Management service cannot process the request."),
    }
    for name, (code, wmi_status, subcode, text) in expected.items():
        fault = faults.parse(foreign_file(corpora / WINRB / name).read_bytes(), 500)
        assert (fault.code, fault.wmi_status, fault.subcode) == (code, wmi_status, subcode), name
        assert fault.provider_text.startswith(text)
        assert fault.reason
        assert fault.is_quota == (name == "wmi_error_v2.xml")


def test_recorded_shells_of_three_services(corpora, foreign_file):
    for name, shell_id in (
        ("open_shell_v1.xml", r"uuid:[0-9A-F-]{36}|[0-9A-F-]{36}"),
        ("open_shell_v2.xml", r"[0-9A-F-]{36}"),
        ("open_shell_omi.xml", r"[0-9A-F-]{36}"),
    ):
        answer = foreign_file(corpora / WINRB / name).read_bytes()
        opened = Client(lambda dummy, answer=answer: (200, answer), Schema({})).open_shell()
        assert re.fullmatch(shell_id, opened.id), name


def test_the_faults_we_build_have_the_recorded_shape(corpora, foreign_file):
    recorded = foreign_file(corpora / WINRB / "wmi_error_v2.xml").read_bytes()
    fault = faults.FaultShape("r", 0x803381A5, "w:QuotaLimit", kind="wmi", cim_status=27)
    ours = {"/".join(p) for p in paths(envelope.parse(faults.build(fault)).content)}
    assert ours <= {"/".join(p) for p in paths(envelope.parse(recorded).content)}


def test_requests_of_the_go_client(corpora, foreign_file):
    """Written down by its author from winrs.exe; attributes without namespaces, command and arguments in one text."""
    text = foreign_file(corpora / MASTERZEN).read_text(encoding="utf-8")
    bodies = re.findall(r"<(?:env|s):Envelope.*?</(?:env|s):Envelope>", text, re.DOTALL)
    shell = _Recorded([])
    server = _server(shell)
    ids: dict[str, str] = {}
    answered = []
    for body in bodies:
        # The file's ids belong to different runs: whatever a request names stands for the one shell and command there are.
        body = re.sub(r'(Name="ShellId">\s*)[^<\s]+', lambda m: m[1] + ids.get("shell", ""), body)
        body = re.sub(r'(CommandId=")[^"]+', lambda m: m[1] + ids.get("command", ""), body)
        status, answer = server.handle(body.encode(), user="u")
        assert status == 200, answer
        message = envelope.parse(answer)
        answered.append(message.header.action.rpartition("/")[2])
        if answered[-1] == "CreateResponse":
            ids["shell"] = client._shell_id(message.content)
        elif answered[-1] == "CommandResponse":
            ids["command"] = envelope.child_text(message.content, "CommandId")
            shell.waiting = [_done(ids["command"])]
        elif answered[-1] == "DeleteResponse":
            break
    assert answered[:2] == ["CreateResponse", "CommandResponse"]
    assert answered[-1] == "DeleteResponse"


def _done(command_id: str) -> ElementTree.Element:
    data = base64.b64encode(b"x").decode()
    return ElementTree.fromstring(
        f'<r:ReceiveResponse xmlns:r="{ns.SHELL}"><r:Stream Name="stdout" CommandId="{command_id}">{data}</r:Stream>'
        f'<r:CommandState CommandId="{command_id}" State="{ns.COMMAND_DONE}"><r:ExitCode>0</r:ExitCode></r:CommandState>'
        f"</r:ReceiveResponse>"
    )
