# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CreateProcess for the lab: a command line of text becomes a program of the machine that runs to its end."""

from __future__ import annotations

import dataclasses

from ...windows import command_line
from ...windows.computer import Environment
from . import programs
from .interface import Machine, Session, ToolCall, Win32Problem


def run(call: ToolCall, text: str) -> int:
    """Run a command line and return its exit code. Raises Win32Problem 2 where the program is not found, 87 for an empty line.

    A batch file is handed to cmd.exe, as CreateProcess does.
    """
    return programs.launch(prepare(call, text))


def prepare(call: ToolCall, text: str) -> ToolCall:
    """Return the call with the program that a command line names. Raises Win32Problem as :func:`run` does."""
    argv = command_line.split(text)
    if not argv:
        raise Win32Problem(87)
    path = find(call, argv[0])
    if path is None:
        raise Win32Problem(2)
    if programs.is_batch(path):
        interpreter = find(call, rf"{call.machine.windows}\System32\cmd.exe")
        if interpreter is None:
            raise Win32Problem(2)
        line = f'"{interpreter}" /c ""{path}" {programs.after_program(text)}"'
        return dataclasses.replace(call, argv=[interpreter], command_line=line)
    return dataclasses.replace(call, argv=[path, *argv[1:]], command_line=text)


def find(call: ToolCall, name: str) -> str | None:
    """Return the file that CreateProcess would start: in the directory, System32, Windows, then along PATH; None for none."""
    windows = call.machine.windows
    path = rf"{windows}\System32;{windows};" + next((v for n, v in call.environment.items() if n.upper() == "PATH"), "")
    found = programs.find(call, name, call.directory or windows, path, ".exe;.com")
    if found is None and programs.is_batch(name):
        found = programs.find(call, name, call.directory or windows, path)
    return found


def default_environment(machine: Machine, session: Session) -> dict[str, str]:
    """Return the variables that a process of a session starts with."""
    windows, drive = machine.windows, machine.system_drive
    own = session.is_system or machine.environment is Environment.WINDOWS_PE
    profile = rf"{windows}\System32\config\systemprofile" if own else rf"{drive}\Users\{session.user.rpartition(chr(92))[2]}"
    temp = rf"{windows}\TEMP" if own else rf"{profile}\AppData\Local\Temp"
    return {
        "ComSpec": rf"{windows}\system32\cmd.exe",
        "COMPUTERNAME": machine.name.upper(),
        "NUMBER_OF_PROCESSORS": "2",
        "OS": "Windows_NT",
        "Path": rf"{windows}\system32;{windows};{windows}\System32\Wbem",
        "PATHEXT": ".COM;.EXE;.BAT;.CMD;.VBS;.VBE;.JS;.JSE;.WSF;.WSH;.MSC",
        "PROCESSOR_ARCHITECTURE": "AMD64",
        "ProgramData": rf"{drive}\ProgramData",
        "ALLUSERSPROFILE": rf"{drive}\ProgramData",
        "ProgramFiles": rf"{drive}\Program Files",
        "ProgramFiles(x86)": rf"{drive}\Program Files (x86)",
        "SystemDrive": drive,
        "SystemRoot": windows,
        "TEMP": temp,
        "TMP": temp,
        "USERNAME": "SYSTEM" if own else session.user.rpartition(chr(92))[2],
        "USERPROFILE": profile,
        "windir": windows,
        "firmware_type": "UEFI" if machine.firmware.kind == "uefi" else "Legacy",
    }
