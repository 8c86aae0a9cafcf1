# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which logs Windows PE is asked for: one query for the files, one for a folder, and the end of each that changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import wql_query
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

SIZES = {r"w:\windows\panther\setupact.log": 3_000_000, r"w:\_osd\logs\a.log": 4, r"w:\_osd\logs\b.log": 5, r"w:\_osd\logs\c.txt": 6}


class Agent:
    """Files by their sizes; one of them is in use."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.requests = 0

    def query(self, text: str) -> list[Instance]:
        self.queries.append(text)
        rows = [
            {"Name": path, "Drive": path[:2], "Path": path[2:].rpartition("\\")[0] + "\\", "FileSize": size} for path, size in SIZES.items()
        ]
        return [Instance("CIM_DataFile", row) for row in rows if wql_query(text).matches(row)]

    def http(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        self.asked.append((target, headers["Range"]))
        return (423, {}, b"") if target.endswith("b.log") else (206, {}, b"end")


def test_what_changed() -> None:
    agent: Any = Agent()
    computer = WindowsPe(agent, agent.http)
    places = [r"W:\Windows\Panther\setupact.log", r"W:\none.log", r"W:\_osd\logs\*.log"]
    assert computer.fetch_changed(places, {r"W:\_OSD\logs\a.log": 4}, 100) == {r"w:\windows\panther\setupact.log": (3_000_000, b"end")}
    assert len(agent.queries) == 2
    assert agent.asked == [
        ("/osd/files/W:/windows/panther/setupact.log", "bytes=2999900-2999999"),
        ("/osd/files/W:/_osd/logs/b.log", "bytes=0-4"),
    ]
    agent.asked.clear()
    assert set(computer.fetch_changed([r"W:\_osd\logs\*.log"], {}, 100)) == {r"w:\_osd\logs\a.log"}
