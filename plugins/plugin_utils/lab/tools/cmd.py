# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""cmd.exe: ``cmd /c`` lines and batch files, run on a lab computer.

Two numbers are kept apart as in the real one: what a command returns (it decides ``&&`` and ``||`` and is the exit code of
``cmd /c``) and ERRORLEVEL (what ``if errorlevel`` sees and a batch file ends with). A program that is not found returns 1 and sets
9009; ``del``, ``echo`` and ``set`` leave ERRORLEVEL alone; ``rd`` returns its error without setting it [knowledge].
"""

from __future__ import annotations

import dataclasses
import fnmatch
import io
import ntpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from ...windows import command_line
from . import cmd_syntax as syntax
from . import files, programs
from .grammar import Cancelled
from .interface import ToolCall, Win32Problem

_NOT_FOUND = 9009
_MAX_DEPTH = 64
_SYNTAX_ERROR = b"The syntax of the command is incorrect.\r\n"


class _Exit(Exception):
    """``exit``: the whole interpreter ends; ``exit /b`` and ``goto :eof``: this batch file or call."""

    def __init__(self, code: int, *, batch: bool) -> None:
        super().__init__(code)
        self.code = code
        self.batch = batch


class _Goto(Exception):
    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


@dataclasses.dataclass
class _Batch:
    path: str
    lines: list[str]
    arguments: list[str]
    all_arguments: str


class Interpreter:
    """One cmd.exe process. Environment and directory are its own; streams and session come from the call that started it."""

    def __init__(self, call: ToolCall, *, delayed: bool = False) -> None:
        self._call = call
        self._environment = {name.upper(): (name, value) for name, value in call.environment.items()}
        self._directory = call.directory or call.machine.system_drive + "\\"
        self._errorlevel = 0
        self._delayed = delayed
        self._saved: list[tuple[dict[str, tuple[str, str]], str, bool]] = []
        self._batch: _Batch | None = None
        self._depth = 0
        self._variables: dict[str, str] = {}

    # --- entry points

    def run_line(self, text: str) -> int:
        """Run one line as ``cmd /c`` does and return its exit code."""
        if len(text) > command_line.CMD_LIMIT:
            self._write(self._call.stderr, "The command line is too long.\r\n")
            return 1
        try:
            return self._run_text(text, self._call.stdin, self._call.stdout, self._call.stderr)
        except _Exit as ended:
            return ended.code
        except _Goto:
            return 1

    def run_batch(self, path: str, arguments: str) -> int:
        """Run a batch file with the text of its arguments; returns what it leaves in ERRORLEVEL."""
        try:
            return self._batch_file(path, arguments, (self._call.stdin, self._call.stdout, self._call.stderr))
        except _Exit as ended:
            return ended.code

    # --- batch files

    def _batch_file(self, path: str, arguments: str, streams: _Streams) -> int:
        try:
            text = self._call.files.read(path).decode("utf-8", "replace")
        except Win32Problem:
            self._write(streams[2], "The system cannot find the file specified.\r\n")
            self._errorlevel = 1
            return 1
        listed = [path, *re.findall(r'(?:"[^"]*"?|[^ \t,;="])+', arguments)]
        batch = _Batch(path, text.replace("\r\n", "\n").split("\n"), listed, arguments.strip())
        return self._run_batch(batch, 0, streams)

    def _run_batch(self, batch: _Batch, line: int, streams: _Streams) -> int:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._write(streams[2], "****** B A T C H   R E C U R S I O N  exceeds STACK limits ******\r\n")
            raise _Exit(1, batch=False)
        outer, self._batch = self._batch, batch
        saved = len(self._saved)
        try:
            self._batch_lines(batch, line, streams)
        except _Exit as ended:
            if not ended.batch:
                raise
            self._errorlevel = ended.code
        finally:
            while len(self._saved) > saved:
                self._environment, self._directory, self._delayed = self._saved.pop()
            self._batch = outer
            self._depth -= 1
        return self._errorlevel

    def _batch_lines(self, batch: _Batch, at: int, streams: _Streams) -> None:
        while at < len(batch.lines):
            text, at = self._statement(batch, at)
            if text is None:
                continue
            try:
                node = syntax.parse(text)
            except syntax.SyntaxProblem as problem:
                self._write(streams[2], f"{problem}\r\n")
                raise _Exit(255, batch=False) from None
            try:
                self._run(node, *streams)
            except _Goto as jump:
                at = self._label(batch, jump.label, streams)

    def _statement(self, batch: _Batch, at: int) -> tuple[str | None, int]:
        """Return the text of the next command, with as many lines as its parentheses need, and the line after it."""
        if not batch.lines[at].strip() or batch.lines[at].lstrip(" \t,;=").startswith(":"):
            return None, at + 1
        text = ""
        while at < len(batch.lines):
            line = batch.lines[at]
            while line.endswith("^") and not line.endswith("^^") and at + 1 < len(batch.lines):
                at += 1
                line = line[:-1] + batch.lines[at]
            text += ("\n" if text else "") + self._expand(line)
            at += 1
            try:
                syntax.parse(text)
            except syntax.Incomplete:
                continue
            except syntax.SyntaxProblem:
                break
            break
        return text, at

    def _label(self, batch: _Batch, label: str, streams: _Streams) -> int:
        name = re.split(r"[\s:+]", label.lstrip(":").strip())[0].lower()
        if name == "eof":
            return len(batch.lines)
        for number, line in enumerate(batch.lines):
            match = re.match(r"[ \t,;=]*:([^\s:+,;=&|<>()]+)", line)
            if match and match[1].lower() == name:
                return number + 1
        self._write(streams[2], f"The system cannot find the batch label specified - {name}\r\n")
        raise _Exit(1, batch=True)

    # --- running what was parsed

    def _expand(self, text: str) -> str:
        batch = self._batch
        arguments = batch.arguments if batch else None
        return syntax.expand(text, self._lookup, arguments, batch.all_arguments if batch else "", self._directory)

    def _lookup(self, name: str) -> str | None:
        known = self._environment.get(name.upper())
        if known:
            return known[1]
        dynamic = {"ERRORLEVEL": str(_signed(self._errorlevel)), "CD": self._directory}
        return dynamic.get(name.upper())

    def _run_text(self, text: str, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> int:
        expanded = self._expand(text)
        if len(expanded) > command_line.CMD_LIMIT:
            self._write(stderr, "The input line is too long.\r\n")
            self._errorlevel = 1
            return 1
        try:
            node = syntax.parse(expanded)
        except syntax.SyntaxProblem as problem:
            self._write(stderr, f"{problem}\r\n")
            self._errorlevel = 1
            return 1
        return self._run(node, stdin, stdout, stderr)

    def _run(self, node: syntax.Node, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> int:
        if self._call.cancelled.is_set():
            raise Cancelled
        if isinstance(node, syntax.Simple):
            return self._redirected(node.redirections, stdin, stdout, stderr, lambda *s: self._simple(node.text, *s))
        if isinstance(node, syntax.Block):
            return self._redirected(node.redirections, stdin, stdout, stderr, lambda *s: self._run(node.body, *s))
        if isinstance(node, syntax.If):
            return self._if(node, stdin, stdout, stderr)
        if isinstance(node, syntax.For):
            return self._for(node, stdin, stdout, stderr)
        if node.operator == "|":
            between = io.BytesIO()
            self._run(_written_anew(node.left), stdin, between, stderr)
            between.seek(0)
            return self._run(_written_anew(node.right), between, stdout, stderr)
        code = self._run(node.left, stdin, stdout, stderr)
        if (node.operator == "&&" and code) or (node.operator == "||" and not code):
            return code
        if node.operator == "||" and code:
            self._errorlevel = code
        return self._run(node.right, stdin, stdout, stderr)

    def _if(self, node: syntax.If, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> int:
        condition = node.condition
        if self._holds(condition) != condition.negated:
            return self._run(node.then, stdin, stdout, stderr)
        return self._run(node.otherwise, stdin, stdout, stderr) if node.otherwise else 0

    def _holds(self, condition: syntax.Condition) -> bool:
        left, right = self._late(condition.left), self._late(condition.right)
        if condition.kind == "exist":
            return self._exists(left.replace('"', ""))
        if condition.kind == "defined":
            return self._lookup(left) is not None
        if condition.kind == "errorlevel":
            return re.fullmatch(r"-?\d+", left) is not None and _signed(self._errorlevel) >= int(left)
        if condition.ignore_case:
            left, right = left.lower(), right.lower()
        if condition.operator == "==":
            return left == right
        return _compare(left, condition.operator, right)

    def _exists(self, name: str) -> bool:
        path = self._path(name)
        if "*" in name or "?" in name:
            return bool(self._matches(path))
        if name.endswith("\\"):
            return self._call.files.is_directory(path)
        return path[-4:].lower() == "\\nul" or self._call.files.exists(path)

    def _for(self, node: syntax.For, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> int:
        code = 0
        outer = self._variables.get(node.variable)
        try:
            for word in self._loop_words(node):
                self._variables[node.variable] = word
                code = self._run(node.body, stdin, stdout, stderr)
        finally:
            self._variables.pop(node.variable, None)
            if outer is not None:
                self._variables[node.variable] = outer
        return code

    def _loop_words(self, node: syntax.For) -> list[str]:
        found = [self._late(w) for w in re.findall(r'(?:"[^"]*"|[^ \t,;=\n"])+', node.words)]
        if node.numeric:
            start, step, end = (int(word) for word in found)
            return [str(n) for n in range(start, end + (1 if step > 0 else -1), step)]
        words: list[str] = []
        for word in found:
            if "*" in word or "?" in word:
                plain = word.replace('"', "")
                words += [ntpath.join(ntpath.dirname(plain), ntpath.basename(p)) for p in self._matches(self._path(plain))]
            else:
                words.append(word)
        return words

    def _late(self, text: str) -> str:
        """Put in what is known only when a command runs: loop variables, and ``!NAME!`` where that is on."""
        for name, value in self._variables.items():
            text = re.sub(
                f"%~([fdpnx]*|z){name}(?![A-Za-z])|%{name}",
                lambda m, v=value: self._modified(v, m[1]) if m[0].startswith("%~") else v,  # type: ignore[misc]
                text,
            )
        if self._delayed and "!" in text:
            text = re.sub(r"!([^!]*)!", lambda m: syntax.variable(m[1], self._lookup) or "", text)
        return text

    def _modified(self, value: str, modifiers: str) -> str:
        """Return what ``%~`` makes of a loop variable; ``z`` is the size, nothing where there is no such file."""
        if modifiers != "z":
            return syntax.modified(value, modifiers, self._directory)
        path = self._path(value)
        if not self._call.files.exists(path):
            return ""
        return "0" if self._call.files.is_directory(path) else str(self._call.files.size(path))

    def _redirected(
        self,
        redirections: Sequence[syntax.Redirection],
        stdin: BinaryIO,
        stdout: BinaryIO,
        stderr: BinaryIO,
        run: Callable[[BinaryIO, BinaryIO, BinaryIO], int],
    ) -> int:
        handles: dict[int, BinaryIO] = {0: stdin, 1: stdout, 2: stderr}
        opened: list[BinaryIO] = []
        try:
            for redirection in redirections:
                target = self._late(redirection.target)
                if redirection.mode == "&":
                    handles[redirection.handle] = handles.get(int(target), io.BytesIO())
                    continue
                stream = self._open(redirection.mode, target)
                opened.append(stream)
                handles[redirection.handle] = stream
            return run(handles[0], handles[1], handles[2])
        except Win32Problem as problem:
            self._write(stderr, f"{files.describe(problem)}\r\n")
            self._errorlevel = 1
            return 1
        finally:
            for stream in opened:
                stream.close()

    def _open(self, mode: str, target: str) -> BinaryIO:
        if target.lower() in ("nul", "nul:"):
            return io.BytesIO()
        path = self._path(target)
        if mode == "<":
            return io.BytesIO(self._call.files.read(path))
        return self._call.files.open_write(path, append=mode == ">>")

    # --- one command

    def _simple(self, text: str, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> int:
        text = self._late(text)
        name, rest = syntax.command_name(text)
        if not name:
            return 0
        streams = (stdin, stdout, stderr)
        if name.startswith(":"):
            return 0
        internal = self._internal(name, rest)
        if internal:
            function, arguments = internal
            try:
                return function(self, arguments, streams)
            except Win32Problem as problem:
                self._write(stderr, f"{files.describe(problem)}\r\n")
                self._errorlevel = 1
                return 1
        return self._external(name, rest, streams)

    @staticmethod
    def _internal(name: str, rest: str) -> tuple[_Command, str] | None:
        r"""Find an internal command, also where its argument follows without a blank: ``echo.``, ``cd..``, ``md\x``."""
        if '"' in name:
            return None
        if name.lower() in _INTERNAL:
            return _INTERNAL[name.lower()], rest
        match = re.match(r"([A-Za-z]+)([.:\\/(\[+].*)", name, re.DOTALL)
        if match and match[1].lower() in ("echo", "cd", "chdir", "md", "mkdir", "rd", "rmdir", "type", "dir", "set", "del", "goto", "exit"):
            word = match[1].lower()
            if word == "echo" and match[2][0] == "\\":
                return None
            return _INTERNAL[word], match[2] + rest
        return None

    def _external(self, name: str, rest: str, streams: _Streams, *, called: bool = False) -> int:
        plain = name.replace('"', "")
        path = programs.find(self._call, plain, self._directory, self._environment_value("PATH"), self._environment_value("PATHEXT"))
        if path is None:
            has_folder = "\\" in plain or "/" in plain or ":" in plain
            if has_folder and not self._call.files.is_directory(ntpath.dirname(self._path(plain)) or "\\"):
                self._write(streams[2], "The system cannot find the path specified.\r\n")
                self._errorlevel = 1
                return 1
            message = f"'{name}' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"
            self._write(streams[2], message)
            self._errorlevel = _NOT_FOUND
            return 1
        if programs.is_batch(path):
            code = self._batch_file(path, rest, streams)
            if self._batch is not None and not called:
                raise _Exit(self._errorlevel, batch=True)  # a batch file started without CALL does not come back
            return code
        argument_text = rest if not rest or rest[0] in " \t" else " " + rest
        argv = command_line.split(f'"{path}"{argument_text}')
        argv[0] = path
        call = dataclasses.replace(
            self._call,
            argv=argv,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            environment=self.environment,
            directory=self._directory,
            command_line=name + argument_text,
        )
        self._errorlevel = programs.launch(call)
        return self._errorlevel

    @property
    def environment(self) -> dict[str, str]:
        """The environment as a program gets it."""
        return dict(self._environment.values())

    def _environment_value(self, name: str) -> str:
        return self._environment.get(name, ("", ""))[1]

    # --- helpers of the internal commands

    def _path(self, name: str) -> str:
        return files.resolve(self._call, name, self._directory)

    def _matches(self, pattern: str) -> list[str]:
        folder, mask = ntpath.split(pattern)
        if not self._call.files.is_directory(folder):
            return []
        wanted = "*" if mask in ("*.*", "*") else mask.lower()
        return [ntpath.join(folder, name) for name in self._call.files.names(folder) if fnmatch.fnmatch(name.lower(), wanted)]

    @staticmethod
    def _write(stream: BinaryIO, text: str) -> None:
        stream.write(text.encode("utf-8"))
        # cmd writes at once: who follows the file sees each line.
        stream.flush()

    def _fail(self, streams: _Streams, message: str, code: int = 1) -> int:
        self._write(streams[2], message + "\r\n")
        self._errorlevel = code
        return code

    def _done(self) -> int:
        self._errorlevel = 0
        return 0

    # --- internal commands

    def _echo(self, rest: str, streams: _Streams) -> int:
        text = rest[1:] if rest[:1] in " \t.:/,;=([+" and rest else rest
        if rest[:1] in ("", " ") and text.strip().lower() in ("on", "off"):
            return 0
        if not rest.strip():
            self._write(streams[1], "ECHO is on.\r\n")
            return 0
        self._write(streams[1], text + "\r\n")
        return 0

    def _rem(self, rest: str, streams: _Streams) -> int:
        return 0

    def _set(self, rest: str, streams: _Streams) -> int:
        text = rest.strip()
        if text[:2].lower() == "/a":
            return self._set_number(text[2:].strip(), streams)
        if text[:2].lower() == "/p":
            name, dummy, dummy = text[2:].strip().strip('"').partition("=")
            self._environment[name.upper()] = (name, streams[0].readline().decode("utf-8", "replace").rstrip("\r\n"))
            return 0
        text = rest.lstrip(" \t,;=")
        if text.startswith('"') and '"' in text[1:]:
            text = text[1 : text.rindex('"')]
        if "=" in text:
            name, dummy, value = text.partition("=")
            if value:
                self._environment[name.upper()] = (name, value)
            else:
                self._environment.pop(name.upper(), None)
            return 0
        found = sorted(f"{n}={v}" for n, v in self._environment.values() if n.upper().startswith(text.strip().upper()))
        if not found:
            return self._fail(streams, f"Environment variable {text.strip()} not defined")
        self._write(streams[1], "".join(line + "\r\n" for line in found))
        return 0

    def _set_number(self, text: str, streams: _Streams) -> int:
        match = re.fullmatch(r'"?\s*(\w+)\s*([-+*/%]?)=\s*(.*?)\s*"?', text)
        if not match:
            return self._fail(streams, "Missing operand.", 1073750988)
        name, operator, expression = match[1], match[2], match[3]
        words = re.sub(r"[A-Za-z_]\w*", lambda m: str(_number(self._lookup(m[0]) or "0")), expression)
        if not re.fullmatch(r"[-+*/()\d\s]+", words):
            return self._fail(streams, "Missing operator.", 1073750989)
        value = _calculate(words)
        if operator:
            value = _calculate(f"{_number(self._lookup(name) or '0')}{operator}({value})")
        self._environment[name.upper()] = (name, str(value))
        return 0

    def _cd(self, rest: str, streams: _Streams) -> int:
        text = rest.strip().replace('"', "")
        if text[:2].lower() == "/d":
            text = text[2:].strip()
        if not text:
            self._write(streams[1], self._directory + "\r\n")
            return 0
        path = self._path(text)
        if not self._call.files.is_directory(path):
            return self._fail(streams, "The system cannot find the path specified.")
        self._directory = path
        return 0

    def _md(self, rest: str, streams: _Streams) -> int:
        code = 0
        for name in syntax.words(rest):
            path = self._path(name)
            if self._call.files.exists(path):
                code = self._fail(streams, f"A subdirectory or file {name} already exists.")
            else:
                self._call.files.make_directories(path)
        return code or self._done()

    def _rd(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if switches - {"/S", "/Q"} or not names:
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        code = 0
        for name in names:
            path = self._path(name)
            if not self._call.files.exists(path):
                self._write(streams[2], "The system cannot find the file specified.\r\n")
                code = 2
            elif not self._call.files.is_directory(path):
                self._write(streams[2], "The directory name is invalid.\r\n")
                code = 267
            elif "/S" not in switches and self._call.files.names(path):
                self._write(streams[2], "The directory is not empty.\r\n")
                code = 145
            else:
                code = self._remove_tree(path, streams) or code
        return code

    def _remove_tree(self, path: str, streams: _Streams) -> int:
        try:
            self._call.files.delete_tree(path)
        except Win32Problem as problem:
            self._write(streams[2], f"{path} - {files.describe(problem)}\r\n")
            return problem.code
        return 0

    def _del(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if any(s[:2] not in ("/F", "/Q", "/S", "/A", "/P") for s in switches) or not names:
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        code = 0
        for name in names:
            path = self._path(name)
            if self._call.files.is_directory(path):
                path = ntpath.join(path, "*")
            found = self._matches(path) if "*" in path or "?" in path else [path]
            targets = [p for p in found if self._call.files.exists(p) and not self._call.files.is_directory(p)]
            if "/S" in switches:
                targets += self._below(ntpath.dirname(path), ntpath.basename(path))
            if not targets:
                self._write(streams[2], f"Could Not Find {path}\r\n")
            for target in targets:
                code = self._delete(target, "/F" in switches, streams) or code
                if "/S" in switches and not self._call.files.exists(target):
                    self._write(streams[1], f"Deleted file - {target}\r\n")
        return code

    def _delete(self, path: str, force: bool, streams: _Streams) -> int:
        """Delete one file; ``del`` reports what it cannot delete and still returns 0 [knowledge]."""
        try:
            if "read_only" in self._call.files.attributes(path):
                if not force:
                    raise Win32Problem(5)
                self._call.files.set_attributes(path, read_only=False)
            self._call.files.delete(path)
        except Win32Problem as problem:
            self._write(streams[2], f"{path}\r\n{files.describe(problem)}\r\n")
        return 0

    def _below(self, folder: str, mask: str) -> list[str]:
        found: list[str] = []
        for name in self._call.files.names(folder):
            child = ntpath.join(folder, name)
            if self._call.files.is_directory(child):
                found += [p for p in self._matches(ntpath.join(child, mask)) if not self._call.files.is_directory(p)]
                found += self._below(child, mask)
        return found

    def _copy(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if switches - {"/Y", "/-Y", "/B", "/V", "/A", "/Z"} or len(names) not in (1, 2):
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        target = self._path(names[1] if len(names) == 2 else ".")
        parts = names[0].split("+")
        sources: list[str] = []
        for part in parts:
            path = self._path(part)
            found = self._matches(path) if "*" in part or "?" in part else [path]
            found = [p for p in found if not self._call.files.is_directory(p)] if len(found) != 1 else found
            if not found or not self._call.files.exists(found[0]):
                return self._fail(streams, "The system cannot find the file specified.")
            sources += self._files_of(found)
        joined = len(parts) > 1
        folder = self._call.files.is_directory(target)
        if joined and not folder:
            data = b"".join(self._call.files.read(source) for source in sources)
            self._call.files.write(target, data)
            count = 1
        else:
            for source in sources:
                self._call.files.copy(source, ntpath.join(target, ntpath.basename(source)) if folder else target)
            count = len(sources)
        self._write(streams[1], f"        {count} file(s) copied.\r\n")
        return self._done()

    def _files_of(self, paths: Sequence[str]) -> list[str]:
        out: list[str] = []
        for path in paths:
            if self._call.files.is_directory(path):
                out += [p for p in self._matches(ntpath.join(path, "*")) if not self._call.files.is_directory(p)]
            else:
                out.append(path)
        return out

    def _move(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if switches - {"/Y", "/-Y"} or len(names) != 2:
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        target = self._path(names[1])
        source = self._path(names[0])
        sources = self._matches(source) if "*" in names[0] or "?" in names[0] else [source]
        if not sources or not self._call.files.exists(sources[0]):
            return self._fail(streams, "The system cannot find the file specified.")
        for path in sources:
            into = self._call.files.is_directory(target)
            files.move(self._call, path, ntpath.join(target, ntpath.basename(path)) if into else target)
        self._write(streams[1], f"        {len(sources)} file(s) moved.\r\n")
        return self._done()

    def _ren(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if switches or len(names) != 2 or "\\" in names[1] or ":" in names[1]:
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        source = self._path(names[0])
        target = ntpath.join(ntpath.dirname(source), names[1])
        if not self._call.files.exists(source):
            return self._fail(streams, "The system cannot find the file specified.")
        if self._call.files.exists(target) and source.lower() != target.lower():
            return self._fail(streams, "A duplicate file name exists, or the file\r\ncannot be found.")
        files.move(self._call, source, target)
        return self._done()

    def _type(self, rest: str, streams: _Streams) -> int:
        names = syntax.words(rest)
        if not names:
            return self._fail(streams, _SYNTAX_ERROR.decode().strip())
        for name in names:
            path = self._path(name)
            if not self._call.files.exists(path):
                return self._fail(streams, "The system cannot find the file specified.")
            content = self._call.files.read(path)
            # Of a file with the mark of UTF-16 cmd shows the text, in the console's code page [knowledge].
            streams[1].write(
                content[2:].decode("utf-16-le", "replace").encode("cp437", "replace") if content[:2] == b"\xff\xfe" else content
            )
        return self._done()

    def _dir(self, rest: str, streams: _Streams) -> int:
        switches, names = _switches(rest)
        if any(s[:2] not in ("/A", "/B", "/S", "/O", "/-", "/N", "/C", "/W", "/T") for s in switches):
            return self._fail(streams, "Invalid switch.")
        path = self._path(names[0] if names else ".")
        pattern = ntpath.join(path, "*") if self._call.files.is_directory(path) else path
        found = self._below(ntpath.dirname(pattern), ntpath.basename(pattern)) if "/S" in switches else []
        found = (
            self._matches(pattern) + found if "*" in pattern or "?" in pattern else [pattern] if self._call.files.exists(pattern) else []
        )
        if "/A-D" in switches or "/A:-D" in switches:
            found = [item for item in found if not self._call.files.is_directory(item)]
        if not found:
            return self._fail(streams, "File Not Found")
        for item in found:
            if "/B" in switches:
                self._write(streams[1], (item if "/S" in switches else ntpath.basename(item)) + "\r\n")
            else:
                size = "<DIR>" if self._call.files.is_directory(item) else str(self._call.files.size(item))
                self._write(streams[1], f"{size:>14} {ntpath.basename(item)}\r\n")
        return self._done()

    def _ver(self, rest: str, streams: _Streams) -> int:
        self._write(streams[1], f"\r\nMicrosoft Windows [Version {files.windows_version(self._call)}]\r\n")
        return self._done()

    def _vol(self, rest: str, streams: _Streams) -> int:
        return (
            self._done()
            if self._call.files.is_directory((rest.strip() or self._directory)[:2] + "\\")
            else self._fail(streams, "The system cannot find the path specified.")
        )

    def _goto(self, rest: str, streams: _Streams) -> int:
        label = rest.strip()
        if self._batch is None:
            return 0
        raise _Goto(label)

    def _exit(self, rest: str, streams: _Streams) -> int:
        words = rest.split()
        local = bool(words) and words[0].lower() == "/b"
        code = words[1 if local else 0] if len(words) > (1 if local else 0) else ""
        number = _number(code) & 0xFFFFFFFF if code else self._errorlevel
        raise _Exit(number, batch=local and self._batch is not None)

    def _call_command(self, rest: str, streams: _Streams) -> int:
        text = self._expand(rest.strip()) if "%" in rest else rest.strip()
        name, arguments = syntax.command_name(text)
        if name.startswith(":") and self._batch is not None:
            batch = self._batch
            listed = [name, *re.findall(r'(?:"[^"]*"?|[^ \t,;="])+', arguments)]
            inner = _Batch(batch.path, batch.lines, listed, arguments.strip())
            return self._run_batch(inner, self._label(batch, name, streams), streams)
        internal = self._internal(name, arguments)
        if internal:
            return internal[0](self, internal[1], streams)
        return self._external(name, arguments, streams, called=True)

    def _start(self, rest: str, streams: _Streams) -> int:
        """``start /wait`` is waited for; without it a program would outlive cmd, which the lab has not (lab rule)."""
        text = rest.strip()
        title = re.match(r'"[^"]*"\s*', text)
        text = text[title.end() :] if title else text
        waits = False
        while (match := re.match(r"/(\w+)\s*", text)) is not None:
            if match[1].lower() not in ("wait", "b", "min", "max", "normal"):
                return self._fail(streams, f'Invalid switch - "/{match[1]}".')
            waits = waits or match[1].lower() == "wait"
            text = text[match.end() :]
        if not waits:
            return self._fail(streams, "The lab has no start without /wait (lab rule).")
        name, arguments = syntax.command_name(text)
        return self._external(name, arguments, streams, called=True)

    def _setlocal(self, rest: str, streams: _Streams) -> int:
        self._saved.append((dict(self._environment), self._directory, self._delayed))
        if "enabledelayedexpansion" in rest.lower():
            self._delayed = True
        return 0

    def _endlocal(self, rest: str, streams: _Streams) -> int:
        if self._saved:
            self._environment, self._directory, self._delayed = self._saved.pop()
        return 0

    def _shift(self, rest: str, streams: _Streams) -> int:
        if self._batch and len(self._batch.arguments) > 1:
            del self._batch.arguments[1]
        return 0

    def _verify(self, rest: str, streams: _Streams) -> int:
        return 0

    def _drive(self, letter: str, streams: _Streams) -> int:
        if not self._call.files.is_directory(letter + "\\"):
            return self._fail(streams, "The system cannot find the drive specified.")
        self._directory = letter.upper() + "\\"
        return 0


_Streams = tuple[BinaryIO, BinaryIO, BinaryIO]
_Command = Callable[[Interpreter, str, _Streams], int]


def _drive_command(letter: str) -> _Command:
    return lambda interpreter, _rest, streams: interpreter._drive(letter, streams)


_INTERNAL: Mapping[str, _Command] = {
    "echo": Interpreter._echo,
    "rem": Interpreter._rem,
    "set": Interpreter._set,
    "cd": Interpreter._cd,
    "chdir": Interpreter._cd,
    "md": Interpreter._md,
    "mkdir": Interpreter._md,
    "rd": Interpreter._rd,
    "rmdir": Interpreter._rd,
    "del": Interpreter._del,
    "erase": Interpreter._del,
    "copy": Interpreter._copy,
    "move": Interpreter._move,
    "ren": Interpreter._ren,
    "rename": Interpreter._ren,
    "type": Interpreter._type,
    "dir": Interpreter._dir,
    "ver": Interpreter._ver,
    "vol": Interpreter._vol,
    "goto": Interpreter._goto,
    "exit": Interpreter._exit,
    "call": Interpreter._call_command,
    "start": Interpreter._start,
    "setlocal": Interpreter._setlocal,
    "endlocal": Interpreter._endlocal,
    "shift": Interpreter._shift,
    "verify": Interpreter._verify,
    "title": Interpreter._rem,
    "color": Interpreter._rem,
    "cls": Interpreter._rem,
    **{f"{chr(code)}:": _drive_command(f"{chr(code)}:") for code in range(ord("a"), ord("z") + 1)},
}


def _switches(text: str) -> tuple[set[str], list[str]]:
    """Part an internal command's arguments into switches (upper case) and names; ``/s/q`` is two switches."""
    switches: set[str] = set()
    names: list[str] = []
    for word in syntax.words(text):
        if word.startswith("/"):
            switches |= {"/" + part.upper() for part in word[1:].split("/")}
        else:
            names.append(word)
    return switches, names


