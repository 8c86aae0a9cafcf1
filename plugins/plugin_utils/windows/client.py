# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Configuration Manager client: is it there, how it is installed, how it is removed before a capture.

Facts: [doc: sccm/about-client-installation-properties] for switches and exit codes, [knowledge] for what an
uninstallation leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..wsman import wql
from ..wsman.faults import WsmanFault
from .cim_classes import CCM
from .computer import Cim, Computer
from .registry import Registry

WINDOWS = r"C:\Windows"
SERVICE = "CcmExec"
SETUP_PROCESS = "ccmsetup.exe"
INSTALLED_SETUP = rf"{WINDOWS}\ccmsetup\ccmsetup.exe"
LOGS = (rf"{WINDOWS}\ccmsetup\logs\ccmsetup.log", rf"{WINDOWS}\ccmsetup\ccmsetup.log")
IDENTITY_FILE = rf"{WINDOWS}\SMSCFG.INI"
_FOLDERS = ("CCM", "ccmcache", "ccmsetup")
_SOFTWARE = r"SOFTWARE\Microsoft"
_KEYS = ("CCM", "CCMSetup", "SMS")

SUCCESS = 0
RESTART_REQUIRED = 7
ALREADY_RUNNING = 8

_PROPERTY = re.compile(r"[A-Z][A-Z0-9_]*\Z")


def install_command(folder: str, switches: Sequence[str] = (), properties: Mapping[str, str] | None = None) -> list[str]:
    """Return the argument list that installs the client from a local folder.

    ``/noservice`` keeps setup in this process: without it ccmsetup.exe returns at once and no exit code comes back.
    Switches stand before properties. Raises ValueError for a property that is no client.msi property (upper-case
    letters).
    """
    argv = [rf"{folder}\ccmsetup.exe", "/noservice", f"/source:{folder}"]
    argv += [switch for switch in switches if switch.lower() != "/noservice"]
    for name, value in (properties or {}).items():
        if not _PROPERTY.match(name):
            raise ValueError(f"'{name}' is no installation property; they are written in upper case, as SMSSITECODE")
        argv.append(f"{name}={value}")
    return argv


def uninstall_command() -> list[str]:
    """Return the argument list that removes the client; it may go on in a process of its own after it returned."""
    return [INSTALLED_SETUP, "/uninstall"]


@dataclass(frozen=True)
class ClientState:
    """What there is of the client.

    Service, version ('' without its namespace), and its remains as paths and keys below HKLM.
    """

    service: bool
    namespace: bool
    version: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def is_absent(self) -> bool:
        """Whether nothing of the client is there."""
        return not (self.service or self.namespace or self.remains)

    @property
    def remains(self) -> tuple[str, ...]:
        """Folders, files and registry keys that are there."""
        return (*self.folders, *self.files, *(rf"HKLM\{key}" for key in self.keys))


def read_client(computer: Computer) -> ClientState:
    """Read everything that an uninstallation has to take away. Six requests, and one for each list of more than one."""
    cim = computer.cim
    service = bool(cim.query(f"SELECT Name FROM Win32_Service WHERE Name='{SERVICE}'"))
    namespace, version = read_version(cim)
    return ClientState(service, namespace, version, _folders(cim), _files(cim), _keys(Registry(cim)))


def read_version(cim: Cim) -> tuple[bool, str]:
    """Tell whether the client's namespace is there, and its version.

    One request; a missing namespace is the answer 'no client'.
    """
    try:
        row = cim.get("SMS_Client", namespace=CCM)
    except WsmanFault as fault:
        if fault.is_not_found:
            return False, ""
        raise
    return True, str(row["ClientVersion"] or "")


def setup_is_running(cim: Cim) -> bool:
    """Tell whether a ccmsetup.exe runs, as a service or started by somebody. One request."""
    return bool(cim.query(f"SELECT ProcessId FROM Win32_Process WHERE Name='{SETUP_PROCESS}'"))


def _folders(cim: Cim) -> tuple[str, ...]:
    paths = [rf"{WINDOWS}\{name}" for name in _FOLDERS]
    names = " OR ".join(f"Name={wql.quote(path.lower())}" for path in paths)
    found = {str(row["Name"]).lower() for row in cim.query(f"SELECT Name FROM Win32_Directory WHERE {names}")}
    return tuple(path for path in paths if path.lower() in found)


def _files(cim: Cim) -> tuple[str, ...]:
    """SMSCFG.INI and status files sms*.mif. Drive and Path keep WMI from looking through the disk, the rest keeps the answer short."""
    where = r"Drive='c:' AND Path='\\windows\\' AND FileName LIKE 'sms%' AND (Extension='ini' OR Extension='mif')"
    found = [str(row["Name"]) for row in cim.query(f"SELECT Name FROM CIM_DataFile WHERE {where}")]
    return tuple(sorted(path for path in found if _is_ours(path.rsplit("\\", 1)[-1].lower())))


def removal_script() -> bytes:
    """Return a batch file that deletes whatever an uninstallation may leave, and ends with 0: what is left then is read again."""
    keys = [*(rf"{_SOFTWARE}\{name}" for name in _KEYS), rf"{_SOFTWARE}\SystemCertificates\SMS"]
    lines = [
        "@echo off",
        *(rf'if exist "{WINDOWS}\{name}" rd /s /q "{WINDOWS}\{name}"' for name in _FOLDERS),
        rf'del /f /q /a "{IDENTITY_FILE}" "{WINDOWS}\sms*.mif"',
        *(rf'reg.exe delete "HKLM\{key}" /f' for key in keys),
        "exit /b 0",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _is_ours(name: str) -> bool:
    return name == "smscfg.ini" or (name.startswith("sms") and name.endswith(".mif"))


def _keys(registry: Registry) -> tuple[str, ...]:
    found = []
    for parent, names in ((_SOFTWARE, _KEYS), (rf"{_SOFTWARE}\SystemCertificates", ("SMS",))):
        there = {name.lower() for name in registry.enum_keys(parent) or []}
        found += [rf"{parent}\{name}" for name in names if name.lower() in there]
    return tuple(found)
