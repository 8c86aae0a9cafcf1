# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab computer in one boot: what tools, CIM provider and endpoints work on. It ends with the boot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..windows.boot_store import BootStore, BootStoreError
from ..windows.computer import Environment
from ..windows.registry_hive import HiveError, Key, Value
from .accounts import LabAccounts
from .disks import LabDisks
from .file_system import LabFileSystem
from .firmware import Nvram, system_partition
from .hardware import Hardware, write_atomically
from .network import ComputerNetwork
from .processes import LabProcesses, LabScheduledTasks, LabServices
from .registry import LabRegistry, SessionRegistry
from .tools.interface import Process, Session, Volume, Win32Problem

SYSTEM = Session("SYSTEM", id="system")
_CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control"


@dataclass(frozen=True)
class Settings:
    """What the user of the lab chose for all its computers. ``speed``: lab seconds in a real one."""

    speed: float = 20.0
    #: Lab seconds: firmware, hanging phase of a start, answers after a shutdown request.
    boot_seconds: float = 10.0
    hang_seconds: float = 4.0
    goodbye_seconds: float = 3.0
    setup_seconds: float = 20.0
    #: WinRM answers already while Setup is in OOBE, and vanishes once more before Setup has finished.
    answers_in_setup: bool = True
    #: What Identify names as the product's vendor.
    vendor: str = "goldimage.osd lab"
    #: Lab seconds after which a connection that is silent is closed. Windows closes it after 120; never under 2 real ones.
    idle_seconds: float = 120.0


class Clock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)


