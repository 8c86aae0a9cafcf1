# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What every step has in common.
    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Says what it would do and changes nothing.
    support: full
  diff_mode:
    description: Shows the state before and after.
    support: full
  async:
    description: Long work is a detached job already; C(async) is refused.
    support: none
  platform:
    description: The computer it works on.
    platforms: windows
    support: full
  action_group:
    description: Use C(group/goldimage.osd.osd) in C(module_defaults) for all steps.
    support: full
    membership:
      - goldimage.osd.osd
notes:
  - Every step sends one request first, which tells where the computer is, and fails there where it may not run.
  - Inside a run (see M(goldimage.osd.start_task_sequence)) a finished step with the same options is not done again.
  - The step reaches the computer through Ansible's C(winrm) connection plugin; other connection plugins are refused.
"""

    # Steps after which something is lost.
    DESTRUCTIVE = r"""
options:
  machine:
    description:
      - The computer that may lose its data, by its SMBIOS UUID, its serial number or a MAC address.
      - Required outside of a run. Inside one, the host variable C(osd_machine) counts where this is left out; without both, only a computer
        whose disks are empty is touched.
    type: str
"""
