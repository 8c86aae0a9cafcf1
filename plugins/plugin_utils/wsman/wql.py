# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WQL: ``SELECT columns|* FROM class [WHERE …]``, parsed and evaluated.

Microsoft's grammar for data queries, without ASSOCIATORS OF and event queries. Keywords and names in any case; text
compares without case; a comparison with a null property is never true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .schema import Value

#: The depth of parentheses and NOTs; WMI refuses very complex queries as well (WBEM_E_QUOTA_VIOLATION).
_MAX_DEPTH = 50

Literal = bool | int | float | str | None


class WqlError(ValueError):
    """The text is no WQL that this project knows. The message says where it stops being one."""


@dataclass(frozen=True)
class Comparison:
    """``name operator literal``; operators ``= != < > <= >= LIKE IS ISNOT`` (the last two with null only)."""

    name: str
    operator: str
    literal: Literal


@dataclass(frozen=True)
class Combination:
    """``AND`` or ``OR`` of two conditions."""

    operator: str
    left: Condition
    right: Condition


@dataclass(frozen=True)
class Negation:
    """``NOT`` of a condition."""

    condition: Condition


Condition = Comparison | Combination | Negation


@dataclass(frozen=True)
class Query:
    """A parsed query. ``columns`` is None for ``*``."""

    class_name: str
    columns: tuple[str, ...] | None = None
    where: Condition | None = None

    def matches(self, properties: Mapping[str, Value]) -> bool:
        """Tell whether an instance with these properties belongs to the answer."""
        if self.where is None:
            return True
        return _evaluate(self.where, {name.lower(): value for name, value in properties.items()})

    @property
    def names(self) -> frozenset[str]:
        """Every property that the query names, in its own spelling."""
        found = set(self.columns or ())
        pending = [self.where] if self.where else []
        while pending:
            condition = pending.pop()
            if isinstance(condition, Comparison):
                found.add(condition.name)
            elif isinstance(condition, Combination):
                pending += [condition.left, condition.right]
            else:
                pending.append(condition.condition)
        return frozenset(found)


