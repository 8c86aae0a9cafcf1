# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""net, curl, robocopy, tar, certutil, installers, services, tasks, power: grammar, effects, exit codes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools import programs
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.local_content import COPY_SCRIPT_TEXT
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.opening import parse_firewall_rule
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.scheduled_task import task_file, task_xml

UNINSTALL = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
CODE = "{23170F69-40C1-2702-2409-000001000000}"


@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        (r"net use \\nobody\images x /user:writer", 2, 53),
        (r"net use \\srv\none Secret2 /user:writer", 2, 67),
        (r"net use \\srv\images wrong /user:writer", 2, None),
        (r"net use \\srv\images Secret2 /user:writer", 0, None),
        (r"net use \\srv\images Secret2 /user:writer /frobnicate", 1, None),
        (r"net use Z: \\srv\images Secret2 /user:writer", 0, None),
        (r"net use \\srv\images /delete", 2, 2250),
        (r"net frobnicate", 1, None),
        (r"net start nosuch", 2, None),
    ],
)
def test_net(windows, line, code, number) -> None:
    result = windows.run(line)
    assert result.code == code, result.err
    if number:
        assert str(number) in result.err


def test_connections_belong_to_the_session(windows) -> None:
    (windows.share / "f.txt").write_bytes(b"x")
    assert not windows.files.exists(r"\\srv\images\f.txt")
    assert windows.run(r"net use \\srv\images * /user:writer", stdin=b"Secret2\r\n").code == 0
    assert windows.files.exists(r"\\srv\images\f.txt")
    result = windows.run(r"net use \\srv\images Secret1 /user:reader")
    assert result.code == 2
    assert "1219" in result.err
    assert windows.run(r"net use \\srv\images /delete /y").code == 0
    assert not windows.files.exists(r"\\srv\images\f.txt")


def test_the_products_copy_script(windows) -> None:
    folder = windows.share / "app"
    folder.mkdir()
    (folder / "setup.msi").write_bytes(b"x" * 100)
    windows.files.make_directories(r"C:\_osd")
    windows.files.write(r"C:\_osd\copy_content.cmd", COPY_SCRIPT_TEXT)
    windows.environment = {
        "OSD_FROM": r"\\srv\images\app",
        "OSD_TO": r"C:\_osd\content\app",
        "OSD_FILE": "*.*",
        "OSD_OPTIONS": "/E",
        "OSD_SHARE": r"\\srv\images",
        "OSD_USER": "reader",
        "OSD_PASSWORD": "Secret1",
    }
    line = r"C:\Windows\System32\cmd.exe /d /c C:\_osd\copy_content.cmd"
    result = windows.run(line)
    assert result.code == 1, result
    assert windows.files.size(r"C:\_osd\content\app\setup.msi") == 100
    assert not windows.session.connections
    assert windows.run(line).code == 0  # nothing to copy
    windows.environment["OSD_PASSWORD"] = "wrong"
    assert windows.run(line).code == 64


def test_robocopy(windows) -> None:
    windows.cmd(r"md C:\a\sub & echo 1> C:\a\one.txt & echo 2> C:\a\sub\two.txt & md C:\b & echo 3> C:\b\extra.txt")
    assert windows.run(r"robocopy C:\a C:\b /L").code == 1
    assert not windows.files.exists(r"C:\b\one.txt")
    assert windows.run(r"robocopy C:\a C:\b one.txt /NP /NFL /NDL /R:3 /W:5").code == 1
    assert windows.run(r"robocopy C:\a C:\b /MIR").code == 3
    assert not windows.files.exists(r"C:\b\extra.txt")
    assert windows.files.is_file(r"C:\b\sub\two.txt")
    assert windows.run(r"robocopy C:\none C:\b").code == 16
    assert windows.run(r"robocopy C:\a C:\b /frobnicate").code == 16


