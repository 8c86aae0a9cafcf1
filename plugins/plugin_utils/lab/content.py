# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Content for the lab, made by us: Windows images and boot images that hold real hives and stubs where Windows has programs.

Enough of Windows that wimlib, DISM's readers and the steps recognise it (imaging.md, section 3): ``kernel32.dll`` with a PE header,
SYSTEM, SOFTWARE, SAM, SECURITY and DEFAULT hives, boot files, the Recovery image, and a file for every tool the lab knows.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..media import agent_zip
from ..media import boot_image as boot_image_builder
from ..windows import registry_hive
from ..windows.computer import Environment
from ..windows.registry_hive import Key, Value
from ..windows.sysprep import GENERALIZED
from .accounts import new_machine_sid
from .tools import programs

_CURRENT = r"Microsoft\Windows NT\CurrentVersion"
_CONTROL = r"ControlSet001\Control"
_SERVICES = r"ControlSet001\Services"
_RULES = rf"{_SERVICES}\SharedAccess\Parameters\FirewallPolicy\FirewallRules"
_OWN_PROCESS, _SHARED = 0x10, 0x20


@dataclass(frozen=True)
class Edition:
    """One Windows: edition id, product name, image name, server or client, build and revision, language."""

    id: str = "Enterprise"
    product: str = "Windows 10 Enterprise"
    name: str = "Windows 11 Enterprise"
    server: bool = False
    build: int = 26100
    revision: int = 1742
    language: str = "en-US"
    rearm_count: int = 3


ENTERPRISE = Edition()
PROFESSIONAL = Edition("Professional", "Windows 10 Pro", "Windows 11 Pro")
SERVER = Edition("ServerStandard", "Windows Server 2025 Standard", "Windows Server 2025 Standard (Desktop Experience)", server=True)

_LANGUAGE_IDS = {"en-US": "0409", "de-DE": "0407", "fr-FR": "040c", "ja-JP": "0411"}
#: name: (display name, path, start, type) of a client; a server starts WinRM by itself [doc: win32/WinRM].
_SERVICE_TABLE: Mapping[str, tuple[str, str, int]] = {
    "WinRM": ("Windows Remote Management (WS-Management)", r"%SystemRoot%\System32\svchost.exe -k NetworkService -p", 3),
    "EventLog": ("Windows Event Log", r"%SystemRoot%\System32\svchost.exe -k LocalServiceNetworkRestricted -p", 2),
    "Schedule": ("Task Scheduler", r"%systemroot%\system32\svchost.exe -k netsvcs -p", 2),
    "LanmanServer": ("Server", r"%systemroot%\system32\svchost.exe -k netsvcs -p", 2),
    "LanmanWorkstation": ("Workstation", r"%SystemRoot%\System32\svchost.exe -k NetworkService -p", 2),
    "mpssvc": ("Windows Defender Firewall", r"%SystemRoot%\system32\svchost.exe -k LocalServiceNoNetworkFirewall -p", 2),
    "wuauserv": ("Windows Update", r"%systemroot%\system32\svchost.exe -k netsvcs -p", 3),
    "BITS": ("Background Intelligent Transfer Service", r"%SystemRoot%\System32\svchost.exe -k netsvcs -p", 3),
    "TrustedInstaller": ("Windows Modules Installer", r"%SystemRoot%\servicing\TrustedInstaller.exe", 3),
    "msiserver": ("Windows Installer", r"%systemroot%\system32\msiexec.exe /V", 3),
    "Winmgmt": ("Windows Management Instrumentation", r"%systemroot%\system32\svchost.exe -k netsvcs -p", 2),
    "CryptSvc": ("Cryptographic Services", r"%SystemRoot%\system32\svchost.exe -k NetworkService -p", 2),
}
#: The rules for WinRM that Windows brings: inactive on clients, on servers active (public profile: local subnet only).
_WINRM_RULES = {
    "WINRM-HTTP-In-TCP": "v2.31|Action=Allow|Active={active}|Dir=In|Protocol=6|Profile=Domain|Profile=Private|LPort=5985|Name=WinRM|",
    "WINRM-HTTP-In-TCP-PUBLIC": (
        "v2.31|Action=Allow|Active={active}|Dir=In|Protocol=6|Profile=Public|LPort=5985|RA4=LocalSubnet|Name=WinRM|"
    ),
}


