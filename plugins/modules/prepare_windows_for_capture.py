#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: prepare_windows_for_capture
short_description: Generalize Windows with Sysprep and restart in Windows PE
description:
  - The task-sequence step B(Prepare Windows for Capture). It stages Windows PE as what starts next, runs Sysprep and restarts.
  - One job that runs as SYSTEM does it without the control node. It runs Sysprep, checks the state, sets the boot entries again, removes
    the run's account and restarts. If Sysprep refuses, everything is as before. If it stops half way, Windows PE stays what starts next.
  - The step ends when the same computer answers in Windows PE.
  - Windows PE is the default entry until the capture is done, so a power cut comes back to it. The window between the end of generalize
    and the new boot entries is the exception. A power cut there ends in a rebuild.
  - Fails on a member of a domain.
  - Runs in the full operating system and ends in Windows PE. A Windows that runs is to be generalized, so there is never nothing to do,
    but for a step that this run has finished. That one sends nothing beside the first request.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  keep_activation:
    description:
      - Whether Sysprep leaves the activation counter alone (C(SkipRearm)). The task-sequence variable is C(OSDKeepActivation).
    type: bool
    default: false
  boot_image:
    description:
      - The boot image that Windows starts next. C(boot.sdi) lies beside it.
    type: dict
    required: true
    suboptions:
      target:
        description:
          - Path of the WIM as the computer sees it.
        type: str
        required: true
      controller:
        description:
          - Path of the same file on the control node.
        type: path
      sha256:
        description:
          - SHA-256 of the file.
        type: str
      account:
        description:
          - The account that reads the share.
        type: dict
        suboptions:
          user:
            description:
              - User name, C(DOMAIN\user) or C(user).
            type: str
            required: true
          password:
            description:
              - Its password.
            type: str
            required: true
  time_limit:
    description:
      - Minutes until Windows PE has to answer. Sysprep takes 2 to 15 minutes, the restart some more.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Prepare Operating System
  goldimage.osd.prepare_windows_for_capture:
    boot_image: "{{ osd_boot_image }}"
"""

RETURN = r"""
image_state:
  description: The image state that Windows recorded.
  returned: changed
  type: str
  sample: IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE
OSDTargetSystemRoot:
  description: The Windows directory of the reference computer.
  returned: changed
  type: str
  sample: C:\Windows
"""
