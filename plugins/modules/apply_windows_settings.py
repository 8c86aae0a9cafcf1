#!/usr/bin/python
# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: apply_windows_settings
short_description: Write owner, keys, languages and the administrator's password into the answer file
description:
  - The task-sequence step B(Apply Windows Settings). It writes C(\Windows\Panther\unattend.xml) on the volume that Windows was applied to.
    Windows Setup reads it at the first start.
  - An answer file that is there already is merged. The values of this step win, everything else in the file stays.
  - Inside a run the answer file also makes the run's own local administrator C(osd-run), which is removed before the capture.
  - Runs in Windows PE only.
  - Sends 5 requests when there is nothing to do, 2 in a run that partitioned the disk, and 5 more outside of a run, where the
    processor architecture is read from the SYSTEM hive.
version_added: 0.1.0
author: goldimage.osd contributors (@goldimage-osd)
extends_documentation_fragment:
  - goldimage.osd.step
options:
  user_name:
    description:
      - The registered owner, 1 to 255 characters. The task-sequence variable is C(OSDRegisteredUserName).
    type: str
    required: true
  organization_name:
    description:
      - The registered organization, 1 to 255 characters. The task-sequence variable is C(OSDRegisteredOrgName).
    type: str
    required: true
  computer_name:
    description:
      - Name of the reference computer, 1 to 15 bytes. The task-sequence variable is C(OSDComputerName).
      - Left out, the name of a given answer file stays, or Setup makes one up.
    type: str
  product_key:
    description:
      - Product key, five groups of five. The task-sequence variable is C(OSDProductKey). A wrong key stops Setup.
    type: str
  server_licensing:
    description:
      - Licence mode of Windows Server 2003. The task-sequence variable is C(OSDServerLicenseMode).
      - Newer Windows has no such mode. The option is accepted and has no effect but a warning.
    type: str
    choices: [do_not_specify, per_seat, per_server]
    default: do_not_specify
  maximum_connections:
    description:
      - Number of connections with O(server_licensing=per_server), 5 to 9999. The task-sequence variable is
        C(OSDServerLicenseConnectionLimit).
    type: int
  randomly_generate_local_administrator_password:
    description:
      - Whether the built-in administrator gets a random password that nobody knows, and is disabled in the image. The task-sequence
        variable is C(OSDRandomAdminPassword).
      - The account's state is applied later, by B(Setup Windows and ConfigMgr) and B(Prepare Windows for Capture).
    type: bool
    default: true
  local_administrator_password:
    description:
      - The built-in administrator's password. The task-sequence variable is C(OSDLocalAdminPassword).
      - Required when O(randomly_generate_local_administrator_password=false), not used otherwise.
      - Windows hides the password in the answer file, it does not encrypt it. The file is deleted before the capture.
    type: str
  time_zone:
    description:
      - The time zone by its English name, as C(tzutil /l) prints it. The task-sequence variable is C(OSDTimeZone).
      - With a name that Windows does not know it takes UTC.
    type: str
    required: true
  input_locale:
    description:
      - Keyboard layouts, such as C(0409:00000409) or C(en-US), several with C(;). The task-sequence variable is
        C(OSDWindowsSettingsInputLocale).
    type: str
  system_locale:
    description:
      - Language for programs that do not know Unicode. The task-sequence variable is C(OSDWindowsSettingsSystemLocale).
    type: str
  ui_language:
    description:
      - Language of Windows, which must be in the image. The task-sequence variable is C(OSDWindowsSettingsUILanguage).
    type: str
  ui_language_fallback:
    description:
      - Language where the first one has no text. The task-sequence variable is C(OSDWindowsSettingsUILanguageFallback).
    type: str
  user_locale:
    description:
      - Formats of dates, times and numbers. The task-sequence variable is C(OSDWindowsSettingsUserLocale).
    type: str
"""

EXAMPLES = r"""
- name: Apply Windows Settings
  goldimage.osd.apply_windows_settings:
    user_name: Example
    organization_name: Example Ltd
    time_zone: Romance Standard Time
    ui_language: fr-FR
    user_locale: fr-FR
    system_locale: fr-FR
    input_locale: 040c:0000040c
"""

RETURN = r"""
answer_file:
  description: Path of the answer file, as Windows PE sees it.
  returned: always except in check mode
  type: str
  sample: W:\Windows\Panther\unattend.xml
"""
