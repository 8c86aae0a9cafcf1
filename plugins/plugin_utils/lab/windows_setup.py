# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Windows Setup at the first starts of an applied image: specialize, a restart, OOBE. Only hives and the answer file decide.

A bad answer file stops Setup for good (the reason is in ``Windows\Panther\setuperr.log``); without accounts in an answer file OOBE
waits for a person. Both are states in which the computer answers nothing [doc: cp/windows-setup-automation-overview; knowledge].
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass

from ..windows import answer_file
from ..windows.answer_file import AnswerFile, AnswerFileError, Interface
from ..windows.drivers import store_architecture
from ..windows.inf import Inf, InfError, TargetWindows
from ..windows.registry_hive import Value
from ..windows.sysprep import COMPLETE, UNDEPLOYABLE
from .accounts import new_machine_sid
from .cim_methods import set_membership
from .firmware import system_partition
from .machine import SYSTEM, LabMachine
from .tools.interface import Session, Win32Problem

_SETUP = r"HKLM\SYSTEM\Setup"
_PASSES = rf"{_SETUP}\Status\UnattendPasses"
_STATE = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
_CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control"
_VERSION = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_INTERFACES = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces"
_ENUM = r"HKLM\SYSTEM\CurrentControlSet\Enum"
_SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
#: Lab rule: the value of a pass that is done.
_DONE = 9
_ARCHITECTURE = "amd64"
_PANTHER = r"C:\Windows\Panther"
#: Where Setup looks for an answer file, after the value UnattendFile.
_PLACES = (rf"{_PANTHER}\unattend.xml", r"C:\Windows\System32\Sysprep\unattend.xml", r"C:\unattend.xml")
_SETUP_COMPLETE = r"C:\Windows\Setup\Scripts\SetupComplete.cmd"
_COMMAND_SECONDS = 600.0
#: A driver's file that a service needs must be in the store; what INF offers for a device is ranked by where its id stands.
_STORE = r"C:\Windows\System32\DriverStore\FileRepository"


class SetupStopped(Exception):
    """Setup does not go on. ``state`` names why: ``setup_failed`` or ``oobe_waits``."""

    def __init__(self, state: str, text: str) -> None:
        """Take the state's name and what is on the screen."""
        super().__init__(text)
        self.state = state


@dataclass(frozen=True)
class Outcome:
    """What a start of Setup led to: ``restart`` asked for, or finished."""

    restart: bool


def is_pending(machine: LabMachine) -> bool:
    """Tell whether this start belongs to Setup."""
    return bool(machine.live_registry.get_dword(_SETUP, "SetupType"))


def is_in_oobe(machine: LabMachine) -> bool:
    """Tell whether specialize is done: services of Windows run already while Setup goes on."""
    return machine.live_registry.get_dword(_PASSES, "specialize") == _DONE


def set_image_state(machine: LabMachine, state: str) -> None:
    """Write the image state in both places."""
    machine.live_registry.set(_STATE, "ImageState", Value.sz(state))
    files = machine.files(SYSTEM)
    files.make_directories(r"C:\Windows\Setup\State")
    files.write(r"C:\Windows\Setup\State\State.ini", f"[State]\r\nImageState={state}\r\n".encode())


