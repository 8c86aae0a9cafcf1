# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection's plugins share. Its modules are loaded as Python loads any module: compiled once, then from ``__pycache__``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path


class _Compiled:
    """Finds the modules below this package before Ansible's loader does, which compiles each from its source at every start.

    Ansible loads the plugins themselves in this way (``PluginLoader._load_module_source``), only not what they import. Python's own
    loader writes and checks the compiled files: one of another source is never run, and a folder that cannot be written costs only time.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module; None for packages and for what is not of this one."""
        if not path or not name.startswith(f"{__name__}."):
            return None
        if not Path(path[0], f"{name.rpartition('.')[2]}.py").is_file():
            return None
        return FileFinder(path[0], (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)


if not (__spec__ and isinstance(__spec__.loader, SourceFileLoader)):
    sys.meta_path.insert(0, _Compiled)
