# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded requests put to a whole lab computer that runs Windows: its cmd.exe is what answers, over the wire, by sealed NTLM.

Whatever does not depend on the computer has the recorded shape; of what a command wrote, all that its request decides.
``recordings.md`` is the table.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import client, envelope
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns

sys.path.insert(0, str(Path(__file__).parent))

from recorded import ANSWERED, PYPSRP, compare_config, exchanges, learn, shape  # noqa: E402

pytest.importorskip("winrm")
pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")
PASSWORD = "Old-Pass-1"

#: Recording → what its commands must have written, where the request decides it: all of it, or parts that are in it.
WROTE: dict[str, dict[str, Any]] = {
    "test_client_execute_cmd": {"parts": [b"abc\r\n"]},
    "test_client_execute_cmd_environment": {"parts": [b"int=1234\r\n", b"hyphen - var=abc @ 123\r\n", b'double_quote=double " quote\r\n']},
    "test_winrs_environment": {"parts": [b"1234=5678\r\n", b'_-(){}[]<>*+-/\\?"!@#$^&|;:i,.`~0=_-(){}[]<>*+-/\\?"!@#$^&|;:i,.`~0\r\n']},
    "test_winrs_noprofile": {"parts": [b"SystemDrive=C:\r\n"]},
    "test_winrs_standard": {"stdout": b"hi\r\n"},
    "test_winrs_stderr_rc": {"stdout": b"out \r\n", "stderr": b"err \r\n"},
}
#: Their commands are PowerShell's: the lab has none, as the product sends none, and says so instead.
POWERSHELL = {
    "test_winrs_extra_opts",
    "test_winrs_no_cmd_shell",
    "test_winrs_operation_timeout",
    "test_winrs_send",
    "test_winrs_unicode",
}


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[int, bytes]]]:
    """Send a request to a lab computer in Windows, as Administrator; return status and answer."""
    from winrm.exceptions import WinRMTransportError
    from winrm.protocol import Protocol

    folder = tmp_path_factory.mktemp("lab") / "pc"
    address = prepare.addresses(f"127.{150 + os.getpid() % 50}.{os.getpid() // 50 % 250}.0/24", 0)
    parts = hardware.make("pc", 1, {"media": []}, address)
    parts.save(folder)
    prepare.make_existing_windows(folder, parts, {"password": PASSWORD})
    computer = LabComputer(folder, LabNetwork.from_plain({}), Settings(speed=2000))
    computer.power_on()
    try:
        assert wait_for_state(computer, {"windows", "lab_defect"}, 20) == "windows", computer.message
        url = f"http://{address['windows']}:5985/wsman"
        protocol = Protocol(url, transport="ntlm", username="Administrator", password=PASSWORD, proxy=None, ca_trust_path=None)

        def send(body: str) -> tuple[int, bytes]:
            protocol.transport.build_session()
            try:
                return 200, protocol.transport.send_message(body.encode())
            except WinRMTransportError as problem:
                text = problem.response_text
                return problem.code, text if isinstance(text, bytes) else text.encode()

        yield send
    finally:
        computer.power_off()


@pytest.mark.parametrize("name", [name for name in ANSWERED if name not in POWERSHELL])
def test_requests(corpora: Path, foreign_file: Callable[[Path], Path], post: Callable[[str], tuple[int, bytes]], name: str) -> None:
    """Every request of a recording is answered in its shape; the command writes what the request decides, with the recorded code."""
    ids: dict[str, str] = {}
    streams = {"stdout": b"", "stderr": b""}
    for request, recorded in exchanges(foreign_file(corpora / PYPSRP / f"{name}.yml")):
        for theirs, ours in ids.items():
            request = request.replace(theirs, ours)
        status, answer = post(request)
        while "CommandState/Done" in recorded and b"CommandState/Running" in answer:
            # As real clients do; how often depends on the computer.
            _collect(streams, answer)
            status, answer = post(request)
        learn(ids, recorded, answer.decode())
        for theirs, ours in ids.items():
            recorded = recorded.replace(theirs, ours)
        assert (status == 500) == ("<s:Fault>" in recorded), answer
        if ns.CONFIG in request:
            compare_config(recorded, answer)
        elif "ReceiveResponse" in recorded:
            _collect(streams, answer)
            assert _without_streams(shape(answer)) == _without_streams(shape(recorded.encode()))
        else:
            assert shape(answer) == shape(recorded.encode())
        assert envelope.parse(answer).header.relates_to == envelope.parse(request.encode()).header.message_id
    wrote = WROTE.get(name, {})
    assert all(part in streams["stdout"] for part in wrote.get("parts", ())), streams
    assert all(streams[stream] == data for stream, data in wrote.items() if stream != "parts"), streams


@pytest.mark.parametrize("name", sorted(POWERSHELL))
def test_powershell_is_no_program_of_the_lab(
    corpora: Path, foreign_file: Callable[[Path], Path], post: Callable[[str], tuple[int, bytes]], name: str
) -> None:
    """Shell and command are answered in the recorded shape; the command ends with one sentence instead of what PowerShell wrote."""
    ids: dict[str, str] = {}
    streams = {"stdout": b"", "stderr": b""}
    for request, recorded in exchanges(foreign_file(corpora / PYPSRP / f"{name}.yml")):
        if "<s:Fault>" in recorded or "shell/Send<" in request:
            continue  # of programs that run for long, read their input or are not found
        for theirs, ours in ids.items():
            request = request.replace(theirs, ours)
        status, answer = post(request)
        learn(ids, recorded, answer.decode())
        for theirs, ours in ids.items():
            recorded = recorded.replace(theirs, ours)
        assert status == 200, answer
        if "ReceiveResponse" not in recorded:
            assert shape(answer) == shape(recorded.encode())
        elif not any(streams.values()):
            code = _collect(streams, answer)
            assert code
    assert b"gather_facts: false" in streams["stdout"] + streams["stderr"]


def _collect(streams: dict[str, bytes], answer: bytes) -> int | None:
    """Take what a command wrote; return its exit code, None where it runs."""
    chunks, code = client.parse_receive(envelope.parse(answer).content)
    for stream, data in chunks:
        streams[stream] += data
    return code


def _without_streams(found: object) -> object:
    """Leave out what a command wrote: how many pieces it comes in differs from run to run."""
    if isinstance(found, list):
        return [_without_streams(part) for part in found if not (isinstance(part, tuple) and part[0] == f"{{{ns.SHELL}}}Stream")]
    return tuple(_without_streams(part) for part in found) if isinstance(found, tuple) else found


def test_the_table_says_which() -> None:
    table = (Path(__file__).parent / "recordings.md").read_text(encoding="utf-8")
    for name in ANSWERED:
        assert f"| `{name}` | answered | {'not applicable' if name in POWERSHELL else 'answered'} |" in table, name
