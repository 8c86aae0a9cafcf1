# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module lab: works on the control node and opens no connection."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils.argument_spec import load_argument_spec
from ..plugin_utils.lab import client, prepare
from ..plugin_utils.lab.prepare import LabProblem
from ..plugin_utils.sequence.credentials import MINIMUM_SECRET, boot_image_purpose, derive_password
from ..plugin_utils.sequence.endpoints import plain

_GROUP = "reference_computers"


class ActionModule(ActionBase):
    """Starts or stops the lab's process."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what the task asks for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        dummy, validated = self.validate_argument_spec(load_argument_spec("lab"))
        options = plain(validated)
        directory = Path(options["directory"]).absolute()
        try:
            if options["state"] == "stopped":
                running = bool(client.status(directory))
                result["changed"] = running if self._task.check_mode else client.stop(directory)
            else:
                result.update(self._start(directory, options, variables))
        except (LabProblem, RuntimeError, OSError) as problem:
            raise AnsibleActionFail(f"The lab in {directory}: {problem}") from problem
        return result

    def _start(self, directory: Path, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        if shutil.which("wimlib-imagex") is None:
            raise LabProblem("wimlib-imagex is not installed on the control node: apt install wimtools.")
        if self._task.check_mode:
            return {"changed": not client.status(directory)}
        password = derive_password(self._secret(options, variables), boot_image_purpose(prepare.BOOT_IMAGE))
        made = prepare.prepare(directory, options, password)
        restart = made and bool(client.status(directory))
        if restart:
            client.stop(directory)
        started = client.start(directory)
        written = bool(options["inventory"]) and self._write_inventory(directory, options)
        return {"changed": made or started or written, "computers": client.status(directory).get("computers", {})}

    def _secret(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        """Return the project's secret: the option, this host's variable, or that of the computers' group."""
        found = options["secret"] or self._templar.template(variables.get("osd_secret"))
        if not found:
            hosts = (variables.get("groups") or {}).get(_GROUP) or []
            found = self._templar.template(f"{{{{ hostvars['{hosts[0]}'].osd_secret | default('') }}}}") if hosts else ""
        if not isinstance(found, str) or len(found) < MINIMUM_SECRET:
            raise LabProblem(
                f"osd_secret is not set, or shorter than {MINIMUM_SECRET} characters: the boot image's password is derived from it. "
                f"Set the option secret, or osd_secret for the group {_GROUP}."
            )
        return str(found)

    def _write_inventory(self, directory: Path, options: Mapping[str, Any]) -> bool:
        hosts = {}
        for index, wish in enumerate(options["computers"]):
            hosts[wish["name"]] = _host(directory, wish, prepare.addresses(options["network"], index))
        text = yaml.safe_dump({_GROUP: {"vars": {"ansible_connection": "winrm"}, "hosts": hosts}}, sort_keys=False)
        place = Path(options["inventory"])
        if place.exists() and place.read_text("utf-8") == f"---\n{text}":
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"---\n{text}", "utf-8")
        return True


def _host(directory: Path, wish: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    computer = directory / "computers" / str(wish["name"])
    host: dict[str, Any] = {
        "osd_machine": prepare.hardware.load(computer).uuid.lower(),
        "osd_winpe_connection": {
            "host": addresses["winpe"],
            "certificate": str(directory / "content" / "boot" / "certificate.pem"),
        },
        "osd_windows_connection": {"host": addresses["windows"]},
    }
    if wish.get("starting_state") == "existing_windows":
        existing = wish.get("existing") or {}
        https = existing.get("scheme") == "https"
        host |= {"ansible_host": addresses["windows"], "ansible_port": 5986 if https else 5985, "ansible_winrm_transport": "ntlm"}
        host["ansible_user"] = existing.get("user") or "Administrator"
        if https:
            # Self-signed, for another name than the address: core's plugin has no other way to take it.
            host |= {"ansible_winrm_scheme": "https", "ansible_winrm_server_cert_validation": "ignore"}
    return host
