# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CIM objects of a running lab computer: nothing that Windows, or Windows PE with the agent, does not have there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..windows.cim_classes import CCM, CIMV2, DEFAULT, STORAGE, TASK_SCHEDULER, VOLUME_ENCRYPTION
from ..windows.computer import Environment
from ..windows.disks import BUS_NAMES
from ..wsman import faults, wql
from ..wsman.schema import Instance, Reference, Value
from ..wsman.server import CimError
from . import cim_methods, cim_storage
from .file_system import used_space
from .machine import SYSTEM, LabMachine
from .tools.interface import Win32Problem

Rows = Iterable[dict[str, Value]]

_BUS_NUMBERS = {name.upper(): number for number, name in BUS_NAMES.items()}
_VERSION_KEY = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_PACKAGES = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
_INSTALLED_PACKAGE = 112
_PE_NAMESPACES = {CIMV2, DEFAULT, STORAGE}
#: What Windows PE's agent or WinPE-WMI does not offer.
_NOT_IN_PE = {"win32_useraccount", "win32_userprofile", "win32_quickfixengineering", "softwarelicensingservice"}
_DISABLED = 4
_START_MODES = {0: "Boot", 1: "System", 2: "Auto", 3: "Manual", 4: "Disabled"}


def not_found(what: str) -> CimError:
    """Return the error for an instance that is not there."""
    return CimError(faults.WBEM_E_NOT_FOUND, f"{what}: not found")


