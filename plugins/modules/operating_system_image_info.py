#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: operating_system_image_info
short_description: Return what a WIM file or an ISO holds
description:
  - Reads header and description of a WIM, ESD or first part of a split WIM on the control node, or of one in an ISO. Nothing is unpacked.
  - The result of each image has the index that M(goldimage.osd.apply_operating_system_image) takes.
  - Works on the control node whatever the host, and opens no connection.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
attributes:
  check_mode:
    description: Reads and changes nothing.
    support: full
options:
  path:
    description:
      - The file on the control node.
    type: path
    required: true
  source_path:
    description:
      - The WIM's place where O(path) is an ISO.
    type: str
    default: sources/install.wim
  checksum:
    description:
      - Also return the SHA-256 of the WIM, which reads the whole file.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Editions of a Windows ISO
  goldimage.osd.operating_system_image_info:
    path: /srv/iso/windows11.iso
  register: windows
"""

RETURN = r"""
images:
  description: The images, in the order of their index.
  returned: success
  type: list
  elements: dict
  sample:
    - index: 1
      name: Windows 11 Enterprise
      architecture: x64
      edition: Enterprise
      version: 10.0.26100.1742
      languages: [en-US]
compression:
  description: C(none), C(XPRESS), C(LZX) or C(LZMS).
  returned: success
  type: str
boot_index:
  description: The image that starts; 0 in a WIM that is no boot image.
  returned: success
  type: int
size:
  description: Size of the WIM in bytes.
  returned: success
  type: int
sha256:
  description: SHA-256 of the WIM.
  returned: when O(checksum) is true
  type: str
"""
