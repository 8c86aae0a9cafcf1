# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the roles whose keys a module describes, held against that module before the run's first step.

The roles' own argument specs say only what such a variable is. A misspelt key of the last application is found here, not after hours.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError

from .argument_spec import load_argument_spec
from .sequence.endpoints import Variables

#: By phase: the variable, or one key of it, and the module and option that describe it.
PAGES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "build": {
        "osd_boot_image": ("format_and_partition_disk", "boot_image"),
        "osd_partitions": ("format_and_partition_disk", "partitions"),
        "osd_image": ("apply_operating_system_image", "image"),
        "osd_network.account": ("apply_network_settings", "account"),
        "osd_network.adapters": ("apply_network_settings", "network_adapters"),
        "osd_drivers": ("auto_apply_drivers", "sources"),
        "osd_client": ("setup_windows_and_configmgr", "client"),
        "osd_updates.source": ("install_software_updates", "source"),
        "osd_updates.packages": ("install_software_updates", "updates"),
        "osd_applications": ("install_application", "applications"),
    },
    "capture": {
        "osd_boot_image": ("prepare_windows_for_capture", "boot_image"),
        "osd_capture.account": ("capture_operating_system_image", "account"),
        "osd_capture_leave_account": ("join_domain_or_workgroup", "account"),
    },
}


@functools.cache
def page_specs() -> Mapping[str, Any]:
    """Return the argument spec of each variable, read once in the parent process: forks inherit it."""
    return {name: load_argument_spec(module)[option] for name, (module, option) in _pages(PAGES).items()}


def page_problems(variables: Variables, phases: Sequence[str]) -> list[str]:
    """Return what is wrong with the variables that are set, in Ansible's words and with the module that describes them.

    Who builds is going to capture: what is set for that is looked at, too.
    """
    pages = _pages(phases)
    given = {name: value for name in pages if (value := _value(variables, name)) is not None}
    problems = {name: _problem(name, value) for name, value in given.items()}
    return [f"{text.rstrip('.')} (see ansible-doc goldimage.osd.{pages[name][0]})" for name, text in problems.items() if text]


def _pages(phases: Collection[str]) -> Mapping[str, tuple[str, str]]:
    return {**PAGES["capture"], **PAGES["build"]} if "build" in phases else PAGES["capture"]


def _problem(name: str, value: Any) -> str:
    errors = ArgumentSpecValidator({name: page_specs()[name]}).validate({name: value}).errors.errors
    if not errors:
        return ""
    return f"Unsupported parameters: {errors[0]}" if isinstance(errors[0], UnsupportedError) else f"{name}: {errors[0]}"


def _value(variables: Variables, name: str) -> Any:
    variable, dummy, key = name.partition(".")
    return variables.mapping(variable).get(key) if key else variables.get(variable)
