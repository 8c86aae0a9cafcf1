# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""schtasks.exe: create from XML, run, end, delete, query [doc: wsd/schtasks]. 0 is success, 1 any failure."""

from __future__ import annotations

import re

from ...windows.scheduled_task import TaskError, parse_task
from . import files
from .grammar import Options, UsageError, complain, say, spaced_options
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, register


@register("schtasks", FULL_OS)
def schtasks(call: ToolCall) -> int:
    """Run one command."""
    commands = {"/create": _create, "/run": _run, "/end": _end, "/delete": _delete, "/query": _query}
    command = commands.get(call.argv[1].lower()) if len(call.argv) > 1 else None
    if command is None:
        complain(call, "ERROR: Invalid syntax.", 'Type "SCHTASKS /?" for usage.')
        return 1
    try:
        options = spaced_options(call.argv[2:], ("f", "v", "nh", "i", "hresult", "z", "it", "np"), ("tn", "xml", "fo", "ru"), "/")
        if options.rest:
            raise UsageError(options.rest[0])
        command(call, options)
    except UsageError as error:
        complain(call, f"ERROR: Invalid argument/option - '{error}'.", 'Type "SCHTASKS /?" for usage.')
        return 1
    except (TaskError, ValueError, UnicodeDecodeError) as error:
        complain(call, f"ERROR: The task XML is malformed. {error}")
        return 1
    except Win32Problem as problem:
        complain(call, f"ERROR: {files.describe(problem)}")
        return 1
    return 0


def _name(options: Options) -> tuple[str, str]:
    text = options.get("tn")
    if not text:
        raise UsageError("/TN")
    folder, dummy, name = ("\\" + text.lstrip("\\")).rpartition("\\")
    return folder + "\\", name


def _create(call: ToolCall, options: Options) -> None:
    folder, name = _name(options)
    if not options.get("xml"):
        raise UsageError("/XML (the lab's schtasks creates tasks from XML only: lab rule)")
    if not call.session.elevated:
        raise Win32Problem(5)
    content = call.files.read(files.resolve(call, options.get("xml")))
    declared = re.search(rb'encoding="UTF-16"', content.replace(b"\0", b""), re.IGNORECASE)
    if bool(declared) != content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TaskError("(1,40)::unable to switch the encoding")
    text = content.decode("utf-16" if declared else "utf-8")
    parse_task(text)
    call.machine.scheduled_tasks.register(folder, name, text, force="f" in options.flags)
    say(call, f'SUCCESS: The scheduled task "{folder}{name}" has successfully been created.')


def _run(call: ToolCall, options: Options) -> None:
    folder, name = _name(options)
    call.machine.scheduled_tasks.run(folder, name)
    say(call, f'SUCCESS: Attempted to run the scheduled task "{folder}{name}".')


def _end(call: ToolCall, options: Options) -> None:
    folder, name = _name(options)
    call.machine.scheduled_tasks.stop(folder, name)
    say(call, f'SUCCESS: The scheduled task "{folder}{name}" has been terminated successfully.')


def _delete(call: ToolCall, options: Options) -> None:
    folder, name = _name(options)
    if "f" not in options.flags:
        raise Win32Problem(1223, "Nobody is there to be asked: use /f.")
    call.machine.scheduled_tasks.delete(folder, name)
    say(call, f'SUCCESS: The scheduled task "{folder}{name}" was successfully deleted.')


def _query(call: ToolCall, options: Options) -> None:
    tasks = call.machine.scheduled_tasks.list()
    if options.get("tn"):
        folder, name = _name(options)
        tasks = [task for task in tasks if (task.path + task.name).lower() == (folder + name).lower()]
        if not tasks:
            raise Win32Problem(2)
    for task in tasks:
        say(call, f"{task.path}{task.name:40} N/A                    {'Running' if task.process_id else 'Ready'}")
