# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the numeric exit codes of Windows and its tools mean, and what to do about them.

Only numbers count: the tools' texts follow the language of Windows. The tables are [knowledge] unless a row says otherwise; net.exe
ends with 2 for every failure, its Win32 code stands only in its text and is never read from there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """What a code means, what to do next ('' where nothing general can be said), and whether it is a success."""

    text: str
    remedy: str = ""
    success: bool = False
    restart: bool = False


def normalise(code: int) -> int:
    """Return an exit code as the unsigned 32-bit number it is; some transports hand it on as a negative one."""
    return code & 0xFFFFFFFF


def win32_part(code: int) -> int | None:
    """Return the Win32 code inside an HRESULT of that facility (0x80070005 is 5), None for other numbers."""
    code = normalise(code)
    return code & 0xFFFF if code >> 16 == 0x8007 else None


def format_code(code: int) -> str:
    """Return a code as it is looked up: small ones decimal, HRESULTs and NTSTATUS in hexadecimal."""
    code = normalise(code)
    return f"{code:#010x}".replace("0X", "0x") if code > 0xFFFF else str(code)


def find_meaning(tool: str, code: int) -> Meaning | None:
    """Return what a code of a tool means, None where it is not known.

    ``tool`` is the program's name without extension, in any case; codes that are not the tool's own are looked up as Win32 errors,
    where the tool hands those on.
    """
    code = normalise(code)
    name = tool.lower().rsplit("\\", 1)[-1].removesuffix(".exe")
    own = _TOOLS.get(name, {})
    if code in own:
        return own[code]
    if name in _OWN_CODES_ONLY:
        return _GENERAL.get(code) if code > 0xFFFF else None
    if code in _GENERAL:
        return _GENERAL[code]
    inner = win32_part(code)
    return _GENERAL.get(code if inner is None else inner)


def describe_exit_code(tool: str, code: int) -> str:
    """Return a code for a message: ``exit code 5 (access denied)``, the number alone where nothing is known."""
    meaning = find_meaning(tool, code)
    return f"exit code {format_code(code)}" + (f" ({meaning.text})" if meaning else "")


def remedy_for(tool: str, code: int) -> str:
    """Return what to do about a code, '' where nothing is known."""
    meaning = find_meaning(tool, code)
    return meaning.remedy if meaning else ""


def is_success(tool: str, code: int) -> bool:
    """Tell whether a code means that the tool did its work; a restart may still be due."""
    code = normalise(code)
    meaning = find_meaning(tool, code)
    return code == 0 or (meaning is not None and meaning.success)


def wants_restart(tool: str, code: int) -> bool:
    """Tell whether a code asks for a restart."""
    meaning = find_meaning(tool, code)
    return meaning is not None and meaning.restart


_DISK_FULL = "Free space there, or choose another place."
_NETWORK = "Check the name, the network and the file server; then run the step again."
_CREDENTIALS = "Check the account's user name (DOMAIN\\user) and password."
_LOG = "Read the end of the tool's log."

