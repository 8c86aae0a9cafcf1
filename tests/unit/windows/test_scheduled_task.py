# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task XML: written, read back, refused."""

from __future__ import annotations

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import scheduled_task as st
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.scheduled_task import ScheduledTask, TaskError


def test_round_trip() -> None:
    xml = st.task_xml(r"C:\Windows\System32\cmd.exe", '/d /c "a & b <c>"', working_directory=r"C:\_osd", time_limit=90)
    expected = ScheduledTask(r"C:\Windows\System32\cmd.exe", '/d /c "a & b <c>"', r"C:\_osd", time_limit=90)
    assert st.parse_task(xml) == expected
    assert st.parse_task(st.task_file(xml)) == expected
    assert st.task_file(xml)[:2] == b"\xff\xfe"


def test_the_defaults_of_the_task_scheduler_bite_where_nothing_is_said() -> None:
    xml = (
        f'<Task xmlns="{st.NAMESPACE}"><Principals><Principal><UserId>S-1-5-18</UserId></Principal></Principals>'
        "<Actions><Exec><Command>x</Command></Exec></Actions></Task>"
    )
    task = st.parse_task(xml)
    assert (task.time_limit, task.priority, task.run_level) == (72 * 3600, 7, "LeastPrivilege")


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        ("", "malformed"),
        ("<Task/>", "namespace"),
        (f'<Task xmlns="{st.NAMESPACE}"/>', "no program"),
        (f'<Task xmlns="{st.NAMESPACE}"><Actions><Exec><Command>x</Command></Exec></Actions></Task>', "as whom"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><Task/>', "document type"),
        (st.task_xml("x").replace("PT0S", "soon"), "no duration"),
    ],
)
def test_refusals(xml: str, why: str) -> None:
    with pytest.raises(TaskError, match=why):
        st.parse_task(xml)


@pytest.mark.parametrize("name", ["", "a\\b", "a/b", "x" * 238, "a\nb"])
def test_names(name: str) -> None:
    st.check_task_name("dism-0123456789abcdef")
    with pytest.raises(TaskError):
        st.check_task_name(name)
