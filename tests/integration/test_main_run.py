# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job on a UEFI computer: everything built and captured, the same again, and what becomes of the image on other computers."""

from __future__ import annotations

import base64
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from integration_support import (
    NETWORK_CARD,
    SERVER,
    WRITER,
    Hive,
    Played,
    Project,
    apply,
    bare,
    content_of,
    everything,
    files_with,
    hives_of,
    images_of,
    paths_of,
    read_hive,
    sha256,
    verify,
)
from spnego._ntlm_raw.crypto import ntowfv1

RUN = "main"
BUILD, CAPTURE = "Build the Reference Machine", "Capture the Reference Machine"
STEPS = {
    BUILD: [
        "Restart in Windows PE",
        "Partition Disk 0",
        "Apply Operating System",
        "Apply Windows Settings",
        "Apply Network Settings",
        "Apply Device Drivers",
        "Setup Windows and ConfigMgr",
        "Install Updates",
        "Install Applications",
    ],
    CAPTURE: ["Join Workgroup", "Prepare ConfigMgr Client", "Prepare Operating System", "Capture the Reference Machine"],
}
UNINSTALL = r"microsoft\windows\currentversion\uninstall"
PRODUCTS = ["{23170f69-40c1-2702-2409-000001000000}", "{c649ede4-f16a-4486-a117-dcc2f2a35165}"]
PACKAGES = r"microsoft\windows\currentversion\component based servicing\packages"
UPDATE = "package_for_kb5000001~31bf3856ad364e35~amd64~~10.0.1.0"
ACCOUNTS = r"sam\domains\account"
#: An account that the user wants in the image; and a look at the built Windows while it is there, to compare later ones with it.
OWN_STEPS = r"""
- name: Add an account of the user
  goldimage.osd.run_command_line:
    argv: [net.exe, user, builder, Builder-of-the-user-1, /add]

- name: Keep the hives of the Windows that is running
  ansible.builtin.shell:
    cmd: cp -r "$(dirname "$(find lab/computers/ref/disks -path '*/config/SAM')")" first-config
    chdir: "{{ inventory_dir }}"
  delegate_to: localhost
  changed_when: false
"""


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    """A lab with the reference computer, an empty one, and one with an old Windows."""
    disks = [
        {"size_gb": 64},
        {
            "size_gb": 8,
            "volumes": [
                {"label": "Data", "size_mb": 4096, "files": {r"Documents\read me.txt": "kept", r"Documents\Grüße.txt": "kept too"}},
                {"label": "Photos", "file_system": "exFAT", "files": {"a.jpg": "not kept"}},
            ],
        },
        {"size_gb": 8, "bus": "USB", "volumes": [{"label": "Stick", "file_system": "FAT32", "files": {"b.txt": "not kept"}}]},
    ]
    return new_project(
        {"name": "ref", "devices": [NETWORK_CARD], "disks": disks},
        {"name": "second", "devices": [NETWORK_CARD]},
        {"name": "bare", "starting_state": "existing_windows", "existing": {"password": "Old-windows-1"}},
    )


@pytest.fixture(scope="module")
def main(project: Project) -> Played:
    """The whole example sequence, once."""
    (project.folder / "own.yml").write_text(OWN_STEPS, encoding="utf-8")
    variables = {**everything(), "osd_run": RUN, "osd_computer_name": "FIRST", "osd_steps_after": {"Install Applications": "own.yml"}}
    project.write_inventory({"ref": project.host("ref")}, variables)
    return project.play("build_and_capture.yml").ok()


@pytest.fixture(scope="module")
def wim(project: Project, main: Played) -> Path:
    return project.capture / "reference.wim"


