# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user's project with a lab of its own: start and stop it, play real playbooks in it, and look at the images with Debian's tools."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import client, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.credentials import (
    boot_image_purpose,
    derive_password,
    run_account_purpose,
)

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"
MISSING_PROGRAMS = [name for name in ("wimlib-imagex", "hivexml") if shutil.which(name) is None]

SECRET = "only-for-the-integration-tests"
READER = {"user": r"LAB\osd-read", "password": "Read-integration-1"}
WRITER = {"user": r"LAB\osd-capture", "password": "Capture-integration-1"}
JOINER = {"user": r"LAB\osd-join", "password": "Join-integration-1"}
SERVER = rf"\\{prepare.SERVER}"
#: A device that the lab's images have no driver for, and the lab's sample driver has.
NETWORK_CARD = {"name": "Ethernet Controller", "hardware_ids": [r"PCI\VEN_1D6B&DEV_0104&SUBSYS_00000000", r"PCI\VEN_1D6B&DEV_0104"]}
#: Real seconds for a whole playbook; the slowest takes a tenth of it.
PLAY_LIMIT = 120
_NETWORKS = [f"127.{second}.{third}" for second in range(100, 120) for third in range(256)]


# --- the project


@dataclass
class Played:
    """What one ansible-playbook came to. ``report`` is the report callback's file, {} where there is none."""

    rc: int
    stdout: str
    stderr: str
    report: dict[str, Any]
    seconds: float

    @property
    def text(self) -> str:
        """Everything that was shown."""
        return self.stdout + self.stderr

    def ok(self) -> Played:
        """Return itself where the play ended with 0; else fail the test with what was shown."""
        assert self.rc == 0, f"ansible-playbook ended with {self.rc}\n{self.text}"
        return self

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the report's steps by their names; of two with one name the last."""
        return {step["name"]: step for step in self.report["steps"]}

    def recap(self) -> dict[str, int]:
        """Return the counts of the play's last line, over all hosts."""
        counts: dict[str, int] = {}
        for line in self.stdout.partition("PLAY RECAP")[2].splitlines():
            for pair in line.partition(" : ")[2].split():
                name, dummy, number = pair.partition("=")
                counts[name] = counts.get(name, 0) + int(number)
        return counts


