# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""FullOs through the real client and server to a small Windows: CIM_DataFile and tar over real folders, tasks as a test wants them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import full_os, job_files
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import CommandLineError, split, strip_cmd_quotes
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import ComputerLost, FileInfo, Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.full_os import FullOs
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.job_files import environment_cmd, run_cmd
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.job_files import job_files as files_of
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.scheduled_task import parse_task
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError, Server


class Command:
    def __init__(self, windows: Windows, line: str) -> None:
        self._windows, self._line, self._stdin = windows, line, b""
        self._output: list[tuple[str, bytes]] = []
        self.exit_code: int | None = None
        if "-xf -" not in line:
            self.write(b"", True)

    def write(self, data: bytes, end: bool) -> None:
        self._stdin += data
        if end:
            code, out, err = self._windows.cmd(strip_cmd_quotes(self._line), self._stdin)
            self._output += [("stdout", out), ("stderr", err)]
            self.exit_code = code

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        found, self._output = self._output, []
        return found

    def terminate(self) -> None:
        pass


class Windows:
    """Drive C: in a folder; the parts of cmd, tar, certutil and the Task Scheduler that FullOs uses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.tasks: dict[str, int] = {}
        self.registered: dict[str, str] = {}
        self.cim_tasks = True
        self.version: str | None = None

    # shells
    def open(self, options: object) -> Windows:
        return self

    def start(self, line: str) -> Command:
        return Command(self, line)

    def close(self) -> None:
        pass

    def host(self, path: str) -> Path:
        assert path[:3].lower() == "c:\\"
        return self.root / path[3:].replace("\\", "/").lower()

    def cmd(self, line: str, stdin: bytes) -> tuple[int, bytes, bytes]:
        self.lines.append(line)
        out = err = b""
        for part in line.replace(" & ", " && ").split(" && "):
            code, out, err = self.program(split(part.replace("2>nul", "").replace(">nul", "").strip()), stdin)
            if code:
                return code, out, err
        return 0, out, err

    def program(self, argv: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        name = argv[0].lower().removesuffix(".exe")
        if name == "tar" and argv[1] == "-xf":
            with tarfile.open(fileobj=io.BytesIO(stdin)) as archive:
                for member in archive:
                    target = self.host(argv[4] + member.name.replace("/", "\\"))
                    if target.is_dir():
                        return 1, b"", b"tar.exe: it is a folder\r\n"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
        elif name == "tar":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                for item in argv[5:]:
                    archive.add(self.host(f"{argv[4]}\\{item}"), arcname=item)
            return 0, buffer.getvalue(), b""
        elif name == "move":
            self.host(argv[2]).replace(self.host(argv[3]))
        elif name == "certutil":
            path = self.host(argv[2])
            if not path.exists():
                return 0x80070002, b"", b""
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            pairs = " ".join(digest[i : i + 2] for i in range(0, 64, 2))
            return 0, f"SHA256-Hash von {argv[2]}:\r\n{pairs}\r\nCertUtil: fertig.\r\n".encode(), b""
        elif name == "schtasks":
            if argv[1] == "/create":
                self.registered[argv[3].rpartition("\\")[2]] = self.host(argv[5]).read_bytes().decode("utf-16")
        elif name not in ("mkdir", "icacls"):
            return 9009, b"", b""
        return 0, b"", b""

    # CIM
    def query(self, namespace: str, query: object) -> list[Instance]:
        found = []
        for path in self.root.rglob("*"):
            if path.is_file():
                name = "c:\\" + str(path.relative_to(self.root)).replace("/", "\\")
                folder = name.rpartition("\\")[0][2:] + "\\"
                properties = {"Name": name, "Drive": "c:", "Path": folder, "FileSize": path.stat().st_size, "Version": self.version}
                found.append(Instance("CIM_DataFile", properties, namespace))
        return found

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        raise AssertionError

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        if selectors["TaskName"] not in self.tasks:
            raise CimError(faults.WBEM_E_NOT_FOUND, "no such task")
        return Instance(class_name, {**selectors, "State": self.tasks[selectors["TaskName"]]}, namespace)

    def invoke(self, namespace: str, class_name: str, method: str, selectors: object, arguments: Mapping[str, object]) -> dict[str, object]:
        if not self.cim_tasks:
            raise CimError(faults.WBEM_E_FAILED, "not here")
        name = str(arguments["TaskName"])
        assert arguments["TaskPath"] == "\\OSD\\"
        if method == "RegisterByXml":
            self.registered[name] = str(arguments["Xml"])
        else:
            self.tasks[name] = 4 if method == "StartByPath" else 3
        return {"ReturnValue": 0}


@pytest.fixture
def windows(tmp_path):
    return Windows(tmp_path)


@pytest.fixture
def server(windows):
    return Server(SCHEMA, windows, shells=windows, identity=Identity("Microsoft Corporation", "OS: 10.0.20348 SP: 0.0 Stack: 3.0"))


@pytest.fixture
def computer(server):
    made = FullOs(Client(lambda body: server.handle(body, user="osd-run"), SCHEMA, operation_timeout=1))
    yield made
    made.close()


def test_files(computer, windows):
    windows.version = "1.2.3.4"
    content = bytes(range(256)) * 1000
    computer.put_file(r"C:\_osd\a b\it's (x).bin", content)
    assert windows.lines[0].startswith("tar.exe -xf - -C C:\\ && move /y ")
    assert computer.get_file(r"C:\_OSD\A B\it's (x).bin") == content
    assert computer.file_hash(r"C:\_osd\a b\it's (x).bin") == hashlib.sha256(content).hexdigest()
    before = computer.requests
    assert computer.file_info(r"C:\_osd\a b\it's (x).bin") == FileInfo(256000, "1.2.3.4")
    assert computer.requests == before + 1
    assert computer.file_info(r"C:\none") is None
    with pytest.raises(FileNotFoundError):
        computer.get_file(r"C:\none")
    with pytest.raises(FileNotFoundError):
        computer.file_hash(r"C:\none")
    (windows.root / "folder.osdtmp").mkdir()
    with pytest.raises(OSError, match="it is a folder"):
        computer.put_file(r"C:\folder", b"")
    with pytest.raises(NotImplementedError):
        computer.read_range(r"C:\x", 0, 1)
    for bad in ("C:", r"\\server\x", r"C:\%x%", 'C:\\a"b'):
        with pytest.raises(ValueError, match="no path of a file"):
            computer.put_file(bad, b"")


def test_a_job_runs_as_a_system_task_and_is_found_again(computer, windows):
    job = Job("run-step-1", (r"C:\x y\setup.exe", "/q", "50%"), environment={"KEY": "se%cret"}, stdin=b"in", time_limit=60)
    with pytest.raises(KeyError):
        computer.job_status(job.id)
    computer.start_job(job)
    task = parse_task(windows.registered[job.id])
    assert (task.user, task.arguments, task.time_limit) == ("S-1-5-18", rf"/d /c C:\_osd\jobs\{job.id}\run.cmd", 60)
    assert windows.tasks[job.id] == 4
    folder = windows.root / "_osd" / "jobs" / job.id
    assert sorted(path.name for path in folder.iterdir()) == ["env.cmd", "run.cmd", "stdin.bin"]
    assert "icacls" in windows.lines[0]
    assert not any("secret" in line or "se%cret" in line for line in windows.lines)
    assert computer.job_status(job.id).exit_code is None
    (folder / "out.log").write_bytes(b"10 %")
    windows.registered.clear()
    computer.start_job(job)
    assert windows.registered == {}
    status = computer.job_status(job.id)
    assert (status.exit_code, status.output, status.offset) == (None, b"10 %", 4)
    before = computer.requests
    assert computer.job_status(job.id, 4).output == b""
    assert computer.requests - before <= 2
    (folder / "out.log").write_bytes(b"10 %100 %")
    (folder / "rc.txt").write_bytes(b"-2147024891 \r\n")
    status = computer.job_status(job.id, 4)
    assert (status.exit_code, status.output, status.offset) == (0x80070005, b"100 %", 9)


def test_a_task_that_ended_without_an_exit_code(computer, windows, monkeypatch):
    monkeypatch.setattr(full_os, "_TASK_INTERVAL", 0.0)
    for name, limit, expected in (("cut", 0, 1067), ("late", 1, 1460)):
        computer.start_job(Job(name, ("x.exe",), time_limit=limit))
        (windows.root / "_osd" / "jobs" / name / "out.log").write_bytes(b"")
        assert computer.job_status(name).exit_code is None
        windows.tasks[name] = 3
        if limit:
            computer._deadlines[name] = 0.0
        assert computer.job_status(name).exit_code == expected


def test_a_stopped_job_leaves_1460(computer, windows):
    computer.start_job(Job("long", ("x.exe",)))
    computer.stop_job("long")
    assert windows.tasks["long"] == 3
    assert computer.job_status("long").exit_code == 1460
    computer.stop_job("long")
    computer.stop_job("none")


def test_schtasks_where_the_cim_class_fails(computer, windows):
    windows.cim_tasks = False
    computer.start_job(Job("old", ("x.exe",)))
    assert "S-1-5-18" in windows.registered["old"]
    assert windows.lines[-1] == r"schtasks.exe /run /tn \OSD\old"


def test_a_shell_that_is_gone_is_a_lost_computer(computer, server):
    assert computer.run(["mkdir.exe", "x"]).exit_code == 0
    server.close()
    with pytest.raises(ComputerLost, match=r"in which certutil\.exe was to run is gone"):
        computer.run(["certutil.exe", "x"])
    assert computer.run(["mkdir.exe", "x"]).exit_code == 0


def test_the_wrapper():
    assert run_cmd(Job("a", ("dism.exe", "/x:50%", "a b"), directory=r"C:\50% d")) == [
        "@echo off",
        'cd /d "%~dp0"',
        r'cd /d "C:\50%% d"',
        'dism.exe /x:50%% "a b" 1>"%~dp0out.log" 2>&1 <nul',
        "set OSD_RC=%ERRORLEVEL%",
        '>"%~dp0rc.tmp" echo %OSD_RC%',
        'move /y "%~dp0rc.tmp" "%~dp0rc.txt" >nul',
    ]
    assert run_cmd(Job("a", (r"C:\x.cmd", "50%")))[2].startswith(r"call C:\x.cmd 50%%%% 1>")
    with_input = run_cmd(Job("a", ("x.exe",), stdin=b"i", environment={"A": "b"}))
    assert 'x.exe 1>"%~dp0out.log" 2>&1 <"%~dp0stdin.bin"' in with_input
    assert with_input.index('del /q "%~dp0env.cmd"') < with_input.index('x.exe 1>"%~dp0out.log" 2>&1 <"%~dp0stdin.bin"')
    assert 'del /q "%~dp0stdin.bin"' in with_input
    assert files_of(Job("a", ("ü.exe",)))["run.cmd"].startswith(b"@echo off\r\nchcp 65001 >nul\r\n")
    assert environment_cmd({"A": 'x"y%'}) == ["@echo off", 'set "A=x"y%%"']
    for bad in ({"A": 'x"&y'}, {"A B": "x"}, {"A": "x\ny"}):
        with pytest.raises(CommandLineError):
            environment_cmd(bad)
    assert job_files.job_folder("x") == r"C:\_osd\jobs\x"
