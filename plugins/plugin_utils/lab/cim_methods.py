# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CIM methods of a running lab computer. A Win32 error inside becomes the ReturnValue, as Windows' providers do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..windows import registry_hive
from ..windows.registry_hive import Key
from ..windows.registry_hive import Value as RegistryData
from ..wsman import faults
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError
from .machine import SYSTEM, LabMachine
from .registry import ROOT_NUMBERS
from .tools.interface import Session, Win32Problem

Arguments = Mapping[str, Value]
Result = Mapping[str, Value]

#: Where the lab keeps the membership (lab rule: plain values; Windows keeps them in its LSA policy).
_POLICY = r"HKLM\SECURITY\Policy"
_TCPIP = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters"
_NAMES = r"HKLM\SYSTEM\CurrentControlSet\Control\ComputerName"
_JOIN_DOMAIN = 1
#: 1 where BitLocker has encrypted the volume of Windows [knowledge].
_BITLOCKER = r"HKLM\SYSTEM\CurrentControlSet\Control\BitLockerStatus"
#: ReturnValue of CIM_DataFile's methods [doc: win32/CIMWin32Prov cim-datafile].
_FILE_CODES = {2: 9, 3: 9, 5: 2, 17: 8, 32: 15, 145: 14, 183: 10}
_KINDS = {"DWORD": 4, "QWORD": 11, "String": 1, "ExpandedString": 2, "MultiString": 7, "Binary": 3}
_RESTART_FLAGS, _SHUTDOWN_FLAGS = {2, 6}, {1, 5, 8, 12}


def membership(machine: LabMachine) -> tuple[bool, str]:
    """Return whether the computer is in a domain, and the domain's or workgroup's name."""
    joined = machine.live_registry.get_dword(_POLICY, "PartOfDomain") == 1
    return joined, machine.live_registry.get_string(_POLICY, "PrimaryDomain") or "WORKGROUP"


def set_membership(machine: LabMachine, *, domain: str = "", workgroup: str = "") -> None:
    """Write the membership."""
    registry = machine.live_registry
    with registry.batch():
        registry.set(_POLICY, "PartOfDomain", RegistryData.dword(1 if domain else 0))
        registry.set(_POLICY, "PrimaryDomain", RegistryData.sz(domain or workgroup))
        registry.set(_TCPIP, "Domain", RegistryData.sz(domain))
        registry.set(_TCPIP, "NV Domain", RegistryData.sz(domain))


def is_encrypted(machine: LabMachine) -> bool:
    """Tell whether the volume of the running Windows is encrypted. Lab rule: no other one ever is."""
    return machine.live_registry.get_dword(_BITLOCKER, "BootStatus") == 1


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""


def _number(arguments: Arguments, name: str) -> int:
    value = arguments.get(name)
    return int(value) if isinstance(value, int) else 0


