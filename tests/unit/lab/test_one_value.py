# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One value changed in a hive, an answer file or the boot store, and the running lab computer answers differently: there and only there.

The answers come over the wire, asked with pywinrm: what a computer says of itself, and whether it says anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware, prepare
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.accounts import LabAccounts
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.disks import LabDisks
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.file_system import find_on_volume, make_on_volume
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.firmware import UEFI_STORE
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import Settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.registry import LabRegistry
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file, opening, registry_hive
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_store import BootStore
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import Registry
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Key, Value
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client

requests = pytest.importorskip("requests")
pytest.importorskip("winrm")

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

USER, PASSWORD = "osd-run", "Run-Pass-1"
DEVICE = "Lab Ethernet"
STATES = {"windows", "windows_pe", "setup_failed", "oobe_waits", "no_boot_device", "0xc000000f", "0xc0000225", "0xc000000e", "lab_defect"}
CLOSED = {"answers": "closed"}
REFUSED = {"answers": "refused"}
_UNINSTALL = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
_PACKAGES = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
_STATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
_ZONE = r"SYSTEM\CurrentControlSet\Control\TimeZoneInformation"
_PACKAGE = "Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0"
_PRODUCT = "{23170F69-40C1-2702-2409-000001000000}"


# --- asking


def connect(address: str, user: str) -> Client:
    from winrm.protocol import Protocol

    protocol = Protocol(f"http://{address}:5985/wsman", transport="ntlm", username=user, password=PASSWORD, proxy=None, ca_trust_path=None)

    def send(body: bytes) -> tuple[int, bytes]:
        protocol.transport.build_session()
        return 200, protocol.transport.send_message(body)

    return Client(send, SCHEMA)


def ask(address: str, user: str = USER) -> dict[str, object]:
    """Return everything that the rows below can change, or why nobody answers."""
    from winrm.exceptions import InvalidCredentialsError

    client = connect(address, user)
    try:
        system = client.query("SELECT Name,PartOfDomain,Domain FROM Win32_ComputerSystem")[0]
    except requests.exceptions.ConnectionError:
        return dict(CLOSED)
    except InvalidCredentialsError:
        return dict(REFUSED)
    registry = Registry(client)
    services = {str(s["Name"]): s["State"] for s in client.query("SELECT Name,State FROM Win32_Service")}
    devices = client.query(f"SELECT Name,ConfigManagerErrorCode FROM Win32_PnPEntity WHERE Name='{DEVICE}'")
    users = client.query("SELECT Name,Disabled FROM Win32_UserAccount WHERE LocalAccount=TRUE")
    return {
        "answers": "yes",
        "name": system["Name"],
        "domain": system["Domain"],
        "owner": registry.get_string(r"SOFTWARE\Microsoft\Windows NT\CurrentVersion", "RegisteredOwner"),
        "zone": registry.get_string(_ZONE, "TimeZoneKeyName"),
        "image state": registry.get_string(_STATE, "ImageState"),
        "products": registry.enum_keys(_UNINSTALL),
        "updates": [row["HotFixID"] for row in client.query("SELECT HotFixID FROM Win32_QuickFixEngineering")],
        "device": devices[0]["ConfigManagerErrorCode"],
        "spooler": services.get("Spooler"),
        "accounts": sorted(str(u["Name"]) for u in users if not u["Disabled"]),
    }


# --- a Windows that runs and listens, made once


