# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module of the same name."""

from __future__ import annotations

from ..plugin_utils.compiled import compiled

with compiled():
    from ..plugin_utils.action import StepAction
    from ..plugin_utils.steps.apply_operating_system_image import ApplyOperatingSystemImage


class ActionModule(StepAction):
    """Runs the step."""

    step = ApplyOperatingSystemImage
