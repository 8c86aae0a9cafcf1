# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detached jobs: output, whole exit codes, time limits, and life beyond the connection and the agent."""

from __future__ import annotations

import time

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe
from wine_agent import PYTHON, finish, python, run


@pytest.mark.parametrize("code", [0, 3, 1605, 3010, 0x80070005, 0xC0000135])
def test_exit_codes_are_whole(computer, code):
    text = f"import ctypes; ctypes.windll.kernel32.ExitProcess({code})"
    assert run(computer, python(f"exit-{code}", text)) == (code, b"")


def test_output_in_both_encodings(computer):
    utf8 = "import sys; sys.stdout.buffer.write('Grüße €\\n'.encode()); sys.stdout.flush(); sys.stderr.buffer.write(b'to stderr')"
    code, output = run(computer, python("utf-8", utf8))
    assert (code, output) == (0, "Grüße €\n".encode() + b"to stderr")
    utf16 = "import sys; sys.stdout.buffer.write('Grüße €\\r\\n'.encode('utf-16-le'))"
    assert run(computer, python("utf-16", utf16)) == (0, "Grüße €\r\n".encode("utf-16-le"))


def test_files_and_the_first_answer_come_with_the_start(computer):
    """A script and what it reads are laid into the job's folder, where it runs; the end is told with the start, in one request."""
    files = {"script.py": b"print(open('data.txt', encoding='utf-8').read(), end='')", "data.txt": "Grüße".encode()}
    before = computer.requests
    status = computer.start_job(Job("with-files", (PYTHON, "-I", "-X", "utf8", "script.py"), files=files), 20)
    assert (status.exit_code, status.output.decode()) == (0, "Grüße")
    assert computer.requests == before + 1


def test_a_command_is_a_job(computer):
    """One request, and no cmd.exe between: what it would expand or take for an operator arrives as it was."""
    before = computer.requests
    result = computer.run([PYTHON, "-I", "-c", "import sys; print(ascii(sys.argv[1:])); sys.exit(3010)", "50% & %PATH%", 'a "b" c'])
    assert (result.exit_code, result.stdout) == (3010, b"['50% & %PATH%', 'a \"b\" c']\r\n")
    assert computer.requests == before + 1


def test_the_wait_for_the_first_answer_ends(computer):
    """Output ends it soon, silence after its seconds; the job runs on."""
    talking = python("talking", "import time; print('now', flush=True); time.sleep(8)")
    started = time.monotonic()
    status = computer.start_job(talking, 20)
    assert (status.exit_code, status.output) == (None, b"now\r\n")
    assert time.monotonic() - started < 6
    started = time.monotonic()
    status = computer.start_job(python("silent", "import time; time.sleep(6)"), 2)
    assert (status.exit_code, status.output) == (None, b"")
    assert 2 <= time.monotonic() - started < 5
    assert finish(computer, "silent") == (0, b"")


def test_a_file_outside_of_the_jobs_folder_is_refused(computer, agent):
    with pytest.raises(OSError) as caught:
        computer.start_job(python("escape", "print('ran')", files={r"..\outside.txt": b"x"}))
    assert caught.value.errno == 87
    with pytest.raises(KeyError):
        computer.job_status("escape")
    assert not list((agent.drive / "_osd").rglob("outside.txt"))


def test_a_megabyte_comes_whole(computer):
    text = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)"
    code, output = run(computer, python("megabyte", text))
    assert code == 0
    assert output == bytes(range(256)) * 4096


def test_input_environment_and_folder(computer):
    text = "import os, sys; print(os.getcwd(), os.environ['osd_word'], sys.stdin.buffer.read().decode())"
    job = python("input", text, stdin=b"typed", environment={"OSD_Word": "grün"}, directory="C:\\windows")
    code, output = run(computer, job)
    assert code == 0, output
    assert output.decode("cp1252", "replace").split()[::2] == ["C:\\windows", "typed"]


def test_a_program_that_is_not_there(computer):
    with pytest.raises(OSError) as caught:
        computer.start_job(Job(id="missing", argv=[r"C:\nowhere\nothing.exe"]))
    assert caught.value.errno == 2
    with pytest.raises(KeyError):
        computer.job_status("missing")


def test_the_same_id_attaches(computer):
    job = python("twice", "print('once')")
    assert run(computer, job) == (0, b"once\r\n")
    assert run(computer, job) == (0, b"once\r\n")


CHILDREN = (
    "import subprocess, sys, time; print('parent', flush=True); "
    "subprocess.Popen([sys.executable, '-I', '-c', \"import time; time.sleep(8); open(r'C:\\\\{0}.txt', 'w').close()\"]); time.sleep(60)"
)


def test_the_time_limit_ends_the_whole_tree(computer, agent):
    started = time.monotonic()
    code, output = run(computer, python("slow", CHILDREN.format("survivor-1"), time_limit=3))
    assert code == 1460
    assert output == b"parent\r\n"
    assert time.monotonic() - started < 8
    time.sleep(max(0, started + 11 - time.monotonic()))
    assert not (agent.drive / "survivor-1.txt").exists()


def test_stop_ends_the_whole_tree(computer, agent):
    started = time.monotonic()
    computer.start_job(python("stopped", CHILDREN.format("survivor-2")))
    while b"parent" not in computer.job_status("stopped", 0, 5).output:
        assert time.monotonic() - started < 20
    computer.stop_job("stopped")
    assert finish(computer, "stopped")[0] == 1460
    time.sleep(max(0, started + 11 - time.monotonic()))
    assert not (agent.drive / "survivor-2.txt").exists()


def test_a_job_outlives_the_connection_and_the_agent(agent):
    """The agent's own process is killed; the one started again finds the job, its output and its exit code."""
    first = agent.connect()
    computer = WindowsPe(first.client(SCHEMA), first.http)
    text = "import time; print('before', flush=True); time.sleep(6); print('after', flush=True); raise SystemExit(1605)"
    computer.start_job(python("survivor", text))
    while b"before" not in computer.job_status("survivor", 0, 5).output:
        pass
    first.close()
    agent.kill()
    agent.start()
    second = agent.connect()
    computer = WindowsPe(second.client(SCHEMA), second.http)
    assert computer.job_status("survivor", 0, 0).exit_code is None
    code, output = finish(computer, "survivor")
    assert (code, output.split()) == (1605, [b"before", b"after"])
    second.close()
