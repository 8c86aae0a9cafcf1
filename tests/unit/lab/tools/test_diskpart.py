# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""diskpart: scripts of the product, refusals, exit codes."""

from __future__ import annotations

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import disks as product


def run(bench, *lines: str):
    bench.files.write(r"X:\script.txt", "".join(line + "\r\n" for line in lines).encode("ascii"))
    return bench.run(r"diskpart /s X:\script.txt")


@pytest.mark.parametrize(("style", "layout"), [("GPT", product.DEFAULT_GPT), ("MBR", product.DEFAULT_MBR)])
def test_the_products_layouts(pe, style, layout) -> None:
    disk = pe.machine.disks.find(0)
    planned = product.plan_layout(layout, style, disk.size, frozenset("X"))
    script = product.diskpart_script(0, style, planned)
    pe.files.write(r"X:\script.txt", script.encode("ascii"))
    result = pe.run(r"diskpart.exe /s X:\script.txt")
    assert result.code == 0, result.out
    disk = pe.machine.disks.find(0)
    assert disk.style == style
    assert [p.letter for p in disk.partitions] == [p.letter for p in planned]
    assert [p.volume.file_system if p.volume else "" for p in disk.partitions] == [p.spec.file_system for p in planned]
    for made, wanted in zip(disk.partitions, planned, strict=True):
        if wanted.size_mib is not None:
            assert made.size == wanted.size_mib * 1024 * 1024
    if style == "GPT":
        assert disk.partitions[3].gpt_type == product.RECOVERY
        assert disk.partitions[3].attributes == 0x8000000000000001
    else:
        assert [p.active for p in disk.partitions] == [True, False, False]
        assert disk.partitions[2].mbr_type == 0x27


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["select disk 7"], 5),
        (["clean"], 5),
        (["select disk 0", "frobnicate"], 5),
        (["select disk 0", "frobnicate noerr"], 5),
        (["select disk 0", "convert dynamic"], 5),
        (["select disk 0", "clean", "convert mbr", "create partition efi size=100"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=999999999"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=ten"], 5),
        (["select disk 0", "clean", "convert gpt", "create partition primary", "format fs=ext4 quick"], 5),
        (["select disk 0", "clean", "convert gpt", "create partition primary", "format quick fs=fat32"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary", "convert mbr"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=100", "assign letter=X"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=100", "assign letter=XY"], 5),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=100", "active"], 4),
        (["select disk 0", "clean", "convert gpt", "create partition primary size=100", "set id=07"], 5),
        (["select volume Q"], 5),
        (["rem nothing", "select disk 0", "clean", "exit", "nonsense"], 0),
    ],
)
def test_exit_codes(pe, lines, code) -> None:
    assert run(pe, *lines).code == code


def test_an_error_stops_the_script_unless_noerr(pe) -> None:
    run(pe, "select disk 0", "clean", "convert gpt", "create partition primary size=999999999", "create partition primary size=100")
    assert len(pe.machine.disks.find(0).partitions) == 0
    result = run(pe, "select disk 0", "create partition primary size=999999999 noerr", "create partition primary size=100")
    assert result.code == 0
    assert len(pe.machine.disks.find(0).partitions) == 1


def test_script_that_is_not_there_and_wrong_options(pe) -> None:
    assert pe.run(r"diskpart /s X:\none.txt").code == 3
    assert pe.run("diskpart /q").code == 2


def test_read_only_disk_is_made_writable_first(pe) -> None:
    disk = pe.machine.disks.find(0)
    disk.read_only = True
    assert run(pe, "select disk 0", "clean").code == 4
    assert run(pe, "select disk 0", "attributes disk clear readonly", "clean").code == 0


def test_select_volume_and_assign(pe) -> None:
    run(pe, "select disk 0", "clean", "convert gpt", "create partition primary size=100", "format quick fs=ntfs", "assign letter=Q")
    assert run(pe, "select volume Q", "remove letter=Q", "assign letter=W").code == 0
    assert "W" in pe.machine.disks.letters()
    assert "Q" not in pe.machine.disks.letters()
