# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bootable_media: works on the control node and opens no connection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ..plugin_utils.control_node import ControlNodeAction
from ..plugin_utils.media import bootable_media
from ..plugin_utils.media.bootable_media import Request
from ..plugin_utils.windows.boot_image import BootImageError


class ActionModule(ControlNodeAction):
    """Makes an ISO or the image of a USB stick."""

    MODULE = "bootable_media"

    def work(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Make the medium where it is not there already."""
        request = Request(
            format=options["format"],
            boot_image=Path(options["boot_image"]).absolute(),
            media_files=Path(options["media_files"]).absolute(),
            destination=Path(options["destination"]).absolute(),
            firmware_files=Path(options["firmware_files"]).absolute() if options["firmware_files"] else None,
            label=options["label"],
            prompt=options["prompt"],
        )
        try:
            outcome = bootable_media.build(request, check_only=self._task.check_mode)
        except (BootImageError, RuntimeError, OSError) as problem:
            raise AnsibleActionFail(f"The medium {request.destination}: {problem}") from problem
        result: dict[str, Any] = {"changed": outcome.changed, "path": str(request.destination), "warnings": list(outcome.warnings)}
        if outcome.manifest:
            result["manifest"] = dict(outcome.manifest)
        return result
