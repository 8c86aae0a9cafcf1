# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install Application: detection, order, restarts, failures."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_application import InstallApplication
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import applications
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.applications import DetectionRule, Observed, RuleKind
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import batch_line, quote
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.local_content import COPY_SCRIPT_TEXT
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure, run_step

CODE = "{23170F69-40C1-2702-2301-000001000000}"
UNINSTALL = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
WOW = r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall"


def rule(kind: str = "msi", **given: Any) -> dict[str, Any]:
    names = ("product_code", "path", "version", "key", "value_name", "value", "service")
    return {**dict.fromkeys(names), "type": kind, "operator": "at_least", **given}


def app(name: str = "7-Zip", **given: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": name,
        "source": None,
        "install": ["setup.exe", "/S"],
        "detection": None,
        "success_codes": [0],
        "restart_codes": [3010, 1641],
        "maximum_run_time": 120,
        "retries": 3,
        "continue_on_error": None,
    }
    return {**base, **given}


def options(*apps: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"applications": list(apps), "continue_on_error": False, "retry_delay": 0, "restart_time_limit": 60, **given}


def msi(windows: FakeWindows, version: str = "23.01", root: str = UNINSTALL) -> None:
    windows.set_value(rf"{root}\{CODE}", "DisplayVersion", "REG_SZ", version)


DETECTED = [rule(product_code=CODE, version="23.01")]


def test_what_is_detected_is_not_installed_and_costs_one_request() -> None:
    windows, context = FakeWindows(), FakeContext()
    msi(windows)
    plan, result = run_step(InstallApplication(options(app(detection=DETECTED)), context), windows)
    assert not plan.changes
    assert windows.requests == 1
    assert context.jobs == []
    assert result["applications"][0]["outcome"] == "already installed"
    assert result["_TSAppInstallStatus"] == "Success"


def test_install_then_detected() -> None:
    windows = FakeWindows()
    context = FakeContext(lambda label, argv: msi(windows) or 0)
    dummy, result = run_step(InstallApplication(options(app(detection=DETECTED)), context), windows)
    assert context.jobs == [("01-7-zip", ["setup.exe", "/S"])]
    assert context.time_limits == [7200]
    shown = result["applications"][0]
    assert (shown["outcome"], shown["code"], shown["meaning"]) == ("installed", 0, "success")


def test_exit_code_zero_and_not_detected_fails_as_configuration_manager_does() -> None:
    step = InstallApplication(options(app(detection=DETECTED)), FakeContext())
    problem = failure(lambda: run_step(step, FakeWindows()))
    assert problem.message == "7-Zip ended with exit code 0x87d00324: installed with success and not detected."
    assert problem.code == 0x87D00324
    assert "detection rule" in problem.remedy


def test_3010_restarts_before_the_next_one() -> None:
    context = FakeContext(lambda label, argv: 3010 if label.startswith("01") else 0)
    dummy, result = run_step(InstallApplication(options(app("A"), app("B")), context), FakeWindows())
    assert context.events == ["01-a", "restart", "02-b"]
    assert [entry["restarted"] for entry in result["applications"]] == [True, False]


def test_1641_waits_for_the_restart_that_is_under_way() -> None:
    context = FakeContext(lambda label, argv: 1641)
    run_step(InstallApplication(options(app("A")), context), FakeWindows())
    assert context.events == ["01-a", "wait after boot-1"]


def test_the_first_failure_ends_the_list() -> None:
    context = FakeContext(lambda label, argv: 1603 if label.startswith("01") else 0)
    problem = failure(lambda: run_step(InstallApplication(options(app("A"), app("B"), app("C")), context), FakeWindows()))
    assert problem.message.startswith("A ended with exit code 1603: a fatal error during installation. Not installed: B, C.")
    assert problem.code == 1603
    assert context.events == ["01-a"]


@pytest.mark.parametrize("where", ["list", "application"])
def test_continue_on_error(where: str) -> None:
    context = FakeContext(lambda label, argv: 1603 if label.startswith("01") else 0)
    first = app("A", continue_on_error=True) if where == "application" else app("A")
    step = InstallApplication(options(first, app("B"), continue_on_error=where == "list"), context)
    dummy, result = run_step(step, FakeWindows())
    assert [entry["outcome"] for entry in result["applications"]] == ["failed", "installed"]
    assert result["_TSAppInstallStatus"] == "Error"
    assert "A ended with exit code 1603" in context.warnings[0]


