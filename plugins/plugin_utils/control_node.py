# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of the control node have in common: no connection, no delegation, the project's secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from .argument_spec import load_argument_spec
from .sequence.credentials import MINIMUM_SECRET

#: The group whose variables count for a play on localhost.
GROUP = "reference_computers"
_HERE = (None, "localhost", "127.0.0.1", "::1")


class ControlNodeAction(ActionBase):
    """Base of the actions that work on the control node, whatever host the task has. ``MODULE`` names the module."""

    MODULE = ""
    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Validate the options and do what the task asks for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.delegate_to not in _HERE:
            raise AnsibleActionFail(
                f"{self.MODULE} works on the control node; delegate_to: {self._task.delegate_to} would do nothing there. Leave it out."
            )
        dummy, options = self.validate_argument_spec(load_argument_spec(self.MODULE))
        result.update(self.work(options, task_vars or {}))
        return result

    def work(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of the task."""
        raise NotImplementedError

    def secret(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        """Return the project's secret: the option, this host's variable, or that of the group of computers."""
        found = options["secret"] or self._templar.template(variables.get("osd_secret"))
        if not found:
            hosts = (variables.get("groups") or {}).get(GROUP) or []
            found = self._templar.template(f"{{{{ hostvars['{hosts[0]}'].osd_secret | default('') }}}}") if hosts else ""
        if not isinstance(found, str) or len(found) < MINIMUM_SECRET:
            raise AnsibleActionFail(
                f"osd_secret is not set, or shorter than {MINIMUM_SECRET} characters: the boot image's password is derived from it. "
                f"Set the option secret, or osd_secret for the group {GROUP}."
            )
        return str(found)
