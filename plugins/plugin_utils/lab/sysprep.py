# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Sysprep's generalize does to the state of a running lab computer, and what it refuses [windows-mechanics 13, 2.7]."""

from __future__ import annotations

from ..windows import answer_file
from ..windows.answer_file import AnswerFileError
from ..windows.boot_store import BOOT_MANAGER, TYPE_OS_LOADER, BootStoreError, RamdiskDevice
from ..windows.registry_hive import Value
from ..windows.sysprep import COMPLETE, GENERALIZED, UNDEPLOYABLE
from .cim_methods import is_encrypted, membership
from .machine import SYSTEM, LabMachine
from .tools.interface import Win32Problem
from .windows_setup import set_image_state

_SETUP = r"HKLM\SYSTEM\Setup"
_VERSION = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_LICENSING = rf"{_VERSION}\SoftwareProtectionPlatform"
_STATE = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
_CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control"
_FOLDER = r"C:\Windows\System32\Sysprep"
_TAG = rf"{_FOLDER}\Sysprep_succeeded.tag"
_PENDING = (
    r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
)
_RESERVES = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\ReserveManager"
_APPS = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Appx\AppxAllUserStore"
_GENERALIZE_SECONDS = 30.0


class SysprepRefused(Exception):
    """Validation failed: nothing was changed. ``code`` is what the log shows."""

    def __init__(self, code: int, text: str) -> None:
        """Take the code and the log's line."""
        super().__init__(text)
        self.code = code


def _log(machine: LabMachine, name: str, text: str) -> None:
    files = machine.files(SYSTEM)
    files.make_directories(rf"{_FOLDER}\Panther")
    with files.open_write(rf"{_FOLDER}\Panther\{name}", append=True) as log:
        log.write(f"{text}\r\n".encode())


def _option(machine: LabMachine, unattend: str, component: str, name: str) -> bool:
    """Return a switch of the generalize pass."""
    if not unattend:
        return False
    try:
        file = answer_file.parse(machine.files(SYSTEM).read(unattend))
    except (AnswerFileError, Win32Problem) as problem:
        raise SysprepRefused(0x80070057, f"The answer file {unattend} cannot be used: {problem}") from problem
    return file.text("generalize", component, "amd64", name).strip().lower() in ("1", "true")


def check(machine: LabMachine, unattend: str = "") -> None:
    """Validate as Sysprep does before it changes anything. Raises SysprepRefused."""
    registry = machine.live_registry
    joined, domain = membership(machine)
    if joined:
        # Lab rule: Windows itself would leave the domain; ConfigMgr's step refuses.
        raise SysprepRefused(0x8007054B, f"The computer is a member of the domain {domain}.")
    state = registry.get_string(_STATE, "ImageState")
    if state != COMPLETE or registry.get_dword(_SETUP, "SystemSetupInProgress"):
        raise SysprepRefused(0x8007139F, f"The image state is {state}.")
    for key in _PENDING:
        if registry.find(key) is not None:
            raise SysprepRefused(0x800F0816, "There are one or more Windows updates that require a reboot.")
    upgraded = registry.find(_SETUP)
    if upgraded is not None and any(name.lower().startswith("source os") for name in upgraded.subkeys):
        raise SysprepRefused(0x8007139F, "Sysprep cannot run on an upgraded operating system.")
    if is_encrypted(machine):
        raise SysprepRefused(0x80310039, "BitLocker-Sysprep: BitLocker is on for the OS volume. Turn BitLocker off to run Sysprep.")
    if registry.get_dword(_RESERVES, "ActiveScenario"):
        raise SysprepRefused(0x800F0975, "Reserved storage is in use. Wait until servicing operations complete.")
    for package in _unprovisioned(machine):
        text = f"Package {package} was installed for a user, but not provisioned for all users."
        raise SysprepRefused(0x80073CF2, f"{text} This package will not function properly in the sysprep image.")
    skip = _option(machine, unattend, "Microsoft-Windows-Security-SPP", "SkipRearm")
    if not skip and not registry.get_dword(_LICENSING, "RemainingRearmCount"):
        raise SysprepRefused(0xC004D307, "The maximum allowed number of re-arms has been exceeded.")