class Project:
    """A folder as a user has it: ansible.cfg, inventory, playbooks, and beside them the lab and the captured images."""

    def __init__(self, folder: Path, computers: Sequence[Mapping[str, Any]], *, speed: float = 100.0, **options: Any) -> None:
        """Take the lab module's options; nothing is started yet."""
        self.folder = folder
        self.lab = folder / "lab"
        self.capture = folder / "capture"
        self.state = folder / "osd-state"
        self._reserved, self.network = reserve_network()
        self._computers = [dict(computer) for computer in computers]
        self._options = {
            "network": f"{self.network}.0/24",
            "speed": speed,
            "computers": self._computers,
            "accounts": [_account(READER), _account(WRITER), {**_account(JOINER), "may_join": True}],
            "domain": {"name": "lab.test", "netbios": "LAB"},
            **options,
        }
        self._plays = 0
        (folder / "ansible.cfg").write_text(
            f"[defaults]\ncollections_path = {ROOT / 'collections'}\ncallbacks_enabled = goldimage.osd.report\n"
            "[goldimage_osd]\nreport = result.json\n",
            encoding="utf-8",
        )

    # --- the lab

    def start_lab(self) -> None:
        """Make what is missing and switch the lab on."""
        prepare.prepare(self.lab, self._options, derive_password(SECRET, boot_image_purpose(prepare.BOOT_IMAGE)))
        client.start(self.lab)

    def stop_lab(self) -> None:
        """Pull every plug."""
        client.stop(self.lab)

    def close(self) -> None:
        """End the lab's process with certainty and give its network back."""
        pid = client.status(self.lab).get("pid")
        try:
            client.stop(self.lab)
        finally:
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self._reserved.close()

    def state_of(self, computer: str) -> dict[str, str]:
        """Return state, message and address of a computer of the running lab."""
        found: dict[str, str] = client.status(self.lab)["computers"][computer]
        return found

    def wait_for(self, computer: str, *states: str, seconds: float = 60.0) -> str:
        """Wait until a computer is in one of the states."""
        return client.wait_for(self.lab, computer, states, timeout=seconds)

    def press(self, computer: str, what: str) -> None:
        """Press the power button: power_on, power_off, pull_plug."""
        client.command(self.lab, computer, what)

    def computer_folder(self, computer: str) -> Path:
        """Return the folder of a computer."""
        return self.lab / "computers" / computer

    def machine(self, computer: str) -> str:
        """Return the SMBIOS UUID as an inventory names it."""
        return prepare.hardware.load(self.computer_folder(computer)).uuid.lower()

    def address(self, computer: str, environment: str) -> str:
        """Return what DHCP gives in ``winpe`` or ``windows``."""
        index = [c["name"] for c in self._computers].index(computer)
        return prepare.addresses(f"{self.network}.0/24", index)[environment]

    # --- playbooks

    def host(self, computer: str, **variables: Any) -> dict[str, Any]:
        """Return the host variables that every computer of an inventory needs."""
        return {
            "osd_machine": self.machine(computer),
            "osd_winpe_connection": {
                "host": self.address(computer, "winpe"),
                "certificate": str(self.lab / "content" / "boot" / "certificate.pem"),
            },
            "osd_windows_connection": {"host": self.address(computer, "windows")},
            **variables,
        }

    def write_inventory(self, hosts: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any], name: str = "inventory.yml") -> Path:
        """Write an inventory with the group reference_computers. A variable that is None is left out."""
        group = {"ansible_connection": "winrm", "osd_secret": SECRET, **variables}
        plain = {
            "reference_computers": {
                "vars": {key: value for key, value in group.items() if value is not None},
                "hosts": {host: {k: v for k, v in values.items() if v is not None} for host, values in hosts.items()},
            }
        }
        path = self.folder / name
        path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        return path

    def play(self, playbook: str | Path, *arguments: str, inventory: str = "inventory.yml") -> Played:
        """Run ansible-playbook as a user does, in the project's folder. A name without folder is a playbook of the collection."""
        return self._play(playbook, arguments, inventory, None)

    def interrupt(self, playbook: str | Path, when: Callable[[], bool], *arguments: str, inventory: str = "inventory.yml") -> Played:
        """Run ansible-playbook and press Ctrl+C as soon as ``when`` is true. Fails where the play ends before."""
        played = self._play(playbook, arguments, inventory, when)
        assert played.rc != 0, f"the play ended before it was interrupted\n{played.text}"
        return played

    def _play(self, playbook: str | Path, arguments: Sequence[str], inventory: str, interrupt_when: Callable[[], bool] | None) -> Played:
        self._plays += 1
        report = self.folder / f"result-{self._plays}.json"
        path = PLAYBOOKS / playbook if isinstance(playbook, str) else playbook
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "OSD_REPORT": str(report),
        }
        began = time.monotonic()
        shown = [self.folder / f"play-{self._plays}.{name}" for name in ("out", "err")]
        with shown[0].open("wb") as out, shown[1].open("wb") as err:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("ansible-playbook")), "-i", inventory, str(path), *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            ended = self._follow(process, began + PLAY_LIMIT, interrupt_when)
        finally:
            _kill_all(process, f"OSD_REPORT={report}")
        stdout, stderr = (file.read_text(encoding="utf-8") for file in shown)
        if not ended:
            states = client.status(self.lab).get("computers")
            pytest.fail(f"{path.name} did not end within {PLAY_LIMIT} s; the lab: {states}\n{stdout}{stderr}", pytrace=False)
        content = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        return Played(process.returncode, stdout, stderr, content, time.monotonic() - began)

    @staticmethod
    def _follow(process: subprocess.Popen[bytes], deadline: float, interrupt_when: Callable[[], bool] | None) -> bool:
        """Wait for the end, interrupt where that is wanted; tell whether the process ended in time."""
        while time.monotonic() < deadline:
            if interrupt_when and interrupt_when():
                process.send_signal(signal.SIGINT)
                interrupt_when = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05 if interrupt_when else max(0.1, deadline - time.monotonic()))
                return True
        return False

    # --- what must be nowhere

    def secrets(self, run: str, computer: str) -> dict[str, str]:
        """Return every secret of a run by what it is."""
        return {
            "osd_secret": SECRET,
            "password of the run's account": derive_password(SECRET, run_account_purpose(run, self.machine(computer))),
            "password of Windows PE": derive_password(SECRET, boot_image_purpose(prepare.BOOT_IMAGE)),
            **{f"password of {account['user']}": account["password"] for account in (READER, WRITER, JOINER)},
        }