def test_an_application_may_refuse_the_lists_continue_on_error() -> None:
    context = FakeContext(lambda label, argv: 1603)
    step = InstallApplication(options(app("A", continue_on_error=False), app("B"), continue_on_error=True), context)
    assert failure(lambda: run_step(step, FakeWindows())).code == 1603


def test_another_installation_in_progress_is_tried_again_under_a_new_label() -> None:
    context = FakeContext(lambda label, argv: 0 if label.endswith("retry2") else 1618)
    run_step(InstallApplication(options(app("A")), context), FakeWindows())
    assert context.events == ["01-a", "01-a-retry1", "01-a-retry2"]
    busy = FakeContext(lambda label, argv: 1618)
    problem = failure(lambda: run_step(InstallApplication(options(app("A", retries=1)), busy), FakeWindows()))
    assert problem.code == 1618
    assert len(busy.events) == 2


def test_own_success_codes_and_the_time_limit() -> None:
    context = FakeContext(lambda label, argv: 17)
    dummy, result = run_step(InstallApplication(options(app("A", success_codes=[0, 17])), context), FakeWindows())
    assert result["applications"][0]["meaning"] == "success (success_codes)"
    late = FakeContext(lambda label, argv: 1460)
    problem = failure(lambda: run_step(InstallApplication(options(app("A")), late), FakeWindows()))
    assert "time limit was over" in problem.message
    assert "maximum_run_time" in problem.remedy


def test_something_that_is_gone_at_the_end_fails_in_verify() -> None:
    windows = FakeWindows()

    def install(label: str, argv: list[str]) -> int:
        if label.startswith("01"):
            msi(windows)
        else:
            windows.keys.pop(rf"{UNINSTALL}\{CODE}".lower())
        return 0

    step = InstallApplication(options(app("A", detection=DETECTED), app("B")), FakeContext(install))
    problem = failure(lambda: run_step(step, windows))
    assert problem.message.startswith("A was installed and is not there at the end of the step (msi {23170F69")
    assert problem.code == 0x87D00324


def test_content_on_a_share_is_copied_in_one_job_and_the_password_is_in_its_environment_only() -> None:
    windows = FakeWindows()
    source = {"target": r"\\srv\apps\7zip", "account": {"user": r"LAB\read", "password": "pa ss&%word"}}

    def job(label: str, argv: list[str]) -> int:
        windows.add_file(r"C:\_osd\content\01-7-zip\setup.exe", b"x")
        return 3 if label.startswith("copy") else 0

    context = FakeContext(job)
    run_step(InstallApplication(options(app(source=source)), context), windows)
    assert context.jobs[0] == ("copy-01-7-zip", [r"C:\Windows\System32\cmd.exe", "/d", "/c", r".\copy_content.cmd"])
    assert context.files[0] == {"copy_content.cmd": COPY_SCRIPT_TEXT}
    assert context.environments[0] == {
        "OSD_FROM": r"\\srv\apps\7zip",
        "OSD_TO": r"C:\_osd\content\01-7-zip",
        "OSD_FILE": "*.*",
        "OSD_OPTIONS": "/E",
        "OSD_SHARE": r"\\srv\apps",
        "OSD_USER": r"LAB\read",
        "OSD_PASSWORD": "pa ss&%word",
    }
    assert context.jobs[1] == ("01-7-zip", ["setup.exe", "/S"])
    assert context.directories[1] == r"C:\_osd\content\01-7-zip"
    assert b"pa ss" not in b"".join(windows.files.values())
    assert "pa ss" not in repr(context.jobs)


