# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent as one zip application: ``python -I agent.zip``. The same sources give the same bytes.

In it are the agent, the protocol, what these two import of ``windows``, and comtypes. Nothing of Ansible: the packages keep their
relative imports below a package of the zip's own.
"""

from __future__ import annotations

import ast
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ..windows.boot_image import BootImageError

PACKAGE = "goldimage_osd"
_ROOTS = ("agent", "wsman")
_LIBRARY = "comtypes"
#: The time of every file in the zip; zip knows none before 1980.
_TIME = (1980, 1, 1, 0, 0, 0)
_MAIN = f"""\
import sys

from {PACKAGE}.agent.__main__ import main

sys.exit(main())
"""
#: Parts of comtypes that only its own tests and builds need.
_LEFT_OUT = ("comtypes/test/",)


def plugin_utils() -> Path:
    """Return the folder of the collection's plugin_utils."""
    return Path(__file__).resolve().parents[1]


def sources(root: Path) -> dict[str, bytes]:
    """Return the agent's modules by their path in the zip: agent and wsman whole, and every module they import from elsewhere."""
    found: dict[str, bytes] = {}
    waiting = [path.relative_to(root).as_posix() for name in _ROOTS for path in sorted((root / name).glob("*.py"))]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = (root / name).read_bytes()
        waiting += [other for other in _imported(root, name, found[name]) if other not in found]
    packages = {name.rsplit("/", 1)[0] for name in found} | {""}
    modules = {f"{PACKAGE}/{name}": content for name, content in found.items()}
    return {f"{PACKAGE}/{package}/__init__.py".replace("//", "/"): b"" for package in packages} | modules


def _imported(root: Path, name: str, content: bytes) -> list[str]:
    """Return the modules that relative imports of one module name, at its top or in a function."""
    folder = name.split("/")[:-1]
    found = []
    for node in ast.walk(ast.parse(content)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = (
            folder[: len(folder) - node.level + 1] + (node.module or "").split(".")
            if node.module
            else folder[: len(folder) - node.level + 1]
        )
        candidates = ["/".join(base) + ".py", *("/".join([*base, alias.name]) + ".py" for alias in node.names)]
        found += [candidate for candidate in candidates if (root / candidate).is_file()]
    return found


def library_files(archive: bytes, name: str = _LIBRARY) -> dict[str, bytes]:
    """Return the package of a wheel or source archive by its path in the zip. BootImageError where it is none."""
    files = dict(_members(archive))
    starts = sorted({path[: -len(f"{name}/__init__.py")] for path in files if path.endswith(f"{name}/__init__.py")}, key=len)
    if not starts:
        raise BootImageError(f"The archive of {name} holds no package {name}: give the wheel or source archive from PyPI.")
    start = starts[0]
    taken = {path[len(start) :]: content for path, content in files.items() if path.startswith(f"{start}{name}/")}
    # The licence must go where the files go.
    licences = {
        f"{name}/{path.rsplit('/', 1)[-1]}": c for path, c in files.items() if path.rsplit("/", 1)[-1].upper().startswith("LICENSE")
    }
    return {path: content for path, content in (taken | licences).items() if not path.startswith(_LEFT_OUT)}


def _members(archive: bytes) -> list[tuple[str, bytes]]:
    data = io.BytesIO(archive)
    if zipfile.is_zipfile(data):
        with zipfile.ZipFile(data) as file:
            return [(info.filename, file.read(info)) for info in file.infolist() if not info.is_dir()]
    data.seek(0)
    try:
        with tarfile.open(fileobj=data) as tar:
            return [(info.name, member.read()) for info in tar if info.isfile() and (member := tar.extractfile(info))]
    except tarfile.TarError:
        raise BootImageError("The archive is neither a zip file nor a tar file.") from None


def make(root: Path, library: Mapping[str, bytes]) -> bytes:
    """Return the zip application. ``library``: files beside the agent's package, see ``library_files``."""
    return pack({"__main__.py": _MAIN.encode(), **sources(root), **library})


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files: sorted, with one fixed time."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return data.getvalue()
