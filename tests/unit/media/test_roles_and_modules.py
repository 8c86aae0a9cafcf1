# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles boot_image and bootable_media say the modules' options a second time: the same names, types and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.argument_spec import load_argument_spec

ROOT = Path(__file__).resolve().parents[3]
#: The module's option that the role takes from the project's variable.
SECRET = {"boot_image": "secret"}


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: spec[key] for key in ("type", "elements", "required", "default", "choices") if key in spec}
    return kept | ({"options": {name: plain(option) for name, option in spec["options"].items()}} if "options" in spec else {})


@pytest.mark.parametrize("role", ["boot_image", "bootable_media"])
def test_options_are_the_modules(role: str) -> None:
    module = load_argument_spec(role)
    module.pop(SECRET.get(role, ""), None)
    prefix = f"osd_{role}_"
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: plain(option) for name, option in options.items() if name != "osd_secret"} == {
        prefix + name: plain(option) for name, option in module.items()
    }
    assert load(f"roles/{role}/defaults/main.yml") == {prefix + n: option["default"] for n, option in module.items() if "default" in option}


@pytest.mark.parametrize("role", ["boot_image", "bootable_media"])
def test_every_option_reaches_the_module(role: str) -> None:
    (task,) = load(f"roles/{role}/tasks/main.yml")
    given = task[f"goldimage.osd.{role}"]
    for name, option in load_argument_spec(role).items():
        variable = "osd_secret" if name == SECRET.get(role) else f"osd_{role}_{name}"
        always = option.get("required") or "default" in option or variable == "osd_secret"
        assert given[name] == f"{{{{ {variable}{'' if always else ' | default(omit)'} }}}}"
