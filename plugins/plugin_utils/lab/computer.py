# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab computer from power button to power button: off, firmware, Windows PE or Setup or Windows, and again."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..windows.computer import Environment
from ..windows.registry_hive import Value
from ..wsman.known import known
from . import firmware, windows_pe, windows_setup
from .disks import LabDisks
from .file_system import find_on_volume
from .firmware import BootFailure, BootTarget, Nvram
from .full_os import FullOsEndpoint
from .hardware import Hardware, load, write_json
from .machine import LabMachine, Settings, boot_store_key, record_firmware
from .network import ComputerNetwork, LabNetwork
from .registry import LabRegistry
from .tools.interface import Win32Problem
from .windows_setup import SetupStopped

_INTERFACES = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces"
_NAME = r"HKLM\SYSTEM\CurrentControlSet\Control\ComputerName"


class _Endpoint(Protocol):
    def stop(self) -> None: ...


class LabComputer:
    """One computer in its folder. All public methods may be called from any thread."""

    def __init__(self, folder: Path, network: LabNetwork, settings: Settings) -> None:
        """Take the folder with ``computer.json``."""
        self.folder = folder
        self.hardware: Hardware = load(folder)
        self.state = "off"
        #: What is on the screen where the computer is stuck.
        self.message = ""
        self.machine: LabMachine | None = None
        self._network = network
        self._settings = settings
        self._lock = threading.RLock()
        self._endpoint: _Endpoint | None = None
        self._wake = threading.Event()
        self._wanted = ""
        self._thread: threading.Thread | None = None
        self._console_lock = threading.Lock()

    # --- for the user of the lab

    def power_on(self) -> None:
        """Press the power button of a computer that is off."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._wanted = ""
            self._wake.clear()
            self._save_power(on=True)
            self._thread = threading.Thread(target=self._main, daemon=True, name=f"computer {self.hardware.name}")
            self._thread.start()

    def power_off(self, *, remember: bool = True) -> None:
        """Pull the plug. ``remember`` False leaves power.json as it is, as when the whole lab stops."""
        if remember:
            self._save_power(on=False)
        self._power("off")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(10)

    def was_on(self) -> bool:
        """Tell whether the computer was on when the lab stopped."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.folder / "power.json").read_text("utf-8")).get("on"))
        return False

    def _save_power(self, *, on: bool) -> None:
        write_json(self.folder / "power.json", {"schema": 1, "on": on, "state": self.state})

    def console(self, text: str) -> None:
        """Write into ``console.log``: what a person in front of the screen would see."""
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {text}\n"
        with self._console_lock, (self.folder / "console.log").open("a", encoding="utf-8") as log:
            log.write(line)

    # --- the life of the computer

    def _power(self, kind: str) -> None:
        with self._lock:
            if self._wanted != "off":  # nothing comes after the plug
                self._wanted = kind
            self._wake.set()

    def _goes_on(self) -> bool:
        """Take the power request; True where the computer starts again."""
        with self._lock:
            if self._wanted != "restart":
                return False
            self._wanted = ""
            self._wake.clear()
            return True

    def _enter(self, state: str, message: str = "") -> None:
        self.state, self.message = state, message
        self.console(f"state {state}{': ' + message if message else ''}")

    def _main(self) -> None:
        while True:
            try:
                self._start()
            except (BootFailure, SetupStopped) as stuck:
                self._enter(stuck.state, str(stuck))
            except Win32Problem as problem:
                self._enter("stop_error", f"Windows stopped: {problem}")
            except Exception:  # noqa: BLE001 - a defect of the lab must be seen, not hang a user's run
                self._enter("lab_defect", traceback.format_exc())
            self._wake.wait()
            self._tear_down()
            if not self._goes_on():
                break
        self._enter("off")
        if self._wanted == "shutdown":
            self._save_power(on=False)

    def _pause(self, seconds: float) -> bool:
        """Wait in lab seconds; True where the plug was pulled."""
        return self._wake.wait(seconds / self._settings.speed)

    def _start(self) -> None:
        self._enter("firmware")
        if self._pause(self._settings.boot_seconds):
            return
        disks = LabDisks(self.folder, self.hardware)
        nvram = Nvram(self.folder, self.hardware)
        target = firmware.power_on(disks, nvram, self.hardware)
        if target.kind == "windows_pe":
            self._start_windows_pe(disks, nvram, target)
        else:
            self._start_windows(disks, nvram, target)

    def _tear_down(self) -> None:
        with self._lock:
            endpoint, self._endpoint = self._endpoint, None
            machine, self.machine = self.machine, None
        if machine is not None:
            machine.halt()
        if endpoint is not None:
            endpoint.stop()

    def _machine(
        self,
        environment: Environment,
        disks: LabDisks,
        nvram: Nvram,
        registry: LabRegistry,
        root: Path,
        address: str,
    ) -> LabMachine:
        machine = LabMachine(
            environment,
            self.folder,
            self.hardware,
            disks=disks,
            nvram=nvram,
            network=ComputerNetwork(self._network),
            registry=registry,
            settings=self._settings,
            windows_root=root,
            power=self._power,
            console=self.console,
            address=address,
        )
        with self._lock:
            self.machine = machine
        return machine

    def _start_windows_pe(self, disks: LabDisks, nvram: Nvram, target: BootTarget) -> None:
        image = known(target.image)
        ram = self.folder / "ram"
        windows_pe.clear(ram)
        windows_pe.unpack(image, ram, self.hardware.memory_mb)
        disks.assign_all(None)
        disks.add_ram_disk("X", ram, windows_pe.ram_size(ram))
        config = find_on_volume(ram, r"Windows\System32\config")
        registry = LabRegistry(config, write_through=False, boot_store=None)
        record_firmware(registry, nvram.kind)
        address, static = windows_pe.choose_address(
            image,
            ram,
            self.hardware.macs,
            self.hardware.addresses.get("winpe", ""),
            staged=target.volume is not None,
        )
        machine = self._machine(Environment.WINDOWS_PE, disks, nvram, registry, ram, address)
        machine.static_network = static
        machine.boot_source = (image, target.volume)
        self._enter("windows_pe_starts")
        agent = windows_pe.serve(machine)
        self._endpoint = agent
        agent.start(ready=False)
        if self._pause(self._settings.hang_seconds):
            return
        agent.answer()
        self._enter("windows_pe", f"Windows PE answers on {address}:{agent.port}")

    def _start_windows(self, disks: LabDisks, nvram: Nvram, target: BootTarget) -> None:
        volume = known(target.volume)
        disks.assign_all(volume)
        config = find_on_volume(volume.root, r"Windows\System32\config")
        registry = LabRegistry(config, write_through=True, boot_store=lambda: boot_store_key(disks, nvram.kind))
        if registry.find(r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion") is None:
            raise BootFailure("0xc0000218", "STOP c0000218: the registry cannot load the hive SOFTWARE.")
        record_firmware(registry, nvram.kind)
        self._activate_name(registry)
        address, static = self._windows_address(registry)
        machine = self._machine(Environment.FULL_OS, disks, nvram, registry, volume.root, address)
        machine.static_network = static
        self._clear_pending(registry)
        machine.services.start_automatic()
        if windows_setup.is_pending(machine):
            self._enter("windows_setup")
            early = self._settings.answers_in_setup and windows_setup.is_in_oobe(machine)
            if early:
                self._listen(machine)
            try:
                outcome = windows_setup.Setup(machine).run()
            finally:
                # Lab rule: where Setup stops for good, nobody answers any more.
                self._stop_listening()
            if outcome.restart:
                self._power("restart")
                return
            if early and self._pause(self._settings.hang_seconds):
                return
            machine.address, machine.static_network = self._windows_address(registry)
            machine.services.start_automatic()
        self._listen(machine)
        registry.set_volatile(r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon", "AutoLogonChecked", Value.sz(""))
        self._enter("windows", f"Windows runs as {machine.name} with the address {machine.address}")

    def _listen(self, machine: LabMachine) -> None:
        endpoint = FullOsEndpoint(machine)
        self._endpoint = endpoint
        endpoint.start(hanging_seconds=self._settings.hang_seconds / self._settings.speed)

    def _stop_listening(self) -> None:
        with self._lock:
            endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.stop()

    @staticmethod
    def _activate_name(registry: LabRegistry) -> None:
        name = registry.get_string(rf"{_NAME}\ComputerName", "ComputerName")
        if name and name != registry.get_string(rf"{_NAME}\ActiveComputerName", "ComputerName"):
            registry.set(rf"{_NAME}\ActiveComputerName", "ComputerName", Value.sz(name))

    @staticmethod
    def _clear_pending(registry: LabRegistry) -> None:
        """A start completes what waited for it: pending packages and renames."""
        packages = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
        with registry.batch():
            for key in (
                r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
                r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\PackagesPending",
                r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
            ):
                if registry.find(key) is not None:
                    registry.delete_key(key)
            manager = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager"
            if registry.get(manager, "PendingFileRenameOperations") is not None:
                registry.delete_value(manager, "PendingFileRenameOperations")
            found = registry.find(packages)
            for name, key_found in found.subkeys.items() if found else ():
                if key_found.get_dword("", "CurrentState") == 96:
                    registry.set(rf"{packages}\{name}", "CurrentState", Value.dword(112))

    def _windows_address(self, registry: LabRegistry) -> tuple[str, dict[str, object]]:
        """Return the address in Windows: a static one of its hive for the right MAC, otherwise DHCP's."""
        dhcp = self.hardware.addresses.get("windows", "")
        interfaces = registry.find(_INTERFACES)
        for mac in self.hardware.macs[:1]:
            key = interfaces.find(mac.lower()) if interfaces else None
            if key is None or key.get_dword("", "EnableDHCP") != 0:
                continue
            addresses = key.get_multi("", "IPAddress") or []
            if addresses:
                address = ipaddress.ip_interface(addresses[0]).ip
                gateways = key.get_multi("", "DefaultGateway") or []
                servers = [s for s in (key.get_string("", "NameServer") or "").split(",") if s]
                settings: dict[str, object] = {
                    "gateway": gateways[0] if gateways else None,
                    "dns": servers,
                    "dns_domain": key.get_string("", "Domain"),
                }
                if address.is_loopback:
                    return str(address), {mac.lower(): settings}
        return dhcp, {}


def wait_for_state(computer: LabComputer, states: set[str], seconds: float) -> str:
    """Wait until the computer is in one of the states; return the state it is in. For tests and the lab's own client."""
    limit = time.monotonic() + seconds
    while computer.state not in states and time.monotonic() < limit:
        time.sleep(0.02)
    return computer.state
