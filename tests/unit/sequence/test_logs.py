# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where logs are, and by what they are remembered when the Windows volume changes its letter."""

from __future__ import annotations

from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.logs import known_sizes, log_key, log_places
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment


def test_places() -> None:
    assert r"C:\Windows\Panther\setupact.log" in log_places(Environment.FULL_OS, "C:")
    assert r"C:\_osd\logs\*.log" in log_places(Environment.FULL_OS, "C:")
    in_windows_pe = log_places(Environment.WINDOWS_PE, "W:")
    assert in_windows_pe[0] == r"X:\Windows\Logs\DISM\dism.log"
    assert r"W:\Windows\Panther\setupact.log" in in_windows_pe
    assert log_places(Environment.WINDOWS_PE, "") == [r"X:\Windows\Logs\DISM\dism.log", r"X:\_osd\recorder.log"]


def test_a_log_is_known_again_under_another_letter() -> None:
    paths = [r"C:\Windows\Panther\setupact.log", r"X:\Windows\Logs\DISM\dism.log"]
    fetched = {log_key(path): size for size, path in enumerate(paths, start=1)}
    assert known_sizes(fetched, "W:") == {r"W:\windows\panther\setupact.log": 1, r"x:\windows\logs\dism\dism.log": 2}
    assert known_sizes(fetched, "") == {r"x:\windows\logs\dism\dism.log": 2}
