#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: bootable_media
short_description: Make an ISO or a USB stick that starts a boot image
description:
  - Writes an ISO that starts on BIOS and UEFI firmware, or the image of a USB stick (GPT, FAT32) that starts on UEFI firmware.
  - Microsoft's boot files come from your ADK, as the folders that C(copype.cmd) makes. None of them is part of this collection.
  - Reads who signed the boot manager and, on an ISO, the loader in the UEFI boot sector, and warns where firmware with Secure Boot refuses
    them.
  - With the same inputs, and a file that still is what the manifest beside it says, nothing is touched.
  - Works on the control node whatever the host, opens no connection, and refuses C(delegate_to) another one.
  - Needs Debian's C(mtools), C(xorriso) for an ISO, C(fdisk) for a stick, and the Python package C(cryptography).
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
attributes:
  check_mode:
    description: Says whether it would make the medium anew.
    support: full
options:
  format:
    description:
      - C(iso) starts on BIOS (64-bit Intel) and UEFI. C(usb) starts on UEFI only; a boot image of 4 GiB or more is refused there, since
        FAT32 holds no such file and the boot manager cannot load a split one.
    type: str
    choices: [iso, usb]
    required: true
  boot_image:
    description:
      - The C(boot.wim) that M(goldimage.osd.boot_image) made.
    type: path
    required: true
  media_files:
    description:
      - The folder C(media) that C(copype.cmd) made. Its own C(sources/boot.wim) is left out.
    type: path
    required: true
  firmware_files:
    description:
      - Folder with C(etfsboot.com) and C(efisys_noprompt.bin) (or C(efisys.bin), see O(prompt)) of the ADK, as in the folder
        C(bootbins) that C(copype.cmd) made. Needed for an ISO.
    type: path
  destination:
    description:
      - The file that is written; the manifest is beside it, with C(.json) at its end.
    type: path
    required: true
  label:
    description:
      - The volume's label; up to 11 characters on a stick, 32 on an ISO.
    type: str
    default: WINDOWS_PE
  prompt:
    description:
      - Whether UEFI firmware asks for a key before it starts the ISO. Without, a computer whose firmware prefers the ISO starts it again
        at every restart.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: ISO of the boot image
  goldimage.osd.bootable_media:
    format: iso
    boot_image: /srv/osd/boot/boot.wim
    media_files: /srv/adk/winpe/media
    firmware_files: /srv/adk/winpe/bootbins
    destination: /srv/iso/winpe.iso
"""

RETURN = r"""
path:
  description: The medium.
  returned: success
  type: str
  sample: /srv/iso/winpe.iso
manifest:
  description:
    - Digest of the inputs, SHA-256 of the medium and of the boot image, architecture, and for each file that UEFI firmware starts the generation
      of the authority that signed it, C(2011), C(2023), C(other), or empty where it is not signed.
  returned: when the medium is there
  type: dict
"""
