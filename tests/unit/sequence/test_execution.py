# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task from beginning to end against a computer in memory: journal, phases, crossings, one message for what goes wrong."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import contact as contact_module
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.endpoints import Identity, Target, Variables
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.execution import Execution, Task
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.fence import Fence
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.journal import Entry
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.logs import log_name
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.run import PlayState, load_run, new_run
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import Change, Plan, Step, StepFailure
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import (
    CommandResult,
    ComputerLost,
    Environment,
    FileInfo,
    JobStatus,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import wql_query
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

PE, OS = Environment.WINDOWS_PE, Environment.FULL_OS
UUID = "4c4c4544-0051-3610-8035-b4c04f4e3632"


class Lost(ComputerLost):
    def __init__(self, kind):
        super().__init__(f"the place is {kind}")
        self.kind = kind


class World:
    """One computer: where it is, since which start, and what happens at the next probes."""

    def __init__(self, environment=PE):
        self.environment = environment
        self.boot = 1
        self.uuid = UUID
        self.script = []
        self.requests = 0
        self.files = {}
        self.jobs = {}
        self.job_script = []
        self.commands = []
        self.partitions = 0
        self.after_restart = None
        self.opened = []
        self.off = None

    # Connector

    def open(self, target):
        self.opened.append(target)
        if self.off:
            raise Lost(self.off)
        wanted = PE if target.identity is Identity.WINDOWS_PE else OS
        if wanted is not self.environment:
            raise Lost("refused")
        return Link(self)

    def probe(self, target, timeout):
        if self.script:
            action = self.script.pop(0)
            if callable(action):
                action()
            elif action:
                raise Lost(action)
        if (PE if target.identity is Identity.WINDOWS_PE else OS) is not self.environment:
            raise Lost("refused")

    def own_address(self, target):
        return "127.0.0.1"


class Link:
    def __init__(self, world):
        self.world = world
        self.start = world.requests
        self.closed = False

    @property
    def requests(self):
        return self.world.requests - self.start

    def fence(self):
        self.world.requests += 1
        return Fence(self.world.environment, f"boot-{self.world.boot}")

    def computer(self, environment):
        return Computer(self.world, environment)

    def vendor(self):
        return "goldimage.osd lab"

    def close(self):
        self.closed = True


class Computer:
    def __init__(self, world, environment):
        self.world = world
        self.environment = environment
        self.cim = self

    def query(self, wql, namespace="root/cimv2"):
        self.world.requests += 1
        name = wql.split(" FROM ")[1].split()[0]
        rows = {
            "Win32_ComputerSystemProduct": [{"UUID": self.world.uuid.upper()}],
            "Win32_BIOS": [{"SerialNumber": "ABC"}],
            "Win32_NetworkAdapter": [{"MACAddress": "52:54:00:00:00:01"}],
            "MSFT_Disk": [{"Number": 0, "BusType": 11, "NumberOfPartitions": self.world.partitions}],
            "Win32_Volume": [{"DriveLetter": "W:"}],
            "MSFT_Partition": [{"DriveLetter": "W", "Offset": 1048576}],
            "CIM_DataFile": [{"Name": n, "FileSize": len(c)} for n, c in self.world.files.items() if wql_query(wql).matches({"Name": n})],
        }
        return [Instance(name, row) for row in rows.get(name, [])]

    def run(self, argv, **dummy):
        self.world.requests += 1
        self.world.commands.append(list(argv))
        if self.world.after_restart:
            self.world.after_restart()
        return CommandResult(0)

    def start_job(self, job, wait=0):
        self.world.jobs.setdefault(job.id, 0)
        self.world.jobs[job.id] += 1
        return self.job_status(job.id, 0, wait)

    def job_status(self, job_id, offset=0, wait=0):
        action = self.world.job_script.pop(0) if self.world.job_script else (0, b"")
        if isinstance(action, Exception):
            raise action
        return JobStatus(action[0], action[1], offset + len(action[1]))

    def put_file(self, path, content):
        self.world.requests += 1
        self.world.files[path.lower()] = content

    def file_info(self, path):
        self.world.requests += 1
        content = self.world.files.get(path.lower())
        return None if content is None else FileInfo(len(content), None)

    def read_range(self, path, offset, length):
        return self.world.files[path.lower()][offset : offset + length]

    def leave(self):
        """Nothing is open here."""

    def fetch_changed(self, places, known, tail):
        self.world.requests += 1
        folders = [place.lower().removesuffix("*.log") for place in places if place.endswith("*.log")]
        files = self.world.files.items()
        found = {path: content for path, content in files if path in map(str.lower, places) or path.startswith(tuple(folders))}
        return {path: (len(content), content[-tail:]) for path, content in found.items() if known.get(path) != len(content)}

    def get_file(self, path):
        if path.lower() not in self.world.files:
            raise FileNotFoundError(path)
        return self.world.files[path.lower()]

    def file_hash(self, path):
        return hashlib.sha256(self.get_file(path)).hexdigest()


class Plain(Step):
    """Does what its options say."""

    name = "Plain Step"
    environments = frozenset({PE})
    secrets = ("password",)

    def observe(self, computer):
        return None

    def plan(self, state):
        return Plan((Change("do it"),), before={"done": False}, after={"done": True}) if self.options.get("do", True) else Plan()

    def predict(self):
        return Plan((Change("do it"),), predicted=True)

    def apply(self, computer, plan):
        action = self.options.get("action")
        return (action(self, computer) or computer) if action else computer

    def verify(self, computer, plan):
        return {"verified": True, "echo": self.options.get("password")}


class Wiping(Plain):
    name = "Wiping Step"
    destructive = True


class Erasing(Plain):
    """Destroys the files of C: and D:."""

    def plan(self, state):
        return Plan((Change("wipe"),), erases=frozenset("CD"))


class Anywhere(Plain):
    name = "Anywhere"
    environments = frozenset(Environment)


@pytest.fixture
def world():
    return World()


class Sequence:
    """Runs tasks as a play does."""

    def __init__(self, world, tmp_path):
        self.world = world
        self.certificate = tmp_path / "certificate.pem"
        self.certificate.write_text("x")
        self.tmp_path = tmp_path
        self.values = {
            "inventory_hostname": "ref1",
            "osd_run": "r",
            "osd_state_dir": str(tmp_path / "state"),
            "osd_secret": "0123456789abcdef",
            "osd_winpe_connection": {"host": "127.80.0.2", "certificate": str(self.certificate), "boot_image": "b"},
            "osd_windows_connection": {"host": "127.80.0.3"},
            "osd_reconnect_time_limit": 0,
        }
        self.shown = []
        self.plays = 0
        self.in_run = True
        self.new_play()

    def new_play(self):
        self.plays += 1
        folder = self.tmp_path / f"play{self.plays}"
        folder.mkdir()
        self.play = PlayState(folder, "ref1")

    @property
    def variables(self):
        return Variables(self.values, lambda value: value)

    def begin(self):
        run = new_run(self.variables)
        run.record.machine = {"uuid": UUID, "serial": "abc", "macs": []}
        run.record.position.identity, run.record.position.host = "windows_pe", "127.80.0.2"
        run.save()
        return run

    def task(self, step, name="task", check=False, module="plain", **options):
        run = load_run(self.variables) if self.in_run else None
        task = Task(module, name, options, check, True)

        def show(percent, text):
            self.shown.append((percent, text))

        return Execution(step, task, self.variables, self.world, self.play, run, show, sleep=lambda seconds: None).perform()


@pytest.fixture
def sequence(world, tmp_path):
    made = Sequence(world, tmp_path)
    made.begin()
    return made


def journal(sequence):
    return load_run(sequence.variables).journal.read()


# --- where the computer is ---


def test_a_computer_that_restarts_when_a_play_begins_is_waited_for(sequence, world):
    sequence.values["osd_reconnect_time_limit"] = 1
    world.off = "refused"

    def comes_up():
        world.off = None

    world.script = ["refused", "timeout", comes_up]
    assert sequence.task(Plain)["changed"]
    assert any("waiting for the computer (up to 1 minutes)" in text for dummy, text in sequence.shown)


@pytest.mark.parametrize(("cleared", "remembered", "told"), [(True, {}, True), (True, {"volumes": {}}, False), (False, {}, False)])
def test_where_only_a_medium_can_help_it_says_so(sequence, world, cleared, remembered, told):
    """Broken off while the disk was made: it may hold nothing that starts."""
    sequence.values["osd_reconnect_time_limit"] = 1
    run = load_run(sequence.variables)
    run.record.cleared, run.record.remembered = cleared, remembered
    run.save()
    world.off = "refused"
    world.script = ["refused", lambda: setattr(world, "off", None)]
    assert sequence.task(Plain)["changed"]
    (waiting,) = [text for dummy, text in sequence.shown if text.startswith("waiting for the computer")]
    assert waiting.endswith("start it from the boot medium or the network.") is told


def test_a_computer_that_the_run_never_met_is_not_waited_for(sequence, world):
    sequence.values["osd_reconnect_time_limit"] = 1
    run = load_run(sequence.variables)
    run.record.position.identity = ""
    run.save()
    world.off = "refused"
    assert sequence.task(Plain)["unreachable"]


def test_a_wrong_password_is_told_at_once_before_the_silence_of_another_place(sequence, world):
    sequence.values |= {"osd_reconnect_time_limit": 1, "ansible_user": "admin", "ansible_host": "127.80.0.9"}
    world.off = "wrong_credentials"
    world.script = ["refused"]
    result = sequence.task(Plain)
    assert (result["failed"], result["msg"]) == (True, "the place is wrong_credentials")


def test_a_limit_that_is_no_number_is_refused(sequence):
    sequence.values["osd_reconnect_time_limit"] = "soon"
    assert "osd_reconnect_time_limit is 'soon'" in sequence.task(Plain)["msg"]


def test_windows_pe_that_does_not_take_the_password_ends_the_crossing_at_once(sequence, world):
    def cross(step, computer):
        def wrong():
            world.off = "wrong_credentials"

        world.script = ["refused", wrong]
        return step.context.restart(computer, PE, time_limit=60)

    result = sequence.task(Plain, action=cross)
    assert result["failed"]
    assert result["msg"].startswith(
        "Windows PE at 127.80.0.2:5986 does not accept the password of the user osd. It is derived from osd_secret"
    )


# --- what the computer says of itself ---


def begin_again(sequence):
    """Begin the run again in a new play, as start_task_sequence does."""
    sequence.new_play()
    sequence.task(Anywhere, module="task_sequence_facts", name="find", do=False)

    def begin(step, computer):
        step.context.begin(computer, step.context.run.machine)

    return sequence.task(Plain, name=f"begin {sequence.plays}", action=begin)


def partition(sequence):
    def apply(step, computer):
        step.context.remember("volumes", {"disk": 0, "windows": {"offset": 1048576}})

    return sequence.task(Plain, module="format_and_partition_disk", action=apply)


def test_a_lease_is_seen_on_a_disk_that_this_run_does_not_know_yet(sequence, world):
    expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    lease = {"run": "another", "counter": 3, "lease": {"holder": "elsewhere/1", "expires": expires}}
    world.files[r"w:\_osd\state.json"] = json.dumps(lease).encode()
    assert begin_again(sequence)["msg"].startswith("The computer is held by the run 'another' of elsewhere until ")
    del world.files[r"w:\_osd\state.json"]
    assert begin_again(sequence)["changed"]


def test_a_disk_without_the_runs_state_is_refused(sequence, world):
    partition(sequence)
    assert r"w:\_osd\state.json" in world.files
    assert not begin_again(sequence).get("failed")
    world.files.clear()
    result = begin_again(sequence)
    assert "The computer is behind the run 'r': it does not know the run" in result["msg"]


def test_a_controller_that_dies_while_the_disk_is_made_anew_is_not_taken_for_a_replaced_disk(sequence, world):
    partition(sequence)

    def dies(step, computer):
        world.files.clear()
        raise StepFailure("the controller died")

    assert sequence.task(Plain, module="format_and_partition_disk", name="again", action=dies)["failed"]
    assert not begin_again(sequence).get("failed")


def test_the_memory_of_windows_pe_is_no_disk(sequence, world):
    sequence.task(Plain)
    world.files.clear()
    assert not begin_again(sequence).get("failed")


@pytest.mark.parametrize(
    ("run", "module", "refused"), [("other", "plain", True), ("r", "plain", False), ("other", "format_and_partition_disk", False)]
)
def test_a_spent_computer_is_refused_but_partitioned_anew(sequence, world, run, module, refused):
    world.files[r"w:\_osd\captured.json"] = b'{"run": "%s"}' % run.encode()
    result = sequence.task(Wiping, module=module)
    assert bool(result.get("failed")) is refused
    if refused:
        assert result["msg"].startswith("This reference computer was captured already by the run 'other' and is spent")
        assert "uninstall the Configuration Manager client and reinstall it first" in result["msg"]


# --- the contract ---


def test_a_change_is_done_once_journaled_and_kept_on_the_computer(sequence, world):
    first = sequence.task(Plain)
    assert (first["changed"], first["verified"], first["msg"], first["step"]) == (True, True, "do it", "Plain Step")
    # Ansible would take an exit code of 3010 in 'rc' for a failure where a result does not say so.
    assert first["failed"] is False
    assert first["before"] == {"done": False}
    assert first["diff"] == {"before": "done: False\n", "after": "done: True\nchanges:\n  - do it\n"}
    assert b'"counter": 1' in world.files[r"x:\_osd\state.json"]
    sequence.new_play()
    before = world.requests
    again = sequence.task(Plain)
    assert (again["changed"], again["recorded"]) == (False, True)
    assert world.requests - before == 1 == again["requests"]
    assert [e.changed for e in journal(sequence)] == [True]


def test_a_journal_that_cannot_be_written_is_a_failure_with_its_place(sequence):
    logs = load_run(sequence.variables).log_directory.parent
    logs.write_text("no folder")
    result = sequence.task(Plain)
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"].startswith(f"{logs}/ref1 on the control node: Not a directory. Check its folder, rights and free space")


def test_what_a_step_calls_its_work_stands_beside_the_percentage(sequence, world):
    def work(step, computer):
        step.context.run_job(computer, "first-job", ["tool.exe"])
        step.context.progress(0, "apply Windows")
        step.context.run_job(computer, "apply", ["tool.exe"])

    world.job_script = [(0, b"100 %"), (0, b"[=== 100.0% ===]")]
    sequence.task(Plain, action=work)
    assert sequence.shown == [(100.0, "first job"), (0, "apply Windows"), (100.0, "apply Windows")]


def test_percentages_come_at_most_once_a_second_but_the_last_is_shown(sequence, world):
    def work(step, computer):
        step.context.run_job(computer, "apply", ["tool.exe"])

    world.job_script = [(None, b"10 %"), (None, b"11 %"), (None, b"12 %"), (0, b"100 %")]
    sequence.task(Plain, action=work)
    assert sequence.shown == [(10.0, "apply"), (100.0, "apply")]


def test_minor_changes_are_counted_where_there_is_no_room_for_all(sequence):
    class Many(Plain):
        changes = (*(Change(f"remove {number}", minor=True) for number in range(3)), Change("capture"))

        def plan(self, state):
            return Plan(self.changes)

    class TooMany(Many):
        changes = (*Many.changes, Change("publish"))

    assert sequence.task(Many)["msg"] == "remove 0; remove 1; remove 2; capture"
    result = sequence.task(TooMany, name="more")
    assert result["msg"] == "capture; publish; and 3 more"
    assert result["changes"] == ["remove 0", "remove 1", "remove 2", "capture", "publish"]


def test_two_tasks_of_one_name_are_two_steps(sequence):
    assert sequence.task(Plain)["changed"]
    assert sequence.task(Plain)["changed"]
    sequence.new_play()
    assert not sequence.task(Plain)["changed"]
    assert not sequence.task(Plain)["changed"]
    assert sequence.task(Plain)["changed"]


def test_a_changed_input_of_a_finished_step_is_refused(sequence):
    sequence.task(Plain, size=1)
    sequence.new_play()
    result = sequence.task(Plain, size=2)
    assert result["failed"]
    assert "start another osd_run" in result["msg"]
    assert "are not those with which the run 'r' did it" in result["msg"]


def test_a_step_once_finished_is_never_done_again_whatever_failed_since(sequence, world):
    sequence.task(Plain, size=1)
    for dummy in range(2):
        sequence.new_play()
        assert "The options of" in sequence.task(Plain, size=2)["msg"]
    world.off = "wrong_credentials"
    sequence.new_play()
    assert sequence.task(Plain, size=1)["failed"]
    world.off = None
    sequence.new_play()
    again = sequence.task(Plain, size=1)
    assert (again["recorded"], again["changed"]) == (True, False)


def test_a_changed_secret_is_no_changed_input(sequence):
    sequence.task(Plain, password="first-secret")
    sequence.new_play()
    assert sequence.task(Plain, password="other-secret")["recorded"]


def test_a_failed_step_is_done_again(sequence):
    def fail(step, computer):
        raise StepFailure("it broke", code=5, remedy="mend it", log="x.log")

    result = sequence.task(Plain, action=fail)
    assert (result["failed"], result["code"], result["msg"]) == (True, 5, "it broke mend it Log: x.log")
    assert [e.failed for e in journal(sequence)] == [True]
    sequence.new_play()
    assert sequence.task(Plain)["changed"]


def test_secrets_are_taken_out_of_results_and_journal(sequence):
    result = sequence.task(Plain, password="very-secret-indeed")
    assert result["echo"] == "********"
    assert "very-secret" not in load_run(sequence.variables).journal.path.read_text()


def test_outside_of_a_run_nothing_is_journaled(sequence, world):
    sequence.in_run = False
    assert sequence.task(Plain)["changed"]
    assert journal(sequence) == []
    assert world.files == {}


def test_the_wrong_phase_says_where_the_computer_is(sequence):
    class Elsewhere(Plain):
        environments = frozenset({OS})

    result = sequence.task(Elsewhere)
    assert result["failed"]
    assert result["msg"].startswith(
        "Plain Step runs in full operating system; the computer (127.80.0.2:5986) is in Windows PE. Nothing was done"
    )
    assert result["requests"] == 1


def test_check_mode_stops_after_the_plan_and_predicts_what_follows(sequence, world):
    def never(step, computer):
        raise AssertionError("applied in check mode")

    first = sequence.task(Plain, check=True, action=never)
    assert (first["changed"], first.get("predicted")) == (True, None)
    before = world.requests
    later = sequence.task(Plain, name="later", check=True, action=never)
    assert (later["changed"], later["predicted"], world.requests - before) == (True, True, 0)
    assert later["diff"] == {"before": "", "after": "changes:\n  - do it\n", "after_header": "predicted"}
    assert journal(sequence) == []
    assert world.files == {}


def test_a_condition_leaves_the_step_out_with_its_reason(sequence):
    result = sequence.task(Anywhere, module="restart_computer", target="windows_pe")
    assert (result["skipped"], result["changed"]) == (True, False)
    assert "_SMSTSInWinPE equals true" in result["skipped_reason"]
    assert journal(sequence)[0].skipped


def test_a_step_that_crossed_before_its_controller_died_goes_on_over_there(sequence, world):
    sequence.task(Plain, name="in Windows PE")
    run = load_run(sequence.variables)
    run.record.builds = True
    run.save()
    world.environment, world.boot = OS, 2
    sequence.new_play()
    sequence.task(Plain, name="in Windows PE")
    result = sequence.task(Plain, name="Setup", module="setup_windows_and_configmgr")
    assert (result["changed"], result["resumed"], result["verified"]) == (True, True, True)
    assert sequence.task(Plain, name="another")["failed"]


def test_a_step_that_was_left_out_stays_so_once_the_run_has_passed_it(sequence, world):
    restart = {"name": "restart", "module": "restart_computer", "target": "windows_pe"}
    assert sequence.task(Anywhere, **restart)["skipped"]
    sequence.task(Plain)
    run = load_run(sequence.variables)
    run.record.builds = True
    run.save()
    world.environment, world.boot = OS, 2
    sequence.new_play()
    again = sequence.task(Anywhere, **restart)
    assert (again["skipped"], again["recorded"], again["changed"]) == (True, True, False)


# --- the machine ---


def test_a_computer_with_data_is_touched_only_by_name(sequence, world):
    world.partitions = 2
    result = sequence.task(Wiping)
    assert result["failed"]
    assert f'osd_machine: "{UUID}"' in result["msg"]
    sequence.values["osd_machine"] = "52:54:00:00:00:99"
    assert "but this is" in sequence.task(Wiping)["msg"]
    sequence.values["osd_machine"] = UUID.upper()
    assert sequence.task(Wiping)["changed"]


def test_a_windows_found_is_not_even_begun_with_where_nobody_named_it(sequence, world):
    world.environment = OS
    sequence.values |= {"ansible_user": "somebody", "ansible_host": "10.0.0.3"}

    def identify(step, computer):
        step.context.identify_machine(computer)

    assert f'osd_machine: "{UUID}"' in sequence.task(Anywhere, action=identify)["msg"]
    sequence.values["osd_machine"] = UUID
    assert sequence.task(Anywhere, action=identify)["changed"]


def test_an_empty_computer_needs_no_name_and_stays_cleared(sequence, world):
    assert sequence.task(Wiping)["changed"]
    world.partitions = 3
    assert sequence.task(Wiping)["changed"]


def test_outside_of_a_run_a_destructive_step_needs_the_machine(sequence):
    sequence.in_run = False
    assert f'machine: "{UUID}"' in sequence.task(Wiping)["msg"]
    assert "but this is" in sequence.task(Wiping, machine="wrong")["msg"]
    assert sequence.task(Wiping, machine="ABC")["changed"]


# --- connections ---


@pytest.mark.parametrize(
    ("kind", "unreachable"), [("refused", True), ("timeout", True), ("wrong_credentials", False), ("wrong_certificate", False)]
)
def test_unreachable_is_only_what_cannot_be_reached(sequence, world, kind, unreachable):
    sequence.in_run = False
    world.off = kind
    result = sequence.task(Plain)
    assert bool(result.get("unreachable")) is unreachable
    assert bool(result.get("failed")) is not unreachable
    assert result["msg"] == f"the place is {kind}"


def test_an_inventory_without_any_place_says_what_to_set(sequence):
    sequence.in_run = False
    del sequence.values["osd_winpe_connection"]
    assert "Set osd_winpe_connection.host" in sequence.task(Plain)["msg"]


def crossing(target, limit=60):
    return lambda step, computer: step.context.restart(computer, target, time_limit=limit)


def restarts_into(world, environment, phases):
    def begin():
        def arrive():
            world.environment = environment
            world.boot += 1

        world.script = [*phases, arrive]

    world.after_restart = begin


def test_windows_that_vanishes_right_after_its_first_answer_is_waited_for(sequence, world, monkeypatch):
    restarts_into(world, PE, [])
    lost = iter([Lost("unreachable")])
    check = contact_module.Contacts._check_machine

    def vanishes(self, contact, machine):
        for error in lost:
            raise error
        check(self, contact, machine)

    monkeypatch.setattr(contact_module.Contacts, "_check_machine", vanishes)
    assert sequence.task(Anywhere, action=crossing(PE))["changed"]


def test_a_crossing_waits_through_all_phases_of_a_start(sequence, world):
    restarts_into(world, PE, ["", "", "refused", "unreachable", "timeout", "not_wsman"])
    result = sequence.task(Anywhere, action=crossing(PE))
    assert result["changed"], result
    record = load_run(sequence.variables).record
    assert (record.position.boot_id, record.position.identity) == ("boot-2", "windows_pe")
    assert world.commands == [[r"X:\Windows\System32\wpeutil.exe", "reboot"]]


def test_a_crossing_to_the_built_windows_takes_its_endpoint(sequence, world):
    run = load_run(sequence.variables)
    run.record.builds = True
    run.save()
    restarts_into(world, OS, ["refused"])
    result = sequence.task(Anywhere, action=crossing(OS))
    assert result["changed"], result
    built = world.opened[-1]
    assert (built.address, built.user, built.transport, built.scheme) == ("127.80.0.3:5985", "osd-run", "ntlm", "http")


def test_another_computer_after_a_restart_is_refused(sequence, world):
    restarts_into(world, PE, [lambda: setattr(world, "uuid", UUID[:-1] + "9")])
    result = sequence.task(Anywhere, action=crossing(PE))
    assert result["failed"]
    assert "Another computer answers at 127.80.0.2:5986" in result["msg"]


def test_a_computer_that_comes_back_elsewhere_is_named(sequence, world):
    run = load_run(sequence.variables)
    run.record.builds = True
    run.save()
    restarts_into(world, PE, ["refused"])
    result = sequence.task(Anywhere, action=crossing(OS))
    assert "was to start full operating system and came back in Windows PE" in result["msg"]


def test_another_computer_at_the_other_address_is_not_taken_for_it(sequence, world, monkeypatch):
    """The address of its Windows PE went to another computer of the same boot image: the built Windows is waited for."""
    clock = iter(range(0, 100000, 2))
    monkeypatch.setattr(contact_module, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=None))
    run = load_run(sequence.variables)
    run.record.builds = True
    run.save()

    def another():
        world.boot += 1
        world.uuid = UUID[:-1] + "9"
        world.script = [*["refused"] * 12, None, "refused", lambda: setattr(world, "environment", OS) or setattr(world, "uuid", UUID)]

    world.after_restart = another
    result = sequence.task(Anywhere, action=crossing(OS, limit=600))
    assert result["changed"], result