class LabMachine:
    """See ``tools.interface.Machine``."""

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        hardware: Hardware,
        *,
        disks: LabDisks,
        nvram: Nvram,
        network: ComputerNetwork,
        registry: LabRegistry,
        settings: Settings,
        windows_root: Path,
        power: Callable[[str], None],
        console: Callable[[str], None],
        address: str = "",
    ) -> None:
        """``windows_root`` is the host folder of the running system's volume, ``power`` takes ``restart`` or ``shutdown``."""
        self.environment = environment
        self.folder = folder
        self.parts = hardware
        self.disks = disks
        self.firmware = nvram
        self.network = network
        self.live_registry = registry
        self.registry = SessionRegistry(registry, self.files)
        self.settings = settings
        self.address = address
        self.clock = Clock()
        # With its fraction, as Windows tells it: two of the lab's quick starts may fall into one second.
        self.booted = self.clock.now()
        #: The logon session of SYSTEM in this boot: its processes share network connections.
        self.system_session = Session("SYSTEM", id="system")
        self.processes = LabProcesses(self._spawn)
        self.services = LabServices(registry, self._service_changed)
        self.accounts = LabAccounts(registry)
        self.scheduled_tasks = LabScheduledTasks(self.files(SYSTEM), self.system_drive, self.processes, self.system_session)
        self.windows_root = windows_root
        self.name = self._computer_name()
        self.stopped = threading.Event()
        #: Called with a service's name when it was started or stopped.
        self.service_listeners: list[Callable[[str], None]] = []
        #: Static settings of network adapters by MAC: gateway, dns, dns_domain.
        self.static_network: dict[str, Any] = {}
        #: Windows PE: the boot image on the host and the volume it was started from (None: a medium).
        self.boot_source: tuple[Path, Volume | None] | None = None
        self._power = power
        self._console = console
        self._timer: threading.Timer | None = None
        self._going_down = False
        self._lock = threading.RLock()
        self.install_lock = threading.Lock()

    # --- names

    def _computer_name(self) -> str:
        if self.environment is Environment.WINDOWS_PE:
            return f"MININT-{self.parts.uuid[:7].upper()}"
        return self.live_registry.get_string(rf"{_CONTROL}\ComputerName\ActiveComputerName", "ComputerName") or self.parts.name.upper()

    @property
    def system_drive(self) -> str:
        """The drive of the running system."""
        return "X:" if self.environment is Environment.WINDOWS_PE else "C:"

    @property
    def windows(self) -> str:
        """The Windows folder."""
        return rf"{self.system_drive}\Windows"

    @property
    def hardware(self) -> Mapping[str, object]:
        """computer.json."""
        return asdict(self.parts)

    @property
    def environment_variables(self) -> Mapping[str, str]:
        """What a process of SYSTEM starts with."""
        from .tools.run import default_environment

        return default_environment(self, SYSTEM)

    # --- files and boot store

    def files(self, session: Session) -> LabFileSystem:
        """Return the files as a session sees them."""
        return LabFileSystem(self.disks, session, self.network.find_share, self._locked)

    def _locked(self, host: Path) -> bool:
        return host in self.live_registry.files

    def _system_store(self) -> Path:
        found = system_partition(self.disks, self.firmware.kind)
        if found is None:
            raise Win32Problem(2, "The boot configuration data store could not be found.")
        return found[1]

    def boot_store(self, path: str | None, session: Session) -> BootStore:
        """Return a boot store."""
        try:
            if path is None:
                return BootStore.load(self._system_store().read_bytes())
            return BootStore.load(self.files(session).read(path))
        except (HiveError, BootStoreError) as problem:
            raise Win32Problem(1009, "The boot configuration data store is damaged.") from problem

    def save_boot_store(self, path: str | None, store: BootStore, session: Session) -> None:
        """Write a boot store."""
        if path is None:
            write_atomically(self._system_store(), store.dump())
        else:
            self.files(session).write(path, store.dump())

    # --- power

    def request_restart(self, kind: str, delay: float = 0) -> None:
        """Go down after a delay in lab seconds; the computer answers for a moment longer."""
        with self._lock:
            if self._going_down:
                raise Win32Problem(1115, "A system shutdown is in progress.")
            if self._timer is not None:
                raise Win32Problem(1190, "A system shutdown has already been scheduled.")
            if delay > 0:
                self._timer = threading.Timer(delay / self.settings.speed, self._go_down, [kind])
                self._timer.daemon = True
                self._timer.start()
                return
        self._go_down(kind)

    def _go_down(self, kind: str) -> None:
        with self._lock:
            if self._going_down or self.stopped.is_set():
                return
            self._going_down, self._timer = True, None
        self.console(f"{kind} requested")
        timer = threading.Timer(self.settings.goodbye_seconds / self.settings.speed, self._power, [kind])
        timer.daemon = True
        timer.start()

    def abort_restart(self) -> None:
        """Take a scheduled restart back."""
        with self._lock:
            if self._timer is None:
                raise Win32Problem(1116, "Unable to abort the system shutdown because no shutdown was in progress.")
            self._timer.cancel()
            self._timer = None

    @property
    def is_going_down(self) -> bool:
        """Whether a restart or shutdown is under way."""
        return self._going_down

    def halt(self) -> None:
        """End everything that runs; the boot is over."""
        self.stopped.set()
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.processes.terminate_all()

    # --- the rest

    def console(self, text: str) -> None:
        """Write into the console log."""
        self._console(text)

    def wait(self, seconds: float, cancelled: threading.Event | None = None) -> bool:
        """Wait in lab seconds."""
        return (cancelled or self.stopped).wait(max(seconds, 0) / self.settings.speed)

    def _service_changed(self, name: str) -> None:
        for listener in self.service_listeners:
            listener(name)

    def _spawn(self, line: str, session: Session, directory: str, environment: Mapping[str, str] | None) -> Process:
        from .tools.winrs import JobProcess

        job = JobProcess(self, session, line, directory=directory, environment=environment)
        return self.processes.find(job.id)

    def windows_volume(self) -> Volume:
        """Return the volume that the running system is on."""
        return self.disks.letters()[self.system_drive[0]]


def boot_store_key(disks: LabDisks, kind: str) -> Key | None:
    r"""Return the system store's hive as ``HKLM\BCD00000000`` shows it, None where there is none."""
    found = system_partition(disks, kind)
    if found is None:
        return None
    try:
        return BootStore.load(found[1].read_bytes()).root
    except (HiveError, BootStoreError):
        return None


def record_firmware(registry: LabRegistry, kind: str) -> None:
    """Write what a boot tells the registry: PEFirmwareType 1 BIOS, 2 UEFI [doc: cp/winpe-boot-in-uefi-or-legacy-bios-mode]."""
    registry.set_volatile(_CONTROL, "PEFirmwareType", Value.dword(2 if kind == "uefi" else 1))
