# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option grammars that several tools share. An option that is not in a tool's grammar is an error, never ignored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .interface import ToolCall


class Cancelled(Exception):
    """The simulated process was ended from outside."""


class UsageError(ValueError):
    """An argument that the tool's documented grammar does not have."""


@dataclass
class Options:
    """What a command line gave: flags, options with a value (a list each, in order), and the rest. Names are lower case."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """Return the (last) value of an option."""
        found = self.values.get(name)
        return found[-1] if found else default


def colon_options(argv: Sequence[str], flags: Collection[str], values: Collection[str], prefixes: str = "/-") -> Options:
    """Read ``/Flag`` and ``/Option:value``; names without the slash, lower case. Raises UsageError for others."""
    options = Options()
    for argument in argv:
        if argument[:1] not in prefixes or len(argument) < 2:
            options.rest.append(argument)
            continue
        name, colon, value = argument[1:].partition(":")
        name = name.lower()
        if name in flags and not colon:
            options.flags.add(name)
        elif name in values and colon and value:
            options.values.setdefault(name, []).append(value)
        else:
            raise UsageError(argument)
    return options


def spaced_options(argv: Sequence[str], flags: Collection[str], values: Collection[str], prefixes: str = "/-") -> Options:
    """Read ``/flag`` and ``/option value``. Raises UsageError for others and for a value that is missing."""
    options = Options()
    at = 0
    while at < len(argv):
        argument = argv[at]
        at += 1
        name = argument[1:].lower()
        if argument[:1] not in prefixes or len(argument) < 2:
            options.rest.append(argument)
        elif name in flags:
            options.flags.add(name)
        elif name in values:
            if at == len(argv):
                raise UsageError(argument)
            options.values.setdefault(name, []).append(argv[at])
            at += 1
        else:
            raise UsageError(argument)
    return options


def say(call: ToolCall, *lines: str) -> None:
    """Write lines to the tool's output."""
    call.stdout.write("".join(line + "\r\n" for line in lines).encode("utf-8"))


def complain(call: ToolCall, *lines: str) -> None:
    """Write lines to the tool's error output."""
    call.stderr.write("".join(line + "\r\n" for line in lines).encode("utf-8"))