def test_a_computer_that_never_comes_back_ends_the_wait(sequence, world, monkeypatch):
    clock = iter(range(0, 100000, 10))
    monkeypatch.setattr(contact_module, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=None))
    world.after_restart = lambda: setattr(world, "script", ["refused"] * 1000)
    result = sequence.task(Anywhere, action=crossing(PE, limit=60))
    assert (result["failed"], result.get("unreachable", False)) == (True, False)
    assert "did not answer in Windows PE within 1 minutes (127.80.0.2:5986; the place is refused)" in result["msg"]


def test_after_a_power_cut_the_computer_is_found_elsewhere(sequence, world):
    run = load_run(sequence.variables)
    run.record.builds = True
    run.record.position.identity, run.record.position.host = "windows", "127.80.0.3"
    run.save()
    assert sequence.task(Plain)["changed"]


# --- jobs ---


def job(step, computer):
    result = step.context.run_job(computer, "copy", ["x.exe", "/y"])
    step.context.remember("code", result.exit_code)


def test_a_job_is_followed_shown_and_logged(sequence, world):
    world.job_script = [(None, b"10 %\n"), (None, b"55,5%\n"), (3, b"end")]
    sequence.task(Plain, action=job)
    run = load_run(sequence.variables)
    assert run.record.remembered == {"code": 3}
    assert run.record.jobs == {}
    assert next(percent for percent, dummy in sequence.shown if percent is not None) == 10
    assert (run.log_directory / "task-copy.log").read_bytes() == b"10 %\n55,5%\nend"


