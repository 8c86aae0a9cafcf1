# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lets Python load the modules that the actions share as it loads any module: compiled once, then from ``__pycache__``.

Ansible's loader compiles them from their source at every start, 0.2 s for the sequence. It loads the plugins themselves by
Python's own loader (``PluginLoader._load_module_source``), only not what they import.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path


class _Compiled:
    """Finds the modules beside this one and below. One of another source than what was compiled is compiled anew, by Python's own rules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module; None for packages and for what is not of these."""
        if not path or not name.startswith(f"{__package__}."):
            return None
        if not Path(path[0], f"{name.rpartition('.')[2]}.py").is_file():
            return None
        return FileFinder(path[0], (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)


@contextlib.contextmanager
def compiled() -> Iterator[None]:
    """Load what is imported inside in that way. Ansible's loader is as it was afterwards."""
    sys.meta_path.insert(0, _Compiled)
    try:
        yield
    finally:
        sys.meta_path.remove(_Compiled)
