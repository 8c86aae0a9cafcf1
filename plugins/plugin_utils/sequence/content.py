# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declared content: shares are connected once in an environment, and every source is read by the computer before anything is destroyed."""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..steps.base import StepFailure
from ..windows import network_drives
from ..windows.computer import Computer, Environment
from ..windows.exit_codes import find_meaning
from ..windows.image import ImageError, read_wim
from ..windows.local_content import Source
from ..windows.range_file import open_ranges
from .endpoints import Variables
from .once import sha256_of

_SHARE = re.compile(r"(\\\\[^\\]+\\[^\\]+)")
_CONNECT_FAILED = 64
#: Seconds for a web server to answer.
_WEB_TIMEOUT = 10.0
#: Which images' architectures a processor runs, by Win32_Processor.Architecture.
_RUNS: Mapping[int, tuple[str, ...]] = {0: ("x86",), 9: ("x64", "x86"), 12: ("arm64",)}
#: Constant: account and password come by the environment, and net.exe has no other way than its command line for them.
_PROBE_SCRIPT_TEXT = (
    "\r\n".join(
        [
            "@echo off",
            "if not defined OSD_USER goto probe",
            'net use "%OSD_SHARE%" "%OSD_PASSWORD%" /user:"%OSD_USER%" /persistent:no',
            f"if errorlevel 1 exit /b {_CONNECT_FAILED}",
            ":probe",
            "set OSD_CODE=0",
            '>"%OSD_PROBE%" echo probe',
            'if not exist "%OSD_PROBE%" set OSD_CODE=5',
            'if exist "%OSD_PROBE%" del /f /q "%OSD_PROBE%"',
            'if exist "%OSD_PROBE%" set OSD_CODE=5',
            'if defined OSD_USER net use "%OSD_SHARE%" /delete /y',
            "exit /b %OSD_CODE%",
        ]
    )
    + "\r\n"
).encode("ascii")


class ShareConnections:
    """The shares that are connected in this environment. All of Windows PE is one logon session, so one connection serves every job."""

    def __init__(self) -> None:
        """Begin with none."""
        self._connected: set[tuple[str, str, str]] = set()

    def connect(self, computer: Computer, source: Mapping[str, Any], *, fresh: bool = False) -> str:
        """Return the source's path, its share connected with its account. StepFailure names share, account and code.

        ``fresh``: with no other connection to its server than the one that the source's own account makes. At most one request, two where
        another account is connected to that server.
        """
        target = str(source["target"])
        account = source.get("account") or {}
        share = _SHARE.match(target)
        user, password = str(account.get("user") or ""), str(account.get("password") or "")
        if not share or computer.environment is not Environment.WINDOWS_PE or not (user or fresh):
            return target
        key = (share[1].lower(), user.lower(), password)
        if key in self._connected:
            return target
        if user:
            code, others_ended = network_drives.connect(computer.cim, share[1], user, password, fresh=fresh)
            if others_ended:
                self._connected = {known for known in self._connected if _server(known[0]) != _server(key[0])}
        else:
            code = network_drives.disconnect_all(computer.cim)
            self._connected.clear()
        if code:
            raise StepFailure(
                f"The computer could not connect to {share[1]}{f' as {user}' if user else ''}: {_system_error(code)}.",
                code=code,
                remedy="Check server, share, account and password.",
            )
        self._connected.add(key)
        return target


def _server(share: str) -> str:
    return share.split("\\")[2]


def _system_error(code: int) -> str:
    meaning = find_meaning("win32", code)
    return f"system error {code}" + (f" ({meaning.text})" if meaning else "")


def declared_sources(variables: Variables, phases: Sequence[str]) -> list[dict[str, Any]]:
    """Return every source that the roles' variables declare for these phases, with a name for messages."""
    found = [{"name": "osd_boot_image", "boots": True, **variables.mapping("osd_boot_image")}]
    if "build" in phases:
        found.append({"name": "osd_image", "image_index": variables.get("osd_image_index", 1), **variables.mapping("osd_image")})
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


