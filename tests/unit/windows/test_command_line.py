# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Command lines: what goes in comes out again, and what cannot is refused."""

from __future__ import annotations

import random
import subprocess

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import command_line as cl
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import CommandLineError

ALPHABET = ["a", "Z", " ", "\t", '"', "\\", "\\\\", "%", "&", "|", "^", "(", ")", "<", ">", "/", ":", "é", "=", "", "!", ";", ","]


def arguments(seed: int, without: str = "") -> list[str]:
    dice = random.Random(seed)
    letters = [c for c in ALPHABET if c not in without or not c]
    rest = ["".join(dice.choices(letters, k=dice.randrange(6))) for dummy in range(dice.randrange(5))]
    return [r"C:\Program Files\x\tool.exe" if seed % 2 else r"C:\tool.exe", *rest]


@pytest.mark.parametrize("seed", range(400))
def test_quote_and_split_are_inverse(seed: int) -> None:
    argv = arguments(seed)
    assert cl.split(cl.quote(argv)) == argv


@pytest.mark.parametrize("seed", range(100))
def test_the_rule_is_that_of_the_c_runtime(seed: int) -> None:
    """Python's own list2cmdline implements the same documented rule (it leaves tabs and empty arguments alike)."""
    argv = arguments(seed)
    assert cl.split(subprocess.list2cmdline(argv)) == argv


@pytest.mark.parametrize("seed", range(400))
def test_cmd_line_comes_through_cmd(seed: int) -> None:
    argv = arguments(seed, without="%")
    try:
        line = cl.cmd_line(argv)
    except CommandLineError:
        assert any('"' in a for a in argv) and any(set(a) & set("&<>()^|") for a in argv)
        return
    inner = cl.strip_cmd_quotes(line)
    assert cl.split(inner) == argv
    # Outside quotes (as cmd counts them) there is no operator left.
    quoted = False
    for char in inner:
        if char == '"':
            quoted = not quoted
        assert quoted or char not in "&|<>^()"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  ", []),
        ("a", ["a"]),
        ('"a b" c', ["a b", "c"]),
        (r'x "a\\b" c\d', ["x", r"a\\b", r"c\d"]),
        (r'x "a\\\"b"', ["x", 'a\\"b']),
        (r'x a\\\\"b c" d', ["x", r"a\\b c", "d"]),
        ('x "a""b"', ["x", 'a"b']),
        ('x ""', ["x", ""]),
        (r'"C:\dir\" x', ["C:\\dir\\", "x"]),
        ("x a\tb", ["x", "a", "b"]),
    ],
)
def test_split_like_the_documented_examples(text: str, parts: list[str]) -> None:
    assert cl.split(text) == parts


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "at least a program"),
        (["a", "%PATH%"], "percent"),
        (["a", "line\nbreak"], "line break"),
        (["a", 'say "x & y'], "quotation mark beside an operator"),
        (['a"b'], "name of a program"),
        (["a", "x" * 9000], "8191"),
        (["a", "nul\0"], "NUL"),
    ],
)
def test_what_cmd_cannot_express_is_refused(argv: list[str], why: str) -> None:
    with pytest.raises(CommandLineError, match=why):
        cl.cmd_line(argv)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dir", "dir"),
        ('"dir"', "dir"),
        ('"C:\\a b\\x.exe" "y"', 'C:\\a b\\x.exe" "y'),
        ('""C:\\a b\\x.exe" "y""', '"C:\\a b\\x.exe" "y"'),
        ('"a" b', "a b"),
        ('"half', "half"),
    ],
)
def test_strip_cmd_quotes(text: str, line: str) -> None:
    assert cl.strip_cmd_quotes(text) == line


def test_quotes_around_an_existing_program_stay() -> None:
    text = '"C:\\a b\\x.exe" /y'
    assert cl.quoted_program(text) == "C:\\a b\\x.exe"
    assert cl.strip_cmd_quotes(text, exists=True) == text
    assert cl.strip_cmd_quotes(text, exists=True, s_switch=True) == "C:\\a b\\x.exe /y"
    assert cl.strip_cmd_quotes('"C:\\a(b) c\\x.exe"', exists=True) == "C:\\a(b) c\\x.exe"


def test_batch_lines_double_the_percent_sign() -> None:
    assert cl.batch_line([r"C:\x.exe", "100%", "a b"]) == r'C:\x.exe 100%% "a b"'
    assert cl.batch_escape("%a%") == "%%a%%"
    with pytest.raises(CommandLineError):
        cl.batch_escape("a\nb")


def test_verbatim_arguments_keep_their_own_quotes() -> None:
    argv = ["msiexec.exe", "/i", r"C:\a b\x.msi", cl.Verbatim('TARGET="C:\\Program Files\\x"')]
    assert cl.quote(argv) == r'msiexec.exe /i "C:\a b\x.msi" TARGET="C:\Program Files\x"'
    assert cl.split(cl.quote(argv))[-1] == r"TARGET=C:\Program Files\x"
    assert cl.batch_line([*argv, "50%"]).endswith(r'TARGET="C:\Program Files\x" 50%%')


def test_plain_arguments_stay_plain() -> None:
    line = cl.cmd_line(["bcdedit", "/set", "{8f1b}", "device", r"ramdisk=[C:]\_osd\pe\boot.wim,{d}"])
    assert line == r'"bcdedit /set {8f1b} device ramdisk=[C:]\_osd\pe\boot.wim,{d}"'
