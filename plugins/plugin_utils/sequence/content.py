# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declared content: shares are connected once in an environment, and every source is read by the computer before anything is destroyed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..steps.base import JobResult, StepFailure
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import describe_exit_code, find_meaning
from ..windows.names import WORK_FOLDER
from .endpoints import Variables

_SHARE = re.compile(r"(\\\\[^\\]+\\[^\\]+)")
_NUMBER = re.compile(rb"(?<![\w.\\])\d{1,4}(?![\w\\])")
_SCRIPT = rf"X:\{WORK_FOLDER}\connect.cmd"
_PROBE_SCRIPT = rf"X:\{WORK_FOLDER}\rehearse.cmd"
#: Constant: account and password come by the environment, and net.exe has no other way than its command line for them.
_SCRIPT_TEXT = (
    "\r\n".join(
        [
            "@echo off",
            'net use "%OSD_SHARE%" "%OSD_PASSWORD%" /user:"%OSD_USER%" /persistent:no',
            "if not errorlevel 1 exit /b 0",
            # System error 1219: the server is connected with another account, from an earlier step. Steps use one share after the other.
            "net use * /delete /y",
            'net use "%OSD_SHARE%" "%OSD_PASSWORD%" /user:"%OSD_USER%" /persistent:no',
            "exit /b %ERRORLEVEL%",
        ]
    )
    + "\r\n"
).encode("ascii")

_PROBE_SCRIPT_TEXT = (
    "\r\n".join(
        [
            "@echo off",
            '>"%OSD_PROBE%" echo probe',
            'if not exist "%OSD_PROBE%" exit /b 5',
            'del /f /q "%OSD_PROBE%"',
            'if exist "%OSD_PROBE%" exit /b 5',
            "exit /b 0",
        ]
    )
    + "\r\n"
).encode("ascii")


class JobRunner(Protocol):
    """The part of the context that this needs."""

    def run_job(
        self,
        computer: Computer,
        label: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        directory: str = "",
        time_limit: int = 0,
    ) -> JobResult:
        """Run a detached command to its end."""
        ...


class ShareConnections:
    """The shares that are connected in this environment. All of Windows PE is one logon session, so one connection serves every job."""

    def __init__(self) -> None:
        """Begin with none."""
        self._connected: set[tuple[str, str]] = set()

    def connect(self, jobs: JobRunner, computer: Computer, source: Mapping[str, Any]) -> str:
        """Return the source's path, its share connected with its account. StepFailure names share, account and code."""
        target = str(source["target"])
        account = source.get("account") or {}
        share = _SHARE.match(target)
        if not share or not account.get("user") or computer.environment is not Environment.WINDOWS_PE:
            return target
        key = (share[1].lower(), str(account["user"]).lower())
        if key in self._connected:
            return target
        computer.put_file(_SCRIPT, _SCRIPT_TEXT)
        environment = {"OSD_SHARE": share[1], "OSD_USER": str(account["user"]), "OSD_PASSWORD": str(account.get("password") or "")}
        job = jobs.run_job(
            computer, "connect", [r"X:\Windows\System32\cmd.exe", "/d", "/c", _SCRIPT], environment=environment, time_limit=120
        )
        if job.exit_code:
            raise StepFailure(
                f"The computer could not connect to {share[1]} as {account['user']}: {_why_net_failed(job)}.",
                code=job.exit_code,
                remedy="Check server, share, account and password.",
                log=str(job.log or ""),
            )
        if {user for _, user in self._connected} - {key[1]}:
            # Another account's connections may have gone for this one.
            self._connected.clear()
        self._connected.add(key)
        return target


def _why_net_failed(job: JobResult) -> str:
    """Return the system error whose number net.exe prints in every language; it is for the message alone, nothing is decided by it."""
    for number in reversed(_NUMBER.findall(job.output)):
        meaning = find_meaning("win32", int(number))
        if meaning:
            return f"system error {int(number)} ({meaning.text})"
    return describe_exit_code("net", job.exit_code)


