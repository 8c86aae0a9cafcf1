# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What a boot image holds: optional components, start scripts, drivers, scratch space. Pure functions over what was read from it.

Windows PE starts ``winpeshl.exe``, which runs what ``winpeshl.ini`` names; ``startnet.cmd`` is ours and never ends, because Windows PE
restarts when the last program of ``winpeshl.ini`` has ended [doc: wpeutil, winpeshl.ini reference].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .drivers import DriverPackage
from .inf import TargetWindows
from .names import AGENT_FOLDER
from .registry_hive import Key

#: Without it there is no WMI: no disk, no network adapter, no registry by CIM.
REQUIRED_COMPONENT = "WinPE-WMI"
#: What the ADK's cabinets of that component need before them [doc: cp/winpe-add-packages--optional-components-reference].
SCRATCH_SPACES = (32, 64, 128, 256, 512)
#: Setup classes that a boot image is for: network and storage [doc: sccm/customize-boot-images]. Compared ignoring case.
DRIVER_CLASSES = ("Net", "SCSIAdapter", "HDC")
PACKAGES_KEY = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
#: CBS's state 'installed' [knowledge].
_INSTALLED = 112
_PACKAGE = re.compile(r"(?P<name>WinPE-.+?)-Package~[^~]*~(?P<architecture>[^~]*)~(?P<language>[^~]*)~(?P<version>[0-9.]+)", re.IGNORECASE)
#: WIM architecture → machine field of the programs, and the name in Microsoft's file names.
MACHINES: Mapping[str, int] = {"x64": 0x8664, "arm64": 0xAA64}
#: boot manager for removable media [doc: UEFI specification 3.5.1.1].
REMOVABLE_LOADERS: Mapping[str, str] = {"x64": "bootx64.efi", "arm64": "bootaa64.efi"}
SYSTEM32 = r"Windows\System32"
PYTHON = rf"X:\{AGENT_FOLDER}\python\python.exe"
AGENT_ZIP = rf"X:\{AGENT_FOLDER}\agent.zip"


class BootImageError(ValueError):
    """A boot image, or what was to be added to it, cannot be used; the message says why and what to do."""


@dataclass(frozen=True, order=True)
class OptionalComponent:
    """One optional component of Windows PE: ``WinPE-WMI``, its version, and the languages of its language packs."""

    name: str
    version: str
    languages: tuple[str, ...] = ()


def optional_components(packages: Iterable[str]) -> tuple[OptionalComponent, ...]:
    """Return the optional components among package identities (``WinPE-WMI-Package~31bf3856ad364e35~amd64~~10.0.26100.1``)."""
    found: dict[str, tuple[str, str, set[str]]] = {}
    for identity in sorted(packages):
        match = _PACKAGE.fullmatch(identity)
        if match is None or match["name"].lower().endswith("-languagepack"):
            continue
        name, version, languages = found.setdefault(match["name"].lower(), (match["name"], "", set()))
        if match["language"]:
            languages.add(match["language"])
        else:
            version = match["version"]
        found[match["name"].lower()] = (name, version, languages)
    return tuple(
        sorted(OptionalComponent(name, version, tuple(sorted(languages))) for name, version, languages in found.values() if version)
    )


def installed_packages(software: Key) -> tuple[str, ...]:
    """Return the identities of the packages that the SOFTWARE hive of an image calls installed."""
    key = software.find(PACKAGES_KEY)
    if key is None:
        return ()
    return tuple(name for name, package in key.subkeys.items() if package.get_dword("", "CurrentState") == _INSTALLED)


def check_components(components: Sequence[OptionalComponent], architecture: str, source: str) -> None:
    """Raise BootImageError where WinPE-WMI is missing, with the commands that add it."""
    if any(component.name.lower() == REQUIRED_COMPONENT.lower() for component in components):
        return
    folder = {"x64": "amd64", "arm64": "arm64"}.get(architecture, architecture)
    packages = (
        rf"C:\Program Files (x86)\Windows Kits\10\Assessment and Deployment Kit\Windows Preinstallation Environment\{folder}\WinPE_OCs"
    )
    found = ", ".join(component.name for component in components) or "none"
    raise BootImageError(
        f"{source} has no optional component {REQUIRED_COMPONENT} (found: {found}): without WMI, Windows PE cannot be asked for its "
        "hardware. Add it once on a Windows computer that has the ADK and its Windows PE add-on: "
        r"DISM /Mount-Image /ImageFile:winpe.wim /Index:1 /MountDir:C:\mount, "
        rf'DISM /Image:C:\mount /Add-Package /PackagePath:"{packages}\WinPE-WMI.cab" /PackagePath:"{packages}\en-us\WinPE-WMI_en-us.cab", '
        r"DISM /Unmount-Image /MountDir:C:\mount /Commit. Boot images of Configuration Manager, and Winre.wim, have it already."
    )


