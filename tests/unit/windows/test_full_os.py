# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What FullOs sends, through the real client and server to a shell that answers as a test wants; what it does is tested in the lab."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import full_os, job_files
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import CommandLineError, strip_cmd_quotes
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import ComputerLost, FileInfo, Job, JobStatus
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.full_os import FullOs
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.job_files import environment_cmd, run_cmd
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.job_files import job_files as files_of
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.scheduled_task import parse_task
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError, Server

FOLDER = r"C:\_osd\jobs\a"


def tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Command:
    """Ends when its input has ended, or at once where the line reads none."""

    def __init__(self, windows: Windows, line: str) -> None:
        self._windows = windows
        self._output: list[tuple[str, bytes]] = []
        self.exit_code: int | None = None
        windows.lines.append(strip_cmd_quotes(line))
        windows.inputs.append(b"")
        if "tar.exe -xf -" not in line:
            self.write(b"", True)

    def write(self, data: bytes, end: bool) -> None:
        self._windows.inputs[-1] += data
        if end:
            code, out, err = self._windows.answers.pop(0) if self._windows.answers else (0, b"", b"")
            self._output += [("stdout", out), ("stderr", err)]
            self.exit_code = code

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        found, self._output = self._output, []
        return found

    def terminate(self) -> None:
        pass


