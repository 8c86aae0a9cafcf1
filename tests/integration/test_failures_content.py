# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused before anything is changed: options, content, destinations, computers that nobody named, and the wrong environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from failures_support import (
    FAILED,
    OLD_PASSWORD,
    PARTITION,
    START,
    described,
    existing,
    messages,
    play_tasks,
    refusal,
    the_message,
    unc,
)
from integration_support import READER, WRITER, Played, Project, content_of, sha256

CORRECT = "Correct the paths, accounts and files. Nothing was changed on the computer."
IMAGE = unc(r"\osd\images\install.wim")
OTHER = "00000000-1111-2222-3333-444444444444"


@pytest.fixture(scope="module")
def project(new_project: Callable[..., Project]) -> Project:
    """Computers in Windows PE (one with data on its disk) and one in its old Windows, whose disks are the same after all tests."""
    made = new_project(
        {"name": "ref"},
        {"name": "data", "disks": [{"volumes": [{"label": "Data", "files": {"letter.txt": "Dear all"}}]}]},
        {"name": "old", "starting_state": "existing_windows", "existing": {"password": OLD_PASSWORD}},
    )
    for name, state in (("ref", "windows_pe"), ("data", "windows_pe"), ("old", "windows")):
        made.wait_for(name, state)
    return made


@pytest.fixture(scope="module")
def content(project: Project) -> Played:
    """One play in which every host declares one thing that the computer cannot have; one after the other."""
    ref = {**project.host("ref"), "osd_run": "{{ inventory_hostname }}"}
    image = {"target": IMAGE, "account": READER}
    hosts = {
        "missing_wim": {**ref, "osd_image": {**image, "target": unc(r"\osd\images\none.wim")}},
        "missing_share": {**ref, "osd_image": {**image, "target": unc(r"\nothing\install.wim")}},
        "unknown_server": {**ref, "osd_image": {**image, "target": r"\\nowhere\osd\install.wim"}},
        "not_on_the_control_node": {**ref, "osd_image": {**image, "controller": "images/install.wim"}},
        "wrong_account": {**ref, "osd_image": {**image, "account": {**READER, "password": "not-the-password"}}},
        "no_such_index": {**ref, "osd_image_index": 3},
        "another_hash": {**ref, "osd_image": {**image, "sha256": "0" * 64}},
        "no_image": {**ref, "osd_image": {**image, "target": unc(r"\osd\applications\vcredist.exe")}},
        "windows_pe": {**ref, "osd_image": {**image, "target": unc(r"\osd\boot\boot.wim")}},
        "no_boot_image": {**ref, "osd_boot_image": image},
        "several": {**ref, "osd_image": {**image, "target": unc(r"\osd\a.wim")}, "osd_drivers": [{**image, "target": unc(r"\osd\b")}]},
        "no_right_to_write": {**ref, "osd_capture": {"path": unc(r"\osd\reference.wim"), "account": READER}},
        "no_folder_to_write": {**ref, "osd_capture": {"path": unc(r"\capture\none\reference.wim"), "account": WRITER}},
        "another_computer": {**ref, "osd_machine": OTHER},
        "no_name": {**ref, "osd_run": ""},
        "misspelt_key": {**ref, "osd_applications": [{"name": "7-Zip", "install": ["7zip.msi"], "detecting": []}]},
    }
    capture = {"path": unc(r"\capture\{{ inventory_hostname }}.wim"), "account": WRITER}
    return play_tasks(project, hosts, START, arguments=("--forks", "1"), osd_capture=capture, osd_image_name=None, osd_image_version=None)


def log(project: Project, run: str, name: str) -> str:
    """Return how a message names the log of a job of the run's first step."""
    return f"Log: {project.state}/{run}/logs/{run}/start-the-task-sequence-{name}.log"


# --- content


def test_an_image_that_is_not_there(project: Project, content: Played) -> None:
    assert the_message(content, FAILED, "missing_wim") == (
        rf"Content cannot be used. osd_image: \\deploy.lab.test\osd\images\none.wim is not there, or the account may not read it. "
        f"{CORRECT}"
    )


@pytest.mark.parametrize(
    ("host", "share", "why"),
    [
        ("missing_share", r"\\deploy.lab.test\nothing", "system error 67 (the network name cannot be found)"),
        ("unknown_server", r"\\nowhere\osd", "system error 53 (the network path was not found)"),
        ("wrong_account", r"\\deploy.lab.test\osd", "system error 1326 (user name or password is wrong)"),
    ],
)
def test_a_share_that_is_not_there_or_not_open(project: Project, content: Played, host: str, share: str, why: str) -> None:
    assert the_message(content, FAILED, host) == (
        rf"Content cannot be used. osd_image: The computer could not connect to {share} as LAB\osd-read: {why}. "
        f"{CORRECT}"
    )


