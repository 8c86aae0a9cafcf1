# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WinRS on a lab computer, through the protocol's own client and server, and detached processes."""

from __future__ import annotations

import io
import time

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session, Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.winrs import JobProcess, WinrsProvider
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import cmd_line
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import Identity, Server


class _NoCim:
    pass


def client(bench, session: Session | None = None) -> Client:
    own = session or bench.session
    provider = WinrsProvider(bench.machine, lambda user: own)
    server = Server(SCHEMA, _NoCim(), shells=provider, identity=Identity("v", "p", "w"))
    return Client(lambda body: server.handle(body, user="osd"), SCHEMA)


def test_command_over_the_wire(pe) -> None:
    with client(pe).open_shell() as shell:
        code, out, err = shell.run(cmd_line(["cmd.exe", "/d", "/c", "echo", "a b"]), timeout=10)
        assert (code, err) == (0, b"")
        assert out == b'"a b"\r\n'
        assert shell.run("nosuch", timeout=10)[0] == 1
        assert shell.run("exit 3010", timeout=10)[0] == 3010
        assert shell.run("exit -2147024891", timeout=10)[0] == 0x80070005


def test_stdin(pe) -> None:
    with client(pe).open_shell() as shell:
        data = b"".join(f"line {n}\r\n".encode() for n in range(30000))
        code, out, dummy = shell.run('find /c "line"', stdin=data, timeout=20)
        assert (code, out) == (0, b"30000\r\n")


def test_powershell_gets_one_sentence(pe) -> None:
    with client(pe).open_shell() as shell:
        code, dummy, err = shell.run("PowerShell -NoProfile -EncodedCommand AAAA", timeout=10)
        assert code == 1
        assert err.count(b"gather_facts: false") == 1


def test_directory_and_environment(windows) -> None:
    with client(windows).open_shell(directory=r"C:\Windows\System32", environment={"WORD": "hello"}) as shell:
        assert shell.run("cd & echo %WORD%", timeout=10)[1] == b"C:\\Windows\\System32\r\nhello\r\n"


def test_the_shells_end_ends_its_commands(windows) -> None:
    shell = WinrsProvider(windows.machine, lambda user: windows.session).open(
        __import__("types").SimpleNamespace(user="x", directory="", environment={}, codepage=65001, no_profile=True)
    )
    running = shell.start(r"ping -n 100000000 localhost & echo x> C:\after.txt")
    deadline = time.monotonic() + 5
    while not any(p.name == "ping.exe" for p in windows.machine.processes.list()) and time.monotonic() < deadline:
        running.read(0.02)
    assert any(p.name == "ping.exe" for p in windows.machine.processes.list())
    shell.close()
    assert running.wait(5)
    assert not any(p.name in ("ping.exe", "cmd.exe", "winrshost.exe") for p in windows.machine.processes.list())
    assert not windows.files.exists(r"C:\after.txt")


def test_detached_process(windows) -> None:
    out = io.BytesIO()
    job = JobProcess(windows.machine, windows.session, "cmd.exe /c echo done & exit 5", stdout=out)
    assert job.wait(5) == 5
    assert out.getvalue() == b"done \r\n"
    with pytest.raises(Win32Problem) as caught:
        JobProcess(windows.machine, windows.session, "nosuch.exe")
    assert caught.value.code == 2


def test_ended_process_has_the_code_it_was_ended_with(windows) -> None:
    job = JobProcess(windows.machine, windows.session, "ping -n 100000000 localhost")
    job.terminate(1460)
    assert job.wait(5) == 1460


def test_sysprep(windows) -> None:
    line = r"C:\Windows\System32\Sysprep\sysprep.exe /generalize /oobe /quiet"
    assert windows.run(f"{line} /frobnicate").code == 87
    assert windows.run(rf"{line} /quit /unattend:C:\none.xml").code == 87
    result = windows.run(f"{line} /quit")
    assert result.code == 0, result
    state = windows.machine.registry.find(r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State")
    assert state.get_string("", "ImageState") == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    assert windows.files.is_file(r"C:\Windows\System32\Sysprep\Sysprep_succeeded.tag")
