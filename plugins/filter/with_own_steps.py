# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that puts a user's own steps between those of a group."""

from __future__ import annotations

DOCUMENTATION = r"""
name: with_own_steps
short_description: Put a user's own steps between the steps of a group
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
description:
  - The roles loop over the result with one C(include_tasks) where somebody has changed the group.
  - A name that is no step of the example sequence is an error.
positional: _input
options:
  _input:
    description: The names of the group's steps, in their order.
    type: list
    elements: str
    required: true
  before:
    description: Step name and the tasks file that runs before it, seen from the directory where Ansible was started.
    type: dict
    default: {}
  after:
    description: Step name and the tasks file that runs after it, seen from the directory where Ansible was started.
    type: dict
    default: {}
  disabled:
    description:
      - The steps that are skipped, as with the editor's B(Disable this step).
      - What runs before and after them stays.
    type: list
    elements: str
    default: []
  pause_before:
    description: The steps before which the play waits for a key.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: The steps of my own group
  ansible.builtin.include_tasks:
    file: "{{ entry.file }}"
  loop: "{{ ['Apply Device Drivers'] | goldimage.osd.with_own_steps(before={'Apply Device Drivers': 'firmware.yml'}) }}"
  loop_control:
    loop_var: entry
    label: "{{ entry.name }}"
"""

RETURN = r"""
_value:
  description:
    - What to include, in order.
    - The file of a disabled step is the role's C(disabled.yml); its own is then C(disabled).
  type: list
  elements: dict
  sample: [{"name": "Apply Device Drivers", "file": "apply_device_drivers.yml"}]
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

#: The example sequence: the thirteen steps of both groups. Both roles share the variables, so each must know the names
#: of the other to tell a misspelt one.
STEPS = (
    "Restart in Windows PE",
    "Partition Disk 0",
    "Apply Operating System",
    "Apply Windows Settings",
    "Apply Network Settings",
    "Apply Device Drivers",
    "Setup Windows and ConfigMgr",
    "Install Updates",
    "Install Applications",
    "Join Workgroup",
    "Prepare ConfigMgr Client",
    "Prepare Operating System",
    "Capture the Reference Machine",
)

#: Seen from the tasks folder of either role.
PAUSE = "../../build_reference_computer/tasks/pause.yml"
#: A condition costs every task it is applied to 4 ms: only what is disabled has one.
DISABLED = "../../build_reference_computer/tasks/disabled.yml"


def with_own_steps(
    steps: Sequence[str],
    before: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
    disabled: Sequence[str] = (),
    pause_before: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Return the task files of a group in order, each as ``{name, file}``, a disabled step's own file as ``disabled``.

    Raises AnsibleFilterError for a name that is no step.
    """
    before, after = before or {}, after or {}
    for variable, names in (
        ("osd_steps_before", before),
        ("osd_steps_after", after),
        ("osd_steps_disabled", disabled),
        ("osd_pause_before", pause_before),
    ):
        for name in names:
            if name not in STEPS:
                raise AnsibleFilterError(f"{variable}: there is no step '{name}'. The steps are: {', '.join(STEPS)}.")
    entries: list[dict[str, str]] = []
    for step in steps:
        if step in before:
            entries.append({"name": f"before {step}", "file": os.path.abspath(before[step])})
        if step in pause_before:
            entries.append({"name": step, "file": PAUSE})
        file = f"{step.lower().replace(' ', '_')}.yml"
        entries.append({"name": step, "file": DISABLED, "disabled": file} if step in disabled else {"name": step, "file": file})
        if step in after:
            entries.append({"name": f"after {step}", "file": os.path.abspath(after[step])})
    return entries


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"with_own_steps": with_own_steps}
