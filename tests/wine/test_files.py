# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files over HTTP: put, get, ranges, hashes, long paths, umlauts, what is in use, a full disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
from urllib.parse import quote

import pytest
from wine_agent import python

CONTENT = bytes(range(256)) * 1024


def target(path):
    return "/osd/files/" + "/".join(quote(part, safe=":") for part in path.replace("\\", "/").split("/"))


def test_put_get_and_hash(computer, agent):
    path = r"C:\osd test\Grüße & more\100%.bin"
    computer.put_file(path, CONTENT)
    assert (agent.drive / "osd test" / "Grüße & more" / "100%.bin").read_bytes() == CONTENT
    assert computer.get_file(path) == CONTENT
    assert computer.file_hash(path) == hashlib.sha256(CONTENT).hexdigest()
    assert computer.file_info(path).size == len(CONTENT)
    computer.put_file(path, b"")
    assert computer.get_file(path) == b""
    assert computer.is_folder(r"C:\osd test")
    assert os.listdir(agent.drive / "osd test" / "Grüße & more") == ["100%.bin"]


def test_ranges(computer):
    path = r"C:\ranges.bin"
    computer.put_file(path, CONTENT)
    assert computer.read_range(path, 255, 3) == b"\xff\x00\x01"
    assert computer.read_range(path, len(CONTENT), 3) == b""
    computer.write_range(path, 10, b"0123456789")
    assert computer.read_range(path, 8, 14) == b"\x08\x09" + b"0123456789" + b"\x14\x15"


def test_a_path_of_400_characters(computer):
    path = "C:\\" + "\\".join([f"a folder with quite a long name, number {number:02}" for number in range(9)]) + "\\file.txt"
    assert len(path) > 390
    computer.put_file(path, b"deep")
    assert computer.get_file(path) == b"deep"


def test_the_version_resource(computer):
    assert computer.file_info(r"C:\osd\python\python.exe").version.startswith("3.12.9150.")
    assert computer.file_info(r"C:\osd\agent.zip").version is None


def test_what_is_not_there(computer, wire):
    assert computer.file_info(r"C:\nowhere\nothing.txt") is None
    with pytest.raises(FileNotFoundError):
        computer.get_file(r"Q:\nothing.txt")
    assert wire.http("GET", target(r"C:\windows"))[0] == 409
    assert wire.http("GET", "/osd/files/C:/a//b")[0] == 400


def test_a_file_in_use(computer, wire):
    path = r"C:\in use.txt"
    computer.put_file(path, b"before")
    text = (
        "import ctypes, time; k = ctypes.windll.kernel32; k.CreateFileW.restype = ctypes.c_void_p; "
        r"h = k.CreateFileW(r'C:\in use.txt', 0x80000000, 0, None, 3, 0, None); print('held', flush=True); time.sleep(30)"
    )
    computer.start_job(python("holder", text))
    while b"held" not in computer.job_status("holder", 0, 5).output:
        pass
    assert wire.http("GET", target(path))[0] == 423
    assert wire.http("PUT", target(path), b"after")[0] in (403, 423)
    computer.stop_job("holder")
    while computer.job_status("holder", 0, 5).exit_code is None:
        pass
    assert computer.get_file(path) == b"before"
    computer.put_file(path, b"after")


def test_a_full_disk(wire, agent):
    """A drive of 128 KB: a RAM disk of Linux. What did not fit leaves nothing behind."""
    place = agent.build / "small disk"
    place.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small RAM disk needs root")
    letter = agent.build / "prefix" / "dosdevices" / "q:"
    try:
        letter.symlink_to(place)
        assert wire.http("PUT", target(r"Q:\small.bin"), b"x" * 1024)[0] == 201
        assert wire.http("PUT", target(r"Q:\large.bin"), CONTENT)[0] == 507
        assert os.listdir(place) == ["small.bin"]
    finally:
        letter.unlink()
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_eight_megabytes(wire):
    content = os.urandom(8 * 1024 * 1024)
    status, headers, dummy = wire.http("PUT", target(r"C:\big.bin"), content)
    assert (status, headers["x-osd-sha256"]) == (201, hashlib.sha256(content).hexdigest())
    assert wire.http("GET", target(r"C:\big.bin"))[2] == content