class Methods:
    """All methods by class and name."""

    def __init__(self, machine: LabMachine) -> None:
        """Take the machine."""
        self._machine = machine
        self._static: dict[str, Callable[[Arguments], Result]] = {
            "win32_process.create": self._create_process,
            "sms_client.triggerschedule": lambda a: {"ReturnValue": None},
            "sms_client.getassignedsite": self._assigned_site,
            "sms_client.setclientprovisioningmode": lambda a: {"ReturnValue": None},
        }
        self._bound: dict[str, Callable[[Instance, Arguments], Result]] = {
            "win32_operatingsystem.reboot": lambda i, a: self._power("restart"),
            "win32_operatingsystem.shutdown": lambda i, a: self._power("shutdown"),
            "win32_operatingsystem.win32shutdown": self._win32_shutdown,
            "win32_computersystem.joindomainorworkgroup": self._join,
            "win32_computersystem.unjoindomainorworkgroup": self._unjoin,
            "win32_computersystem.rename": self._rename,
            "win32_service.startservice": self._start_service,
            "win32_service.stopservice": self._stop_service,
            "win32_service.delete": self._delete_service,
            "win32_service.changestartmode": self._start_mode,
            "win32_process.terminate": self._terminate,
            "cim_datafile.copy": self._copy_file,
            "cim_datafile.rename": self._rename_file,
            "cim_datafile.delete": self._delete_file,
            "win32_directory.rename": self._rename_file,
            "win32_directory.delete": self._delete_folder,
            "win32_encryptablevolume.getconversionstatus": lambda i, a: {
                "ConversionStatus": i["ConversionStatus"],
                "EncryptionPercentage": 100 if i["ConversionStatus"] else 0,
                "ReturnValue": 0,
            },
            "win32_encryptablevolume.getprotectionstatus": lambda i, a: {"ProtectionStatus": i["ProtectionStatus"], "ReturnValue": 0},
            "win32_encryptablevolume.disablekeyprotectors": lambda i, a: {"ReturnValue": 0},
            "win32_encryptablevolume.decrypt": self._decrypt,
        }

    def call(self, class_name: str, method: str, target: Instance | None, arguments: Arguments) -> Result:
        """Call a method; ``target`` is the instance for methods that have one."""
        if class_name == "StdRegProv":
            return self._registry(method, arguments)
        name = f"{class_name}.{method}".lower()
        if name in self._static:
            return self._static[name](arguments)
        if name not in self._bound:
            raise CimError(faults.WBEM_E_INVALID_METHOD, f"{class_name} has no method {method}")
        if target is None:
            raise CimError(faults.WBEM_E_INVALID_PARAMETER, f"{class_name}.{method} needs the instance's keys")
        return self._bound[name](target, arguments)

    def _decrypt(self, volume: Instance, arguments: Arguments) -> Result:
        """The lab's disks decrypt at once."""
        if volume["ConversionStatus"]:
            self._machine.live_registry.set(_BITLOCKER, "BootStatus", RegistryData.dword(0))
        return {"ReturnValue": 0}

    # --- power

    def _power(self, kind: str) -> Result:
        self._machine.request_restart(kind)
        return {"ReturnValue": 0}

    def _win32_shutdown(self, dummy: Instance, arguments: Arguments) -> Result:
        flags = _number(arguments, "Flags")
        if flags in _RESTART_FLAGS:
            return self._power("restart")
        if flags in _SHUTDOWN_FLAGS:
            return self._power("shutdown")
        return {"ReturnValue": 87}

    # --- membership and name

    def _join(self, dummy: Instance, arguments: Arguments) -> Result:
        machine, name = self._machine, _text(arguments, "Name")
        joined, _old = membership(machine)
        if not _number(arguments, "FJoinOptions") & _JOIN_DOMAIN:
            if joined:
                return {"ReturnValue": 2691}
            set_membership(machine, workgroup=name)
            return {"ReturnValue": 0}
        if joined:
            return {"ReturnValue": 2691}
        machine.network.join(name, _text(arguments, "UserName"), _text(arguments, "Password"), machine.name)
        set_membership(machine, domain=machine.network.domain.name if machine.network.domain else name)
        return {"ReturnValue": 0}

    def _unjoin(self, dummy: Instance, arguments: Arguments) -> Result:
        joined, _name = membership(self._machine)
        if not joined:
            return {"ReturnValue": 2692}
        set_membership(self._machine, workgroup="WORKGROUP")
        return {"ReturnValue": 0}

    def _rename(self, dummy: Instance, arguments: Arguments) -> Result:
        name = _text(arguments, "Name")
        if not name or len(name) > 15:
            return {"ReturnValue": 2215}
        self._machine.live_registry.set(rf"{_NAMES}\ComputerName", "ComputerName", RegistryData.sz(name.upper()))
        self._machine.live_registry.set(_TCPIP, "NV Hostname", RegistryData.sz(name))
        return {"ReturnValue": 0}

    # --- services and processes

    def _start_service(self, service: Instance, dummy: Arguments) -> Result:
        return _service_result(lambda: self._machine.services.start(str(service["Name"])))

    def _stop_service(self, service: Instance, dummy: Arguments) -> Result:
        return _service_result(lambda: self._machine.services.stop(str(service["Name"])))

    def _delete_service(self, service: Instance, dummy: Arguments) -> Result:
        return _service_result(lambda: self._machine.services.delete(str(service["Name"])))

    def _start_mode(self, service: Instance, arguments: Arguments) -> Result:
        modes = {"boot": 0, "system": 1, "automatic": 2, "manual": 3, "disabled": 4}
        mode = modes.get(_text(arguments, "StartMode").lower())
        if mode is None:
            return {"ReturnValue": 21}
        return _service_result(lambda: self._machine.services.set_start(str(service["Name"]), mode))

    def _create_process(self, arguments: Arguments) -> Result:
        line = _text(arguments, "CommandLine")
        if not line:
            return {"ReturnValue": 21, "ProcessId": None}
        session = Session("SYSTEM", network_logon=True, id="wmi")
        directory = _text(arguments, "CurrentDirectory")
        try:
            process = self._machine.processes.spawn(line, session, directory=directory)
        except Win32Problem as problem:
            return {"ReturnValue": {2: 9, 3: 9, 5: 2}.get(problem.code, 8), "ProcessId": None}
        return {"ReturnValue": 0, "ProcessId": process.id}

    def _terminate(self, process: Instance, arguments: Arguments) -> Result:
        self._machine.processes.terminate(int(str(process["Handle"])), _number(arguments, "Reason"))
        return {"ReturnValue": 0}

    def _assigned_site(self, dummy: Arguments) -> Result:
        site = self._machine.live_registry.get_string(r"HKLM\SOFTWARE\Microsoft\SMS\Mobile Client", "AssignedSiteCode")
        return {"ReturnValue": None, "sSiteCode": site or ""}

    # --- files

    def _copy_file(self, file: Instance, arguments: Arguments) -> Result:
        files = self._machine.files(SYSTEM)
        target = _text(arguments, "FileName")
        if files.exists(target):
            return {"ReturnValue": 10}
        return _file_result(lambda: files.copy(str(file["Name"]), target))

    def _rename_file(self, file: Instance, arguments: Arguments) -> Result:
        target = _text(arguments, "FileName")
        return _file_result(lambda: self._machine.files(SYSTEM).rename(str(file["Name"]), target))

    def _delete_file(self, file: Instance, dummy: Arguments) -> Result:
        return _file_result(lambda: self._machine.files(SYSTEM).delete(str(file["Name"])))

    def _delete_folder(self, folder: Instance, dummy: Arguments) -> Result:
        return _file_result(lambda: self._machine.files(SYSTEM).delete_tree(str(folder["Name"])))

    # --- registry

    def _registry(self, method: str, arguments: Arguments) -> Result:
        root = ROOT_NUMBERS.get(_number(arguments, "hDefKey") or 0x80000002)
        if root is None:
            return {"ReturnValue": 6}
        path = f"{root}\\{_text(arguments, 'sSubKeyName')}".rstrip("\\")
        registry = self._machine.live_registry
        lower = method.lower()
        if lower == "createkey":
            registry.create(path)
            return {"ReturnValue": 0}
        key = registry.find(path)
        if key is None and not (lower.startswith("set") or lower == "checkaccess"):
            return {"ReturnValue": 2}
        if lower == "deletekey":
            if key is not None and key.subkeys:
                return {"ReturnValue": 5}
            registry.delete_key(path)
            return {"ReturnValue": 0}
        if lower == "deletevalue":
            registry.delete_value(path, _text(arguments, "sValueName"))
            return {"ReturnValue": 0}
        if lower == "checkaccess":
            return {"ReturnValue": 0 if key else 2, "bGranted": key is not None}
        if lower == "enumkey":
            return {"ReturnValue": 0, "sNames": list(key.subkeys) or None} if key else {"ReturnValue": 2}
        if lower == "enumvalues" and key is not None:
            names = list(key.values)
            types: list[Value] = [_shown_type(key.values[name].type) for name in names]
            return {"ReturnValue": 0, "sNames": list(names) or None, "Types": types or None}
        kind = method.removeprefix("Get").removeprefix("Set").removesuffix("Value")
        if kind not in _KINDS:
            raise CimError(faults.WBEM_E_INVALID_METHOD, f"StdRegProv has no method {method}")
        if lower.startswith("get"):
            return _get_value(key, _text(arguments, "sValueName"), kind)
        return self._set_value(path, key, _text(arguments, "sValueName"), kind, arguments)

    def _set_value(self, path: str, key: Key | None, name: str, kind: str, arguments: Arguments) -> Result:
        if key is None:
            return {"ReturnValue": 2}
        value = arguments.get("uValue", arguments.get("sValue"))
        if kind in ("DWORD", "QWORD"):
            data = RegistryData.dword(_number(arguments, "uValue")) if kind == "DWORD" else RegistryData.qword(_number(arguments, "uValue"))
        elif kind == "MultiString":
            data = RegistryData.multi_sz([str(v) for v in value] if isinstance(value, list) else [])
        elif kind == "Binary":
            data = RegistryData.binary(bytes(v for v in value if isinstance(v, int)) if isinstance(value, list) else b"")
        else:
            text = value if isinstance(value, str) else ""
            data = RegistryData.sz(text) if kind == "String" else RegistryData.expand_sz(text)
        self._machine.live_registry.set(path, name, data)
        return {"ReturnValue": 0}


