# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Narrow a list of disks, devices, updates or applications by a JMESPath expression over their observed state.

The expression filters, it does not reshape: what it returns must be items of the list, so that the step still knows
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

try:
    import jmespath
    from jmespath.exceptions import JMESPathError
except ImportError:  # sanity's import test, or a control node without it
    jmespath = None
    JMESPathError = Exception


class SelectionError(ValueError):
    """An expression that cannot be used; the message says why, in the user's words."""


def expression_problem(expression: str) -> str:
    """Return what is wrong with an expression before anything is sent, '' where it can be parsed."""
    if jmespath is None:
        return "it needs the Python package jmespath on the control node"
    try:
        jmespath.compile(expression)
    except JMESPathError as error:
        return f"'{expression}' is no JMESPath expression: {str(error).splitlines()[0]}"
    return ""


def select(items: Sequence[Mapping[str, Any]], expression: str) -> list[int]:
    """Return the positions of the items that the expression keeps, in its order. Raises SelectionError."""
    problem = expression_problem(expression)
    if problem:
        raise SelectionError(problem)
    rows = [dict(item) for item in items]
    try:
        found = jmespath.search(expression, rows)
    except JMESPathError as error:
        raise SelectionError(f"'{expression}' failed: {str(error).splitlines()[0]}") from error
    if found is None:
        return []
    kept = found if isinstance(found, list) else [found]
    positions = {id(row): position for position, row in enumerate(rows)}
    if any(id(row) not in positions for row in kept):
        raise SelectionError(f"'{expression}' makes new values; write a filter as [?name == 'x'] that keeps the items as they are")
    return list(dict.fromkeys(positions[id(row)] for row in kept))