#: Win32 error codes, and HRESULTs that several tools share.
_GENERAL: dict[int, Meaning] = {
    1: Meaning("incorrect function"),
    2: Meaning("file not found", "Check the path as the computer sees it."),
    3: Meaning("path not found", "Check the path as the computer sees it."),
    5: Meaning("access denied", "The account lacks a right, or the token is a network logon's; run it as a job."),
    11: Meaning("bad format", "The file is damaged or of another kind; check its hash."),
    13: Meaning("invalid data", "The file is damaged, or a part of a split image is missing; check its hash."),
    14: Meaning("out of memory", "Give the computer more memory, or create a page file."),
    23: Meaning("data error (CRC)", "The disk or the medium has read errors; check it."),
    32: Meaning("the file is in use", "Another process holds it; wait, or restart the computer."),
    39: Meaning("the disk is full", _DISK_FULL),
    50: Meaning("not supported", "The request does not fit this image or environment."),
    53: Meaning("the network path was not found", _NETWORK),
    59: Meaning("unexpected network error", _NETWORK),
    64: Meaning("the network name is no longer available", _NETWORK),
    67: Meaning("the network name cannot be found", "Check the share's name."),
    86: Meaning("wrong network password", _CREDENTIALS),
    87: Meaning("a parameter is wrong", "This is an error in what we sent; report it with the log."),
    110: Meaning("the system cannot open the file or device"),
    112: Meaning("the disk is full", _DISK_FULL),
    121: Meaning("the network time limit was reached", _NETWORK),
    123: Meaning("a name is not valid", "Check the path for characters that Windows does not allow."),
    128: Meaning("no such process"),
    170: Meaning("the resource is in use", "Wait and run the step again."),
    183: Meaning("it exists already"),
    193: Meaning("no valid program for this processor", "Use the file made for the image's architecture."),
    740: Meaning("elevation is needed", "Use an account with a full administrator token."),
    1056: Meaning("the service is running already", success=True),
    1058: Meaning("the service is disabled", "Set its start type first."),
    1060: Meaning("no such service"),
    1062: Meaning("the service is not running", success=True),
    1072: Meaning("the service is marked for deletion", "Restart the computer."),
    1115: Meaning("a shutdown is in progress"),
    1117: Meaning("device input or output error", "The disk or the medium has errors; check it."),
    1190: Meaning("a shutdown is scheduled already"),
    1191: Meaning("other users are logged on"),
    1219: Meaning(
        "a connection to this server with other credentials exists",
        "Use one account for all folders of a file server, or name the server differently.",
    ),
    1231: Meaning("the network location cannot be reached", _NETWORK),
    1240: Meaning("the account may not log on from this computer", "Check the account's restrictions."),
    1311: Meaning("no logon server is available", "Check the network and the domain controller."),
    1312: Meaning("no such logon session"),
    1314: Meaning("a privilege is missing", "Use an account with a full administrator token."),
    1326: Meaning("user name or password is wrong", _CREDENTIALS),
    1392: Meaning("the file or folder is damaged", "Check the volume with chkdsk."),
    1393: Meaning("the disk structure is damaged", "Check the volume with chkdsk."),
    1460: Meaning("the time limit was reached and the command was ended", "Look at its log; raise the step's time limit."),
    1726: Meaning("the remote procedure call failed", "Run the step again."),
    1909: Meaning("the account is locked out", "Unlock the account, then run the step again."),
    9009: Meaning("the program was not found", "Check the program's name and path."),
    0xC0000005: Meaning("the program crashed (access violation)", _LOG),
    0xC000013A: Meaning("the program was interrupted"),
    0xC0000135: Meaning("the program lacks a DLL", "Use the program made for this environment."),
    0xC0000142: Meaning("the program could not start"),
    0x80090006: Meaning(
        "the file server and the computer do not agree on signing",
        "Use an account that the server can verify, and a server that signs SMB.",
    ),
    0x800F081E: Meaning("the package does not apply to this image", success=False),
    0x800F081F: Meaning("the source files are missing", "Give the source of the feature's files."),
    0x800F0823: Meaning("a newer servicing stack is needed", "Apply the servicing stack update first."),
    0x800F0831: Meaning("the component store is damaged", "Rebuild from a sound image."),
    0x800F0922: Meaning("the update could not be finished", "Check free space on the system partition; " + _LOG),
    0x800F0954: Meaning("features on demand are blocked by the update server's policy"),
    0x80073712: Meaning("the component store is damaged", "Rebuild from a sound image."),
    0xC1420127: Meaning("the image is mounted elsewhere", "Unmount it first."),
    0xC1510111: Meaning("no permission to mount the image", "Make the file writable."),
}

_RESTART = Meaning("done, a restart is needed", success=True, restart=True)
_RESTART_STARTED = Meaning("done, a restart was started", success=True, restart=True)

_MSI: dict[int, Meaning] = {
    1602: Meaning("the installation was cancelled", "Check that the installer runs without a user."),
    1603: Meaning("a fatal error during installation", "Look for 'Return value 3' in the installer's log."),
    1605: Meaning("the product is not installed"),
    1608: Meaning("an unknown property", "Check the property names."),
    1612: Meaning("the installation source is missing", "Make the product's source available."),
    1618: Meaning("another installation is running", "Wait for it, then run the step again."),
    1619: Meaning("the package cannot be opened", "Check that the file is there and readable."),
    1620: Meaning("the package is no valid MSI", "Check the file's hash."),
    1622: Meaning("the log file cannot be opened", "Check the log folder."),
    1624: Meaning("a transform cannot be applied", "Check the .mst file."),
    1625: Meaning("forbidden by policy", "Check the installer policies of the image."),
    1633: Meaning("the package is for another processor", "Use the package for the image's architecture."),
    1638: Meaning("another version is installed already", "Remove it first, or use the upgrade's package."),
    1639: Meaning("a wrong argument", "Check the properties of the command line."),
    1641: _RESTART_STARTED,
    1706: Meaning("the installation source is missing", "Make the product's source available."),
    3010: _RESTART,
}