def rehearse_capture(context: Any, computer: Computer, capture: Mapping[str, Any]) -> None:
    """Write and delete a small file where the image will go. StepFailure where the account may not."""
    pe = computer.environment is Environment.WINDOWS_PE
    target, account = str(capture["path"]), capture.get("account") or {}
    probe = f"{context.content({'target': target, 'account': account}) if pe else target}.{context.run_id}.probe"
    environment = {"OSD_PROBE": probe}
    share = _SHARE.match(target)
    if not pe and share and account.get("user"):
        # A job in Windows has its own logon session: it connects the share itself.
        environment |= {"OSD_SHARE": share[1], "OSD_USER": str(account["user"]), "OSD_PASSWORD": str(account.get("password") or "")}
    drive = "X:" if pe else "C:"
    job = context.run_job(
        computer,
        "rehearse-capture",
        [rf"{drive}\Windows\System32\cmd.exe", "/d", "/c", r".\rehearse.cmd"],
        environment=environment,
        time_limit=120,
        files={"rehearse.cmd": _PROBE_SCRIPT_TEXT},
    )
    if job.exit_code == _CONNECT_FAILED:
        raise StepFailure(
            f"The computer could not connect to {share[1] if share else target} as {account.get('user')}.",
            code=job.exit_code,
            remedy="Check server, share, account and password of osd_capture; the log holds the system error's number.",
            log=str(job.log or ""),
        )
    if job.exit_code:
        raise StepFailure(
            f"The image cannot be written to {capture['path']}: a test file there failed with code {job.exit_code}.",
            code=job.exit_code,
            remedy="Check the folder and that the account of osd_capture may create and delete files in it.",
            log=str(job.log or ""),
        )


def check_sources(context: Any, computer: Computer, sources: Sequence[Mapping[str, Any]], verified: Collection[str] = ()) -> list[str]:
    """Have every source read before anything is destroyed. StepFailure names all that cannot be used.

    Each is a dictionary with ``name``, ``target``, perhaps ``account``, ``sha256``, ``controller``, ``image_index``, ``boots``. In Windows
    PE the computer itself reads them, one account after the other; in the full operating system a remote logon reaches no share, so there
    only the control node's side is read. Returns what was hashed; what is in ``verified`` is not hashed again.
    """
    processor = _processor(computer) if any("image_index" in source for source in sources) else None
    pe = computer.environment is Environment.WINDOWS_PE
    problems: list[str] = []
    hashed: list[str] = []
    for source in sorted(sources, key=_account_of):
        check = _Check(context, computer, source, processor, frozenset(verified))
        found = check.on_control_node(content=not pe)
        if pe and not found:
            found = check.on_computer()
        problems += [f"{source['name']}: {problem}" for problem in found]
        hashed += check.hashed
    if problems:
        raise StepFailure(
            "Content cannot be used. " + ". ".join(problems) + ".",
            remedy="Correct the paths, accounts and files. Nothing was changed on the computer.",
        )
    return hashed


def _account_of(source: Mapping[str, Any]) -> tuple[str, str]:
    account = source.get("account") or {}
    return str(account.get("user") or "").lower(), str(source["target"]).lower()


def _processor(computer: Computer) -> int | None:
    """Return Win32_Processor.Architecture: 0 x86, 9 x64, 12 ARM64 [doc: win32/CIMWin32Prov win32-processor]. One request."""
    rows = computer.cim.query("SELECT Architecture FROM Win32_Processor")
    value = rows[0]["Architecture"] if rows else None
    return value if isinstance(value, int) else None


