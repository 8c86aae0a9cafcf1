#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: setup_windows_and_configmgr
short_description: Start the applied Windows, finish Setup and install the client
description:
  - The task-sequence step B(Setup Windows and ConfigMgr). It opens the applied Windows for the run, restarts into it, waits until Windows Setup
    has finished and installs the Configuration Manager client.
  - Windows is opened offline and before its first start. Registry values let WinRM listen over http with sealed NTLM for the control node alone.
    All of it is removed, and proven gone, before the capture.
  - Where C(scheme) of C(osd_windows_connection) is C(https), WinRM listens over HTTPS alone. The certificate is made on the control node,
    which trusts that one and keeps no key of it. Setup imports it in its pass specialize, from a PFX file with a one-time password. The password
    stands on the command line of C(certutil) while that runs, and the PFX file is deleted right after; Windows has no other way.
  - With a C(certificate) in C(osd_windows_connection) nothing is made. The image then has a listener and a certificate of its own.
  - Begins in Windows PE and ends in the full operating system.
  - Always starts Windows, so there is never nothing to do.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  client:
    description:
      - The Configuration Manager client. Left out, none is installed.
    type: dict
    suboptions:
      source:
        description:
          - The folder with C(ccmsetup.exe). The task-sequence variable is C(_SMSClientPackageID).
        type: dict
        required: true
        suboptions:
          target:
            description:
              - The folder as the computer sees it.
            type: str
            required: true
          controller:
            description:
              - Path of the same folder on the control node.
            type: path
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
      switches:
        description:
          - Switches of C(ccmsetup.exe), as C(/mp:server).
        type: list
        elements: str
        default: []
      properties:
        description:
          - Installation properties, as C(SMSSITECODE). The task-sequence variable is C(SMSClientInstallProperties).
        type: dict
        default: {}
  time_limit:
    description:
      - Minutes until Windows Setup has to be finished.
    type: int
    default: 90
  poll_seconds:
    description:
      - Seconds between two questions whether Setup has finished. Two good answers in a row end the wait.
    type: float
    default: 10.0
  client_time_limit:
    description:
      - Minutes until the client has to be installed.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Setup Windows and ConfigMgr
  goldimage.osd.setup_windows_and_configmgr:
    client:
      source:
        target: \\server\sources\client
        account:
          user: CORP\osd-read
          password: "{{ vault_osd_read_password }}"
      properties:
        SMSMP: mp.corp.example.com
"""

RETURN = r"""
computer_name:
  description: The name of the Windows that answers.
  returned: success
  type: str
  sample: REFERENCE
client_version:
  description: The version of the client, empty where none was installed.
  returned: success
  type: str
  sample: 5.00.9122.1000
"""