def stub(name: str, version: str = "") -> bytes:
    """Return the file that stands for a program or driver."""
    mark = f"lab-file-version: {version}\r\n" if version else ""
    return f"{mark}goldimage.osd lab: {name}\r\n".encode()


def portable_executable(machine: int = 0x8664) -> bytes:
    """Return the smallest file from which imaging tools read an architecture."""
    data = bytearray(1024)
    data[0:2] = b"MZ"
    data[0x3C:0x40] = struct.pack("<I", 0x80)
    data[0x80:0x86] = b"PE\0\0" + struct.pack("<H", machine)
    return bytes(data)


def software_hive(edition: Edition) -> Key:
    """Return the SOFTWARE hive of a Windows image as it is delivered: generalized."""
    root = registry_hive.empty()
    texts = {
        "EditionID": edition.id,
        "ProductName": edition.product,
        "InstallationType": "Server" if edition.server else "Client",
        "CurrentBuild": str(edition.build),
        "CurrentBuildNumber": str(edition.build),
        "CurrentVersion": "6.3",
        "SystemRoot": r"C:\Windows",
        "DisplayVersion": "24H2",
        "RegisteredOwner": "",
        "RegisteredOrganization": "",
    }
    for name, text in texts.items():
        root.set_string(_CURRENT, name, text)
    root.set_dword(_CURRENT, "CurrentMajorVersionNumber", 10)
    root.set_dword(_CURRENT, "CurrentMinorVersionNumber", 0)
    root.set_dword(_CURRENT, "UBR", edition.revision)
    root.set_dword(rf"{_CURRENT}\SoftwareProtectionPlatform", "RemainingRearmCount", edition.rearm_count)
    root.set_string(rf"{_CURRENT}\Winlogon", "DefaultUserName", "")
    root.set(rf"{_CURRENT}\ProfileList\S-1-5-18", "ProfileImagePath", Value.expand_sz(r"C:\Windows\system32\config\systemprofile"))
    root.set_string(r"Microsoft\Windows\CurrentVersion\Setup\State", "ImageState", GENERALIZED)
    root.set_string(r"Microsoft\Windows\CurrentVersion", "ProgramFilesDir", r"C:\Program Files")
    root.create(r"Microsoft\Windows\CurrentVersion\Uninstall")
    root.create(r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages")
    root.create(r"Policies\Microsoft\Windows")
    root.create(r"Classes\Installer\Products")
    return root


def system_hive(edition: Edition) -> Key:
    """Return the SYSTEM hive of a Windows image: Setup is to go on at the first start."""
    root = registry_hive.empty()
    for name in ("Current", "Default", "LastKnownGood"):
        root.set_dword("Select", name, 1)
    root.set_dword("Select", "Failed", 0)
    language = _LANGUAGE_IDS.get(edition.language, "0409")
    root.set_dword(rf"{_CONTROL}\Windows", "CSDVersion", 0)
    root.set_dword(rf"{_CONTROL}\Windows", "CSDBuildNumber", edition.revision)
    root.set_string(rf"{_CONTROL}\ProductOptions", "ProductType", "ServerNT" if edition.server else "WinNT")
    root.set_multi(rf"{_CONTROL}\ProductOptions", "ProductSuite", ["Terminal Server"])
    root.create(rf"{_CONTROL}\MUI\UILanguages\{edition.language}")
    root.set_string(rf"{_CONTROL}\Nls\Language", "InstallLanguage", language)
    root.set_string(rf"{_CONTROL}\Nls\Language", "Default", language)
    root.set_string(rf"{_CONTROL}\ComputerName\ComputerName", "ComputerName", "MINWINPC")
    root.set_string(rf"{_CONTROL}\Session Manager\Environment", "PROCESSOR_ARCHITECTURE", "AMD64")
    root.set_string(rf"{_CONTROL}\TimeZoneInformation", "TimeZoneKeyName", "Pacific Standard Time")
    root.create(r"ControlSet001\Enum")
    root.set_string("Setup", "CmdLine", r"oobe\windeploy.exe")
    for name, number in {"SystemSetupInProgress": 1, "SetupType": 2, "OOBEInProgress": 1, "SetupPhase": 4}.items():
        root.set_dword("Setup", name, number)
    root.set_multi("Setup", "CloneTag", ["Mon Jan 01 00:00:00 2024"])
    root.set_dword(r"Setup\Status\SysprepStatus", "GeneralizationState", 4)
    root.set_dword(r"Setup\Status\SysprepStatus", "CleanupState", 2)
    for name, (display, path, start) in _SERVICE_TABLE.items():
        key = rf"{_SERVICES}\{name}"
        root.set_dword(key, "Type", _SHARED)
        root.set_dword(key, "Start", 2 if edition.server and name == "WinRM" else start)
        root.set_dword(key, "ErrorControl", 1)
        root.set_string(key, "DisplayName", display)
        root.set(key, "ImagePath", Value.expand_sz(path))
        root.set_string(key, "ObjectName", "LocalSystem")
    root.create(rf"{_SERVICES}\Tcpip\Parameters\Interfaces")
    for name, rule in _WINRM_RULES.items():
        root.set_string(_RULES, name, rule.format(active="TRUE" if edition.server else "FALSE"))
    return root


def sam_hive(sid: str = "") -> Key:
    """Return a SAM hive with the two built-in accounts, disabled (see ``accounts``)."""
    root = registry_hive.empty()
    domain = r"SAM\Domains\Account"
    root.set_string(domain, "MachineSid", sid)
    for name, rid, group in (("Administrator", 500, "Administrators"), ("Guest", 501, "Guests")):
        root.set(rf"{domain}\Users\Names\{name}", "", Value(rid, b""))
        path = rf"{domain}\Users\{rid:08X}"
        root.set_dword(path, "Enabled", 0)
        root.set_string(path, "FullName", "")
        root.set_binary(path, "NtHash", b"")
        root.set_multi(path, "Groups", [group])
    return root


def security_hive() -> Key:
    """Return a SECURITY hive: in a workgroup."""
    root = registry_hive.empty()
    root.set_dword("Policy", "PartOfDomain", 0)
    root.set_string("Policy", "PrimaryDomain", "WORKGROUP")
    return root


def default_hive(edition: Edition) -> Key:
    """Return the DEFAULT hive."""
    root = registry_hive.empty()
    root.set_string(r"Control Panel\International", "LocaleName", edition.language)
    return root


def write_tree(folder: Path, files: Mapping[str, bytes], folders: Iterable[str] = ()) -> None:
    """Write files given by Windows paths below a folder."""
    for name in folders:
        folder.joinpath(*name.split("\\")).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder.joinpath(*name.split("\\"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_windows(folder: Path, edition: Edition = ENTERPRISE) -> None:
    """Write a Windows as an image holds it."""
    version = f"10.0.{edition.build}.{edition.revision}"
    system = r"Windows\System32"
    files = {rf"{system}\{name}": stub(name, version) for name in programs.names(Environment.FULL_OS)}
    files |= {
        rf"{system}\kernel32.dll": portable_executable(),
        rf"{system}\ntoskrnl.exe": stub("ntoskrnl.exe", version),
        rf"{system}\winload.efi": stub("winload.efi", version),
        rf"{system}\winload.exe": stub("winload.exe", version),
        rf"{system}\Sysprep\sysprep.exe": stub("sysprep.exe", version),
        rf"{system}\reagentc.exe": stub("reagentc.exe", version),
        rf"{system}\Recovery\Winre.wim": stub("Winre.wim"),
        r"Windows\Boot\EFI\bootmgfw.efi": stub("bootmgfw.efi", version),
        r"Windows\Boot\PCAT\bootmgr": stub("bootmgr", version),
        r"Windows\Boot\DVD\EFI\boot.sdi": stub("boot.sdi"),
        r"Windows\Boot\DVD\PCAT\boot.sdi": stub("boot.sdi"),
        r"Windows\explorer.exe": stub("explorer.exe", version),
        r"Windows\Setup\State\State.ini": f"[State]\r\nImageState={GENERALIZED}\r\n".encode(),
        r"Windows\INF\machine.inf": b"; machine.inf of the lab\r\n",
        r"Users\Default\NTUSER.DAT": registry_hive.dump(registry_hive.empty()),
    }
    files.pop(rf"{system}\sysprep.exe", None)
    hives = {
        "SYSTEM": system_hive(edition),
        "SOFTWARE": software_hive(edition),
        "SAM": sam_hive(),
        "SECURITY": security_hive(),
        "DEFAULT": default_hive(edition),
    }
    files |= {rf"{system}\config\{name}": registry_hive.dump(key) for name, key in hives.items()}
    folders = (
        rf"{system}\Sysprep\Panther",
        rf"{system}\DriverStore\FileRepository",
        rf"{system}\Tasks",
        rf"{system}\drivers",
        rf"{system}\config\systemprofile",
        r"Windows\Panther",
        r"Windows\Temp",
        r"Windows\Logs\DISM",
        r"Windows\Setup\Scripts",
        r"Windows\Installer",
        r"Windows\SoftwareDistribution",
        r"Windows\servicing\Packages",
        r"Program Files",
        r"Program Files (x86)",
        "ProgramData",
        r"Users\Public",
    )
    write_tree(folder, files, folders)


def make_windows_pe(folder: Path, agent: Mapping[str, bytes], build: int = 26100) -> None:
    r"""Write a Windows PE with the agent's folder; ``agent`` are the files of ``\osd``."""
    software = registry_hive.empty()
    for name, text in {
        "EditionID": "WindowsPE",
        "ProductName": "Microsoft Windows Preinstallation Environment",
        "InstallationType": "WindowsPE",
        "CurrentBuild": str(build),
        "CurrentBuildNumber": str(build),
        "CurrentVersion": "6.3",
    }.items():
        software.set_string(_CURRENT, name, text)
    software.set_dword(_CURRENT, "CurrentMajorVersionNumber", 10)
    software.set_dword(_CURRENT, "CurrentMinorVersionNumber", 0)
    system = registry_hive.empty()
    system.set_dword("Select", "Current", 1)
    system.create(rf"{_CONTROL}\MiniNT")
    system.set_dword(rf"{_CONTROL}\Windows", "CSDBuildNumber", 1)
    system.set_string(rf"{_CONTROL}\ProductOptions", "ProductType", "WinNT")
    system.create(rf"{_CONTROL}\MUI\UILanguages\en-US")
    system.set_string(rf"{_CONTROL}\Nls\Language", "InstallLanguage", "0409")
    for component in ("Scripting", "SecureStartup", "WDS-Tools", "WMI"):
        package = f"WinPE-{component}-Package~31bf3856ad364e35~amd64~~10.0.{build}.1"
        software.set_dword(rf"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\{package}", "CurrentState", 112)
    system.set_string("Setup", "CmdLine", "winpeshl.exe")
    system.set_dword("Setup", "SystemSetupInProgress", 1)
    place = r"Windows\System32"
    files = {rf"{place}\{name}": stub(name) for name in programs.names(Environment.WINDOWS_PE)}
    files |= {
        rf"{place}\kernel32.dll": portable_executable(),
        rf"{place}\boot\winload.efi": stub("winload.efi"),
        rf"{place}\boot\winload.exe": stub("winload.exe"),
        r"Windows\Boot\EFI\bootmgfw.efi": stub("bootmgfw.efi"),
        r"Windows\Boot\PCAT\bootmgr": stub("bootmgr"),
        r"Windows\Boot\DVD\EFI\boot.sdi": stub("boot.sdi") + bytes(4096),
        rf"{place}\startnet.cmd": b"wpeinit\r\n",
        rf"{place}\config\SYSTEM": registry_hive.dump(system),
        rf"{place}\config\SOFTWARE": registry_hive.dump(software),
    }
    files |= {rf"osd\{name}": content for name, content in agent.items()}
    write_tree(folder, files, (r"Windows\Temp", r"Windows\System32\drivers"))


def capture(tree: Path, image: Path, name: str, description: str = "", *, append: bool = False, flags: str = "") -> None:
    """Write a folder into a WIM with Debian's wimlib. Raises RuntimeError with wimlib's words."""
    command = ["wimlib-imagex", "append" if append else "capture", str(tree), str(image), name, description or name]
    command += ["--compress=LZX"] if not append else []
    command += [f"--flags={flags}"] if flags else []
    if not append and flags == "9":
        command.append("--boot")
    result = subprocess.run([*command, "--check", "--no-acls", "--threads=1"], capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        raise RuntimeError(f"wimlib-imagex {command[1]} failed with exit code {result.returncode}: {result.stderr.strip()}")


def make_install_image(image: Path, editions: Iterable[Edition] = (ENTERPRISE, PROFESSIONAL)) -> None:
    """Write an install.wim with one image for each edition."""
    image.parent.mkdir(parents=True, exist_ok=True)
    beside = image.with_suffix(".new")
    beside.unlink(missing_ok=True)
    for number, edition in enumerate(editions):
        with tempfile.TemporaryDirectory() as folder:
            make_windows(Path(folder), edition)
            capture(Path(folder), beside, edition.name, append=number > 0, flags=edition.id)
    beside.replace(image)


def make_boot_image(folder: Path, boot_image: str, password: Mapping[str, object], certificate: bytes, key: bytes, name: str) -> None:
    """Write a boot image folder as the module boot_image does, from a Windows PE and archives that are made here.

    ``password`` is the hash as ``agent.json`` holds it; ``name`` the certificate's fixed DNS name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / boot_image_builder.KEY).touch(0o600)
    (folder / boot_image_builder.KEY).write_bytes(key)
    (folder / boot_image_builder.CERTIFICATE).write_bytes(certificate)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        make_windows_pe(work / "tree", {})
        capture(work / "tree", work / "winpe.wim", f"Windows PE {boot_image}", flags="9")
        boot_image_builder.build(
            boot_image_builder.Request(
                name=boot_image,
                source=work / "winpe.wim",
                destination=folder,
                password=password,
                python=_archive(work / "python.zip", python_distribution()),
                comtypes=_archive(work / "comtypes.zip", {"comtypes/__init__.py": b"# The lab has no COM.\n"}),
                certificate_name=name,
            )
        )


def _archive(path: Path, files: Mapping[str, bytes]) -> boot_image_builder.Archive:
    path.write_bytes(agent_zip.pack(files))
    return boot_image_builder.Archive(str(path), boot_image_builder.file_hash(path))


def python_distribution() -> dict[str, bytes]:
    """Return the files that stand for the Python embeddable distribution; the lab runs the agent with the host's Python."""
    return {name: stub(name) for name in ("python312.dll", "python312._pth", "python312.zip")} | {"python.exe": portable_executable()}


#: A driver of our own for a device that the images do not know.
SAMPLE_INF = """\
[Version]
Signature = "$WINDOWS NT$"
Class = Net
ClassGuid = {4d36e972-e325-11ce-bfc1-08002be10318}
Provider = %Maker%
CatalogFile = labnet.cat
DriverVer = 03/01/2025,2.1.0.0

[Manufacturer]
%Maker% = Models,NTamd64.10.0

[Models.NTamd64.10.0]
%Device% = Install,PCI\\VEN_1D6B&DEV_0104

[Install.NT]
CopyFiles = Files

[Install.NT.Services]
AddService = labnet,2,Service

[Service]
ServiceType = 1
StartType = 3
ErrorControl = 1
ServiceBinary = %12%\\labnet.sys

[Files]
labnet.sys

[DestinationDirs]
Files = 12

[SourceDisksNames]
1 = "Lab"

[SourceDisksFiles]
labnet.sys = 1

[Strings]
Maker = "Goldimage"
Device = "Goldimage Lab Network Card"
"""


def make_samples(folder: Path) -> None:
    """Write what a project can point its sources at: a driver, an update, two applications, the client's setup."""
    write_tree(
        folder,
        {
            r"drivers\labnet\labnet.inf": SAMPLE_INF.replace("\n", "\r\n").encode(),
            r"drivers\labnet\labnet.sys": stub("labnet.sys", "2.1.0.0"),
            r"drivers\labnet\labnet.cat": stub("labnet.cat"),
            r"updates\KB5000001.cab": _json(
                {
                    "lab_package": 1,
                    "identity": "Package_for_KB5000001~31bf3856ad364e35~amd64~~10.0.1.0",
                    "applies_to": {},
                    "files": {},
                    "registry": [],
                    "restart": True,
                }
            ),
            r"applications\7zip.msi": _json(
                {
                    "lab_installer": 1,
                    "kind": "msi",
                    "product_code": "{23170F69-40C1-2702-2409-000001000000}",
                    "name": "7-Zip 24.09 (x64 edition)",
                    "version": "24.09.00.0",
                    "seconds": 2,
                    "exit_code": 0,
                    "files": {r"C:\Program Files\7-Zip\7z.exe": {"text": "7z", "version": "24.9.0.0"}},
                }
            ),
            r"applications\vcredist.exe": _json(
                {
                    "lab_installer": 1,
                    "kind": "exe",
                    "product_code": "{c649ede4-f16a-4486-a117-dcc2f2a35165}",
                    "name": "Microsoft Visual C++ 2022 Redistributable (x64)",
                    "version": "14.42.34433.0",
                    "seconds": 2,
                    "exit_code": 3010,
                    "restart": True,
                    "files": {r"C:\Windows\System32\vcruntime140.dll": {"text": "vc", "version": "14.42.34433.0"}},
                }
            ),
            r"client\ccmsetup.exe": _json(
                {
                    "lab_installer": 1,
                    "kind": "exe",
                    "name": "Configuration Manager Client",
                    "version": "5.00.9128.1000",
                    "seconds": 4,
                    "exit_code": 0,
                }
            ),
        },
    )


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode()


def make_existing_windows(root: Path, edition: Edition, name: str, *, winrm: bool = True) -> None:
    """Write a Windows that is set up already: what an old computer has on its disk."""
    make_windows(root, edition)
    config = root / "Windows" / "System32" / "config"
    system = registry_hive.load((config / "SYSTEM").read_bytes())
    for value, number in {"SystemSetupInProgress": 0, "SetupType": 0, "OOBEInProgress": 0, "SetupPhase": 0}.items():
        system.set_dword("Setup", value, number)
    system.set_string("Setup", "CmdLine", "")
    for place in ("ComputerName", "ActiveComputerName"):
        system.set_string(rf"{_CONTROL}\ComputerName\{place}", "ComputerName", name.upper())
    if winrm:
        system.set_dword(rf"{_SERVICES}\WinRM", "Start", 2)
        system.set_string(_RULES, "lab-winrm", "v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=5985|Name=WinRM|")
    (config / "SYSTEM").write_bytes(registry_hive.dump(system))
    software = registry_hive.load((config / "SOFTWARE").read_bytes())
    software.set_string(r"Microsoft\Windows\CurrentVersion\Setup\State", "ImageState", "IMAGE_STATE_COMPLETE")
    if winrm:
        policy = r"Policies\Microsoft\Windows\WinRM\Service"
        software.set_dword(policy, "AllowAutoConfig", 1)
        software.set_string(policy, "IPv4Filter", "*")
    (config / "SOFTWARE").write_bytes(registry_hive.dump(software))
    (config / "SAM").write_bytes(registry_hive.dump(sam_hive(new_machine_sid())))
    (root / "Windows" / "Setup" / "State" / "State.ini").write_bytes(b"[State]\r\nImageState=IMAGE_STATE_COMPLETE\r\n")


def remove(folder: Path) -> None:
    """Remove a folder of the lab."""
    shutil.rmtree(folder, ignore_errors=True)
