# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The read-only variables of a task sequence, from live state, and the built-in conditions that the example sequence puts on its steps."""

from __future__ import annotations

import ntpath
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..windows.computer import Computer, Environment
from ..windows.firmware import Firmware, read_firmware
from ..windows.registry import Registry
from .endpoints import Variables
from .fence import Fence
from .machine import Machine

#: Groups of variables and the requests that each costs; ``environment`` is answered by the fence.
SUBSETS = ("environment", "firmware", "machine", "network", "windows")


def environment_variables(fence: Fence, variables: Variables, run: str) -> dict[str, Any]:
    """Return what needs no further request."""
    facts: dict[str, Any] = {
        "_SMSTSInWinPE": fence.environment is Environment.WINDOWS_PE,
        "_SMSTSMediaType": str(variables.get("osd_media_type", "")),
        "_SMSTSType": 2,
        "_SMSTSRunFromDP": True,
        "_SMSTSDownloadOnDemand": False,
    }
    if run:
        facts["_SMSTSPackageID"] = facts["_SMSTSPackageName"] = run
    return facts


def client_cache_variables(sources: Iterable[Mapping[str, Any]], letters: Collection[str]) -> dict[str, Any]:
    r"""Return the folder of the run's content that lies on one of these drives; nothing where all of it lies elsewhere.

    A task sequence sets the variable where its content is on the local disk [doc: task-sequence-variables]. Nothing is ever copied there
    before Windows is installed; a declared source may lie there (``D:\images\install.wim``). What another sequence or a client left on the
    disk is not this run's: Configuration Manager partitions such a computer, too.
    """
    for source in sources:
        target = str(source.get("target") or "")
        if target[1:3] == ":\\" and target[0].upper() in letters:
            return {"_SMSTSClientCache": ntpath.dirname(target)}
    return {}


def firmware_variables(computer: Computer) -> dict[str, Any]:
    """Return the firmware mode and Secure Boot. Two requests."""
    firmware = read_firmware(computer.cim)
    enabled = Registry(computer.cim).get_dword(r"SYSTEM\CurrentControlSet\Control\SecureBoot\State", "UEFISecureBootEnabled")
    secure = "NA" if enabled is None else ("Enabled" if enabled else "Disabled")
    return {"_SMSTSBootUEFI": firmware is Firmware.UEFI, "_TSSecureBoot": secure}


def machine_variables(computer: Computer, machine: Machine) -> dict[str, Any]:
    """Return make, model and names of the hardware. Two requests beside those for the machine."""
    system = computer.cim.query("SELECT Name,Manufacturer,Model FROM Win32_ComputerSystem")
    tag = computer.cim.query("SELECT SMBIOSAssetTag FROM Win32_SystemEnclosure")
    return {
        "_SMSTSMachineName": system[0]["Name"] if system else None,
        "_SMSTSMake": system[0]["Manufacturer"] if system else None,
        "_SMSTSModel": system[0]["Model"] if system else None,
        "_SMSTSAssetTag": tag[0]["SMBIOSAssetTag"] if tag else None,
        "_SMSTSUUID": machine.uuid.upper(),
        "_SMSTSSerialNumber": machine.serial,
        "_SMSTSMacAddresses": list(machine.macs),
    }


def network_variables(computer: Computer) -> dict[str, Any]:
    """Return addresses and gateways. One request."""
    columns = "IPAddress,DefaultIPGateway"
    rows = computer.cim.query(f"SELECT {columns} FROM Win32_NetworkAdapterConfiguration WHERE IPEnabled=TRUE")

    def texts(name: str) -> list[str]:
        return [str(item) for row in rows for item in (row[name] if isinstance(row[name], list) else ())]  # type: ignore[union-attr]

    return {"_SMSTSIPAddresses": texts("IPAddress"), "_SMSTSDefaultGateways": texts("DefaultIPGateway")}


def windows_variables(computer: Computer) -> dict[str, Any]:
    """Return the version of what runs. One request."""
    rows = computer.cim.query("SELECT Version,BuildNumber,Caption,WindowsDirectory FROM Win32_OperatingSystem")
    row = rows[0] if rows else None
    return {
        "_OSDDetectedWinDir": row["WindowsDirectory"] if row else None,
        "version": row["Version"] if row else None,
        "build": row["BuildNumber"] if row else None,
        "caption": row["Caption"] if row else None,
    }


def skip_reason(module: str, options: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return why the example sequence's condition leaves a step out, '' where it runs."""
    media = facts.get("_SMSTSMediaType")
    if module == "restart_computer" and options.get("target") == "windows_pe" and facts.get("_SMSTSInWinPE"):
        return "_SMSTSInWinPE equals true: the computer runs Windows PE already"
    if module in ("auto_apply_drivers", "install_software_updates") and media == "FullMedia":
        return "_SMSTSMediaType equals FullMedia"
    if module == "format_and_partition_disk" and facts.get("_SMSTSClientCache"):
        return f"_SMSTSClientCache exists: {facts['_SMSTSClientCache']}"
    return ""
