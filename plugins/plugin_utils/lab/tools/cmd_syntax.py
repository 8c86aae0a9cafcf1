# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The language of cmd.exe: percent expansion and the parser, as values. Nothing is run here.

cmd reads a line (in a batch file: as many lines as its parentheses need), expands ``%``, then parses it: ``&`` binds least, then
``||``, ``&&``, ``|``; quotes hide operators, ``^`` hides the next character [doc: cmd /?, if /?, for /?; knowledge]. ``for /f``,
``/d`` and ``/r`` are refused: the lab has them not (lab rule).
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_BLANKS = " \t,;="
_OPERATORS = "&|<>()\n"


class SyntaxProblem(ValueError):
    """Text that cmd refuses; the message is cmd's own."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was unexpected at this time.")


class Incomplete(SyntaxProblem):
    """A block whose closing parenthesis has not been read yet: a batch file goes on with its next line."""


@dataclass(frozen=True)
class Redirection:
    """``handle`` 0 to 9; ``mode`` ``<``, ``>``, ``>>`` with a path, or ``&`` with the handle that it becomes a copy of."""

    handle: int
    mode: str
    target: str


@dataclass(frozen=True)
class Simple:
    """One command with its arguments as text, carets taken out, quotes kept."""

    text: str
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True)
class Block:
    """Commands in parentheses."""

    body: Node
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True)
class Chain:
    """Two commands joined by ``&``, ``&&``, ``||`` or ``|``."""

    left: Node
    operator: str
    right: Node


@dataclass(frozen=True)
class Condition:
    """``kind``: errorlevel, exist, defined, or compare (``operator`` ``==`` or EQU and its like)."""

    kind: str
    left: str
    operator: str = ""
    right: str = ""
    negated: bool = False
    ignore_case: bool = False


@dataclass(frozen=True)
class If:
    """A condition with what follows from it."""

    condition: Condition
    then: Node
    otherwise: Node | None = None


@dataclass(frozen=True)
class For:
    """A loop over words (``numeric``: start, step, end)."""

    variable: str
    words: str
    body: Node
    numeric: bool = False


Node = Simple | Block | Chain | If | For
_EMPTY = Simple("")


def parse(text: str) -> Node:
    """Parse what percent expansion left. Raises SyntaxProblem; Incomplete where more lines are needed."""
    parser = _Parser(text.replace("\r\n", "\n"))
    node = parser.sequence(newlines=True)
    parser.skip(_BLANKS + "\n")
    if parser.more:
        raise SyntaxProblem(parser.rest[:1])
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._text)

    @property
    def rest(self) -> str:
        return self._text[self._at :]

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def skip(self, characters: str) -> None:
        while self.more and self._text[self._at] in characters:
            self._at += 1

    def _closing(self) -> bool:
        return not self.more or (self._depth > 0 and self._peek(")"))

    def sequence(self, *, newlines: bool) -> Node:
        """Parse commands joined by ``&``; with ``newlines`` also those on further lines."""
        if newlines:
            self.skip(_BLANKS + "\n")
        node: Node = _EMPTY if self._closing() else self._operated(0)
        while True:
            self.skip(" \t")
            if self._peek("&"):
                self._at += 1
            elif newlines and self._peek("\n"):
                self.skip(_BLANKS + "\n")
            else:
                return node
            self.skip(_BLANKS + ("\n" if newlines else ""))
            if self._closing() or self._peek("\n"):
                continue
            node = Chain(node, "&", self._operated(0))

    def _operated(self, level: int) -> Node:
        operators = ("||", "&&", "|")
        if level == len(operators):
            return self._primary()
        node = self._operated(level + 1)
        while True:
            self.skip(" \t")
            operator = operators[level]
            if not self._peek(operator) or (operator == "|" and self._peek("||")):
                return node
            self._at += len(operator)
            self.skip(_BLANKS + "\n")
            if self._closing():
                raise SyntaxProblem(operator)
            node = Chain(node, operator, self._operated(level + 1))

    def _primary(self) -> Node:
        self.skip(_BLANKS + "@")
        first = self._redirections()
        self.skip(_BLANKS + "@")
        if self._peek("("):
            return self._block(first)
        if self.more and self._text[self._at] in "&|":
            raise SyntaxProblem(self._text[self._at])
        word = re.match(r"[A-Za-z]+", self.rest)
        keyword = word[0].lower() if word else ""
        following = self.rest[len(keyword) : len(keyword) + 1]
        if keyword == "if" and following in ("", " ", "\t", "/", "("):
            self._at += 2
            return self._if()
        if keyword == "for" and following in (" ", "\t"):
            self._at += 3
            return self._for()
        if keyword == "rem" and following in ("", " ", "\t", "\n", ".", "/"):
            self._at = self._line_end()
            return Simple("rem")
        return self._simple(first)

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _block(self, first: tuple[Redirection, ...]) -> Node:
        self._at += 1
        self._depth += 1
        body = self.sequence(newlines=True)
        if not self._peek(")"):
            if self.more:
                raise SyntaxProblem(self._text[self._at])
            raise Incomplete(")")
        self._at += 1
        self._depth -= 1
        return Block(body, first + self._redirections())

    def _simple(self, first: tuple[Redirection, ...]) -> Node:
        out: list[str] = []
        redirections = list(first)
        quoted = False
        while self.more:
            char = self._text[self._at]
            if char == "\n":
                break
            if char == '"':
                quoted = not quoted
            elif not quoted:
                if char == "^":
                    self._at += 1
                    out.append(self._escaped())
                    continue
                if char in "&|" or (char == ")" and self._depth):
                    break
                if char in "<>":
                    redirections.append(self._redirection(self._handle(out, char)))
                    continue
            out.append(char)
            self._at += 1
        return Simple("".join(out), tuple(redirections))

    def _escaped(self) -> str:
        """Return the character after a caret; at the end of a line the caret joins it with the next."""
        if self._peek("\n"):
            self._at += 1
        if not self.more:
            return ""
        char = self._text[self._at]
        self._at += 1
        return char

    @staticmethod
    def _handle(out: list[str], char: str) -> int:
        """Take a digit directly before ``>`` as the handle, as cmd does when a blank (or nothing) stands before it."""
        if out and out[-1].isdigit() and (len(out) == 1 or out[-2] in _BLANKS):
            return int(out.pop())
        return 0 if char == "<" else 1

    def _redirections(self) -> tuple[Redirection, ...]:
        found: list[Redirection] = []
        while True:
            match = re.match(r"[ \t]*([0-9]?)([<>])", self.rest)
            if not match:
                return tuple(found)
            self._at += match.end() - 1
            found.append(self._redirection(int(match[1]) if match[1] else (0 if match[2] == "<" else 1)))

    def _redirection(self, handle: int) -> Redirection:
        mode = ">>" if self._peek(">>") else self._text[self._at]
        self._at += len(mode)
        copy = re.match(r"[ \t]*&[ \t]*([0-9])", self.rest)
        if copy:
            self._at += copy.end()
            return Redirection(handle, "&", copy[1])
        self.skip(" \t")
        target = self._word()
        if not target:
            raise SyntaxProblem(self.rest[:1].strip() or "The syntax of the command is incorrect. >")
        return Redirection(handle, mode, target.replace('"', ""))

    def _word(self, *, compare: bool = False) -> str:
        """Read up to a blank or an operator outside quotes; with ``compare`` also up to ``==``."""
        self.skip(" \t")
        out: list[str] = []
        quoted = False
        while self.more:
            char = self._text[self._at]
            if char == '"':
                quoted = not quoted
            elif not quoted:
                if char in " \t" + _OPERATORS or (compare and self._peek("==")):
                    break
                if char == "^":
                    self._at += 1
                    out.append(self._escaped())
                    continue
            elif char == "\n":
                break
            out.append(char)
            self._at += 1
        return "".join(out)

    def _if(self) -> Node:
        ignore_case = negated = False
        word = self._word(compare=True)
        if word.lower() == "/i":
            ignore_case, word = True, self._word(compare=True)
        if word.lower() == "not":
            negated, word = True, self._word(compare=True)
        kind = word.lower()
        if kind in ("exist", "errorlevel", "defined"):
            left = self._word()
            condition = Condition(kind, left, negated=negated)
            if not left:
                raise SyntaxProblem(self.rest[:1] or "The syntax of the command is incorrect. if")
        else:
            condition = self._comparison(word, negated, ignore_case)
        self.skip(_BLANKS)
        if self._closing() or self._peek("\n"):
            raise SyntaxProblem("The syntax of the command is incorrect. if")
        then = self.sequence(newlines=False)
        self.skip(" \t")
        if re.match(r"else(?=[\s(]|$)", self.rest, re.IGNORECASE):
            self._at += 4
            self.skip(_BLANKS)
            return If(condition, then, self.sequence(newlines=False))
        return If(condition, then)

    def _comparison(self, left: str, negated: bool, ignore_case: bool) -> Condition:
        self.skip(" \t")
        if self._peek("=="):
            self._at += 2
            self.skip("=")
            return Condition("compare", left, "==", self._word(), negated, ignore_case)
        operator = self._word().upper()
        if operator not in ("EQU", "NEQ", "LSS", "LEQ", "GTR", "GEQ"):
            raise SyntaxProblem(operator or left or "(")
        return Condition("compare", left, operator, self._word(), negated, ignore_case)

    def _for(self) -> Node:
        word = self._word()
        numeric = word.lower() == "/l"
        if numeric:
            word = self._word()
        variable = re.fullmatch(r"%([A-Za-z])", word)
        if not variable or self._word().lower() != "in":
            raise SyntaxProblem(word)
        self.skip(_BLANKS)
        end = self._set_end()
        if not self._peek("(") or end < 0:
            raise Incomplete(")")
        words = self._text[self._at + 1 : end]
        self._at = end + 1
        if self._word().lower() != "do":
            raise SyntaxProblem(self.rest[:1])
        self.skip(_BLANKS)
        return For(variable[1], words, self.sequence(newlines=False), numeric)

    def _set_end(self) -> int:
        """Return where the parenthesis after a loop's words is; one between quotes belongs to a word."""
        quoted = False
        for at in range(self._at, len(self._text)):
            if self._text[at] == '"':
                quoted = not quoted
            elif self._text[at] == ")" and not quoted:
                return at
        return -1


