# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module boot_image: works on the control node and opens no connection."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ..plugin_utils.control_node import ControlNodeAction
from ..plugin_utils.media import boot_image
from ..plugin_utils.media.boot_image import Archive, Request
from ..plugin_utils.sequence.credentials import boot_image_purpose, derive_password
from ..plugin_utils.windows.boot_image import BootImageError
from ..plugin_utils.windows.staged_network import Adapter


class ActionModule(ControlNodeAction):
    """Makes a boot image."""

    MODULE = "boot_image"

    def work(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Make the boot image where it is not there already."""
        try:
            request = _request(options, derive_password(self.secret(options, variables), boot_image_purpose(options["name"])))
            outcome = boot_image.build(request, check_only=self._task.check_mode)
        except (BootImageError, OSError) as problem:
            raise AnsibleActionFail(f"The boot image {options['name']} in {options['destination']}: {problem}") from problem
        result: dict[str, Any] = {"changed": outcome.changed, "path": str(request.destination / boot_image.IMAGE)}
        if outcome.manifest:
            result["manifest"] = dict(outcome.manifest)
        return result


def _request(options: Mapping[str, Any], password: str) -> Request:
    return Request(
        name=options["name"],
        source=_path(options["source"]),
        destination=_path(options["destination"]),
        password=password,
        python=_archive(options["python"]),
        comtypes=_archive(options["comtypes"]),
        source_path=options["source_path"],
        index=options["index"],
        certificate=_path(options["certificate"]) if options["certificate"] else None,
        key=_path(options["key"]) if options["key"] else None,
        certificate_name=options["certificate_name"],
        port=options["port"],
        network=tuple(_adapter(row) for row in options["network"]),
        drivers=tuple(_path(folder) for folder in options["drivers"]),
        driver_classes=tuple(options["driver_classes"]),
        scratch_space=options["scratch_space"],
        prestart_command_line=options["prestart_command_line"] or "",
        prestart_files=_path(options["prestart_files"]) if options["prestart_files"] else None,
        boot_sdi=_path(options["boot_sdi"]) if options["boot_sdi"] else None,
    )


def _path(value: str) -> Path:
    return Path(value).absolute()


def _archive(option: Mapping[str, str]) -> Archive:
    source = option["source"]
    return Archive(source if "://" in source else str(Path(source).expanduser().absolute()), option["sha256"].lower())


def _adapter(row: Mapping[str, Any]) -> Adapter:
    try:
        interface = ipaddress.IPv4Interface(row["address"])
        gateway = str(ipaddress.IPv4Address(row["gateway"])) if row["gateway"] else None
        dns = tuple(str(ipaddress.ip_address(server)) for server in row["dns"])
    except ValueError as error:
        raise BootImageError(f"network, {row['mac']}: {error}.") from None
    return Adapter(row["mac"].lower().replace("-", ":"), False, str(interface.ip), interface.network.prefixlen, gateway, dns)