def test_curl(windows) -> None:
    assert windows.run(r"curl --fail --silent --show-error --location --create-dirs --output C:\x\f.bin https://web.lab/file.bin").code == 0
    assert windows.files.read(r"C:\x\f.bin") == b"0123456789"
    assert windows.run("curl -fsSL https://web.lab/none.bin").code == 22
    assert windows.run("curl -fsSL https://nowhere.lab/none.bin").code == 6
    assert windows.run("curl --frobnicate https://web.lab/file.bin").code == 2
    assert windows.run(r"curl -fo C:\y\f.bin https://web.lab/file.bin").code == 23
    assert windows.run("curl --config -", stdin=b'url = "https://web.lab/file.bin"\nuser = "a:b"\n').out == "0123456789"


def test_tar_from_stdin(windows) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("sub/data.bin")
        entry.size = 300
        archive.addfile(entry, io.BytesIO(bytes(range(256)) + b"x" * 44))
    windows.files.make_directories(r"C:\t")
    assert windows.run(r"tar -xf - -C C:\t", stdin=buffer.getvalue()).code == 0
    assert windows.files.read(r"C:\t\sub\data.bin")[:256] == bytes(range(256))
    assert windows.run(r"tar -xf - -C C:\t", stdin=b"nonsense" * 200).code == 1
    assert windows.run(r"tar --frobnicate -xf - -C C:\t").code == 1


def test_certutil(windows) -> None:
    data = b"hello" * 100
    windows.files.write(r"C:\f.bin", data)
    assert hashlib.sha256(data).hexdigest() in windows.run(r"certutil -hashfile C:\f.bin SHA256").out
    assert windows.run(r"certutil -f -encode C:\f.bin C:\f.b64").code == 0
    assert windows.run(r"certutil -decode C:\f.b64 C:\g.bin").code == 0
    assert windows.files.read(r"C:\g.bin") == data
    assert windows.run(r"certutil -decode C:\f.b64 C:\g.bin").code == 0x80070050
    windows.files.write(r"C:\plain.b64", base64.b64encode(data))
    assert windows.run(r"certutil -f -decode C:\plain.b64 C:\g.bin").code == 0
    assert windows.run(r"certutil -hashfile C:\none SHA256").code == 0x80070002
    assert windows.run("certutil -frobnicate").code != 0


@pytest.fixture
def samples(windows):
    content.make_samples(windows.share)
    assert windows.run(r"net use \\srv\images Secret1 /user:reader").code == 0
    return windows


def test_msi(samples) -> None:
    line = r"msiexec /i \\srv\images\applications\7zip.msi /qn /norestart /l*v C:\7zip.log"
    assert samples.run(line).code == 0
    assert samples.machine.registry.find(rf"{UNINSTALL}\{CODE}").get_string("", "DisplayVersion") == "24.09.00.0"
    assert samples.files.is_file(r"C:\Program Files\7-Zip\7z.exe")
    assert b"returning 0" in samples.files.read(r"C:\7zip.log")
    assert samples.run(f"msiexec /x {CODE} /qn").code == 0
    assert samples.machine.registry.find(rf"{UNINSTALL}\{CODE}") is None
    assert not samples.files.exists(r"C:\Program Files\7-Zip")
    assert samples.run(f"msiexec /x {CODE} /qn").code == 1605
    assert samples.run(r"msiexec /i C:\none.msi /qn").code == 1619
    assert samples.run(r"msiexec /i C:\Windows\System32\cmd.exe /qn").code == 1620
    assert samples.run(r"msiexec /i \\srv\images\applications\7zip.msi /qn /frobnicate").code == 1639
    assert samples.run(r"msiexec /i \\srv\images\applications\7zip.msi /qn /l*v C:\nowhere\x.log").code == 1622
    assert samples.run("msiexec").code == 1639
    assert samples.run(r'msiexec /i \\srv\images\applications\7zip.msi /qn "TEXT=two words"').code == 1639
    line = r'msiexec /i \\srv\images\applications\7zip.msi FOLDER="C:\a folder\" TEXT="say ""hello"" & bye" /qn /norestart'
    assert samples.run(line).code == 0
    assert samples.run(f"msiexec /x {CODE} /qn").code == 0


