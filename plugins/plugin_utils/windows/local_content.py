# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring declared content to the running Windows: a SYSTEM job copies it from a share or web server to the disk.

A WinRM logon has no second hop, and a network path is reachable only from the logon session that connected it: so
connecting, copying and disconnecting are one job. net.exe offers no other way to name the password than its command
line; it is expanded there from the job's environment, on the computer alone, and is in no script, task, log or
journal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..wsman.known import known
from .names import WORK_FOLDER

#: In the built Windows the system drive is always C:.
SYSTEM_DRIVE = "C:"
SYSTEM32 = rf"{SYSTEM_DRIVE}\Windows\System32"
COPY_SCRIPT = "copy_content.cmd"
CONTENT_FOLDER = rf"{SYSTEM_DRIVE}\{WORK_FOLDER}\content"
#: The script's own code for 'net use failed'; robocopy's codes end at 31.
CONNECT_FAILED = 64
#: robocopy's codes are a bit mask: from 8 on something was not copied [doc: wsd/robocopy].
COPY_FAILED = 8

#: Constant: every value comes by the environment, so no value is ever parsed as script text.
COPY_SCRIPT_TEXT = "\r\n".join(
    [
        "@echo off",
        "if not defined OSD_USER goto copy",
        'net use "%OSD_SHARE%" "%OSD_PASSWORD%" /user:"%OSD_USER%" /persistent:no',
        f"if errorlevel 1 exit /b {CONNECT_FAILED}",
        ":copy",
        'robocopy "%OSD_FROM%" "%OSD_TO%" "%OSD_FILE%" %OSD_OPTIONS% /R:3 /W:5 /NP /NFL /NDL',
        "set OSD_CODE=%ERRORLEVEL%",
        'if defined OSD_USER net use "%OSD_SHARE%" /delete /y',
        "exit /b %OSD_CODE%",
        "",
    ]
).encode("ascii")

_FILE = re.compile(r"\.(msi|msp|msu|exe|cab|cmd|bat|zip|wim|sdi|msix)$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:\\")
_SHARE = re.compile(r"(\\\\[^\\]+\\[^\\]+)")


@dataclass(frozen=True)
class Source:
    """Declared content as the computer sees it: a folder, or one file by its ending."""

    target: str
    user: str = ""
    password: str = field(default="", repr=False)
    sha256: str = ""

    @classmethod
    def from_option(cls, option: Mapping[str, Any]) -> Source:
        """Take an option ``source`` with target, account and sha256."""
        account = option.get("account") or {}
        return cls(
            option["target"].rstrip("\\/"),
            account.get("user") or "",
            account.get("password") or "",
            (option.get("sha256") or "").lower(),
        )

    @property
    def is_web(self) -> bool:
        """Whether it is fetched from a web server; that is always one file."""
        return self.target.lower().startswith("https://")

    @property
    def is_share(self) -> bool:
        """Whether it lies on a network share."""
        return self.target.startswith("\\\\")

    @property
    def is_file(self) -> bool:
        """Whether it is one file."""
        return self.is_web or bool(_FILE.search(self.target))

    @property
    def file_name(self) -> str:
        """The file's name, '' for a folder."""
        return re.split(r"[\\/]", self.target)[-1] if self.is_file else ""

    @property
    def folder(self) -> str:
        """The folder that holds the content."""
        return self.target[: -len(self.file_name) - 1] if self.is_file else self.target

    def problem(self) -> str:
        """Return why it cannot be used, '' where it can."""
        if self.target.lower().startswith("http://"):
            return f"'{self.target}' is http; only https is allowed"
        if not (self.is_web or self.is_share or _DRIVE.match(self.target)):
            return f"'{self.target}' is neither \\\\server\\share\\..., nor https://..., nor a path with a drive letter"
        if self.is_share and not _SHARE.match(self.target):
            return f"'{self.target}' has no share name"
        if self.is_share and ('"' in self.user + self.password or self.password.endswith("\\") or self.password[:1] == "/"):
            return "net.exe takes no double quote in the account, no / in front of a password and no backslash at its end"
        return ""


@dataclass(frozen=True)
class Fetch:
    """One job that brings content to a local folder. The secrets are in ``environment`` and ``stdin`` alone."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = field(default=b"", repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict)


def local_folder(source: Source, name: str) -> str:
    """Return where the content lies for an installer.

    A local folder as it is, anything else in the work folder under ``name``.
    """
    return rf"{CONTENT_FOLDER}\{name}" if source.is_share or source.is_web else source.folder


def plan_fetch(source: Source, folder: str, also: str = "") -> Fetch | None:
    """Return the job that copies the content to ``folder``; None where it lies on the computer's own disk.

    ``also`` names a second file beside it that comes along, without blanks; on a web server it has to be fetched by itself.
    """
    if source.is_web:
        return _plan_download(source, folder)
    if not source.is_share:
        return None
    environment = {"OSD_FROM": source.folder, "OSD_TO": folder, "OSD_FILE": source.file_name or "*.*"}
    if not source.is_file:
        environment["OSD_OPTIONS"] = "/E"
    elif also:
        # robocopy takes several file names before its options.
        environment["OSD_OPTIONS"] = also
    if source.user:
        share = known(_SHARE.match(source.target))
        environment |= {"OSD_SHARE": share[1], "OSD_USER": source.user, "OSD_PASSWORD": source.password}
    return Fetch((rf"{SYSTEM32}\cmd.exe", "/d", "/c", rf".\{COPY_SCRIPT}"), environment, files={COPY_SCRIPT: COPY_SCRIPT_TEXT})


def _plan_download(source: Source, folder: str) -> Fetch:
    """curl.exe is part of Windows since 10 1803 and Server 2019; the account goes in as configuration on stdin."""
    argv = [rf"{SYSTEM32}\curl.exe", "--fail", "--silent", "--show-error", "--location", "--create-dirs"]
    argv += ["--output", rf"{folder}\{source.file_name}"]
    stdin = b""
    if source.user:
        argv += ["--config", "-"]
        quoted = re.sub(r'(["\\])', r"\\\1", f"{source.user}:{source.password}")
        stdin = f'user = "{quoted}"\n'.encode()
    return Fetch((*argv, source.target), stdin=stdin)


def slug(text: str) -> str:
    """Return a short name for folders and job labels: letters, digits, dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:40] or "item"
