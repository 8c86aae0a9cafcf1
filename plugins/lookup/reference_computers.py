# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup that names the hosts of a play, and refuses to name none or all of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: reference_computers
short_description: The hosts that a playbook of this collection targets
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
description:
  - Returns the pattern of the variable C(osd_target), or the group C(reference_computers).
  - A pattern that matches no host is an error, where Ansible itself would end with success. So is C(all).
options:
  _terms:
    description: Nothing.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Build a reference computer
  hosts: "{{ lookup('goldimage.osd.reference_computers') }}"
  gather_facts: false
  roles:
    - goldimage.osd.build_reference_computer
"""

RETURN = r"""
_raw:
  description: The host pattern.
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore]
    """Returns the host pattern of the play."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the pattern. Raises AnsibleLookupError where it is ``all`` or matches no host."""
        variables = variables or {}
        target = str(self._templar.template(variables.get("osd_target") or "reference_computers"))
        if target in ("all", "*"):
            raise AnsibleLookupError(f"osd_target is '{target}': these playbooks wipe disks, so name the computers or their group.")
        if context.CLIARGS.get("syntax"):
            # A syntax check, ansible-lint's too, has no inventory.
            return [target]
        hosts = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        limit = variables.get("ansible_limit")
        if not hosts.run([target], variables=variables):
            raise AnsibleLookupError(
                f"No host of the inventory matches '{target}'. Put the reference computers into the group "
                "reference_computers, or name them with -e osd_target=..."
            )
        if limit and not limit.startswith("@") and not hosts.run([f"{target}:&{limit}"], variables=variables):
            raise AnsibleLookupError(f"--limit {limit} leaves no host of '{target}'.")
        return [target]
