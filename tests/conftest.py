# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every test shares: the import path of the collection and the folder of foreign files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORPORA = (ROOT / os.environ.get("CORPORA", "../shared/corpora")).resolve()


def _link_collection() -> None:
    """Make the checkout importable and findable as goldimage.osd, whatever its directory is called."""
    link = ROOT / "collections" / "ansible_collections" / "goldimage" / "osd"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../..", target_is_directory=True)


_link_collection()
_foreign_files: set[str] = set()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of foreign files; the test is skipped where it is not there."""
    if not CORPORA.is_dir():
        pytest.skip(f"foreign files: {CORPORA} is not there")
    return CORPORA


@pytest.fixture
def foreign_file(record_property):
    """Called with every foreign file that a test reads: the last lines of `make test` count them."""

    def note(path: Path) -> Path:
        record_property("foreign_file", str(path))
        return path

    return note


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect, in the main process also under xdist, which foreign files were tested."""
    if report.when == "call":
        _foreign_files.update(value for name, value in report.user_properties if name == "foreign_file")


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many foreign files took part, or that the folder was not there."""
    if not CORPORA.is_dir():
        terminalreporter.write_line(f"foreign files: the folder {CORPORA} was not there, nothing of it was tested")
    else:
        terminalreporter.write_line(f"foreign files: {len(_foreign_files)} of {CORPORA} were tested")
