# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module operating_system_image_info: reads on the control node and opens no connection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ..plugin_utils.control_node import ControlNodeAction
from ..plugin_utils.media import image_info
from ..plugin_utils.media.extents import DamagedMedium
from ..plugin_utils.windows.image import ImageError


class ActionModule(ControlNodeAction):
    """Reads a WIM."""

    MODULE = "operating_system_image_info"

    def work(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the file holds."""
        path = Path(options["path"]).absolute()
        try:
            return {"changed": False, **image_info.read(path, options["source_path"], checksum=options["checksum"])}
        except (ImageError, DamagedMedium, OSError) as problem:
            raise AnsibleActionFail(f"{path}: {getattr(problem, 'strerror', None) or problem}.") from problem
