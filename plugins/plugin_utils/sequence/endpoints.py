# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Under which identities a run can reach its computer: the Windows found, Windows PE, the Windows built.

Each is one frozen value; what is not set for one is never taken from another. The only exceptions are the host of a staged Windows PE
and of the built Windows: both default to where the computer answered before, because the staged settings ask for the same address.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..steps.base import StepFailure
from ..windows.https_opening import CERTIFICATE_NAME
from ..windows.names import AGENT_USER, RUN_ACCOUNT
from .credentials import MINIMUM_SECRET, boot_image_purpose, derive_password

PE_PORT = 5986
WINDOWS_PORT = 5985
WINDOWS_HTTPS_PORT = 5986
_PE_KEYS = ("host", "port", "certificate", "certificate_name", "boot_image", "user", "password")
_WINDOWS_KEYS = ("host", "port", "scheme", "transport", "user", "password", "certificate", "certificate_name")
_PE_PASSWORD = "The password is derived from osd_secret: is that the osd_secret with which the boot image was made?"
_WINDOWS_PASSWORD = "The password is derived from osd_secret: is that the osd_secret with which this run built its Windows?"


class Identity(enum.StrEnum):
    """As whom the computer answers."""

    FOUND = "found"
    WINDOWS_PE = "windows_pe"
    WINDOWS = "windows"

    @property
    def describe(self) -> str:
        """In the user's words."""
        return {
            "found": "the Windows found (ansible_host)",
            "windows_pe": "Windows PE (osd_winpe_connection)",
            "windows": "the Windows built (osd_windows_connection)",
        }[self.value]

    @property
    def settings(self) -> str:
        """Where the user says how it is reached."""
        return {
            "found": "the host's ansible_* variables",
            "windows_pe": "osd_winpe_connection",
            "windows": "osd_windows_connection",
        }[self.value]


@dataclass(frozen=True)
class Target:
    """Where and how one identity is reached. For ``FOUND`` all but host and port stays in the task's own connection."""

    identity: Identity
    host: str
    port: int
    scheme: str = "https"
    transport: str = "basic"
    user: str = ""
    password: str = field(default="", repr=False)
    certificate: str = ""
    certificate_name: str = ""
    #: What to do where the password is refused; '' where the user has given it.
    password_remedy: str = ""

    @property
    def address(self) -> str:
        """``host:port``, as messages name it."""
        return f"{self.host}:{self.port}"


