# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WindowsPe, through Ansible's own winrm plugin and pywinrm, to the agent: every verb, every problem of a connection."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest
from agent_fakes import BOOTED, NAME, PASSWORD, Computer, make_certificate
from ansible_collections.goldimage.osd.plugins.plugin_utils import connection
from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import ConnectionProblem, Endpoint, open_endpoint, probe
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import FileInfo, Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Identity


def endpoint_of(computer: Computer) -> Endpoint:
    return Endpoint(
        host="127.0.0.1", port=computer.port, scheme="https", user="osd", password=PASSWORD, transport="basic",
        certificate=computer.certificate, certificate_name=NAME,
    )  # fmt: skip


@pytest.fixture
def endpoint(computer):
    return endpoint_of(computer)


@pytest.fixture
def pe(endpoint):
    link = open_endpoint(endpoint)
    made = WindowsPe(link.client(SCHEMA), link.http)
    yield made
    made.close()
    link.close()


def test_a_query_is_one_request(pe):
    rows = pe.cim.query("SELECT SystemDrive,LastBootUpTime FROM Win32_OperatingSystem")
    assert [(row["SystemDrive"], row["LastBootUpTime"]) for row in rows] == [("X:", BOOTED)]
    assert pe.requests == 1


def test_a_command_is_one_request_and_needs_no_shell(pe, computer):
    def behave(process):
        process.stdout.write(b"said " + process.stdin)
        process.end(3 if "fail" in process.line else 0)

    computer.starter.behave = behave
    first = pe.run(["cmd.exe", "/c", "echo", "a & b"])
    assert (first.exit_code, first.stdout, first.stderr) == (0, b"said ", b"")
    assert pe.run(["fail.exe"], stdin=b"in\0put").stdout == b"said in\0put"
    assert pe.run(["fail.exe"], environment={"SECRET": "s"}, directory="X:\\d").exit_code == 3
    assert (computer.starter.started[2].environment, computer.starter.started[2].directory) == ({"SECRET": "s"}, "X:\\d")
    assert pe.requests == 3
    assert not computer.shells.opened


def test_a_command_that_goes_on_is_waited_for_and_ended_with_its_time(pe, computer):
    output = b"x" * 1_000_000

    def behave(process):
        process.stdout.write(output)
        process.end(0)

    computer.starter.behave = behave
    assert pe.run(["long.exe"]).stdout == output
    assert pe.requests > 1
    computer.starter.behave = lambda process: None
    with pytest.raises(TimeoutError, match="hangs.exe did not end within 1 seconds"):
        pe.run(["hangs.exe"], timeout=1)
    assert computer.starter.started[-1].terminated_by == 1460


def test_files(pe, computer):
    content = bytes(range(256)) * 100
    pe.put_file(r"W:\a b\ü#%\x.bin", content)
    assert computer.files.host(r"W:\a b\ü#%\x.bin").read_bytes() == content
    assert pe.get_file(r"w:\a b\ü#%\x.bin") == content
    assert pe.file_info(r"W:\a b\ü#%\x.bin") == FileInfo(25600, None)
    assert len(pe.file_hash(r"W:\a b\ü#%\x.bin")) == 64
    assert pe.read_range(r"W:\a b\ü#%\x.bin", 25598, 10) == b"\xfe\xff"
    assert pe.read_range(r"W:\a b\ü#%\x.bin", 25600, 10) == b""
    pe.write_range(r"W:\a b\ü#%\x.bin", 25600, b"more")
    assert pe.read_range(r"W:\a b\ü#%\x.bin", 25599, 100) == b"\xffmore"
    assert pe.file_info(r"W:\none") is None
    assert pe.file_info(r"W:\a b") is None
    with pytest.raises(FileNotFoundError):
        pe.get_file(r"W:\none")
    with pytest.raises(OSError, match="a folder has that name"):
        pe.put_file(r"W:\a b", b"")
    with pytest.raises(ValueError, match="network folder"):
        pe.put_file(r"W:\big", b"x" * (1024 * 1024 + 1))
    pe.put_file(r"W:\empty", b"")
    assert pe.get_file(r"W:\empty") == b""


def test_a_full_disk_is_named(pe, computer):
    computer.files.problem = OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"the disk is full \(HTTP 507\)"):
        pe.put_file(r"W:\x", b"x")


def test_a_job_is_followed_and_found_again(pe, computer):
    job = Job("job-1", ("dism.exe", "/x y"), directory="X:\\d", environment={"A": "b=c"}, stdin=b"in")
    pe.start_job(job)
    pe.start_job(job)
    (process,) = computer.starter.started
    assert (process.line, process.directory, process.environment, process.stdin) == ('dism.exe "/x y"', "X:\\d", {"A": "b=c"}, b"in")
    process.stdout.write(b"10 %\r\n")
    status = pe.job_status("job-1", 0, 5)
    assert (status.exit_code, status.output, status.offset) == (None, b"10 %\r\n", 6)

    def finish() -> None:
        process.stdout.write(b"100 %")
        process.end(0xC0000005)

    timer = threading.Timer(0.1, finish)
    timer.start()
    status = pe.job_status("job-1", 6, 20)
    timer.join()
    if status.exit_code is None:
        status = replace(pe.job_status("job-1", status.offset, 20), output=status.output)
    assert (status.exit_code, status.output, status.offset) == (0xC0000005, b"100 %", 11)
    assert computer.files.host(r"X:\_osd\jobs\job-1\rc.txt").read_bytes() == b"3221225477\r\n"
    with pytest.raises(KeyError):
        pe.job_status("job-2")
    pe.stop_job("job-2")


