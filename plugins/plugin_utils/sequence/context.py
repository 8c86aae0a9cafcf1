# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the sequence offers to a step that runs: progress, jobs, restarts, memory, content. Implements ``steps.base.StepContext``."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..steps.base import JobResult, StepFailure
from ..windows.computer import Computer, ComputerLost, Environment, Job, JobStatus
from ..windows.disks import used_letters
from ..windows.https_opening import Https
from ..windows.names import RECORDER, STATE_FILE
from ..windows.volumes import file_sizes
from ..wsman.faults import WsmanFault
from ..wsman.known import known
from . import conditions, windows_certificate
from .contact import Contact, Contacts
from .content import ShareConnections, check_sources, declared_sources, rehearse_capture
from .credentials import derive_password, run_account_purpose
from .endpoints import Variables, boot_image_hash, own_windows_certificate, secret, windows_https_port
from .logs import known_sizes, log_key, log_name, log_places
from .machine import Machine, line_to_add, read_machine, unnamed
from .run import Run, saved
from .state import MachineState, check_lease, check_reverted, lease_end, read_state, write_state

#: Seconds that a job's poll may wait on the computer, and that a lost connection is tolerated.
_POLL_WAIT = 5.0
_LOST_LIMIT = 300.0
#: Seconds between two renewals of the lease while a job runs.
_RENEWAL = 600.0
#: The drive of Windows PE, which forgets.
RAM_DISK = "X:"
_LOG_TAIL = 256 * 1024
_NOT_IN_SLUGS = re.compile(r"[^A-Za-z0-9.]+")
_PERCENT = re.compile(rb"(\d{1,3})(?:[.,](\d+))?\s?%")

Show = Callable[[float | None, str], None]