def test_a_job_outlives_the_controller(sequence, world):
    world.job_script = [RuntimeError("the controller died")]
    with pytest.raises(RuntimeError):
        sequence.task(Plain, action=job)
    first = list(world.jobs)
    sequence.new_play()
    sequence.task(Plain, action=job)
    assert list(world.jobs) == first
    assert world.jobs[first[0]] == 2


def test_a_finished_job_is_started_anew_the_next_time(sequence, world):
    sequence.task(Plain, action=job)
    sequence.task(Plain, action=job)
    assert len(world.jobs) == 2


def test_a_lost_connection_does_not_end_a_job(sequence, world):
    world.job_script = [(None, b"1"), Lost("timeout"), (0, b"2")]
    world.files[r"x:\_osd\recorder.log"] = b"what happened in the meantime"
    assert sequence.task(Plain, action=job)["changed"]
    (handed_over,) = sequence.tmp_path.glob("state/r/logs/*/*-recorder.log")
    assert handed_over.read_bytes() == b"what happened in the meantime"


def test_a_restart_under_a_job_is_named(sequence, world):
    world.job_script = [Lost("timeout")]
    original = world.open
    count = iter([False, True])

    def open_after_restart(target: Target):
        if next(count, False):
            world.boot += 1
        return original(target)

    world.open = open_after_restart
    assert "was restarted while a job ran" in sequence.task(Plain, action=job)["msg"]


