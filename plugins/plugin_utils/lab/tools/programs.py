# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Which programs a lab computer has, and how one is started.

A program exists only where its file exists on a volume (the image brings it) and a tool is registered under its name for the
running environment. A file that is neither a tool nor a declared installer is no program: error 193, as for a damaged one.
"""

from __future__ import annotations

import dataclasses
import importlib
import ntpath
from collections.abc import Callable

from ...windows.computer import Environment
from . import files
from .grammar import Cancelled
from .interface import Process, Tool, ToolCall, Win32Problem

PE = Environment.WINDOWS_PE
FULL_OS = Environment.FULL_OS

#: ERROR_BAD_EXE_FORMAT.
NO_PROGRAM = 193
_EXTENSIONS = ".COM;.EXE;.BAT;.CMD"
#: Run in Windows PE from an applied Windows, but no part of Windows PE itself [knowledge: windows-mechanics 0.6].
_NOT_IN_WINDOWS_PE = frozenset({"reagentc"})
_REGISTERED: dict[str, tuple[frozenset[Environment], Tool]] = {}
#: The modules that register tools; they import this one.
_MODULES = [
    "boot",
    "cmd",
    "copying",
    "curl",
    "diskpart",
    "dism",
    "informing",
    "installers",
    "network",
    "policies",
    "reg",
    "services",
    "sysprep",
    "tasks",
    "volumes",
    "wpeutil",
]


def register(name: str, *environments: Environment) -> Callable[[Tool], Tool]:
    """Register a tool under a program's name without extension; without environments it is in both."""

    def decorate(tool: Tool) -> Tool:
        _REGISTERED[name.lower()] = (frozenset(environments or (PE, FULL_OS)), tool)
        return tool

    return decorate


def load_all() -> None:
    """Import every module that registers tools."""
    for name in _MODULES:
        importlib.import_module(f".{name}", __package__)


def names(environment: Environment) -> list[str]:
    """Return the programs an environment can have, with ``.exe``: what an image has to bring as (stub) files for them."""
    load_all()
    absent = _NOT_IN_WINDOWS_PE if environment is PE else frozenset()
    return sorted(f"{name}.exe" for name, (where, dummy) in _REGISTERED.items() if environment in where and name not in absent)


def is_batch(path: str) -> bool:
    """Tell whether a path is a batch file's."""
    return path.lower().endswith((".bat", ".cmd"))


def find(call: ToolCall, name: str, directory: str, path: str, extensions: str = "") -> str | None:
    """Look a program up as cmd does: in the directory, then along PATH, each with the extensions; None where it is not there."""
    candidates = _candidates(name, extensions or _EXTENSIONS)
    folders = [directory]
    if not any(character in name for character in "\\/:"):
        folders += [part.strip('"') for part in path.split(";") if part.strip('" ')]
    for folder in folders:
        for candidate in candidates:
            full = files.resolve(call, candidate, folder)
            try:
                if call.files.is_file(full):
                    return full
            except Win32Problem:
                continue
    return None


def _candidates(name: str, extensions: str) -> list[str]:
    """Return the names to try: a name with a known extension as it is, others with each extension."""
    known = [extension for extension in extensions.split(";") if extension]
    if any(name.lower().endswith(extension.lower()) for extension in known):
        return [name]
    return [name + extension.lower() for extension in known]


def tool_of(call: ToolCall, path: str) -> Tool | None:
    """Return what runs when the file at a path is started: a tool, or the declared installer in it; None for no program."""
    load_all()
    from . import installers

    if installers.is_declared(call, path):
        return installers.run_declared
    known = _REGISTERED.get(ntpath.splitext(ntpath.basename(path))[0].lower())
    return known[1] if known and call.machine.environment in known[0] else None


def after_program(text: str) -> str:
    """Return a command line without the program's name."""
    body = text.lstrip(" \t")
    if body.startswith('"'):
        end = body.find('"', 1)
        return body[end + 1 :].lstrip() if end > 0 else ""
    return body.partition(" ")[2].lstrip()


def launch(call: ToolCall, process: Process | None = None) -> int:
    """Run the program ``call.argv[0]`` (a full path) as a process of the table and return its exit code, unsigned.

    ``process``: one that was entered already, for whoever had to know its number before.
    """
    path = call.argv[0]
    tool = tool_of(call, path)
    processes = call.machine.processes
    if call.cancelled.is_set():
        raise Cancelled
    if tool is None:
        call.stderr.write(b"This version of the file is not compatible with the version of Windows you're running.\r\n")
        if process is not None:
            processes.end(process, NO_PROGRAM)
        return NO_PROGRAM
    process = process or processes.begin(ntpath.basename(path), call.command_line, call.session, parent=call.process_id)
    process.executable = path
    code = 1
    try:
        inner = dataclasses.replace(call, cancelled=process.cancelled, process_id=process.id)
        code = tool(inner) & 0xFFFFFFFF
    except Win32Problem as problem:
        call.stderr.write(f"{files.describe(problem)}\r\n".encode())
        code = problem.code or 1
    except Cancelled:
        code = 1
    finally:
        if process.exit_code is not None:
            code = process.exit_code
        processes.end(process, code)
    return code
