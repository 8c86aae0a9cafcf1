# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare ConfigMgr Client for Capture, and the client's command lines."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.prepare_configmgr_client_for_capture import (
    PrepareConfigmgrClientForCapture,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import client
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.client import install_command
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure, run_step

OPTIONS = {"time_limit": 60, "poll_interval": 0}


def without_client() -> FakeWindows:
    windows = FakeWindows()
    windows.add_file(r"C:\Windows\win.ini")
    windows.add_file(r"C:\Windows\system.ini")
    windows.add_file(r"C:\Windows\INF\oem0.inf")
    windows.add_file(r"C:\Windows\System32\smscore.mif")
    windows.set_value(r"SOFTWARE\Microsoft\Windows", "x", "REG_SZ", "")
    return windows


def with_client() -> FakeWindows:
    windows = without_client()
    windows.services.add("CcmExec")
    windows.namespaces.add("root/ccm")
    windows.rows["SMS_Client"] = [{"ClientVersion": "5.00.9128.1007"}]
    windows.add_file(r"C:\Windows\ccmsetup\ccmsetup.exe")
    windows.add_file(r"C:\Windows\CCM\CcmExec.exe")
    windows.add_file(r"C:\Windows\SMSCFG.INI")
    windows.add_file(r"C:\Windows\smsinst.mif")
    windows.set_value(r"SOFTWARE\Microsoft\CCM", "x", "REG_SZ", "")
    windows.set_value(r"SOFTWARE\Microsoft\SMS\Mobile Client", "ProductVersion", "REG_SZ", "5.00")
    windows.set_value(r"SOFTWARE\Microsoft\SystemCertificates\SMS\Certificates\0A", "Blob", "REG_BINARY", b"")
    return windows


def remove_remains(windows: FakeWindows) -> int:
    """What the batch file takes away; what it deletes it names."""
    names = re.findall(r'"([^"]*)"', client.removal_script().decode())
    gone = [name.lower().removeprefix("hklm\\") for name in names]

    def stays(path: str) -> bool:
        return not any(fnmatch(path, name) or path.startswith(name + "\\") for name in gone)

    windows.folders = {path for path in windows.folders if stays(path)}
    windows.files = {path: content for path, content in windows.files.items() if stays(path)}
    windows.keys = {key: values for key, values in windows.keys.items() if stays(key)}
    return 0


def uninstalls(windows: FakeWindows, code: int = 0) -> FakeContext:
    """What setup takes away; the rest is left behind, as on Windows."""

    def setup(label: str, argv: list[str]) -> int:
        if label == "remove-remains":
            return remove_remains(windows)
        assert argv == [r"C:\Windows\ccmsetup\ccmsetup.exe", "/uninstall"]
        windows.services.discard("CcmExec")
        return code

    return FakeContext(setup)


def test_without_client_nothing_is_done_at_six_requests() -> None:
    windows, context = without_client(), FakeContext()
    plan, result = run_step(PrepareConfigmgrClientForCapture(OPTIONS, context), windows)
    assert not plan.changes
    assert windows.requests == 6
    assert context.events == windows.commands == []
    assert result == {"client": "absent", "removed": []}


def test_the_client_and_its_remains_go() -> None:
    windows = with_client()
    context = uninstalls(windows)
    plan, result = run_step(PrepareConfigmgrClientForCapture(OPTIONS, context), windows)
    assert plan.changes[0].summary == "uninstall the Configuration Manager client 5.00.9128.1007"
    assert context.events == ["uninstall", "remove-remains"]
    assert windows.namespaces == set()
    assert r"c:\windows\system32\smscore.mif" in windows.files
    assert not [path for path in (*windows.files, *windows.folders) if "ccm" in path or "smscfg" in path or "smsinst" in path]
    assert result["removed"] == [
        r"C:\Windows\CCM",
        r"C:\Windows\ccmsetup",
        r"c:\windows\smscfg.ini",
        r"c:\windows\smsinst.mif",
        r"HKLM\SOFTWARE\Microsoft\CCM",
        r"HKLM\SOFTWARE\Microsoft\SMS",
        r"HKLM\SOFTWARE\Microsoft\SystemCertificates\SMS",
    ]
    assert not [key for key in windows.keys if "sms" in key]
    assert not run_step(PrepareConfigmgrClientForCapture(OPTIONS, FakeContext()), windows)[0].changes


def test_exit_code_7_restarts() -> None:
    windows = with_client()
    context = uninstalls(windows, 7)
    run_step(PrepareConfigmgrClientForCapture(OPTIONS, context), windows)
    assert context.events == ["uninstall", "restart", "remove-remains"]


def test_a_failed_uninstallation_names_code_and_log() -> None:
    windows = with_client()
    context = FakeContext(lambda label, argv: 1603)
    problem = failure(lambda: run_step(PrepareConfigmgrClientForCapture(OPTIONS, context), windows))
    assert problem.message.startswith("The client was not uninstalled: ccmsetup ended with exit code 1603")
    assert problem.log == "ccmsetup.log, ccmsetup.log"


def test_a_client_that_stays_fails() -> None:
    windows = with_client()
    problem = failure(lambda: run_step(PrepareConfigmgrClientForCapture(OPTIONS, FakeContext()), windows))
    assert "these remain: service CcmExec, namespace root\\ccm" in problem.message


def test_a_service_without_its_setup_cannot_be_uninstalled() -> None:
    windows = with_client()
    windows.files.pop(r"c:\windows\ccmsetup\ccmsetup.exe")
    problem = failure(lambda: run_step(PrepareConfigmgrClientForCapture(OPTIONS, FakeContext()), windows))
    assert problem.message.startswith("The client cannot be uninstalled: CcmExec is there, C:\\Windows\\ccmsetup\\ccmsetup.exe is not")


def test_only_remains_are_removed_without_setup() -> None:
    windows = without_client()
    context = uninstalls(windows)
    windows.add_file(r"C:\Windows\SMSCFG.INI")
    plan, dummy = run_step(PrepareConfigmgrClientForCapture(OPTIONS, context), windows)
    assert [change.summary for change in plan.changes] == [r"remove c:\windows\smscfg.ini"]
    assert context.events == ["remove-remains"]


def test_a_setup_that_runs_for_ever() -> None:
    windows = with_client()
    windows.rows["Win32_Process"] = [{"Name": "ccmsetup.exe", "ProcessId": 4}]
    step = PrepareConfigmgrClientForCapture({**OPTIONS, "time_limit": -1}, FakeContext())
    assert "ccmsetup.exe still runs" in failure(lambda: run_step(step, windows)).message


def test_install_command_puts_switches_before_properties() -> None:
    argv = install_command(r"C:\_osd\content\client", ["/mp:https://mp", "/noservice"], {"SMSSITECODE": "P01"})
    assert argv == [
        r"C:\_osd\content\client\ccmsetup.exe",
        "/noservice",
        r"/source:C:\_osd\content\client",
        "/mp:https://mp",
        "SMSSITECODE=P01",
    ]
    with pytest.raises(ValueError, match="'smssitecode' is no installation property"):
        install_command("C:\\c", (), {"smssitecode": "P01"})


def test_the_version_comes_from_the_namespace() -> None:
    assert client.read_version(with_client()) == (True, "5.00.9128.1007")
    assert client.read_version(without_client()) == (False, "")