def test_files_come_with_the_job_into_its_folder_and_a_short_job_ends_with_its_start(pe, computer):
    before = pe.requests
    threading.Timer(0.1, lambda: computer.starter.started[0].end(7)).start()
    status = pe.start_job(Job("job-1", ("cmd.exe", "/c", r".\x.cmd"), files={"x.cmd": b"exit 7", "list.txt": b"="}), 20)
    assert (status.exit_code, pe.requests - before) == (7, 1)
    assert computer.starter.started[0].directory == r"X:\_osd\jobs\job-1"
    assert computer.files.host(r"X:\_osd\jobs\job-1\x.cmd").read_bytes() == b"exit 7"
    assert computer.files.host(r"X:\_osd\jobs\job-1\list.txt").read_bytes() == b"="


@pytest.mark.parametrize("name", [r"..\x.cmd", "a/b", "", "OUT.LOG", "rc.txt", "state.json", "rc.txt.tmp"])
def test_a_file_of_a_job_has_a_plain_name_that_the_job_does_not_write(pe, computer, name):
    with pytest.raises(OSError, match=r"x\.exe could not be started in Windows PE") as caught:
        pe.start_job(Job("job-1", ("x.exe",), files={name: b""}))
    assert caught.value.errno == 87
    assert not computer.starter.started


def test_a_stopped_job_and_one_out_of_time_leave_1460(pe, computer):
    pe.start_job(Job("stopped", ("x.exe",)))
    pe.stop_job("stopped")
    assert pe.job_status("stopped", 0, 20).exit_code == 1460
    assert computer.starter.started[0].terminated_by == 1460
    pe.start_job(Job("late", ("x.exe",), time_limit=1))
    assert pe.job_status("late", 0, 20).exit_code == 1460


def test_a_program_that_is_not_there(pe, computer):
    computer.starter.problem = OSError(2, "not found")
    with pytest.raises(OSError, match=r"none\.exe could not be started in Windows PE"):
        pe.start_job(Job("x", ("none.exe",)))
    with pytest.raises(KeyError):
        pe.job_status("x")


def kind_of(endpoint: Endpoint) -> str:
    link = open_endpoint(endpoint)
    with pytest.raises(ConnectionProblem) as caught:
        link.client(SCHEMA).query("SELECT SystemDrive FROM Win32_OperatingSystem")
    link.close()
    assert f":{endpoint.port}" in caught.value.message
    assert PASSWORD not in str(caught.value) + repr(endpoint)
    return caught.value.kind


def test_problems_of_a_connection(endpoint, tmp_path):
    assert kind_of(replace(endpoint, password="wrong")) == connection.WRONG_CREDENTIALS
    assert kind_of(replace(endpoint, user="other")) == connection.WRONG_CREDENTIALS
    assert kind_of(replace(endpoint, certificate_name="other.test")) == connection.WRONG_CERTIFICATE
    make_certificate(tmp_path / "other")
    assert kind_of(replace(endpoint, certificate=str(tmp_path / "other" / "certificate.pem"))) == connection.WRONG_CERTIFICATE
    # 'ignore' does not weaken the trust in one certificate.
    lax = replace(endpoint, certificate=str(tmp_path / "other" / "certificate.pem"), server_cert_validation="ignore")
    assert kind_of(lax) == connection.WRONG_CERTIFICATE
    assert kind_of(replace(endpoint, certificate=str(tmp_path / "none.pem"))) == connection.WRONG_CERTIFICATE
    assert kind_of(replace(endpoint, path="/other")) == connection.NOT_WSMAN
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    assert kind_of(replace(endpoint, port=closed)) == connection.REFUSED


def test_a_computer_that_hangs_is_a_timeout(endpoint, computer):
    computer.service.http.ready.clear()
    assert kind_of(replace(endpoint, read_timeout=2, operation_timeout=1)) == connection.TIMEOUT
    found = probe(endpoint, timeout=0.2)
    assert isinstance(found, ConnectionProblem)
    assert found.kind == connection.TIMEOUT
    computer.service.http.ready.set()


def test_probe_needs_no_credentials_and_learns_no_version(endpoint):
    found = probe(replace(endpoint, password="wrong"))
    assert isinstance(found, Identity)
    assert found.product_version == "OS: 0.0.0 SP: 0.0 Stack: 3.0"
    wrong = probe(replace(endpoint, certificate_name="other.test"))
    assert isinstance(wrong, ConnectionProblem)
    assert wrong.kind == connection.WRONG_CERTIFICATE
    plain = probe(replace(endpoint, scheme="http"))
    assert isinstance(plain, ConnectionProblem)
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    nobody = probe(replace(endpoint, port=closed))
    assert isinstance(nobody, ConnectionProblem)
    assert nobody.kind == connection.REFUSED


def test_other_connection_plugins_are_refused_with_the_variables_to_set(endpoint):
    class Ssh:
        transport = "ssh"

    with pytest.raises(ConnectionProblem, match="ansible_winrm_transport"):
        open_endpoint(endpoint, connection=Ssh())
