# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process that runs the computers of one lab folder, in the foreground. SIGTERM pulls every plug and ends it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from .computer import LabComputer
from .hardware import write_json
from .machine import Settings
from .network import LabNetwork

RUN_FILE = "run.json"
_STATUS_SECONDS = 0.25


class Lab:
    """All computers of a lab folder."""

    def __init__(self, directory: Path) -> None:
        """Read ``lab.json``."""
        self.directory = directory
        definition = json.loads((directory / "lab.json").read_text("utf-8"))
        network = LabNetwork.from_plain(definition["network"])
        self.settings = Settings(speed=float(definition["speed"]), **definition.get("behaviour", {}))
        self.computers = [LabComputer(directory / "computers" / name, network, self.settings) for name in definition["computers"]]
        self._stop = threading.Event()

    def start(self) -> None:
        """Switch on what was on when the lab stopped last."""
        for computer in self.computers:
            if computer.was_on():
                computer.power_on()

    def status(self) -> dict[str, dict[str, str]]:
        """Return each computer's state, what is on its screen, and the address it has now."""
        found = {}
        for computer in self.computers:
            machine = computer.machine
            found[computer.hardware.name] = {
                "state": computer.state,
                "message": computer.message,
                "address": machine.address if machine else "",
            }
        return found

    def stop(self) -> None:
        """Pull every plug; what was on is on again at the next start."""
        for computer in self.computers:
            computer.power_off(remember=False)

    def request_stop(self, *dummy: object) -> None:
        """End ``run``."""
        self._stop.set()

    def run(self) -> None:
        """Run until SIGTERM or Ctrl-C. ``run.json`` tells the process id and the states while it runs."""
        signal.signal(signal.SIGTERM, self.request_stop)
        signal.signal(signal.SIGINT, self.request_stop)
        file = self.directory / RUN_FILE
        commands = self.directory / "commands"
        self.start()
        shown: object = None
        try:
            while True:
                status = self.status()
                if status != shown:
                    write_json(file, {"schema": 1, "pid": os.getpid(), "computers": status})
                    shown = status
                self._take_commands(commands)
                if self._stop.wait(_STATUS_SECONDS):
                    break
        finally:
            self.stop()
            file.unlink(missing_ok=True)

    def _take_commands(self, folder: Path) -> None:
        """Take what the lab's client asks for: a file ``<computer>.<power_on|power_off|pull_plug>`` in ``commands``."""
        if not folder.is_dir():
            return
        for file in sorted(folder.iterdir()):
            name, dummy, command = file.name.rpartition(".")
            file.unlink(missing_ok=True)
            computer = next((c for c in self.computers if c.hardware.name == name), None)
            if computer is None:
                continue
            if command == "power_on":
                computer.power_on()
            elif command in ("power_off", "pull_plug"):
                computer.power_off()
