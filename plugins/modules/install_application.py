#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: install_application
short_description: Install an ordered list of applications in the running Windows
description:
  - The task-sequence step B(Install Application). Each installer runs as SYSTEM, detached, in the folder of its content, one after the
    other.
  - An application whose detection rules hold is not installed. After an installer the rules are evaluated again; an application that
    is not detected then has failed, whatever its exit code.
  - An exit code of O(applications[].restart_codes) restarts the computer before the next application.
  - Installers have to be silent and must not restart the computer by themselves. No window is ever seen in this session.
  - Content on a share is copied to the computer first, in one job that connects with the account, copies and disconnects. net.exe takes
    the password on its command line; it exists there, on the computer alone, while it connects.
  - Runs in the full operating system only.
  - Sends 1 request for each detection rule when there is nothing to do (2 for a 32-bit product or a registry value compared with a value).
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  applications:
    description:
      - The applications in the order of installation.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the application, unique in the list.
        type: str
        required: true
      source:
        description:
          - The content, a folder or one file. Left out, O(applications[].install) names programs that are on the computer.
        type: dict
        suboptions:
          target:
            description:
              - Folder or file as the computer sees it, C(\\server\share\folder), C(https://server/file.msi) or a local path.
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
      install:
        description:
          - The installation program and its arguments as a list. A name without folder is looked for in the content first.
          - Every entry is one argument and is quoted where needed; of C(msiexec)'s C(PROPERTY=value) only the value, with quotation marks
            in it doubled, as Windows Installer wants it.
        type: list
        elements: str
        required: true
      detection:
        description:
          - What tells that the application is installed. All entries must hold. Without any it is installed each time.
        type: list
        elements: dict
        suboptions:
          type:
            description:
              - What to look at.
            type: str
            choices: [msi, registry, file, service]
            required: true
          product_code:
            description:
              - Windows Installer product code, with O(applications[].detection[].type=msi).
            type: str
          path:
            description:
              - Path of a file, with O(applications[].detection[].type=file).
            type: str
          version:
            description:
              - The version of the product or the file. Left out, existence counts.
            type: str
          key:
            description:
              - Registry key below C(HKLM), with O(applications[].detection[].type=registry).
            type: str
          value_name:
            description:
              - Name of the registry value. Left out, the key's existence counts.
            type: str
          value:
            description:
              - What the registry value must be. Left out, the value's existence counts.
            type: str
          service:
            description:
              - Name of a service, with O(applications[].detection[].type=service).
            type: str
          operator:
            description:
              - How version and value are compared.
            type: str
            choices: [at_least, equals]
            default: at_least
      success_codes:
        description:
          - Exit codes that mean success.
        type: list
        elements: int
        default: [0]
      restart_codes:
        description:
          - Exit codes that mean success and a restart. 1641 says that the installer has started it itself; the step then waits for it.
        type: list
        elements: int
        default: [3010, 1641]
      maximum_run_time:
        description:
          - Minutes until the installer and everything it started is ended.
        type: int
        default: 120
      retries:
        description:
          - How often to try again while another installation is in progress (exit code 1618). The task-sequence variable is
            C(OSDAppInstallRetries).
        type: int
        default: 3
      continue_on_error:
        description:
          - Whether the next application is installed when this one fails. Left out, O(continue_on_error) counts.
        type: bool
  continue_on_error:
    description:
      - Continue when one application fails.
    type: bool
    default: false
  retry_delay:
    description:
      - Seconds between two tries. The task-sequence variable is C(OSDAppInstallRetryTimeout), in milliseconds.
    type: int
    default: 30
  restart_time_limit:
    description:
      - Minutes until Windows has to answer after a restart.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Install Applications
  goldimage.osd.install_application:
    applications:
      - name: 7-Zip
        source:
          target: \\deploy.example.com\apps\7zip
          account:
            user: EXAMPLE\osd-read
            password: "{{ vault_osd_read_password }}"
        install: [msiexec, /i, 7zip.msi, /qn, /norestart]
        detection:
          - type: msi
            product_code: "{23170F69-40C1-2702-2301-000001000000}"
            version: "23.01"
"""

RETURN = r"""
applications:
  description: What became of each application.
  returned: success
  type: list
  elements: dict
  sample:
    - name: 7-Zip
      outcome: installed
      code: 0
      meaning: success
      restarted: false
      seconds: 12.4
      log: ""
_TSAppInstallStatus:
  description: The task-sequence variable of this name, C(Success), C(Error) or C(Undefined).
  returned: success
  type: str
  sample: Success
"""
