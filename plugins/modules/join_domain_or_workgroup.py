#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: join_domain_or_workgroup
short_description: Join a domain or a workgroup in the running Windows
description:
  - The task-sequence step B(Join Domain or Workgroup). It leaves the present domain where it has to, joins the domain or workgroup and
    restarts the computer.
  - Before a capture the computer has to be in a workgroup, because B(Prepare Windows for Capture) refuses a member of a domain.
  - A computer that is where it should be is left alone. An organizational unit counts at the moment of joining only.
  - Runs in the full operating system only.
  - Sends 2 requests when there is nothing to do.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  join_type:
    description:
      - What to join. The task-sequence variable is C(OSDJoinType), 0 for C(domain), 1 for C(workgroup).
    type: str
    choices: [domain, workgroup]
    required: true
  workgroup:
    description:
      - Name of the workgroup, 1 to 15 characters. The task-sequence variable is C(OSDJoinWorkgroupName).
    type: str
  domain:
    description:
      - DNS name of the domain. The task-sequence variable is C(OSDJoinDomainName).
      - A name without a dot is compared with the first label of the domain's DNS name.
    type: str
  domain_ou:
    description:
      - The organizational unit that gets the computer account, as C(LDAP://OU=x,DC=y,DC=z). The task-sequence variable is
        C(OSDJoinDomainOUName).
    type: str
  account:
    description:
      - The account that joins, and that leaves a domain. The task-sequence variables are C(OSDJoinAccount) and C(OSDJoinPassword).
      - Required to join a domain. Without it a domain is left without disabling the computer account in the directory.
    type: dict
    suboptions:
      user:
        description:
          - User name, C(DOMAIN\user) or C(user@domain).
        type: str
        required: true
      password:
        description:
          - Its password.
        type: str
        required: true
  skip_restart:
    description:
      - Whether to leave the restart to a later step. The task-sequence variable is C(OSDJoinSkipReboot).
    type: bool
    default: false
  time_limit:
    description:
      - Minutes until Windows has to answer after the restart.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Join Workgroup
  goldimage.osd.join_domain_or_workgroup:
    join_type: workgroup
    workgroup: WORKGROUP

- name: Join Domain for the build
  goldimage.osd.join_domain_or_workgroup:
    join_type: domain
    domain: corp.example.com
    domain_ou: LDAP://OU=Reference,DC=corp,DC=example,DC=com
    account:
      user: CORP\osd-join
      password: "{{ vault_osd_join_password }}"
"""

RETURN = r"""
membership:
  description: Where the computer belongs at the end of the step.
  returned: success
  type: str
  sample: workgroup WORKGROUP
restarted:
  description: Whether the step restarted the computer.
  returned: success
  type: bool
  sample: true
"""
