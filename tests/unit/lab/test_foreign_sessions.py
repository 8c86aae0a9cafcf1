# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Foreign clients against whole lab computers: pywinrm's Session and pypsrp, in Windows PE and in a Windows that runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import full_os
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state

pytest.importorskip("winrm")
pytest.importorskip("pypsrp")

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")

BOOT_PASSWORD, OLD_PASSWORD = "Boot-Image-1", "Old-Pass-1"
#: Case → port, user, password, whether TLS, what pywinrm calls it, what pypsrp calls it, the system drive.
CASES = {
    "windows_pe": (5986, "osd", BOOT_PASSWORD, True, "ssl", "basic", "X:"),
    "windows": (5985, "Administrator", OLD_PASSWORD, False, "ntlm", "negotiate", "C:"),
    "windows on https": (5986, "Administrator", OLD_PASSWORD, True, "ntlm", "negotiate", "C:"),
}


@pytest.fixture(params=CASES)
def answering(request: pytest.FixtureRequest, make_computer: Callable[..., LabComputer]) -> tuple[str, Any]:
    """A computer that has come up: its address, and how it is spoken to."""
    pe, secure = request.param == "windows_pe", CASES[request.param][3]
    computer = make_computer(medium=pe, existing="" if pe else OLD_PASSWORD, scheme="https" if secure else "http")
    computer.power_on()
    state = "windows_pe" if pe else "windows"
    assert wait_for_state(computer, {state, "lab_defect"}, 20) == state, computer.message
    assert computer.machine is not None
    assert pe or bool(full_os.closed_because(computer.machine)) is secure
    return computer.machine.address, CASES[request.param]


def test_a_session_of_pywinrm(answering: tuple[str, Any]) -> None:
    import winrm

    address, (port, user, password, secure, transport, dummy, drive) = answering
    url = f"{'https' if secure else 'http'}://{address}:{port}/wsman"
    session = winrm.Session(url, auth=(user, password), transport=transport, server_cert_validation="ignore", proxy=None)
    done = session.run_cmd("cmd.exe", ["/c", "echo %SystemDrive%& exit 7"])
    assert (done.status_code, done.std_out.strip(), done.std_err) == (7, drive.encode(), b"")


def test_a_powershell_command_of_pywinrm_is_answered_with_one_sentence(answering: tuple[str, Any]) -> None:
    import winrm

    address, (port, user, password, secure, transport, dummy, dummy) = answering
    url = f"{'https' if secure else 'http'}://{address}:{port}/wsman"
    session = winrm.Session(url, auth=(user, password), transport=transport, server_cert_validation="ignore", proxy=None)
    done = session.run_ps("Get-Date")
    assert done.status_code != 0
    assert b"gather_facts: false" in done.std_out + done.std_err


def test_a_process_of_pypsrp(answering: tuple[str, Any]) -> None:
    from pypsrp.shell import Process, SignalCode, WinRS
    from pypsrp.wsman import WSMan

    address, (port, user, password, secure, dummy, auth, drive) = answering
    options = {"ssl": secure, "auth": auth, "cert_validation": False, "no_proxy": True}
    with WSMan(address, port=port, username=user, password=password, **options) as wsman, WinRS(wsman) as shell:
        process = Process(shell, "cmd.exe", ["/c", "echo %SystemDrive%& exit 7"])
        process.invoke()
        process.signal(SignalCode.CTRL_C)
        assert (process.rc, process.stdout.strip(), process.stderr) == (7, drive.encode(), b"")
