# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media and archives for these tests, made by other programs than ours where there are any."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pycdlib
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import PACKAGES_KEY

README = b'This disc contains a "UDF" file system and requires an operating system that supports it.\r\n'


def write_udf_iso(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an ISO as Microsoft's: everything in UDF, only a README in ISO 9660."""
    iso = pycdlib.PyCdlib()
    iso.new(udf="2.60", interchange_level=3)
    iso.add_fp(io.BytesIO(README), len(README), "/README.TXT;1")
    made: set[str] = set()
    for name, data in files.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/" + "/".join(parts[:depth])
            if folder not in made:
                iso.add_directory(udf_path=folder)
                made.add(folder)
        iso.add_fp(io.BytesIO(data), len(data), udf_path=f"/{name}")
    iso.write(str(path))
    iso.close()


def python_archive(machine: int = 0x8664, folder: str = "") -> bytes:
    """Return what looks like the Python embeddable distribution of an architecture."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{folder}python.exe", content.portable_executable(machine))
        for name in ("python312.dll", "python312._pth", "python312.zip", "vcruntime140.dll", "_ssl.pyd", "_sqlite3.pyd", "pythonw.exe"):
            archive.writestr(f"{folder}{name}", name.encode())
    return data.getvalue()


def comtypes_archive() -> bytes:
    """Return what looks like the wheel of comtypes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("comtypes/__init__.py", "__version__ = '1.4.17'\n")
        archive.writestr("comtypes/client/__init__.py", "")
        archive.writestr("comtypes/test/test_x.py", "")
        archive.writestr("comtypes-1.4.17.dist-info/licenses/LICENSE.txt", "MIT")
    return data.getvalue()


def package(name: str, language: str = "", version: str = "10.0.26100.1") -> str:
    """Return the identity of a package of Windows PE."""
    return f"{name}-Package~31bf3856ad364e35~amd64~{language}~{version}"


def make_winpe(path: Path, components: tuple[str, ...] = ("WinPE-WMI", "WinPE-SecureStartup"), machine: int = 0x8664) -> None:
    """Write a winpe.wim as the ADK's after DISM: no agent, components in the SOFTWARE hive."""
    tree = path.parent / f"{path.stem}.tree"
    content.make_windows_pe(tree, {})
    config = tree / "Windows" / "System32" / "config"
    software = registry_hive.load((config / "SOFTWARE").read_bytes())
    software.delete(PACKAGES_KEY)
    for name in components:
        software.set_dword(rf"{PACKAGES_KEY}\{package(name)}", "CurrentState", 112)
        software.set_dword(rf"{PACKAGES_KEY}\{package(name, 'en-US')}", "CurrentState", 112)
    (config / "SOFTWARE").write_bytes(registry_hive.dump(software))
    (tree / "Windows" / "System32" / "kernel32.dll").write_bytes(content.portable_executable(machine))
    (tree / "Windows" / "System32" / "winpeshl.ini").write_bytes(b"[LaunchApp]\r\nAppPath=X:\\sms\\bin\\x64\\TsBootShell.exe\r\n")
    content.capture(tree, path, "Microsoft Windows PE (amd64)", flags="9")
