# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capture and verify of a tree of 1 GB: the product's command line through the lab's dism, against wimlib's own with the same options."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from measuring import BENCH, ROOT, spread

TREE = BENCH / "tree"
#: Bytes of the tree; the names and contents follow from the seed alone.
SIZE = 1_000_000_000
_SEED = 20240501
_NAME = "Bench"


def measure(runs: int) -> dict[str, Any]:
    """Capture in turn through both; each result must be readable and hold the same."""
    size, files = _make_tree()
    with tempfile.TemporaryDirectory(prefix="imaging-", dir=BENCH) as scratch:
        computer, line, target = _computer(Path(scratch))
        listing = Path(scratch) / "WimScript.ini"
        through_dism: list[float] = []
        own: list[float] = []
        for _run in range(runs):
            target.unlink(missing_ok=True)
            began = time.perf_counter()
            done = computer.run(line)
            through_dism.append(time.perf_counter() - began)
            if done.code:
                raise SystemExit(f"dism ended with {done.code}: {done.out[-1000:]}")
            by_wimlib = Path(scratch) / "wimlib.wim"
            by_wimlib.unlink(missing_ok=True)
            began = time.perf_counter()
            capture = ["capture", str(TREE), str(by_wimlib), _NAME, "--compress=LZX:30", "--no-acls", "--check", f"--config={listing}"]
            for arguments in (capture, ["verify", str(by_wimlib)]):
                subprocess.run(["wimlib-imagex", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            own.append(time.perf_counter() - began)
            if _content(target) != _content(by_wimlib):
                raise SystemExit(f"through dism {_content(target)}, by wimlib {_content(by_wimlib)}: not the same")
    return {
        "bytes": size,
        "files": files,
        "dism_seconds": spread(through_dism),
        "wimlib_seconds": spread(own),
        # Wall time: what else runs on the machine only adds to it, so the least is compared.
        "ratio": min(through_dism) / min(own),
    }


def _content(image: Path) -> list[str]:
    from integration_support import images_of

    return [found.values[name] for found in images_of(image) for name in ("NAME", "DIRCOUNT", "FILECOUNT", "TOTALBYTES")]


def show(result: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        f"  capture and verify of {result['files']} files, {result['bytes'] / 1e6:.0f} MB: through dism "
        f"{result['dism_seconds']['least']:.2f} s, wimlib {result['wimlib_seconds']['least']:.2f} s"
    )


def _make_tree() -> tuple[int, int]:
    """Make the tree once; a half-made one is made anew. Return its bytes and files."""
    if not TREE.exists():
        making = TREE.with_name("tree.part")
        shutil.rmtree(making, ignore_errors=True)
        chance = random.Random(_SEED)
        # As in Windows: much that compresses, some that does not, and copies of the same.
        words = [chance.randbytes(chance.randrange(8, 64)) for dummy in range(512)]
        left, number, last = SIZE, 0, b""
        while left > 0:
            size = min(left, int(chance.paretovariate(1.1) * 8192), 64_000_000)
            kind = chance.random()
            if kind < 0.03 and last:
                content = last
            elif kind < 0.2:
                content = chance.randbytes(size)
            else:
                content = b"".join(chance.choices(words, k=size // 36 + 1))
            folder = making / f"{number % 97:02}" / f"{number % 13:02}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06}.bin").write_bytes(content)
            left, number, last = left - len(content), number + 1, content
        making.rename(TREE)
    files = [path for path in TREE.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


def _computer(scratch: Path) -> tuple[Any, str, Path]:
    """Return a lab machine in Windows PE with the tree on its W:, the product's command line, and the file that it makes."""
    from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
    from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import capture_configuration, command_line, dism

    content.make_windows_pe(scratch / "trees/pe", {})
    computer = _lab_tools()._pe(scratch, scratch / "trees", "uefi")
    disks = computer.machine.disks
    disk = disks.find(0)
    disks.convert(disk, "GPT")
    places = {}
    for letter, size in (("W", 20 * 1024**3), ("T", 20 * 1024**3)):
        places[letter] = disks.create_partition(disk, "primary", size=size)
        disks.format(places[letter], "NTFS", letter)
        disks.assign(places[letter], letter)
    root = places["W"].volume.root
    root.rmdir()
    shutil.copytree(TREE, root, copy_function=os.link)
    listing = capture_configuration.render(capture_configuration.for_capture())
    (scratch / "WimScript.ini").write_bytes(listing)
    computer.files.write("X:\\WimScript.ini", listing)
    computer.files.make_directories("X:\\logs")
    arguments = dism.CaptureArguments("T:\\dism.wim", "W:\\", _NAME, "", "X:\\WimScript.ini")
    argv = dism.Dism(r"X:\Windows\System32\dism.exe", r"X:\logs\dism.log").capture_image(arguments, "max")
    return computer, command_line.quote(argv), places["T"].volume.root / "dism.wim"


def _lab_tools() -> ModuleType:
    """Load what the tests of the lab's tools run them on."""
    path = ROOT / "tests/unit/lab/tools/conftest.py"
    spec = importlib.util.spec_from_file_location("lab_tools", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules["lab_tools"] = module
    spec.loader.exec_module(module)
    return module
