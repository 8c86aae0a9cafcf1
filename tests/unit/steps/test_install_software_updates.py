# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install Software Updates: states, order, rounds, restarts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps import install_software_updates as module
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_software_updates import InstallSoftwareUpdates
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.updates import PACKAGES
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure, run_step

SERVICING = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
ONE = "Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0"
TWO = "Package_for_RollupFix~31bf3856ad364e35~amd64~~22621.1.1.2"


def options(*updates: dict[str, Any], **given: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "source": {"target": r"D:\updates"},
        "updates": [{"identity": None, "sha256": None, **update} for update in updates],
        "retry_count": 2,
        "time_limit": 240,
        "restart_time_limit": 90,
        "poll_interval": 0,
    }
    return {**base, **given}


def state(windows: FakeWindows, identity: str, value: int) -> None:
    windows.set_value(rf"{PACKAGES}\{identity}", "CurrentState", "REG_DWORD", value)


def computer() -> FakeWindows:
    windows = FakeWindows()
    windows.set_value(PACKAGES, "x", "REG_SZ", "")
    return windows


FIRST = {"file": "kb5000001.cab", "identity": ONE}
SECOND = {"file": "windows11.0-kb5000002-x64.msu", "identity": TWO}


@pytest.mark.parametrize("value", [112, 80])
def test_installed_or_superseded_costs_one_request_an_update(value: int) -> None:
    windows, context = computer(), FakeContext()
    state(windows, ONE, value)
    state(windows, TWO, 112)
    plan, result = run_step(InstallSoftwareUpdates(options(FIRST, SECOND), context), windows)
    assert not plan.changes
    assert windows.requests == 2
    assert context.events == []
    assert result["restarts"] == 0


def test_in_the_given_order_then_one_restart() -> None:
    windows = computer()

    def dism(label: str, argv: list[str]) -> int:
        state(windows, ONE if "kb5000001" in argv[5] else TWO, 96)
        return 3010

    context = FakeContext(dism)
    context.on_restart = lambda: [state(windows, identity, 112) for identity in (ONE, TWO)]
    dummy, result = run_step(InstallSoftwareUpdates(options(FIRST, SECOND), context), windows)
    assert context.events == ["01-kb5000001-cab-1", "02-windows11-0-kb5000002-x64-msu-1", "restart"]
    assert context.jobs[0][1] == [
        r"C:\Windows\System32\dism.exe",
        "/English",
        r"/LogPath:C:\_osd\logs\dism-updates.log",
        "/Online",
        "/Add-Package",
        r"/PackagePath:D:\updates\kb5000001.cab",
        "/NoRestart",
    ]
    assert result == {
        "updates": [{"file": FIRST["file"], "state": "installed"}, {"file": SECOND["file"], "state": "installed"}],
        "restarts": 1,
    }


def test_a_second_round_for_what_the_first_did_not_bring() -> None:
    windows = computer()

    def dism(label: str, argv: list[str]) -> int:
        if label.endswith("-2") or "kb5000002" in label:
            state(windows, ONE if "kb5000001" in label else TWO, 112)
        return 0

    context = FakeContext(dism)
    run_step(InstallSoftwareUpdates(options(FIRST, SECOND), context), windows)
    assert context.events == ["01-kb5000001-cab-1", "02-windows11-0-kb5000002-x64-msu-1", "01-kb5000001-cab-2"]


def test_a_pending_package_needs_the_restart_only() -> None:
    windows, context = computer(), FakeContext()
    state(windows, ONE, 96)
    context.on_restart = lambda: state(windows, ONE, 112)
    share = {"target": r"\\srv\updates"}
    plan, result = run_step(InstallSoftwareUpdates(options(FIRST, source=share), context), windows)
    assert [change.summary for change in plan.changes] == ["restart to complete kb5000001.cab"]
    assert context.events == ["restart"]
    assert result["restarts"] == 1


def test_a_pending_restart_of_servicing_counts_too() -> None:
    windows = computer()

    def dism(label: str, argv: list[str]) -> int:
        state(windows, ONE, 112)
        windows.set_value(rf"{SERVICING}\RebootPending", "x", "REG_SZ", "")
        return 0

    context = FakeContext(dism)
    context.on_restart = lambda: windows.keys.pop(rf"{SERVICING}\RebootPending".lower())
    run_step(InstallSoftwareUpdates(options(FIRST), context), windows)
    assert context.events == ["01-kb5000001-cab-1", "restart"]