@pytest.fixture(scope="module")
def tree(wim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The captured Windows, unpacked by wimlib."""
    return apply(wim, 1, tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def hives(tree: Path) -> dict[str, Hive]:
    return hives_of(tree)


# --- the run and its report


def test_every_step_is_reported_under_its_name(main: Played) -> None:
    report = main.report
    assert report.keys() == {"ok", "simulated", "steps", "volumes", "image"}
    assert report["ok"] is True
    assert report["simulated"] is True
    for group, names in STEPS.items():
        reported = [step["name"] for step in report["steps"] if step["group"] == group]
        # The start of each group, and the user's own step, stand among them.
        assert [name for name in reported if name in names] == names
    for step in report["steps"]:
        assert step.keys() == {
            "name", "module", "group", "environment", "start", "end", "requests", "changed", "skipped", "reason"
        }, step  # fmt: skip
        assert step["start"] <= step["end"]
        assert step["requests"] > 0
    assert [name for name, step in main.steps().items() if step["skipped"]] == ["Restart in Windows PE"]
    unchanged = [name for name, step in main.steps().items() if not step["changed"]]
    assert unchanged == ["Start the task sequence", "Restart in Windows PE"]


def test_the_terminal_shows_names_percentages_and_changes(main: Played) -> None:
    for names in STEPS.values():
        for name in names:
            assert re.search(rf"^TASK \[goldimage\.osd\.\w+ : {name}\]", main.stdout, re.MULTILINE), name
    for line in (
        r"\d+ % apply Windows 11 Enterprise",
        r"\d+ % KB5000001\.cab \(1 of 1\)",
        r"\d+ % capture disk 0 partition 3 \(Windows\) as image 1",
    ):
        assert re.search(rf"^ +ref: +{line}$", main.stdout, re.MULTILINE), line
    for row in main.report["volumes"]:
        line = rf"not captured: disk {row['disk']} partition {row['partition']}\b.*: {re.escape(row['reason'])}"
        assert bool(re.search(rf"^ +ref: {line}$", main.stdout, re.MULTILINE)) is bool(row["reason"]), line
    assert main.recap()["failed"] == 0


def test_every_volume_is_listed_with_its_image_or_its_reason(main: Played) -> None:
    rows = [(row["disk"], row["partition"], row["label"], row["file_system"], row["image_index"]) for row in main.report["volumes"]]
    assert rows == [
        (0, 1, "SYSTEM", "FAT32", None),
        (0, 2, "", "", None),
        (0, 3, "Windows", "NTFS", 1),
        (0, 4, "Recovery", "NTFS", None),
        (1, 1, "Data", "NTFS", 2),
        (1, 2, "Photos", "exFAT", None),
        (2, 1, "STICK", "FAT32", None),
    ]
    for row in main.report["volumes"]:
        assert row.keys() == {"disk", "partition", "label", "file_system", "image_index", "reason"}
    reasons = [row["reason"] for row in main.report["volumes"]]
    words = ["EFI", "reserved", None, "ecovery", None, "exFAT", "USB"]
    for reason, word in zip(reasons, words, strict=True):
        assert (word in reason) if word else (reason == "")


def test_the_report_names_the_image(main: Played, wim: Path) -> None:
    image = main.report["image"]
    assert image.keys() == {"path", "sha256", "images"}
    assert [row.keys() for row in image["images"]] == [{"index", "name", "volume"}] * 2
    assert image["path"] == rf"{SERVER}\capture\reference.wim"
    assert image["sha256"] == sha256(wim)
    assert [(row["index"], row["name"]) for row in image["images"]] == [(row.index, row.name) for row in images_of(wim)]


def test_the_computer_is_off_and_nothing_half_written_is_left(project: Project, main: Played, wim: Path) -> None:
    assert project.wait_for("ref", "off") == "off"
    assert [path.name for path in project.capture.iterdir()] == ["reference.wim"]


def test_logs_are_kept(project: Project, main: Played) -> None:
    logs = {path.name for path in (project.state / RUN / "logs" / "ref").iterdir()}
    assert "journal.jsonl" in logs
    for log in (
        "setup-windows-and-configmgr-unattendgc-setupact.log",
        "setup-windows-and-configmgr-dism-apply.log",
        "prepare-operating-system-sysprep-setupact.log",
        "capture-the-reference-machine-capture-1.log",
        "capture-the-reference-machine-dism-capture.log",
        "capture-the-reference-machine-recorder.log",
    ):
        assert log in logs
    # Named by whichever step took the computer away after it had grown.
    assert [name for name in logs if name.endswith("-dism-updates.log")]


# --- the image


def test_the_file_describes_itself(wim: Path) -> None:
    verify(wim)
    windows, data = images_of(wim)
    assert windows.index == 1
    assert windows.name == "Windows 11 reference"
    assert windows.values["DESCRIPTION"] == "Made by the integration tests"
    assert windows.values["WINDOWS/EDITIONID"] == "Enterprise"
    # The names of Configuration Manager's node [unverified]; what DISM cannot write.
    described = {name.rpartition("/")[2]: value for name, value in windows.values.items()}
    assert (described["CREATEDBY"], described["VERSION"], described["RUN"]) == ("Example Ltd", "1.0", RUN)
    assert data.index == 2
    assert "Data" in data.name


def test_the_data_volume_is_the_second_image(wim: Path, tmp_path: Path) -> None:
    found = paths_of(apply(wim, 2, tmp_path / "data"))
    assert found.keys() == {"documents", r"documents\read me.txt", r"documents\grüße.txt"}
    assert found[r"documents\read me.txt"].read_text(encoding="utf-8") == "kept"


def test_windows_is_generalized(tree: Path, hives: dict[str, Hive]) -> None:
    system, software = hives["SYSTEM"], hives["SOFTWARE"]
    assert software.get(r"microsoft\windows\currentversion\setup\state", "ImageState") == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    assert "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE" in paths_of(tree)[r"windows\setup\state\state.ini"].read_text("utf-8")
    assert system.get("setup", "CloneTag")
    assert system.get("setup", "SystemSetupInProgress") == "1"
    assert system.get("setup", "CmdLine") == r"oobe\windeploy.exe"
    assert hives["SAM"].get(ACCOUNTS, "MachineSid") == ""
    assert hives["SECURITY"].get("policy", "PartOfDomain") == "0"
    assert hives["SECURITY"].get("policy", "PrimaryDomain") == "WORKGROUP"


def test_nothing_of_the_run_is_in_the_image(tree: Path, hives: dict[str, Hive]) -> None:
    found = paths_of(tree)
    gone = (
        "_osd",
        "pagefile.sys",
        "swapfile.sys",
        "hiberfil.sys",
        "unattend.xml",
        r"users\osd-run",
        r"users\osd",
        r"windows\panther\unattend.xml",
        r"windows\panther\unattend\unattend.xml",
        r"windows\system32\sysprep\unattend.xml",
        r"windows\setup\scripts\setupcomplete.cmd",
        r"windows\system32\tasks\osd",
        r"boot\bcd",
    )
    assert [path for path in gone if path in found] == []
    system, software, sam = hives["SYSTEM"], hives["SOFTWARE"], hives["SAM"]
    assert sam.below(rf"{ACCOUNTS}\users\names") == ["administrator", "builder", "guest"]
    profiles = r"microsoft\windows nt\currentversion\profilelist"
    assert [sid for sid in software.below(profiles) if "osd" in str(software.get(rf"{profiles}\{sid}", "ProfileImagePath")).lower()] == []
    assert not software.has(r"microsoft\windows nt\currentversion\schedule\taskcache\tree\osd")
    policy = r"policies\microsoft\windows\winrm\service"
    assert [name for name in ("AllowAutoConfig", "IPv4Filter", "IPv6Filter") if software.get(policy, name) is not None] == []
    assert software.get(r"microsoft\windows\currentversion\policies\system", "LocalAccountTokenFilterPolicy") is None
    assert software.get(r"microsoft\windows\currentversion\oobe", "BypassNRO") is None
    assert system.get(r"controlset001\services\winrm", "Start") == "3"
    assert system.get(r"controlset001\control\bitlocker", "PreventDeviceEncryption") is None
    rules = system.keys[r"controlset001\services\sharedaccess\parameters\firewallpolicy\firewallrules"]
    assert [rule for rule in rules.values() if "osd" in str(rule).lower()] == []
    assert {str(rule).split("|")[2] for rule in rules.values() if "5985" in str(rule)} == {"Active=FALSE"}
    assert system.get("setup", "UnattendFile") is None


def test_no_secret_stands_anywhere(project: Project, main: Played, tree: Path, wim: Path) -> None:
    shown = project.folder / "shown.txt"
    shown.write_text(main.text, encoding="utf-8")
    secrets = project.secrets(RUN, "ref")
    assert files_with([tree, wim, project.state, shown, *project.folder.glob("result-*.json")], secrets) == []
    # The search itself finds what is there.
    (project.folder / "probe.bin").write_bytes(b"xx" + base64.b64encode(b"y" + secrets["osd_secret"].encode("utf-16-le")))
    assert len(files_with([project.folder / "probe.bin", project.folder / "inventory.yml"], secrets)) >= 2


def test_driver_update_and_applications_are_in_the_image(tree: Path, hives: dict[str, Hive]) -> None:
    found = paths_of(tree)
    system, software = hives["SYSTEM"], hives["SOFTWARE"]
    assert re.search(r"filerepository\\labnet\.inf_amd64_[0-9a-f]+\\labnet\.sys", "\n".join(found))
    assert r"windows\system32\drivers\labnet.sys" in found
    assert system.get(r"controlset001\services\labnet", "Start") == "3"
    assert software.get(rf"{PACKAGES}\{UPDATE}", "CurrentState") == "112"
    assert [product for product in PRODUCTS if not software.has(rf"{UNINSTALL}\{product}")] == []
    assert r"program files\7-zip\7z.exe" in found
    assert r"windows\system32\vcruntime140.dll" in found
    # The client was taken out before the capture.
    assert [path for path in found if path.startswith((r"windows\ccm", r"windows\ccmsetup"))] == []


# --- the same again


@pytest.fixture(scope="module")
def again(project: Project, wim: Path) -> SimpleNamespace:
    """The same playbook against the computer that is off, the lab with it."""
    project.wait_for("ref", "off")
    project.stop_lab()

    def everything_kept() -> tuple[dict[str, str], dict[str, str], int]:
        """The computers, the run without its logs, the file."""
        return content_of(project.lab / "computers"), content_of(project.state / RUN / "ref"), wim.stat().st_mtime_ns

    before = everything_kept()
    played = project.play("build_and_capture.yml").ok()
    state = content_of(project.state)
    checked = project.play("build_and_capture.yml", "--check", "--diff").ok()
    return SimpleNamespace(
        played=played, checked=checked, kept=everything_kept() == before, logs_kept_in_check_mode=content_of(project.state) == state
    )


def test_the_same_run_again_sends_and_changes_nothing(main: Played, again: SimpleNamespace, wim: Path) -> None:
    played = again.played
    assert again.kept
    assert played.recap()["changed"] == 0
    assert sum(step["requests"] for step in played.report["steps"]) == 0
    message = f"This run is complete: {wim} has SHA-256 {sha256(wim)}. Nothing is sent and nothing changes."
    assert message in played.stdout
    changed = [name for name, step in main.steps().items() if step["changed"]]
    assert len(re.findall(r"^ +ref: done in this run at [\d-]+ [\d:]+ UTC: .", played.stdout, re.MULTILINE)) == len(changed)
    assert re.search(r"^ +ref: left out: _SMSTSInWinPE", played.stdout, re.MULTILINE)


def test_the_report_of_the_same_again_names_the_image_too(main: Played, again: SimpleNamespace) -> None:
    assert again.played.report["ok"] is True
    assert again.played.report["image"] == main.report["image"]
    assert again.played.report["volumes"] == main.report["volumes"]


def test_check_mode_after_the_capture_changes_nothing(again: SimpleNamespace) -> None:
    assert again.kept
    assert again.logs_kept_in_check_mode
    assert again.checked.recap()["changed"] == 0
    assert sum(step["requests"] for step in again.checked.report["steps"]) == 0


# --- the image on another computer


@pytest.fixture(scope="module")
def second(project: Project, wim: Path, again: SimpleNamespace) -> Played:
    """A second run on an empty computer, with the captured image as its source and nothing else to install."""
    project.start_lab()
    variables = {
        **bare(),
        "osd_run": "second",
        "osd_computer_name": "SECOND",
        "osd_image": {"target": rf"{SERVER}\capture\reference.wim", "account": WRITER},
    }
    project.write_inventory({"second": project.host("second")}, variables, "second.yml")
    return project.play("build.yml", inventory="second.yml").ok()


@pytest.fixture(scope="module")
def second_windows(project: Project, second: Played) -> Path:
    """The Windows volume of the second computer."""
    return windows_volume(project, "second")


def windows_volume(project: Project, computer: str) -> Path:
    (kernel,) = project.computer_folder(computer).glob("disks/*/volumes/*/[Ww]indows/[Ss]ystem32/ntoskrnl.exe")
    return kernel.parents[2]


def test_a_second_run_builds_from_the_image(project: Project, second: Played, second_windows: Path) -> None:
    assert second.report["ok"] is True
    state = project.state_of("second")
    assert state["state"] == "windows"
    assert "SECOND" in state["message"]
    hives = hives_of(second_windows)
    name = r"controlset001\control\computername\computername"
    assert hives["SYSTEM"].get(name, "ComputerName") == "SECOND"
    assert hives["SOFTWARE"].get(r"microsoft\windows\currentversion\setup\state", "ImageState") == "IMAGE_STATE_COMPLETE"


def test_sid_and_account_are_the_second_runs(project: Project, second_windows: Path) -> None:
    first, second = read_hive(project.folder / "first-config" / "SAM"), hives_of(second_windows)["SAM"]
    sids = [str(sam.get(ACCOUNTS, "MachineSid")) for sam in (first, second)]
    assert all(sid.startswith("S-1-5-21-") for sid in sids)
    assert sids[0] != sids[1]
    expected = {
        run: base64.b64encode(ntowfv1(project.secrets(run, computer)["password of the run's account"])).decode()
        for run, computer in ((RUN, "ref"), ("second", "second"))
    }
    assert "osd-run" in first.below(rf"{ACCOUNTS}\users\names")
    assert "osd-run" in second.below(rf"{ACCOUNTS}\users\names")
    assert expected[RUN] in password_hashes(first)
    assert expected["second"] in password_hashes(second)
    assert expected[RUN] not in password_hashes(second)


def password_hashes(sam: Hive) -> set[str]:
    """Return the password hashes of all accounts: hivexml does not show which name has which RID."""
    users = rf"{ACCOUNTS}\users"
    return {str(sam.get(rf"{users}\{rid}", "NtHash")) for rid in sam.below(users)}


def test_what_the_first_run_installed_is_there_though_the_second_installs_none(second: Played, second_windows: Path) -> None:
    steps = second.steps()
    assert all(steps[name]["skipped"] for name in ("Apply Device Drivers", "Install Updates", "Install Applications"))
    hives, found = hives_of(second_windows), paths_of(second_windows)
    assert "builder" in hives["SAM"].below(rf"{ACCOUNTS}\users\names")
    assert hives["SOFTWARE"].get(rf"{PACKAGES}\{UPDATE}", "CurrentState") == "112"
    assert [product for product in PRODUCTS if not hives["SOFTWARE"].has(rf"{UNINSTALL}\{product}")] == []
    assert r"program files\7-zip\7z.exe" in found
    assert hives["SYSTEM"].get(r"controlset001\enum\pci\lab\0", "Service") == "labnet"


# --- the image without the run's help


@pytest.fixture(scope="module")
def applied_bare(project: Project, wim: Path, again: SimpleNamespace) -> Path:
    """The image in place of the old Windows of a computer, with nothing added; the computer is off."""
    project.start_lab()
    project.press("bare", "power_off")
    project.wait_for("bare", "off")
    volume = windows_volume(project, "bare")
    shutil.rmtree(volume)
    volume.mkdir()
    return apply(wim, 1, volume)


def test_applied_bare_it_waits_in_oobe_and_answers_nothing(project: Project, applied_bare: Path) -> None:
    project.press("bare", "power_on")
    assert project.wait_for("bare", "oobe_waits", "windows", "setup_failed") == "oobe_waits"
    assert answering_ports(project, "bare") == []
    project.press("bare", "power_off")
    project.wait_for("bare", "off")


def test_without_its_system_hive_it_does_not_start(project: Project, applied_bare: Path) -> None:
    project.press("bare", "power_off")
    project.wait_for("bare", "off")
    hive = paths_of(applied_bare)[r"windows\system32\config\system"]
    kept = hive.rename(hive.with_name("SYSTEM.kept"))
    try:
        project.press("bare", "power_on")
        assert project.wait_for("bare", "0xc0000001", "windows", "windows_setup", "oobe_waits", "stop_error") == "0xc0000001"
        assert answering_ports(project, "bare") == []
    finally:
        project.press("bare", "power_off")
        project.wait_for("bare", "off")
        kept.rename(hive)


def answering_ports(project: Project, computer: str) -> list[tuple[str, int]]:
    """Return on which of the computer's addresses and ports somebody listens."""
    found = []
    for environment in ("winpe", "windows"):
        for port in (80, 443, 5985, 5986):
            with socket.socket() as probe:
                if probe.connect_ex((project.address(computer, environment), port)) == 0:
                    found.append((environment, port))
    return found
