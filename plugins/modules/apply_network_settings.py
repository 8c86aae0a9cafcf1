#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: apply_network_settings
short_description: Write workgroup or domain and the adapters' addresses into the answer file
description:
  - The task-sequence step B(Apply Network Settings). It writes C(\Windows\Panther\unattend.xml) on the volume that Windows was applied to.
    Windows Setup reads it at the first start, nothing changes at once.
  - A reference computer joins a workgroup. B(Prepare Windows for Capture) refuses a member of a domain.
  - Without O(network_adapters) every adapter gets its address by DHCP, or as a given answer file says.
  - Runs in Windows PE only.
  - Sends 5 requests when there is nothing to do, 2 in a run that partitioned the disk, one more with O(network_adapters), and
    5 more outside of a run, where the processor architecture is read from the SYSTEM hive.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  join_type:
    description:
      - What to join. The task-sequence variable is C(OSDNetworkJoinType), 0 for V(domain), 1 for V(workgroup).
    type: str
    choices: [workgroup, domain]
    required: true
  workgroup:
    description:
      - Name of the workgroup, 1 to 15 characters. The task-sequence variable is C(OSDWorkgroupName).
    type: str
  domain:
    description:
      - Name of the domain. The task-sequence variable is C(OSDDomainName).
    type: str
  domain_ou:
    description:
      - The organizational unit of the computer account, as C(LDAP://OU=x,DC=y,DC=z). The task-sequence variable is C(OSDDomainOUName).
    type: str
  account:
    description:
      - The account that joins the domain. The task-sequence variables are C(OSDJoinAccount) and C(OSDJoinPassword).
      - The answer file holds this password in plain text until Setup is done. B(Join Domain or Workgroup) does without.
    type: dict
    suboptions:
      user:
        description:
          - User name, C(DOMAIN\user).
        type: str
        required: true
      password:
        description:
          - Its password.
        type: str
        required: true
  network_adapters:
    description:
      - Settings of the adapters, in order. The task-sequence variables are C(OSDAdapterCount) and those that begin with C(OSDAdapter) and
        the number of the adapter, counted from 0.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - A name for this entry, for the reader only. The task-sequence variable is C(OSDAdapter0Name).
        type: str
      mac_address:
        description:
          - The adapter by its MAC address. The task-sequence variable is C(OSDAdapter0MacAddress).
          - Left out, the entry takes the next adapter in the order that Windows lists them.
        type: str
      enable_dhcp:
        description:
          - Whether the adapter gets its address by DHCP. The task-sequence variable is C(OSDAdapter0EnableDHCP).
        type: bool
        default: true
      ip_addresses:
        description:
          - Fixed addresses, used when O(network_adapters[].enable_dhcp=false). The task-sequence variables are
            C(OSDAdapter0IPAddressList) and C(OSDAdapter0SubnetMask).
        type: list
        elements: dict
        suboptions:
          ip_address:
            description:
              - The address.
            type: str
            required: true
          subnet_mask:
            description:
              - The mask, C(255.255.255.0), or the length of the prefix, C(24).
            type: str
            required: true
      gateways:
        description:
          - Default gateways, used when O(network_adapters[].enable_dhcp=false). The task-sequence variables are C(OSDAdapter0Gateways)
            and C(OSDAdapter0GatewayCostMetric).
        type: list
        elements: dict
        suboptions:
          gateway:
            description:
              - The gateway's address.
            type: str
            required: true
          metric:
            description:
              - Its metric.
            type: int
            default: 1
      dns_servers:
        description:
          - DNS servers, in order. The task-sequence variable is C(OSDAdapter0DNSServerList).
        type: list
        elements: str
      dns_domain:
        description:
          - DNS suffix of this connection. The task-sequence variable is C(OSDAdapter0DNSDomain).
        type: str
      enable_dns_registration:
        description:
          - Whether the adapter's addresses are registered in DNS. The task-sequence variable is C(OSDAdapter0EnableDNSRegistration).
        type: bool
      enable_full_dns_registration:
        description:
          - Whether they are registered under the connection's own suffix too. The task-sequence variable is
            C(OSDAdapter0EnableFullDNSRegistration).
        type: bool
      netbios:
        description:
          - NetBIOS over TCP/IP. The task-sequence variable is C(OSDAdapter0TcpipNetbiosOptions), 0 for V(dhcp), 1 for V(enable), 2 for
            V(disable).
        type: str
        choices: [dhcp, enable, disable]
      wins_servers:
        description:
          - WINS servers, in order. The task-sequence variables are C(OSDAdapter0EnableWINS) and C(OSDAdapter0WINSServerList).
        type: list
        elements: str
  dns_domain:
    description:
      - The computer's primary DNS suffix. The task-sequence variable is C(OSDDNSDomain).
    type: str
  dns_suffix_search_order:
    description:
      - DNS suffixes to search, in order. The task-sequence variable is C(OSDDNSSuffixSearchOrder).
    type: list
    elements: str
  enable_tcpip_filtering:
    description:
      - TCP/IP filtering of Windows XP and Server 2003. The task-sequence variable is C(OSDEnableTCPIPFiltering).
      - Newer Windows does not know it. The option is accepted and has no effect but a warning.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Apply Network Settings
  goldimage.osd.apply_network_settings:
    join_type: workgroup
    workgroup: WORKGROUP

- name: Apply Network Settings with a fixed address
  goldimage.osd.apply_network_settings:
    join_type: workgroup
    workgroup: WORKGROUP
    network_adapters:
      - mac_address: 52:54:00:12:34:56
        enable_dhcp: false
        ip_addresses:
          - ip_address: 192.0.2.10
            subnet_mask: 255.255.255.0
        gateways:
          - gateway: 192.0.2.1
        dns_servers:
          - 192.0.2.53
"""

RETURN = r"""
answer_file:
  description: Path of the answer file, as Windows PE sees it.
  returned: always except in check mode
  type: str
  sample: W:\Windows\Panther\unattend.xml
"""
