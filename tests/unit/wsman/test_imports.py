# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The protocol goes into Windows PE: standard library and its own files only, and no sockets."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import client

FILES = sorted(Path(client.__file__).parent.glob("*.py"))
NETWORK = {"socket", "ssl", "http", "urllib", "asyncio", "subprocess"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"line {node.lineno}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in (name.partition(".")[0] for name in names):
                assert name in sys.stdlib_module_names, f"line {node.lineno}"
                assert name not in NETWORK, f"line {node.lineno}"