class _Check:
    """One source: what keeps it from being used."""

    def __init__(
        self, context: Any, computer: Computer, source: Mapping[str, Any], processor: int | None, verified: frozenset[str]
    ) -> None:
        self._context = context
        self._computer = computer
        self._source = source
        self._processor = processor
        self._verified = verified
        self._target = Source.from_option(source)
        self.hashed: list[str] = []

    def on_control_node(self, *, content: bool) -> list[str]:
        """Look for the declared copy; with ``content`` read it, too."""
        if self._target.problem():
            return [self._target.problem()]
        if not self._source.get("controller"):
            return []
        path: Path = self._context.variables.path(self._source["controller"])
        if not path.exists():
            return [f"{path} is not on the control node"]
        if not content or not path.is_file():
            return []
        wanted = self._target.sha256
        if wanted and (found := sha256_of(path)) != wanted:
            return [f"{path} has SHA-256 {found}, declared is {wanted}"]
        with path.open("rb") as file:
            return self._image_problems(file, str(path))

    def on_computer(self) -> list[str]:
        """Have the computer read it. Windows PE has no program for https: there the built Windows reads it, and says so first."""
        if self._target.is_web:
            return self._web_problems()
        try:
            path = self._context.content(self._source, fresh=True)
        except StepFailure as failure:
            return [failure.message.rstrip(".")]
        path = path.rstrip("\\")
        if not self._target.is_file and self._computer.is_folder(path):
            return []
        info = self._computer.file_info(path)
        if info is None:
            return [f"{path} is not there, or the account may not read it"]
        problems = self._size_problems(info.size) + self._hash_problems(path, info.size)
        if not problems:
            problems = self._image_problems(open_ranges(self._computer, path, info.size), path)
        if not problems and self._source.get("boots"):
            beside = path.rpartition("\\")[0] + r"\boot.sdi"
            if self._computer.file_info(beside) is None:
                problems = [f"{beside} is not there; it belongs beside the boot image"]
        return problems

    def _size_problems(self, size: int) -> list[str]:
        local = self._source.get("controller")
        path = self._context.variables.path(local) if local else None
        if path is None or not path.is_file() or path.stat().st_size == size:
            return []
        return [f"{self._target.target} has {size} bytes, {path} on the control node has {path.stat().st_size}: they are not the same file"]

    def _hash_problems(self, path: str, size: int) -> list[str]:
        wanted = self._target.sha256
        mark = f"{path.lower()}|{size}|{wanted}"
        if not wanted or mark in self._verified:
            return []
        self._context.progress(None, f"computing SHA-256 of {path}")
        found = self._computer.file_hash(path)
        if found != wanted:
            return [f"{path} has SHA-256 {found}, declared is {wanted}"]
        self.hashed.append(mark)
        return []

    def _image_problems(self, file: BinaryIO, name: str) -> list[str]:
        """Read a WIM's header and description: index, kind, architecture, a file that was split or never finished."""
        index, boots = self._source.get("image_index"), self._source.get("boots")
        if index is None and not boots:
            return []
        try:
            wim = read_wim(file)
        except ImageError as error:
            return [f"{name} cannot be used as an image: {error}"]
        if wim.header.parts != 1:
            return [f"{name} is part {wim.header.part} of {wim.header.parts} of a split file; join it with 'dism /Export-Image'"]
        if boots:
            bootable = wim.header.boot_index or any(image.is_windows_pe for image in wim.images)
            return [] if bootable else [f"{name} holds no Windows PE"]
        try:
            image = wim.image(int(index or 0))
        except (KeyError, ValueError):
            held = ", ".join(f"{image.index} {image.name}" for image in wim.images)
            return [f"{name} has no image {index}; it holds {held}"]
        if not image.is_windows or image.is_windows_pe:
            return [f"image {index} of {name} ({image.name}) is {'Windows PE' if image.is_windows_pe else 'no Windows'}"]
        fitting = _RUNS.get(self._processor, ()) if self._processor is not None else ()
        if fitting and image.architecture and image.architecture not in fitting:
            return [f"image {index} of {name} is for {image.architecture}; the computer's processor runs {' and '.join(fitting)}"]
        return []

    def _web_problems(self) -> list[str]:
        problem = web_problem(self._target)
        if problem is None:
            self._context.warn(
                f"{self._source['name']}: {self._target.target} could not be asked for from the control node, and Windows PE has no "
                "program for it: only the built Windows will tell whether it is there."
            )
        return [problem] if problem else []


def web_problem(source: Source) -> str | None:
    """Ask for a file's head from the control node; return what is wrong with it, '' for nothing, None where the server is not reached."""
    request = urllib.request.Request(source.target, method="HEAD")
    if source.user:
        token = base64.b64encode(f"{source.user}:{source.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.build_opener().open(request, timeout=_WEB_TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        # A server may refuse HEAD alone.
        return "" if error.code in (405, 501) else f"{source.target} answers with HTTP {error.code}"
    except (OSError, ValueError):
        return None
