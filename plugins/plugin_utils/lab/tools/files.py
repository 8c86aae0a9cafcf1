# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files as the tools use them: the call's own view of the machine, with names made absolute first."""

from __future__ import annotations

import ntpath

from .interface import ToolCall, Win32Problem

#: The system's texts of the errors that tools print [knowledge]. Nobody decides on them.
_TEXTS = {
    2: "The system cannot find the file specified.",
    3: "The system cannot find the path specified.",
    5: "Access is denied.",
    17: "The system cannot move the file to a different disk drive.",
    32: "The process cannot access the file because it is being used by another process.",
    53: "The network path was not found.",
    67: "The network name cannot be found.",
    80: "The file exists.",
    85: "The local device name is already in use.",
    86: "The specified network password is not correct.",
    87: "The parameter is incorrect.",
    112: "There is not enough space on the disk.",
    123: "The filename, directory name, or volume label syntax is incorrect.",
    145: "The directory is not empty.",
    183: "Cannot create a file when that file already exists.",
    267: "The directory name is invalid.",
    1115: "A system shutdown is in progress.",
    1116: "Unable to abort the system shutdown because no shutdown was in progress.",
    1190: "A system shutdown has already been scheduled.",
    1219: "Multiple connections to a server or shared resource by the same user, using more than one user name, are not allowed.",
    1326: "The user name or password is incorrect.",
    2250: "This network connection does not exist.",
}


def describe(problem: Win32Problem) -> str:
    """Return the system's text of an error."""
    return _TEXTS.get(problem.code) or problem.text or f"Error {problem.code}"


def resolve(call: ToolCall, name: str, directory: str = "") -> str:
    r"""Return the absolute path of a name as it stands relative to a directory (the call's own without one)."""
    base = directory or call.directory or call.machine.system_drive + "\\"
    plain = name.replace('"', "").replace("/", "\\")
    if plain[1:2] == ":" and plain[2:3] != "\\":
        same = plain[:2].lower() == base[:2].lower()
        plain = ntpath.join(base, plain[2:]) if same else plain[:2] + "\\" + plain[2:]
    path = ntpath.normpath(ntpath.join(base, plain))
    return path + "\\" if path.endswith(":") else path


def move(call: ToolCall, source: str, target: str) -> None:
    """Rename or move; a file that is there is replaced, another volume gets a copy."""
    try:
        call.files.rename(source, target, replace=True)
    except Win32Problem as problem:
        if problem.code != 17 or call.files.is_directory(source):
            raise
        call.files.copy(source, target)
        call.files.delete(source)


def walk(call: ToolCall, folder: str) -> list[str]:
    """Return the files below a folder, as absolute paths."""
    found: list[str] = []
    for name in call.files.names(folder):
        path = ntpath.join(folder, name)
        if call.files.is_directory(path):
            found += walk(call, path)
        else:
            found.append(path)
    return found


def windows_version(call: ToolCall) -> str:
    """Return ``10.0.build`` of the running system from its own registry."""
    key = call.machine.registry.find(r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion")
    build = key.get_string("", "CurrentBuildNumber") if key else None
    return f"10.0.{build or '0'}"