def _signed(code: int) -> int:
    return code - (1 << 32) if code >= 1 << 31 else code


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        match = re.match(r"\s*[-+]?\d+", text)
        return int(match[0]) if match else 0


def _calculate(expression: str) -> int:
    """Work out a ``set /a`` expression of numbers, ``+ - * / %`` and parentheses; 0 where it is none."""
    tokens = re.findall(r"\d+|[-+*/%()]", expression)
    at = 0

    def factor() -> int:
        nonlocal at
        token = tokens[at] if at < len(tokens) else "0"
        at += 1
        if token == "-":
            return -factor()
        if token == "+":
            return factor()
        if token == "(":
            value = total()
            at += 1
            return value
        return int(token) if token.isdigit() else 0

    def product() -> int:
        nonlocal at
        value = factor()
        while at < len(tokens) and tokens[at] in "*/%":
            operator = tokens[at]
            at += 1
            right = factor()
            if operator == "*":
                value *= right
            elif right:
                quotient = abs(value) // abs(right) * (1 if (value < 0) == (right < 0) else -1)
                value = quotient if operator == "/" else value - quotient * right
        return value

    def total() -> int:
        nonlocal at
        value = product()
        while at < len(tokens) and tokens[at] in "+-":
            operator = tokens[at]
            at += 1
            value += product() if operator == "+" else -product()
        return value

    return total()


