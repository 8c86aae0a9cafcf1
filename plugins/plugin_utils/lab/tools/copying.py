# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""robocopy, xcopy, certutil, tar, expand: files from here to there [doc: wsd/robocopy, wsd/xcopy, wsd/certutil, wsd/expand; man bsdtar]."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import io
import ntpath
import re
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import certificates
from . import files, servicing
from .grammar import Cancelled, UsageError, complain, say, spaced_options
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, register

_ROBOCOPY_FLAGS = frozenset(
    [
        "s",
        "e",
        "z",
        "b",
        "zb",
        "j",
        "np",
        "nfl",
        "ndl",
        "njh",
        "njs",
        "mir",
        "purge",
        "mov",
        "move",
        "xo",
        "xn",
        "xc",
        "xx",
        "xj",
        "xjd",
        "xjf",
        "copyall",
        "sec",
        "is",
        "it",
        "im",
        "fp",
        "bytes",
        "eta",
        "tee",
        "v",
        "ts",
        "x",
        "l",
        "nooffload",
        "compress",
        "a",
        "m",
        "nodcopy",
    ]
)
_ROBOCOPY_VALUES = frozenset(
    ["r", "w", "mt", "copy", "dcopy", "log", "log+", "unilog", "unilog+", "xf", "xd", "lev", "ipg", "max", "min", "unicode"]
)
_COPIED, _EXTRA, _FAILED, _FATAL = 1, 2, 8, 16


@dataclass
class _Job:
    """One robocopy: what it was asked for and what came of it."""

    source: str
    target: str
    masks: tuple[str, ...]
    flags: set[str]
    excluded_files: list[str] = field(default_factory=list)
    excluded_folders: list[str] = field(default_factory=list)
    retries: int = 3
    wait: float = 5
    code: int = 0

    @property
    def deep(self) -> bool:
        return bool(self.flags & {"s", "e", "mir"})

    @property
    def removes_extra(self) -> bool:
        return bool(self.flags & {"mir", "purge"})


@register("robocopy")
def robocopy(call: ToolCall) -> int:
    """``robocopy source target [file …] [options]``; the code is a bit mask, 8 and above are failures [doc: wsd/robocopy]."""
    try:
        job = _robocopy_job(call)
    except UsageError as error:
        say(call, f'ERROR : Invalid Parameter : "{error}"')
        return _FATAL
    try:
        if not call.files.is_directory(job.source):
            raise Win32Problem(2)
        if "l" not in job.flags and not call.files.is_directory(job.target):
            call.files.make_directories(job.target)
    except Win32Problem as problem:
        say(call, f"ERROR {problem.code} (0x{problem.code:08X}) Accessing Source Directory {job.source}", files.describe(problem))
        return _FATAL
    _copy_folder(call, job, job.source, job.target)
    return job.code


def _robocopy_job(call: ToolCall) -> _Job:
    plain: list[str] = []
    flags: set[str] = set()
    job = _Job("", "", (), flags)
    words = list(call.argv[1:])
    while words:
        word = words.pop(0)
        if not word.startswith("/"):
            plain.append(word)
            continue
        name, colon, value = word[1:].lower().partition(":")
        if name in ("xf", "xd") and not colon:
            taken: list[str] = []
            while words and not words[0].startswith("/"):
                taken.append(words.pop(0))
            (job.excluded_files if name == "xf" else job.excluded_folders).extend(taken)
        elif name in ("r", "w") and value.isdigit():
            if name == "r":
                job.retries = int(value)
            else:
                job.wait = float(value)
        elif (name in _ROBOCOPY_FLAGS and not colon) or (name in _ROBOCOPY_VALUES and (value or name == "mt")):
            flags.add(name)
        else:
            raise UsageError(word)
    if len(plain) < 2:
        raise UsageError("source or target is missing")
    job.source, job.target = files.resolve(call, plain[0]), files.resolve(call, plain[1])
    job.masks = tuple(plain[2:]) or ("*.*",)
    return job


def _copy_folder(call: ToolCall, job: _Job, source: str, target: str) -> None:
    names = call.files.names(source)
    folders = [n for n in names if call.files.is_directory(ntpath.join(source, n))]
    wanted = [n for n in names if n not in folders and _chosen(n, job.masks) and not _chosen(n, job.excluded_files, whole=False)]
    for name in wanted:
        if call.cancelled.is_set():
            raise Cancelled
        _copy_one(call, job, ntpath.join(source, name), ntpath.join(target, name))
    if job.removes_extra and call.files.is_directory(target):
        for name in call.files.names(target):
            if name.lower() not in {n.lower() for n in names}:
                path = ntpath.join(target, name)
                (call.files.delete_tree if call.files.is_directory(path) else call.files.delete)(path)
                job.code |= _EXTRA
    if job.deep:
        for name in folders:
            inner = ntpath.join(source, name)
            if _chosen(name, job.excluded_folders, whole=False) or inner.lower() in {f.lower() for f in job.excluded_folders}:
                continue
            if "s" in job.flags and not job.flags & {"e", "mir"} and not files.walk(call, inner):
                continue
            if not call.files.is_directory(ntpath.join(target, name)) and "l" not in job.flags:
                call.files.make_directories(ntpath.join(target, name))
            _copy_folder(call, job, inner, ntpath.join(target, name))