@dataclass(frozen=True)
class Template:
    folder: Path
    address: str


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, addresses_of: Callable[[int], dict[str, str]]) -> Template:
    folder = tmp_path_factory.mktemp("template") / "pc"
    device = {"name": DEVICE, "hardware_ids": [r"PCI\VEN_1AB8&DEV_4001"]}
    made = hardware.make("pc", 1, {"devices": [device]}, addresses_of(7))
    made.save(folder)
    prepare.make_existing_windows(folder, made, {"password": "Admin-Pass-1"})
    registry = LabRegistry(windows_folder(folder) / "Windows" / "System32" / "config", write_through=True)
    accounts = LabAccounts(registry)
    accounts.create(USER, PASSWORD)
    accounts.add_to_group(USER, "Administrators")
    accounts.set_enabled("Administrator", False)
    enumerated = rf"HKLM\SYSTEM\CurrentControlSet\Enum\{next(d.id for d in made.devices if d.name == DEVICE)}"
    with registry.batch():
        for value in (s.value for s in opening.settings("127.0.0.1")):
            data = value.data
            registry.set(f"HKLM\\{value.key}", value.name, Value.dword(data) if isinstance(data, int) else Value.sz(str(data)))
        # The rule that the lab's old Windows brings would let everybody in.
        registry.delete_value(f"HKLM\\{opening.FIREWALL_RULES}", "lab-winrm")
        registry.set(rf"HKLM\{_UNINSTALL}\{_PRODUCT}", "DisplayName", Value.sz("7-Zip"))
        registry.set(rf"HKLM\{_PACKAGES}\{_PACKAGE}", "CurrentState", Value.dword(112))
        registry.set(enumerated, "Service", Value.sz("labnic"))
        for name, number, kind in (("labnic", 3, 1), ("Spooler", 2, 0x10)):
            registry.set(rf"HKLM\SYSTEM\CurrentControlSet\Services\{name}", "Start", Value.dword(number))
            registry.set(rf"HKLM\SYSTEM\CurrentControlSet\Services\{name}", "Type", Value.dword(kind))
    return Template(folder, made.addresses["windows"])


def windows_folder(folder: Path) -> Path:
    volumes = [p.volume for dummy, p in LabDisks(folder, hardware.load(folder)).all_partitions() if p.volume]
    return next(v.root for v in volumes if v.label == "Windows")


@pytest.fixture
def run(template: Template, tmp_path: Path, network: LabNetwork) -> Iterator[Callable[..., dict[str, object]]]:
    """Called with what to change: switch a copy of the template on and ask it."""
    made: list[LabComputer] = []

    def start(change: Callable[[Path], None]) -> dict[str, object]:
        folder = tmp_path / "pc"
        shutil.copytree(template.folder, folder, symlinks=True)
        change(folder)
        computer = LabComputer(folder, network, Settings(speed=2000))
        made.append(computer)
        computer.power_on()
        state = wait_for_state(computer, STATES, 20)
        assert state != "lab_defect", computer.message
        return ask(template.address)

    yield start
    for computer in made:
        computer.power_off()


def edit(folder: Path, hive: str, change: Callable[[Key], None]) -> None:
    file = find_on_volume(windows_folder(folder), rf"Windows\System32\config\{hive}")
    assert file is not None
    root = registry_hive.load(file.read_bytes())
    change(root)
    file.write_bytes(registry_hive.dump(root))


def value(hive: str, key: str, name: str, data: int | str | None) -> Callable[[Path], None]:
    """Set one value of a hive, or take it out."""
    place = key.replace("CurrentControlSet", "ControlSet001")

    def change(root: Key) -> None:
        if data is None:
            assert root.delete_value(place, name)
        else:
            root.set(place, name, Value.dword(data) if isinstance(data, int) else Value.sz(data))

    return lambda folder: edit(folder, hive, change)


def without_key(hive: str, key: str) -> Callable[[Path], None]:
    def change(root: Key) -> None:
        assert root.delete(key)

    return lambda folder: edit(folder, hive, change)


def boot_path(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        volumes = [p.volume for dummy, p in LabDisks(folder, hardware.load(folder)).all_partitions() if p.volume]
        file = next(found for v in volumes if (found := find_on_volume(v.root, UEFI_STORE)))
        store = BootStore.load(file.read_bytes())
        store.set(str(store.take_next()), "path", path)
        file.write_bytes(store.dump())

    return change


def account(rid: int, name: str, data: Value) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "SAM", lambda root: root.set(rf"SAM\Domains\Account\Users\{rid:08X}", name, data))