# --- once ---


def captured(sequence, tmp_path, content=b"image"):
    run = load_run(sequence.variables)
    image = tmp_path / "reference.wim"
    image.write_bytes(content)
    sequence.values["osd_capture"] = {"path": r"\\srv\capture\reference.wim", "controller": str(image)}
    sha256 = hashlib.sha256(content).hexdigest()
    run.journal.append(
        Entry(
            "capture|0", "Capture", "capture_operating_system_image", "d", changed=True, result={"image": {"path": "p", "sha256": sha256}}
        )
    )
    return image


def test_a_complete_run_sends_nothing(sequence, world, tmp_path):
    sequence.task(Plain)
    captured(sequence, tmp_path)
    world.off = "unreachable"
    sequence.new_play()
    before = world.requests
    start = sequence.task(Anywhere, name="start", module="start_task_sequence")
    assert "This run is complete" in start["msg"]
    later = sequence.task(Plain)
    assert (start["changed"], later["changed"], world.requests - before) == (False, False, 0)
    assert "was not a part of it" in sequence.task(Plain, name="unknown")["msg"]


def test_a_complete_run_whose_file_changed_is_spent(sequence, world, tmp_path):
    captured(sequence, tmp_path).write_bytes(b"other")
    sequence.new_play()
    result = sequence.task(Anywhere, name="start", module="start_task_sequence")
    assert result["failed"]
    assert "is spent" in result["msg"]