def test_one_file_with_its_hash() -> None:
    windows = FakeWindows()
    right = hashlib.sha256(b"installer").hexdigest()

    def job(label: str, argv: list[str]) -> int:
        windows.add_file(r"C:\_osd\content\01-7-zip\a.msi", b"installer")
        return 1

    install = ["msiexec", "/i", "a.msi", "/qn", "/norestart", "/l*v", r"C:\_osd\logs\a.log"]
    context = FakeContext(lambda label, argv: job(label, argv) if label.startswith("copy") else 0)
    run_step(InstallApplication(options(app(source={"target": r"\\srv\apps\a.msi", "sha256": right}, install=install)), context), windows)
    assert context.environments[0]["OSD_FILE"] == "a.msi"
    assert "OSD_OPTIONS" not in context.environments[0]
    assert context.jobs[1][1][0] == "msiexec"
    wrong = app(source={"target": r"\\srv\apps\a.msi", "sha256": "0" * 64}, install=install)
    context = FakeContext(lambda label, argv: job(label, argv) if label.startswith("copy") else 0)
    problem = failure(lambda: run_step(InstallApplication(options(wrong), context), windows))
    assert f"has SHA-256 {right}, declared is {'0' * 64}" in problem.message


def test_an_msi_log_is_fetched_on_failure() -> None:
    install = ["msiexec", "/i", "a.msi", "/qn", "/norestart", "/l*v", r"C:\_osd\logs\a.log"]
    context = FakeContext(lambda label, argv: 1603)
    problem = failure(lambda: run_step(InstallApplication(options(app(install=install)), context), FakeWindows()))
    assert problem.log == "a.log"
    assert context.fetched == [r"C:\_osd\logs\a.log"]


@pytest.mark.parametrize("program", ["msiexec", "MSIEXEC.EXE", r"C:\Windows\setup.exe", r"\\srv\share\setup.exe", "other.exe"])
def test_a_program_is_left_as_it_is_and_found_in_the_contents_folder(program: str) -> None:
    windows = FakeWindows()
    install = [program, "/qn", "/norestart"]
    context = FakeContext()
    run_step(InstallApplication(options(app(source={"target": r"D:\apps"}, install=install)), context), windows)
    assert context.jobs[0][1] == install
    assert context.directories == [r"D:\apps"]
    assert windows.requests == 0


@pytest.mark.parametrize(("code", "words"), [(64, "could not connect to \\\\srv\\apps as LAB\\read"), (16, "could not be copied")])
def test_content_that_does_not_come_is_that_applications_failure(code: int, words: str) -> None:
    source = {"target": r"\\srv\apps", "account": {"user": r"LAB\read", "password": "x"}}
    context = FakeContext(lambda label, argv: code if label.startswith("copy-01") else 0)
    step = InstallApplication(options(app("A", source=source), app("B"), continue_on_error=True), context)
    dummy, result = run_step(step, FakeWindows())
    assert words in result["applications"][0]["meaning"]
    assert result["applications"][1]["outcome"] == "installed"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"install": []}, "install of 7-Zip: empty"),
        ({"install": ["msiexec", "/i", "a.msi", "/norestart"]}, "msiexec without /qn would wait for a user"),
        ({"install": [r"C:\Windows\System32\msiexec.exe", "/i", "a.msi", "/qn"]}, "without /norestart may restart"),
        ({"maximum_run_time": 0}, "maximum_run_time of 7-Zip: 0 minutes"),
        ({"source": {"target": "http://x/a.msi"}}, "only https is allowed"),
        ({"source": {"target": "apps/7zip"}}, "neither \\\\server\\share"),
        ({"source": {"target": "\\\\srv"}}, "has no share name"),
        ({"source": {"target": "\\\\s\\a", "account": {"user": "u", "password": 'a"b'}}}, "double quote"),
        ({"detection": [rule("msi", product_code="7-Zip")]}, "is no product code"),
        ({"detection": [rule("file")]}, "type file needs path"),
        ({"detection": [rule("file", path="x.exe")]}, "has no drive letter"),
        ({"detection": [rule("registry", key=r"HKCU\Software\X")]}, "a reference computer has no user"),
        ({"detection": [rule("registry", key=r"HKLM\Software\X", value="1")]}, "value needs value_name"),
    ],
)
def test_bad_options(given: dict[str, Any], words: str) -> None:
    assert words in " ".join(InstallApplication.validate(options(app(**given))))


def test_good_options_and_names_that_stand_twice() -> None:
    assert InstallApplication.validate(options(app(detection=DETECTED), app("B"))) == []
    assert "stands in the list twice" in " ".join(InstallApplication.validate(options(app("A"), app("a"))))