def _shown_type(number: int) -> int:
    return number if number < 2**31 else number - 2**32


def _get_value(key: Key | None, name: str, kind: str) -> Result:
    found = key.values.get(name) if key else None
    if found is None:
        return {"ReturnValue": 2 if key is None else 1}
    text_kinds = {registry_hive.REG_SZ, registry_hive.REG_EXPAND_SZ}
    fits = found.type in text_kinds if kind in ("String", "ExpandedString") else found.type == _KINDS[kind]
    if not fits:
        return {"ReturnValue": 1}
    if kind in ("DWORD", "QWORD"):
        return {"ReturnValue": 0, "uValue": found.number}
    if kind == "MultiString":
        return {"ReturnValue": 0, "sValue": list(found.strings or []) or None}
    if kind == "Binary":
        return {"ReturnValue": 0, "uValue": list(found.data) or None}
    return {"ReturnValue": 0, "sValue": found.text}


def _service_result(action: Callable[[], None]) -> Result:
    codes = {1056: 10, 1058: 14, 1060: 9, 1062: 6}
    try:
        action()
    except Win32Problem as problem:
        return {"ReturnValue": codes.get(problem.code, 8)}
    return {"ReturnValue": 0}


def _file_result(action: Callable[[], None]) -> Result:
    try:
        action()
    except Win32Problem as problem:
        return {"ReturnValue": _FILE_CODES.get(problem.code, 8)}
    return {"ReturnValue": 0}
