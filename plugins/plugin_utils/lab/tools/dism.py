# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""dism.exe: imaging on real WIM files through wimlib, packages and drivers on the lab's volumes.

Grammar and refusals: [doc: cp/dism-image-management-command-line-options-s14, cp/dism-driver-servicing, cp/dism-operating-system-
package-servicing]; exit codes [knowledge, windows-mechanics 4.4]. What NTFS alone has (access rights, short names, streams, attributes)
is lost on a volume of the lab. Capturing onto a file that exists ends with 80 (lab rule).
"""

from __future__ import annotations

import ntpath
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ...windows import image as wim
from ...windows.computer import Environment
from . import files, servicing, wimlib
from .grammar import Options, UsageError, colon_options, say
from .interface import ToolCall, Win32Problem
from .programs import register

_PARAMETER = 87
_GLOBAL_FLAGS = frozenset({"english", "quiet", "norestart", "online"})
_GLOBAL_VALUES = frozenset({"logpath", "loglevel", "scratchdir", "image", "format", "windir", "sysdrivedir"})
#: What a new file may be compressed with [doc]; LZX level 30 stands for 'max': 98 % of the size at a fifth of the time (measured).
_COMPRESSION = {"none": "none", "fast": "XPRESS", "max": "LZX:30"}
_MESSAGES = {
    2: "The system cannot find the file specified.",
    3: "The system cannot find the path specified.",
    5: "Access is denied.",
    11: "An attempt was made to load a program with an incorrect format.",
    13: "The data is invalid.",
    50: "The request is not supported.",
    80: "The file exists.",
    87: "The parameter is incorrect.",
    112: "There is not enough space on the disk.",
    740: "Elevated permissions are required to run DISM.",
}


class DismError(Exception):
    """DISM ends with this code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or _MESSAGES.get(code, "An error occurred."))
        self.code = code


@dataclass(frozen=True)
class _Command:
    run: Callable[[ToolCall, Options], int]
    flags: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    #: Works on an image or the running system: exactly one of /Image and /Online.
    servicing: bool = False


@register("dism")
def dism(call: ToolCall) -> int:
    """Run one DISM command."""
    say(call, "", "Deployment Image Servicing and Management tool", f"Version: {files.windows_version(call)}.1", "")
    try:
        name, command = _command(call.argv[1:])
        arguments = [a for a in call.argv[1:] if a[1:].lower() != name]
        options = colon_options(arguments, _GLOBAL_FLAGS | command.flags, _GLOBAL_VALUES | command.values, "/")
        if options.rest:
            raise UsageError(options.rest[0])
        _check_global(call, command, options)
        code = command.run(call, options)
    except UsageError as error:
        code = _PARAMETER
        _report(call, code, f"The {str(error).lstrip('/').partition(':')[0].lower()} option is unknown.")
        return code
    except DismError as error:
        _report(call, error.code, str(error))
        return error.code
    except Win32Problem as error:
        _report(call, error.code, files.describe(error))
        return error.code
    _log(call, options, f"{name} ended with {code}")
    say(call, "The operation completed successfully.")
    return code


def _report(call: ToolCall, code: int, message: str) -> None:
    number = f"{code:#x}" if code > 0xFFFF else str(code)
    say(call, "", f"Error: {number}", "", message)


def _command(arguments: Collection[str]) -> tuple[str, _Command]:
    found = [a[1:].lower() for a in arguments if a[:1] == "/" and a[1:].lower() in _COMMANDS]
    if len(found) != 1:
        raise UsageError(next(iter(arguments), "") if not found else found[1])
    return found[0], _COMMANDS[found[0]]


def _check_global(call: ToolCall, command: _Command, options: Options) -> None:
    if not call.session.elevated:
        raise DismError(740)
    online, image = "online" in options.flags, options.get("image")
    if command.servicing and online == bool(image):
        raise DismError(_PARAMETER, "An image must be specified: /Online or /Image.")
    if not command.servicing and (online or image):
        raise DismError(_PARAMETER, "The option does not fit this command.")
    if online and call.machine.environment is Environment.WINDOWS_PE:
        raise DismError(50, "DISM does not support servicing Windows PE with the /Online option.")
    for name in ("logpath", "scratchdir"):
        folder = options.get(name)
        if folder:
            path = files.resolve(call, folder)
            parent = ntpath.dirname(path) if name == "logpath" else path
            if not call.files.is_directory(parent):
                raise DismError(3)