def test_only_one_installation_at_a_time(samples) -> None:
    samples.machine.registry.create(r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Installer\InProgress")
    assert samples.run(r"msiexec /i \\srv\images\applications\7zip.msi /qn").code == 1618


def test_exe_that_wants_a_restart(samples) -> None:
    assert samples.run(r"\\srv\images\applications\vcredist.exe /quiet /norestart").code == 3010
    manager = samples.machine.registry.find(r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager")
    assert manager.get_multi("", "PendingFileRenameOperations")


def test_a_failing_installer_leaves_nothing(samples) -> None:
    declared = {"lab_installer": 1, "kind": "exe", "exit_code": 1603, "files": {r"C:\made.txt": {"text": "x"}}}
    samples.files.write(r"C:\bad.exe", json.dumps(declared).encode())
    assert samples.run(r"C:\bad.exe /s").code == 1603
    assert not samples.files.exists(r"C:\made.txt")


def test_client_comes_and_goes(samples) -> None:
    assert samples.run(r"\\srv\images\client\ccmsetup.exe /noservice /source:C:\x SMSSITECODE=ABC").code == 0
    assert samples.machine.services.find("CcmExec").state == "Running"
    assert samples.files.exists(r"C:\Windows\SMSCFG.INI")
    assert samples.run(r"C:\Windows\ccmsetup\ccmsetup.exe /uninstall").code == 0
    assert samples.machine.services.find("CcmExec") is None
    assert samples.run(r"\\srv\images\client\ccmsetup.exe SMSSITECODE=ABC /noservice").code == 6


def test_update_online(samples) -> None:
    line = r"dism /online /Add-Package /PackagePath:\\srv\images\updates\KB5000001.cab /NoRestart /Quiet"
    assert samples.run(line).code == 3010
    pending = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending"
    assert samples.machine.registry.find(pending) is not None


def test_wusa_below_winrm_is_refused(samples) -> None:
    samples.session.network_logon = True
    assert samples.run(r"wusa \\srv\images\updates\KB5000001.cab /quiet /norestart").code == 5


def test_services(windows) -> None:
    windows.machine.services.create("demo", display_name="Demo service", path=r"C:\demo.exe", start=3)
    assert windows.run("sc start demo").code == 0
    assert windows.run("sc start demo").code == 1056
    assert windows.run('net stop "Demo service"').code == 0
    assert windows.run("net stop demo").code == 2
    assert windows.run("sc config demo start= disabled").code == 0
    assert windows.run("sc start demo").code == 1058
    assert windows.run("sc config demo start=disabled").code == 1639
    assert windows.run("sc query nosuch").code == 1060
    assert windows.run("sc delete demo").code == 0
    assert windows.machine.services.find("demo") is None


def test_scheduled_task(windows) -> None:
    windows.files.write(r"C:\t.xml", task_file(task_xml(r"C:\Windows\System32\cmd.exe", r"/d /c echo done> C:\done.txt")))
    assert windows.run(r"schtasks /create /tn \OSD\job1 /xml C:\t.xml /f").code == 0
    assert windows.run(r"schtasks /query /tn \OSD\job1").code == 0
    assert windows.run(r"schtasks /run /tn \OSD\job1").code == 0
    for dummy in range(200):
        # The file is there, empty, before the command writes.
        if windows.files.exists(r"C:\done.txt") and windows.files.size(r"C:\done.txt"):
            break
        windows.machine.wait(10)
    assert windows.files.read(r"C:\done.txt") == b"done\r\n"
    assert windows.run(r"schtasks /delete /tn \OSD\job1").code == 1
    assert windows.run(r"schtasks /delete /tn \OSD\job1 /f").code == 0
    assert windows.run(r"schtasks /run /tn \OSD\job1").code == 1
    windows.files.write(r"C:\t.xml", task_xml("cmd.exe").encode())
    assert windows.run(r"schtasks /create /tn \OSD\job1 /xml C:\t.xml /frobnicate").code == 1


def test_firewall_rule_is_what_windows_keeps(windows) -> None:
    line = "netsh advfirewall firewall add rule name=osd dir=in action=allow protocol=TCP localport=5985 profile=any remoteip=127.0.0.1"
    assert windows.run(line).code == 0
    key = windows.machine.registry.find(r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules")
    rules = [parse_firewall_rule(v.text) for v in key.values.values() if "Name=osd|" in v.text]
    assert len(rules) == 1
    assert rules[0].admits("127.0.0.1", 5985)
    assert not rules[0].admits("127.0.0.2", 5985)
    assert windows.run("netsh advfirewall firewall delete rule name=osd").code == 0
    assert windows.run("netsh advfirewall firewall delete rule name=osd").code == 1
    assert windows.run("netsh frobnicate").code == 1


def test_accounts(windows) -> None:
    assert windows.run("net user osd-run Secret-123 /add").code == 0
    assert windows.run("net localgroup Administrators osd-run /add").code == 0
    assert windows.run("net user osd-run /active:no").code == 0
    assert windows.machine.accounts.find("osd-run").enabled is False
    assert windows.run("net user osd-run /delete").code == 0
    assert windows.run("net user osd-run /delete").code == 2
    assert windows.run("net user osd-run /frobnicate").code == 1


def test_power(windows) -> None:
    assert windows.run("shutdown /a").code == 1116
    assert windows.run("shutdown /r /f /t 600 /d p:2:4").code == 0
    assert windows.run("shutdown /r /t 5").code == 1190
    assert windows.run("shutdown /a").code == 0
    assert windows.run("shutdown /frobnicate").code == 87


def test_wpeutil(pe) -> None:
    assert pe.run("wpeutil UpdateBootInfo").code == 0
    assert pe.machine.registry.find(r"HKLM\SYSTEM\CurrentControlSet\Control").get_dword("", "PEFirmwareType") == 2
    assert pe.run("wpeutil Frobnicate").code == 1
    assert pe.run("wpeutil reboot").code == 0
    assert pe.machine.is_going_down


def test_volumes(windows) -> None:
    assert windows.run("fsutil dirty query C:").code == 0
    assert windows.run("chkdsk C:").code == 0
    assert windows.run("format C: /fs:NTFS /q /y").code == 4
    assert windows.run("format Q: /fs:NTFS /q /y").code == 4
    assert windows.run("format C: /fs:EXT4 /q /y").code == 1


def test_taskkill_of_nothing(windows) -> None:
    assert windows.run("taskkill /T /F /PID 99999").code == 128
    assert windows.run("taskkill /frobnicate").code == 1


#: These take any word as text, a path or a host, or end with 0 whatever they are given, like the real ones.
_TAKES_ANYTHING = {"cmd", "find", "findstr", "more", "sort", "attrib", "sysprep"}


@pytest.mark.parametrize("fixture", ["pe", "windows"])
def test_no_tool_takes_an_option_it_does_not_know(request, fixture) -> None:
    bench = request.getfixturevalue(fixture)
    started = 0
    for program in programs.names(bench.machine.environment):
        if program.removesuffix(".exe") in _TAKES_ANYTHING:
            continue
        result = bench.run(rf"{bench.machine.windows}\System32\{program} /zzunknown")
        assert result.code != 0, program
        started += 1
    assert started > 20


def test_windows_pe_ships_only_its_own(pe) -> None:
    shipped = set(programs.names(Environment.WINDOWS_PE))
    assert not shipped & {"reagentc.exe", "schtasks.exe", "shutdown.exe", "msiexec.exe", "curl.exe", "tar.exe", "certutil.exe", "sc.exe"}
    assert {"diskpart.exe", "dism.exe", "bcdboot.exe", "bcdedit.exe", "reg.exe", "net.exe", "robocopy.exe", "wpeutil.exe"} <= shipped