_OTHER_RULE = opening.firewall_rule("192.0.2.1").render()
_POLICY = opening.WINRM_POLICY.partition("\\")[2]
_RULES = opening.FIREWALL_RULES.partition("\\")[2]
_RULE = next(s.value.name for s in opening.settings("127.0.0.1") if s.value.key == opening.FIREWALL_RULES)
_TOKEN = opening.SYSTEM_POLICIES.partition("\\")[2]

ROWS = {
    "name": (value("SYSTEM", r"CurrentControlSet\Control\ComputerName\ComputerName", "ComputerName", "OTHER"), {"name": "OTHER"}),
    "time zone": (
        value("SYSTEM", _ZONE.partition("\\")[2], "TimeZoneKeyName", "W. Europe Standard Time"),
        {"zone": "W. Europe Standard Time"},
    ),
    "registered owner": (value("SOFTWARE", r"Microsoft\Windows NT\CurrentVersion", "RegisteredOwner", "Somebody"), {"owner": "Somebody"}),
    "domain state": (value("SECURITY", "Policy", "PrimaryDomain", "ELSEWHERE"), {"domain": "ELSEWHERE"}),
    "WinRM by demand": (value("SYSTEM", r"CurrentControlSet\Services\WinRM", "Start", 3), CLOSED),
    "WinRM's start missing": (value("SYSTEM", r"CurrentControlSet\Services\WinRM", "Start", None), CLOSED),
    "policy off": (value("SOFTWARE", _POLICY, "AllowAutoConfig", 0), CLOSED),
    "policy missing": (value("SOFTWARE", _POLICY, "AllowAutoConfig", None), CLOSED),
    "policy's filter missing": (value("SOFTWARE", _POLICY, "IPv4Filter", None), CLOSED),
    "policy's filter for others": (value("SOFTWARE", _POLICY, "IPv4Filter", "192.0.2.1-192.0.2.9"), CLOSED),
    "firewall rule for another": (value("SYSTEM", _RULES, _RULE, _OTHER_RULE), CLOSED),
    "firewall rule not active": (
        value("SYSTEM", _RULES, _RULE, opening.firewall_rule("127.0.0.1").render().replace("Active=TRUE", "Active=FALSE")),
        CLOSED,
    ),
    "firewall rule for another port": (value("SYSTEM", _RULES, _RULE, opening.firewall_rule("127.0.0.1", 5986).render()), CLOSED),
    "firewall rule missing": (value("SYSTEM", _RULES, _RULE, None), CLOSED),
    "account disabled": (account(1001, "Enabled", Value.dword(0)), REFUSED),
    "account of another group": (account(1001, "Groups", Value.multi_sz(["Users"])), REFUSED),
    "account's password": (account(1001, "NtHash", Value.binary(bytes(16))), REFUSED),
    "another account enabled": (account(500, "Enabled", Value.dword(1)), {"accounts": ["Administrator", "osd-run"]}),
    "token policy": (value("SOFTWARE", _TOKEN, "LocalAccountTokenFilterPolicy", None), REFUSED),
    "driver disabled": (value("SYSTEM", r"CurrentControlSet\Services\labnic", "Start", 4), {"device": 32}),
    "driver missing": (without_key("SYSTEM", r"ControlSet001\Services\labnic"), {"device": 39}),
    "service by demand": (value("SYSTEM", r"CurrentControlSet\Services\Spooler", "Start", 3), {"spooler": "Stopped"}),
    "package only staged": (value("SOFTWARE", rf"{_PACKAGES[9:]}\{_PACKAGE}", "CurrentState", 64), {"updates": []}),
    "uninstall key": (without_key("SOFTWARE", rf"{_UNINSTALL[9:]}\{_PRODUCT}"), {"products": []}),
    "image state": (value("SOFTWARE", _STATE[9:], "ImageState", "IMAGE_STATE_UNDEPLOYABLE"), {"image state": "IMAGE_STATE_UNDEPLOYABLE"}),
    "Setup still to come": (value("SYSTEM", "Setup", "SetupType", 2), CLOSED),
    "boot path of BIOS": (boot_path(r"\windows\system32\winload.exe"), CLOSED),
    "boot path of nothing": (boot_path(r"\windows\system32\other.efi"), CLOSED),
}