_DISM: dict[int, Meaning] = {
    2: Meaning("file not found", "Check the image file's path, or the index."),
    3010: _RESTART,
    0x80070057: Meaning("a parameter is wrong", "Check names for characters that DISM does not take."),
}

#: Microsoft's page of diskpart's script errors [doc: wsd/diskpart].
_DISKPART: dict[int, Meaning] = {
    1: Meaning("a fatal exception", "Check the disk; look at the script's output."),
    2: Meaning("the parameters are wrong", "This is an error in what we sent; report it with the log."),
    3: Meaning("the script cannot be opened", "Check that the work folder is writable."),
    4: Meaning("a service that diskpart uses failed", "Check the disk and its driver; run the step again."),
    5: Meaning("a command of the script has an error", "Look at the script's output: a disk in use or too small."),
}

_WUSA: dict[int, Meaning] = {
    3010: _RESTART,
    1641: _RESTART_STARTED,
    0x00240006: Meaning("the update is installed already", success=True),
    0x00240007: Meaning("the update cannot be uninstalled"),
    0x80240017: Meaning("the update does not apply to this Windows"),
    0x80240024: Meaning("there is no such update"),
    0x80240041: Meaning("Sysprep is running"),
    0x80240044: Meaning("the update service refuses a network logon", "Run it as a job."),
    0x80240438: Meaning("the update server cannot be reached", "Check proxy and network."),
}

_SYSPREP: dict[int, Meaning] = {
    0x80073CF2: Meaning(
        "an app package is installed for a user and not provisioned for all",
        "Remove it: the log names it. Keep the computer off the Internet while it is built.",
    ),
    0x80310039: Meaning("BitLocker or device encryption is on", "Decrypt all volumes first."),
    0x800F0975: Meaning("reserved storage is in use by servicing", "Restart and let servicing finish."),
    0xC004D307: Meaning("no rearm is left", "Keep activation (do not reset it), or build from a fresh image."),
}

#: ccmsetup [doc: sccm/about-client-installation-properties; knowledge].
_CCMSETUP: dict[int, Meaning] = {
    6: Meaning("an error", "Read ccmsetup.log."),
    7: Meaning("done, a restart is needed", success=True, restart=True),
    8: Meaning("setup is running already"),
    9: Meaning("a prerequisite is missing", "Read ccmsetup.log."),
    10: Meaning("the setup manifest's hash is wrong", "Take the client's folder from the site server again."),
}

#: robocopy: a bit mask, 8 and above are failures [doc: wsd/robocopy].
_ROBOCOPY: dict[int, Meaning] = {
    **{code: Meaning("done", success=True) for code in range(8)},
    **{code: Meaning("some files could not be copied", _LOG) for code in range(8, 16)},
    16: Meaning("nothing was copied", "Check both paths and the rights on them."),
}

_CHKDSK: dict[int, Meaning] = {
    1: Meaning("errors were found and fixed", success=True),
    2: Meaning("clean-up would be done with /f", success=True),
    3: Meaning("the volume has errors", "Run chkdsk /f on it."),
}

_ONE: dict[int, Meaning] = {1: Meaning("failed")}
_NET: dict[int, Meaning] = {
    1: Meaning("failed"),
    2: Meaning("failed; net.exe gives the reason only in its output", "Check path, share and account."),
}

_TOOLS: dict[str, dict[int, Meaning]] = {
    "msiexec": _MSI,
    "dism": _DISM,
    "diskpart": _DISKPART,
    "wusa": _WUSA,
    "sysprep": _SYSPREP,
    "ccmsetup": _CCMSETUP,
    "robocopy": _ROBOCOPY,
    "chkdsk": _CHKDSK,
    "net": _NET,
    "bcdedit": _ONE,
    "bcdboot": _ONE,
    "reg": _ONE,
    "schtasks": _ONE,
    "netsh": _ONE,
    # Installers of all makers use the Windows Installer's codes, or their own.
    "installer": _MSI,
}

#: Their small numbers are their own and no Win32 errors.
_OWN_CODES_ONLY = frozenset({"diskpart", "robocopy", "chkdsk", "net", "bcdedit", "bcdboot", "reg", "schtasks", "netsh", "ccmsetup"})
