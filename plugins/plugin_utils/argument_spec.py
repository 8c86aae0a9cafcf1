# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step module's documentation is its argument spec: one place, so that the two cannot differ."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import yaml

#: The C parser needs a tenth of the time; it is there wherever PyYAML has libyaml.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PACKAGE = __package__.rsplit(".", 1)[0] if __package__ else ""
#: What an argument spec takes over from an option's documentation.
_KEPT = ("type", "elements", "required", "default", "choices", "aliases")


@functools.cache
def load_argument_spec(module: str) -> Mapping[str, Any]:
    """Return the argument spec of a module of this collection, by its short name; documentation fragments are merged in."""
    documentation = yaml.load(importlib.import_module(f"{_PACKAGE}.modules.{module}").DOCUMENTATION, Loader=_LOADER)
    return argument_spec(documentation)


def argument_spec(documentation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument spec of a parsed documentation. The module's own options win over those of a fragment."""
    options: dict[str, Any] = {}
    for fragment in documentation.get("extends_documentation_fragment") or ():
        options.update(_fragment(fragment).get("options") or {})
    options.update(documentation.get("options") or {})
    return _options(options)


@functools.cache
def _fragment(name: str) -> Mapping[str, Any]:
    """Return a fragment: ``goldimage.osd.step`` is DOCUMENTATION, ``goldimage.osd.step.destructive`` DESTRUCTIVE, of step.py."""
    dummy, dummy, file, *part = name.split(".")
    fragments = importlib.import_module(f"{_PACKAGE}.doc_fragments.{file}").ModuleDocFragment
    parsed: Mapping[str, Any] = yaml.load(getattr(fragments, part[0].upper() if part else "DOCUMENTATION"), Loader=_LOADER)
    return parsed or {}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _option(option) for name, option in options.items()}


def _option(option: Mapping[str, Any]) -> dict[str, Any]:
    spec = {key: option[key] for key in _KEPT if key in option}
    if option.get("suboptions"):
        spec["options"] = _options(option["suboptions"])
    # Secrets are masked by the caller, by path: Ansible's no_log masks every text that looks like one.
    spec["no_log"] = False
    return spec