def _kill_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill a play with its workers, which have sessions of their own; they are known by a variable of their environment."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


def _account(account: Mapping[str, str]) -> dict[str, Any]:
    return {"name": account["user"], "password": account["password"]}


def reserve_network() -> tuple[socket.socket, str]:
    """Take a network that no other test on this host uses: whoever holds its last address has it."""
    first = os.getpid() * 37 % len(_NETWORKS)
    for network in _NETWORKS[first:] + _NETWORKS[:first]:
        reserved = socket.socket()
        try:
            reserved.bind((f"{network}.254", 5986))
        except OSError:
            reserved.close()
            continue
        return reserved, network
    raise AssertionError("every network of the tests is taken")


def everything() -> dict[str, Any]:
    """Return the variables of the whole example sequence: driver, client, update, two applications, domain and workgroup."""
    return {
        "osd_boot_image": {"target": rf"{SERVER}\osd\boot\boot.wim", "account": READER},
        "osd_image": {"target": rf"{SERVER}\osd\images\install.wim", "account": READER},
        "osd_image_index": 1,
        "osd_registered_user": "Integration",
        "osd_registered_organization": "Example Ltd",
        "osd_time_zone": "W. Europe Standard Time",
        "osd_network": {"domain": "lab.test", "account": JOINER},
        "osd_capture_leave_account": JOINER,
        "osd_drivers": [{"target": rf"{SERVER}\osd\drivers", "account": READER}],
        "osd_client": {"source": {"target": rf"{SERVER}\osd\client", "account": READER}},
        "osd_updates": {
            "source": {"target": rf"{SERVER}\osd\updates", "account": READER},
            "packages": [{"file": "KB5000001.cab"}],
        },
        "osd_applications": [
            {
                "name": "7-Zip",
                "source": {"target": rf"{SERVER}\osd\applications\7zip.msi", "account": READER},
                "install": ["msiexec.exe", "/i", "7zip.msi", "/qn", "/norestart"],
                "detection": [{"type": "msi", "product_code": "{23170F69-40C1-2702-2409-000001000000}"}],
            },
            {
                "name": "Visual C++ runtime",
                "source": {"target": rf"{SERVER}\osd\applications\vcredist.exe", "account": READER},
                "install": ["vcredist.exe", "/quiet", "/norestart"],
                "detection": [{"type": "file", "path": r"C:\Windows\System32\vcruntime140.dll"}],
            },
        ],
        **capturing(),
        **quick(),
    }


def bare() -> dict[str, Any]:
    """Return the variables of the shortest sequence: Windows and nothing else, captured."""
    whole = everything()
    for name in ("osd_network", "osd_capture_leave_account", "osd_drivers", "osd_client", "osd_updates", "osd_applications"):
        del whole[name]
    return whole


def capturing() -> dict[str, Any]:
    """Return the variables of the second role."""
    return {
        "osd_boot_image": {"target": rf"{SERVER}\osd\boot\boot.wim", "account": READER},
        "osd_image_name": "Windows 11 reference",
        "osd_image_version": "1.0",
        "osd_image_description": "Made by the integration tests",
        "osd_image_created_by": "Example Ltd",
        "osd_capture": {"path": rf"{SERVER}\capture\reference.wim", "controller": "capture/reference.wim", "account": WRITER},
    }


def quick() -> dict[str, Any]:
    """Return how often the computer is asked: the lab is quick."""
    return {"osd_setup_poll_seconds": 0.2, "osd_updates_poll_interval": 1, "osd_client_poll_interval": 1}


# --- images, through Debian's wimlib


@dataclass(frozen=True)
class Image:
    """One image of a WIM file: the texts of its XML by the names of the elements (``NAME``, ``WINDOWS/EDITIONID``)."""

    index: int
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """The image's name."""
        return self.values.get("NAME", "")


def images_of(wim: Path) -> list[Image]:
    """Return the images of a file as ``wimlib-imagex info --xml`` shows them."""
    shown = subprocess.run(["wimlib-imagex", "info", str(wim), "--xml"], capture_output=True, check=True).stdout
    root = ElementTree.fromstring(shown.decode("utf-16"))
    return [Image(int(image.attrib["INDEX"]), dict(_texts(image))) for image in root.iter("IMAGE")]