class LabCim:
    """``wsman.server.CimProvider`` of one boot."""

    def __init__(self, machine: LabMachine) -> None:
        """Take the machine."""
        self._machine = machine
        self._methods = cim_methods.Methods(machine)
        self._rows: dict[tuple[str, str], Callable[[], Rows]] = {
            (CIMV2, "win32_operatingsystem"): self._operating_system,
            (CIMV2, "win32_computersystem"): self._computer_system,
            (CIMV2, "win32_computersystemproduct"): self._product,
            (CIMV2, "win32_bios"): self._bios,
            (CIMV2, "win32_systemenclosure"): self._enclosure,
            (CIMV2, "win32_processor"): self._processor,
            (CIMV2, "win32_networkadapter"): self._network_adapters,
            (CIMV2, "win32_networkadapterconfiguration"): self._network_configurations,
            (CIMV2, "win32_pnpentity"): self._devices,
            (CIMV2, "win32_service"): self._services,
            (CIMV2, "win32_process"): self._processes,
            (CIMV2, "win32_processstartup"): list,
            (CIMV2, "win32_volume"): self._volumes,
            (CIMV2, "win32_useraccount"): self._user_accounts,
            (CIMV2, "win32_userprofile"): self._user_profiles,
            (CIMV2, "win32_quickfixengineering"): self._updates,
            (CIMV2, "softwarelicensingservice"): self._licensing,
            (CIMV2, "stdregprov"): list,
            (DEFAULT, "stdregprov"): list,
            (STORAGE, "msft_disk"): lambda: cim_storage.disks(machine),
            (STORAGE, "msft_partition"): lambda: cim_storage.partitions(machine),
            (STORAGE, "msft_volume"): lambda: cim_storage.volumes(machine),
            (TASK_SCHEDULER, "msft_scheduledtask"): self._tasks,
            (VOLUME_ENCRYPTION, "win32_encryptablevolume"): self._encryptable_volumes,
            (CCM, "sms_client"): self._client,
        }

    # --- the provider's verbs

    def _check(self, namespace: str, class_name: str) -> None:
        """Fault what this environment lacks although the schema knows it."""
        pe = self._machine.environment is Environment.WINDOWS_PE
        if (pe and namespace not in _PE_NAMESPACES) or (namespace.startswith(CCM) and not self._client_installed()):
            raise CimError(faults.WBEM_E_INVALID_NAMESPACE, f"Invalid namespace {namespace}")
        if pe and class_name.lower() in _NOT_IN_PE:
            raise CimError(faults.WBEM_E_INVALID_CLASS, f"Invalid class {class_name}")

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances of a class."""
        self._check(namespace, class_name)
        if class_name.lower() in ("cim_datafile", "win32_directory"):
            # Lab rule: on Windows this takes minutes and is the caller's mistake.
            raise CimError(faults.WBEM_E_INVALID_QUERY, f"{class_name} is asked for without the full Name of one file")
        rows = self._rows.get((namespace, class_name.lower()))
        if rows is None:
            raise CimError(faults.WBEM_E_INVALID_CLASS, f"Invalid class {class_name}")
        return [Instance(class_name, row, namespace) for row in rows()]

    def query(self, namespace: str, query: wql.Query) -> Iterable[Instance]:
        """Answer a query; files are found by their Name, by one of several, or by Drive and Path together."""
        self._check(namespace, query.class_name)
        if query.class_name.lower() not in ("cim_datafile", "win32_directory"):
            return self.instances(namespace, query.class_name)
        names = _any_of(query.where, "name")
        if not names:
            return self._in_folder(namespace, query)
        found = []
        for name in names:
            with contextlib.suppress(CimError):
                found.append(self.get(namespace, query.class_name, {"Name": name}))
        return found

    def _in_folder(self, namespace: str, query: wql.Query) -> Iterable[Instance]:
        drive, path = _equals(query.where, "drive"), _equals(query.where, "path")
        if not drive or not path:
            return self.instances(namespace, query.class_name)
        files, folder = self._machine.files(SYSTEM), drive + path
        found = []
        for name in files.names(folder) if files.is_directory(folder) else []:
            # Folders among the files, and what goes away while it is looked at.
            with contextlib.suppress(CimError, Win32Problem):
                found.append(self._file(namespace, query.class_name, folder.rstrip("\\") + "\\" + name))
        return found

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one instance."""
        self._check(namespace, class_name)
        if class_name.lower() in ("cim_datafile", "win32_directory"):
            try:
                return self._file(namespace, class_name, selectors.get("Name", ""))
            except Win32Problem as problem:  # it went away while it was looked at, or is in use
                raise not_found(f"{class_name} {dict(selectors)}") from problem
        found = [
            instance
            for instance in self.instances(namespace, class_name)
            if all(_same(instance.properties.get(key), value) for key, value in selectors.items())
        ]
        if len(found) != 1:
            raise not_found(f"{class_name} {dict(selectors)}")
        return found[0]

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance:
        """Write an instance: only a user account's Disabled can be written here."""
        old = self.get(namespace, instance.class_name, selectors)
        disabled = instance.properties.get("Disabled")
        if instance.class_name.lower() != "win32_useraccount" or not isinstance(disabled, bool):
            raise CimError(faults.WBEM_E_NOT_SUPPORTED, f"{instance.class_name} cannot be written")
        self._machine.accounts.set_enabled(str(old["Name"]), not disabled)
        return self.get(namespace, instance.class_name, selectors)

    def create(self, namespace: str, instance: Instance) -> Reference:
        """Nothing can be created by an instance."""
        raise CimError(faults.WBEM_E_NOT_SUPPORTED, f"{instance.class_name} cannot be created")

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None:
        """Delete a user profile."""
        found = self.get(namespace, class_name, selectors)
        if class_name.lower() != "win32_userprofile":
            raise CimError(faults.WBEM_E_NOT_SUPPORTED, f"{class_name} cannot be deleted")
        files = self._machine.files(SYSTEM)
        path = str(found["LocalPath"])
        if files.is_directory(path):
            files.delete_tree(path)
        self._machine.live_registry.delete_key(rf"{_VERSION_KEY}\ProfileList\{found['SID']}")

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        """Call a method."""
        self._check(namespace, class_name)
        target = None
        if selectors or (selectors is not None and class_name == "Win32_OperatingSystem"):
            target = self.get(namespace, class_name, selectors)
        elif selectors is not None:
            found = list(self.instances(namespace, class_name))
            target = found[0] if len(found) == 1 else None
        try:
            return self._methods.call(class_name, method, target, arguments)
        except Win32Problem as problem:
            return {"ReturnValue": problem.code}

    # --- cimv2

    def _registry_text(self, key: str, name: str) -> str:
        return self._machine.live_registry.get_string(key, name) or ""

    def _operating_system(self) -> Rows:
        machine = self._machine
        build = self._registry_text(_VERSION_KEY, "CurrentBuildNumber") or self._registry_text(_VERSION_KEY, "CurrentBuild")
        kind = self._registry_text(r"HKLM\SYSTEM\CurrentControlSet\Control\ProductOptions", "ProductType")
        language = self._registry_text(r"HKLM\SYSTEM\CurrentControlSet\Control\Nls\Language", "InstallLanguage") or "0409"
        languages = machine.live_registry.find(r"HKLM\SYSTEM\CurrentControlSet\Control\MUI\UILanguages")
        memory = machine.parts.memory_mb * 1024
        yield {
            "SystemDrive": machine.system_drive,
            "LastBootUpTime": machine.booted,
            "LocalDateTime": machine.clock.now(),
            "Version": f"10.0.{build}",
            "BuildNumber": build,
            "Caption": self._registry_text(_VERSION_KEY, "ProductName"),
            "CSName": machine.name,
            "ProductType": {"LanmanNT": 2, "ServerNT": 3}.get(kind, 1),
            "OperatingSystemSKU": {"Enterprise": 4, "Professional": 48, "ServerStandard": 7, "ServerDatacenter": 8}.get(
                self._registry_text(_VERSION_KEY, "EditionID"), 4
            ),
            "OSLanguage": int(language, 16),
            "OSArchitecture": "64-bit",
            "WindowsDirectory": machine.windows,
            "MUILanguages": list(languages.subkeys) if languages else ["en-US"],
            "TotalVisibleMemorySize": memory,
            "FreePhysicalMemory": memory * 3 // 4,
        }

    def _computer_system(self) -> Rows:
        machine = self._machine
        joined, name = cim_methods.membership(machine)
        yield {
            "Name": machine.name,
            "Manufacturer": machine.parts.manufacturer,
            "Model": machine.parts.model,
            "SystemFamily": "Lab",
            "SystemSKUNumber": "LAB-1",
            "PartOfDomain": joined,
            "Domain": name,
            "Workgroup": None if joined else name,
            "DomainRole": 1 if joined else 0,
            "TotalPhysicalMemory": machine.parts.memory_mb * 1024 * 1024,
            "HypervisorPresent": False,
            "PCSystemType": 1,
            "UserName": None,
        }

    def _product(self) -> Rows:
        parts = self._machine.parts
        yield {
            "IdentifyingNumber": parts.serial,
            "Name": parts.model,
            "Version": "1.0",
            "UUID": parts.uuid,
            "Vendor": parts.manufacturer,
        }

    def _bios(self) -> Rows:
        parts = self._machine.parts
        yield {
            "SerialNumber": parts.serial,
            "SMBIOSBIOSVersion": "LAB 1.0",
            "Manufacturer": parts.manufacturer,
            "Version": "LAB - 1",
        }

    def _enclosure(self) -> Rows:
        yield {
            "Tag": "System Enclosure 0",
            "SMBIOSAssetTag": "",
            "ChassisTypes": [3],
            "SerialNumber": self._machine.parts.serial,
        }

    def _processor(self) -> Rows:
        yield {
            "DeviceID": "CPU0",
            "Name": "Goldimage Lab CPU",
            "Architecture": 9,
            "AddressWidth": 64,
            "MaxClockSpeed": 2400,
            "NumberOfCores": 2,
        }

    def _network_adapters(self) -> Rows:
        for index, mac in enumerate(self._machine.parts.macs):
            yield {
                "DeviceID": str(index + 1),
                "Name": "Goldimage Lab Network Adapter",
                "MACAddress": mac.upper(),
                "PhysicalAdapter": True,
                "NetEnabled": True,
                "NetConnectionID": "Ethernet" if index == 0 else f"Ethernet {index + 1}",
                "PNPDeviceID": f"PCI\\VEN_1AF4&DEV_1041\\{index}",
                "Index": index + 1,
                "InterfaceIndex": index + 4,
                "GUID": f"{{4d36e972-0000-0000-0000-{mac.replace(':', '').lower()}}}",
                "AdapterType": "Ethernet 802.3",
            }

    def _network_configurations(self) -> Rows:
        machine = self._machine
        for index, mac in enumerate(machine.parts.macs):
            own = index == 0 and bool(machine.address)
            static = machine.static_network.get(mac.lower()) or {}
            yield {
                "Index": index + 1,
                "InterfaceIndex": index + 4,
                "MACAddress": mac.upper(),
                "IPEnabled": own,
                "DHCPEnabled": not static,
                "DHCPServer": "127.0.0.1" if own and not static else None,
                "IPAddress": [machine.address] if own else None,
                "IPSubnet": ["255.255.255.0"] if own else None,
                "DefaultIPGateway": [static["gateway"]] if static.get("gateway") else None,
                "DNSServerSearchOrder": list(static.get("dns") or ["127.0.0.1"]) if own else None,
                "DNSDomain": static.get("dns_domain") or None,
                "DNSDomainSuffixSearchOrder": None,
                "TcpipNetbiosOptions": 0,
                "Description": "Goldimage Lab Network Adapter",
            }

    def _devices(self) -> Rows:
        machine = self._machine
        for device in machine.parts.devices:
            key = rf"HKLM\SYSTEM\CurrentControlSet\Enum\{device.id}"
            installed = self._registry_text(key, "Service")
            service = installed or device.inbox_service
            problem = self._device_problem(installed) if installed or not service else 0
            yield {
                "DeviceID": device.id,
                "Name": device.name,
                "HardwareID": list(device.hardware_ids) or None,
                "CompatibleID": list(device.compatible_ids) or None,
                "PNPClass": device.pnp_class or None,
                "ClassGuid": self._registry_text(key, "ClassGUID") or None,
                "ConfigManagerErrorCode": problem,
                "Service": service or None,
                "Manufacturer": device.manufacturer or None,
                "Status": "Error" if problem else "OK",
            }

    def _device_problem(self, service: str) -> int:
        """Return Device Manager's code: 28 no driver, 39 its service is not there, 32 its service is disabled [doc: wdd cm-prob codes]."""
        key = self._machine.live_registry.find(rf"HKLM\SYSTEM\CurrentControlSet\Services\{service}") if service else None
        if key is None:
            return 39 if service else 28
        return 32 if key.get_dword("", "Start") == _DISABLED else 0

    def _services(self) -> Rows:
        for service in self._machine.services.list():
            yield {
                "Name": service.name,
                "DisplayName": service.display_name,
                "State": service.state,
                "StartMode": _START_MODES.get(service.start, "Manual"),
                "Started": service.state == "Running",
                "PathName": service.path,
                "StartName": service.account,
                "ProcessId": service.process_id,
                "ExitCode": 0,
            }

    def _processes(self) -> Rows:
        for process in self._machine.processes.list():
            yield {
                "Handle": str(process.id),
                "ProcessId": process.id,
                "Name": process.name,
                "CommandLine": process.command_line,
                "ExecutablePath": process.executable or None,
                "CreationDate": process.started,
                "ParentProcessId": process.parent,
                "SessionId": 0,
            }

    def _volumes(self) -> Rows:
        machine = self._machine
        system = machine.windows_volume()
        for volume in cim_storage.all_volumes(machine):
            yield {
                "DeviceID": volume.path,
                "DriveLetter": f"{volume.letter}:" if volume.letter else None,
                "FileSystem": volume.file_system,
                "Label": volume.label or None,
                "Capacity": volume.capacity,
                "FreeSpace": max(0, volume.capacity - used_space(volume.root)),
                "DriveType": 3,
                "BootVolume": volume is system,
                "SystemVolume": cim_storage.is_system_volume(machine, volume),
                "DirtyBitSet": volume.dirty,
                "Name": f"{volume.letter}:\\" if volume.letter else volume.path,
                "SerialNumber": volume.serial,
                "PageFilePresent": volume is system and machine.environment is Environment.FULL_OS,
            }

    def _user_accounts(self) -> Rows:
        for account in self._machine.accounts.list():
            yield {
                "Domain": self._machine.name,
                "Name": account.name,
                "SID": account.sid,
                "LocalAccount": True,
                "Disabled": not account.enabled,
                "PasswordRequired": True,
                "FullName": account.full_name,
            }

    def _user_profiles(self) -> Rows:
        profiles = self._machine.live_registry.find(rf"{_VERSION_KEY}\ProfileList")
        for sid, key in profiles.subkeys.items() if profiles else ():
            path = key.get_string("", "ProfileImagePath") or ""
            yield {"SID": sid, "LocalPath": path, "Loaded": False, "Special": len(sid) < 12}

    def _updates(self) -> Rows:
        packages = self._machine.live_registry.find(_PACKAGES)
        for name, key in packages.subkeys.items() if packages else ():
            match = re.search(r"KB\d{6,8}", name, re.IGNORECASE)
            if match and key.get_dword("", "CurrentState") == _INSTALLED_PACKAGE:
                yield {
                    "CSName": self._machine.name,
                    "HotFixID": match[0].upper(),
                    "ServicePackInEffect": "",
                    "InstalledOn": "",
                    "Description": "Update",
                }

    def _licensing(self) -> Rows:
        key = rf"{_VERSION_KEY}\SoftwareProtectionPlatform"
        left = self._machine.live_registry.get_dword(key, "RemainingRearmCount")
        yield {"Version": "10.0", "RemainingWindowsReArmCount": 0 if left is None else left}

    def _file(self, namespace: str, class_name: str, path: str) -> Instance:
        files = self._machine.files(SYSTEM)
        plain = path.replace("/", "\\")
        is_right = files.is_file(plain) if class_name.lower() == "cim_datafile" else files.is_directory(plain)
        if plain.startswith("\\\\") or not is_right:
            raise not_found(f"{class_name} {path}")
        folder, dummy, name = plain.rpartition("\\")
        stem, dummy, extension = name.rpartition(".")
        row: dict[str, Value] = {
            "Name": plain.lower(),
            "Drive": plain[:2].lower(),
            "Path": f"{folder[2:].lower()}\\",
            "FileName": (stem or name).lower(),
        }
        if class_name.lower() == "cim_datafile":
            modified = files.modified(plain)
            row |= {
                "Extension": extension.lower() if stem else "",
                "FileSize": files.size(plain),
                "Version": cim_storage.file_version(files, plain),
                "LastModified": modified,
                "CreationDate": modified,
            }
        return Instance(class_name, row, namespace)

    # --- other namespaces

    def _tasks(self) -> Rows:
        for task in self._machine.scheduled_tasks.list():
            yield {
                "TaskPath": task.path,
                "TaskName": task.name,
                "URI": f"{task.path}{task.name}",
                "Author": None,
                "State": 4 if task.process_id else 3,
            }

    def _encryptable_volumes(self) -> Rows:
        windows = self._machine.windows_volume()
        for volume in cim_storage.all_volumes(self._machine):
            if volume.file_system == "NTFS":
                encrypted = int(volume is windows and cim_methods.is_encrypted(self._machine))
                yield {
                    "DeviceID": volume.path,
                    "DriveLetter": f"{volume.letter}:" if volume.letter else None,
                    "PersistentVolumeID": "",
                    "ProtectionStatus": encrypted,
                    "ConversionStatus": encrypted,
                    "EncryptionMethod": 6 * encrypted,
                }

    def _client_installed(self) -> bool:
        return self._machine.services.find("CcmExec") is not None

    def _client(self) -> Rows:
        version = self._registry_text(r"HKLM\SOFTWARE\Microsoft\SMS\Mobile Client", "ProductVersion")
        yield {"ClientVersion": version}


def _same(value: Any, text: str) -> bool:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() == text
    return str(value).lower() == text.lower()


def _any_of(condition: object, name: str) -> list[str]:
    """Return the texts one of which a query wants a property to equal; none where a part of an OR speaks of something else."""
    if isinstance(condition, wql.Combination) and condition.operator.upper() == "OR":
        left, right = _any_of(condition.left, name), _any_of(condition.right, name)
        return [*left, *right] if left and right else []
    wanted = _equals(condition, name)
    return [wanted] if wanted else []


def _equals(condition: object, name: str) -> str | None:
    """Return the text that a query wants a property to equal, through AND."""
    if isinstance(condition, wql.Comparison):
        matches = condition.name.lower() == name and condition.operator == "="
        return str(condition.literal) if matches else None
    if isinstance(condition, wql.Combination) and condition.operator.upper() == "AND":
        return _equals(condition.left, name) or _equals(condition.right, name)
    return None