def declared_sources(variables: Variables, phases: Sequence[str]) -> list[dict[str, Any]]:
    """Return every source that the roles' variables declare for these phases, with a name for messages."""
    found = [{"name": "osd_boot_image", **variables.mapping("osd_boot_image")}]
    if "build" in phases:
        found.append({"name": "osd_image", **variables.mapping("osd_image")})
        found += [{"name": f"osd_drivers[{n}]", **row} for n, row in enumerate(variables.get("osd_drivers") or ())]
        found.append({"name": "osd_updates.source", **(variables.mapping("osd_updates").get("source") or {})})
        found.append({"name": "osd_client.source", **(variables.mapping("osd_client").get("source") or {})})
        for row in variables.get("osd_applications") or ():
            found.append({"name": f"application {row.get('name')}", **(row.get("source") or {})})
    return [source for source in found if source.get("target")]


def refuse_shared_destination(variables: Variables) -> None:
    """Refuse to let two computers of a play write one image file. StepFailure names both."""
    own = str(variables.mapping("osd_capture").get("path") or "")
    if not own:
        return
    for host, other in variables.of_other_hosts("osd_capture").items():
        path = str((other or {}).get("path") or "")
        if path.lower() == own.lower():
            raise StepFailure(
                f"{variables.get('inventory_hostname')} and {host} have the same destination for their images: {own}.",
                remedy="Give each its own osd_capture.path, for instance with {{ inventory_hostname }} in it.",
            )


def rehearse_capture(context: Any, computer: Computer, capture: Mapping[str, Any]) -> str:
    """Write and delete a small file where the image will go; return its path, '' where only Windows PE can tell later.

    Raises StepFailure where the account may not write there.
    """
    if not capture.get("path") or computer.environment is not Environment.WINDOWS_PE:
        return ""
    path = context.content({"target": capture["path"], "account": capture.get("account")})
    probe = f"{path}.{context.run_id}.probe"
    computer.put_file(_PROBE_SCRIPT, _PROBE_SCRIPT_TEXT)
    job = context.run_job(
        computer,
        "rehearse-capture",
        [r"X:\Windows\System32\cmd.exe", "/d", "/c", _PROBE_SCRIPT],
        environment={"OSD_PROBE": probe},
        time_limit=120,
    )
    if job.exit_code:
        raise StepFailure(
            f"The image cannot be written to {capture['path']}: a test file there failed with code {job.exit_code}.",
            code=job.exit_code,
            remedy="Check the folder and that the account of osd_capture may create and delete files in it.",
            log=str(job.log or ""),
        )
    return probe


def check_sources(context: Any, computer: Computer, sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Have the computer read every source in Windows PE; return what was found. StepFailure names all that are missing.

    Each is a dictionary with ``name``, ``target`` and perhaps ``account``, ``sha256`` and ``controller``. The bytes on the control node are
    looked for too, where they are declared.
    """
    found, problems = [], []
    for source in sources:
        local = source.get("controller")
        if local and not context.variables.path(local).exists():
            problems.append(f"{source['name']}: {local} is not on the control node")
        try:
            path = context.content(source)
            size = _size(computer, path)
        except StepFailure as failure:
            problems.append(f"{source['name']}: {failure.message.rstrip('.')}")
            continue
        if size is None:
            problems.append(f"{source['name']}: {source['target']} is not there, or the account may not read it")
            continue
        found.append({"name": source["name"], "target": source["target"], "size": size})
    if problems:
        raise StepFailure(
            "Content cannot be reached. " + ". ".join(problems) + ".",
            remedy="Correct the paths and accounts. Nothing was changed on the computer.",
        )
    return found


def _size(computer: Computer, path: str) -> int | None:
    """Return a file's size, 0 for a folder, None where neither is."""
    if path.lower().startswith("https://") or computer.environment is not Environment.WINDOWS_PE:
        return 0
    info = computer.file_info(path)
    if info is not None:
        return info.size
    return 0 if computer.is_folder(path.rstrip("\\")) else None