@pytest.mark.parametrize(
    ("have", "operator", "want", "holds"),
    [
        ("23.01", "at_least", "23.1", True),
        ("23.01.0.0", "equals", "23.1", True),
        ("9.20", "at_least", "10", False),
        ("10.0.22621.1 (WinBuild.160101.0800)", "at_least", "10.0.22621", True),
        ("1,2,3,4", "equals", "1.2.3.4", True),
        ("2.0", "equals", "2.1", False),
        (None, "at_least", "1", False),
        (None, "at_least", None, True),
    ],
)
def test_versions(have: str | None, operator: str, want: str | None, holds: bool) -> None:
    clause = DetectionRule(RuleKind.FILE, "C:\\x", expected=want, operator=operator)
    assert applications.evaluate(clause, Observed(True, have)) is holds
    assert applications.evaluate(clause, Observed(False, have)) is False


@pytest.mark.parametrize(
    ("program", "word", "written"),
    [
        ("msiexec", "TEXT=two words", 'TEXT="two words"'),
        (r"C:\Windows\System32\MSIEXEC.EXE", 'TEXT=say "hello" & bye', 'TEXT="say ""hello"" & bye"'),
        ("msiexec", "TEXT=a|b", 'TEXT="a|b"'),
        ("msiexec", "REBOOT=ReallySuppress", "REBOOT=ReallySuppress"),
        ("msiexec", r"C:\a folder=b.msi", r'"C:\a folder=b.msi"'),
        ("setup.exe", "TEXT=two words", '"TEXT=two words"'),
    ],
)
def test_of_a_property_of_msiexec_only_the_value_is_quoted(program: str, word: str, written: str) -> None:
    """msiexec ends with 1639 where the quotes are around the whole word; other programs split their line by the C rules."""
    install = applications.application_from_option(app(install=[program, "/i", word]), False).install
    assert quote(install) == f"{program} /i {written}"
    assert batch_line(install) == f"{program} /i {written}"


def test_detection_reads_each_kind() -> None:
    windows = FakeWindows()
    msi(windows, "1.0", WOW)
    windows.set_value(r"SOFTWARE\Vendor", "Level", "REG_DWORD", 7)
    windows.set_value(r"SOFTWARE\Vendor", "Edition", "REG_SZ", "Pro")
    windows.add_file(r"C:\Program Files\V\v.exe", b"", "2.5.0.0")
    windows.services.add("VSvc")

    def holds(**given: Any) -> bool:
        option = app(detection=[rule(**given)])
        return applications.is_installed(applications.application_from_option(option, False), windows)

    assert holds(product_code=CODE)
    assert not holds(product_code=CODE, version="2")
    assert not holds(product_code=CODE.replace("2317", "0000"))
    assert holds(kind="registry", key=r"HKLM\SOFTWARE\Vendor")
    assert not holds(kind="registry", key=r"HKLM\SOFTWARE\Other")
    assert holds(kind="registry", key=r"SOFTWARE\Vendor", value_name="level")
    assert holds(kind="registry", key=r"SOFTWARE\Vendor", value_name="Level", value="7", operator="equals")
    assert not holds(kind="registry", key=r"SOFTWARE\Vendor", value_name="Level", value="8", operator="equals")
    assert holds(kind="registry", key=r"SOFTWARE\Vendor", value_name="Edition", value="pro", operator="equals")
    assert not holds(kind="registry", key=r"SOFTWARE\Vendor", value_name="Missing")
    assert holds(kind="file", path=r"C:\Program Files\V\v.exe", version="2.5")
    assert not holds(kind="file", path=r"C:\Program Files\V\v.exe", version="2.6")
    assert not holds(kind="file", path=r"C:\nothing.exe")
    assert holds(kind="service", service="VSvc")
    assert not holds(kind="service", service="Other")


def test_all_clauses_must_hold_and_without_clause_it_is_installed_each_time() -> None:
    windows = FakeWindows()
    msi(windows)
    both = app(detection=[*DETECTED, rule("service", service="S")])
    step = InstallApplication(options(both, app("B")), FakeContext())
    plan = step.plan(step.observe(windows))
    assert [change.summary for change in plan.changes] == ["install 7-Zip", "install B (no detection rule: each time)"]
    assert step.predict().predicted