def _unprovisioned(machine: LabMachine) -> list[str]:
    """Return the app packages that a user has and the computer does not provision [knowledge: where AppX keeps both]."""
    store = machine.live_registry.find(_APPS)
    users = [key for name, key in store.subkeys.items() if name.upper().startswith("S-1-")] if store else []
    provisioned = store.find("Applications") if store else None
    known = {name.lower() for name in provisioned.subkeys} if provisioned else set()
    return sorted({package for user in users for package in user.subkeys if package.lower() not in known})


def generalize(machine: LabMachine, unattend: str = "") -> None:
    """Generalize the running Windows. Raises SysprepRefused, with the reason in setuperr.log and nothing changed."""
    try:
        check(machine, unattend)
    except SysprepRefused as refused:
        line = f"[0x0f0082] SYSPRP {refused} hr = 0x{refused.code:08x}"
        _log(machine, "setuperr.log", line)
        _log(machine, "setupact.log", line)
        raise
    skip = _option(machine, unattend, "Microsoft-Windows-Security-SPP", "SkipRearm")
    keep_devices = _option(machine, unattend, "Microsoft-Windows-PnpSysprep", "PersistAllDeviceInstalls")
    files = machine.files(SYSTEM)
    set_image_state(machine, UNDEPLOYABLE)
    if machine.wait(_GENERALIZE_SECONDS):
        return
    if unattend:
        files.make_directories(r"C:\Windows\Panther")
        files.copy(unattend, r"C:\Windows\Panther\unattend.xml")
    _forget(machine, keep_devices=keep_devices)
    _reset_boot_store(machine)
    registry = machine.live_registry
    if not skip:
        left = registry.get_dword(_LICENSING, "RemainingRearmCount") or 0
        registry.set(_LICENSING, "RemainingRearmCount", Value.dword(max(0, left - 1)))
    set_image_state(machine, GENERALIZED)
    files.write(_TAG, b"")
    _log(machine, "setupact.log", "SYSPRP Sysprep_Generalize: done")


def _forget(machine: LabMachine, *, keep_devices: bool) -> None:
    """Remove what belongs to this computer, and let the next start be Setup's."""
    registry = machine.live_registry
    with registry.batch():
        machine.accounts.set_machine_sid("")
        registry.set(rf"{_CONTROL}\ComputerName\ComputerName", "ComputerName", Value.sz("MINWINPC"))
        interfaces = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces"
        if not keep_devices:
            for key in (r"HKLM\SYSTEM\CurrentControlSet\Enum", interfaces):
                found = registry.find(key)
                for name in list(found.subkeys) if found else []:
                    registry.delete_key(rf"{key}\{name}")
        now = machine.clock.now().strftime("%a %b %d %H:%M:%S %Y")
        registry.set(_SETUP, "CloneTag", Value.multi_sz([now]))
        for name, number in {"SystemSetupInProgress": 1, "SetupType": 2, "OOBEInProgress": 1, "SetupPhase": 4}.items():
            registry.set(_SETUP, name, Value.dword(number))
        registry.set(_SETUP, "CmdLine", Value.sz(r"oobe\windeploy.exe"))
        registry.set(rf"{_SETUP}\Status\SysprepStatus", "GeneralizationState", Value.dword(4))
        passes = rf"{_SETUP}\Status\UnattendPasses"
        if registry.find(passes) is not None:
            registry.delete_key(passes)


def _reset_boot_store(machine: LabMachine) -> None:
    """Sysprep_Generalize_Bcd rewrites the store: entries that start from a RAM disk and the one-time sequence are gone."""
    try:
        store = machine.boot_store(None, SYSTEM)
    except Win32Problem:
        return
    for guid, kind in store.objects.items():
        if kind == TYPE_OS_LOADER and isinstance(store.get(guid, "device"), RamdiskDevice):
            store.delete(guid)
    store.remove(BOOT_MANAGER, "bootsequence")
    windows = next((g for g, kind in store.objects.items() if kind == TYPE_OS_LOADER), None)
    if windows is not None and store.default is None:
        try:
            store.set_default(windows)
        except BootStoreError:
            machine.console("Sysprep: the boot store has no default entry")
    machine.save_boot_store(None, store, SYSTEM)
