# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scheduled tasks as XML: what a detached job in Windows is registered with, and read back in the lab.

XML does not depend on the language of Windows, unlike schtasks' dates, and names the settings whose defaults bite: a time limit of
72 hours, no start on battery, low priority [doc: win32/TaskSchd; knowledge].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
LOCAL_SYSTEM = "S-1-5-18"
#: ``\\`` and the other characters a task's name cannot hold; 237 is the longest that schtasks takes [knowledge].
_NAME = re.compile(r'[^\\/:*?"<>|\x00-\x1f]{1,237}')


class TaskError(ValueError):
    """An XML that the Task Scheduler would refuse, or a name it cannot hold."""


@dataclass(frozen=True)
class ScheduledTask:
    """What one task does: a program, its arguments as one text, as whom (a SID), with which limit in seconds (0 is none)."""

    command: str
    arguments: str = ""
    working_directory: str = ""
    user: str = LOCAL_SYSTEM
    run_level: str = "HighestAvailable"
    time_limit: int = 0
    priority: int = 5


def task_xml(
    command: str,
    arguments: str = "",
    *,
    working_directory: str = "",
    user: str = LOCAL_SYSTEM,
    time_limit: int = 0,
    priority: int = 5,
) -> str:
    """Return the XML of a task without a trigger that runs a program as SYSTEM. ``time_limit`` in seconds, 0 for none.

    No XML declaration: a file for schtasks needs :func:`task_file`.
    """
    exec_parts = f"<Command>{escape(command)}</Command>"
    if arguments:
        exec_parts += f"<Arguments>{escape(arguments)}</Arguments>"
    if working_directory:
        exec_parts += f"<WorkingDirectory>{escape(working_directory)}</WorkingDirectory>"
    return (
        f'<Task version="1.2" xmlns="{NAMESPACE}">'
        f'<Principals><Principal id="Author"><UserId>{escape(user)}</UserId>'
        "<RunLevel>HighestAvailable</RunLevel></Principal></Principals>"
        "<Settings><MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>"
        "<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>"
        "<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>"
        "<AllowHardTerminate>true</AllowHardTerminate><StartWhenAvailable>false</StartWhenAvailable>"
        f"<ExecutionTimeLimit>PT{time_limit}S</ExecutionTimeLimit><Priority>{priority}</Priority></Settings>"
        f'<Actions Context="Author"><Exec>{exec_parts}</Exec></Actions>'
        "</Task>"
    )


def task_file(xml: str) -> bytes:
    """Return the XML as the file that ``schtasks /create /xml`` reads: UTF-16 with a byte order mark, and declared so."""
    return ('<?xml version="1.0" encoding="UTF-16"?>\r\n' + xml).encode("utf-16")


def check_task_name(name: str) -> None:
    """Raise TaskError where a task cannot have that name."""
    if not _NAME.fullmatch(name):
        raise TaskError(f"A scheduled task cannot be named {name!r}")


def parse_task(xml: str | bytes) -> ScheduledTask:
    """Read a task's XML. Raises TaskError for what the Task Scheduler refuses: no XML, another root, no program, no principal."""
    text = xml.decode("utf-16" if xml[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8") if isinstance(xml, bytes) else xml
    text = re.sub(r"^\ufeff?\s*<\?xml[^>]*\?>", "", text)
    if "<!DOCTYPE" in text:
        raise TaskError("The task's XML holds a document type")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise TaskError(f"The task's XML is malformed: {error}") from error
    if root.tag != f"{{{NAMESPACE}}}Task":
        raise TaskError(f"The task's XML starts with {root.tag} instead of Task in its namespace")
    command = _text(root, "Actions/Exec/Command")
    if not command:
        raise TaskError("The task has no program (Actions/Exec/Command)")
    user = _text(root, "Principals/Principal/UserId")
    if not user:
        raise TaskError("The task says not as whom it runs (Principals/Principal/UserId)")
    return ScheduledTask(
        command=command,
        arguments=_text(root, "Actions/Exec/Arguments"),
        working_directory=_text(root, "Actions/Exec/WorkingDirectory"),
        user=user,
        run_level=_text(root, "Principals/Principal/RunLevel") or "LeastPrivilege",
        time_limit=_seconds(_text(root, "Settings/ExecutionTimeLimit") or "PT72H"),
        priority=int(_text(root, "Settings/Priority") or 7),
    )


def _text(root: ElementTree.Element, path: str) -> str:
    qualified = "/".join(f"{{{NAMESPACE}}}{part}" for part in path.split("/"))
    return (root.findtext(qualified) or "").strip()


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", duration)
    if not match:
        raise TaskError(f"The task's ExecutionTimeLimit is no duration: {duration!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