def test_not_applicable_is_skipped_with_a_warning() -> None:
    context = FakeContext(lambda label, argv: 0x800F081E)
    dummy, result = run_step(InstallSoftwareUpdates(options(FIRST), context), computer())
    assert result["updates"] == [{"file": "kb5000001.cab", "state": "not applicable"}]
    assert "is not applicable to this Windows (0x800f081e)" in context.warnings[0]


def test_a_failure_names_file_code_and_log() -> None:
    context = FakeContext(lambda label, argv: 0x800F0823)
    problem = failure(lambda: run_step(InstallSoftwareUpdates(options(FIRST), context), computer()))
    assert problem.message.startswith("kb5000001.cab was not installed: DISM ended with exit code 0x800f0823 (")
    assert problem.remedy
    assert problem.log == "dism-updates.log"


def test_success_without_the_state_fails() -> None:
    problem = failure(lambda: run_step(InstallSoftwareUpdates(options(FIRST), FakeContext()), computer()))
    assert problem.message == "Not installed after 2 rounds: kb5000001.cab (not installed)."


def test_a_kb_number_finds_the_package_without_identity() -> None:
    windows = computer()
    state(windows, "Package_1_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0", 112)
    state(windows, "Package_for_KB50000012~31bf3856ad364e35~amd64~~10.0.1.0", 64)
    step = InstallSoftwareUpdates(options({"file": "kb5000001.cab"}, {"file": "kb5000009.cab"}), FakeContext())
    assert [entry.state.value for entry in step.observe(windows)] == ["installed", "not installed"]


def test_it_waits_until_servicing_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = computer()
    windows.set_value(rf"{SERVICING}\Interface", "ServicingInProgress", "REG_DWORD", 2)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        windows.set_value(rf"{SERVICING}\Interface", "ServicingInProgress", "REG_DWORD", 0)

    monkeypatch.setattr(module.time, "sleep", sleep)
    context = FakeContext(lambda label, argv: state(windows, ONE, 112) or 0)
    run_step(InstallSoftwareUpdates(options(FIRST, poll_interval=10), context), windows)
    assert naps == [10]
    windows.keys.pop(rf"{PACKAGES}\{ONE}".lower())
    windows.set_value(rf"{SERVICING}\Interface", "ServicingInProgress", "REG_DWORD", 2)
    step = InstallSoftwareUpdates(options(FIRST, restart_time_limit=-1), FakeContext())
    assert "still servicing itself" in failure(lambda: run_step(step, windows)).message


def test_a_wrong_hash_or_a_missing_file_stops_before_dism() -> None:
    windows, context = computer(), FakeContext()
    windows.add_file(r"D:\updates\kb5000001.cab", b"package")
    step = InstallSoftwareUpdates(options({**FIRST, "sha256": "0" * 64}), context)
    assert "declared is 000" in failure(lambda: run_step(step, windows)).message
    step = InstallSoftwareUpdates(options({**FIRST, "file": "sub\\kb5000001.cab", "sha256": "0" * 64}), context)
    assert r"sub\kb5000001.cab is not in D:\updates." in failure(lambda: run_step(step, windows)).message
    assert context.jobs == []


@pytest.mark.parametrize(
    ("update", "given", "words"),
    [
        ({"file": "kb5000001.exe"}, {}, "only .cab and .msu"),
        ({"file": "update.cab"}, {}, "no KB number in its name; give identity"),
        ({"file": r"..\kb5000001.cab"}, {}, "a path below the source folder"),
        ({"file": r"C:\kb5000001.cab"}, {}, "a path below the source folder"),
        ({"file": "kb5000001.cab", "identity": "KB5000001"}, {}, "Name~key~architecture~language~version"),
        (FIRST, {"retry_count": 6}, "retry_count: 6; allowed are 1 to 5"),
        (FIRST, {"source": {"target": r"\\srv\updates\kb5000001.cab"}}, "is a file; give the folder"),
        (FIRST, {"source": {"target": "updates"}}, "source: 'updates' is neither"),
    ],
)
def test_bad_options(update: dict[str, Any], given: dict[str, Any], words: str) -> None:
    assert words in " ".join(InstallSoftwareUpdates.validate(options(update, **given)))


def test_good_options_and_predict() -> None:
    assert InstallSoftwareUpdates.validate(options(FIRST, SECOND)) == []
    assert len(InstallSoftwareUpdates(options(FIRST, SECOND), FakeContext()).predict().changes) == 2