# --- percent expansion

Lookup = Callable[[str], str | None]
_ARGUMENT = re.compile(r"~([fdpnxsatz]*)([0-9])|([0-9*])", re.IGNORECASE)


def expand(text: str, lookup: Lookup, arguments: Sequence[str] | None = None, all_arguments: str = "", directory: str = "C:\\") -> str:
    """Replace ``%NAME%``, and in a batch file (``arguments`` given, the script itself first) ``%0``-``%9``, ``%*``, ``%~dp0``, ``%%``.

    On a command line an unknown variable stays as it is written; in a batch file it becomes nothing.
    """
    batch = arguments is not None
    out: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "%":
            out.append(text[at])
            at += 1
            continue
        if batch and text.startswith("%%", at):
            out.append("%")
            at += 2
            continue
        match = _ARGUMENT.match(text, at + 1) if batch else None
        if match and arguments is not None:
            out.append(all_arguments if match[3] == "*" else _argument(match, arguments, directory))
            at = match.end()
            continue
        end = text.find("%", at + 1)
        name = text[at + 1 : end] if end > 0 else ""
        if not name or "\n" in name:
            out.append("" if batch else "%")
            at += 1
            continue
        value = variable(name, lookup)
        if value is None and not batch:
            out.append("%")
            at += 1
            continue
        out.append(value or "")
        at = end + 1
    return "".join(out)


