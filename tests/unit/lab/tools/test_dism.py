# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""dism on real WIM files, held against wimlib-imagex."""

from __future__ import annotations

import re
import subprocess

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import capture_configuration, image, registry_hive
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import dism as product

SOFTWARE = r"W:\Windows\System32\config\SOFTWARE"


def _volume(bench, letter: str = "W", size: int = 20000) -> None:
    bench.files.write(
        r"X:\script.txt",
        f"select disk 0\r\ncreate partition primary size={size}\r\nformat quick fs=ntfs\r\nassign letter={letter}\r\n".encode(),
    )
    result = bench.run(r"diskpart /s X:\script.txt")
    assert result.code == 0, result.out


@pytest.fixture
def volume(pe):
    pe.files.write(r"X:\script.txt", b"select disk 0\r\nclean\r\nconvert gpt\r\n")
    assert pe.run(r"diskpart /s X:\script.txt").code == 0
    _volume(pe)
    return pe


@pytest.fixture(scope="session")
def install_wim(tmp_path_factory):
    path = tmp_path_factory.mktemp("wim") / "install.wim"
    content.make_install_image(path)
    return path


def _connect(bench) -> None:
    assert bench.run(r"net use \\srv\images Secret2 /user:writer").code == 0


def test_apply_and_capture_through_the_products_command_lines(volume, install_wim) -> None:
    (volume.share / "install.wim").write_bytes(install_wim.read_bytes())
    _connect(volume)
    volume.files.make_directories(r"W:\_osd\logs")
    volume.files.make_directories(r"W:\_osd\scratch")
    tool = product.Dism(r"X:\Windows\System32\dism.exe", r"W:\_osd\logs\dism.log", r"W:\_osd\scratch")
    from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import quote

    info = volume.run(r"dism.exe /English /Get-ImageInfo /ImageFile:\\srv\images\install.wim /Index:1")
    assert info.code == 0, info.out
    facts = dict(re.findall(r"^(Name|Architecture) : (.*?)\r?$", info.out, re.MULTILINE))
    assert facts == {"Name": image.read_wim_file(install_wim).images[0].name, "Architecture": "x64"}
    applied = volume.run(quote(tool.apply_image(r"\\srv\images\install.wim", 1, "W:\\", check_integrity=True)))
    assert applied.code == 0, applied.out
    assert volume.files.is_file(SOFTWARE)
    assert "100.0%" in applied.out

    volume.files.make_directories(r"X:\_osd\scratch")
    volume.files.write(r"X:\_osd\WimScript.ini", capture_configuration.render(capture_configuration.for_capture()))
    volume.files.write(r"W:\pagefile.sys", b"x" * 1000)
    tool = product.Dism(r"X:\Windows\System32\dism.exe", r"X:\_osd\cap.log", r"X:\_osd\scratch")
    wish = product.CaptureArguments(r"\\srv\images\ref.wim.part", "W:\\", "Gold 1", "A reference", r"X:\_osd\WimScript.ini")
    captured = volume.run(quote(tool.capture_image(wish, "fast")))
    assert captured.code == 0, captured.out
    host = volume.share / "ref.wim.part"
    assert subprocess.run(["wimlib-imagex", "verify", str(host), "--quiet"], check=False).returncode == 0
    listing = subprocess.run(["wimlib-imagex", "dir", str(host), "1"], capture_output=True, text=True, check=True).stdout.lower()
    assert "/windows/system32/config/software" in listing
    assert "pagefile" not in listing
    assert "_osd" not in listing
    found = image.read_wim_file(host).images[0]
    assert (found.name, found.description, found.is_windows) == ("Gold 1", "A reference", True)
    again = volume.run(quote(tool.capture_image(wish, "fast")))
    assert again.code == 80

    data = product.CaptureArguments(r"\\srv\images\ref.wim.part", "X:\\_osd", "Data", "", r"X:\_osd\WimScript.ini")
    assert volume.run(quote(tool.append_image(data))).code == 0
    assert [i.name for i in image.read_wim_file(host).images] == ["Gold 1", "Data"]
    assert volume.run(quote(tool.append_image(data))).code == 0x80070057  # names are unique in a file


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (r"/Apply-Image /ImageFile:X:\none.wim /Index:1 /ApplyDir:W:\ ", 2),
        (r"/Apply-Image /ImageFile:X:\none\none.wim /Index:1 /ApplyDir:W:\ ", 3),
        (r"/Apply-Image /ImageFile:X:\text.wim /Index:1 /ApplyDir:W:\ ", 11),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:9 /ApplyDir:W:\ ", 87),
        (r"/Apply-Image /ImageFile:X:\a.wim /ApplyDir:W:\ ", 87),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:1", 87),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:1 /ApplyDir:Q:\ ", 3),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:1 /ApplyDir:W:\ /Frobnicate", 87),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:1 /ApplyDir:W:\ /Compress:max", 87),
        (r"/Apply-Image /ImageFile:X:\a.wim /Index:1 /ApplyDir:W:\ /ScratchDir:X:\nowhere", 3),
        (r"/Capture-Image /ImageFile:X:\b.wim /CaptureDir:W:\ /Name:N", 2),
        (r"/Capture-Image /ImageFile:X:\b.wim /CaptureDir:X:\Windows\Temp", 87),
        (r"/Capture-Image /ImageFile:X:\b.wim /CaptureDir:X:\osd /Name:N /Compress:recovery", 87),
        (r"/Append-Image /ImageFile:X:\b.wim /CaptureDir:X:\osd /Name:N", 2),
        (r"/Append-Image /ImageFile:X:\a.wim /CaptureDir:X:\osd /Name:N /Compress:max", 87),
        (r"/Online /Get-Packages", 50),
        (r"/Get-Packages", 87),
        (r"/Image:W:\ /Get-Packages", 2),
        (r"/Image:Q:\ /Get-Packages", 3),
        (r"/Nonsense", 87),
        (r"", 87),
    ],
)
def test_refusals(volume, install_wim, arguments, code) -> None:
    if "a.wim" in arguments:
        volume.files.write(r"X:\a.wim", install_wim.read_bytes())
    volume.files.write(r"X:\text.wim", b"no image" * 100)
    assert volume.run(f"dism /English {arguments}").code == code


