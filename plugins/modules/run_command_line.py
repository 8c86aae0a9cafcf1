#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: run_command_line
short_description: Run a command line as SYSTEM
description:
  - The task-sequence step B(Run Command Line). The command runs detached as SYSTEM, with its output shown in the log, and is judged by its exit
    code.
  - Runs in Windows PE and in the full operating system.
  - Sends 1 request when there is nothing to do, because the file of O(creates) is there.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  command_line:
    description:
      - The command line, 1 to 32000 characters. It is taken apart as Windows does it and no shell is involved.
      - It is shown in results and logs. Secrets belong into O(secret_environment).
    type: str
  argv:
    description:
      - The program and its arguments, as a list, instead of O(command_line).
    type: list
    elements: str
  shell:
    description:
      - Whether O(command_line) is a script for C(cmd.exe), for built-in commands, pipes and redirection. It is put into a file as it is.
    type: bool
    default: false
  start_in:
    description:
      - The folder to start in. The task-sequence variable is C(WorkingDirectory).
    type: str
  time_out:
    description:
      - Minutes after which the command is ended and the step fails, 1 to 999.
    type: int
    default: 15
  success_codes:
    description:
      - The exit codes that mean success.
    type: list
    elements: int
    default: [0, 3010]
  restart:
    description:
      - Whether the exit code 3010 restarts the computer, back into the same environment, before the next step.
    type: bool
    default: true
  time_limit:
    description:
      - Minutes until the computer has to answer after that restart.
    type: int
    default: 60
  creates:
    description:
      - A file that the command makes. Where it is there already, nothing is run. Where it is not there afterwards, the step fails.
    type: str
  environment:
    description:
      - Environment variables for the command.
    type: dict
    default: {}
  secret_environment:
    description:
      - Environment variables whose values are shown nowhere.
    type: dict
"""

EXAMPLES = r"""
- name: Switch hibernation off
  goldimage.osd.run_command_line:
    command_line: powercfg.exe /hibernate off

- name: With a shell
  goldimage.osd.run_command_line:
    command_line: dir C:\ > C:\list.txt
    shell: true
    creates: C:\list.txt
"""

RETURN = r"""
rc:
  description: The exit code.
  returned: where the command was run
  type: int
  sample: 0
output:
  description: The last 1000 characters of the output.
  returned: success
  type: str
  sample: The operation completed successfully.
restarted:
  description: Whether the computer was restarted.
  returned: success
  type: bool
"""
