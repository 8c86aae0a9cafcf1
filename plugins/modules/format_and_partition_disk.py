#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: format_and_partition_disk
short_description: Format and partition a disk in Windows PE
description:
  - The task-sequence step B(Format and Partition Disk). It wipes one disk and makes the partitions of the list on it.
  - Inside a run it always wipes, as Configuration Manager does. Alone it changes nothing where the disk has the layout already.
  - It is left out where a client cache exists (C(_SMSTSClientCache)), that is where a source that the roles' variables declare
    lies on the disk itself, such as C(D:\images\install.wim) on a partition of disk 0.
  - Runs in Windows PE only. Removable, read-only and USB disks are refused.
  - Sends 5 requests when there is nothing to do and the disk has the default partitions.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
  - goldimage.osd.step.destructive
options:
  disk_number:
    description:
      - The disk to use, as Windows numbers it. The task-sequence variable is C(OSDDiskIndex).
    type: int
    default: 0
  disk_type:
    description:
      - The partition style. The task-sequence variable is C(OSDPartitionStyle).
      - Left out, it follows the firmware, V(GPT) on UEFI and V(MBR) on BIOS.
    type: str
    choices: [GPT, MBR]
  time_limit:
    description:
      - Minutes that diskpart may take. Left out, it has 10, and 720 where a partition is not formatted quickly.
    type: int
  boot_image:
    description:
      - The boot image to put on the new disk as what starts next, so that a power cut comes back to Windows PE. C(boot.sdi) lies beside it.
      - Left out, only the medium can start Windows PE again.
      - With it, a layout without a Windows partition, or without boot files where the firmware looks for them, is refused.
    type: dict
    suboptions:
      target:
        description:
          - Path of the WIM as the computer sees it.
        type: str
        required: true
      controller:
        description:
          - Path of the same file on the control node.
        type: path
      sha256:
        description:
          - SHA-256 of the file.
        type: str
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
  partitions:
    description:
      - The partitions in the order in which they are made. The task-sequence variables are C(OSDPartitions0Type) and so on.
      - Left out, a layout after Microsoft's samples is made. On GPT that is EFI (260 MB), MSR (16 MB), Windows and Recovery (990 MB),
        on MBR System Reserved (550 MB), Windows and Recovery (990 MB).
    type: list
    elements: dict
    suboptions:
      type:
        description:
          - The partition type. V(EFI) and V(MSR) exist on GPT disks only.
        type: str
        choices: [Primary, EFI, MSR, Recovery]
        required: true
      volume_name:
        description:
          - The label given when the volume is formatted, in ASCII, at most 32 characters on NTFS and 11 on FAT32.
        type: str
      size:
        description:
          - The size. Left out in one partition, that partition takes what the others leave.
        type: int
      size_units:
        description:
          - What O(partitions[].size) counts. V(Percent) is of the space still free when the partition's turn comes.
        type: str
        choices: [MB, GB, Percent]
        default: MB
      file_system:
        description:
          - The file system. Left out, the partition is not formatted.
        type: str
        choices: [NTFS, FAT32]
      quick_format:
        description:
          - Whether to format quickly.
        type: bool
        default: true
      bootable:
        description:
          - Whether to mark the partition active on an MBR disk.
        type: bool
        default: false
      assign_volume_letter:
        description:
          - Whether the volume gets a drive letter, W for Windows, S for the boot files, R for recovery, else the next free one.
        type: bool
        default: true
"""

EXAMPLES = r"""
- name: Partition Disk 0
  goldimage.osd.format_and_partition_disk:
    disk_number: 0

- name: Partition Disk 0 - UEFI
  goldimage.osd.format_and_partition_disk:
    disk_number: 0
    disk_type: GPT
    partitions:
      - {type: EFI, volume_name: System, size: 500, file_system: FAT32}
      - {type: MSR, size: 16}
      - {type: Primary, volume_name: Windows, file_system: NTFS}
      - {type: Recovery, volume_name: Recovery, size: 990, file_system: NTFS}
"""

RETURN = r"""
disk_type:
  description: The partition style of the disk now.
  returned: changed
  type: str
  sample: GPT
partitions:
  description: The partitions of the disk now.
  returned: changed
  type: list
  elements: dict
  sample: [{"partition": 1, "type": "EFI", "size_mb": 260, "file_system": "FAT32", "label": "System", "letter": "S"}]
volumes:
  description: Where Windows, the boot files and the recovery tools go.
  returned: changed
  type: dict
  sample: {"disk": 0, "windows": {"partition": 3, "offset": 290455552, "letter": "W"}}
"""
