# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Media that start a boot image: an ISO (BIOS and UEFI) or an image of a USB stick (UEFI), made on the control node.

Microsoft's boot files come from the user's ADK: the folders ``media`` and ``bootbins`` that ``copype.cmd`` makes. What is there already
with the same inputs is not touched; a new file is written beside and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..windows import boot_signature
from ..windows.boot_image import REMOVABLE_LOADERS, BootImageError
from ..windows.image import ImageError, read_wim_file
from ..wsman.known import known
from .boot_image import file_hash

BUILDER = 2
ISO, USB = "iso", "usb"
#: The boot manager's second place on a medium. MakeWinPEMedia.cmd copies it there, copype.cmd does not [code: the ADK's].
_MANAGER = "EFI/Microsoft/Boot/bootmgfw.efi"
#: FAT32's largest file.
FAT32_FILE = 4 * 1024**3 - 1
_MIB = 1024 * 1024
_FIRST = _MIB
#: FAT32 has at least 65525 clusters; below that firmware takes it for FAT16.
_SMALLEST = 300 * _MIB
_BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
_REMOVABLE = tuple(f"efi/boot/{name}" for name in REMOVABLE_LOADERS.values())
_TIME = 946684800
#: Debian packages of the programs.
_PACKAGES = {"xorriso": "xorriso", "mformat": "mtools", "mcopy": "mtools", "sfdisk": "fdisk"}


@dataclass(frozen=True)
class Request:
    """What a medium is made from. See the module ``bootable_media`` for each option."""

    format: str
    boot_image: Path
    media_files: Path
    destination: Path
    firmware_files: Path | None = None
    label: str = "WINDOWS_PE"
    prompt: bool = False


@dataclass(frozen=True)
class Outcome:
    """Whether it was, or would be, made; its manifest; what the user should know."""

    changed: bool
    manifest: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def build(request: Request, *, check_only: bool = False) -> Outcome:
    """Make the medium where it is not there with these inputs. Raises BootImageError."""
    architecture, loader = _check(request)
    inputs = _inputs(request)
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    programs = _programs(request, architecture, loader)
    warnings = boot_signature.what_firmware_refuses(programs)
    if check_only and not request.destination.parent.is_dir():
        return Outcome(True, {}, warnings)
    request.destination.parent.mkdir(parents=True, exist_ok=True)
    with _locked(request.destination):
        manifest = _read(_manifest_path(request.destination))
        if manifest.get("digest") == digest and _intact(request.destination, manifest):
            return Outcome(False, manifest, warnings)
        if check_only:
            return Outcome(True, manifest, warnings)
        manifest = {
            "schema": 1,
            "digest": digest,
            "format": request.format,
            "label": request.label,
            "architecture": architecture,
            "signatures": {name: boot_signature.generation(program) for name, program in programs.items()},
            "boot_image_sha256": inputs["boot_image"],
        }
        return Outcome(True, _make(request, manifest), warnings)