def quote(text: str) -> str:
    """Return text as a WQL string literal: backslash and apostrophe are escaped by a backslash."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?(?:0x[0-9a-f]{1,16}|\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,3})?))(?!\w)
      | (?P<name>[a-z_][\w.]*)
      | (?P<operator><=|>=|<>|!=|=|<|>|\(|\)|,|\*)
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def parse(text: str) -> Query:
    """Parse a query. Raises WqlError."""
    return _Parser(_tokens(text)).query()


def _tokens(text: str) -> list[tuple[str, str, int]]:
    tokens = []
    position = 0
    stripped = text.rstrip().removesuffix(";").rstrip()
    while position < len(stripped):
        found = _TOKEN.match(stripped, position)
        if not found:
            raise WqlError(f"position {position + 1} of the query is not WQL: {stripped[position : position + 20]!r}")
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind], found.start(kind)))
        position = found.end()
    return tokens


class _Parser:
    """Recursive descent: OR binds weaker than AND, AND weaker than NOT."""

    def __init__(self, tokens: list[tuple[str, str, int]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def query(self) -> Query:
        self._keyword("SELECT")
        columns = self._columns()
        self._keyword("FROM")
        class_name = self._name()
        where = None
        if self._accept("WHERE"):
            where = self._or()
        if self._at < len(self._tokens):
            raise self._error("nothing more")
        return Query(class_name, columns, where)

    def _columns(self) -> tuple[str, ...] | None:
        if self._accept("*"):
            return None
        columns = [self._name()]
        while self._accept(","):
            columns.append(self._name())
        return tuple(columns)

    def _or(self) -> Condition:
        left = self._and()
        while self._accept("OR"):
            left = Combination("OR", left, self._and())
        return left

    def _and(self) -> Condition:
        left = self._not()
        while self._accept("AND"):
            left = Combination("AND", left, self._not())
        return left

    def _not(self) -> Condition:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise WqlError(f"the query is nested deeper than {_MAX_DEPTH} conditions")
        try:
            if self._accept("NOT"):
                return Negation(self._not())
            if self._accept("("):
                inner = self._or()
                self._keyword(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        if self._peek()[0] in ("string", "number"):  # literal operator property is WQL too
            literal = self._literal()
            operator = self._operator()
            return Comparison(self._name(), _MIRRORED.get(operator, operator), literal)
        name = self._name()
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._keyword("NULL")
            return Comparison(name, "ISNOT" if negated else "IS", None)
        if self._accept("LIKE"):
            kind, text, dummy = self._peek()
            if kind != "string":
                raise self._error("a pattern in quotes")
            self._at += 1
            return Comparison(name, "LIKE", _unquote(text))
        operator = self._operator()
        literal = self._literal()
        if literal is None:
            return Comparison(name, {"=": "IS", "!=": "ISNOT"}.get(operator, operator), None)
        return Comparison(name, operator, literal)

    def _operator(self) -> str:
        kind, text, dummy = self._peek()
        if kind != "operator" or text not in ("=", "<>", "!=", "<", ">", "<=", ">="):
            raise self._error("a comparison")
        self._at += 1
        return "!=" if text == "<>" else text

    def _literal(self) -> Literal:
        kind, text, dummy = self._peek()
        self._at += 1
        if kind == "string":
            return _unquote(text)
        if kind == "number":
            return _number(text)
        constants: dict[str, Literal] = {"true": True, "false": False, "null": None}
        if kind == "name" and text.lower() in constants:
            return constants[text.lower()]
        self._at -= 1
        raise self._error("a value")

    def _name(self) -> str:
        kind, text, dummy = self._peek()
        if kind != "name" or text.upper() in _KEYWORDS:
            raise self._error("a name")
        self._at += 1
        return text

    def _accept(self, word: str) -> bool:
        kind, text, dummy = self._peek()
        if kind in ("name", "operator") and text.upper() == word:
            self._at += 1
            return True
        return False

    def _keyword(self, word: str) -> None:
        if not self._accept(word):
            raise self._error(word)

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", -1)

    def _error(self, expected: str) -> WqlError:
        kind, text, position = self._peek()
        found = "the end" if kind == "end" else f"{text[:40]!r} at position {position + 1}"
        return WqlError(f"the query needs {expected} where it has {found}")


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS = frozenset(["SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "IS", "LIKE", "NULL", "TRUE", "FALSE"])
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _unquote(text: str) -> str:
    return _ESCAPED.sub(r"\1", text[1:-1])


def _number(text: str) -> Literal:
    lowered = text.lower()
    if "0x" in lowered:
        return int(lowered, 16)
    return float(lowered) if "." in lowered or "e" in lowered else int(lowered)


# --- evaluation -------------------------------------------------------------------------------------------------------


def _evaluate(condition: Condition, values: Mapping[str, Value]) -> bool:
    if isinstance(condition, Negation):
        return not _evaluate(condition.condition, values)
    if isinstance(condition, Combination):
        left = _evaluate(condition.left, values)
        if condition.operator == "AND":
            return left and _evaluate(condition.right, values)
        return left or _evaluate(condition.right, values)
    value = values.get(condition.name.lower())
    if condition.operator == "IS":
        return value is None
    if condition.operator == "ISNOT":
        return value is not None
    if value is None or condition.literal is None:
        return False
    if condition.operator == "LIKE":
        return isinstance(value, str) and bool(like_pattern(str(condition.literal)).fullmatch(value))
    ours, theirs = _comparable(value, condition.literal)
    return ours is not None and _COMPARE[condition.operator](ours, theirs)


_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


def _comparable(value: Value, literal: Literal) -> tuple[object, object]:
    """Bring both sides to one type, the property's; (None, None) where WMI could not compare them."""
    if isinstance(value, bool):
        texts = {"true": True, "false": False, "1": True, "0": False, "-1": True}
        right = bool(literal) if isinstance(literal, (bool, int)) else texts.get(str(literal).lower())
        return (value, right) if right is not None else (None, None)
    if isinstance(value, (int, float)):
        if isinstance(literal, str):
            try:
                return value, int(literal, 0)
            except ValueError:
                return None, None
        return value, literal
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        other = _literal_datetime(literal)
        return (aware, other) if other is not None else (None, None)
    if isinstance(value, str):
        if isinstance(literal, bool):
            literal = "true" if literal else "false"
        return value.lower(), str(literal).lower()
    return None, None


def _literal_datetime(literal: Literal) -> datetime | None:
    from .values import parse_datetime

    try:
        found = parse_datetime(str(literal))
    except ValueError:
        return None
    return found if isinstance(found, datetime) else None


def like_pattern(text: str) -> re.Pattern[str]:
    """Return a LIKE pattern as a regular expression.

    ``%`` is any text, ``_`` one character, ``[a-f]`` and ``[^a-f]`` a class.
    """
    parts = []
    position = 0
    while position < len(text):
        character = text[position]
        end = text.find("]", position + 2) if character == "[" else -1
        if end > 0:
            inner = text[position + 1 : end]
            negated = inner.startswith(("^", "!"))
            parts.append(f"[{'^' if negated else ''}{_class_members(inner[1:] if negated else inner)}]")
            position = end
        else:
            parts.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
        position += 1
    try:
        return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
    except re.error as error:
        raise WqlError(f"the LIKE pattern {text!r} is not one: {error}") from None


def _class_members(text: str) -> str:
    """``a-f`` stays a range (``a=f`` is WQL's other spelling), everything else is literal."""
    ranged = re.sub(r"(?<=.)=(?=.)", "-", text, flags=re.DOTALL)
    return re.sub(r"([\\\]\[^&~|])", r"\\\1", ranged)
