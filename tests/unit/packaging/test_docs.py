# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation shows can be used as it stands: modules that exist, with options that they have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "goldimage.osd."
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


def documentation(module: str, name: str) -> Any:
    """Return one of the three documentation strings of a module."""
    text = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    found = re.search(rf'^{name} = r"""(.*?)"""', text, re.DOTALL | re.MULTILINE)
    assert found, f"{module} has no {name}"
    return yaml.safe_load(found[1])


def tasks(entries: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the tasks of plays, blocks and lists of tasks."""
    for entry in entries:
        for nested in ("tasks", "block", "rescue", "always"):
            yield from tasks(entry.get(nested) or [])
        if not {"tasks", "block"} & entry.keys():
            yield entry


def shown_tasks() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every task that the documentation or a role holds, with where it stands."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        for block in re.findall(r"```yaml\n(---\n.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            yield from ((path.name, task) for task in tasks(yaml.safe_load(block)))
    for module in MODULES:
        yield from ((f"EXAMPLES of {module}", task) for task in tasks(documentation(module, "EXAMPLES") or []))
    for path in sorted((*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml"))):
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield from ((str(path.relative_to(ROOT)), task) for task in tasks(entries))


SHOWN = [
    pytest.param(key.removeprefix(PREFIX), task[key] or {}, id=f"{where}: {task.get('name')}")
    for where, task in shown_tasks()
    for key in task
    if key.startswith(PREFIX)
]


@pytest.mark.parametrize(("module", "arguments"), SHOWN)
def test_shown_options_exist(module: str, arguments: Mapping[str, Any]) -> None:
    assert module in MODULES
    documented = documentation(module, "DOCUMENTATION")
    options = dict(documented.get("options") or {})
    if "goldimage.osd.step.destructive" in (documented.get("extends_documentation_fragment") or []):
        options["machine"] = {"type": "str"}
    assert set(arguments) <= set(options)
    missing = [name for name, option in options.items() if option.get("required") and name not in arguments]
    assert not missing


def test_every_step_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    on_the_control_node = {"bootable_media", "boot_image", "lab", "operating_system_image_info"}
    assert runtime["action_groups"]["osd"] == [name for name in MODULES if name not in on_the_control_node]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_action(module: str) -> None:
    assert (ROOT / f"plugins/action/{module}.py").exists()


def test_the_playbook_of_the_lab_takes_every_option_of_the_module() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/lab.yml").read_text(encoding="utf-8"))
    (task,) = play["tasks"]
    assert task["goldimage.osd.lab"].keys() == documentation("lab", "DOCUMENTATION")["options"].keys()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_and_make_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (page.parent / link).exists()]
    assert not missing
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
