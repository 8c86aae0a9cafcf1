# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cmd.exe: what runs, what it prints, what it ends with."""

from __future__ import annotations

import random

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools import cmd_syntax
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import command_line


@pytest.mark.parametrize(
    ("text", "out", "code"),
    [
        ("echo hi", "hi\r\n", 0),
        ("echo a&echo b", "a\r\nb\r\n", 0),
        ("echo a && echo b || echo c", "a \r\nb \r\n", 0),
        ("nosuch && echo b || echo c", "c\r\n", 0),
        ("nosuch", "", 1),
        ("nosuch & if errorlevel 9009 echo missing", "missing\r\n", 0),
        ("echo a^&b", "a&b\r\n", 0),
        ('echo "a & b"', '"a & b"\r\n', 0),
        ("echo.", "\r\n", 0),
        ("echo", "ECHO is on.\r\n", 0),
        ("(echo a & echo b) | find /c \"a\"", "1\r\n", 0),
        # Beside a pipe a block is written anew: a blank more.
        ("(echo a&echo b)|find \"a\"", "a \r\n", 0),
        ('(for %G in (a b) do @if %G==b (echo %G.) else echo %G)|find "a"', "a \r\n", 0),
        ("(>>x.txt echo a)|find \"a\" & type x.txt & del x.txt", "a \r\n", 0),
        ("(>>x.txt echo a) & type x.txt & del x.txt", "a\r\n", 0),
        ("echo a|find \"a\"", "a\r\n", 0),
        ("exit 3", "", 3),
        ("exit /b 7", "", 7),
        ("exit -1", "", 0xFFFFFFFF),
        ("type X:\\none.txt", "", 1),
        ("del X:\\none.txt", "", 0),
        ("rd X:\\none", "", 2),
        ("md X:\\Windows", "", 1),
        ("if exist X:\\Windows\\ (echo yes) else echo no", "yes\r\n", 0),
        ("if exist X:\\nothing (echo yes) else echo no", "no\r\n", 0),
        ("if 10 gtr 9 echo bigger", "bigger\r\n", 0),
        ('if /i "AB"=="ab" echo same', "same\r\n", 0),
        ('if not "AB"=="ab" echo other', "other\r\n", 0),
        ("for %i in (1 2) do @echo %i", "1\r\n2\r\n", 0),
        ("for /l %i in (1,2,5) do echo %i", "1\r\n3\r\n5\r\n", 0),
        ("echo %NOT_THERE%", "%NOT_THERE%\r\n", 0),
        ("set /a X=(2+3)*4 & set X", "X=20\r\n", 0),
        ("echo a > nul", "", 0),
        ("echo a >&2", "", 0),
        ("cd \\Windows & cd", "X:\\Windows\r\n", 0),
        ("(echo a", "", 1),
        ("&& echo a", "", 1),
    ],
)  # fmt: skip
def test_line(pe, text: str, out: str, code: int) -> None:
    result = pe.cmd(text)
    assert (result.out, result.code) == (out, code), result.err


def test_type_shows_a_utf_16_file_in_the_code_page(pe) -> None:
    pe.files.write(r"X:\wide.reg", "[HKEY_LOCAL_MACHINE\\x]\r\n".encode("utf-16"))
    pe.files.write(r"X:\plain.txt", b"\xfe\xff\x00a")
    assert pe.cmd(r"type X:\wide.reg > X:\shown.txt & type X:\plain.txt > X:\same.txt").code == 0
    assert pe.files.read(r"X:\shown.txt") == b"[HKEY_LOCAL_MACHINE\\x]\r\n"
    assert pe.files.read(r"X:\same.txt") == b"\xfe\xff\x00a"


def test_stderr_is_a_stream_of_its_own(pe) -> None:
    result = pe.cmd("echo problem 1>&2")
    assert (result.out, result.err) == ("", "problem \r\n")


def test_expansion_of_the_environment(pe) -> None:
    pe.environment = {"WORD": "hello"}
    assert pe.cmd("echo %WORD% %word:~1,3% %WORD:l=L%").out == "hello ell heLLo\r\n"


def test_delayed_expansion_only_where_asked_for(pe) -> None:
    assert pe.cmd("set X=1& echo !X!").out == "!X!\r\n"
    assert pe.run('cmd /v:on /c "set X=1& echo !X!"').out == "1\r\n"


def test_line_of_more_than_8191_characters_is_refused(pe) -> None:
    assert pe.cmd("echo " + "x" * 8180).code == 0
    result = pe.cmd("echo " + "x" * 8190)
    assert result.code == 1
    assert "too long" in result.err


def test_redirections_write_files(pe) -> None:
    pe.cmd(r"(echo one & echo two) > X:\log.txt & echo three>> X:\log.txt & echo 5>X:\five.txt")
    assert pe.files.read(r"X:\log.txt") == b"one \r\ntwo\r\nthree \r\n"
    assert pe.files.read(r"X:\five.txt") == b""  # the digit directly before > is a handle


def test_the_job_wrapper(pe) -> None:
    pe.files.make_directories(r"X:\_osd\jobs\1")
    wrapper = (
        "@echo off\r\ncd /d \"%~dp0\"\r\ncall cmd /c exit 31 1>out.log 2>&1 <nul\r\nset RC=%ERRORLEVEL%\r\n"
        ">rc.tmp echo %RC%\r\nmove /y rc.tmp rc.txt >nul\r\n"
    )  # fmt: skip
    pe.files.write(r"X:\_osd\jobs\1\run.cmd", wrapper.encode())
    assert pe.run(r"cmd.exe /d /c X:\_osd\jobs\1\run.cmd").code == 0
    assert pe.files.read(r"X:\_osd\jobs\1\rc.txt").strip() == b"31"
    assert not pe.files.exists(r"X:\_osd\jobs\1\rc.tmp")