# --- logs ---


def kept(sequence):
    folder = load_run(sequence.variables).log_directory
    return {path.name: path.read_bytes() for path in folder.glob("*.log")}


def test_the_logs_of_an_environment_are_fetched_when_a_step_fails_in_it(sequence, world):
    partition(sequence)
    world.files[r"w:\_osd\logs\dism-apply.log"] = b"what DISM said"

    def fail(step, computer):
        raise StepFailure("it broke")

    result = sequence.task(Plain, action=fail)
    assert result["msg"] == "it broke"
    assert kept(sequence)["task-dism-apply.log"] == b"what DISM said"


def test_the_logs_are_fetched_before_the_computer_leaves_and_only_once(sequence, world):
    partition(sequence)
    world.files[r"w:\_osd\logs\dism-apply.log"] = b"what DISM said"
    restarts_into(world, PE, ["refused"])
    there = []

    def cross(step, computer):
        world.after_restart, before = None, world.after_restart
        there.append(None)
        world.after_restart = lambda: (there.append(sorted(kept(sequence))), before and before())
        return step.context.restart(computer, PE, time_limit=60)

    assert sequence.task(Plain, action=cross)["changed"]
    assert there[1] == ["task-dism-apply.log"]
    assert load_run(sequence.variables).record.fetched == {r"\_osd\logs\dism-apply.log": 14}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (r"C:\Windows\Panther\setupact.log", "setupact.log"),
        (r"C:\Windows\Panther\UnattendGC\setupact.log", "unattendgc-setupact.log"),
        (r"W:\Windows\System32\Sysprep\Panther\setupact.log", "sysprep-setupact.log"),
        (r"X:\Windows\Logs\DISM\dism.log", "dism.log"),
        (r"C:\_osd\logs\dism-updates.log", "dism-updates.log"),
    ],
)
def test_logs_of_one_name_do_not_overwrite_each_other(path, name):
    assert log_name(path) == name


@pytest.mark.parametrize(
    ("target", "skips"),
    [("D:\\images\\install.wim", True), ("c:\\install.wim", True), ("E:\\install.wim", False), ("\\\\srv\\osd\\install.wim", False)],
)
def test_a_disk_with_the_runs_own_content_is_not_partitioned(sequence, target, skips):
    sequence.begin()
    sequence.values["osd_image"] = {"target": target}
    result = sequence.task(Erasing, module="format_and_partition_disk", action=lambda step, computer: None)
    assert bool(result.get("skipped")) is skips
    assert result["changed"] is not skips
    folder = target.rpartition("\\")[0]
    assert result.get("skipped_reason") == (f"_SMSTSClientCache exists: {folder if folder[2:] else folder + chr(92)}" if skips else None)


def test_a_volume_with_the_runs_own_content_is_not_emptied(sequence):
    sequence.begin()
    result = sequence.task(Erasing, module="apply_operating_system_image", image={"target": "D:\\images\\install.wim"})
    assert result["failed"]
    assert result["msg"] == (
        "Plain Step would delete this build's content: D:\\images lies on a volume that it empties. "
        "Put the content on another volume or on a share."
    )
