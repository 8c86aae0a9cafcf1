# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows Installer and an NSIS installer under the code of Install Application, from detection to removal."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import JobResult, StepFailure
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.install_application import InstallApplication
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.applications import Outcome
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import Registry
from wine_agent import PYTHON, finish

MSIEXEC = r"C:\windows\system32\msiexec.exe"
CODES = {
    name: f"{{0F1B4A52-6C2E-4A57-9B0D-60D1E04D{number}}}"
    for name, number in (("base", 1001), ("example", 1002), ("hang", 1003), ("fail", 1004))
}
TEMPLATE = """<?xml version="1.0" encoding="utf-8"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
  <Product Id="{code}" Name="OSD {name}" Language="1033" Version="2.3.4" Manufacturer="goldimage.osd" UpgradeCode="{upgrade}">
    <Package InstallerVersion="200" Compressed="yes" InstallScope="perMachine"/>
    <Property Id="OSDTEXT" Value="default"/>
    {condition}
    <Media Id="1" Cabinet="a.cab" EmbedCab="yes"/>
    <Directory Id="TARGETDIR" Name="SourceDir"><Directory Id="{programs}"><Directory Id="INSTALLDIR" Name="OSD {name}">
      <Component Id="C1" Guid="{component}"{win64}>
        <File Id="F1" Source="python3.dll" KeyPath="yes"/>
        <RegistryKey Root="HKLM" Key="SOFTWARE\\goldimage.osd\\{name}">
          <RegistryValue Name="text" Type="string" Value="[OSDTEXT]"/>
        </RegistryKey>
      </Component></Directory></Directory></Directory>
    <Feature Id="F" Level="1"><ComponentRef Id="C1"/></Feature>
  </Product>
</Wix>
"""
NEEDS_BASE = (
    '<Property Id="OSDBASE">'
    '<RegistrySearch Id="s" Root="HKLM" Key="SOFTWARE\\goldimage.osd\\base" Name="text" Type="raw" Win64="yes"/>'
    "</Property>"
    '<Condition Message="needs the base">OSDBASE</Condition>'
)
NSIS = r"""
Unicode true
Target amd64-unicode
Name "OSD nsis"
OutFile "nsis.exe"
InstallDir "C:\Program Files\OSD nsis"
RequestExecutionLevel admin
Section
  SetRegView 64
  SetOutPath $INSTDIR
  File python3.dll
  WriteRegStr HKLM "Software\Microsoft\Windows\CurrentVersion\Uninstall\OSD nsis" "DisplayVersion" "4.5.6"
SectionEnd
"""
MSIEXEC_BASE = (MSIEXEC, "/i", r"C:\osd packages\base.msi", "/qn", "/norestart")
#: What msiexec does with its line, as far as the tests need it: package and properties as they stand there.
INSTALL = r"""
import ctypes, re, sys
line = ctypes.windll.kernel32.GetCommandLineW
line.restype = ctypes.c_wchar_p
package, properties = re.search(r'/i "([^"]+)" /qn /norestart (.*)', line()).groups()
ctypes.windll.msi.MsiSetInternalUI(2, None)
sys.exit(ctypes.windll.msi.MsiInstallProductW(ctypes.c_wchar_p(package), ctypes.c_wchar_p(properties)))
"""


@pytest.fixture(scope="module")
def installers(agent, tmp_path_factory):
    """Put the installers on the computer, in a folder with a blank in its name."""
    build = tmp_path_factory.mktemp("installers")
    shutil.copy(agent.build / "python" / "python3.dll", build)
    folder = agent.drive / "osd packages"
    folder.mkdir(exist_ok=True)
    for name, code in CODES.items():
        wide = name != "example"
        text = TEMPLATE.format(
            code=code, name=name, upgrade=code.replace("E04D1", "E04D2"), component=code.replace("E04D1", "E04D3"),
            condition=NEEDS_BASE if name == "example" else "",
            programs="ProgramFiles64Folder" if wide else "ProgramFilesFolder", win64=' Win64="yes"' if wide else "",
        )  # fmt: skip
        (build / f"{name}.wxs").write_text(text)
        command = ["wixl", "-a", "x64" if wide else "x86", "-o", f"{name}.msi", f"{name}.wxs"]
        subprocess.run(command, cwd=build, check=True, capture_output=True)
    # wixl knows no custom actions that start a program: 34 (program in a folder), deferred, without impersonation; both after the files.
    for name, command in (("hang", r"ping.exe -n 600 127.0.0.1"), ("fail", "cmd.exe /d /c exit 7")):
        rows = [
            "INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('Run', 3106, 'TARGETDIR', "
            rf"'C:\windows\system32\{command}')",
            "INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('Run', 'NOT REMOVE', 4001)",
        ]
        subprocess.run(["msibuild", f"{name}.msi", *(word for row in rows for word in ("-q", row))], cwd=build, check=True)
    (folder / "install.py").write_text(INSTALL)
    (build / "nsis.nsi").write_text(NSIS)
    subprocess.run(["makensis", "-V1", "nsis.nsi"], cwd=build, check=True, capture_output=True)
    for made in (*build.glob("*.msi"), build / "nsis.exe"):
        shutil.copy(made, folder)