def test_batch_goto_call_and_arguments(pe) -> None:
    result = pe.batch(
        "@echo off",
        "setlocal",
        'if "%~1"=="" exit /b 2',
        'call :sub "%~1" 3',
        "echo back %ERRORLEVEL%",
        "goto done",
        "echo never",
        ":sub",
        "echo in %~1 %2",
        "exit /b %2",
        ":done",
        "exit /b 9",
        arguments='"a b"',
    )
    assert result.out == "in a b 3\r\nback 3\r\n"
    assert result.code == 9


def test_batch_block_is_expanded_before_it_runs(pe) -> None:
    result = pe.batch("set X=1", "if 1==1 (", "  set X=2", "  echo %X% 100%%", ")", "echo %X%")
    assert result.out == "1 100%\r\n2\r\n"


def test_batch_without_call_does_not_come_back(pe) -> None:
    pe.files.write(r"X:\other.cmd", b"echo other\r\nexit /b 4\r\n")
    assert pe.batch(r"X:\other.cmd", "echo never").out == "other\r\n"
    result = pe.batch(r"call X:\other.cmd", "echo back")
    assert result.out == "other\r\nback\r\n"
    assert result.code == 4


def test_missing_label_ends_the_batch_file(pe) -> None:
    result = pe.batch("goto nowhere", "echo never")
    assert (result.code, result.out) == (1, "")


def test_quoted_program_with_blank(pe) -> None:
    pe.files.make_directories(r"X:\Program Files")
    pe.files.write(r"X:\Program Files\my tool.cmd", b"@echo tool %1\r\n")
    assert pe.cmd(r'"X:\Program Files\my tool.cmd"').out == "tool \r\n"
    assert pe.cmd(r'""X:\Program Files\my tool.cmd" one"').out == "tool one\r\n"
    assert pe.cmd(r'"X:\Program Files\my tool.cmd" "one"').code == 1  # cmd takes the outer quotes off


def test_file_commands(pe) -> None:
    assert pe.cmd(r"md X:\a\b\c & echo x>X:\a\f.txt & copy /y X:\a\f.txt X:\a\b >nul").code == 0
    assert pe.files.read(r"X:\a\b\f.txt") == b"x \r\n"  # what stands before & is echoed too
    assert pe.cmd(r"ren X:\a\b\f.txt g.txt").code == 0
    assert pe.cmd(r"move /y X:\a\b\g.txt X:\a\f.txt").code == 0
    assert pe.cmd(r"dir /b X:\a").out == "b\r\nf.txt\r\n"
    assert pe.cmd(r"rd X:\a").code == 145
    assert pe.cmd(r"rd /s /q X:\a").code == 0
    assert not pe.files.exists(r"X:\a")
    assert pe.cmd(r"copy X:\none X:\b").code == 1
    assert pe.cmd(r"rd /x X:\Windows").code == 1


def test_del_of_read_only_needs_f(pe) -> None:
    pe.files.write(r"X:\r.txt", b"x")
    pe.files.set_attributes(r"X:\r.txt", read_only=True)
    pe.cmd(r"del /q X:\r.txt")
    assert pe.files.exists(r"X:\r.txt")
    pe.cmd(r"del /f /q /a X:\r.txt")
    assert not pe.files.exists(r"X:\r.txt")


def test_a_copy_that_is_no_program_is_none(pe) -> None:
    pe.files.write(r"X:\thing.exe", b"text")
    assert pe.cmd(r"X:\thing.exe").code == 193
    assert pe.run(r"X:\Windows\System32\hostname.exe").code == 0


def test_program_without_its_file_is_not_found(pe) -> None:
    pe.files.delete(r"X:\Windows\System32\reg.exe")
    assert pe.cmd(r"reg query HKLM\SYSTEM").code == 1


def test_what_windows_pe_has_not(pe) -> None:
    for name in ("schtasks", "shutdown", "msiexec", "sc", "curl", "tar", "certutil", "wusa", "powershell", "wmic", "reagentc"):
        if name != "reagentc":
            assert pe.cmd(f"{name} /?").code == 1, name


def test_every_argument_list_arrives_as_it_was(pe) -> None:
    """What the product's quoting writes, cmd and CommandLineToArgvW take apart again."""
    rng = random.Random(7)
    alphabet = 'ab \\"&|<>^()!,;='
    tried = 0
    for dummy in range(400):
        argv = ["prog", *("".join(rng.choice(alphabet) for dummy in range(rng.randint(0, 8))) for dummy in range(rng.randint(0, 3)))]
        try:
            line = command_line.cmd_line(argv)
        except command_line.CommandLineError:
            continue
        tried += 1
        inner = command_line.strip_cmd_quotes(line)
        node = cmd_syntax.parse(cmd_syntax.expand(inner, lambda name: None))
        assert isinstance(node, cmd_syntax.Simple), (argv, node)
        assert command_line.split(node.text) == argv
        assert not node.redirections
    assert tried > 100


def test_the_parser_survives_anything() -> None:
    rng = random.Random(11)
    for dummy in range(3000):
        text = "".join(rng.choice('if for not exist else ()&|<>^"%=,;\n 12ab:@/') for dummy in range(rng.randint(0, 30)))
        try:
            cmd_syntax.parse(text)
        except cmd_syntax.SyntaxProblem:
            continue