@pytest.mark.parametrize("row", list(ROWS), ids=list(ROWS))
def test_one_value_in_hive_or_boot_store(run: Callable[..., dict[str, object]], row: str) -> None:
    change, expected = ROWS[row]
    after = run(change)
    before = unchanged()
    assert any(before.get(key) != wanted for key, wanted in expected.items())
    if set(expected) == {"answers"}:
        assert after == expected
    else:
        assert after == {**before, **expected}


def test_unchanged(run: Callable[..., dict[str, object]]) -> None:
    """What all rows are compared with is what the template answers."""
    assert run(lambda folder: None) == unchanged()


# --- one value of an answer file, through Setup


def set_up_with(
    change: Callable[[answer_file.AnswerFile], None], name: str = "SETUP01", group: str = "Administrators", password: str = PASSWORD
):
    """Let Setup run over the template with an answer file: the account is Setup's to make."""
    file = answer_file.AnswerFile()
    settings = answer_file.WindowsSettings(architecture="amd64", computer_name=name, time_zone="UTC", user_name="Owner")
    answer_file.apply_windows_settings(file, settings)
    answer_file.add_local_account(file, "amd64", answer_file.LocalAccount(USER, password, (group,)))
    change(file)

    def lay(folder: Path) -> None:
        root = windows_folder(folder)
        registry = LabRegistry(root / "Windows" / "System32" / "config", write_through=True)
        LabAccounts(registry).delete(USER)
        registry.set(r"HKLM\SYSTEM\Setup", "SetupType", Value.dword(2))
        make_on_volume(root, r"Windows\Panther\unattend.xml").write_bytes(file.render())

    return lay


def shell(element: str, text: str) -> Callable[[answer_file.AnswerFile], None]:
    def change(file: answer_file.AnswerFile) -> None:
        name = {"TimeZone": "time_zone", "RegisteredOwner": "user_name"}[element]
        wanted = {"computer_name": "SETUP01", "time_zone": "UTC", "user_name": "Owner", name: text}
        answer_file.apply_windows_settings(file, answer_file.WindowsSettings(architecture="amd64", **wanted))

    return change


def nothing(file: answer_file.AnswerFile) -> None:
    """Leave it as it is."""


FILES = {
    "nothing": (set_up_with(nothing), {}),
    "computer name": (set_up_with(nothing, name="SETUP02"), {"name": "SETUP02"}),
    "time zone": (set_up_with(shell("TimeZone", "Tokyo Standard Time")), {"zone": "Tokyo Standard Time"}),
    "owner": (set_up_with(shell("RegisteredOwner", "Somebody")), {"owner": "Somebody"}),
    "account's password": (set_up_with(nothing, password="Another-Pass-1"), REFUSED),
    "account's group": (set_up_with(nothing, group="Users"), REFUSED),
    "name too long": (set_up_with(nothing, name="A-NAME-OF-16-CHA"), CLOSED),
}


@pytest.mark.parametrize("row", list(FILES), ids=list(FILES))
def test_one_value_in_the_answer_file(run: Callable[..., dict[str, object]], row: str) -> None:
    lay, expected = FILES[row]
    before = {**unchanged(), "name": "SETUP01", "zone": "UTC", "owner": "Owner"}
    assert not expected or any(before.get(key) != wanted for key, wanted in expected.items())
    assert run(lay) == (expected if set(expected) == {"answers"} else {**before, **expected})


def unchanged() -> dict[str, object]:
    return {
        "answers": "yes",
        "name": "PC",
        "domain": "WORKGROUP",
        "owner": "",
        "zone": "Pacific Standard Time",
        "image state": "IMAGE_STATE_COMPLETE",
        "products": [_PRODUCT],
        "updates": ["KB5000001"],
        "device": 0,
        "spooler": "Running",
        "accounts": ["osd-run"],
    }