class SequenceContext:
    """The context of one task, inside a run or alone (``run`` None)."""

    def __init__(
        self,
        contacts: Contacts,
        variables: Variables,
        run: Run | None,
        *,
        step: str,
        show: Show,
        check_mode: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the task's connections and the run. ``show`` prints percent and text to the user."""
        self.contacts = contacts
        self.variables = variables
        self.run = run
        self.step = step
        self.check_mode = check_mode
        self.run_id = run.id if run else ""
        self.log_directory: Path | None = run.log_directory if run and not check_mode else None
        self.warnings: list[str] = []
        self.last_log = ""
        self._show = show
        self._sleep = sleep
        self._shown = (-1.0, 0.0, "")
        self._title = ""
        self._renewed = time.monotonic()
        self._shares = ShareConnections()
        self._identified: Machine | None = None

    # --- Words --------------------------------------------------------------------------------------------------------

    def progress(self, percent: float | None, text: str) -> None:
        """Show how far it is: at most one line a second, and only when something changed. With a percent, it names the jobs to come."""
        now = time.monotonic()
        if percent is not None:
            self._title = text
        shown, when, last = self._shown
        whole = -1.0 if percent is None else float(int(percent))
        if text == last and whole == shown:
            return
        if now - when < 1 and text == last and (percent is None or percent < 100):
            return
        self._shown = (whole, now, text)
        self._show(percent, text)

    def warn(self, text: str) -> None:
        """Add a warning to the result."""
        self.warnings.append(text)

    # --- Jobs ---------------------------------------------------------------------------------------------------------

    def run_job(
        self,
        computer: Computer,
        label: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        directory: str = "",
        time_limit: int = 0,
        files: Mapping[str, bytes] | None = None,
    ) -> JobResult:
        """Start or re-attach, poll to the end, keep the output as ``<step>-<label>.log``."""
        started = time.monotonic()
        name = self._job_name(label, argv, files or {})
        job = Job(self._job_id(name, label), tuple(argv), directory, environment or {}, stdin, time_limit, files or {})
        output, code = self._follow(computer, job, label)
        if self.run and not self.check_mode:
            self.run.forget_job(name)
        log = self._keep_log(f"{label}.log", output)
        return JobResult(code, output, log, time.monotonic() - started)

    def _job_id(self, name: str, label: str) -> str:
        """The id of an unfinished job of that name, or a new one, which is written down before the job starts."""
        if self.run and name in self.run.record.jobs:
            return self.run.record.jobs[name]
        fresh = hashlib.sha256(f"{self.run_id}|{name}|{time.time_ns()}".encode()).hexdigest()[:12]
        job_id = f"{_slug(self.step)}-{_slug(label)}-{fresh}"
        if self.run and not self.check_mode:
            with saved(self.run) as record:
                record.jobs[name] = job_id
        return job_id

    def _job_name(self, label: str, argv: Sequence[str], files: Mapping[str, bytes]) -> str:
        boot = self.contacts.current.fence.boot_id if self.contacts.current else ""
        digest = hashlib.sha256("\0".join(argv).encode())
        for name, content in files.items():
            digest.update(b"\0" + name.encode() + b"\0" + content)
        return f"{self.step}|{label}|{boot}|{digest.hexdigest()[:12]}"

    def end_jobs(self, computer: Computer) -> None:
        """End and forget what an earlier attempt of this step left running."""
        if self.run is None or self.check_mode:
            return
        for name in [name for name in self.run.record.jobs if name.startswith(f"{self.step}|")]:
            computer.stop_job(self.run.record.jobs[name])
            with saved(self.run) as record:
                del record.jobs[name]

    def _follow(self, computer: Computer, job: Job, label: str) -> tuple[bytes, int]:
        output, offset, lost_since, started = bytearray(), 0, 0.0, False
        while True:
            asked = time.monotonic()
            try:
                # A start that was lost on the way is repeated: a job that is there already is attached to.
                status = computer.job_status(job.id, offset, _POLL_WAIT) if started else computer.start_job(job, _POLL_WAIT)
                lost_since, started = 0.0, True
            except (ComputerLost, WsmanFault) as error:
                lost_since = lost_since or asked
                if isinstance(error, WsmanFault) and not error.is_timeout:
                    raise
                if asked - lost_since > _LOST_LIMIT:
                    raise
                self._sleep(1.0)
                computer = self._return_to(computer)
                continue
            except KeyError as error:
                raise StepFailure(
                    f"The job {job.id} is no longer on the computer.", remedy="Run the playbook again; the step starts over."
                ) from error
            output += status.output
            offset = status.offset
            self._show_job(label, status)
            if status.exit_code is not None:
                return bytes(output), status.exit_code
            self._renew(computer)
            if time.monotonic() - asked < 0.1:
                self._sleep(0.2)

    def _return_to(self, computer: Computer) -> Computer:
        """Reconnect; the same start must answer, or the job is dead."""
        boot = self.contacts.here.fence.boot_id
        try:
            contact = self.contacts.reopen()
        except (ComputerLost, WsmanFault):
            return computer
        if contact.fence.boot_id != boot:
            raise StepFailure("The computer was restarted while a job ran on it.", remedy="Run the playbook again; the step starts over.")
        if contact.fence.environment is Environment.WINDOWS_PE:
            # What happened in the meantime. A failure names the log of its own job.
            named = self.last_log
            self.fetch_log(contact.computer, RECORDER)
            self.last_log = named
        return contact.computer

    def _show_job(self, label: str, status: JobStatus) -> None:
        found = list(_PERCENT.finditer(status.output[-4096:]))
        if found:
            whole, fraction = found[-1].groups()
            percent = float(whole) + float(b"0." + (fraction or b"0"))
            if percent <= 100:
                self.progress(percent, self._title or label.replace("-", " "))

    def _keep_log(self, name: str, content: bytes) -> Path | None:
        if self.log_directory is None:
            return None
        self.log_directory.mkdir(parents=True, exist_ok=True)
        path = self.log_directory / f"{_slug(self.step)}-{name}"
        path.write_bytes(content)
        self.last_log = str(path)
        return path

    def fetch_log(self, computer: Computer, *paths: str) -> str:
        """Fetch the last 256 KiB of each log."""
        if self.log_directory is None:
            return ""
        try:
            found = computer.fetch_changed(paths, {}, _LOG_TAIL)
        except (WsmanFault, ComputerLost, OSError):
            return ""
        return ", ".join(str(self._keep_log(log_name(path), content)) for path, (dummy, content) in found.items())

    def fetch_logs(self, computer: Computer) -> None:
        """Fetch every log of this environment that grew since its last fetch: after a failure, and before the computer leaves."""
        if self.run is None or self.check_mode:
            return
        named = self.last_log
        full = computer.environment is Environment.FULL_OS
        fetched = dict(self.run.record.fetched)
        try:
            drive = "C:" if full else self.state_drive(computer).replace(RAM_DISK, "")
            known = known_sizes(fetched, drive)
            for path, (size, content) in computer.fetch_changed(log_places(computer.environment, drive), known, _LOG_TAIL).items():
                self._keep_log(log_name(path), content)
                fetched[log_key(path)] = size
        except (ComputerLost, WsmanFault, OSError) as problem:
            self.warn(f"The logs of {computer.environment.value} could not all be fetched: {problem}")
        # A failure names the log of its own job.
        self.last_log = named
        # Where it is not written, they are fetched once more.
        self.run.record.fetched = fetched
        self.run.owe()

    # --- Restarts -----------------------------------------------------------------------------------------------------

    def restart(self, computer: Computer, target: Environment, *, time_limit: int) -> Computer:
        """Restart and cross. In Windows PE the agent answers first; in Windows the request is given three seconds."""
        last_boot = self.boot_id(computer)
        self.remember_place()
        if computer.environment is Environment.WINDOWS_PE or self.run and self.run.record.builds:
            self.fetch_logs(computer)
        self.progress(None, f"restarting into {'Windows PE' if target is Environment.WINDOWS_PE else 'Windows'}")
        pe = computer.environment is Environment.WINDOWS_PE
        argv = (
            [r"X:\Windows\System32\wpeutil.exe", "reboot"]
            if pe
            else [r"C:\Windows\System32\shutdown.exe", "/r", "/f", "/t", "3", "/d", "p:2:4"]
        )
        try:
            result = computer.run(argv)
        except (ComputerLost, WsmanFault, TimeoutError):
            # It went down before it could answer.
            result = None
        # 1115: a shutdown is in progress; 1190: one is planned already.
        if result and result.exit_code not in (0, 1115, 1190):
            raise StepFailure(f"The restart was refused: {argv[0]} ended with {result.exit_code}.", code=result.exit_code)
        return self.wait_for(target, time_limit=time_limit, last_boot=last_boot)

    def wait_for(self, target: Environment, *, time_limit: int, last_boot: str) -> Computer:
        """Cross to where the restart that is under way leads."""
        self.remember_place()
        if self.contacts.current:
            self.contacts.current.computer.leave()
        contact = self.contacts.wait_for(
            target, last_boot=last_boot, time_limit=time_limit, say=lambda text: self.progress(None, text), machine=self._machine
        )
        self._shares = ShareConnections()
        self.remember_place()
        return contact.computer

    def boot_id(self, computer: Computer) -> str:
        """The fence's, which every crossing renews."""
        return self.contacts.current.fence.boot_id if self.contacts.current else ""

    @property
    def _machine(self) -> Machine | None:
        return self.run.machine if self.run else None

    def remember_place(self) -> None:
        """Note where the computer is; the next task begins there, and looks elsewhere where the note was not written."""
        contact = self.contacts.current
        if self.run is None or contact is None:
            return
        position = self.run.record.position
        position.identity, position.host = contact.target.identity.value, contact.target.host
        if position.boot_id != contact.fence.boot_id:
            # Windows PE assigns its letters anew at every start.
            position.windows_drive = ""
        position.environment, position.boot_id = contact.fence.environment.value, contact.fence.boot_id
        self.run.owe()

    # --- Content and memory -------------------------------------------------------------------------------------------

    def content(self, source: Mapping[str, Any], *, fresh: bool = False) -> str:
        """Connect a share once in this environment and return the path; ``fresh`` lets no earlier connection answer for the account."""
        return self._shares.connect(self.contacts.here.computer, source, fresh=fresh)

    def remember(self, key: str, value: Any) -> None:
        """Keep a value in run.json; the computer's own state gets it when the step ends."""
        if self.run and not self.check_mode:
            with saved(self.run) as record:
                record.remembered[key] = value

    def recall(self, key: str) -> Any:
        """Return a value from run.json."""
        return self.run.record.remembered.get(key) if self.run else None

    def derived_password(self, purpose: str) -> str:
        """Derive; ``run-account`` belongs to run and machine."""
        if purpose == "run-account":
            if self.run is None:
                raise StepFailure("The run's account exists only inside a run.", remedy="Begin with start_task_sequence.")
            purpose = run_account_purpose(self.run.id, self.run.machine.id)
        return derive_password(secret(self.variables), purpose)

    def boot_image_hash(self, image: Mapping[str, Any]) -> str:
        """The declared SHA-256, or the one in boot.json."""
        return str(image.get("sha256") or "").lower() or boot_image_hash(self.variables)

    def controller_address(self) -> str:
        """The control node's address, ``osd_controller_address`` where there is a translation in between."""
        given = self.variables.get("osd_controller_address")
        if given:
            return str(given)
        return self.contacts.own_address(self.contacts.here.target)

    # --- The run's own steps ------------------------------------------------------------------------------------------

    def facts(self, computer: Computer, subset: Sequence[str]) -> dict[str, Any]:
        """Return the read-only variables of the groups asked for; ``environment`` costs no request."""
        found = conditions.environment_variables(self.contacts.here.fence, self.variables, self.run_id)
        if "firmware" in subset:
            found |= conditions.firmware_variables(computer)
        if "machine" in subset:
            known = self._identified or self._machine
            found |= conditions.machine_variables(computer, known if known and known.id else read_machine(computer.cim))
        if "network" in subset:
            found |= conditions.network_variables(computer)
        if "windows" in subset:
            found |= conditions.windows_variables(computer)
        return found

    def check_content(self, computer: Computer, phases: Sequence[str]) -> None:
        """Have every declared source read, and the destination of the image written to.

        From the full operating system a build's content is read by the control node alone, and by the computer itself once it is in Windows
        PE (``check_unread``).
        """
        verified = self.run.record.verified if self.run else []
        hashed = check_sources(self, computer, declared_sources(self.variables, phases), verified)
        later = computer.environment is Environment.FULL_OS and "build" in phases
        if self.check_mode:
            return
        if self.run:
            with saved(self.run) as record:
                record.unread = list(phases) if later else []
                record.verified = [*verified, *hashed]
        capture = self.variables.mapping("osd_capture")
        path = str(capture.get("path") or "")
        # In Windows the rehearsal costs a scheduled task: what Windows PE found out earlier in this run counts.
        known = computer.environment is Environment.FULL_OS and self.run is not None and self.run.record.rehearsed == path
        if path and not later and not known:
            rehearse_capture(self, computer, capture)
            if self.run:
                with saved(self.run) as record:
                    record.rehearsed = path

    def check_unread(self, computer: Computer) -> None:
        """Before the first destructive step: read what only the computer in Windows PE can read."""
        if self.run and self.run.record.unread and not self.check_mode:
            self.check_content(computer, self.run.record.unread)

    def identify_machine(self, computer: Computer) -> Machine:
        """Read the machine and hold it against the run's and against ``osd_machine``."""
        machine = read_machine(computer.cim)
        if not machine.id:
            raise StepFailure(
                "The computer has no UUID, serial number or MAC address that could tell it from another one.",
                remedy="Correct its SMBIOS data.",
            )
        known = self._machine
        if known and known.id and not known.is_same(machine):
            raise StepFailure(
                f"Another computer answers: {machine.describe}. The run's computer is {known.describe}.",
                remedy="Correct the address, or start another osd_run for this computer.",
            )
        named = str(self.variables.get("osd_machine", ""))
        if named and not machine.is_named(named):
            raise StepFailure(
                f"osd_machine is '{named}', but the computer is {machine.describe}. Nothing was changed on it.",
                remedy=f"If it is the right one, set in its host variables: {line_to_add(machine)}",
            )
        builds = self.run is not None and self.run.record.builds
        if not named and computer.environment is Environment.FULL_OS and not builds:
            # Not even the lease is written to a Windows that nobody named; in Windows PE the destructive steps look at the disks.
            refusal = unnamed(str(self.variables.get("inventory_hostname", "the computer")), machine)
            if not self.check_mode:
                raise refusal
            self.warn(f"{refusal.message} The real run will stop here. {refusal.remedy}")
        self._identified = machine
        return machine

    def begin(self, computer: Computer, machine: Machine) -> None:
        """Take the lease and write the run's record."""
        run = known(self.run)
        drive = self.state_drive(computer)
        state = read_state(computer, drive)
        for held in (state, *self._states_elsewhere(computer)):
            check_lease(held, run.record.holder, run.id)
        if drive != RAM_DISK or self.recall("volumes"):
            check_reverted(state, run.id, run.record.on_disk)
        contact = self.contacts.here
        with saved(run) as record:
            record.machine = machine.as_dict()
            if record.simulated is None:
                record.simulated = is_simulated(contact)
        self.remember_place()
        self.write_state(computer)

    def _states_elsewhere(self, computer: Computer) -> list[MachineState | None]:
        """Return what other runs left on the volumes of a computer in Windows PE whose disk is not this run's yet."""
        if computer.environment is Environment.FULL_OS or self.recall("volumes"):
            return []
        drives = [f"{letter}:" for letter in sorted(used_letters(computer.cim)) if f"{letter}:" != RAM_DISK]
        there = file_sizes(computer, [rf"{drive}\{STATE_FILE}" for drive in drives])
        return [read_state(computer, drive) for drive in drives if rf"{drive}\{STATE_FILE}".lower() in there]

    def state_drive(self, computer: Computer) -> str:
        """Return the drive of state.json: C: in Windows; in Windows PE the Windows volume of this run, before that X:."""
        if computer.environment is Environment.FULL_OS:
            return "C:"
        return self.windows_drive(computer) or RAM_DISK

    def windows_drive(self, computer: Computer) -> str:
        """Look once in each start of Windows PE: the partition is found by disk and offset."""
        volumes = self.recall("volumes") or {}
        windows = volumes.get("windows") or {}
        if self.run is None or not windows:
            return ""
        position = self.run.record.position
        if position.windows_drive and position.boot_id == self.boot_id(computer):
            return position.windows_drive
        rows = computer.cim.query(
            f"SELECT DriveLetter,Offset FROM MSFT_Partition WHERE DiskNumber={int(volumes.get('disk', 0))}",
            "root/microsoft/windows/storage",
        )
        letters = {row["Offset"]: str(row["DriveLetter"] or "").strip("\0") for row in rows}
        letter = letters.get(windows.get("offset"), "")
        drive = f"{letter}:" if letter else ""
        if drive and not self.check_mode:
            self.remember_place()
            position.windows_drive = drive
        return drive

    def forget_letters(self) -> None:
        """Look for the Windows volume anew: a step may have given it another letter."""
        if self.run and self.run.record.position.windows_drive:
            with saved(self.run) as record:
                record.position.windows_drive = ""

    def write_state(self, computer: Computer) -> None:
        """Write counter, lease and memory to the computer. A computer that is spent or without a disk yet keeps it in RAM."""
        if self.run is None or self.check_mode:
            return
        record = self.run.record
        state = MachineState(record.run, record.holder, lease_end(datetime.now(UTC)), record.counter, self.step, record.remembered)
        drive = self.state_drive(computer)
        write_state(computer, drive, state)
        self._renewed = time.monotonic()
        if drive != RAM_DISK and record.on_disk != record.counter:
            # A computer that is further than was written down is no reverted one.
            record.on_disk = record.counter
            self.run.owe()

    def expect_no_state(self) -> None:
        """What is on the computer's disk goes with the step that begins: it may be missing until the step's end."""
        if self.run and self.run.record.on_disk:
            with saved(self.run) as record:
                record.on_disk = 0
                record.position.windows_drive = ""

    def _renew(self, computer: Computer) -> None:
        if self.run and time.monotonic() - self._renewed > _RENEWAL:
            with contextlib.suppress(ComputerLost, WsmanFault):
                self.write_state(computer)

    def windows_https(self) -> Https | None:
        """Make the built Windows' certificate; the control node keeps it in the run's folder, its key nowhere."""
        port = windows_https_port(self.variables)
        if port is None or self.run is None:
            return None
        certificate, https = windows_certificate.make(port)
        place = own_windows_certificate(self.run.directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(certificate)
        return https

    def mark_built(self) -> None:
        """From now on the Windows on the disk is this run's."""
        if self.run:
            with saved(self.run) as record:
                record.builds = True


def is_simulated(contact: Contact) -> bool:
    """Tell whether a lab computer answers, by the vendor that Identify names."""
    return {"lab", "simulated"} & set(re.findall(r"\w+", contact.link.vendor().lower())) != set()


def _slug(text: str) -> str:
    return _NOT_IN_SLUGS.sub("-", text).strip("-").lower()[:40] or "step"
