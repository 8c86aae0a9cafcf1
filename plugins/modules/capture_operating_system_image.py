#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: capture_operating_system_image
short_description: Capture the reference computer's volumes into one WIM file
description:
  - The task-sequence step B(Capture Operating System Image). Each NTFS and FAT32 volume of the computer becomes one image of the file,
    Windows is image 1. USB volumes, empty volumes, other file systems and the partitions of Windows' own layout are left out and listed
    with the reason.
  - Before the capture it proves in the offline registry that Windows is generalized, and removes what opened the computer for the run.
  - The file is written beside its final name, read back and renamed. A file of that name stays until then, and is kept beside it.
  - Runs in Windows PE only. Outside of a run it captures each time, so there is never nothing to do. A step that this run has finished
    sends nothing beside the first request, and no request where the file at C(osd_capture.controller) has the recorded SHA-256.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  path:
    description:
      - The WIM file on a share, at most 255 characters. The task-sequence variable is C(OSDCaptureDestination).
    type: str
    required: true
  account:
    description:
      - The account that may write there. The task-sequence variables are C(OSDCaptureAccount) and C(OSDCaptureAccountPassword).
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
  controller:
    description:
      - Path of the same file on the control node, where it can be read there. With it a later run sees without the computer that the
        image is there.
    type: path
  image_name:
    description:
      - Name of the Windows image in the file. Names of the others are made from it and the volume's label.
    type: str
    required: true
  image_description:
    description:
      - Description of the image, at most 255 characters. The task-sequence variable is C(OSDImageDescription).
    type: str
    default: ""
  image_version:
    description:
      - Version of the image, at most 32 characters. The task-sequence variable is C(OSDImageVersion).
    type: str
    default: ""
  image_created_by:
    description:
      - Who made the image, at most 255 characters. The task-sequence variable is C(OSDImageCreator).
    type: str
    default: ""
  compression:
    description:
      - How DISM compresses. V(max) is smallest, V(fast) takes about half the time.
    type: str
    choices: [none, fast, max]
    default: max
  after_capture:
    description:
      - What the computer does afterwards. V(stay) leaves it in Windows PE.
    type: str
    choices: [shutdown, restart, stay]
    default: shutdown
  time_limit:
    description:
      - Minutes that DISM may take to capture one volume.
    type: int
    default: 720
"""

EXAMPLES = r"""
- name: Capture the Reference Machine
  goldimage.osd.capture_operating_system_image:
    path: \\deploy.example.com\captures\reference.wim
    account:
      user: EXAMPLE\osd-capture
      password: "{{ vault_osd_capture_password }}"
    image_name: Windows 11 reference
    image_version: "26.11"
    image_created_by: Desktop engineering
"""

RETURN = r"""
image:
  description: The file and its images.
  returned: success
  type: dict
  sample: {"path": "\\\\deploy\\captures\\reference.wim", "sha256": "9f86...", "images": [{"index": 1, "name": "Windows 11 reference", "volume": "C:"}]}
volumes:
  description: Every partition of the computer with its image, or the reason why it is left out.
  returned: success
  type: list
  elements: dict
  sample: [{"disk": 0, "partition": 1, "label": "System", "file_system": "FAT32", "image_index": null, "reason": "EFI system partition"}]
"""