def test_a_file_that_the_control_node_does_not_have(project: Project, content: Played) -> None:
    assert the_message(content, FAILED, "not_on_the_control_node") == (
        f"Content cannot be used. osd_image: {project.folder}/images/install.wim is not on the control node. {CORRECT}"
    )


def test_all_that_is_missing_is_told_at_once(project: Project, content: Played) -> None:
    missing = r"is not there, or the account may not read it"
    assert the_message(content, FAILED, "several") == (
        rf"Content cannot be used. osd_image: \\deploy.lab.test\osd\a.wim {missing}. osd_drivers[0]: \\deploy.lab.test\osd\b {missing}. "
        f"{CORRECT}"
    )


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("no_such_index", rf"osd_image: {IMAGE} has no image 3; it holds 1 Windows 11 Enterprise, 2 Windows 11 Pro"),
        (
            "no_image",
            rf"osd_image: {unc('')}\osd\applications\vcredist.exe cannot be used as an image: "
            "This is no WIM file: it does not begin with MSWIM",
        ),
        ("windows_pe", rf"osd_image: image 1 of {unc('')}\osd\boot\boot.wim (lab) is Windows PE"),
        ("no_boot_image", f"osd_boot_image: {IMAGE} holds no Windows PE"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(project: Project, content: Played, host: str, problem: str) -> None:
    assert the_message(content, FAILED, host) == f"Content cannot be used. {problem}. {CORRECT}"


def test_another_file_than_the_one_declared(project: Project, content: Played) -> None:
    found = sha256(project.lab / "content/images/install.wim")
    assert the_message(content, FAILED, "another_hash") == (
        f"Content cannot be used. osd_image: {IMAGE} has SHA-256 {found}, declared is {'0' * 64}. {CORRECT}"
    )


# --- where the image goes


@pytest.mark.parametrize(
    ("host", "path"), [("no_right_to_write", r"\osd\reference.wim"), ("no_folder_to_write", r"\capture\none\reference.wim")]
)
def test_a_destination_that_cannot_be_written(project: Project, content: Played, host: str, path: str) -> None:
    assert the_message(content, FAILED, host) == (
        f"The image cannot be written to {unc(path)}: a test file there failed with code 5. "
        "Check the folder and that the account of osd_capture may create and delete files in it. "
        f"{log(project, host, 'rehearse-capture')}"
    )


def test_one_destination_for_two_computers(project: Project) -> None:
    hosts = {name: project.host(name, osd_run="shared") for name in ("ref", "data")}
    before = content_of(project.lab / "computers")
    played = play_tasks(project, hosts, START, PARTITION)
    path = unc(r"\capture\reference.wim")
    remedy = "Give each its own osd_capture.path, for instance with {{ inventory_hostname }} in it."
    assert the_message(played, FAILED, "ref") == f"ref and data have the same destination for their images: {path}. {remedy}"
    assert the_message(played, FAILED, "data") == f"data and ref have the same destination for their images: {path}. {remedy}"
    assert content_of(project.lab / "computers") == before
    assert not list(project.capture.iterdir())


# --- which computer


def test_another_computer_than_the_one_named(project: Project, content: Played) -> None:
    assert the_message(content, FAILED, "another_computer") == (
        f"osd_machine is '{OTHER}', but the computer is {described(project, 'ref')}. Nothing was changed on it. "
        f'If it is the right one, set in its host variables: osd_machine: "{project.machine("ref")}"'
    )


@pytest.mark.parametrize("computer", ["data", "old"])
def test_a_computer_with_data_that_nobody_named(project: Project, computer: str) -> None:
    host = existing(project, "old", osd_machine=None) if computer == "old" else project.host(computer, osd_machine=None)
    before = content_of(project.computer_folder(computer) / "disks")
    played = play_tasks(project, {computer: host}, START, PARTITION, osd_run="unnamed")
    assert refusal(played).partition(" Log: ")[0] == (
        f"The disks of {computer} are not empty ({described(project, computer)}), and osd_machine does not name it. "
        "Nothing was changed on it. "
        f'If its data may be lost, add to its host variables: osd_machine: "{project.machine(computer)}"'
    )
    assert content_of(project.computer_folder(computer) / "disks") == before


@pytest.fixture(scope="module")
def alone(project: Project) -> Played:
    """One play of tasks that are no part of a run, one mistake for each host."""
    ref, old = project.host("ref"), existing(project, "old")
    options = {"boot_image": "{{ osd_boot_image }}"}
    partition = "goldimage.osd.format_and_partition_disk"
    tasks = {
        "partition_unnamed": {partition: options},
        "partition_misnamed": {partition: {**options, "machine": OTHER}},
        "unknown_option": {partition: {**options, "disk": 0}},
        "unknown_suboption": {partition: {"boot_image": {"target": "x", "path": "y"}}},
        "missing_suboption": {partition: {"boot_image": {"account": {"user": "a", "password": "b"}}}},
        "no_choice": {partition: {**options, "disk_type": "floppy"}},
        "become": {partition: options, "become": True},
    }
    hosts: dict[str, dict[str, Any]] = dict.fromkeys(tasks, ref)
    tasks["partition_in_windows"] = {partition: {**options, "machine": project.machine("old")}}
    tasks["updates_in_windows_pe"] = {
        "goldimage.osd.install_software_updates": {"source": {"target": unc(r"\osd\updates")}, "updates": [{"file": "KB5000001.cab"}]}
    }
    hosts |= {"partition_in_windows": old, "updates_in_windows_pe": ref}
    listed = [{"name": name, **task, "when": f"inventory_hostname == '{name}'"} for name, task in tasks.items()]
    return play_tasks(project, hosts, *listed)


def test_a_destructive_step_outside_of_a_run_names_its_computer(project: Project, alone: Played) -> None:
    assert the_message(alone, FAILED, "partition_unnamed") == (
        "Format and Partition Disk destroys data, and outside of a run it needs the option machine. "
        f'This computer is {described(project, "ref")}. If it is the right one, add to the task: machine: "{project.machine("ref")}"'
    )


def test_a_step_that_names_another_computer(project: Project, alone: Played) -> None:
    assert the_message(alone, FAILED, "partition_misnamed") == (
        f"The step names the computer '{OTHER}', but this is {described(project, 'ref')}. Nothing was changed on it. "
        "Correct the address or the name."
    )


def test_the_wrong_environment(project: Project, alone: Played) -> None:
    assert the_message(alone, FAILED, "partition_in_windows") == (
        f"Format and Partition Disk runs in Windows PE; the computer ({project.address('old', 'windows')}:5985) is in full operating "
        "system. Nothing was done: restart it in Windows PE first (step Restart Computer)."
    )
    assert the_message(alone, FAILED, "updates_in_windows_pe") == (
        f"Install Software Updates runs in full operating system; the computer ({project.address('ref', 'winpe')}:5986) is in Windows PE. "
        "Nothing was done: let Setup Windows and ConfigMgr start the installed Windows first."
    )


# --- options and the run's name


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            "unknown_option",
            "Unsupported parameters for goldimage.osd.format_and_partition_disk: disk. "
            "Supported parameters include: boot_image, disk_number, disk_type, machine, partitions, time_limit.",
        ),
        (
            "unknown_suboption",
            "Unsupported parameters for goldimage.osd.format_and_partition_disk: boot_image.path. "
            "Supported parameters include: account, controller, sha256, target.",
        ),
        ("missing_suboption", "missing required arguments: target found in boot_image"),
        ("no_choice", "value of disk_type must be one of: GPT, MBR, got: floppy"),
        ("become", "become has no meaning for this step. Remove it; long work runs as SYSTEM already."),
    ],
)
def test_an_option_that_is_wrong(alone: Played, host: str, message: str) -> None:
    assert the_message(alone, FAILED, host) == message


def test_a_run_without_a_name(content: Played) -> None:
    assert the_message(content, FAILED, "no_name") == (
        "The run has no name. Set osd_run, or osd_image_name and osd_image_version from which it is made."
    )


def test_a_misspelt_key_of_a_variable_is_found_before_the_computer_is_asked(project: Project, content: Played) -> None:
    assert the_message(content, FAILED, "misspelt_key") == (
        "Unsupported parameters: osd_applications.detecting. Supported parameters include: continue_on_error, detection, install, "
        "maximum_run_time, name, restart_codes, retries, source, success_codes "
        "(see ansible-doc goldimage.osd.install_application). Correct the variables."
    )
    assert not (project.state / "misspelt_key").exists()


# --- and nothing came of it


def test_nothing_was_changed(project: Project, content: Played, alone: Played) -> None:
    assert messages(content)
    assert messages(alone)
    assert not list(project.capture.iterdir())
    disks = project.computer_folder("ref") / "disks"
    assert not [path for path in disks.rglob("*") if path.is_dir() and path.name == "volumes"]