class Setup:
    """One start of Setup."""

    def __init__(self, machine: LabMachine) -> None:
        """Take the machine as it started."""
        self._machine = machine
        self._registry = machine.live_registry
        self._files = machine.files(SYSTEM)
        self._log: list[str] = []

    def run(self) -> Outcome:
        """Go on with Setup. Raises SetupStopped."""
        file = self._answer_file()
        set_image_state(self._machine, UNDEPLOYABLE)
        self._wait(self._machine.settings.setup_seconds / 2)
        if self._registry.get_dword(_PASSES, "specialize") != _DONE:
            with self._registry.batch():
                self._specialize(file)
            self._run_commands(file)
            self._registry.set(_PASSES, "specialize", Value.dword(_DONE))
            self._say("specialize is done, the computer restarts")
            return Outcome(restart=True)
        with self._registry.batch():
            self._oobe(file)
        self._finish(file)
        return Outcome(restart=False)

    # --- the answer file

    def _answer_file(self) -> AnswerFile:
        named = self._registry.get_string(_SETUP, "UnattendFile")
        place = next((p for p in ((named,) if named else ()) + _PLACES if self._files.is_file(p)), None)
        if place is None:
            return AnswerFile()
        try:
            file = answer_file.parse(self._files.read(place))
        except AnswerFileError as problem:
            raise self._failed(f"The answer file {place} is invalid: {problem}") from problem
        problems = answer_file.content_problems(file, _ARCHITECTURE)
        if problems:
            raise self._failed(f"Windows could not parse or process the unattend answer file {place}: {'; '.join(problems)}")
        self._say(f"answer file {place}")
        if place != _PLACES[0]:
            self._files.make_directories(_PANTHER)
            self._files.write(_PLACES[0], self._files.read(place))
        return file

    def _failed(self, text: str) -> SetupStopped:
        self._say(text)
        for folder in (_PANTHER, rf"{_PANTHER}\UnattendGC"):
            self._files.make_directories(folder)
            self._files.write(rf"{folder}\setuperr.log", f"{text}\r\n".encode())
        set_image_state(self._machine, UNDEPLOYABLE)
        return SetupStopped("setup_failed", text)

    def _say(self, text: str) -> None:
        self._log.append(text)
        self._machine.console(f"Setup: {text}")
        folder = rf"{_PANTHER}\UnattendGC"
        self._files.make_directories(folder)
        with self._files.open_write(rf"{folder}\setupact.log", append=True) as log:
            log.write(f"{text}\r\n".encode())

    def _wait(self, seconds: float) -> None:
        if self._machine.wait(seconds):
            raise SetupStopped("power_lost", "The computer was switched off during Setup.")

    # --- specialize

    def _specialize(self, file: AnswerFile) -> None:
        registry = self._registry
        server = registry.get_string(_VERSION, "InstallationType") == "Server"
        name = file.computer_name(_ARCHITECTURE)
        if not name or name == "*":
            letters = string.ascii_uppercase + string.digits
            prefix, count = ("WIN-", 11) if server else ("DESKTOP-", 7)
            name = prefix + "".join(secrets.choice(letters) for dummy in range(count))
        for place in ("ComputerName", "ActiveComputerName"):
            registry.set(rf"{_CONTROL}\ComputerName\{place}", "ComputerName", Value.sz(name.upper()))
        registry.set(r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters", "Hostname", Value.sz(name))
        self._machine.name = name.upper()
        self._machine.accounts.set_machine_sid(new_machine_sid())
        for element, value in (("RegisteredOwner", "RegisteredOwner"), ("RegisteredOrganization", "RegisteredOrganization")):
            text = file.shell_setup(_ARCHITECTURE, element)
            if text:
                registry.set(_VERSION, value, Value.sz(text))
        zone = file.shell_setup(_ARCHITECTURE, "TimeZone")
        if zone:
            registry.set(rf"{_CONTROL}\TimeZoneInformation", "TimeZoneKeyName", Value.sz(zone))
        for interface in file.interfaces(_ARCHITECTURE):
            self._network(interface)
        self._join(file)
        self._install_drivers()
        self._boot_entry()

    def _network(self, interface: Interface) -> None:
        mac = interface.identifier.replace("-", ":").lower()
        if mac not in {m.lower() for m in self._machine.parts.macs}:
            self._say(f"no network adapter {interface.identifier}: its settings are not used")
            return
        key = rf"{_INTERFACES}\{mac}"
        self._registry.set(key, "EnableDHCP", Value.dword(int(interface.dhcp)))
        self._registry.set(key, "IPAddress", Value.multi_sz(list(interface.addresses)))
        self._registry.set(key, "DefaultGateway", Value.multi_sz([gateway for gateway, dummy in interface.gateways]))
        self._registry.set(key, "NameServer", Value.sz(",".join(interface.dns_servers)))
        self._registry.set(key, "Domain", Value.sz(interface.dns_domain))

    def _join(self, file: AnswerFile) -> None:
        wanted = file.membership(_ARCHITECTURE)
        if not wanted.domain:
            set_membership(self._machine, workgroup=wanted.workgroup or "WORKGROUP")
            return
        user = f"{wanted.account_domain}\\{wanted.account_user}" if wanted.account_domain else wanted.account_user
        try:
            self._machine.network.join(wanted.domain, user, wanted.account_password, self._machine.name)
        except Win32Problem as problem:
            # A failed join does not stop Setup: the computer ends in a workgroup [knowledge].
            self._say(f"joining {wanted.domain} failed with {problem.code}")
            set_membership(self._machine, workgroup="WORKGROUP")
            return
        known = self._machine.network.domain
        set_membership(self._machine, domain=known.name if known else wanted.domain)

    def _install_drivers(self) -> None:
        """Give each device the best driver of the driver store: the first of its ids that an INF names."""
        build = int(self._registry.get_string(_VERSION, "CurrentBuildNumber") or 0)
        server = self._registry.get_string(_VERSION, "InstallationType") == "Server"
        target = TargetWindows(_ARCHITECTURE, (10, 0), build, 3 if server else 1)
        models = self._store_models(target)
        for device in self._machine.parts.devices:
            if device.inbox_service:
                continue
            for identifier in (*device.hardware_ids, *device.compatible_ids):
                found = models.get(identifier.lower())
                if found:
                    folder, service, class_guid = found
                    self._install_driver(device.id, folder, service, class_guid)
                    break

    def _store_models(self, target: TargetWindows) -> Mapping[str, tuple[str, str, str]]:
        """Return id → (store folder, service, class) of all drivers in the store."""
        found: dict[str, tuple[str, str, str]] = {}
        if not self._files.is_directory(_STORE):
            return found
        ending = f"_{store_architecture(_ARCHITECTURE)}_"
        for folder in self._files.names(_STORE):
            name = next((n for n in self._files.names(rf"{_STORE}\{folder}") if n.lower().endswith(".inf")), None)
            if name is None or ending not in folder.lower():
                continue
            try:
                inf = Inf(self._files.read(rf"{_STORE}\{folder}\{name}"))
                for model in inf.models(target):
                    section = inf.install_section(model.install_section, _ARCHITECTURE)
                    services = [e for e in inf.entries(f"{section}.Services") if e.key.lower() == "addservice"]
                    service = services[0].value(0) if services else "lab"
                    for identifier in (model.hardware_id, *model.compatible_ids):
                        found.setdefault(identifier.lower(), (folder, service, inf.version.class_guid))
            except InfError:
                continue
        return found

    def _install_driver(self, device: str, folder: str, service: str, class_guid: str) -> None:
        key = rf"{_ENUM}\{device}"
        self._registry.set(key, "Service", Value.sz(service))
        self._registry.set(key, "ClassGUID", Value.sz(class_guid))
        self._registry.set(rf"{_SERVICES}\{service}", "Type", Value.dword(1))
        self._registry.set(rf"{_SERVICES}\{service}", "Start", Value.dword(3))
        drivers = r"C:\Windows\System32\drivers"
        self._files.make_directories(drivers)
        for name in self._files.names(rf"{_STORE}\{folder}"):
            if name.lower().endswith(".sys"):
                self._files.copy(rf"{_STORE}\{folder}\{name}", rf"{drivers}\{name}")
        self._say(f"driver {folder} for {device}")

    def _boot_entry(self) -> None:
        """Setup makes the disk what boots first on UEFI."""
        found = system_partition(self._machine.disks, self._machine.firmware.kind)
        if self._machine.firmware.kind == "uefi" and found is not None:
            self._machine.firmware.add_windows_entry(found[0].guid)

    def _run_commands(self, file: AnswerFile) -> None:
        for command in sorted(file.run_synchronous("specialize", _ARCHITECTURE), key=lambda c: c.order):
            self._say(f"RunSynchronous {command.order} ended with {self._run(command.line)}")

    def _run(self, line: str) -> int | None:
        process = self._machine.processes.spawn(line, Session("SYSTEM", id="setup"), directory=r"C:\Windows\System32")
        for dummy in range(int(_COMMAND_SECONDS * 20)):
            if process.exit_code is not None or self._machine.stopped.wait(0.05):
                break
        return process.exit_code

    # --- OOBE

    def _oobe(self, file: AnswerFile) -> None:
        accounts = self._machine.accounts
        password = file.administrator_password(_ARCHITECTURE)
        wanted = file.local_accounts(_ARCHITECTURE)
        if password is None and not wanted:
            text = "OOBE waits: the answer file has no account for anybody to log on with"
            self._say(text)
            raise SetupStopped("oobe_waits", text)
        if password is not None:
            administrator = next(a for a in accounts.list() if a.rid == 500)
            accounts.set_password(administrator.name, password)
            accounts.set_enabled(administrator.name, True)
        for account in wanted:
            if accounts.find(account.name) is None:
                accounts.create(account.name, account.password)
            else:
                accounts.set_password(account.name, account.password)
            for group in account.groups:
                try:
                    accounts.add_to_group(account.name, group)
                except Win32Problem as problem:
                    if problem.code != 1378:
                        raise self._failed(f"The group {group} of the account {account.name} does not exist") from problem
        locales = file.locales(_ARCHITECTURE)
        if locales.user_locale:
            self._registry.set(r"HKU\.DEFAULT\Control Panel\International", "LocaleName", Value.sz(locales.user_locale))

    def _finish(self, file: AnswerFile) -> None:
        if self._files.is_file(_SETUP_COMPLETE):
            self._say(f"SetupComplete.cmd ended with {self._run(rf'cmd.exe /c {_SETUP_COMPLETE}')}")
        self._wait(self._machine.settings.setup_seconds / 2)
        registry = self._registry
        with registry.batch():
            for name in ("SystemSetupInProgress", "SetupType", "OOBEInProgress", "SetupPhase"):
                registry.set(_SETUP, name, Value.dword(0))
            registry.set(_SETUP, "CmdLine", Value.sz(""))
            registry.set(_PASSES, "oobeSystem", Value.dword(_DONE))
            registry.set(rf"{_SETUP}\Status\ChildCompletion", "setup.exe", Value.dword(3))
            registry.set(rf"{_SETUP}\Status\SysprepStatus", "GeneralizationState", Value.dword(7))
        if self._files.is_file(_PLACES[0]):
            # Secrets are blanked in the cached copy only [doc: cp/windows-setup-automation-overview].
            self._files.write(_PLACES[0], file.masked().encode())
        set_image_state(self._machine, COMPLETE)
        self._say("Setup is finished")
