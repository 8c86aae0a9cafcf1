# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows paths on host folders: case, illegal names, space, shares by session, and no way out to the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import LabFileSystem
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import ComputerNetwork, LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session, Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.disks import MIB

Files = Callable[..., LabFileSystem]


@pytest.fixture
def disks(tmp_path: Path) -> LabDisks:
    found = LabDisks(tmp_path / "pc", hardware.make("pc", 1, {"disks": [{"size_gb": 1}]}, {}))
    disk = found.find(0)
    assert disk is not None
    found.convert(disk, "GPT")
    partition = found.create_partition(disk, "primary", size=16 * MIB)
    found.format(partition, "NTFS", "Small")
    found.assign(partition, "W")
    return found


@pytest.fixture
def files(disks: LabDisks) -> LabFileSystem:
    return LabFileSystem(disks, Session(), lambda connection: None, lambda host: False)


def code_of(action: Callable[[], object]) -> int:
    with pytest.raises(Win32Problem) as problem:
        action()
    return problem.value.code


def test_names_ignore_case_and_keep_it(files: LabFileSystem) -> None:
    files.make_directories(r"W:\Windows\System32")
    files.write(r"w:\WINDOWS\system32\A.txt", b"one")
    files.write(r"W:\windows\SYSTEM32\a.TXT", b"two")
    assert files.names(r"W:\windows\system32") == ["A.txt"]
    assert files.read(r"W:\Windows\System32\a.txt") == b"two"


@pytest.mark.parametrize("name", ["a?b", "a*b", "a:b", 'a"b', "nul", "com1.txt", "a\x01", "x" * 256])
def test_illegal_names(files: LabFileSystem, name: str) -> None:
    assert code_of(lambda: files.write(f"W:\\{name}", b"")) == 123


def test_missing_parts_have_windows_codes(files: LabFileSystem) -> None:
    assert code_of(lambda: files.read(r"W:\no.txt")) == 2
    assert code_of(lambda: files.read(r"W:\no\no.txt")) == 3
    assert code_of(lambda: files.read(r"Q:\no.txt")) == 3


def test_a_volume_can_be_full(files: LabFileSystem) -> None:
    files.write(r"W:\half", bytes(8 * MIB))
    assert code_of(lambda: files.write(r"W:\more", bytes(10 * MIB))) == 112
    assert code_of(lambda: files.reserve("W:\\", 10 * MIB)) == 112
    files.delete(r"W:\half")
    files.write(r"W:\more", bytes(10 * MIB))


def test_dots_do_not_lead_out(files: LabFileSystem, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    assert not files.exists(r"W:\..\..\..\..\..\secret")


def test_links_of_the_host_are_not_followed(files: LabFileSystem, disks: LabDisks, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    root = disks.letters()["W"].root
    (root / "link").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret")
    assert code_of(lambda: files.read(r"W:\link\secret")) == 1920
    assert code_of(lambda: files.read(r"W:\file")) == 1920
    assert code_of(lambda: files.write(r"W:\file", b"x")) == 1920
    assert (tmp_path / "secret").read_text() == "host"


def test_a_file_in_use(disks: LabDisks) -> None:
    root = disks.letters()["W"].root
    (root / "SYSTEM").write_bytes(b"hive")
    files = LabFileSystem(disks, Session(), lambda c: None, lambda host: host == root / "SYSTEM")
    assert code_of(lambda: files.read(r"W:\SYSTEM")) == 32
    assert code_of(lambda: files.write(r"W:\system", b"")) == 32
    assert code_of(lambda: files.delete(r"W:\SYSTEM")) == 32
    assert code_of(lambda: files.delete_tree("W:\\")) == 32


def test_rename_within_and_across(files: LabFileSystem) -> None:
    files.write(r"W:\a", b"a")
    files.write(r"W:\b", b"b")
    assert code_of(lambda: files.rename(r"W:\a", r"W:\b")) == 183
    files.rename(r"W:\a", r"W:\b", replace=True)
    assert files.read(r"W:\b") == b"a"
    files.rename(r"W:\b", r"W:\B")
    assert files.names("W:\\") == ["B"]


def test_a_share_is_seen_only_by_the_session_that_connected_it(disks: LabDisks, network: LabNetwork) -> None:
    computer = ComputerNetwork(network)
    mine, other = Session(), Session()
    computer.connect(mine, r"\\srv\capture", user=r"LAB\writer", password="Write-1", letter="Z:")
    of_mine = LabFileSystem(disks, mine, computer.find_share, lambda host: False)
    of_other = LabFileSystem(disks, other, computer.find_share, lambda host: False)
    of_mine.write(r"Z:\a.txt", b"a")
    assert of_mine.read(r"\\SRV\Capture\a.txt") == b"a"
    assert code_of(lambda: of_other.read(r"Z:\a.txt")) == 3
    assert code_of(lambda: of_other.read(r"\\srv\capture\a.txt")) == 5
    assert code_of(lambda: of_mine.write(r"Z:\big", bytes(2 * MIB))) == 112
    network.shares = ()
    assert code_of(lambda: of_mine.read(r"Z:\a.txt")) == 64


@pytest.mark.parametrize(
    ("unc", "user", "password", "code"),
    [
        (r"\\nobody\osd", r"LAB\reader", "Read-1", 53),
        (r"\\srv\nothing", r"LAB\reader", "Read-1", 67),
        (r"\\srv\osd", r"LAB\reader", "wrong", 1326),
        (r"\\srv\osd", "", "", 1326),
        (r"\\srv\capture", r"LAB\reader", "Read-1", 5),
    ],
)
def test_connecting_is_refused_with_windows_codes(network: LabNetwork, unc: str, user: str, password: str, code: int) -> None:
    assert code_of(lambda: ComputerNetwork(network).connect(Session(), unc, user=user, password=password)) == code


def test_a_second_account_for_one_server_is_1219(network: LabNetwork) -> None:
    session = Session()
    computer = ComputerNetwork(network)
    computer.connect(session, r"\\srv\osd", user="reader@lab.test", password="Read-1")
    assert code_of(lambda: computer.connect(session, r"\\srv\capture", user=r"LAB\writer", password="Write-1")) == 1219


def test_the_https_server_asks_for_its_account(network: LabNetwork) -> None:
    computer = ComputerNetwork(network)
    url = "https://srv.lab.test/boot/boot.json"
    assert computer.http_get(url)[0] == 401
    status, size, chunks = computer.http_get(url, user=r"LAB\reader", password="Read-1")
    assert (status, sum(map(len, chunks))) == (200, size)
    assert computer.http_get("https://srv.lab.test/../lab.json", user=r"LAB\reader", password="Read-1")[0] == 404
