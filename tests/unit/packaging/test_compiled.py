# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Under Ansible's loader the modules that actions share are compiled once, and never run from another source; it stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = "ansible_collections.goldimage.osd.plugins.plugin_utils"
ROOT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
finders = list(sys.meta_path)
from {PACKAGE}.compiled import compiled
try:
    with compiled():
        import {PACKAGE}.wsman.known as module
        import {PACKAGE}.none
except ImportError:
    assert sys.meta_path == finders
import {PACKAGE}.windows.names as plain
print(type(module.__loader__).__name__, type(plain.__loader__).__name__, module.__package__, getattr(module, "ANSWER", ""))
"""


def run(collections: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(collections)], env=environment, cwd=collections, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def installed(folder: Path) -> Path:
    """Lay the smallest part of the collection that can be imported into a folder."""
    collection = folder / "ansible_collections/goldimage/osd"
    modules = [f"plugins/plugin_utils/{name}" for name in ("compiled.py", "wsman/known.py", "windows/names.py")]
    for name in ("galaxy.yml", "meta/runtime.yml", *modules):
        (collection / name).parent.mkdir(parents=True, exist_ok=True)
        (collection / name).write_bytes((ROOT / name).read_bytes())
    return collection / "plugins/plugin_utils/wsman/known.py"


def test_modules_are_loaded_by_pythons_own_loader_and_compiled(tmp_path: Path) -> None:
    module = installed(tmp_path)
    assert run(tmp_path) == ["SourceFileLoader", "_AnsibleCollectionLoader", f"{PACKAGE}.wsman"]
    assert [path.name.split(".")[0] for path in (module.parent / "__pycache__").glob("*.pyc")] == ["known"]


def test_another_source_is_compiled_anew(tmp_path: Path) -> None:
    module = installed(tmp_path)
    run(tmp_path)
    module.write_text(module.read_text(encoding="utf-8") + "\nANSWER = 42\n", encoding="utf-8")
    assert run(tmp_path)[3] == "42"
