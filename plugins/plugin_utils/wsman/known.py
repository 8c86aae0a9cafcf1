# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A value that is there by construction, where its type allows None."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def known(value: T | None) -> T:
    """Return the value. TypeError where it is not there: the caller's own order of actions is wrong, not the input."""
    if value is None:
        raise TypeError("A value is used before it is known")
    return value