def _chosen(name: str, masks: Sequence[str], *, whole: bool = True) -> bool:
    return any((whole and mask in ("*.*", "*")) or fnmatch.fnmatch(name.lower(), mask.lower()) for mask in masks)


def _copy_one(call: ToolCall, job: _Job, source: str, target: str) -> None:
    there = call.files.is_file(target)
    if there and "is" not in job.flags and _same(call, source, target):
        return
    if "l" in job.flags:
        job.code |= _COPIED
        return
    for attempt in range(job.retries + 1):
        try:
            call.files.copy(source, target)
            if job.flags & {"mov", "move"}:
                call.files.delete(source)
            job.code |= _COPIED
            say(call, f"\t    New File  \t{call.files.size(target):>12}\t{ntpath.basename(source)}")
            return
        except Win32Problem as problem:
            say(call, f"ERROR {problem.code} (0x{problem.code:08X}) Copying File {source}", files.describe(problem))
            if attempt < job.retries and call.machine.wait(job.wait, call.cancelled):
                raise Cancelled from None
    job.code |= _FAILED


def _same(call: ToolCall, source: str, target: str) -> bool:
    """Robocopy compares size and time; copies keep the time."""
    view = call.files
    return view.size(source) == view.size(target) and abs((view.modified(source) - view.modified(target)).total_seconds()) < 2


@register("xcopy")
def xcopy(call: ToolCall) -> int:
    """``xcopy source [target] [/s] [/e] [/y] [/i] [/h] [/r] [/k] [/q] [/c] [/f]``.

    0 ok, 1 nothing found, 4 no room or wrong syntax, 5 disk error.
    """
    plain, flags = [], set()
    for word in call.argv[1:]:
        if word.startswith("/"):
            flags.add(word.lower())
        else:
            plain.append(word)
    if flags - {"/s", "/e", "/y", "/i", "/h", "/r", "/k", "/q", "/c", "/f", "/-y", "/v", "/d", "/j"} or len(plain) not in (1, 2):
        complain(call, "Invalid number of parameters")
        return 4
    source, target = files.resolve(call, plain[0]), files.resolve(call, plain[1] if len(plain) == 2 else ".")
    deep = bool(flags & {"/s", "/e"})
    try:
        if call.files.is_file(source) and not call.files.is_directory(target) and "/i" not in flags and not plain[-1].endswith("\\"):
            if not call.files.exists(target) and "/y" not in flags:
                return 2  # it asks whether a file or a folder is meant
            call.files.copy(source, target)
            return 0
        folder, mask = (source, "*") if call.files.is_directory(source) else ntpath.split(source)
        job = _Job(folder, target, (mask,), {"e"} if "/e" in flags else {"s"} if deep else set(), retries=0)
        if not call.files.is_directory(folder):
            complain(call, f"File not found - {ntpath.basename(source)}")
            return 4
        if not call.files.is_directory(target):
            call.files.make_directories(target)
        _copy_folder(call, job, folder, target)
    except Win32Problem as problem:
        complain(call, files.describe(problem))
        return 4 if problem.code == 112 else 5
    return 5 if job.code & _FAILED else 0


# --- certutil


_PFX_MODIFIERS = {"at_signature", "at_keyexchange", "noexport", "nocert", "nochain", "noroot", "protect"}


@register("certutil", FULL_OS)
def certutil(call: ToolCall) -> int:
    """``-hashfile file [algorithm]``, ``-decode in out``, ``-encode in out``, ``-importpfx``, ``-delstore``, ``-addstore``."""
    words = [re.sub("^/", "-", word) for word in call.argv[1:]]
    flags: set[str] = set()
    password = ""
    while words and words[0].lower() in ("-f", "-p", "-user", "-enterprise", "-v", "-q"):
        flag = words.pop(0).lower()
        flags.add(flag)
        if flag == "-p" and words:
            password = words.pop(0)
    verb = words[0].lower() if words else ""
    arguments = [word for word in words[1:] if word.lower() not in ("-f",)]
    if any(word.lower() == "-f" for word in words[1:]):
        flags.add("-f")
    try:
        if verb == "-hashfile" and len(arguments) in (1, 2):
            return _hash(call, files.resolve(call, arguments[0]), arguments[1] if len(arguments) == 2 else "SHA1")
        if verb in ("-decode", "-encode") and len(arguments) == 2:
            return _code(call, verb, *(files.resolve(call, name) for name in arguments), force="-f" in flags)
        if verb in ("-importpfx", "-addstore", "-delstore") and arguments:
            return _store(call, verb, arguments, password)
    except Win32Problem as problem:
        code = 0x80070000 | problem.code
        say(call, f"CertUtil: {verb} command FAILED: {code:#x} (WIN32: {problem.code})", f"CertUtil: {files.describe(problem)}")
        return code
    complain(call, f"Unknown arg: {verb}")
    return 0x80070057


