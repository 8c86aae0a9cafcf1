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
            "osd_applications: missing required arguments: install found in osd_applications "
            "(see ansible-doc goldimage.osd.install_application)",
        ),
        (
            {"osd_capture_leave_account": {"name": "x", "user": "y", "password": "z"}},
            "Unsupported parameters: osd_capture_leave_account.name. Supported parameters include: password, user "
            "(see ansible-doc goldimage.osd.join_domain_or_workgroup)",
        ),
        (
            {"osd_updates": {"source": {}, "packages": []}},
            "osd_updates.source: missing required arguments: target found in osd_updates.source "
            "(see ansible-doc goldimage.osd.install_software_updates)",
        ),
        (
            {"osd_network": {"account": {"user": "join"}}},
            "osd_network.account: missing required arguments: password found in osd_network.account "
            "(see ansible-doc goldimage.osd.apply_network_settings)",
        ),
        (
            {"osd_drivers": "folder"},
            "osd_drivers: dictionary requested, could not parse JSON or key=value (see ansible-doc goldimage.osd.auto_apply_drivers)",
        ),
        (
            {"osd_partitions": [{"type": "Floppy"}]},
            "osd_partitions: value of type must be one of: Primary, EFI, MSR, Recovery, got: Floppy found in osd_partitions "
            "(see ansible-doc goldimage.osd.format_and_partition_disk)",
        ),
    ],
)
def test_what_they_do_not_take_is_named_with_the_module(changed: dict[str, Any], expected: str) -> None:
    assert problems(**changed) == [expected]


def test_each_variable_has_a_problem_of_its_own() -> None:
    found = problems(osd_applications=[{"name": "One", "install": ["a.exe"], "enabled": True}], osd_capture={"account": {"pasword": "x"}})
    assert len(found) == 2
    assert "detection, install" in next(text for text in found if "osd_applications.enabled" in text)


def test_who_builds_is_told_what_is_wrong_with_the_capture_but_not_the_other_way_round() -> None:
    assert problems(("capture",), osd_applications=[{}]) == []
    assert len(problems(("build",), osd_capture={"account": {}})) == 1