def variable(name: str, lookup: Lookup) -> str | None:
    """Return a variable's value, with ``:~start,length`` and ``:old=new`` applied; None where it is not defined."""
    base, colon, change = name.partition(":")
    value = lookup(base)
    if value is None or not colon:
        return value
    part = re.fullmatch(r"~(-?\d+)?(?:,(-?\d+)?)?", change)
    if part:
        start = int(part[1] or 0)
        begin = max(len(value) + start, 0) if start < 0 else start
        length = part[2]
        if length is None:
            return value[begin:]
        return value[begin : begin + int(length)] if int(length) >= 0 else value[begin : int(length)]
    old, equal, new = change.partition("=")
    if not equal or not old:
        return None
    return re.sub(re.escape(old), lambda dummy: new, value, flags=re.IGNORECASE)


def _argument(match: re.Match[str], arguments: Sequence[str], directory: str) -> str:
    number = int(match[2] or match[3])
    argument = arguments[number] if number < len(arguments) else ""
    return argument if match[3] else modified(argument, match[1], directory)


def modified(argument: str, modifiers: str, directory: str) -> str:
    """Return what ``%~`` makes of an argument: without quotes, and of its full path the parts asked for (f, d, p, n, x)."""
    plain = argument.replace('"', "")
    wanted = modifiers.lower()
    if not wanted:
        return plain
    full = ntpath.normpath(ntpath.join(directory, plain))
    if "f" in wanted:
        return full
    drive, path = ntpath.splitdrive(full)
    folder, name = ntpath.split(path)
    stem, extension = ntpath.splitext(name)
    folder = folder if folder.endswith("\\") else folder + "\\"
    parts = {"d": drive, "p": folder, "n": stem, "x": extension}
    return "".join(parts[letter] for letter in "dpnx" if letter in wanted)


def command_name(text: str) -> tuple[str, str]:
    r"""Return the first word of a command as cmd finds it, quotes kept, and what follows it as it is written.

    ``cd..``, ``echo.`` and ``md\x`` are the internal command and its argument; that is the caller's to know.
    """
    body = text.lstrip(_BLANKS)
    end = 0
    quoted = False
    while end < len(body):
        char = body[end]
        if char == '"':
            quoted = not quoted
        elif not quoted and (char in _BLANKS or (char == "/" and end)):
            break
        end += 1
    return body[:end], body[end:]


def words(text: str) -> list[str]:
    """Take the arguments of an internal command apart: blanks, ``,;=`` part them outside quotes; quotes are taken off."""
    return [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"?|[^ \t,;="])+', text)]