def _hash(call: ToolCall, path: str, algorithm: str) -> int:
    if algorithm.upper() not in ("MD5", "SHA1", "SHA256", "SHA384", "SHA512"):
        return 0x80090008
    digest = hashlib.new(algorithm.lower())
    size = call.files.size(path)
    if size == 0:
        raise Win32Problem(1006, "The volume for a file has been externally altered so that the opened file is no longer valid.")
    with call.files.open_read(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    say(call, f"{algorithm.upper()} hash of {path}:", digest.hexdigest(), "CertUtil: -hashfile command completed successfully.")
    return 0


def _code(call: ToolCall, verb: str, source: str, target: str, *, force: bool) -> int:
    if call.files.exists(target) and not force:
        raise Win32Problem(80)
    content = call.files.read(source)
    if verb == "-encode":
        text = base64.b64encode(content).decode()
        lines = ["-----BEGIN CERTIFICATE-----", *(text[i : i + 64] for i in range(0, len(text), 64)), "-----END CERTIFICATE-----", ""]
        data = "\r\n".join(lines).encode()
    else:
        body = b"".join(line for line in content.split() if not line.startswith(b"-----") and b"CERTIFICATE" not in line)
        try:
            data = base64.b64decode(body, validate=True)
        except binascii.Error:
            raise Win32Problem(13, "The data is invalid.") from None
        if not body:
            raise Win32Problem(13, "The data is invalid.")
    call.files.write(target, data)
    say(call, f"Input Length = {len(content)}", f"Output Length = {len(data)}", f"CertUtil: {verb} command completed successfully.")
    return 0


def _store(call: ToolCall, verb: str, arguments: list[str], password: str) -> int:
    """The store's name is optional before a PFX file, whose modifiers come last."""
    if not call.session.elevated:
        raise Win32Problem(5)
    registry = call.machine.registry
    if verb == "-delstore":
        if len(arguments) != 2 or certificates.find(registry, arguments[1], arguments[0]) is None:
            raise Win32Problem(2)
        registry.delete_key(rf"HKLM\SOFTWARE\Microsoft\SystemCertificates\{arguments[0]}\Certificates\{arguments[1]}")
    elif verb == "-addstore":
        if len(arguments) != 2:
            raise Win32Problem(87)
        content = call.files.read(files.resolve(call, arguments[1]))
        certificates.store_certificate(registry, arguments[0], content)
    else:
        if len(arguments) > 1 and {word.lower() for word in arguments[-1].split(",")} <= _PFX_MODIFIERS:
            arguments = arguments[:-1]
        if len(arguments) > 2:
            raise Win32Problem(87)
        store = arguments[0] if len(arguments) == 2 else "MY"
        certificates.import_pfx(registry, call.files, store.upper(), call.files.read(files.resolve(call, arguments[-1])), password)
    say(call, f"CertUtil: {verb} command completed successfully.")
    return 0


# --- tar


@register("tar", FULL_OS)
def tar(call: ToolCall) -> int:
    """``tar {-x|-c|-t}[v][z]f file|- [-C folder] [-T -] [name …]``: bsdtar of Windows, archives on stdin and stdout too.

    ``-T -`` reads the names from stdin, a line each as it is, blanks at its end too [doc: bsdtar(1)].
    """
    mode, archive, folder, plain, listed = "", "", call.directory, [], False
    words = list(call.argv[1:])
    first = True
    while words:
        word = words.pop(0)
        if word == "-C" and words:
            folder = files.resolve(call, words.pop(0), folder)
        elif word == "-T" and words and words[0] == "-":
            words.pop(0)
            listed = True
        elif word == "--":
            plain += words
            words = []
        elif re.fullmatch(r"-[xctvzfkpm]+", word) or (first and re.fullmatch(r"[xctvzfkpm]+", word)):
            mode += "".join(letter for letter in word if letter in "xct")
            if "f" in word:
                if not words:
                    complain(call, "tar: Option -f requires an argument")
                    return 1
                archive = words.pop(0)
        elif word.startswith("-"):
            complain(call, f"tar: Option {word} is not supported")
            return 1
        else:
            plain.append(word)
        first = False
    if len(mode) != 1 or not archive:
        complain(call, "tar: Must specify one of -c, -r, -t, -u, -x")
        return 1
    if listed and mode == "c":
        plain += [line for line in call.stdin.read().decode("utf-8", "replace").splitlines() if line]
    elif mode == "c" and not plain:
        complain(call, "tar: no files or directories specified")
        return 1
    try:
        return (
            _create_tar(call, archive, folder, plain) if mode == "c" else _extract_tar(call, archive, folder, plain, list_only=mode == "t")
        )
    except tarfile.TarError:
        complain(call, "tar: Unrecognized archive format")
    except Win32Problem as problem:
        complain(call, f"tar: {files.describe(problem)}")
    return 1


def _create_tar(call: ToolCall, archive: str, folder: str, names: list[str]) -> int:
    buffer = io.BytesIO()
    code = 0
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name in names:
            path = files.resolve(call, name, folder)
            for file in files.walk(call, path) if call.files.is_directory(path) else [path]:
                try:
                    content = call.files.read(file)
                except Win32Problem as problem:
                    # It goes on with the next one, and ends with 1.
                    complain(call, f"tar: {file}: {files.describe(problem)}")
                    code = 1
                    continue
                relative = ntpath.relpath(file, folder) if file.lower().startswith(folder.lower()) else file[3:]
                entry = tarfile.TarInfo(relative.replace("\\", "/"))
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))
    if archive == "-":
        call.stdout.write(buffer.getvalue())
    else:
        call.files.write(files.resolve(call, archive), buffer.getvalue())
    return code


