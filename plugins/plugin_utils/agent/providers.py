# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the agent needs from the computer it runs on, in one place.

On Windows these are filled by ``wmi.py``, ``windows_files.py``, ``windows_processes.py`` and their like; in the lab by the machine
model, in tests by fakes. The agent itself knows nothing below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..wsman.schema import Schema
from ..wsman.server import CimProvider, ShellProvider
from .files import FileSystem
from .jobs import Jobs, Process, ProcessStarter
from .network_drives import NetworkConnections

__all__ = [
    "CimProvider",
    "FileSystem",
    "Jobs",
    "NetworkConnections",
    "Process",
    "ProcessStarter",
    "Providers",
    "ShellProvider",
    "Wmi",
    "WmiClass",
    "WmiError",
    "WmiMember",
    "WmiMethod",
    "WmiObject",
    "WmiValue",
]


@dataclass(frozen=True)
class Providers:
    """What a Windows computer gives the agent."""

    schema: Schema
    cim: CimProvider
    shells: ShellProvider
    files: FileSystem
    jobs: Jobs
    network: NetworkConnections


class WmiError(Exception):
    """A call to WMI that failed. ``code`` is the HRESULT, unsigned (``wsman.faults.WBEM_E_…``)."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{text or 'WMI'}: 0x{code & 0xFFFFFFFF:08X}")
        self.code = code & 0xFFFFFFFF


@dataclass(frozen=True)
class WmiValue:
    """A value as COM hands it over, with its CIM type (``CIM_STRING`` = 8 …, ``0x2000`` on top for an array).

    Not yet as CIM means it: uint32 may be signed, 64-bit integers and dates are text. Embedded objects are WmiObjects.
    """

    value: Any
    cim_type: int


@dataclass(frozen=True)
class WmiObject:
    """An instance, or what a method gave back."""

    class_name: str
    properties: Mapping[str, WmiValue] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class WmiMember:
    """A property or parameter of a class definition. ``class_name``: of what a reference or an embedded object is."""

    name: str
    cim_type: int
    key: bool = False
    class_name: str = ""


@dataclass(frozen=True)
class WmiMethod:
    """A method of a class definition."""

    name: str
    inputs: tuple[WmiMember, ...] = ()
    outputs: tuple[WmiMember, ...] = ()
    static: bool = False


@dataclass(frozen=True)
class WmiClass:
    """A class definition as WMI tells it."""

    name: str
    properties: tuple[WmiMember, ...] = ()
    methods: tuple[WmiMethod, ...] = ()


class Wmi(Protocol):
    r"""WMI's five operations. Namespaces with slashes; paths are relative object paths (``Win32_Service.Name="x"``).

    All raise WmiError. Called from several threads; a call that takes too long ends with WBEM_E_TIMED_OUT.
    """

    def query(self, namespace: str, text: str) -> Sequence[WmiObject]:
        """Run a WQL query."""

    def get(self, namespace: str, path: str) -> WmiObject:
        """Return one instance."""

    def class_definition(self, namespace: str, class_name: str) -> WmiClass:
        """Return a class."""

    def put(self, namespace: str, class_name: str, path: str, values: Mapping[str, WmiValue]) -> None:
        """Write an instance; without ``path`` a new one is created."""

    def delete(self, namespace: str, path: str) -> None:
        """Delete an instance."""

    def invoke(self, namespace: str, class_name: str, path: str, method: str, arguments: Mapping[str, WmiValue]) -> WmiObject:
        """Call a method of an instance, or of the class where ``path`` is its name. Null inputs are left out."""