def _compare(left: str, operator: str, right: str) -> bool:
    """Compare as numbers where both are some, as text without case otherwise [doc: if /?]."""
    pair: tuple[int, int] | tuple[str, str]
    if re.fullmatch(r"-?\d+", left) and re.fullmatch(r"-?\d+", right):
        pair = (int(left), int(right))
        sign = (pair[0] > pair[1]) - (pair[0] < pair[1])
    else:
        pair = (left.lower(), right.lower())
        sign = (pair[0] > pair[1]) - (pair[0] < pair[1])
    return {"EQU": sign == 0, "NEQ": sign != 0, "LSS": sign < 0, "LEQ": sign <= 0, "GTR": sign > 0, "GEQ": sign >= 0}[operator]


def _written_anew(node: syntax.Node) -> syntax.Node:
    """Return what runs beside a pipe: a block is written anew for another cmd.exe, with a blank after each command [knowledge]."""
    return _with_blanks(node) if isinstance(node, syntax.Block) else node


def _with_blanks(node: syntax.Node) -> syntax.Node:
    if isinstance(node, syntax.Simple):
        return dataclasses.replace(node, text=node.text + " ")
    if isinstance(node, syntax.Block | syntax.For):
        return dataclasses.replace(node, body=_with_blanks(node.body))
    if isinstance(node, syntax.If):
        otherwise = _with_blanks(node.otherwise) if node.otherwise else None
        return dataclasses.replace(node, then=_with_blanks(node.then), otherwise=otherwise)
    return dataclasses.replace(node, left=_with_blanks(node.left), right=_with_blanks(node.right))