def test_disk_full(pe, install_wim) -> None:
    pe.files.write(r"X:\script.txt", b"select disk 0\r\nclean\r\nconvert gpt\r\n")
    pe.run(r"diskpart /s X:\script.txt")
    _volume(pe, size=8)
    big = pe.share / "big.wim"
    tree = pe.share / "tree"
    tree.mkdir()
    (tree / "file.bin").write_bytes(bytes(range(256)) * 65536)
    content.capture(tree, big, "Big")
    _connect(pe)
    assert pe.run(r"dism /Apply-Image /ImageFile:\\srv\images\big.wim /Index:1 /ApplyDir:W:\ ").code == 112


def test_share_needs_a_connection_and_the_right_to_write(volume) -> None:
    volume.files.write(r"W:\file.txt", b"x")
    line = r"dism /Capture-Image /ImageFile:\\srv\images\x.wim /CaptureDir:W:\ /Name:N"
    assert volume.run(line).code in (5, 53, 67, 1326, 3)
    assert volume.run(r"net use \\srv\images Secret1 /user:reader").code == 0
    assert volume.run(line).code == 5


def test_update_and_driver_into_an_applied_image(volume, install_wim, tmp_path) -> None:
    content.make_samples(volume.share)
    (volume.share / "install.wim").write_bytes(install_wim.read_bytes())
    _connect(volume)
    assert volume.run(r"dism /Apply-Image /ImageFile:\\srv\images\install.wim /Index:1 /ApplyDir:W:\ ").code == 0
    assert volume.run(r"dism /Image:W:\ /Add-Package /PackagePath:\\srv\images\updates\KB5000001.cab").code == 0
    assert volume.run(r"dism /Image:W:\ /Add-Package /PackagePath:\\srv\images\updates\KB5000001.cab").code == 0
    hive = registry_hive.load(volume.files.read(SOFTWARE))
    key = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
    assert hive.get_dword(rf"{key}\Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0", "CurrentState") == 112
    assert "KB5000001" in volume.run(r"dism /English /Image:W:\ /Get-Packages").out
    assert volume.run(r"dism /Image:W:\ /Add-Package /PackagePath:\\srv\images\install.wim").code == 0x80070057

    assert volume.run(r"dism /Image:W:\ /Add-Driver /Driver:\\srv\images\drivers /Recurse").code == 0
    stored = volume.files.names(r"W:\Windows\System32\DriverStore\FileRepository")
    assert any(name.startswith("labnet.inf_amd64_") for name in stored)
    assert volume.files.is_file(r"W:\Windows\INF\oem0.inf")
    assert volume.run(r"dism /Image:W:\ /Add-Driver /Driver:\\srv\images\drivers\labnet\labnet.inf").code == 0
    assert not volume.files.exists(r"W:\Windows\INF\oem1.inf")


def test_unsigned_driver_needs_forceunsigned(volume, install_wim) -> None:
    content.make_samples(volume.share)
    (volume.share / "drivers/labnet/labnet.cat").unlink()
    (volume.share / "install.wim").write_bytes(install_wim.read_bytes())
    _connect(volume)
    assert volume.run(r"dism /Apply-Image /ImageFile:\\srv\images\install.wim /Index:1 /ApplyDir:W:\ ").code == 0
    line = r"dism /Image:W:\ /Add-Driver /Driver:\\srv\images\drivers\labnet\labnet.inf"
    assert volume.run(line).code == 0x800F0247
    assert volume.run(line + " /ForceUnsigned").code == 0
