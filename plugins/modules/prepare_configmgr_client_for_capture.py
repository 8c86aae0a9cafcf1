#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: prepare_configmgr_client_for_capture
short_description: Remove the Configuration Manager client before a capture
description:
  - The task-sequence step B(Prepare ConfigMgr Client for Capture). It uninstalls the client and removes what is left of it, as folders,
    C(SMSCFG.INI), status files, its certificates and registry keys.
  - A computer without a client is left alone.
  - Fails where something remains, because a remaining client gives every computer made from the image the same identity.
  - Runs in the full operating system only.
  - Sends 6 requests when there is nothing to do.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  time_limit:
    description:
      - Minutes until the uninstallation is ended, and until Windows has to answer after a restart.
    type: int
    default: 60
  poll_interval:
    description:
      - Seconds between two looks at whether the client's setup still runs.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Prepare ConfigMgr Client
  goldimage.osd.prepare_configmgr_client_for_capture:
"""

RETURN = r"""
client:
  description: C(absent) when the step has succeeded.
  returned: success
  type: str
  sample: absent
removed:
  description: Folders, files and registry keys of the client that were there before.
  returned: success
  type: list
  elements: str
  sample: ['C:\Windows\CCM', 'HKLM\SOFTWARE\Microsoft\CCM']
"""
