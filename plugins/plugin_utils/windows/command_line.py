# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Windows command lines: from a list of arguments to text and back, for CreateProcess, cmd.exe and batch files.

Three readers take a command line apart on its way, each by its own rules: cmd.exe (outer quotes, operators, ``%VAR%``), then
CommandLineToArgvW or the C runtime (quotes and backslashes). Facts: Microsoft's 'Parsing C++ command-line arguments' and
'CommandLineToArgvW' [doc], ``cmd /?`` [doc], WinRS passing everything to ``%COMSPEC% /C`` [doc: ws-management 5.4].
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..wsman.known import known

#: What cmd.exe takes in one line [doc: 'Command prompt line string limitation'].
CMD_LIMIT = 8191
#: What CreateProcess takes, the NUL that ends it included [doc: CreateProcessW].
PROCESS_LIMIT = 32767

_NEEDS_QUOTES = re.compile(r'[ \t"]')
#: Backslashes count as escapes only before a quotation mark, the closing one included.
_BEFORE_QUOTE, _AT_END, _TWICE = re.compile(r'(\\*)"'), re.compile(r"(\\+)$"), r"\1\1"
_FORBIDDEN = {"\0": "a NUL character", "\r": "a line break", "\n": "a line break"}
#: Outside quotes these are operators of cmd.exe.
_OPERATORS = frozenset("&|<>^()")
#: What ends the name of a program for cmd.exe, besides blanks.
_PROGRAM_ENDS = _OPERATORS | frozenset(",;=@")
#: Between the two quotes of a ``cmd /c`` text, any of these makes cmd take the quotes off [doc: cmd /?].
_CMD_SPECIAL = frozenset("&<>()@^|")


class Verbatim(str):
    """An argument that is quoted already as its program wants it, like msiexec's ``PROPERTY="a b"``; quotes must be in pairs."""


class CommandLineError(ValueError):
    """These arguments cannot be written as a command line of that kind; the message says which and why."""


def quote(argv: Sequence[str]) -> str:
    """Return the text that CommandLineToArgvW takes apart into exactly these arguments. Not safe for cmd.exe as it is.

    The program must hold no quote: for the first argument backslashes and quotes have no escape.
    """
    if not argv:
        raise CommandLineError("A command line needs at least a program")
    if '"' in argv[0]:
        raise CommandLineError(f"The name of a program cannot hold a quotation mark: {argv[0]}")
    line = " ".join([_quote_program(argv[0]), *(quote_argument(argument) for argument in argv[1:])])
    if len(line) >= PROCESS_LIMIT:
        raise CommandLineError(f"The command line has {len(line)} characters; Windows takes {PROCESS_LIMIT - 1}: {line[:60]}…")
    return line


def _quote_program(program: str) -> str:
    _refuse_characters(program)
    return f'"{program}"' if not program or " " in program or "\t" in program else program


def quote_argument(argument: str) -> str:
    """Return one argument with quotes where it needs them; backslashes before a quote are doubled."""
    _refuse_characters(argument)
    if isinstance(argument, Verbatim):
        return str(argument)
    if argument and not _NEEDS_QUOTES.search(argument):
        return argument
    escaped = _BEFORE_QUOTE.sub(r'\1\1\\"', argument)
    return f'"{_AT_END.sub(_TWICE, escaped)}"'


def _refuse_characters(text: str) -> None:
    for character, name in _FORBIDDEN.items():
        if character in text:
            raise CommandLineError(f"A command line cannot hold {name}: {text!r}")


def split(text: str) -> list[str]:
    """Take a command line apart as CommandLineToArgvW does. An empty text gives an empty list.

    The program ends at the first blank outside quotes and knows no escapes; in the rest 2n backslashes before a quote are n, 2n+1
    are n and a plain quote, and a doubled quote within quotes is a plain one.
    """
    if not text.strip(" \t"):
        return []
    program, position = _split_program(text)
    arguments = [program]
    while True:
        while position < len(text) and text[position] in " \t":
            position += 1
        if position >= len(text):
            return arguments
        argument, position = _split_argument(text, position)
        arguments.append(argument)


def _split_program(text: str) -> tuple[str, int]:
    position = len(text) - len(text.lstrip(" \t"))
    if text[position] == '"':
        end = text.find('"', position + 1)
        return (text[position + 1 :], len(text)) if end < 0 else (text[position + 1 : end], end + 1)
    match = known(re.compile(r"[^ \t]*").match(text, position))
    return match[0], match.end()