class Windows:
    """One file for CIM, tasks by their state, and what the next commands leave."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.inputs: list[bytes] = []
        self.answers: list[tuple[int, bytes, bytes]] = []
        self.tasks: dict[str, int] = {}

    def open(self, options: object) -> Windows:
        return self

    def start(self, line: str) -> Command:
        return Command(self, line)

    def close(self) -> None:
        pass

    def query(self, namespace: str, query: object) -> list[Instance]:
        return [Instance("CIM_DataFile", {"Name": r"c:\x.exe", "FileSize": 3, "Version": "1.2.3.4"}, namespace)]

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        raise AssertionError

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        if selectors["TaskName"] not in self.tasks:
            raise CimError(faults.WBEM_E_NOT_FOUND, "no such task")
        return Instance(class_name, {**selectors, "State": self.tasks[selectors["TaskName"]]}, namespace)

    def invoke(self, *dummy: object) -> dict[str, object]:
        raise AssertionError


@pytest.fixture
def windows():
    return Windows()


@pytest.fixture
def server(windows):
    return Server(SCHEMA, windows, shells=windows, identity=Identity("Microsoft Corporation", "OS: 10.0.20348 SP: 0.0 Stack: 3.0"))


@pytest.fixture
def computer(server):
    made = FullOs(Client(lambda body: server.handle(body, user="osd-run"), SCHEMA, operation_timeout=1))
    yield made
    made.close()


def test_a_short_job_is_one_command_of_three_requests(computer, windows):
    job = Job("a", (r"C:\x y\setup.exe", "/q", "50%"), environment={"KEY": "se%cret"}, stdin=b"in", time_limit=60, files={"x.cmd": b"x"})
    computer.run(["first"])
    before = computer.requests
    windows.answers = [(0, tar(rc_txt=b"3010 \r\n", out_log=b"done"), b"")]
    assert computer.start_job(job, 5) == JobStatus(3010, b"done", 4)
    # the command, its input, its output
    assert computer.requests == before + 3
    attempt = rf"{FOLDER}\{re.search(r'try-[0-9a-f]{32}', windows.lines[1])[0]}"
    assert windows.lines[1:] == [
        rf'if exist "{FOLDER}\begun" (tar.exe -tf - >nul 2>nul & call "{FOLDER}\follow.cmd" 5 0) '
        rf'else (mkdir "{FOLDER}" "C:\_osd\logs" 2>nul & icacls.exe "{FOLDER}" /inheritance:r '
        r'/grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" >nul '
        rf'&& mkdir "{attempt}" && ((tar.exe -xf - -C "{attempt}" && move /y "{attempt}\*" "{FOLDER}" >nul) '
        rf'|| (rd /s /q "{attempt}" & exit 1)) && (rd "{attempt}" 2>nul & call "{FOLDER}\follow.cmd" 5 0 begin))'
    ]
    with tarfile.open(fileobj=io.BytesIO(windows.inputs[1])) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    assert set(files) == {"x.cmd", "run.cmd", "follow.cmd", "task.xml", "env.cmd", "stdin.bin"}
    task = parse_task(files["task.xml"])
    assert (task.user, task.arguments, task.time_limit) == ("S-1-5-18", rf"/d /c {FOLDER}\run.cmd", 60)
    assert b"secret" not in files["run.cmd"]


def test_a_job_is_followed(computer, windows):
    line = rf'if exist "{FOLDER}\follow.cmd" (call "{FOLDER}\follow.cmd" 5 2) else exit 3'
    windows.answers = [(0, b"", b""), (0, tar(news_log=b"10 %"), b""), (0, tar(rc_txt=b"-2147024891\r\n", out_log=b"10 %100 %"), b"")]
    assert computer.job_status("a", 2, 5) == JobStatus(None, b"", 2)
    assert computer.job_status("a", 2, 5) == JobStatus(None, b" %", 4)
    assert computer.job_status("a", 4) == JobStatus(0x80070005, b"100 %", 9)
    assert windows.lines == [line, line, line.replace(" 5 2", " 0 4")]
    windows.answers = [(3, b"", b"")]
    with pytest.raises(KeyError):
        computer.job_status("b")
    windows.answers = [(0, tar(rc_txt=b"0\r\n"), b"")]
    assert computer.job_status("a") == JobStatus(0)


def test_what_fails_is_named_with_its_code(computer, windows):
    windows.answers = [(1, b"", b"x\r\nFEHLER: Zugriff verweigert\r\n"), (1, b"", b""), (0, b"no archive", b""), (1, b"", b"no room\r\n")]
    with pytest.raises(OSError, match="job a could not be started in Windows: code 1: FEHLER: Zugriff verweigert"):
        computer.start_job(Job("a", ("x.exe",)))
    with pytest.raises(OSError, match="job a could not be followed: code 1"):
        computer.job_status("a")
    windows.answers.insert(0, (0x40010004, b"", b""))
    with pytest.raises(ComputerLost, match="job a could not be followed: its command was ended with 0x40010004"):
        computer.job_status("a")
    with pytest.raises(OSError, match="no archive"):
        computer.job_status("a")
    with pytest.raises(OSError, match=r"C:\\x could not be written in Windows \(.*\): no room"):
        computer.put_file(r"C:\x", b"")


def test_a_task_that_ended_without_an_exit_code(computer, windows, monkeypatch):
    monkeypatch.setattr(full_os, "_TASK_INTERVAL", 0.0)
    for name, limit, expected in (("cut", 0, 1067), ("late", 1, 1460)):
        windows.tasks[name] = 4
        computer.start_job(Job(name, ("x.exe",), time_limit=limit))
        assert computer.job_status(name).exit_code is None
        windows.tasks[name] = 3
        if limit:
            computer._deadlines[name] = 0.0
        windows.answers = [(0, b"", b""), (0, b"", b""), (0, tar(rc_txt=f"{expected}\r\n".encode()), b"")]
        assert computer.job_status(name).exit_code == expected
        assert f'>"C:\\_osd\\jobs\\{name}\\rc.txt" echo {expected}' in windows.lines[-2]


def test_a_shell_that_is_gone_is_a_lost_computer(computer, server):
    assert computer.run(["mkdir.exe", "x"]).exit_code == 0
    server.close()
    with pytest.raises(ComputerLost, match=r"in which certutil\.exe was to run is gone"):
        computer.run(["certutil.exe", "x"])
    computer.job_status("a")
    server.close()
    with pytest.raises(ComputerLost, match="in which a job was to run is gone"):
        computer.job_status("a")
    assert computer.run(["mkdir.exe", "x"]).exit_code == 0


def test_files_that_cannot_be(computer, windows):
    assert computer.file_info(r"C:\x.exe") == FileInfo(3, "1.2.3.4")
    windows.answers = [(2, b"", b""), (3, b"", b""), (2, b"", b"")]
    with pytest.raises(FileNotFoundError):
        computer.get_file(r"C:\none")
    with pytest.raises(ValueError, match="larger than"):
        computer.get_file(r"C:\large")
    with pytest.raises(OSError, match="could not be computed"):
        computer.file_hash(r"C:\x.exe")
    with pytest.raises(NotImplementedError):
        computer.read_range(r"C:\x", 0, 1)
    for bad in ("C:", r"\\server\x", r"C:\%x%", 'C:\\a"b'):
        with pytest.raises(ValueError, match="no path of a file"):
            computer.put_file(bad, b"")
        with pytest.raises(ValueError, match="no path of a file"):
            computer.get_file(bad)
    with pytest.raises(ValueError, match="more than"):
        computer.put_file(r"C:\x", b"x" * 1048577)


def test_the_wrapper():
    assert run_cmd(Job("a", ("dism.exe", "/x:50%", "a b"), directory=r"C:\50% d")) == [
        "@echo off",
        'cd /d "%~dp0"',
        "mkdir begun 2>nul || goto end",
        r'cd /d "C:\50%% d"',
        'dism.exe /x:50%% "a b" 1>"%~dp0out.log" 2>&1 <nul',
        "set OSD_RC=%ERRORLEVEL%",
        '>"%~dp0rc.tmp" echo %OSD_RC%',
        'move /y "%~dp0rc.tmp" "%~dp0rc.txt" >nul',
        ":end",
    ]
    assert run_cmd(Job("a", (r"C:\x.cmd", "50%")))[3].startswith(r"call C:\x.cmd 50%%%% 1>")
    with_input = run_cmd(Job("a", ("x.exe",), stdin=b"i", environment={"A": "b"}))
    assert 'x.exe 1>"%~dp0out.log" 2>&1 <"%~dp0stdin.bin"' in with_input
    assert with_input.index('del /q "%~dp0env.cmd"') < with_input.index('x.exe 1>"%~dp0out.log" 2>&1 <"%~dp0stdin.bin"')
    # once before the exit code is written, once where the job had begun already
    assert with_input.count('del /q "%~dp0stdin.bin" 2>nul') == 2
    assert with_input.index(":end") < len(with_input) - 1 - with_input[::-1].index('del /q "%~dp0env.cmd" 2>nul')
    assert files_of(Job("a", ("ü.exe",)))["run.cmd"].startswith(b"@echo off\r\nchcp 65001 >nul\r\n")
    assert environment_cmd({"A": 'x"y%'}) == ["@echo off", 'set "A=x"y%%"']
    for bad in ({"A": 'x"&y'}, {"A B": "x"}, {"A": "x\ny"}):
        with pytest.raises(CommandLineError):
            environment_cmd(bad)
    assert job_files.job_folder("x") == r"C:\_osd\jobs\x"
