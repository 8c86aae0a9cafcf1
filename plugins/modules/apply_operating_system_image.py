#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: apply_operating_system_image
short_description: Apply an operating system image in Windows PE
description:
  - The task-sequence step B(Apply Operating System Image). It empties the target volume, extracts one image of a WIM file to it, writes
    the boot files and registers the recovery tools.
  - Everything on the target volume is deleted except the run's own work folder. Where there is no system partition, the boot files stay
    until they are written anew.
  - Nothing changes where this very image lies on the volume and its Windows was never started.
  - Refuses removable and read-only disks, volumes without NTFS, split files, and images that hold no Windows or hold Windows PE.
  - Runs in Windows PE only. Sends 13 requests when there is nothing to do on a disk with the default partitions, with the image
    on one share.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
  - goldimage.osd.step.destructive
options:
  image:
    description:
      - The WIM file.
    type: dict
    required: true
    suboptions:
      target:
        description:
          - Path of the file as the computer sees it, usually C(\\server\share\file.wim).
        type: str
        required: true
      controller:
        description:
          - Path of the same file on the control node, where it can be read there.
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
  image_index:
    description:
      - Which image of the file, counted from 1. The task-sequence variable is C(OSDImageIndex).
    type: int
    default: 1
  destination_drive:
    description:
      - The drive letter to apply to, as Windows PE sees it. Left out, it is the partition that Format and Partition Disk made for Windows,
        or the one formatted partition.
    type: str
  check_integrity:
    description:
      - Whether DISM checks the file's integrity table while it applies. The file must have been made with one.
    type: bool
    default: false
  time_limit:
    description:
      - Minutes that DISM may take to apply the image; a slow share and a large one fit into the default.
    type: int
    default: 360
"""

EXAMPLES = r"""
- name: Apply Operating System
  goldimage.osd.apply_operating_system_image:
    image:
      target: \\deploy.example.com\images\install.wim
      account:
        user: EXAMPLE\osd-read
        password: "{{ vault_osd_read_password }}"
    image_index: 6
"""

RETURN = r"""
OSDTargetSystemDrive:
  description: The drive that holds the operating system, as Windows PE sees it.
  returned: changed
  type: str
  sample: "W:"
image:
  description: What was applied.
  returned: changed
  type: dict
  sample: {"image": "\\\\deploy\\images\\install.wim", "index": 6, "name": "Windows 11 Pro", "edition": "Professional"}
"""