def driver_problem(package: DriverPackage | None, classes: Iterable[str]) -> str:
    """Return why a package is left out of a boot image, '' where it comes in."""
    if package is None:
        return "it has no driver for this Windows PE"
    if package.device_class.lower() not in {name.lower() for name in classes}:
        return f"its class {package.device_class or '(none)'} is not among those of a boot image"
    if not package.is_signed:
        return "it names no catalogue that lies beside it: Windows PE would refuse it"
    return ""


def driver_target(architecture: str, build: int | None) -> TargetWindows:
    """Return the Windows that INF files are read for."""
    names = {"x64": "amd64"}
    return TargetWindows(names.get(architecture, architecture), (10, 0), build or 0)


def winpeshl_ini() -> bytes:
    """Return ``winpeshl.ini``: it runs startnet.cmd whatever shell the boot image had (Configuration Manager's, Setup, Windows RE)."""
    return b"[LaunchApps]\r\n%SYSTEMROOT%\\System32\\cmd.exe, /d /c %SYSTEMROOT%\\System32\\startnet.cmd\r\n"


def check_prestart(command_line: str) -> None:
    """Raise BootImageError for a prestart command that cannot stand in one line of a script."""
    if re.search(r"[\x00-\x1f]", command_line):
        raise BootImageError("prestart_command_line has a line break or a control character; it is one line of startnet.cmd.")
    if not command_line.isascii():
        raise BootImageError("prestart_command_line has a character outside ASCII; what it is depends on the language of Windows PE.")


def startnet_cmd(*, drivers: bool, prestart_command_line: str = "") -> bytes:
    r"""Return ``startnet.cmd``: devices, drivers, network, prestart command, and the agent again and again.

    ``drvload`` loads a driver into the running Windows PE [doc: drvload]; the network is started again after it. The prestart command
    runs in ``X:\osd\prestart`` and its exit code stands in ``X:\osd\prestart.exit``. ping is the pause: Windows PE has no timeout.exe.
    """
    folder = rf"X:\{AGENT_FOLDER}"
    lines = ["@echo off", "rem goldimage.osd: see docs/boot-image.md", "wpeinit"]
    if drivers:
        lines += [rf'for /r {folder}\drivers %%i in (*.inf) do drvload "%%i"', "wpeutil InitializeNetwork"]
    lines += ["wpeutil UpdateBootInfo", "wpeutil WaitForNetwork", "wpeutil DisableFirewall"]
    if prestart_command_line:
        check_prestart(prestart_command_line)
        # 'call' comes back from another script; cmd /d /c would strip quotes once more.
        lines += [rf"if not exist {folder}\prestart md {folder}\prestart", rf"pushd {folder}\prestart", f"call {prestart_command_line}"]
        lines += [rf"echo %ERRORLEVEL%>{folder}\prestart.exit", "popd"]
    lines += [":agent", f"{PYTHON} -I {AGENT_ZIP}", "ping -n 3 127.0.0.1 >nul", "goto agent", ""]
    return "\r\n".join(lines).encode("ascii")


def scratch_space_value(system: Key, megabytes: int) -> tuple[str, str, int] | None:
    r"""Return key, value name and number that give the RAM disk its scratch space, None where the hive says so already.

    ``DISM /Set-ScratchSpace`` writes ``Services\FBWF``, ``WinPECacheThreshold`` [code: DISMTools, wimbuilder2; not tried on Windows].
    """
    if megabytes not in SCRATCH_SPACES:
        raise BootImageError(f"scratch_space is {megabytes}; Windows PE knows {', '.join(map(str, SCRATCH_SPACES))} (MB).")
    key = rf"{control_set(system)}\Services\FBWF"
    if system.get_dword(key, "WinPECacheThreshold") == megabytes:
        return None
    return key, "WinPECacheThreshold", megabytes


def starts_winpeshl(system: Key) -> bool:
    r"""Tell whether the first process is winpeshl.exe: ``SYSTEM\Setup``, ``CmdLine`` [doc: winpe-create-apps]."""
    return (system.get_string("Setup", "CmdLine") or "").strip().lower() in ("winpeshl.exe", r"x:\windows\system32\winpeshl.exe")


def control_set(system: Key) -> str:
    """Return the control set that an image starts with, ``ControlSet001`` where its hive does not say."""
    return f"ControlSet{system.get_dword('Select', 'Default') or system.get_dword('Select', 'Current') or 1:03d}"
