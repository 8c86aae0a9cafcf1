# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure, print, and write build/bench.json: the sequence, one task, capture, the agent. Ends with 1 where a budget is exceeded.

What is compared is measured in turn, so that what else runs on the machine hits both. CPU time is user and system time of a program with
all its children; ratios of it are those of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import agent
import imaging
import measuring
import sequence
import task

RESULT = measuring.ROOT / "build/bench.json"
PARTS = {"sequence": sequence, "task": task, "imaging": imaging, "agent": agent}
#: What a ratio may be at most.
BUDGETS = {"sequence": 2.0, "task": 2.2, "imaging": 1.1}


def main() -> int:
    """Measure the parts that were asked for; what the file knows of the others stays in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what is measured, of: {', '.join(PARTS)}; everything where none is named")
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured")
    given = parser.parse_args()
    unknown = set(given.parts) - PARTS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    measuring.find_plugins()
    measuring.BENCH.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if given.parts and RESULT.exists() else {}
    result: dict[str, Any] = {name: known[name] for name in PARTS if isinstance(known.get(name), dict)}
    exceeded = 0
    for name in given.parts or PARTS:
        print(f"{name}: {(PARTS[name].__doc__ or '').partition(chr(10))[0]}", flush=True)
        began = os.getloadavg()[0]
        result[name] = PARTS[name].measure(given.runs)
        PARTS[name].show(result[name])
        result[name].update(runs=given.runs, load_before=began)
        if name in BUDGETS:
            ratio, budget = result[name]["ratio"], BUDGETS[name]
            result[name]["budget"] = budget
            print(f"  ratio {ratio:.2f} of at most {budget} {'' if ratio <= budget else 'EXCEEDED'}", flush=True)
            exceeded += ratio > budget
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if exceeded else 0


if __name__ == "__main__":
    raise SystemExit(main())
