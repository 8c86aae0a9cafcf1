# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths as Windows takes them beyond 260 characters. Wine takes such paths in any form, so its tests cannot tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent import win32, windows_files

PATH = r"C:\folder\file.txt"
LONG = r"\\?\C:\folder\file.txt"


@pytest.mark.parametrize(
    ("path", "long"),
    [
        (PATH, LONG),
        ("C:/folder/file.txt", LONG),
        (r"\\server\share\x", r"\\?\UNC\server\share\x"),
        (r"\\?\C:\x", r"\\?\C:\x"),
    ],
)
def test_long_path(path: str, long: str) -> None:
    assert windows_files.long_path(path) == long


class Opened(Exception):
    """Stands for what Windows would do with a path."""


@pytest.mark.parametrize(
    "call",
    [
        lambda files: files.is_file(PATH),
        lambda files: files.is_directory(PATH),
        lambda files: files.size(PATH),
        lambda files: files.make_directories(PATH),
        lambda files: files.rename(PATH, PATH),
        lambda files: files.rename(PATH, PATH, replace=True),
        lambda files: files.delete(PATH),
        lambda files: files.open_read(PATH),
        lambda files: files.open_write(PATH),
        lambda files: files.open_write(PATH, append=True),
        lambda files: files.open_update(PATH),
    ],
)
def test_windows_is_given_long_paths_only(monkeypatch, call) -> None:
    def note(*arguments, **dummy):
        raise Opened(*(text for text in arguments if isinstance(text, str)))

    functions = dict.fromkeys(("stat", "makedirs", "rename", "replace", "unlink"), note)
    monkeypatch.setattr(windows_files, "os", SimpleNamespace(path=SimpleNamespace(isfile=note, isdir=note), **functions))
    monkeypatch.setattr(win32, "open_handle", note)
    with pytest.raises(Opened) as caught:
        call(windows_files.WindowsFiles())
    assert set(caught.value.args) == {LONG}
