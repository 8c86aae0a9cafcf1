# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run calls its own on a computer. Everything named here is gone from the captured image."""

from __future__ import annotations

#: Folder in the root of the Windows volume (and of X: in Windows PE). Excluded from capture, deleted before it.
WORK_FOLDER = "_osd"
STATE_FILE = rf"{WORK_FOLDER}\state.json"
JOBS_FOLDER = rf"{WORK_FOLDER}\jobs"
LOGS_FOLDER = rf"{WORK_FOLDER}\logs"
#: The black box of Windows PE, written by the agent.
RECORDER = rf"X:\{WORK_FOLDER}\recorder.log"
STAGED_BOOT_IMAGE = rf"{WORK_FOLDER}\pe\boot.wim"
STAGED_BOOT_SDI = rf"{WORK_FOLDER}\pe\boot.sdi"
#: Adapter settings by MAC, beside the staged boot image; the agent reads it from the volume it was started from.
STAGED_NETWORK_SETTINGS = rf"{WORK_FOLDER}\pe\network.json"

#: Fixed, product-wide object identifiers in the boot configuration data, so that a rerun finds its own entries.
BOOT_LOADER_ENTRY = "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0001}"
RAMDISK_OPTIONS_ENTRY = "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0002}"

#: The run's own local administrator in the Windows that is built.
RUN_ACCOUNT = "osd-run"
FIREWALL_RULE = "{8f1b4a52-6c2e-4a57-9b0d-60d1e04d0003}"
FIREWALL_RULE_NAME = "osd-winrm"
SCHEDULED_TASK_FOLDER = "\\OSD\\"
#: The agent's user name; its password is derived from the project's secret and the boot image.
AGENT_USER = "osd"
#: Folder of the agent in a boot image (as X:\osd when it runs).
AGENT_FOLDER = "osd"
