# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab computer on HTTPS: listener, binding, certificate, key and firewall rule, or a closed port. Its tools make them as Windows' do."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import full_os
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.computer import LabComputer, wait_for_state
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.machine import SYSTEM, LabMachine
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import windows_certificate
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import https_opening, opening
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.https_opening import Https
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import Value

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="Debian's wimtools are not installed")


@pytest.fixture(scope="module")
def https() -> Https:
    return windows_certificate.make()[1]


@pytest.fixture
def windows(make_computer: Callable[..., LabComputer], https: Https) -> LabMachine:
    """A running Windows with the values of the opening; the script has not run yet."""
    computer = make_computer(medium=False, existing="Old-Pass-1")
    computer.power_on()
    assert wait_for_state(computer, {"windows", "lab_defect"}, 15) == "windows", computer.message
    assert computer.machine is not None
    registry = computer.machine.live_registry
    with registry.batch():
        for setting in opening.settings("127.0.0.1", https=https):
            data = setting.value.data
            value = Value.dword(data) if isinstance(data, int) else Value.sz(str(data))
            registry.set(f"HKLM\\{setting.value.key}", setting.value.name, value)
    return computer.machine


def run_script(windows: LabMachine, https: Https) -> None:
    files = windows.files(SYSTEM)
    for name, content in https_opening.files(https).items():
        files.make_directories("C:\\" + name.rpartition("\\")[0])
        files.write("C:\\" + name, content)
    process = windows.processes.spawn(https_opening.command_line(), SYSTEM)
    while process.exit_code is None:
        windows.stopped.wait(0.01)
    assert process.exit_code == 0


def log(windows: LabMachine) -> bytes:
    return windows.files(SYSTEM).read("C:\\" + https_opening.LOG)


def test_the_script_opens_the_port(windows: LabMachine, https: Https) -> None:
    assert "not bound" in full_os.https_closed_because(windows)
    run_script(windows, https)
    assert full_os.https_closed_because(windows) == "", log(windows)
    files = windows.files(SYSTEM)
    assert not files.exists("C:\\" + https_opening.PFX)
    assert not files.exists("C:\\" + https_opening.PASSWORD)
    (key,) = https_opening.private_keys(files.read("C:\\" + https_opening.KEYS_BEFORE), files.read("C:\\" + https_opening.KEYS_AFTER))
    assert files.is_file("C:\\" + key)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("key file", "private key is not there"),
        ("certificate", "private key is not there"),
        ("binding", "is not bound"),
        ("listener", "no listener for HTTPS"),
        ("thumbprint", "is not bound"),
        ("firewall rule", "no firewall rule"),
        ("service", "does not run"),
    ],
)
def test_one_thing_missing_is_a_closed_port(windows: LabMachine, https: Https, what: str, reason: str) -> None:
    run_script(windows, https)
    registry, files = windows.live_registry, windows.files(SYSTEM)
    if what == "key file":
        lists = (files.read("C:\\" + name) for name in (https_opening.KEYS_BEFORE, https_opening.KEYS_AFTER))
        files.delete("C:\\" + https_opening.private_keys(*lists)[0])
    elif what == "certificate":
        registry.delete_key(f"HKLM\\{https.certificate_key}")
    elif what == "binding":
        registry.delete_key(f"HKLM\\{https.binding_key}")
    elif what == "listener":
        registry.delete_key(f"HKLM\\{https_opening.LISTENER}")
    elif what == "thumbprint":
        registry.set(f"HKLM\\{https_opening.LISTENER}", "certThumbprint", Value.sz("00" * 20))
    elif what == "firewall rule":
        rule = next(s.value.name for s in opening.settings("127.0.0.1", https=https) if s.value.key == opening.FIREWALL_RULES)
        registry.delete_value(f"HKLM\\{opening.FIREWALL_RULES}", "lab-winrm")
        registry.delete_value(f"HKLM\\{opening.FIREWALL_RULES}", rule)
    else:
        windows.services.stop("WinRM")
    assert reason in full_os.https_closed_because(windows)


def test_a_wrong_password_imports_nothing(windows: LabMachine, https: Https) -> None:
    run_script(windows, Https(https.thumbprint, https.port, https.pfx, "another"))
    assert b"0x80070056" in log(windows)
    assert "is not bound" in full_os.https_closed_because(windows), "netsh refuses a certificate that is not there"


@pytest.mark.parametrize(
    "line",
    [
        "netsh http add sslcert ipport=0.0.0.0:5986",
        "netsh http add sslcert ipport=5986 certhash=00 appid={x}",
        "netsh http add sslcert ipport=0.0.0.0:5986 certhash=00 appid={x} other=1",
        "netsh http remove sslcert ipport=0.0.0.0:5986",
        "netsh http delete sslcert ipport=0.0.0.0:5986",
        r"certutil -importpfx My C:\nothing.pfx",
        "certutil -importpfx",
        "certutil -delstore My 00",
    ],
)
def test_the_tools_refuse_what_windows_refuses(windows: LabMachine, line: str) -> None:
    process = windows.processes.spawn(f"cmd.exe /c {line}", SYSTEM)
    while process.exit_code is None:
        windows.stopped.wait(0.01)
    assert process.exit_code != 0