def _manifest_path(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.json")


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _intact(destination: Path, manifest: Mapping[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        return file_hash(destination) == manifest.get("sha256")
    return False


@contextlib.contextmanager
def _locked(destination: Path) -> Iterator[None]:
    with destination.with_name(f".{destination.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- what goes in


def _check(request: Request) -> tuple[str, Path]:
    """Return the boot image's architecture and the boot manager; raise BootImageError for what would not start."""
    try:
        wim = read_wim_file(request.boot_image)
        image = wim.image(wim.header.boot_index or 1)
    except (ImageError, KeyError, OSError) as error:
        raise BootImageError(f"{request.boot_image}: {getattr(error, 'strerror', None) or error}.") from None
    if not image.is_windows_pe or not wim.header.boot_index:
        raise BootImageError(f"{request.boot_image} is no boot image: no image in it is Windows PE and called bootable.")
    if request.format == USB and wim.size > FAT32_FILE:
        raise BootImageError(
            f"{request.boot_image} has {wim.size} bytes; a stick is FAT32, whose files end below 4 GiB, and the boot manager cannot load a "
            "split boot image. Make it smaller (fewer optional components, languages, drivers), or use an ISO."
        )
    limit = 11 if request.format == USB else 32
    if not request.label or len(request.label) > limit or not all(c.isascii() and (c.isalnum() or c in "_-") for c in request.label):
        raise BootImageError(f"label is '{request.label}'; allowed are up to {limit} letters, digits, hyphens and underscores.")
    wanted = [("EFI", "Boot", REMOVABLE_LOADERS[image.architecture]), ("EFI", "Microsoft", "Boot", "BCD"), ("boot", "boot.sdi")]
    if request.format == ISO and image.architecture == "x64":
        wanted += [("bootmgr",), ("boot", "BCD")]
    found = [find(request.media_files, parts) for parts in wanted]
    missing = ["/".join(parts) for parts, path in zip(wanted, found, strict=True) if path is None]
    if missing:
        raise BootImageError(
            f"{request.media_files} lacks {', '.join(missing)}. Give the folder 'media' that copype.cmd of the ADK makes "
            f"(copype {'amd64' if image.architecture == 'x64' else image.architecture} C:\\winpe)."
        )
    if request.format == ISO:
        _boot_sectors(request, image.architecture)
    return image.architecture, known(found[0])


def _boot_sectors(request: Request, architecture: str) -> dict[str, Path]:
    """Return the El Torito images of an ISO by ``bios`` and ``uefi``."""
    folder = request.firmware_files
    if folder is None:
        raise BootImageError(
            "firmware_files is missing: an ISO needs etfsboot.com and efisys.bin, the folder 'bootbins' that copype.cmd makes ('fwfiles' "
            "with an older ADK)."
        )
    names = {"uefi": "efisys.bin" if request.prompt else "efisys_noprompt.bin"}
    if architecture == "x64":
        names["bios"] = "etfsboot.com"
    found = {kind: find(folder, (name,)) for kind, name in names.items()}
    missing = [names[kind] for kind, path in found.items() if path is None]
    if missing:
        raise BootImageError(
            f"{folder} lacks {', '.join(missing)}; the ADK has them in 'Deployment Tools\\<architecture>\\Oscdimg', copype.cmd copies some."
        )
    return {kind: path for kind, path in found.items() if path is not None}


def _programs(request: Request, architecture: str, manager: Path) -> dict[str, bytes]:
    """Return what UEFI firmware judges, by file: the boot manager in its places, on an ISO the loader in the boot sector before it."""
    found = {manager.name: manager.read_bytes()}
    if second := find(request.media_files, _MANAGER.split("/")):
        found[second.name] = second.read_bytes()
    if request.format == ISO:
        sector = _boot_sectors(request, architecture)["uefi"]
        found[sector.name] = _loader(sector, REMOVABLE_LOADERS[architecture])
    return found


def _loader(sector: Path, name: str) -> bytes:
    """Return the loader out of an ISO's UEFI boot sector, which is a floppy disk's FAT volume."""
    _require("mcopy")
    result = subprocess.run(  # noqa: S603
        ["mcopy", "-i", str(sector), f"::/EFI/BOOT/{name}", "-"],  # noqa: S607
        capture_output=True,
        check=False,
        env=dict(os.environ, MTOOLS_SKIP_CHECK="1"),
    )
    if result.returncode:
        raise BootImageError(f"{sector} holds no EFI/BOOT/{name}, so UEFI firmware would find nothing to start; take that of the ADK.")
    return result.stdout


def find(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return a file below a folder whatever the case of its names, None where it is not there."""
    place = folder
    for part in parts:
        try:
            place = next(path for path in place.iterdir() if path.name.lower() == part.lower())
        except (StopIteration, OSError):
            return None
    return place if place.is_file() else None


def _media_files(request: Request) -> dict[str, Path]:
    """Return the medium's files by path; the boot image takes the place of copype's, and the boot manager is in both of its places."""
    files = {path.relative_to(request.media_files).as_posix(): path for path in sorted(request.media_files.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if name.lower() != "sources/boot.wim"}
    managers = [path for name, path in files.items() if name.lower() in _REMOVABLE]
    if managers and find(request.media_files, _MANAGER.split("/")) is None:
        files[_MANAGER] = managers[0]
    folder = next((name.split("/")[0] for name in files if name.lower().startswith("sources/")), "sources")
    return files | {f"{folder}/boot.wim": request.boot_image}


def _inputs(request: Request) -> dict[str, Any]:
    firmware = sorted(request.firmware_files.glob("*")) if request.firmware_files else []
    return {
        "builder": BUILDER,
        "format": request.format,
        "label": request.label,
        "prompt": request.prompt,
        "boot_image": file_hash(request.boot_image),
        "media_files": {name: file_hash(path) for name, path in _media_files(request).items()},
        "firmware_files": {path.name: file_hash(path) for path in firmware if path.is_file()},
    }


# --- making it


def _make(request: Request, manifest: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=request.destination.parent) as name:
        work = Path(name)
        tree = work / "media"
        for path, source in _media_files(request).items():
            _copy(source, _place(tree, path))
        made = work / request.destination.name
        (_make_iso if request.format == ISO else _make_usb)(request, tree, made)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        manifest["sha256"] = file_hash(made)
        _manifest_path(request.destination).unlink(missing_ok=True)
        made.chmod(0o644)
        made.replace(request.destination)
    beside = request.destination.with_name(f".{request.destination.name}.json")
    beside.write_text(json.dumps(manifest, indent=1), "utf-8")
    beside.replace(_manifest_path(request.destination))
    return manifest


def _place(tree: Path, path: str) -> Path:
    """Return where a file goes; names that are there already keep their case, since firmware knows one ``boot``, not ``Boot`` beside it."""
    place = tree
    tree.mkdir(exist_ok=True)
    *folders, name = path.split("/")
    for part in folders:
        place = next((found for found in place.iterdir() if found.name.lower() == part.lower()), place / part)
        place.mkdir(exist_ok=True)
    return next((found for found in place.iterdir() if found.name.lower() == name.lower()), place / name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with the one time that all files of a medium have."""
    shutil.copyfile(source, target)
    os.utime(target, (_TIME, _TIME))


def _make_iso(request: Request, tree: Path, target: Path) -> None:
    architecture = "x64" if find(tree, ("EFI", "Boot", REMOVABLE_LOADERS["x64"])) else "arm64"
    sectors = _boot_sectors(request, architecture)
    entries: list[str] = []
    for kind, place in (("bios", "boot/etfsboot.com"), ("uefi", "EFI/Microsoft/Boot/efisys.bin")):
        if kind not in sectors:
            continue
        copy = _place(tree, place)
        _copy(sectors[kind], copy)
        place = copy.relative_to(tree).as_posix()
        if kind == "bios":
            # 8 sectors of 512 bytes: the whole etfsboot.com. -boot-info-table would write into Microsoft's code.
            entries += ["-b", place, "-no-emul-boot", "-boot-load-size", "8"]
        else:
            entries += (["-eltorito-alt-boot"] if entries else []) + ["-e", place, "-no-emul-boot"]
    _set_times(tree)
    options = ["-quiet", "-iso-level", "3", "-J", "-joliet-long", "-R", "-V", request.label, "-c", "boot.cat"]
    _run(["xorriso", "-as", "mkisofs", *options, *entries, "-o", str(target), str(tree)])


def _make_usb(request: Request, tree: Path, target: Path) -> None:
    content = sum(-(-path.stat().st_size // 32768) * 32768 for path in tree.rglob("*") if path.is_file())
    size = max(_SMALLEST, content + content // 50 + 32 * _MIB) // _MIB * _MIB + 2 * _MIB
    with target.open("wb") as file:
        file.truncate(size)
    sectors = (size - 2 * _FIRST) // 512
    layout = f"label: gpt\nlabel-id: {_guid(request, 'disk')}\n"
    layout += f"start={_FIRST // 512}, size={sectors}, type={_BASIC_DATA}, uuid={_guid(request, 'partition')}\n"
    _run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(target)], stdin=layout)
    drive = f"{target}@@{_FIRST}"
    _set_times(tree)
    geometry = ["-h", "255", "-s", "63", "-H", str(_FIRST // 512)]
    _run(
        ["mformat", "-i", drive, "-F", "-T", str(sectors), *geometry, "-v", request.label.upper(), "-N", _guid(request, "volume")[:8], "::"]
    )
    _run(["mcopy", "-i", drive, "-s", "-Q", "-m", *(str(path) for path in sorted(tree.iterdir())), "::/"])


def _set_times(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (_TIME, _TIME))


def _guid(request: Request, what: str) -> str:
    """Return a GUID that is the same for the same label."""
    text = hashlib.sha256(f"goldimage.osd {what} {request.label}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise BootImageError(f"{program} is not installed on the control node; install it (Debian: apt install {_PACKAGES[program]}).")


def _run(command: Sequence[str], *, stdin: str = "") -> None:
    _require(command[0])
    environment = dict(os.environ, SOURCE_DATE_EPOCH=str(_TIME), MTOOLS_SKIP_CHECK="1", LC_ALL="C.UTF-8", TZ="UTC")
    result = subprocess.run(  # noqa: S603
        command, input=stdin, capture_output=True, text=True, errors="replace", check=False, env=environment
    )
    if result.returncode:
        raise BootImageError(f"{command[0]} ended with {result.returncode}: {result.stderr.strip()[-300:]}")
