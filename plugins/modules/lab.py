#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: lab
short_description: Start or stop a lab of simulated computers
description:
  - Simulated computers on the control node, each with addresses of its own in 127.0.0.0/8, on which a task sequence runs as on real ones.
  - A computer is a folder. Stopping the lab is pulling every plug; starting it goes on from what is in the folders.
  - Makes the content that is missing, below C(content) of the directory, a boot image, install.wim with two editions, a driver, an
    update, two applications and the client's setup. It is the share C(\\deploy.lab.test\osd).
  - Needs Debian's C(wimtools), and the Python packages C(cryptography) and C(pyspnego).
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
options:
  state:
    description:
      - C(started) makes what is missing and starts the lab's process. C(stopped) ends it; folders stay.
    type: str
    choices: [started, stopped]
    default: started
  directory:
    description:
      - The lab's folder. The share C(\\deploy.lab.test\capture) is the folder C(capture) beside it, unless it is declared.
    type: path
    required: true
  network:
    description:
      - The lab's network. Computer number n has the address 9+2n in Windows PE and 10+2n in Windows, from its DHCP.
    type: str
    default: 127.80.0.0/24
  speed:
    description:
      - Lab seconds in a real second, for everything in the lab that waits.
    type: float
    default: 20.0
  behaviour:
    description:
      - How long the lab's computers take for what, in lab seconds, and what else Windows does now and then.
    type: dict
    default: {}
    suboptions:
      boot_seconds:
        description:
          - From the power button to the loader. The port is closed.
        type: float
        default: 10.0
      hang_seconds:
        description:
          - The port is open after a start and nobody answers yet.
        type: float
        default: 4.0
      goodbye_seconds:
        description:
          - How long a computer answers on after it was asked to restart or to shut down.
        type: float
        default: 3.0
      setup_seconds:
        description:
          - Windows Setup, both of its starts together.
        type: float
        default: 20.0
      idle_seconds:
        description:
          - When Windows closes a connection that is silent. It is never less than two real seconds.
        type: float
        default: 120.0
      answers_in_setup:
        description:
          - Whether WinRM answers while Setup is in OOBE, and vanishes again before Setup has finished.
        type: bool
        default: true
  secret:
    description:
      - The project's secret, from which the boot image's password is derived. By default the variable C(osd_secret).
    type: str
  computers:
    description:
      - The computers. One whose folder is there already stays as it is.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name in the inventory and of the folder.
        type: str
        required: true
      starting_state:
        description:
          - C(bare_metal_in_windows_pe) has empty disks and the boot image on a USB stick. C(existing_windows) has an old Windows that
            answers with NTLM, over HTTP or HTTPS. C(off) has empty disks and no medium.
        type: str
        choices: [bare_metal_in_windows_pe, existing_windows, 'off']
        default: bare_metal_in_windows_pe
      firmware:
        description:
          - The firmware.
        type: str
        choices: [uefi, bios]
        default: uefi
      uuid:
        description:
          - The SMBIOS UUID. By default made from the name.
        type: str
      serial:
        description:
          - The serial number. By default made from the name.
        type: str
      manufacturer:
        description:
          - The manufacturer.
        type: str
        default: Goldimage
      model:
        description:
          - The model.
        type: str
        default: Lab Computer
      memory_mb:
        description:
          - Memory in MB.
        type: int
        default: 8192
      macs:
        description:
          - MAC addresses of the network adapters.
        type: list
        elements: str
      disks:
        description:
          - The disks; by default one of 64 GB.
        type: list
        elements: dict
        suboptions:
          size_gb:
            description:
              - Capacity in GiB.
            type: int
            default: 64
          bus:
            description:
              - The bus, as C(SATA), C(NVMe), C(USB).
            type: str
            default: SATA
          model:
            description:
              - The model.
            type: str
          serial:
            description:
              - The serial number.
            type: str
          sector:
            description:
              - Bytes of a sector.
            type: int
            default: 512
          read_only:
            description:
              - Whether the disk is write protected.
            type: bool
            default: false
          volumes:
            description:
              - What is on the disk when the computer is new, one partition each. By default the disk is empty.
            type: list
            elements: dict
            default: []
            suboptions:
              label:
                description:
                  - The volume's label.
                type: str
                required: true
              file_system:
                description:
                  - The file system.
                type: str
                choices: [NTFS, FAT32, exFAT]
                default: NTFS
              size_mb:
                description:
                  - Size in MiB; by default all that is left of the disk.
                type: int
              files:
                description:
                  - Paths below the volume's root and the text of each file.
                type: dict
                default: {}
      devices:
        description:
          - Plug and Play devices.
        type: list
        elements: dict
        suboptions:
          id:
            description:
              - The instance id.
            type: str
          name:
            description:
              - The name.
            type: str
            required: true
          hardware_ids:
            description:
              - Hardware ids, best first.
            type: list
            elements: str
            required: true
          compatible_ids:
            description:
              - Compatible ids, best first.
            type: list
            elements: str
          inbox_service:
            description:
              - The driver that Windows brings itself; without one the device needs a driver.
            type: str
          pnp_class:
            description:
              - The device class, as C(Net).
            type: str
          manufacturer:
            description:
              - The manufacturer.
            type: str
      existing:
        description:
          - With C(existing_windows), who can log on, and how.
        type: dict
        suboptions:
          user:
            description:
              - An administrator.
            type: str
            default: Administrator
          password:
            description:
              - The password.
            type: str
          edition:
            description:
              - Client or server.
            type: str
            choices: [client, server]
            default: client
          computer_name:
            description:
              - The computer's name; by default that in the inventory.
            type: str
          scheme:
            description:
              - How alone its WinRM is reached. With C(https) it has a self-signed certificate on port 5986.
            type: str
            choices: [http, https]
            default: http
  accounts:
    description:
      - Accounts of the lab's network.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - C(DOMAIN\user), or the name alone for a server's own account.
        type: str
        required: true
      password:
        description:
          - The password.
        type: str
        required: true
      may_join:
        description:
          - Whether it may join computers to the domain.
        type: bool
        default: false
  shares:
    description:
      - Shares of the lab's network, beside the two of C(deploy.lab.test) that every lab has.
    type: list
    elements: dict
    default: []
    suboptions:
      server:
        description:
          - The server's name.
        type: str
        required: true
      name:
        description:
          - The share's name.
        type: str
        required: true
      path:
        description:
          - The folder on the control node.
        type: path
        required: true
      read:
        description:
          - Accounts that may read.
        type: list
        elements: str
        default: []
      write:
        description:
          - Accounts that may write.
        type: list
        elements: str
        default: []
      size_mb:
        description:
          - Capacity in MB.
        type: int
  sites:
    description:
      - Sites of the lab's https server. By default C(https://deploy.lab.test/) shows the content.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description:
          - The host name.
        type: str
        required: true
      path:
        description:
          - The folder on the control node.
        type: path
        required: true
      account:
        description:
          - The account it asks for.
        type: str
  domain:
    description:
      - The domain of the lab's network.
    type: dict
    default: {name: lab.test, netbios: LAB}
    suboptions:
      name:
        description:
          - The DNS name.
        type: str
        required: true
      netbios:
        description:
          - The NetBIOS name; by default the first part of the DNS name.
        type: str
  inventory:
    description:
      - A YAML inventory to write, with the group C(reference_computers).
    type: path
"""

EXAMPLES = r"""
- name: A lab with one bare computer
  goldimage.osd.lab:
    directory: lab
    computers:
      - name: reference-01
    accounts:
      - {name: 'LAB\osd-read', password: "{{ vault_read_password }}"}
    secret: "{{ vault_osd_secret }}"
    inventory: lab/inventory.yml
"""

RETURN = r"""
computers:
  description: State, screen and address of each computer.
  returned: when started
  type: dict
  sample: {reference-01: {state: windows_pe, message: '', address: 127.80.0.11}}
"""