def _texts(element: ElementTree.Element, above: str = "") -> Iterator[tuple[str, str]]:
    for child in element:
        path = f"{above}{child.tag}"
        if child.text and child.text.strip():
            yield path, child.text.strip()
        yield from _texts(child, f"{path}/")


def verify(wim: Path) -> None:
    """Read all of a file with wimlib."""
    done = subprocess.run(["wimlib-imagex", "verify", str(wim)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def apply(wim: Path, index: int, folder: Path) -> Path:
    """Unpack an image into a folder and return it."""
    command = ["wimlib-imagex", "apply", str(wim), str(index), str(folder), "--no-acls"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def paths_of(tree: Path) -> dict[str, Path]:
    """Return every file and folder of a tree by its Windows path in lower case (``windows\\system32``)."""
    return {str(path.relative_to(tree)).replace("/", "\\").lower(): path for path in tree.rglob("*")}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content_of(folder: Path) -> dict[str, str]:
    """Return every file and folder below a folder with a file's SHA-256: equal where nothing was changed."""
    return {str(path.relative_to(folder)): sha256(path) if path.is_file() else "" for path in folder.rglob("*")}


def files_with(places: Iterable[Path], secrets: Mapping[str, str]) -> list[str]:
    """Return which secret stands in which file, as bytes, as UTF-16 (also at odd places) and in base64."""
    needles = {what: _spellings(secret) for what, secret in secrets.items()}
    found = []
    for place in places:
        for path in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
            content = path.read_bytes()
            found += [f"{what} in {path}" for what, spellings in needles.items() if any(s in content for s in spellings)]
    return found


def _spellings(secret: str) -> list[bytes]:
    plain, wide = secret.encode(), secret.encode("utf-16-le")
    encoded = [base64.b64encode(bytes(shift) + text)[2 * bool(shift) + 2 : -4] for text in (plain, wide) for shift in range(3)]
    return [plain, wide, *encoded]


# --- registry hives, through Debian's hivex


@dataclass(frozen=True)
class Hive:
    """A registry hive. Keys are paths without the root, in lower case; values by name in lower case, ``@`` is the default one."""

    keys: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)

    def get(self, key: str, name: str = "@") -> str | list[str] | None:
        """Return a value's text as hivexml shows it (numbers in decimal), None where it is not there."""
        return self.keys.get(key.lower(), {}).get(name.lower())

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key.lower() in self.keys

    def below(self, key: str) -> list[str]:
        """Return the names of the keys right below a key, in lower case."""
        start = f"{key.lower()}\\"
        return sorted(path[len(start) :] for path in self.keys if path.startswith(start) and "\\" not in path[len(start) :])


def read_hive(path: Path) -> Hive:
    """Read a hive with hivexml."""
    done = subprocess.run(["hivexml", str(path)], capture_output=True, check=False)
    assert done.returncode == 0, f"hivexml {path}: {done.stderr.decode()}"
    keys: dict[str, dict[str, str | list[str]]] = {}
    _read_node(ElementTree.fromstring(done.stdout).find("node"), "", keys)
    return Hive(keys)


def _read_node(node: ElementTree.Element | None, path: str, keys: dict[str, dict[str, str | list[str]]]) -> None:
    assert node is not None
    values: dict[str, str | list[str]] = {}
    for value in node.findall("value"):
        name = "@" if value.get("default") else (value.get("key") or "").lower()
        texts = [text.text or "" for text in value.findall("string")]
        # hivexml shows the end of a list as one more, empty, text.
        values[name] = [text for text in texts if text] if value.get("type") == "string-list" else value.get("value") or ""
    keys[path] = values
    for child in node.findall("node"):
        name = (child.get("name") or "").lower()
        _read_node(child, f"{path}\\{name}" if path else name, keys)


def hives_of(tree: Path) -> dict[str, Hive]:
    """Return the hives of an unpacked Windows by name in upper case."""
    config = paths_of(tree)[r"windows\system32\config"]
    return {
        path.name.upper(): read_hive(path) for path in config.iterdir() if path.name.upper() in ("SYSTEM", "SOFTWARE", "SAM", "SECURITY")
    }
