# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Broken requests: each is answered or hung up on, no file outside of the computer is touched, and good ones are answered in between."""

from __future__ import annotations

import random
from pathlib import Path

from fuzzing import attack


def test_broken_requests(tmp_path: Path) -> None:
    (tmp_path / "computer").mkdir()
    answered = attack(random.Random(20260229), 1000, tmp_path / "computer")
    assert answered > 500
    assert [path.name for path in tmp_path.iterdir()] == ["computer"]