class Context:
    """The sequence's side of the step: jobs really run, nothing restarts."""

    def __init__(self, computer):
        self._computer = computer
        self.warnings = []
        self.codes = []

    def run_job(self, computer, label, argv, *, environment=None, stdin=b"", directory="", time_limit=0, files=None):
        started = time.monotonic()
        job = Job(id=f"{label}-{time.time_ns()}", argv=list(argv), directory=directory, time_limit=time_limit, files=files or {})
        computer.start_job(job)
        code, output = finish(computer, job.id, limit=120)
        self.codes.append(code)
        return JobResult(code, output, None, time.monotonic() - started)

    def progress(self, percent, text):
        pass

    def warn(self, text):
        self.warnings.append(text)

    def boot_id(self, computer):
        return "boot"

    def fetch_log(self, computer, *paths):
        return "log"


def msi(name, *words, detection=None, **changes):
    return {
        "name": name, "source": None, "install": ["msiexec", "/i", rf"C:\osd packages\{name}.msi", "/qn", "/norestart", *words],
        "detection": detection or [rule("msi", product_code=CODES[name], version="2.3.4")], "success_codes": [0],
        "restart_codes": [3010, 1641], "maximum_run_time": 5, "retries": 0, "continue_on_error": None, **changes,
    }  # fmt: skip


def rule(kind, **given):
    names = ("product_code", "path", "version", "key", "value_name", "value", "service")
    return {**dict.fromkeys(names), "type": kind, "operator": "at_least", **given}


def step(computer, *applications):
    options = {"applications": list(applications), "continue_on_error": False, "retry_delay": 0, "restart_time_limit": 1}
    assert InstallApplication.validate(options) == []
    return InstallApplication(options, Context(computer))


def install(made, computer):
    plan = made.plan(made.observe(computer))
    if not plan.changes:
        return made.result(plan)
    made.apply(computer, plan)
    return made.verify(computer, plan)


def outcomes(result):
    return {row["name"]: row["outcome"] for row in result["applications"]}


def test_one_that_needs_another_and_continue_on_error(computer, installers):
    made = step(computer, msi("example", continue_on_error=True), msi("base"))
    result = install(made, computer)
    assert outcomes(result) == {"example": Outcome.FAILED, "base": Outcome.INSTALLED}
    assert made.context.codes == [1603, 0]
    assert result["_TSAppInstallStatus"] == "Error"
    assert len(made.context.warnings) == 1


#: Windows Installer's code when a package's own program fails: 1603 on Windows, docs/compared-with-wine.md.
PROGRAM_FAILED = 1627


def test_one_that_fails(computer, installers):
    """The MSI's own program ends with 7, Windows Installer with its code, and with it the step: what follows is not attempted."""
    run = Context(computer).run_job
    assert run(computer, "remove", [MSIEXEC, "/x", CODES["base"], "/qn", "/norestart"]).exit_code in (0, 1605)
    made = step(computer, msi("fail"), msi("base"))
    with pytest.raises(StepFailure, match="Not installed: base") as caught:
        install(made, computer)
    assert (caught.value.code, made.context.codes) == (PROGRAM_FAILED, [PROGRAM_FAILED])
    assert [entry.installed for entry in made.observe(computer)] == [False, False]
    made = step(computer, msi("fail", continue_on_error=True), msi("base"))
    assert outcomes(install(made, computer)) == {"fail": Outcome.FAILED, "base": Outcome.INSTALLED}
    assert made.context.codes == [PROGRAM_FAILED, 0]


