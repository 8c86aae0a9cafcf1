# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make soak``: broken requests and media for SOAK_SECONDS (600), with a new seed each round. Ends with 1 and the seed where one is found.

SOAK_SEED=n begins with that seed, so that what was found comes again.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / place) for place in ("collections", "tests/unit/agent", "tests/unit/wsman", "tests/unit/media")]

import fuzzing  # noqa: E402
import test_hostile as wsman  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import iso  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.extents import DamagedMedium  # noqa: E402
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import envelope, faults  # noqa: E402
from media_files import write_udf_iso  # noqa: E402
from wsman_fakes import Computer  # noqa: E402

#: What an answer never holds: a defect that became a fault.
DEFECTS = (b"RuntimeError", b"KeyError", b"TypeError", b"AttributeError", b"RecursionError", b"IndexError")


def http(rng: random.Random, folder: Path) -> int:
    """Send broken HTTP."""
    (folder / "computer").mkdir(exist_ok=True)
    fuzzing.attack(rng, 500, folder / "computer")
    return 500


def envelopes(rng: random.Random, folder: Path) -> int:
    """Send broken envelopes to the server."""
    computer = Computer()
    requests = [request for request, dummy in wsman._seeds()]
    for dummy in range(500):
        request = wsman._mutate(rng, rng.choice(requests))
        status, answer = computer.server.handle(request, user="osd")
        assert status == 200 or faults.is_fault(envelope.parse(answer).content), request
        assert not [defect for defect in DEFECTS if defect in answer], (request, answer)
    return 500


def media(rng: random.Random, folder: Path) -> int:
    """Read damaged ISOs."""
    place = folder / "good.iso"
    if not place.exists():
        write_udf_iso(place, {f"many/file {number}.txt": b"x" * number for number in range(60)} | {"sources/boot.wim": bytes(5000)})
    good = place.read_bytes()
    used = len(good.rstrip(b"\0"))
    for dummy in range(50):
        data = bytearray(good)
        for dummy in range(rng.randint(1, 40)):
            data[rng.randrange(32768, used)] = rng.randrange(256)
        (folder / "bad.iso").write_bytes(data)
        try:
            with (folder / "bad.iso").open("rb") as file:
                iso.find(file, "sources/boot.wim").open(file).read()
        except (DamagedMedium, FileNotFoundError):
            continue
    return 50


PARTS: tuple[Callable[[random.Random, Path], int], ...] = (http, envelopes, media)


def main() -> int:
    """Go on until the time is over or something is found."""
    end = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600"))
    seed = int(os.environ.get("SOAK_SEED", str(int(time.time()))))
    counts = dict.fromkeys((part.__name__ for part in PARTS), 0)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        while time.monotonic() < end:
            for part in PARTS:
                try:
                    counts[part.__name__] += part(random.Random(seed), Path(folder))
                except Exception:
                    traceback.print_exc()
                    print(f"soak: {part.__doc__} SOAK_SEED={seed} shows it again.")
                    return 1
            seed += 1
    print("soak: nothing found in " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