def _extract_tar(call: ToolCall, archive: str, folder: str, names: list[str], *, list_only: bool) -> int:
    data = call.stdin if archive == "-" else io.BytesIO(call.files.read(files.resolve(call, archive)))
    found = set()
    with tarfile.open(fileobj=data, mode="r|*") as source:
        for entry in source:
            name = entry.name.removeprefix("./").rstrip("/")
            if names and not any(fnmatch.fnmatch(name, wanted) or name.startswith(wanted.rstrip("/") + "/") for wanted in names):
                continue
            found.add(name)
            if list_only:
                say(call, name)
                continue
            if name.startswith("/") or ".." in name.split("/") or ":" in name:
                complain(call, f"tar: {name}: Path contains '..' or is absolute")
                return 1
            _extract_entry(call, source, entry, ntpath.join(folder, name.replace("/", "\\")))
    data.read()
    return 0 if found or not names else 1


def _extract_entry(call: ToolCall, source: tarfile.TarFile, entry: tarfile.TarInfo, target: str) -> None:
    parent = target if entry.isdir() else ntpath.dirname(target)
    if not call.files.is_directory(parent):
        call.files.make_directories(parent)
    content = source.extractfile(entry) if entry.isfile() else None
    if content is not None:
        # As it comes in; libarchive shares what it writes with nobody [knowledge].
        with call.files.open_write(target, alone=True) as file:
            shutil.copyfileobj(content, file)


# --- expand


@register("expand")
def expand(call: ToolCall) -> int:
    """``expand [-r] source [target]``, ``expand -f:mask source.cab target`` [doc: wsd/expand]: of a declared lab package, its own file."""
    try:
        options = spaced_options([w for w in call.argv[1:] if not w.lower().startswith(("-f:", "/f:"))], ("r", "i", "d"), ())
    except UsageError:
        complain(call, "Unrecognized option.")
        return 1
    masks = [w[3:] for w in call.argv[1:] if w.lower().startswith(("-f:", "/f:"))]
    if len(options.rest) != 2 and not ("d" in options.flags and len(options.rest) == 1):
        complain(call, "No destination specified.")
        return 1
    source = files.resolve(call, options.rest[0])
    if not call.files.is_file(source):
        complain(call, f"Can't open input file: {source}.")
        return 1
    package = servicing.read_declaration(call, source, "lab_package")
    if package is None:
        complain(call, f"{source} is no cabinet.")
        return 1
    name = ntpath.splitext(ntpath.basename(source))[0] + ".cab"
    if "d" in options.flags or (masks and not any(fnmatch.fnmatch(name.lower(), mask.lower()) for mask in masks)):
        say(call, f"{source}: {name}")
        return 0
    target = files.resolve(call, options.rest[1])
    if call.files.is_directory(target):
        target = ntpath.join(target, name)
    call.files.copy(source, target)
    say(call, "Expanding Files Complete ...", "1 files total.")
    return 0
