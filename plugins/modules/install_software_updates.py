#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: install_software_updates
short_description: Install update packages in the running Windows
description:
  - The task-sequence step B(Install Software Updates), by the packages of a folder. DISM installs them as SYSTEM, in the given order.
  - The computer restarts where a package or Windows asks for it. Then every package is looked at again, in at most O(retry_count) rounds.
  - A package that is installed or superseded is left alone. One that is not for this Windows is skipped with a warning.
  - The route through the Configuration Manager client is not there yet.
  - Runs in the full operating system only.
  - Sends 1 request for each update with an identity when there is nothing to do; one more where an update has none.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  source:
    description:
      - The folder that holds the packages.
    type: dict
    required: true
    suboptions:
      target:
        description:
          - The folder as the computer sees it, C(\\server\share\folder) or a local path.
        type: str
        required: true
      controller:
        description:
          - Path of the same content on the control node, where it can be read there.
        type: path
      sha256:
        description:
          - SHA-256 of the content, where it is one file. It is compared on the computer.
        type: str
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
  updates:
    description:
      - The packages in the order of installation. Servicing stack updates come first, then cumulative updates, then .NET.
    type: list
    elements: dict
    required: true
    suboptions:
      file:
        description:
          - File below O(source), C(.cab) or C(.msu).
        type: str
        required: true
      identity:
        description:
          - The package's name in the component store, as C(dism /Get-Packages) shows it. Cumulative updates need it, since their name
            (C(Package_for_RollupFix)) has no KB number. Left out, the KB number in the file's name is looked for.
        type: str
      sha256:
        description:
          - SHA-256 of the file. It is compared on the computer before the installation.
        type: str
  retry_count:
    description:
      - How many rounds of installation and restart at most, 1 to 5. The editor's field is 'Retry if computer unexpectedly restarts'.
    type: int
    default: 2
  time_limit:
    description:
      - Minutes until the installation of one package is ended.
    type: int
    default: 240
  restart_time_limit:
    description:
      - Minutes until Windows has to answer after a restart and to finish its servicing. Large updates keep it busy for half an hour.
    type: int
    default: 90
  poll_interval:
    description:
      - Seconds between two looks at whether Windows is still servicing itself.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Install Updates
  goldimage.osd.install_software_updates:
    source:
      target: \\deploy.example.com\updates
      account:
        user: EXAMPLE\osd-read
        password: "{{ vault_osd_read_password }}"
    updates:
      - file: windows11.0-kb5000001-x64.cab
        identity: Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0
"""

RETURN = r"""
updates:
  description: The state of each package.
  returned: success
  type: list
  elements: dict
  sample:
    - file: windows11.0-kb5000001-x64.cab
      state: installed
restarts:
  description: How often the step restarted the computer.
  returned: success
  type: int
  sample: 1
"""
