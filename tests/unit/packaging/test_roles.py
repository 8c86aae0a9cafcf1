# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles say the options of the steps a second time, but for their keys; these tests hold that against the modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.filter.with_own_steps import STEPS, with_own_steps
from ansible_collections.goldimage.osd.plugins.plugin_utils.argument_spec import load_argument_spec
from ansible_collections.goldimage.osd.plugins.plugin_utils.wizard_pages import PAGES

ROOT = Path(__file__).resolve().parents[3]

ROLES = {"build_reference_computer": "__osd_build_steps", "capture_reference_computer": "__osd_capture_steps"}
#: '{{ osd_image_index }}', '{{ osd_network.domain | default(omit) }}'
VARIABLE = re.compile(r"\{\{ (osd_\w+)(?:\.(\w+))?(?: \| default\(omit\))? \}\}")


def load(path: str) -> Any:
    """Return a YAML file of the checkout."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def module_options(module: str) -> Mapping[str, Any]:
    """Return the options of a module's own documentation."""
    text = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    documentation = re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL)
    assert documentation
    return yaml.safe_load(documentation[1]).get("options") or {}


def step_tasks(role: str) -> Iterator[Mapping[str, Any]]:
    """Yield every task of a role's files."""

    def tasks(entries: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for entry in entries:
            if "block" in entry:
                yield from tasks(entry["block"])
            else:
                yield entry

    for path in sorted((ROOT / f"roles/{role}/tasks").glob("*.yml")):
        yield from tasks(yaml.safe_load(path.read_text(encoding="utf-8")))


def passed_options() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield role, module, option, variable and the variable's key for every variable that a role hands to a step."""
    for role in ROLES:
        for task in step_tasks(role):
            module = next((key for key in task if key.startswith("goldimage.osd.")), "")
            for option, value in (task.get(module) or {}).items():
                found = VARIABLE.fullmatch(str(value))
                if found:
                    yield role, module.removeprefix("goldimage.osd."), option, found[1], found[2] or ""


def shape(option: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same in both places; descriptions may differ, defaults are compared by themselves."""
    return {"type": option.get("type", "str"), "elements": option.get("elements"), "choices": option.get("choices")}


@pytest.mark.parametrize("role", ROLES)
def test_every_step_has_its_file_named_as_the_step(role: str) -> None:
    names = load(f"roles/{role}/vars/main.yml")[ROLES[role]]
    for name in names:
        (task,) = load(f"roles/{role}/tasks/{name.lower().replace(' ', '_')}.yml")
        assert task["name"] == name


@pytest.mark.parametrize("role", ROLES)
def test_a_group_that_nobody_changes_is_that_of_the_loop(role: str) -> None:
    names = load(f"roles/{role}/vars/main.yml")[ROLES[role]]
    assert [(task["name"], task["ansible.builtin.import_tasks"]) for task in load(f"roles/{role}/tasks/osd_group.yml")] == [
        (entry["name"], {"file": entry["file"]}) for entry in with_own_steps(names)
    ]


def test_the_two_groups_are_the_example_sequence() -> None:
    assert (*(name for role, key in ROLES.items() for name in load(f"roles/{role}/vars/main.yml")[key]),) == STEPS


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_specification(role: str) -> None:
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    assert said == load(f"roles/{role}/defaults/main.yml")


@pytest.mark.parametrize(("role", "module", "option", "variable", "key"), list(passed_options()))
def test_a_variable_is_what_the_module_says(role: str, module: str, option: str, variable: str, key: str) -> None:
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    said = options[variable]
    if key:
        said = said["options"][key]
    documented = module_options(module)[option]
    assert shape(said) == shape(documented)
    if "default" in documented:
        assert said.get("default") == documented["default"]


def test_what_has_keys_is_checked_by_the_module_that_describes_them() -> None:
    described = [
        (role, f"{variable}.{key}" if key else variable, module, option)
        for role, module, option, variable, key in passed_options()
        if module_options(module)[option].get("suboptions")
    ]
    assert len(described) > 10
    for role, name, module, option in described:
        checking, checked = PAGES["capture" if role.startswith("capture") else "build"][name]
        # Several steps take the boot image; one of them stands for all.
        assert load_argument_spec(checking)[checked]["options"] == load_argument_spec(module)[option]["options"]
    assert {name for dummy, name, *dummies in described} == {name for pages in PAGES.values() for name in pages}


def test_shared_variables_are_the_same_in_both_roles() -> None:
    build, capture = (load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"] for role in ROLES)
    for name in build.keys() & capture.keys():
        assert build[name] == capture[name]


def test_every_variable_that_the_plugins_read_is_documented() -> None:
    specs = (load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"] for role in ROLES)
    documented = {name for options in specs for name in options}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "plugins/plugin_utils").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'\.(?:get|mapping|minutes|of_other_hosts)\(\s*"(osd_\w+)"', text)}
    assert {"osd_run", "osd_capture", "osd_reconnect_time_limit"} <= read
    assert read - documented == set()