def _log(call: ToolCall, options: Options, text: str) -> None:
    path = options.get("logpath")
    if path:
        with call.files.open_write(files.resolve(call, path), append=True) as log:
            log.write(f"{text}\r\n".encode())


def _progress(call: ToolCall) -> Callable[[int], None]:
    """Return what prints DISM's percent line, the same in all languages [code: many parsers]."""

    def show(percent: int) -> None:
        line = ("=" * (percent * 58 // 100)).ljust(58)
        middle = f"{percent}.0%"
        line = line[: 29 - len(middle) // 2] + middle + line[29 - len(middle) // 2 + len(middle) :]
        call.stdout.write(f"\r[{line}] ".encode())

    return show


def _wimlib(call: ToolCall, arguments: list[str]) -> None:
    code = wimlib.run(arguments, _progress(call), call.cancelled)
    say(call, "")
    if code:
        raise DismError(code)


# --- image files


def _image_file(call: ToolCall, options: Options) -> tuple[str, Path]:
    name = options.get("imagefile")
    if not name:
        raise DismError(_PARAMETER, "The imagefile option is missing.")
    path = files.resolve(call, name)
    if not call.files.exists(path):
        raise DismError(2 if call.files.is_directory(ntpath.dirname(path)) else 3)
    if call.files.is_directory(path):
        raise DismError(5)
    return path, call.files.host_path(path)


def _read(host: Path) -> wim.Wim:
    try:
        return wim.read_wim_file(host)
    except (wim.ImageError, OSError):
        raise DismError(11) from None


def _image(host: Path, options: Options) -> wim.WimImage:
    """Choose by /Index or /Name: exactly one."""
    file = _read(host)
    index, name = options.get("index"), options.get("name")
    if bool(index) == bool(name):
        raise DismError(_PARAMETER, "Specify either the index or the name of the image.")
    for item in file.images:
        if (index and index.isdigit() and item.index == int(index)) or (name and item.name == name):
            return item
    raise DismError(_PARAMETER)


def _apply(call: ToolCall, options: Options) -> int:
    dummy, host = _image_file(call, options)
    item = _image(host, options)
    folder = files.resolve(call, options.get("applydir"))
    if not options.get("applydir"):
        raise DismError(_PARAMETER, "The applydir option is missing.")
    if not call.files.is_directory(folder):
        raise DismError(3)
    if "checkintegrity" in options.flags and not _read(host).header.has_integrity:
        raise DismError(13, "The image file has no integrity table.")
    call.files.reserve(folder, item.total_bytes)
    arguments = ["apply", str(host), str(item.index), str(call.files.host_path(folder)), "--no-acls"]
    arguments += ["--check"] if "checkintegrity" in options.flags else []
    pattern = options.get("swmfile")
    if pattern:
        path = files.resolve(call, pattern)
        arguments.append(f"--ref={call.files.host_path(ntpath.dirname(path)) / ntpath.basename(path)}")
    say(call, "Applying image")
    try:
        _wimlib(call, arguments)
    finally:
        call.files.changed(folder)
    return 0


def _capture(call: ToolCall, options: Options) -> int:
    target, host = _new_file(call, options)
    compression = options.get("compress", "fast").lower()
    if compression not in _COMPRESSION:
        raise UsageError("/Compress")
    _write_image(call, options, "capture", target, host, [f"--compress={_COMPRESSION[compression]}"])
    return 0


def _new_file(call: ToolCall, options: Options) -> tuple[str, Path]:
    if not options.get("imagefile"):
        raise DismError(_PARAMETER, "The imagefile option is missing.")
    path = files.resolve(call, options.get("imagefile"))
    if not call.files.is_directory(ntpath.dirname(path)):
        raise DismError(3)
    if call.files.exists(path):
        raise DismError(80)
    with call.files.open_write(path):
        pass  # an account without the right to write is refused here
    host = call.files.host_path(path)
    call.files.delete(path)
    return path, host


def _append(call: ToolCall, options: Options) -> int:
    target, host = _image_file(call, options)
    if options.get("name") in {item.name for item in _read(host).images}:
        raise DismError(0x80070057, "An image of that name exists in the file.")
    _write_image(call, options, "append", target, host, [])
    return 0


def _write_image(call: ToolCall, options: Options, verb: str, target: str, host: Path, arguments: list[str]) -> None:
    if not options.get("name"):
        raise DismError(_PARAMETER, "The name option is missing.")
    folder = files.resolve(call, options.get("capturedir"))
    if not options.get("capturedir"):
        raise DismError(_PARAMETER, "The capturedir option is missing.")
    if not call.files.is_directory(folder):
        raise DismError(3)
    if not call.files.names(folder):
        raise DismError(2, "An empty folder cannot be captured.")
    source = call.files.host_path(folder)
    before = host.stat().st_size if host.exists() else 0
    free = call.files.free_space(ntpath.dirname(target))
    with tempfile.TemporaryDirectory(prefix="osd-lab-") as scratch:
        words = [verb, str(source), str(host), options.get("name"), options.get("description"), *arguments, "--no-acls"]
        words += _configuration(call, options, Path(scratch))
        words += ["--check"] if "checkintegrity" in options.flags else []
        say(call, "Saving image")
        try:
            _wimlib(call, words)
        finally:
            call.files.changed(target)
    if (host.stat().st_size if host.exists() else 0) - before > free:
        host.unlink(missing_ok=verb == "capture")
        raise DismError(112)
    if "verify" in options.flags:
        code = wimlib.run(["verify", str(host)], None, call.cancelled)
        if code:
            raise DismError(code)


def _configuration(call: ToolCall, options: Options, scratch: Path) -> list[str]:
    """Hand the configuration list on; its content is given to wimlib as a copy, since only the host's programs read it."""
    name = options.get("configfile")
    if not name:
        return []
    path = files.resolve(call, name)
    if not call.files.is_file(path):
        raise DismError(2)
    copy = scratch / "WimScript.ini"
    copy.write_bytes(call.files.read(path))
    return [f"--config={copy}"]


def _export(call: ToolCall, options: Options) -> int:
    source = files.resolve(call, options.get("sourceimagefile"))
    if not call.files.is_file(source):
        raise DismError(2)
    host = call.files.host_path(source)
    index = options.get("sourceindex")
    if not index.isdigit() or int(index) not in {item.index for item in _read(host).images}:
        raise DismError(_PARAMETER)
    target = files.resolve(call, options.get("destinationimagefile"))
    if not call.files.is_directory(ntpath.dirname(target)):
        raise DismError(3)
    compression = options.get("compress", "fast").lower()
    kinds = {**_COMPRESSION, "recovery": "LZMS"}
    if compression not in kinds:
        raise UsageError("/Compress")
    words = ["export", str(host), index, str(call.files.host_path(target))]
    if not call.files.exists(target):
        words += [f"--compress={kinds[compression]}"] + (["--solid"] if compression == "recovery" else [])
    words += ["--check"] if "checkintegrity" in options.flags else []
    say(call, "Exporting image")
    _wimlib(call, words)
    call.files.changed(target)
    return 0


def _get_image_info(call: ToolCall, options: Options) -> int:
    path, host = _image_file(call, options)
    file = _read(host)
    say(call, f"Details for image : {path}", "")
    if not options.get("index") and not options.get("name"):
        for item in file.images:
            say(call, f"Index : {item.index}", f"Name : {item.name}", f"Description : {item.description}")
            say(call, f"Size : {item.total_bytes:,} bytes", "")
        return 0
    item = _image(host, options)
    say(
        call,
        f"Index : {item.index}",
        f"Name : {item.name}",
        f"Description : {item.description}",
        f"Size : {item.total_bytes:,} bytes",
        "WIM Bootable : No",
        f"Architecture : {item.architecture or '<undefined>'}",
        "Hal : <undefined>",
        f"Version : {item.version or '<undefined>'}",
        f"Edition : {item.edition or '<undefined>'}",
        f"Languages :\r\n\t{', '.join(item.languages) or '<undefined>'}",
        "",
    )
    return 0


# --- servicing an applied image or the running system


def _windows(call: ToolCall, options: Options) -> servicing.Windows:
    if "online" in options.flags:
        return servicing.online(call)
    root = files.resolve(call, options.get("image"))
    if not call.files.is_directory(root):
        raise DismError(3)
    if not call.files.is_file(ntpath.join(root, r"Windows\System32\config\SOFTWARE")):
        raise DismError(2, "The folder holds no Windows installation.")
    return servicing.offline(call, root)


def _add_driver(call: ToolCall, options: Options) -> int:
    if "online" in options.flags:
        raise DismError(50, "Drivers are added to the running Windows with pnputil.")
    windows = _windows(call, options)
    paths = [files.resolve(call, path) for path in options.values.get("driver", [])]
    if not paths:
        raise DismError(_PARAMETER, "The driver option is missing.")
    for path in paths:
        if not call.files.exists(path):
            raise DismError(2)
        for number, inf in enumerate(servicing.find_drivers(call, path, recurse="recurse" in options.flags), start=1):
            try:
                name = servicing.add_driver(call, windows, inf, force_unsigned="forceunsigned" in options.flags)
                say(call, f"Installing {number} - {inf}: {name}: The driver package was successfully installed.")
            except servicing.Refused as error:
                if not call.files.is_directory(path):
                    raise DismError(error.code, str(error)) from None
                say(call, f"Installing {number} - {inf}: Error - {error}")
    return 0


def _get_drivers(call: ToolCall, options: Options) -> int:
    for driver in servicing.list_drivers(call, _windows(call, options)):
        say(call, f"Published Name : {driver.published}", f"Original File Name : {driver.original}", f"Version : {driver.version}", "")
    return 0


def _add_package(call: ToolCall, options: Options) -> int:
    if "online" in options.flags and call.session.network_logon:
        raise DismError(5)
    windows = _windows(call, options)
    paths = [files.resolve(call, path) for path in options.values.get("packagepath", [])]
    if not paths:
        raise DismError(_PARAMETER, "The packagepath option is missing.")
    restart = False
    for path in paths:
        if not call.files.exists(path):
            raise DismError(2)
        packages = (
            [path] if not call.files.is_directory(path) else [p for p in files.walk(call, path) if p.lower().endswith((".cab", ".msu"))]
        )
        for package in packages:
            try:
                restart = servicing.add_package(call, windows, package) or restart
            except servicing.Refused as error:
                raise DismError(error.code, str(error)) from None
    _progress(call)(100)
    say(call, "")
    return 3010 if restart and "online" in options.flags else 0


def _get_packages(call: ToolCall, options: Options) -> int:
    for name, state in servicing.list_packages(call, _windows(call, options)):
        say(call, f"Package Identity : {name}", f"State : {state}", "")
    return 0


def _cleanup(call: ToolCall, options: Options) -> int:
    if not options.flags & {"startcomponentcleanup", "restorehealth", "checkhealth", "scanhealth", "revertpendingactions"}:
        raise DismError(_PARAMETER)
    if "resetbase" in options.flags and "startcomponentcleanup" not in options.flags:
        raise UsageError("/ResetBase")
    _windows(call, options)
    _progress(call)(100)
    say(call, "")
    return 0


def _reserved_storage(call: ToolCall, options: Options) -> int:
    if options.get("state").lower() not in ("disabled", "enabled") or "online" not in options.flags:
        raise DismError(_PARAMETER)
    return 0


def _apply_unattend(call: ToolCall, options: Options) -> int:
    raise DismError(50, "The lab's DISM has no Apply-Unattend (lab rule).")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMANDS: dict[str, _Command] = {
    "get-imageinfo": _Command(_get_image_info, values=_names("imagefile index name")),
    "get-wiminfo": _Command(_get_image_info, values=_names("wimfile imagefile index name")),
    "apply-image": _Command(
        _apply,
        _names("checkintegrity verify norpfix compact ea confirmtrustedfile wimboot"),
        _names("imagefile index name applydir swmfile"),
    ),
    "capture-image": _Command(
        _capture,
        _names("checkintegrity verify norpfix bootable ea wimboot"),
        _names("imagefile capturedir name description configfile compress"),
    ),
    "append-image": _Command(
        _append, _names("checkintegrity verify norpfix bootable"), _names("imagefile capturedir name description configfile")
    ),
    "export-image": _Command(
        _export,
        _names("checkintegrity bootable"),
        _names("sourceimagefile sourceindex destinationimagefile destinationname compress swmfile"),
    ),
    "add-driver": _Command(_add_driver, _names("recurse forceunsigned"), _names("driver"), servicing=True),
    "get-drivers": _Command(_get_drivers, _names("all"), servicing=True),
    "add-package": _Command(_add_package, _names("ignorecheck preventpending"), _names("packagepath"), servicing=True),
    "get-packages": _Command(_get_packages, servicing=True),
    "cleanup-image": _Command(
        _cleanup,
        _names("startcomponentcleanup resetbase restorehealth checkhealth scanhealth revertpendingactions limitaccess defer"),
        _names("source"),
        servicing=True,
    ),
    "set-reservedstoragestate": _Command(_reserved_storage, values=_names("state"), servicing=True),
    "apply-unattend": _Command(_apply_unattend, servicing=True),
}