def _split_argument(text: str, position: int) -> tuple[str, int]:
    out: list[str] = []
    quoted = False
    while position < len(text):
        char = text[position]
        if char in " \t" and not quoted:
            break
        if char == "\\":
            run = len(text) - position - len(text[position:].lstrip("\\"))
            position += run
            if position < len(text) and text[position] == '"':
                out.append("\\" * (run // 2))
                if run % 2:
                    out.append('"')
                    position += 1
            else:
                out.append("\\" * run)
        elif char == '"':
            if quoted and text[position + 1 : position + 2] == '"':
                out.append('"')
                position += 1
            else:
                quoted = not quoted
            position += 1
        else:
            out.append(char)
            position += 1
    return "".join(out), position


def cmd_line(argv: Sequence[str]) -> str:
    r"""Return the text for a WinRS command (what follows ``cmd /c``) that runs exactly this program with these arguments.

    An outer pair of quotes, which cmd takes off again, keeps the inner ones. What cmd would read as an operator is put in quotes.
    Refused are ``%`` (cmd expands it and has no escape for it on the command line), line breaks, a quote inside an argument
    beside an operator (cmd's own quote state would be turned over), and more than 8191 characters.
    """
    if not argv:
        raise CommandLineError("A command line needs at least a program")
    if '"' in argv[0]:
        raise CommandLineError(f"The name of a program cannot hold a quotation mark: {argv[0]}")
    words = [_cmd_word(argv[0], _PROGRAM_ENDS), *(_cmd_word(argument, _OPERATORS) for argument in argv[1:])]
    inner = " ".join(words)
    if _operator_outside_quotes(inner):
        guilty = next((a for a in argv if '"' in a), argv[0])
        raise CommandLineError(
            f"cmd.exe cannot be given a quotation mark beside an operator: '{guilty}'. Write it into a file, or pass it by environment"
        )
    if len(inner) + 2 > CMD_LIMIT:
        raise CommandLineError(f"The command line has {len(inner) + 2} characters; cmd.exe takes {CMD_LIMIT}: {inner[:60]}…")
    return f'"{inner}"'


def _cmd_word(argument: str, special: frozenset[str]) -> str:
    if "%" in argument:
        raise CommandLineError(
            f"A command line through cmd.exe cannot hold a percent sign: '{argument}'. Write it into a file, or pass it by environment"
        )
    word = quote_argument(argument)
    if not isinstance(argument, Verbatim) and not word.startswith('"') and any(c in special for c in argument):
        return f'"{_AT_END.sub(_TWICE, word)}"'
    return word


def _operator_outside_quotes(line: str) -> bool:
    """Tell whether cmd.exe, which knows no escaped quotes, would see an operator."""
    return any(c in _OPERATORS for part in line.split('"')[::2] for c in part)


def strip_cmd_quotes(text: str, *, exists: bool = False, s_switch: bool = False) -> str:
    """Do to the text after ``cmd /c`` what cmd.exe does to quotes, and return the line it runs.

    Quotes stay only when all hold: no ``/S``, exactly two quotes, none of ``&<>()@^|`` between them, a blank between them, and the
    text between them names an executable file (``exists``: the caller knows the files). Otherwise a leading quote is taken off
    with the last quote of the line; what follows that one stays [doc: cmd /?].
    """
    body = text.lstrip(" \t")
    if not body.startswith('"'):
        return text
    last = body.rfind('"')
    inner = body[1:last]
    keep = body.count('"') == 2 and not any(c in _CMD_SPECIAL for c in inner) and any(c in " \t" for c in inner)
    if keep and exists and not s_switch:
        return text
    return body[1:] if last == 0 else body[1:last] + body[last + 1 :]


def quoted_program(text: str) -> str:
    """Return what stands between the two quotes of a text after ``cmd /c``: the name to look up for ``exists``; '' where none is."""
    body = text.lstrip(" \t")
    return body[1 : body.rfind('"')] if body.startswith('"') and body.count('"') == 2 else ""


def batch_escape(text: str) -> str:
    """Return text for a line of a batch file: percent signs doubled."""
    _refuse_characters(text)
    return text.replace("%", "%%")


def batch_line(argv: Sequence[str]) -> str:
    """Return the line of a batch file that runs exactly this program with these arguments.

    A batch file knows an escape for ``%``, unlike the command line; quotes beside operators are still refused. Not for use behind
    ``call``, which expands percent signs once more.
    """
    mark = "\ue000"  # a private character stands for the percent sign while cmd's rules are applied
    marked = [type(argument)(argument.replace("%", mark)) for argument in argv]
    return batch_escape(cmd_line(marked)[1:-1].replace(mark, "%"))
