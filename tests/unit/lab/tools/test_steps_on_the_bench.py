# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of content run against the lab's tools and its CIM provider, without a wire between them."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import cim_provider, content, hardware
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.network import ComputerNetwork, LabNetwork
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Session
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.auto_apply_drivers import AutoApplyDrivers
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import JobResult
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_application import InstallApplication
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_software_updates import InstallSoftwareUpdates
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.join_domain_or_workgroup import JoinDomainOrWorkgroup
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.prepare_configmgr_client_for_capture import (
    PrepareConfigmgrClientForCapture,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.client import install_command, read_client
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import quote
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import CommandResult, Environment, FileInfo
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import wql
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server_faults import CimError
from ansible_collections.goldimage.osd.tests.unit.steps.test_documented_options import documented, filled
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, failure, run_step

ACCOUNT = {"user": "reader", "password": "Secret1"}
CBS = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"


class BenchComputer:
    """The four verbs straight on the lab's machine. Commands of WinRS are another logon session than SYSTEM's jobs."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.environment = bench.machine.environment
        self.provider = cim_provider.LabCim(bench.machine)
        self.cim = self

    def _ask(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except CimError as error:
            raise WsmanFault(str(error), code=error.wbem_code) from error

    def query(self, text: str, namespace: str = "root/cimv2") -> list[Instance]:
        query = wql.parse(text)
        rows = self._ask(lambda: list(self.provider.query(namespace, query)))
        return [row for row in rows if query.matches(row.properties)]

    def get(self, class_name: str, selectors: Any = None, namespace: str = "root/cimv2") -> Instance:
        return self._ask(lambda: self.provider.get(namespace, class_name, selectors or {}))

    def invoke(
        self, class_name: str, method: str, arguments: Any = None, selectors: Any = None, namespace: str = "root/cimv2"
    ) -> Mapping[str, Any]:
        return self._ask(lambda: self.provider.invoke(namespace, class_name, method, selectors, arguments or {}))

    def run(self, argv: Sequence[str], **dummy: Any) -> CommandResult:
        result = self.bench.run(quote(argv))
        return CommandResult(result.code, result.out.encode(), result.err.encode())

    def put_file(self, path: str, content: bytes) -> None:
        self.bench.files.make_directories(path.rsplit("\\", 1)[0])
        self.bench.files.write(path, content)

    def get_file(self, path: str) -> bytes:
        if not self.bench.files.is_file(path):
            raise FileNotFoundError(path)
        return self.bench.files.read(path)

    def file_info(self, path: str) -> FileInfo | None:
        if not self.bench.files.is_file(path):
            return None
        row = self.get("CIM_DataFile", {"Name": path})
        version = row["Version"]
        return FileInfo(self.bench.files.size(path), version if isinstance(version, str) else None)

    def file_hash(self, path: str) -> str:
        return hashlib.sha256(self.get_file(path)).hexdigest()


def lay_files(bench: Any, label: str, files: Mapping[str, bytes] | None) -> str:
    """Lay a job's files into its folder and return that; '' without files."""
    if not files:
        return ""
    drive = "X:" if bench.machine.environment is Environment.WINDOWS_PE else "C:"
    folder = rf"{drive}\_osd\jobs\{label}"
    bench.files.make_directories(folder)
    for name, data in files.items():
        bench.files.write(rf"{folder}\{name}", data)
    return folder


class LabContext(FakeContext):
    """Jobs run on the lab's machine; each in a logon session of its own, so nothing is reached that it did not connect itself."""

    def __init__(self, bench: Any, **remembered: Any) -> None:
        super().__init__(None, **remembered)
        self.bench = bench
        self.outputs: list[str] = []

    def run_job(self, computer: Any, label: str, argv: Sequence[str], **given: Any) -> JobResult:
        super().run_job(computer, label, argv, **given)
        own, self.bench.session = self.bench.session, Session("SYSTEM", id=f"job-{label}")
        self.bench.environment = dict(given.get("environment") or {})
        try:
            # A job's start makes the folder of the logs.
            self.bench.files.make_directories(r"C:\_osd\logs")
            directory = given.get("directory") or lay_files(self.bench, label, given.get("files"))
            result = self.bench.run(quote(argv), given.get("stdin", b""), directory)
        finally:
            self.bench.session, self.bench.environment = own, {}
        self.outputs.append(result.out + result.err)
        return JobResult(result.code, result.out.encode(), None, 0.1)


@pytest.fixture
def samples(windows: Any) -> Any:
    """A running Windows and a share with the lab's samples."""
    content.make_samples(windows.share)
    return windows


def test_two_applications_from_a_share(samples: Any) -> None:
    wishes = [
        {
            "name": "7-Zip",
            "source": {"target": r"\\srv\images\applications\7zip.msi", "account": ACCOUNT},
            "install": ["msiexec.exe", "/i", "7zip.msi", "/qn", "/norestart"],
            "detection": [{"type": "msi", "product_code": "{23170F69-40C1-2702-2409-000001000000}", "version": "24.09"}],
        },
        {
            "name": "Visual C++ runtime",
            "source": {"target": r"\\srv\images\applications\vcredist.exe", "account": ACCOUNT},
            "install": ["vcredist.exe", "/quiet", "/norestart"],
            "detection": [{"type": "file", "path": r"C:\Windows\System32\vcruntime140.dll", "version": "14.42"}],
        },
    ]
    options = filled(documented("install_application"), {"applications": wishes})
    context = LabContext(samples)
    dummy, result = run_step(InstallApplication(options, context), BenchComputer(samples))
    assert [(a["outcome"], a["code"], a["restarted"]) for a in result["applications"]] == [
        ("installed", 0, False),
        ("installed", 3010, True),
    ]
    assert context.events[-2:] == ["02-visual-c-runtime", "restart"]
    plan, dummy = run_step(InstallApplication(options, LabContext(samples)), BenchComputer(samples))
    assert not plan.changes


def test_an_application_from_the_https_server(samples: Any) -> None:
    site = samples.share.parent / "site"
    shutil.copy(samples.share / "applications" / "7zip.msi", site / "7zip.msi")
    wish = {
        "name": "7-Zip",
        "source": {
            "target": "https://web.lab/7zip.msi",
            "account": ACCOUNT,
            "sha256": hashlib.sha256((site / "7zip.msi").read_bytes()).hexdigest(),
        },
        "install": ["msiexec.exe", "/i", "7zip.msi", "/qn", "/norestart", "TEXT=two words & more"],
        "detection": [{"type": "file", "path": r"C:\Program Files\7-Zip\7z.exe", "version": "24.9"}],
    }
    options = filled(documented("install_application"), {"applications": [wish]})
    context = LabContext(samples)
    dummy, result = run_step(InstallApplication(options, context), BenchComputer(samples))
    assert result["_TSAppInstallStatus"] == "Success", context.outputs
    missing = {**wish, "source": {"target": "https://web.lab/other.msi", "sha256": None}}
    options = filled(documented("install_application"), {"applications": [{**missing, "detection": None}]})
    problem = failure(lambda: run_step(InstallApplication(options, LabContext(samples)), BenchComputer(samples)))
    assert problem.code == 22, problem.message


def test_a_wrong_account_reaches_nothing(samples: Any) -> None:
    wish = {
        "name": "7-Zip",
        "source": {"target": r"\\srv\images\applications\7zip.msi", "account": {**ACCOUNT, "password": "wrong"}},
        "install": ["msiexec.exe", "/i", "7zip.msi", "/qn", "/norestart"],
    }
    options = filled(documented("install_application"), {"applications": [wish], "continue_on_error": True})
    dummy, result = run_step(InstallApplication(options, LabContext(samples)), BenchComputer(samples))
    assert result["applications"][0]["meaning"] == r"The computer could not connect to \\srv\images\applications\7zip.msi as reader"


def test_an_update_from_a_share(samples: Any) -> None:
    given = {"source": {"target": r"\\srv\images\updates", "account": ACCOUNT}, "updates": [{"file": "KB5000001.cab"}]}
    options = filled(documented("install_software_updates"), given)
    context = LabContext(samples)

    def restart() -> None:
        """What Windows does with pending packages when it starts."""
        registry = samples.machine.live_registry
        key = rf"HKLM\{CBS}\Packages\Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0"
        registry.set(key, "CurrentState", registry_hive.Value.dword(112))
        registry.delete_key(rf"HKLM\{CBS}\RebootPending")

    context.on_restart = restart
    dummy, result = run_step(InstallSoftwareUpdates(options, context), BenchComputer(samples))
    assert result == {"updates": [{"file": "KB5000001.cab", "state": "installed"}], "restarts": 1}
    assert samples.files.is_file(r"C:\_osd\logs\dism-updates.log")
    plan, dummy = run_step(InstallSoftwareUpdates(options, LabContext(samples)), BenchComputer(samples))
    assert not plan.changes


def test_the_client_comes_and_goes(samples: Any) -> None:
    computer = BenchComputer(samples)
    assert read_client(computer).is_absent
    samples.files.make_directories(r"C:\_osd\content\client")
    samples.files.write(r"C:\_osd\content\client\ccmsetup.exe", (samples.share / "client" / "ccmsetup.exe").read_bytes())
    installed = samples.run(quote(install_command(r"C:\_osd\content\client", ["/mp:https://mp.lab"], {"SMSSITECODE": "P01"})))
    assert installed.code == 0, installed.out + installed.err
    state = read_client(computer)
    assert state.service
    assert state.version
    options = filled(documented("prepare_configmgr_client_for_capture"), {})
    dummy, result = run_step(PrepareConfigmgrClientForCapture(options, LabContext(samples)), computer)
    assert result["client"] == "absent"
    assert read_client(computer).is_absent
    for key in ("SMS", "CCM", "CCMSetup", r"SystemCertificates\SMS"):
        assert samples.machine.live_registry.find(rf"HKLM\SOFTWARE\Microsoft\{key}") is None
    assert not samples.files.exists(r"C:\Windows\SMSCFG.INI")


DOMAIN = {
    "domain": {"name": "corp.lab", "netbios": "CORP"},
    "accounts": [{"name": r"CORP\joiner", "password": "J0in-it", "may_join": True}, {"name": r"CORP\guest", "password": "Gue5t"}],
}


def test_a_domain_is_joined_and_left(samples: Any) -> None:
    samples.machine.network = ComputerNetwork(LabNetwork.from_plain(DOMAIN))
    computer, context = BenchComputer(samples), LabContext(samples)

    def step(**given: Any) -> JoinDomainOrWorkgroup:
        return JoinDomainOrWorkgroup(filled(documented("join_domain_or_workgroup"), given), context)

    def join(user: str, password: str) -> Mapping[str, Any]:
        account = {"user": rf"CORP\{user}", "password": password}
        return run_step(step(join_type="domain", domain="corp.lab", account=account), computer)[1]

    assert failure(lambda: join("joiner", "wrong")).code == 1326
    assert failure(lambda: join("guest", "Gue5t")).code == 5
    assert join("joiner", "J0in-it")["membership"] == "domain corp.lab"
    assert join("joiner", "J0in-it")["restarted"] is False
    workgroup = step(join_type="workgroup", workgroup="BUILD")
    assert run_step(workgroup, computer)[1] == {"membership": "workgroup BUILD", "restarted": True}
    assert context.events == ["restart", "restart"]


@pytest.fixture
def applied(pe: Any, trees: Path) -> Any:
    """Windows PE with a Windows on W: and the samples on a share."""
    content.make_samples(pe.share)
    script = "select disk 0\r\nclean\r\nconvert gpt\r\ncreate partition primary\r\nformat quick fs=ntfs\r\nassign letter=W\r\n"
    pe.files.write(r"X:\script.txt", script.encode())
    assert pe.run(r"diskpart /s X:\script.txt").code == 0
    volume = pe.machine.disks.letters()["W"]
    shutil.copytree(trees / "windows", volume.root, dirs_exist_ok=True)
    device = hardware.Device(r"PCI\VEN_1D6B&DEV_0104\0", "Ethernet Controller", (r"PCI\VEN_1D6B&DEV_0104",), (r"PCI\CC_0200",))
    pe.machine.parts = dataclasses.replace(pe.machine.parts, devices=(device,))
    return pe


@pytest.mark.parametrize("where", ["control node", "computer"])
def test_a_driver_is_chosen_and_added(applied: Any, where: str) -> None:
    source: dict[str, Any] = {"target": r"\\srv\images\drivers", "account": ACCOUNT}
    if where == "control node":
        source["controller"] = str(applied.share / "drivers")
    options = filled(documented("auto_apply_drivers"), {"sources": [source]})
    record = {"version": "10.0.26100", "architecture": "x64", "edition": "Enterprise"}

    class Connected(LabContext):
        """All of Windows PE is one logon session."""

        def run_job(self, computer: Any, label: str, argv: Sequence[str], **given: Any) -> JobResult:
            FakeContext.run_job(self, computer, label, argv, **given)
            result = self.bench.run(quote(argv), directory=lay_files(self.bench, label, given.get("files")))
            return JobResult(result.code, result.out.encode(), None, 0.1)

    assert applied.run(r"net use \\srv\images Secret1 /user:reader").code == 0
    dummy, result = run_step(AutoApplyDrivers(options, Connected(applied, applied_image=record)), BenchComputer(applied))
    assert result["added"] == [r"labnet\labnet.inf (Goldimage, 2025-03-01, 2.1.0.0)"]
    assert result["without_driver"] == []
    store = applied.files.names(r"W:\Windows\System32\DriverStore\FileRepository")
    assert [name for name in store if name.startswith("labnet.inf_amd64_")]
    assert "oem0.inf" in applied.files.names(r"W:\Windows\INF")
    plan, dummy = run_step(AutoApplyDrivers(options, Connected(applied, applied_image=record)), BenchComputer(applied))
    assert not plan.changes
