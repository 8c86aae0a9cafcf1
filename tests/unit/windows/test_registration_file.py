# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registration files: what is written is what regedit writes, and is read back."""

from __future__ import annotations

import random

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registration_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registration_file import KeyEntry, RegistrationFileError
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Value

KEY = r"HKLM\OSD_SOFTWARE\Policies\A"


def test_the_file_is_what_regedit_writes() -> None:
    values = (
        ("", Value.sz("the default")),
        ('quote " and \\', Value.sz('C:\\x "y"')),
        ("number", Value.dword(5985)),
        ("bytes", Value.binary(b"\x00\xff")),
        ("many", Value.multi_sz(["a"])),
        ("gone", None),
    )
    content = registration_file.render([KeyEntry(KEY, values), KeyEntry(r"HKLM\OSD_SOFTWARE\B", remove=True)])
    assert content[:2] == b"\xff\xfe"
    assert content.decode("utf-16").split("\r\n") == [
        "Windows Registry Editor Version 5.00",
        "",
        r"[HKEY_LOCAL_MACHINE\OSD_SOFTWARE\Policies\A]",
        '@="the default"',
        r'"quote \" and \\"="C:\\x \"y\""',
        '"number"=dword:00001761',
        '"bytes"=hex:00,ff',
        '"many"=hex(7):61,00,00,00,00,00',
        '"gone"=-',
        "",
        r"[-HKEY_LOCAL_MACHINE\OSD_SOFTWARE\B]",
        "",
        "",
    ]


def test_exports_with_continued_lines_and_several_files_are_read() -> None:
    text = (
        "Windows Registry Editor Version 5.00\r\n\r\n; a comment\r\n"
        "[HKEY_LOCAL_MACHINE\\A]\r\n"
        '"long"=hex(2):25,00,\\\r\n  41,00,\\\r\n  00,00\r\n'
        "\ufeffWindows Registry Editor Version 5.00\r\n[HKEY_LOCAL_MACHINE\\B]\r\n"
    )
    entries = registration_file.parse(text.encode("utf-16"))
    assert entries == [
        KeyEntry(r"HKEY_LOCAL_MACHINE\A", (("long", Value.expand_sz("%A")),)),
        KeyEntry(r"HKEY_LOCAL_MACHINE\B"),
    ]


def test_random_values_come_back() -> None:
    rng = random.Random(7)
    letters = 'aé"\\=[];@\t;\u4e2d\n'
    for dummy in range(300):
        text = "".join(rng.choice(letters) for dummy in range(rng.randrange(12)))
        values = (
            ("".join(rng.choice('aé"\\=[];@') for dummy in range(rng.randrange(6))), Value.sz(text)),
            ("b", Value(rng.randrange(12), rng.randbytes(rng.randrange(40)))),
        )
        entry = KeyEntry(r"HKEY_LOCAL_MACHINE\X y\[z]", values)
        assert registration_file.parse(registration_file.render([entry])) == [entry]


@pytest.mark.parametrize(
    "text",
    [
        "REGEDIT4\r\n[HKEY_LOCAL_MACHINE\\A]\r\n",
        'Windows Registry Editor Version 5.00\r\n"a"="b"\r\n',
        'Windows Registry Editor Version 5.00\r\n[HKEY_LOCAL_MACHINE\\A]\r\n"a"=dword:xyz\r\n',
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(RegistrationFileError):
        registration_file.parse(text.encode("utf-16"))
