# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What a detached job in Windows consists of: ``C:\_osd\jobs\<id>`` with its wrapper, log and exit code (windows-mechanics 15.1).

``run.cmd``, the scheduled task's, runs the command with its output in ``out.log`` and writes the exit code last, by a rename, into
``rc.txt``. It claims the job first by making the folder ``begun``: however often the task is started, the command runs once. Variables
and standard input may be secret: they are in files of their own, which the wrapper deletes; the folder is SYSTEM's and the
administrators' only.

``follow.cmd``, run by whoever asks, starts the task where it is told to, waits for the end, and writes a tar archive to its output.
"""

from __future__ import annotations

from collections.abc import Mapping

from .command_line import CommandLineError, batch_escape, batch_line
from .computer import Job
from .names import JOBS_FOLDER, SCHEDULED_TASK_FOLDER
from .scheduled_task import task_file, task_xml

RUN, LOG, EXIT_CODE, ENVIRONMENT, INPUT = "run.cmd", "out.log", "rc.txt", "env.cmd", "stdin.bin"
FOLLOW, TASK, BEGUN, NEWS = "follow.cmd", "task.xml", "begun", "news.log"
#: What may be secret. Whoever finds the job over or not to be started deletes it, too: the wrapper may have been ended from outside.
SECRETS = (ENVIRONMENT, INPUT)
#: While a job runs, a log longer than this is not sent along.
NEWS_LIMIT = 1024 * 1024


def job_folder(job_id: str, drive: str = "C:") -> str:
    r"""Return ``C:\_osd\jobs\<id>``."""
    return rf"{drive}\{JOBS_FOLDER}\{job_id}"


def job_files(job: Job) -> dict[str, bytes]:
    """Return the files that a job starts from, by name. CommandLineError for what a batch file cannot hold."""
    xml = task_xml(r"C:\Windows\System32\cmd.exe", rf"/d /c {job_folder(job.id)}\{RUN}", time_limit=job.time_limit)
    files = {**job.files, RUN: _encode(run_cmd(job)), FOLLOW: _encode(follow_cmd(job.id)), TASK: task_file(xml)}
    if job.environment:
        files[ENVIRONMENT] = _encode(environment_cmd(job.environment))
    if job.stdin:
        files[INPUT] = job.stdin
    return files


def run_cmd(job: Job) -> list[str]:
    """Return the lines of the wrapper."""
    line = batch_line(job.argv)
    if job.argv[0].lower().endswith((".cmd", ".bat")):
        # Without 'call' a batch file never comes back; 'call' reads percent signs a second time.
        line = "call " + line.replace("%%", "%%%%")
    source = f'"%~dp0{INPUT}"' if job.stdin else "nul"
    secrets = ([ENVIRONMENT] if job.environment else []) + ([INPUT] if job.stdin else [])
    forget = [f'del /q "%~dp0{name}" 2>nul' for name in secrets]
    # A start that was repeated while the first one was under way lays the secrets down again: they go with the end, too.
    lines = ["@echo off", 'cd /d "%~dp0"', f"mkdir {BEGUN} 2>nul || goto end"]
    if job.environment:
        # Without its variables nothing is run: the job is over without an exit code then.
        lines += [f'if not exist "%~dp0{ENVIRONMENT}" exit /b 2', f'call "%~dp0{ENVIRONMENT}"', f'del /q "%~dp0{ENVIRONMENT}"']
    if job.directory:
        lines.append(f'cd /d "{batch_escape(job.directory)}"')
    lines += [f'{line} 1>"%~dp0{LOG}" 2>&1 <{source}', "set OSD_RC=%ERRORLEVEL%", *forget]
    return [*lines, '>"%~dp0rc.tmp" echo %OSD_RC%', f'move /y "%~dp0rc.tmp" "%~dp0{EXIT_CODE}" >nul', ":end", *forget]


def follow_cmd(job_id: str) -> list[str]:
    r"""Return the lines of ``follow.cmd SECONDS OFFSET [begin]``.

    It leaves 0 and an archive on its output: exit code and log of a job that is over; of one that still runs after the seconds the log as
    ``news.log`` where it grew beyond the offset; nothing otherwise. With ``begin`` the task is registered and started first; schtasks' exit
    code is left where that fails. The log is copied before it is read: a folder tells the size of an open file late, and not every program
    opens what another one still writes [knowledge]. ``ping`` is what waits: ``timeout`` wants a console [knowledge].
    """
    task = f'"{SCHEDULED_TASK_FOLDER}{job_id}"'
    # In the folders of starts that were broken off, too.
    forget = f"del /s /q {' '.join(SECRETS)} >nul 2>nul"
    return [
        "@echo off",
        'cd /d "%~dp0"',
        'if not "%3"=="begin" goto wait',
        f"schtasks.exe /create /tn {task} /xml {TASK} /f >nul || goto failed",
        # An instance that runs already makes the second start fail, or not: that the job has begun is what counts.
        f"schtasks.exe /run /tn {task} >nul || if not exist {BEGUN} goto failed",
        ":wait",
        "set OSD_LEFT=%1",
        ":again",
        f"if exist {EXIT_CODE} goto ended",
        "if %OSD_LEFT% leq 0 goto running",
        "set /a OSD_LEFT-=1 >nul",
        "ping.exe -n 2 127.0.0.1 >nul",
        "goto again",
        ":running",
        f"if not exist {LOG} exit /b 0",
        f"copy /y {LOG} {NEWS} >nul 2>nul || exit /b 0",
        f"for %%G in ({NEWS}) do if %%~zG gtr %2 if %%~zG leq {NEWS_LIMIT} tar.exe -cf - {NEWS}",
        "exit /b 0",
        ":failed",
        "set OSD_RC=%ERRORLEVEL%",
        forget,
        "exit /b %OSD_RC%",
        ":ended",
        forget,
        f"if exist {LOG} (tar.exe -cf - {EXIT_CODE} {LOG}) else tar.exe -cf - {EXIT_CODE}",
    ]


def environment_cmd(environment: Mapping[str, str]) -> list[str]:
    """Return the lines that set the variables."""
    lines = ["@echo off"]
    for name, value in environment.items():
        if not name or set(name) & set('="%&|<>^ \t\r\n'):
            raise CommandLineError(f"{name!r} cannot be the name of a variable in a batch file")
        if '"' in value and set(value) & set("&|<>^"):
            raise CommandLineError(f"The variable {name} holds a quotation mark beside an operator; a batch file cannot hold that")
        lines.append(f'set "{name}={batch_escape(value)}"')
    return lines


def parse_exit_code(content: bytes) -> int:
    """Return the unsigned exit code that ``rc.txt`` holds. ValueError where that is no number."""
    return int(content.decode("ascii").strip()) & 0xFFFFFFFF


def _encode(lines: list[str]) -> bytes:
    text = "\r\n".join(lines) + "\r\n"
    if text.isascii():
        return text.encode("ascii")
    # cmd reads a batch file by the current code page, line by line [knowledge].
    first, rest = lines[0], lines[1:]
    return ("\r\n".join([first, "chcp 65001 >nul", *rest]) + "\r\n").encode("utf-8")
