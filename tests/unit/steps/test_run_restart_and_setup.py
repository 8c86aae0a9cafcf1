# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run Command Line, Restart Computer, Setup Windows and ConfigMgr: what they plan and refuse, and that a broken effect fails."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps import setup_windows_and_configmgr as setup
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import JobResult, StepFailure
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.restart_computer import Here, RestartComputer, RestartPlan
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.run_command_line import RunCommandLine
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.setup_windows_and_configmgr import (
    Applied,
    SetupPlan,
    SetupWindowsAndConfigMgr,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.applied_windows import AppliedWindows
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import ComputerLost, Environment, FileInfo
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.firmware import Firmware
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

PE, OS = Environment.WINDOWS_PE, Environment.FULL_OS
CREATES = r"C:\made.txt"


class World:
    """A computer and the context of its step."""

    run_id = "r"
    check_mode = False

    def __init__(self, environment=OS):
        self.environment = environment
        self.cim = self
        self.files = {}
        self.exit_code = 0
        self.jobs = []
        self.on_job = None
        self.restarts = []
        self.lands_in = None
        self.fetched = []
        self.rows = {}

    def run_job(self, computer, label, argv, *, environment=None, stdin=b"", directory="", time_limit=0, files=None):
        self.jobs.append((label, tuple(argv), dict(environment or {}), directory, time_limit))
        if self.on_job:
            self.on_job()
        return JobResult(self.exit_code, b"said", None, 0.0)

    def boot_image_hash(self, image):
        return str(image.get("sha256") or "").lower()

    def restart(self, computer, target, *, time_limit):
        self.restarts.append((target, time_limit))
        self.environment = self.lands_in or target
        return self

    def progress(self, percent, text):
        pass

    def recall(self, key):
        return None

    def fetch_log(self, computer, *paths):
        self.fetched += paths
        return ", ".join(path.rpartition("\\")[2] for path in paths)

    def file_info(self, path):
        return FileInfo(len(self.files[path]), None) if path in self.files else None

    def put_file(self, path, content):
        self.files[path] = content

    def file_hash(self, path):
        return hashlib.sha256(self.files[path]).hexdigest()

    def query(self, wql, namespace=""):
        name = wql.split(" FROM ")[1].split()[0]
        return [Instance(name, row) for row in self.rows.get(name, [])]


def options(**values):
    return {
        "command_line": None,
        "argv": None,
        "shell": False,
        "start_in": None,
        "environment": {},
        "secret_environment": None,
        "success_codes": [0, 3010],
        "time_out": 15,
        "creates": None,
        "restart": False,
        "time_limit": 60,
        **values,
    }


# --- Run Command Line ---


def run(world, **values):
    step = RunCommandLine(options(**values), world)
    plan = step.plan(step.observe(world))
    if not plan.changes:
        return step, None
    return step, step.verify(step.apply(world, plan), plan)


def test_a_command_is_taken_apart_and_run_with_its_settings():
    world = World()
    dummy, values = run(
        world, command_line=r'"C:\a b\x.exe" /q "c d"', start_in=r"C:\t", environment={"A": "1"}, secret_environment={"B": "2"}, time_out=2
    )
    assert world.jobs == [("command", (r"C:\a b\x.exe", "/q", "c d"), {"A": "1", "B": "2"}, r"C:\t", 120)]
    assert values == {"rc": 0, "output": "said", "restarted": False}


def test_nothing_is_run_where_the_file_is_there_and_no_exit_code_is_told():
    world = World()
    world.files[CREATES] = b""
    step, values = run(world, command_line="x.exe", creates=CREATES)
    assert values is None
    assert world.jobs == []
    assert "rc" not in step.result(None)


def test_a_command_whose_effect_is_gone_before_it_is_verified_fails():
    world = World()
    world.on_job = lambda: world.files.update({CREATES: b"x"})
    step = RunCommandLine(options(command_line="x.exe", creates=CREATES), world)
    plan = step.plan(step.observe(world))
    step.apply(world, plan)
    del world.files[CREATES]
    with pytest.raises(StepFailure, match="'x.exe' ended with 0, but C:.*made.txt is not there"):
        step.verify(world, plan)


def test_another_exit_code_fails_with_its_number():
    world = World()
    world.exit_code = 1603
    with pytest.raises(StepFailure, match="'x.exe' ended with 1603.*; success is 0, 3010") as caught:
        run(world, command_line="x.exe")
    assert caught.value.code == 1603


def test_a_restart_that_the_command_asks_for_is_done_only_where_it_is_allowed():
    for allowed in (False, True):
        world = World()
        world.exit_code = 3010
        dummy, values = run(world, command_line="x.exe", restart=allowed)
        assert values["restarted"] is allowed
        assert world.restarts == ([(OS, 3600)] if allowed else [])


def test_a_line_for_the_shell_becomes_a_script():
    world = World(PE)
    run(world, command_line="dir & ver", shell=True)
    assert world.files[r"X:\_osd\command.cmd"] == b"@echo off\r\ndir & ver\r\nexit /b %ERRORLEVEL%\r\n"
    assert world.jobs[0][1] == (r"X:\Windows\System32\cmd.exe", "/d", "/c", r"X:\_osd\command.cmd")


# --- Restart Computer ---


def restart(world, target="installed_os", boot_image=None):
    return RestartComputer({"target": target, "boot_image": boot_image, "time_limit": 10}, world)


def test_a_computer_in_windows_pe_stays_there_and_another_one_is_restarted():
    world = World(PE)
    assert not restart(world, "windows_pe").plan(Here(PE, None)).changes
    step = restart(world)
    plan = step.plan(Here(PE, None))
    assert [change.summary for change in plan.changes] == ["restart to full operating system"]
    assert step.verify(step.apply(world, plan), plan) == {"restarted": True}
    assert world.restarts == [(OS, 600)]


def test_a_restart_that_ends_elsewhere_fails():
    world = World(PE)
    world.lands_in = PE
    step = restart(world)
    plan = step.plan(Here(PE, None))
    with pytest.raises(StepFailure, match="The computer is in Windows PE after the restart, not in full operating system"):
        step.verify(step.apply(world, plan), plan)


def test_windows_pe_is_staged_only_from_windows_and_needs_boot_image_and_firmware():
    image = {"target": r"\\server\share\boot.wim"}
    with pytest.raises(StepFailure, match="the boot image must be known"):
        restart(World(), "windows_pe").plan(Here(OS, Firmware.UEFI))
    with pytest.raises(StepFailure, match="BIOS or UEFI"):
        restart(World(), "windows_pe", image).plan(Here(OS, None))
    plan = restart(World(), "windows_pe", image).plan(Here(OS, Firmware.BIOS))
    assert isinstance(plan, RestartPlan)
    assert (plan.stage, plan.firmware, len(plan.changes)) == (True, Firmware.BIOS, 2)


@pytest.mark.parametrize("source", [r"\\server\share\boot.wim", r"C:\media\boot.wim"])
def test_a_staged_boot_image_that_is_not_the_declared_one_is_not_started(source):
    world = World()
    world.files = {rf"C:\_osd\pe\{name}": name.encode() for name in ("boot.wim", "boot.sdi", "network.json")}
    world.rows["CIM_DataFile"] = [{"Name": path, "FileSize": len(content)} for path, content in world.files.items()]
    step = restart(world, "windows_pe", {"target": source, "sha256": "0" * 64})
    plan = step.plan(Here(OS, Firmware.UEFI))
    with pytest.raises(StepFailure, match=f"has SHA-256 {hashlib.sha256(b'boot.wim').hexdigest()}, declared is {'0' * 64}"):
        step.apply(world, plan)
    assert [label for label, *dummy in world.jobs] == ["copy-boot-image" if source.startswith("\\\\") else "stage-boot-image"]
    assert not world.restarts


# --- Setup Windows and ConfigMgr ---


class Setup(SetupWindowsAndConfigMgr):
    """With the state of Setup given instead of read from the registry."""

    problem = ""

    def _setup_problem(self, computer, *, whole=True):
        return self.problem


def new_setup(world, client=None, **values):
    return Setup(
        {"client": client, "time_limit": 1, "client_time_limit": 1, "poll_seconds": 0.0, **values},
        world,
    )


def applied(answer_file=b"<unattend/>"):
    return Applied(AppliedWindows("W:\\", "amd64", False, answer_file))


def test_setup_needs_an_answer_file():
    with pytest.raises(StepFailure, match="has no answer file; Setup would stop and ask"):
        new_setup(World(PE)).plan(applied(None))


def test_the_plan_names_the_client_only_where_there_is_one():
    assert len(new_setup(World(PE)).plan(applied()).changes) == 2
    assert new_setup(World(PE), client={}).predict().predicted
    assert len(new_setup(World(PE), client={"source": {}}).plan(applied()).changes) == 3


def test_setup_that_is_not_finished_when_it_is_verified_fails():
    world = World()
    step = new_setup(world)
    step.problem = "SetupType is 2"
    with pytest.raises(StepFailure, match="Windows Setup is not finished: SetupType is 2"):
        step.verify(world, SetupPlan())


def test_a_client_that_does_not_answer_when_it_is_verified_fails(monkeypatch):
    world = World()
    world.rows["Win32_ComputerSystem"] = [{"Name": "REF"}]
    versions = iter([(True, ""), (True, "5.00.9")])
    monkeypatch.setattr(setup.client, "read_version", lambda cim: next(versions))
    step = new_setup(world, client={"source": {}})
    with pytest.raises(StepFailure, match="the client does not answer"):
        step.verify(world, SetupPlan())
    assert step.verify(world, SetupPlan()) == {"computer_name": "REF", "client_version": "5.00.9"}


def test_a_setup_that_never_ends_names_its_logs(monkeypatch):
    world = World()
    step = new_setup(world)
    step.problem = "OOBEInProgress is 1"
    clock = iter(range(1000))
    monkeypatch.setattr(setup.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(StepFailure, match="did not finish within 1 minutes: OOBEInProgress is 1") as caught:
        step._wait_for_setup(world, 5.0)
    assert "setuperr.log" in caught.value.log


def test_setup_is_finished_only_after_two_answers_in_a_row(monkeypatch):
    answers = iter(["", ComputerLost("gone"), "", "SetupType is 2", "", ""])

    class Wavering(Setup):
        def _setup_problem(self, computer, *, whole=True):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    world = World()
    world.wait_for = lambda target, *, time_limit, last_boot: world
    step = Wavering({"client": None, "time_limit": 1, "poll_seconds": 0.0}, world)
    assert step._wait_for_setup(world, setup.time.monotonic() + 60) is world
    assert next(answers, "none left") == "none left"
