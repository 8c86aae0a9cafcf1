# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Content that is brought to the running Windows, and narrowing a list by an expression."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.content_copy import fetch_content
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import local_content
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.local_content import Source
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.select import SelectionError, expression_problem, select
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure


def source(**option: Any) -> Source:
    return Source.from_option(option)


def test_a_local_folder_is_used_as_it_is() -> None:
    windows, context = FakeWindows(), FakeContext()
    assert fetch_content(context, windows, source(target="D:\\apps\\"), "x") == r"D:\apps"
    assert fetch_content(context, windows, source(target=r"D:\apps\a.msi"), "x") == r"D:\apps"
    assert context.jobs == []
    assert windows.requests == 0


def test_a_web_file_is_fetched_with_the_account_on_stdin() -> None:
    windows, context = FakeWindows(), FakeContext()
    web = source(target="https://web.lab/apps/a.msi", account={"user": "me", "password": 'p"w\\d'})
    assert fetch_content(context, windows, web, "x") == r"C:\_osd\content\x"
    label, argv = context.jobs[0]
    assert argv[0] == r"C:\Windows\System32\curl.exe"
    assert argv[-1] == "https://web.lab/apps/a.msi"
    assert argv[argv.index("--output") + 1] == r"C:\_osd\content\x\a.msi"
    assert context.inputs == [b'user = "me:p\\"w\\\\d"\n']
    assert "p" + '"w' not in repr(argv)
    failing = FakeContext(lambda label, argv: 22)
    problem = failure(lambda: fetch_content(failing, windows, web, "x"))
    assert problem.message == "https://web.lab/apps/a.msi could not be downloaded: curl ended with 22."


def test_secrets_are_in_no_repr() -> None:
    with_account = source(target=r"\\s\a", account={"user": "u", "password": "s3cret"})
    assert "s3cret" not in repr(with_account)
    assert "s3cret" not in repr(local_content.plan_fetch(with_account, "C:\\x"))


def test_the_script_is_constant_and_connects_only_with_an_account() -> None:
    lines = local_content.COPY_SCRIPT_TEXT.decode("ascii").split("\r\n")
    assert lines[0] == "@echo off"
    assert lines[1] == "if not defined OSD_USER goto copy"
    assert lines[-1] == ""
    fetch = local_content.plan_fetch(source(target=r"\\s\a\b"), "C:\\x")
    assert fetch is not None
    assert set(fetch.environment) == {"OSD_FROM", "OSD_TO", "OSD_FILE", "OSD_OPTIONS"}


def test_slug() -> None:
    assert local_content.slug("7-Zip 23.01 (x64)") == "7-zip-23-01-x64"
    assert local_content.slug("日本") == "item"


ROWS = [{"name": "a", "size": 5}, {"name": "b", "size": 9}, {"name": "c", "size": 7}]


@pytest.mark.parametrize(
    ("expression", "kept"),
    [("[?size > `6`]", [1, 2]), ("[0]", [0]), ("[?name == 'x']", []), ("sort_by(@, &size)[-1:]", [1]), ("max_by(@, &size)", [1])],
)
def test_select_keeps_items_by_position(expression: str, kept: list[int]) -> None:
    assert select(ROWS, expression) == kept


def test_select_refuses_what_reshapes_and_what_is_no_expression() -> None:
    with pytest.raises(SelectionError, match="makes new values"):
        select(ROWS, "[].{n: name}")
    with pytest.raises(SelectionError, match="makes new values"):
        select(ROWS, "[].name")
    with pytest.raises(SelectionError, match="failed"):
        select(ROWS, "sort_by(@, &missing)")
    assert expression_problem("[?size > `6`]") == ""
    assert "is no JMESPath expression" in expression_problem("[?size >")