def test_installed_with_success_and_not_detected(computer, installers):
    never = [rule("service", service="nothing")]
    with pytest.raises(StepFailure) as caught:
        install(step(computer, msi("base", detection=never), {**msi("base", detection=never), "name": "other"}), computer)
    assert caught.value.code == 0x87D00324


def with_text(computer, text, arriving):
    """Remove the example, which needs the base for that too, and return it with a property that must arrive as its registry value."""
    assert Context(computer).run_job(computer, "base", [*MSIEXEC_BASE]).exit_code == 0
    run = Context(computer).run_job(computer, "remove", [MSIEXEC, "/x", CODES["example"], "/qn", "/norestart"])
    assert run.exit_code in (0, 1605)
    detection = [
        rule("file", path=r"C:\Program Files (x86)\OSD example\python3.dll", version="3.12.9150.1013"),
        rule("registry", key=r"HKLM\SOFTWARE\WOW6432Node\goldimage.osd\example", value_name="text", value=arriving, operator="equals"),
        rule("msi", product_code=CODES["example"], version="2.3.4"),
    ]
    return msi("example", f"OSDTEXT={text}", detection=detection)


@pytest.mark.parametrize("text", ["two words", "a;b,c=d", "Grüße & mehr", "C:\\a folder\\"], ids=["blank", "signs", "umlauts", "folder"])
def test_properties(computer, installers, text):
    application = with_text(computer, text, text)
    assert outcomes(install(step(computer, application), computer)) == {"example": Outcome.INSTALLED}
    again = step(computer, application)
    assert outcomes(install(again, computer)) == {"example": Outcome.ALREADY_INSTALLED}
    assert again.context.codes == []


QUOTED = ['say "hello" & bye', '"quoted"', 'a "b c" d']


@pytest.mark.parametrize("text", QUOTED)
def test_quotation_marks_in_a_property_reach_windows_installer(computer, installers, text):
    """The step's own line, from its raw text, given to Windows Installer itself: Wine's msiexec.exe takes doubled quotes away before."""
    made = step(computer, with_text(computer, text, text))
    made._applications = [
        replace(application, install=(PYTHON, "-I", r"C:\osd packages\install.py", *application.install[1:]))
        for application in made._applications
    ]
    assert outcomes(install(made, computer)) == {"example": Outcome.INSTALLED}


@pytest.mark.parametrize("text", QUOTED)
def test_wines_msiexec_loses_quotation_marks(computer, installers, text):
    """docs/compared-with-wine.md"""
    application = with_text(computer, text, text.replace('"', ""))
    assert outcomes(install(step(computer, application), computer)) == {"example": Outcome.INSTALLED}


def test_removal_and_1605(computer, installers):
    run = Context(computer).run_job
    assert run(computer, "install", [*MSIEXEC_BASE]).exit_code == 0
    assert run(computer, "remove", [MSIEXEC, "/x", CODES["base"], "/qn", "/norestart"]).exit_code == 0
    assert run(computer, "again", [MSIEXEC, "/x", CODES["base"], "/qn", "/norestart"]).exit_code == 1605
    assert Registry(computer.cim).get_string(r"SOFTWARE\goldimage.osd\base", "text") is None


def test_one_that_hangs_is_ended_in_time(computer, cim, installers):
    made = step(computer, msi("hang"))
    made._applications = [replace(application, time_limit=8) for application in made._applications]
    started = time.monotonic()
    with pytest.raises(StepFailure) as caught:
        install(made, computer)
    assert caught.value.code == 1460
    assert time.monotonic() - started < 25
    assert cim.query("SELECT ProcessId FROM Win32_Process WHERE Name = 'ping.exe'") == []


def test_nsis(computer, installers):
    detection = [
        rule(
            "registry", key=r"HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall\OSD nsis", value_name="DisplayVersion", value="4.5.6"
        ),
        rule("file", path=r"C:\Program Files\OSD nsis\python3.dll", version="3.12"),
    ]
    application = {**msi("base", detection=detection), "name": "nsis", "install": [r"C:\osd packages\nsis.exe", "/S"]}
    assert outcomes(install(step(computer, application), computer)) == {"nsis": Outcome.INSTALLED}
    assert outcomes(install(step(computer, application), computer)) == {"nsis": Outcome.ALREADY_INSTALLED}
