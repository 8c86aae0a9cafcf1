# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The computer's firmware mode, as Windows and Windows PE record it in the registry."""

from __future__ import annotations

import enum

from ..wsman.schema import Value
from .computer import Cim


class Firmware(enum.StrEnum):
    """How the computer was started."""

    BIOS = "BIOS"
    UEFI = "UEFI"


_HKEY_LOCAL_MACHINE = 2147483650
_CONTROL = r"SYSTEM\CurrentControlSet\Control"
#: ``PEFirmwareType``: 1 BIOS, 2 UEFI [doc: cp/winpe-boot-in-uefi-or-legacy-bios-mode].
_TYPES = {1: Firmware.BIOS, 2: Firmware.UEFI}


def read_firmware(cim: Cim) -> Firmware | None:
    """Return the firmware mode; None where Windows PE has not recorded it yet (``wpeutil UpdateBootInfo``). One request."""
    arguments: dict[str, Value] = {"hDefKey": _HKEY_LOCAL_MACHINE, "sSubKeyName": _CONTROL, "sValueName": "PEFirmwareType"}
    value = cim.invoke("StdRegProv", "GetDWORDValue", arguments).get("uValue")
    return _TYPES.get(value) if isinstance(value, int) else None
