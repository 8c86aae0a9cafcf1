#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: restart_computer
short_description: Restart the computer in Windows PE or in the installed Windows
description:
  - The task-sequence step B(Restart Computer). It ends when the same computer answers on the other side, since another start.
  - From the full operating system to Windows PE it puts the boot image on the disk, makes a boot entry for the next start only, and reads that
    back before it restarts anything.
  - A computer that runs Windows PE already and is to run it is left alone (condition C(_SMSTSInWinPE) equals C(false)).
  - Runs in Windows PE and in the full operating system.
  - Sends no request beside the first one when there is nothing to do.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  target:
    description:
      - What to run after the restart.
    type: str
    choices: [windows_pe, installed_os]
    required: true
  boot_image:
    description:
      - The boot image, required to come from the full operating system to Windows PE.
      - The file C(boot.sdi) lies beside it.
    type: dict
    suboptions:
      target:
        description:
          - Path of the WIM as the computer sees it, a share or a web address.
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
      - Minutes until the computer has to answer.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Restart in Windows PE
  goldimage.osd.restart_computer:
    target: windows_pe
    boot_image:
      target: \\server\share\boot.wim
      account:
        user: CORP\osd-read
        password: "{{ vault_osd_read_password }}"
"""

RETURN = r"""
restarted:
  description: Whether the computer was restarted.
  returned: success
  type: bool
"""