# --- the program cmd.exe


@programs.register("cmd")
def cmd(call: ToolCall) -> int:
    """Run cmd.exe: it reads its command line as text, not as split arguments."""
    return cmd_text(call, programs.after_program(call.command_line))


def cmd_text(call: ToolCall, text: str) -> int:
    """Run cmd.exe with the text after its name. Without /c commands are read from stdin."""
    delayed = s_switch = False
    rest = text.lstrip(" \t")
    while (match := re.match(r"/([a-z?])(:(?:on|off))?", rest, re.IGNORECASE)) is not None:
        letter = match[1].lower()
        rest = rest[match.end() :]
        if letter in "ck":
            return _line(call, rest, s_switch=s_switch, delayed=delayed)
        if letter == "?":
            call.stdout.write(b"Starts a new instance of the Windows command interpreter\r\n")
            return 1
        s_switch = s_switch or letter == "s"
        if letter == "v":
            delayed = (match[2] or ":on").lower() == ":on"
        rest = rest.lstrip(" \t")
    interpreter = Interpreter(call, delayed=delayed)
    code = 0
    for line in call.stdin.read().decode("utf-8", "replace").splitlines():
        code = interpreter.run_line(line)
    return code


def _line(call: ToolCall, rest: str, *, s_switch: bool, delayed: bool) -> int:
    program = command_line.quoted_program(rest)
    exists = bool(program) and programs.find(call, program, call.directory, "", call.environment.get("PATHEXT", "")) is not None
    line = command_line.strip_cmd_quotes(rest, exists=exists, s_switch=s_switch)
    return Interpreter(call, delayed=delayed).run_line(line)
