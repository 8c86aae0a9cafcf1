# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Projects for whole runs in the lab. What a test starts here is ended here, whatever the test does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from integration_support import MISSING_PROGRAMS, Project


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Project]]:
    """Called with the computers of a lab (options of goldimage.osd.lab): a user's project with that lab running."""
    if MISSING_PROGRAMS:
        pytest.skip(f"not installed: {', '.join(MISSING_PROGRAMS)}")
    projects: list[Project] = []

    def make(*computers: dict[str, Any], **options: Any) -> Project:
        project = Project(tmp_path_factory.mktemp("project"), computers, **options)
        projects.append(project)
        project.start_lab()
        return project

    yield make
    for project in projects:
        project.close()
