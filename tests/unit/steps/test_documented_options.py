# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that the modules document are the options that the steps use, names and defaults alike."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.auto_apply_drivers import AutoApplyDrivers
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_application import InstallApplication
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_software_updates import InstallSoftwareUpdates
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.join_domain_or_workgroup import JoinDomainOrWorkgroup
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.prepare_configmgr_client_for_capture import (
    PrepareConfigmgrClientForCapture,
)
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, run_step

MODULES = "ansible_collections.goldimage.osd.plugins.modules"


def documented(name: str) -> dict[str, Any]:
    return yaml.safe_load(importlib.import_module(f"{MODULES}.{name}").DOCUMENTATION)["options"] or {}


def filled(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults as Ansible does; an unknown or a missing required option is an error."""
    assert set(given) <= set(spec), set(given) - set(spec)
    values = {}
    for name, rules in spec.items():
        value = given.get(name, rules.get("default"))
        assert value is not None or not rules.get("required"), name
        if rules.get("suboptions") and value is not None:
            value = [filled(rules["suboptions"], item) for item in value] if rules["type"] == "list" else filled(rules["suboptions"], value)
        values[name] = value
    return values


CASES = [
    (JoinDomainOrWorkgroup, "join_domain_or_workgroup", {"join_type": "workgroup", "workgroup": "W"}),
    (
        InstallApplication,
        "install_application",
        {
            "applications": [
                {
                    "name": "A",
                    "source": {"target": r"\\s\a", "account": {"user": "u", "password": "p"}},
                    "install": ["a.exe"],
                    "detection": [{"type": "service", "service": "A"}],
                }
            ]
        },
    ),
    (InstallSoftwareUpdates, "install_software_updates", {"source": {"target": r"\\s\a"}, "updates": [{"file": "kb5000001.cab"}]}),
    (PrepareConfigmgrClientForCapture, "prepare_configmgr_client_for_capture", {}),
    (AutoApplyDrivers, "auto_apply_drivers", {"sources": [{"target": r"\\s\d", "controller": "/d"}]}),
]


@pytest.mark.parametrize(("step", "module", "given"), CASES, ids=[module for dummy, module, dummy in CASES])
def test_minimal_documented_options_are_enough(step: Any, module: str, given: dict[str, Any]) -> None:
    options = filled(documented(module), given)
    assert step.validate(options) == []
    plan = step(options, FakeContext()).predict()
    assert plan.predicted
    assert plan.changes


@pytest.mark.parametrize(("step", "module", "given"), CASES, ids=[module for dummy, module, dummy in CASES])
def test_secrets_and_rules_name_documented_options(step: Any, module: str, given: dict[str, Any]) -> None:
    spec = documented(module)
    for path in step.secrets:
        level: Any = spec
        for part in path.split("."):
            assert part in level, path
            level = level[part].get("suboptions", {})
    for rule in step.rules.get("required_if", ()):
        assert {rule[0], *rule[2]} <= set(spec)


def test_documented_defaults_install() -> None:
    options = filled(documented("install_application"), {"applications": [{"name": "A", "install": ["a.exe"]}]})
    dummy, result = run_step(InstallApplication(options, FakeContext()), FakeWindows())
    assert result["_TSAppInstallStatus"] == "Success"
