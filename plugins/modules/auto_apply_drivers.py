#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: auto_apply_drivers
short_description: Add the drivers that match the computer's devices
description:
  - The task-sequence step B(Auto Apply Drivers). It reads the devices, ranks the drivers of the sources by Windows' own rules, and adds the
    chosen packages to the driver store of the applied Windows with DISM. Plug and play installs them at the first start.
  - The INF files of a source with O(sources[].controller) are read on the control node. Other sources are copied to the work folder on the
    Windows volume, and read there.
  - The result says for each device which driver was chosen and why.
  - The catalogue's signature is checked by DISM and Windows; a package counts as signed here when its catalogue lies beside it.
  - A reference computer that is a virtual machine needs no drivers of the computers that get the image; this step is for its own devices.
  - Runs in Windows PE only.
  - Sends 14 requests when there is nothing to do for one driver of one share, 3 less in a run that partitioned the disk, and one for
    each further driver that is in the store already.
    Outside of a run the version of Windows costs 2 more. A source without
    O(sources[].controller) costs up to four for each folder and one for each INF file in addition.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  sources:
    description:
      - The folders that hold driver packages.
    type: list
    elements: dict
    required: true
    suboptions:
      target:
        description:
          - The folder as the computer sees it, C(\\server\share\folder) or a local path.
        type: str
        required: true
      controller:
        description:
          - Path of the same folder on the control node, where it can be read there.
        type: path
      account:
        description:
          - The account that reads it.
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
      categories:
        description:
          - Categories of the drivers in this folder.
        type: list
        elements: str
        default: []
  best_match:
    description:
      - Whether only the best match of each device is added. Otherwise all compatible drivers are, and Windows chooses. The task-sequence
        variable is C(OSDAutoApplyDriverBestMatch).
    type: bool
    default: true
  categories:
    description:
      - Consider only drivers of these categories; one of them is enough. Left out, all count. The task-sequence variable is
        C(OSDAutoApplyDriverCategoryList).
    type: list
    elements: str
    default: []
  allow_unsigned:
    description:
      - Whether drivers without catalogue are considered as well. 64-bit Windows does not load an unsigned driver all the same. The
        task-sequence variable is C(OSDAllowUnsignedDriver).
    type: bool
    default: false
  select:
    description:
      - A JMESPath expression that keeps some of the devices, as C([?class == 'Net']). A device has C(device_id), C(name), C(class),
        C(manufacturer), C(hardware_ids), C(compatible_ids) and C(problem) (28 is 'no driver').
    type: str
  time_limit:
    description:
      - Minutes until the copy of one source, or the addition of one driver, is ended.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Apply Device Drivers
  goldimage.osd.auto_apply_drivers:
    sources:
      - target: \\deploy.example.com\drivers
        controller: /srv/deploy/drivers
        account:
          user: EXAMPLE\osd-read
          password: "{{ vault_osd_read_password }}"
"""

RETURN = r"""
added:
  description: The packages that were added.
  returned: success
  type: list
  elements: str
  sample: ['net\netkvm.inf (Red Hat, Inc., 2024-05-01, 100.95.104.26200)']
devices:
  description: For each device with a matching driver what was chosen, what ranks lower, and why.
  returned: success
  type: list
  elements: dict
  sample:
    - device: Ethernet Controller
      device_id: PCI\VEN_1AF4&DEV_1000\3&13C0B0C5&0&18
      chosen:
        - driver: net\netkvm.inf (Red Hat, Inc., 2024-05-01, 100.95.104.26200)
          why: "rank 0x0DFF0000, hardware id of the device = hardware id of the INF: PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4"
      others: []
      unsigned: []
without_driver:
  description: Devices that report 'no driver' and for which none was found.
  returned: success
  type: list
  elements: str
  sample: []
"""
