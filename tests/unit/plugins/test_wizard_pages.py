# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the roles are held against the modules that describe their keys."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.endpoints import Variables
from ansible_collections.goldimage.osd.plugins.plugin_utils.wizard_pages import page_problems

TARGET = r"\\server\share\folder"
GOOD: dict[str, Any] = {
    "osd_boot_image": {"target": TARGET, "account": {"user": "reader", "password": "secret"}},
    "osd_image": {"target": TARGET},
    "osd_partitions": [{"type": "Primary", "size": "512"}],
    "osd_network": {"workgroup": "WORKGROUP", "adapters": [{"enable_dhcp": True}]},
    "osd_drivers": [{"target": TARGET, "categories": ["Network"]}],
    "osd_updates": {"source": {"target": TARGET}, "packages": [{"file": "KB5000001.cab"}]},
    "osd_applications": [{"name": "One", "install": ["setup.exe"], "detection": [{"type": "file", "path": "C:\\x"}]}],
    "osd_capture": {"path": TARGET},
}


def problems(phases: tuple[str, ...] = ("build", "capture"), **changed: Any) -> list[str]:
    return page_problems(Variables({**GOOD, **changed}, lambda value: value), phases)


def test_what_the_modules_take_has_no_problem() -> None:
    assert problems() == []


def test_what_is_not_set_is_not_missed() -> None:
    assert page_problems(Variables({}, lambda value: value), ("build", "capture")) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"osd_applications": [{"name": "One", "install": ["setup.exe"]}, {"name": "Two", "instal": ["setup.exe"]}]},
            ["missing required arguments: install found in osd_applications", "Unsupported parameters: osd_applications.instal. Supported"],
        ),
        ({"osd_updates": {"source": {}, "packages": []}}, ["missing required arguments: target found in osd_updates.source"]),
        (
            {"osd_network": {"account": {"user": "join"}}},
            ["missing required arguments: password found in osd_network.account"],
        ),
        ({"osd_drivers": "folder"}, ["dictionary requested", "Elements value for option 'osd_drivers' is of type str"]),
        (
            {"osd_partitions": [{"type": "Floppy"}]},
            ["value of type must be one of: Primary, EFI, MSR, Recovery, got: Floppy found in osd_partitions"],
        ),
        (
            {"osd_capture_leave_account": {"name": "x", "user": "y", "password": "z"}},
            ["Unsupported parameters: osd_capture_leave_account.name."],
        ),
    ],
)
def test_what_they_do_not_take_is_named(changed: dict[str, Any], expected: list[str]) -> None:
    found = problems(**changed)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


def test_only_what_the_phases_use_is_looked_at() -> None:
    assert problems(("capture",), osd_applications=[{}]) == []
    assert problems(("build",), osd_capture={"account": {}}) == []
