# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WQL: what is parsed, what is refused, what matches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import wql

ROW = {
    "Name": "WinRM",
    "Size": 10,
    "Negative": -3,
    "On": True,
    "Off": False,
    "Path": "C:\\Temp\\o'clock 100%",
    "When": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
    "Nothing": None,
    "Empty": "",
    "Ratio": 1.5,
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Name = 'WinRM'", True),
        ("name='winrm'", True),
        ('Name = "WINRM"', True),
        ("Name <> 'x'", True),
        ("Name != 'WinRM'", False),
        ("Name > 'A' AND Name < 'Z'", True),
        ("Size = 10", True),
        ("Size = '10'", True),
        ("Size = 'ten'", False),
        ("Size > 9 AND Size >= 10 AND Size < 11 AND Size <= 10", True),
        ("Size < 9", False),
        ("10 = Size", True),
        ("9 < Size", True),
        ("11 < Size", False),
        ("Size = 0x0A", True),
        ("Negative = -3", True),
        ("Ratio = 1.5", True),
        ("On = TRUE", True),
        ("On = true AND Off = False", True),
        ("On = 1", True),
        ("On = 'true'", True),
        ("Off = TRUE", False),
        (r"Path = 'C:\\Temp\\o\'clock 100%'", True),
        (r"Path = 'C:\Temp'", False),
        ("Nothing IS NULL", True),
        ("Nothing IS NOT NULL", False),
        ("Name IS NOT NULL", True),
        ("Missing IS NULL", True),
        ("Nothing = NULL", True),
        ("Name <> NULL", True),
        ("Nothing = 'x'", False),
        ("Nothing <> 'x'", False),
        ("NOT Nothing = 'x'", True),
        ("Empty = ''", True),
        ("Empty IS NULL", False),
        ("Name LIKE 'Win%'", True),
        ("Name LIKE 'w_nrm'", True),
        ("Name LIKE '%X%'", False),
        ("Name LIKE '[U-X]in%'", True),
        ("Name LIKE '[^U-X]in%'", False),
        ("Name LIKE 'W[ix]n[^x]M'", True),
        ("Path LIKE '%100[%]'", True),
        ("Path LIKE '%.%'", False),
        ("NOT Name = 'x' AND Size = 10", True),
        ("Size = 1 OR Size = 2 OR Size = 10", True),
        ("Size = 1 AND Size = 10 OR Name = 'WinRM'", True),
        ("Size = 10 OR Name = 'WinRM' AND Name = 'x'", True),
        ("(Size = 10 OR Name = 'WinRM') AND Name = 'x'", False),
        ("NOT (Size = 1 OR Size = 2)", True),
        ("When > '20240101000000.000000+000'", True),
        ("When < '20240102050405.000000+120'", False),
        ("When = '20240102050405.000000+120'", True),
    ],
)
def test_where(where, expected):
    assert wql.parse(f"SELECT * FROM T WHERE {where}").matches(ROW) is expected


def test_columns_and_class():
    assert wql.parse("select Name , Size from Win32_Service") == wql.Query("Win32_Service", ("Name", "Size"))
    assert wql.parse("SELECT * FROM X;").columns is None
    assert wql.parse("SELECT * FROM X").matches({})
    assert wql.parse("SELECT a FROM X WHERE NOT (b = 1 OR c LIKE 'x') AND d IS NULL").names == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT * FROM",
        "SELECT FROM X",
        "SELECT *, a FROM X",
        "SELECT a b FROM X",
        "SELECT * FROM X WHERE",
        "SELECT * FROM X WHERE a",
        "SELECT * FROM X WHERE a = ",
        "SELECT * FROM X WHERE a = b",
        "SELECT * FROM X WHERE a == 1",
        "SELECT * FROM X WHERE a LIKE 5",
        "SELECT * FROM X WHERE (a = 1",
        "SELECT * FROM X WHERE a = 1)",
        "SELECT * FROM X WHERE a = 'open",
        "SELECT * FROM X WHERE a IS 1",
        "SELECT * FROM X Y",
        "UPDATE X",
        "SELECT * FROM X WHERE a = 12abc",
        "SELECT * FROM X WHERE " + "(" * 100 + "a = 1" + ")" * 100,
        "SELECT * FROM X WHERE " + "NOT " * 2000 + "a = 1",
    ],
)
def test_what_is_no_query(text):
    with pytest.raises(wql.WqlError):
        wql.parse(text)


def test_the_error_says_what_is_needed_and_where():
    with pytest.raises(wql.WqlError, match="needs a value where it has 'b' at position 27"):
        wql.parse("SELECT * FROM X WHERE a = b")


@pytest.mark.parametrize("text", ["plain", "it's", "C:\\x\\", "\\'", '"', "%_[a]", "ü\n"])
def test_quote(text):
    query = wql.parse(f"SELECT * FROM X WHERE a = {wql.quote(text)}")
    assert query.where == wql.Comparison("a", "=", text)


def test_long_chains_are_no_problem():
    chain = " OR ".join(f"a = {number}" for number in range(500))
    assert wql.parse(f"SELECT * FROM X WHERE {chain}").matches({"a": 499})
