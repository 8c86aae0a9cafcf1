# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What a detached job in Windows consists of: ``C:\_osd\jobs\<id>`` with its wrapper, log and exit code (windows-mechanics 15.1).

``run.cmd`` runs the command with its output in ``out.log`` and writes the exit code last, by a rename, into ``rc.txt``. Variables and
standard input may be secret: they are in files of their own, which the wrapper deletes; the folder is SYSTEM's and the
administrators' only.
"""

from __future__ import annotations

from collections.abc import Mapping

from .command_line import CommandLineError, batch_escape, batch_line
from .computer import Job
from .names import JOBS_FOLDER

RUN, LOG, EXIT_CODE, ENVIRONMENT, INPUT = "run.cmd", "out.log", "rc.txt", "env.cmd", "stdin.bin"


def job_folder(job_id: str, drive: str = "C:") -> str:
    r"""Return ``C:\_osd\jobs\<id>``."""
    return rf"{drive}\{JOBS_FOLDER}\{job_id}"


def job_files(job: Job) -> dict[str, bytes]:
    """Return the files that a job starts from, by name. CommandLineError for what a batch file cannot hold."""
    files = {**job.files, RUN: _encode(run_cmd(job))}
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
    lines = ["@echo off", 'cd /d "%~dp0"']
    if job.environment:
        lines += [f'call "%~dp0{ENVIRONMENT}"', f'del /q "%~dp0{ENVIRONMENT}"']
    if job.directory:
        lines.append(f'cd /d "{batch_escape(job.directory)}"')
    lines.append(f'{line} 1>"%~dp0{LOG}" 2>&1 <{source}')
    lines.append("set OSD_RC=%ERRORLEVEL%")
    if job.stdin:
        lines.append(f'del /q "%~dp0{INPUT}"')
    return [*lines, '>"%~dp0rc.tmp" echo %OSD_RC%', f'move /y "%~dp0rc.tmp" "%~dp0{EXIT_CODE}" >nul']


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
