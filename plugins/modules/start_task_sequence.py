#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: start_task_sequence
short_description: Begin or go on with a run of a task sequence on one computer
description:
  - The first task of a sequence. It finds the computer, knows it by its hardware, checks that it is the one that is meant, has it read
    every declared source, rehearses the capture's destination, takes the lease and gives the read-only variables.
  - The tasks that follow in the play belong to the run. They find the computer wherever the run left it, and a finished one is not done again.
  - The run is named by the variable C(osd_run), or by C(osd_image_name) and C(osd_image_version).
  - A run whose image was captured is complete. Where the file at C(osd_capture.controller) has the SHA-256 that was recorded, nothing is sent
    and nothing changes. Otherwise another C(osd_run) is needed.
  - How the computer is reached is read from the variables of the host, not from options, since options may be shown. These are C(ansible_host)
    and the others of the C(winrm) connection plugin for the Windows found, C(osd_winpe_connection) for Windows PE,
    C(osd_windows_connection) for the Windows built, and C(osd_secret), from which passwords are derived.
  - Runs in Windows PE and in the full operating system. It never reports a change. It looks at the computer each time, so there is
    never nothing to do, but for a complete run.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  phases:
    description:
      - What the play is going to do. C(build) checks the content of the build, C(capture) the destination of the image.
      - The variables of the roles that are set must have the keys that the modules know. With C(build) those of the capture are
        looked at, too.
    type: list
    elements: str
    choices: [build, capture]
    default: [build, capture]
  check_content:
    description:
      - Whether every declared source is read before the first destructive step. It must be there, be readable with its own account, have
        the declared SHA-256 and the size of the copy at C(controller). The header of the operating system image must show the index, an
        architecture for this computer and a whole file, the boot image must hold Windows PE and have boot.sdi beside it. Then a small file
        is written and deleted where the image will go.
      - In Windows PE the computer reads it. From the full operating system the copies at C(controller) are read at once, and the computer
        reads its side as soon as it is in Windows PE, before the first destructive step.
      - Windows PE has no program for https. Such a source is asked for from the control node, with a warning where that cannot reach it.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Start the task sequence
  goldimage.osd.start_task_sequence:
    phases: [build]
  register: osd_task_sequence

- name: Only in Windows PE
  goldimage.osd.run_command_line:
    command_line: wpeutil.exe UpdateBootInfo
  when: osd_task_sequence.variables._SMSTSInWinPE
"""

RETURN = r"""
run:
  description: The run's name.
  returned: success
  type: str
  sample: reference-1.0
machine:
  description: The computer's UUID, or serial number or MAC address where the UUID is junk.
  returned: success
  type: str
  sample: 4c4c4544-0051-3610-8035-b4c04f4e3632
variables:
  description: The read-only variables of the task sequence, under their names.
  returned: success
  type: dict
  sample:
    _SMSTSInWinPE: true
    _SMSTSBootUEFI: true
image:
  description: The captured image, of a run that is complete.
  returned: when the run is complete
  type: dict
"""