class Variables:
    """The variables of the host, templated one by one when they are asked for."""

    def __init__(self, raw: Mapping[str, Any], template: Callable[[Any], Any]) -> None:
        """Take the raw variables and what templates one value."""
        self._raw = raw
        self._template = template
        self._known: dict[str, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable as plain data, the default where it is not set or empty."""
        if name not in self._known:
            value = self._raw.get(name)
            self._known[name] = plain(self._template(value)) if value is not None else None
        value = self._known[name]
        return default if value is None or value == "" else value

    def item(self, name: str, key: str) -> Any:
        """Return one value of a dictionary variable, None where it is not set: the others are not templated for it."""
        raw = self._raw.get(name)
        if name in self._known or not isinstance(raw, Mapping):
            return self.mapping(name).get(key)
        # Inside of a dictionary, where a value that is omitted is left out.
        return plain(self._template({key: raw[key]}).get(key)) if key in raw else None

    def of_other_hosts(self, name: str) -> dict[str, Any]:
        """Return a variable of the play's other hosts, by host, where it is set there."""
        own, hostvars = self._raw.get("inventory_hostname"), self._raw.get("hostvars") or {}
        others = [host for host in self._raw.get("ansible_play_hosts_all") or () if host != own]
        return {host: plain(hostvars[host][name]) for host in others if host in hostvars and name in hostvars[host]}

    @staticmethod
    def path(value: Any) -> Path:
        """Return a path on the control node; a relative one is meant from where ansible-playbook is run, as those of the options are."""
        return Path(str(value)).expanduser().absolute()

    def minutes(self, name: str, default: float) -> float:
        """Return a length of time in minutes. StepFailure where it is none."""
        value = self.get(name, default)
        try:
            minutes = float(value)
        except (TypeError, ValueError):
            minutes = -1.0
        if not 0 <= minutes < 1e6:
            raise StepFailure(f"{name} is {value!r}; it is a number of minutes, 0 or more.", remedy="Correct it.")
        return minutes

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a dictionary variable, empty where it is not set. StepFailure where it is something else."""
        value = self.get(name) or {}
        if not isinstance(value, dict):
            raise StepFailure(f"{name} is not a dictionary.", remedy="See the collection's README for the host variables.")
        return value


def plain(value: Any) -> Any:
    """Return a copy of Ansible's tagged values as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value


def secret(variables: Variables) -> str:
    """Return the project's secret. StepFailure where it is missing or too short."""
    value = str(variables.get("osd_secret", ""))
    if not value:
        raise StepFailure(
            "osd_secret is not set: the passwords of Windows PE and of the run's account are derived from it.",
            remedy="Put osd_secret into an Ansible Vault file of the group.",
        )
    if len(value) < MINIMUM_SECRET:
        raise StepFailure(f"osd_secret has {len(value)} characters; at least {MINIMUM_SECRET} are needed.", remedy="Choose a longer one.")
    return value


def found_target(variables: Variables) -> Target | None:
    """Return the inventory's own connection, None where the inventory names no account for it (bare metal)."""
    if not (variables.get("ansible_user") or variables.get("ansible_winrm_user")):
        return None
    host = str(variables.get("ansible_winrm_host") or variables.get("ansible_host") or variables.get("inventory_hostname") or "")
    port = variables.get("ansible_winrm_port") or variables.get("ansible_port") or WINDOWS_HTTPS_PORT
    return Target(Identity.FOUND, host, int(port))


def windows_pe_targets(variables: Variables, last_host: str) -> list[Target]:
    """Return where Windows PE may answer, most likely first. StepFailure where the certificate is not declared.

    ``last_host`` is where the computer answered when Windows PE was staged, '' where it comes from a medium.
    """
    given = _connection(variables, "osd_winpe_connection", _PE_KEYS)
    hosts = [host for host in dict.fromkeys((last_host, str(given.get("host") or ""))) if host]
    if not hosts:
        return []
    about = _about_boot_image(variables)
    certificate = str(variables.path(given["certificate"]) if given.get("certificate") else about.get("certificate", ""))
    if not certificate:
        raise StepFailure(
            "The certificate of Windows PE is not declared.",
            remedy="Set osd_winpe_connection.certificate to the certificate.pem that was made with the boot image.",
        )
    if not Path(certificate).is_file():
        raise StepFailure(f"The certificate of Windows PE is not there: {certificate}.", remedy="Correct osd_winpe_connection.certificate.")
    image = str(given.get("boot_image") or about.get("boot_image") or "")
    password = str(given.get("password") or "")
    if not password:
        if not image:
            raise StepFailure(
                "The password of Windows PE cannot be derived: the name of the boot image is not known.",
                remedy="Leave boot.json beside the certificate, or set osd_winpe_connection.boot_image.",
            )
        password = derive_password(secret(variables), boot_image_purpose(image))
    return [
        Target(
            Identity.WINDOWS_PE,
            host,
            int(given.get("port") or PE_PORT),
            user=str(given.get("user") or AGENT_USER),
            password=password,
            certificate=certificate,
            certificate_name=str(given.get("certificate_name") or about.get("name") or ""),
            password_remedy="" if given.get("password") else _PE_PASSWORD,
        )
        for host in hosts
    ]


def _connection(variables: Variables, name: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a connection. StepFailure names a key that there is not, and a port that is none."""
    given = variables.mapping(name)
    for key in given:
        if key not in keys:
            raise StepFailure(f"{name} has no '{key}'; it may have {', '.join(keys)}.", remedy="Correct the host's variable.")
    port = str(given.get("port") or "1")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise StepFailure(f"{name}.port is '{port}', which is no port number.", remedy="Give a number from 1 to 65535, or leave it out.")
    return given


def boot_image_hash(variables: Variables) -> str:
    """Return the SHA-256 of the boot image that boot.json tells, lower-case hex; '' where there is none."""
    hashes = _about_boot_image(variables).get("sha256")
    images = [value for name, value in hashes.items() if name.lower().endswith(".wim")] if isinstance(hashes, dict) else []
    return str(images[0]).lower() if images else ""


def _about_boot_image(variables: Variables) -> dict[str, Any]:
    """Read boot.json beside the certificate or beside the boot image on the control node; empty where there is none."""
    for name, key in (("osd_winpe_connection", "certificate"), ("osd_boot_image", "controller")):
        place = variables.item(name, key)
        if not place:
            continue
        folder = variables.path(place).parent
        try:
            about = json.loads((folder / "boot.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            return {**about, "certificate": str(folder / str(about.get("certificate") or "certificate.pem"))}
    return {}


def own_windows_certificate(run_directory: Path) -> Path:
    """Return where a run keeps the certificate that it made for the built Windows."""
    return run_directory / "windows-certificate.pem"


def windows_https_port(variables: Variables) -> int | None:
    """Return the port on which the run opens the built Windows over HTTPS; None for http, and where the image has its own listener."""
    given = variables.mapping("osd_windows_connection")
    if given.get("scheme") != "https" or given.get("certificate"):
        return None
    return int(given.get("port") or WINDOWS_HTTPS_PORT)


def windows_targets(variables: Variables, last_host: str, password: str, run_directory: Path | None = None) -> list[Target]:
    """Return where the built Windows may answer. ``password`` is the derived one of the run's account.

    Over HTTPS the one certificate that the run made is trusted, by its fixed name, or the one that the variables name.
    """
    given = _connection(variables, "osd_windows_connection", _WINDOWS_KEYS)
    scheme = str(given.get("scheme") or "http")
    certificate = str(variables.path(given["certificate"])) if given.get("certificate") else ""
    name = str(given.get("certificate_name") or "")
    made = own_windows_certificate(run_directory) if run_directory and windows_https_port(variables) else None
    if made and made.is_file():
        certificate, name = str(made), CERTIFICATE_NAME
    hosts = [str(given["host"])] if given.get("host") else [last_host, str(variables.get("ansible_host") or "")]
    return [
        Target(
            Identity.WINDOWS,
            host,
            int(given.get("port") or (WINDOWS_PORT if scheme == "http" else WINDOWS_HTTPS_PORT)),
            scheme=scheme,
            transport=str(given.get("transport") or "ntlm"),
            user=str(given.get("user") or RUN_ACCOUNT),
            password=str(given.get("password") or password),
            certificate=certificate,
            certificate_name=name,
            password_remedy="" if given.get("password") else _WINDOWS_PASSWORD,
        )
        for host in dict.fromkeys(hosts)
        if host
    ]
