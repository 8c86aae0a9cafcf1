#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: task_sequence_facts
short_description: Return the read-only variables of the task sequence
description:
  - Returns variables as C(_SMSTSInWinPE) and C(_SMSTSBootUEFI) under their names, booleans as booleans, from the live state of the computer.
  - They are returned for C(register) and never become facts of the host.
  - Runs in Windows PE and in the full operating system.
  - Sends no request beside the first one for C(environment), 2 for C(firmware), 2 (and 3 outside of a run) for C(machine), 1 for C(network)
    and 1 for C(windows).
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  subset:
    description:
      - The groups of variables to return. C(environment) is always there.
    type: list
    elements: str
    choices: [environment, firmware, machine, network, windows]
    default: [environment, firmware, machine, network, windows]
"""

EXAMPLES = r"""
- name: Where is the computer
  goldimage.osd.task_sequence_facts:
    subset: [environment]
  register: facts
"""

RETURN = r"""
variables:
  description: The variables.
  returned: success
  type: dict
  sample:
    _SMSTSInWinPE: false
    _SMSTSMake: Dell Inc.
"""
