# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""curl.exe against the https server of the lab network: downloads only. Exit codes [doc: curl's man page]."""

from __future__ import annotations

import ntpath
import re
from urllib.parse import unquote, urlsplit

from . import files
from .grammar import Cancelled, complain
from .interface import ToolCall, Win32Problem
from .programs import FULL_OS, register

_BAD_OPTION, _BAD_URL, _NO_HOST, _NO_CONNECTION, _HTTP_ERROR, _WRITE_ERROR, _TIMEOUT = 2, 3, 6, 7, 22, 23, 28
_FLAGS = {
    "-f": "fail", "--fail": "fail", "-s": "silent", "--silent": "silent", "-S": "show", "--show-error": "show", "-L": "location",
    "--location": "location", "--create-dirs": "dirs", "-O": "remote-name", "--remote-name": "remote-name", "--ssl-no-revoke": "",
    "-#": "", "--progress-bar": "", "--anyauth": "", "--basic": "", "-4": "", "--no-progress-meter": "", "--tlsv1.2": "",
    "--remove-on-error": "", "--ca-native": "",
}  # fmt: skip
_VALUES = {
    "-o": "output", "--output": "output", "-K": "config", "--config": "config", "-u": "user", "--user": "user", "--url": "url",
    "--retry": "", "--retry-delay": "", "--connect-timeout": "", "-m": "", "--max-time": "", "-C": "continue", "--continue-at": "continue",
    "--cacert": "", "-A": "", "--user-agent": "", "--retry-max-time": "", "--output-dir": "folder",
}  # fmt: skip


class _BadOption(Exception):
    """curl does not know it."""


@register("curl", FULL_OS)
def curl(call: ToolCall) -> int:
    """``curl [options] url``: --fail --output --config - --user --location --create-dirs --continue-at and their short forms."""
    options: dict[str, str] = {}
    try:
        urls = _read(call, list(call.argv[1:]), options)
    except _BadOption as error:
        complain(call, f"curl: option {error}: is unknown", "curl: try 'curl --help' for more information")
        return _BAD_OPTION
    urls += [options["url"]] if "url" in options else []
    if len(urls) != 1:
        complain(call, "curl: (2) no URL specified" if not urls else "curl: the lab's curl takes one URL (lab rule)")
        return _BAD_OPTION
    try:
        return _download(call, urls[0], options)
    except Win32Problem as problem:
        code = {12007: _NO_HOST, 12029: _NO_CONNECTION, 12002: _TIMEOUT}.get(problem.code, _WRITE_ERROR)
        if "silent" not in options or "show" in options:
            complain(call, f"curl: ({code}) {files.describe(problem)}")
        return code


def _read(call: ToolCall, words: list[str], options: dict[str, str]) -> list[str]:
    urls = []
    while words:
        word = words.pop(0)
        if re.fullmatch(r"-[fsSLO#4]+[fsSLO#4oKu]", word):
            words = ["-" + letter for letter in word[1:]] + words
        elif word in _FLAGS:
            options[_FLAGS[word] or word] = "yes"
        elif word in _VALUES and words:
            value = words.pop(0)
            if _VALUES[word] == "config":
                urls += _config(call, value, options)
            else:
                options[_VALUES[word] or word] = value
        elif word.startswith("-"):
            raise _BadOption(word)
        else:
            urls.append(word)
    return urls


def _config(call: ToolCall, name: str, options: dict[str, str]) -> list[str]:
    """Read ``option = "value"`` lines; ``-`` is stdin. Within quotes a backslash escapes."""
    data = call.stdin.read() if name == "-" else call.files.read(files.resolve(call, name))
    words: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r'\s*(-{0,2}[\w-]+)\s*[=:\s]?\s*(?:"((?:[^"\\]|\\.)*)"|(\S.*?))?\s*', line)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not match:
            raise _BadOption(line)
        words.append(match[1] if match[1].startswith("-") else "--" + match[1])
        if match[2] is not None:
            words.append(re.sub(r"\\(.)", r"\1", match[2]))
        elif match[3]:
            words.append(match[3])
    return _read(call, words, options)


def _download(call: ToolCall, url: str, options: dict[str, str]) -> int:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        complain(call, "curl: (3) URL using bad/illegal format or missing URL")
        return _BAD_URL
    user, password = (options.get("user", "").split(":", 1) + [""])[:2]
    target = _target(call, parts.path, options)
    offset = 0
    if options.get("continue") and target and call.files.is_file(target):
        offset = call.files.size(target) if options["continue"] == "-" else int(options["continue"])
    status, dummy, chunks = call.machine.network.http_get(url, user=user, password=password, offset=offset)
    if status >= 400 and "fail" in options:
        complain(call, f"curl: (22) The requested URL returned error: {status}")
        return _HTTP_ERROR
    if target is None:
        for chunk in chunks:
            call.stdout.write(chunk)
        return 0
    folder = ntpath.dirname(target)
    if not call.files.is_directory(folder):
        if "dirs" not in options:
            complain(call, f"curl: (23) Failure writing output to destination: {target}")
            return _WRITE_ERROR
        call.files.make_directories(folder)
    with call.files.open_write(target, append=offset > 0) as file:
        for chunk in chunks:
            if call.cancelled.is_set():
                raise Cancelled
            file.write(chunk)
    return 0


def _target(call: ToolCall, path: str, options: dict[str, str]) -> str | None:
    name = options.get("output")
    if name is None and "remote-name" in options:
        name = unquote(path.rpartition("/")[2])
    if name is None or name == "-":
        return None
    base = files.resolve(call, options["folder"]) if "folder" in options else call.directory
    return files.resolve(call, name, base)
