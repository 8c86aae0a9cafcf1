# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Makes a boot image on the control node: a Windows PE of the user's with the agent, as a folder with ``boot.wim`` and what goes with it.

The folder holds ``boot.wim``, ``boot.sdi``, ``certificate.pem``, ``key.pem`` and ``boot.json``. The manifest's digest covers every input;
with the same digest, and files that still have the hashes it names, nothing is touched. A new boot image is written beside, verified and
renamed, the manifest last. The same inputs give the same WIM, byte by byte: file times, image times and GUID come from the digest.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..agent.authentication import hash_password
from ..windows import boot_image as windows
from ..windows import registry_hive, staged_network
from ..windows.boot_image import SYSTEM32, BootImageError, OptionalComponent
from ..windows.drivers import read_package
from ..windows.image import ImageError, Wim, WimImage, read_wim, read_wim_file
from ..windows.names import AGENT_FOLDER, AGENT_USER
from ..windows.registry_hive import HiveError
from ..windows.staged_network import Adapter
from . import agent_zip, certificates, iso, python_distribution, wimlib
from .extents import DamagedMedium
from .wimlib import WimlibError

SCHEMA = 1
#: Raised when the same inputs make another boot image than before.
BUILDER = 1
DEFAULT_CERTIFICATE_NAME = "windows-pe.goldimage.osd"
IMAGE, SDI, CERTIFICATE, KEY, MANIFEST = "boot.wim", "boot.sdi", "certificate.pem", "key.pem", "boot.json"
_LOCK = ".boot_image.lock"
#: Every file that is put in has this time (2000-01-01), so that the same inputs are the same image.
_TIME = 946684800
_NAMESPACE = uuid.UUID("8f1b4a52-6c2e-4a57-9b0d-60d1e04d0010")
_WINRE = r"\Windows\System32\Recovery\Winre.wim"
_SDI_PLACES = (r"\Windows\Boot\DVD\EFI\boot.sdi", r"\Windows\Boot\DVD\PCAT\boot.sdi")
_ISO_SDI = "boot/boot.sdi"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,62}")
_CHUNK = 1024 * 1024
_NO_TIME = "<HIGHPART>0x01BF53EB</HIGHPART><LOWPART>0x256D4000</LOWPART>"
_PARTS = "<HIGHPART>0x[0-9A-Fa-f]{8}</HIGHPART><LOWPART>0x[0-9A-Fa-f]{8}</LOWPART>"
_CREATED, _MODIFIED = (re.compile(f"(?<=<{name}>){_PARTS}(?=</{name}>)") for name in ("CREATIONTIME", "LASTMODIFICATIONTIME"))


@dataclass(frozen=True)
class Archive:
    """A file on the control node or an https URL, and the SHA-256 that it must have."""

    source: str
    sha256: str


@dataclass(frozen=True)
class Request:
    """What a boot image is made from. See the module ``boot_image`` for each option.

    ``password`` is the agent's, or its record where only that is known (``agent.authentication.hash_password``).
    """

    name: str
    source: Path
    destination: Path
    password: str | Mapping[str, Any] = field(repr=False)
    python: Archive
    comtypes: Archive
    source_path: str = "sources/boot.wim"
    index: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    certificate_name: str = DEFAULT_CERTIFICATE_NAME
    port: int = 5986
    network: tuple[Adapter, ...] = ()
    drivers: tuple[Path, ...] = ()
    driver_classes: tuple[str, ...] = windows.DRIVER_CLASSES
    scratch_space: int = 512
    prestart_command_line: str = ""
    prestart_files: Path | None = None
    boot_sdi: Path | None = None

    def check(self) -> None:
        """Raise BootImageError for what cannot be, before anything is read."""
        if not _NAME.fullmatch(self.name):
            raise BootImageError(f"name is '{self.name}'; allowed are up to 63 letters, digits, spaces, dots, hyphens and underscores.")
        if not 0 < self.port < 65536:
            raise BootImageError(f"port is {self.port}, which is no port.")
        if (self.certificate is None) != (self.key is None):
            raise BootImageError("certificate and key belong together: give both or none.")
        if self.scratch_space not in windows.SCRATCH_SPACES:
            raise BootImageError(f"scratch_space is {self.scratch_space}; allowed are {', '.join(map(str, windows.SCRATCH_SPACES))}.")
        windows.check_prestart(self.prestart_command_line)
        for name, archive in (("python", self.python), ("comtypes", self.comtypes)):
            if not re.fullmatch("[0-9a-f]{64}", archive.sha256):
                raise BootImageError(f"{name}.sha256 is '{archive.sha256}'; it must be the 64 hexadecimal digits of the file's SHA-256.")
            if "://" in archive.source and not archive.source.startswith("https://"):
                raise BootImageError(f"{name}.source is '{archive.source}'; it must be a path or an https URL.")
        for name, path in (("source", self.source), ("boot_sdi", self.boot_sdi), ("certificate", self.certificate), ("key", self.key)):
            if path is not None and not path.is_file():
                raise BootImageError(f"{name} is {path}, which is no file on the control node.")
        for path in (*self.drivers, *([self.prestart_files] if self.prestart_files else [])):
            if not path.is_dir():
                raise BootImageError(f"{path} is no folder on the control node.")


@dataclass(frozen=True)
class Outcome:
    """Whether something was, or would be, made; and the manifest, {} where none was made yet (check mode)."""

    changed: bool
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class _Trust:
    certificate: bytes
    key: bytes = field(repr=False)


def build(request: Request, *, check_only: bool = False) -> Outcome:
    """Make the boot image where it is not there with these inputs. Raises BootImageError; nothing half-made has the final names."""
    request.check()
    wimlib.require()
    if check_only and not request.destination.is_dir():
        return Outcome(True, {})
    request.destination.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(request.destination):
            trust = _trust(request, make=not check_only)
            if trust is None:
                return Outcome(True, {})
            inputs = _inputs(request, trust)
            digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
            manifest = read_manifest(request.destination)
            if manifest.get("digest") == digest and _is_intact(request.destination, manifest):
                return Outcome(False, manifest)
            return Outcome(True, manifest if check_only else _make(request, trust, digest))
    except (RuntimeError, DamagedMedium, ImageError, HiveError) as error:
        raise BootImageError(f"{request.source}: {error}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a boot image's manifest, {} where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock beside the output: of many hosts' tasks one builds, the others wait and find it done."""
    with (folder / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_intact(folder: Path, manifest: Mapping[str, Any]) -> bool:
    hashes = manifest.get("sha256") or {}
    try:
        return bool(hashes) and all(file_hash(folder / name) == wanted for name, wanted in hashes.items())
    except OSError:
        return False


def file_hash(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- inputs


def _trust(request: Request, *, make: bool) -> _Trust | None:
    """Return certificate and key: the given ones, those beside the output, or new ones kept there. None where they are still to be made."""
    certificate = request.certificate or request.destination / CERTIFICATE
    key = request.key or request.destination / KEY
    if request.certificate is None and not (certificate.is_file() and key.is_file()):
        if not make:
            return None
        public, private = certificates.make(request.certificate_name)
        _write(key, private, mode=0o600)
        _write(certificate, public)
    trust = _Trust(certificate.read_bytes(), key.read_bytes())
    if problem := certificates.problem(trust.certificate, trust.key, request.certificate_name):
        raise BootImageError(f"{certificate}: {problem}.")
    return trust


def _inputs(request: Request, trust: _Trust) -> dict[str, Any]:
    """Return everything that the boot image depends on, by content."""
    return {
        "builder": BUILDER,
        "name": request.name,
        "source": _source_hash(request),
        "index": request.index,
        "python": _archive_hash("python", request.python),
        "comtypes": _archive_hash("comtypes", request.comtypes),
        "agent": agent_hash(),
        "settings": hashlib.sha256(_settings(request, trust)).hexdigest(),
        "certificate": hashlib.sha256(trust.certificate).hexdigest(),
        "key": hashlib.sha256(trust.key).hexdigest(),
        "network": [asdict(adapter) for adapter in request.network],
        "drivers": [_tree_hashes(folder) for folder in request.drivers],
        "driver_classes": sorted(name.lower() for name in request.driver_classes),
        "scratch_space": request.scratch_space,
        "prestart": [request.prestart_command_line, _tree_hashes(request.prestart_files) if request.prestart_files else {}],
        "boot_sdi": _sdi_hash(request),
    }


def agent_hash() -> str:
    """Return what changes when this collection's agent does."""
    return hashlib.sha256(agent_zip.make(agent_zip.plugin_utils(), {})).hexdigest()


def _source_hash(request: Request) -> str:
    if not iso.is_iso(request.source):
        return file_hash(request.source)
    with request.source.open("rb") as medium, _in_iso(request, medium) as file:
        digest = hashlib.sha256()
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _sdi_hash(request: Request) -> str:
    """Return the hash of the boot.sdi that does not come out of the boot image itself, '' where it does."""
    if request.boot_sdi:
        return file_hash(request.boot_sdi)
    if iso.is_iso(request.source):
        with contextlib.suppress(FileNotFoundError), request.source.open("rb") as medium, iso.find(medium, _ISO_SDI).open(medium) as file:
            return hashlib.sha256(file.read()).hexdigest()
    return ""


def _in_iso(request: Request, medium: Any) -> Any:
    try:
        return iso.find(medium, request.source_path).open(medium)
    except FileNotFoundError as error:
        raise BootImageError(f"{request.source}: {error}. Name the boot image's place in the ISO with source_path.") from None


def _archive_hash(name: str, archive: Archive) -> str:
    """Return the pinned hash; a file on the control node is held against it at once."""
    if not archive.source.startswith("https://"):
        try:
            found = file_hash(Path(archive.source))
        except OSError as error:
            raise BootImageError(f"{name}.source is {archive.source}: {error.strerror}.") from None
        if found != archive.sha256:
            raise BootImageError(f"{archive.source} has SHA-256 {found}, declared is {archive.sha256}: it is not the file that was meant.")
    return archive.sha256


def _tree_hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _settings(request: Request, trust: _Trust) -> bytes:
    """Return ``agent.json``. The salt is the same for the same certificate and does not depend on the password."""
    if isinstance(request.password, str):
        salt = hashlib.sha256(b"goldimage.osd boot image " + request.name.encode() + b"\0" + trust.certificate).digest()[:16]
        record: Mapping[str, Any] = hash_password(request.password, salt=salt)
    else:
        record = request.password
    content = {
        "schema": 1,
        "boot_image": request.name,
        "port": request.port,
        "user": AGENT_USER,
        "name": request.certificate_name,
        "password": dict(record),
        "certificate": CERTIFICATE,
        "key": KEY,
    }
    return json.dumps(content, indent=1).encode()


# --- making it


def _make(request: Request, trust: _Trust, digest: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=request.destination) as name:
        return _make_in(Path(name), request, trust, digest)


def _make_in(work: Path, request: Request, trust: _Trust, digest: str) -> dict[str, Any]:
    source, index = _windows_pe(request, work)
    found = read_wim_file(source).image(index)
    hives = work / "hives"
    hives.mkdir()
    components = _components(source, index, hives)
    windows.check_components(components, found.architecture, str(request.source))
    if found.architecture not in windows.MACHINES:
        raise BootImageError(
            f"{request.source} is for {found.architecture or 'an unknown architecture'}; supported: {', '.join(windows.MACHINES)}."
        )
    tree = work / "tree"
    drivers, left_out = _fill(tree, request, trust, found)
    target = work / IMAGE
    compress = "LZX" if read_wim_file(source).header.compression not in ("LZX", "XPRESS") else ""
    wimlib.export(source, index, target, request.name, found.description or found.name, compress=compress)
    if found.flags != "9":
        wimlib.set_property(target, 1, "FLAGS", "9")
    wimlib.update(target, [*_add_commands(tree), *_hive_commands(source, index, hives, request)])
    _make_reproducible(target, digest)
    wimlib.verify(target)
    _check_result(target)
    sdi = _boot_sdi(request, source, index, work)
    hashes = {IMAGE: file_hash(target), SDI: file_hash(sdi), CERTIFICATE: hashlib.sha256(trust.certificate).hexdigest()}
    manifest = {
        "schema": SCHEMA,
        "boot_image": request.name,
        "name": request.certificate_name,
        "certificate": CERTIFICATE,
        "digest": digest,
        "sha256": hashes,
        "architecture": found.architecture,
        "version": found.version,
        "languages": list(found.languages),
        "optional_components": [{"name": c.name, "version": c.version, "languages": list(c.languages)} for c in components],
        "drivers": drivers,
        "drivers_left_out": left_out,
        "certificate_sha256": _fingerprint(trust.certificate),
        "python_sha256": request.python.sha256,
        "agent_sha256": agent_hash(),
    }
    # The manifest goes first and comes last: what lies between is never taken for a whole boot image.
    (request.destination / MANIFEST).unlink(missing_ok=True)
    if request.certificate is not None:
        _write(request.destination / CERTIFICATE, trust.certificate)
    for made, name in ((sdi, SDI), (target, IMAGE)):
        _rename(made, request.destination / name)
    _write(request.destination / MANIFEST, json.dumps(manifest, indent=1).encode())
    return manifest


def _windows_pe(request: Request, work: Path) -> tuple[Path, int]:
    """Return the WIM and the index of the Windows PE; taken out of an ISO, or of the Windows image that has it as Winre.wim."""
    path = request.source
    if iso.is_iso(path):
        path = work / "source.wim"
        with request.source.open("rb") as medium, _in_iso(request, medium) as file, path.open("wb") as out:
            shutil.copyfileobj(file, out, _CHUNK)
    wim = read_wim_file(path)
    index = _index(wim, request)
    if wim.image(index).is_windows_pe or wim.image(index).flags == "2":
        return path, index
    try:
        (winre,) = wimlib.extract(path, index, [_WINRE], work)
    except WimlibError:
        image = wim.image(index)
        raise BootImageError(f"{request.source}, image {index} ('{image.name}') is no Windows PE, and has no {_WINRE}.") from None
    return winre, 1


def _index(wim: Wim, request: Request) -> int:
    index = request.index or wim.header.boot_index or 1
    if not any(image.index == index for image in wim.images):
        indices = ", ".join(f"{image.index} ('{image.name}')" for image in wim.images)
        raise BootImageError(f"{request.source} has no image {index}; it has: {indices}.")
    return index


def _components(source: Path, index: int, work: Path) -> tuple[OptionalComponent, ...]:
    """Return the optional components by the registry, or by the packages' manifests where that says nothing."""
    (software,) = wimlib.extract(source, index, [rf"{SYSTEM32}\config\SOFTWARE"], work)
    packages: Sequence[str] = windows.installed_packages(registry_hive.load(software.read_bytes()))
    if not packages:
        names = (path.rsplit("\\", 1)[-1] for path in wimlib.list_files(source, index, r"Windows\servicing\Packages"))
        packages = [name[:-4] for name in names if name.lower().endswith(".mum")]
    return windows.optional_components(packages)


def _fill(tree: Path, request: Request, trust: _Trust, image: WimImage) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Write what goes into the image; return the drivers that came in and those that did not."""
    folder = tree / AGENT_FOLDER
    chosen, left_out = _drivers(request, image, folder / "drivers")
    for name, data in python_distribution.files(_archive(request, request.python), image.architecture).items():
        _put(folder / "python" / name, data)
    library = agent_zip.library_files(_archive(request, request.comtypes))
    _put(folder / "agent.zip", agent_zip.make(agent_zip.plugin_utils(), library))
    _put(folder / "agent.json", _settings(request, trust))
    _put(folder / CERTIFICATE, trust.certificate)
    _put(folder / KEY, trust.key)
    if request.network:
        _put(folder / "network.json", staged_network.render(request.network))
    if request.prestart_files:
        shutil.copytree(request.prestart_files, folder / "prestart")
    system32 = tree.joinpath(*SYSTEM32.split("\\"))
    _put(system32 / "winpeshl.ini", windows.winpeshl_ini())
    _put(system32 / "startnet.cmd", windows.startnet_cmd(drivers=bool(chosen), prestart_command_line=request.prestart_command_line))
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (_TIME, _TIME), follow_symlinks=False)
    return chosen, left_out


def _drivers(request: Request, image: WimImage, target: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Copy the folders of the driver packages that a boot image is for; each INF's folder with everything below it."""
    wanted = windows.driver_target(image.architecture, image.build)
    chosen: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []
    number = 0
    for source in request.drivers:
        folders = sorted({path.parent for path in source.rglob("*") if path.suffix.lower() == ".inf"})
        for folder in folders:
            siblings = [path.name for path in folder.iterdir()]
            taken = False
            for inf in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".inf"):
                shown = inf.relative_to(source).as_posix()
                package = read_package(inf.read_bytes(), wanted, path=shown.replace("/", "\\"), siblings=siblings)
                problem = windows.driver_problem(package, request.driver_classes)
                row = {"inf": shown, "class": package.device_class if package else "", "driver": package.describe if package else ""}
                if problem:
                    left_out.append(row | {"reason": problem})
                else:
                    chosen.append(row)
                    taken = True
            if taken:
                place = target / f"{number:03d}"
                number += 1
                # INFs of other classes in the same folder stay outside: drvload takes every INF that it finds.
                skipped = {row["inf"].rsplit("/", 1)[-1] for row in left_out if (source / row["inf"]).parent == folder}
                shutil.copytree(folder, place, ignore=lambda dummy, names, skipped=skipped: skipped & set(names))
    return chosen, left_out


def _archive(request: Request, archive: Archive) -> bytes:
    """Return the bytes of an archive; one from the web is kept beside the output by its hash."""
    if not archive.source.startswith("https://"):
        return Path(archive.source).read_bytes()
    kept = request.destination / ".downloads" / archive.sha256
    if kept.is_file() and file_hash(kept) == archive.sha256:
        return kept.read_bytes()
    try:
        with urllib.request.build_opener().open(archive.source, timeout=60) as answer:
            data: bytes = answer.read()
    except (http.client.HTTPException, OSError) as error:
        # HTTPError's own text has the status; its reason, and only its, has not.
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise BootImageError(f"{archive.source} cannot be fetched: {reason}. Give a path instead.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != archive.sha256:
        raise BootImageError(f"{archive.source} has SHA-256 {found}, declared is {archive.sha256}: it is not the file that was meant.")
    kept.parent.mkdir(exist_ok=True)
    _write(kept, data)
    return data


def _add_commands(tree: Path) -> list[str]:
    """Return wimlib's commands that put the tree into the image; an agent that is there already goes first."""
    if '"' in str(tree):
        raise BootImageError(f"{tree}: wimlib takes no double quote in a path.")
    commands = [f"delete --force --recursive /{AGENT_FOLDER}", f'add "{tree / AGENT_FOLDER}" /{AGENT_FOLDER}']
    for name in ("winpeshl.ini", "startnet.cmd"):
        commands.append(f'add "{tree.joinpath(*SYSTEM32.split(chr(92)), name)}" /{SYSTEM32.replace(chr(92), "/")}/{name}')
    return commands


def _hive_commands(source: Path, index: int, work: Path, request: Request) -> list[str]:
    """Change the SYSTEM hive where it does not say already what it must, and return the command that puts it in."""
    (path,) = wimlib.extract(source, index, [rf"{SYSTEM32}\config\SYSTEM"], work)
    system = registry_hive.load(path.read_bytes())
    edits: list[tuple[str, str, registry_hive.Value]] = []
    scratch = windows.scratch_space_value(system, request.scratch_space)
    if scratch is not None:
        edits.append((scratch[0], scratch[1], registry_hive.Value.dword(scratch[2])))
    if not windows.starts_winpeshl(system):
        edits.append(("Setup", "CmdLine", registry_hive.Value.sz("winpeshl.exe")))
    if not edits:
        return []
    edit_hive(path, system, edits)
    os.utime(path, (_TIME, _TIME))
    return [f'add "{path}" /{SYSTEM32.replace(chr(92), "/")}/config/SYSTEM']


def edit_hive(path: Path, content: registry_hive.Key, edits: Sequence[tuple[str, str, registry_hive.Value]]) -> None:
    """Set values in a hive with hivexsh, which leaves everything else as it is. ``content``: the hive as read before.

    hivexsh sets all values of a key at once, so the others are written again.
    """
    if shutil.which("hivexsh") is None:
        raise BootImageError("hivexsh is not installed on the control node; install it (Debian: apt install libhivex-bin).")
    lines: list[str] = []
    for key, name, value in edits:
        lines.append("cd \\")
        known = content
        for part in key.split("\\"):
            below = known.find(part)
            if below is None:
                lines.append(f"add {part}")
            lines.append(f"cd {part}")
            known = below or registry_hive.empty()
        values = {old: kept for old, kept in known.values.items() if old.lower() != name.lower()} | {name: value}
        lines.append(f"setval {len(values)}")
        for old, kept in values.items():
            lines += [old or "@", f"hex:{kept.type}:{','.join(f'{byte:02x}' for byte in kept.data)}"]
    lines += ["commit", "quit", ""]
    result = subprocess.run(  # noqa: S603
        ["hivexsh", "-w", str(path)], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    after = registry_hive.load(path.read_bytes())
    if result.returncode or any(after.get(key, name) != value for key, name, value in edits):
        raise BootImageError(f"hivexsh could not change {path.name}: {result.stderr.strip()[-300:] or 'the value is not there'}.")


def _make_reproducible(image: Path, digest: str) -> None:
    """Give the WIM a GUID from the digest and its image the time of its creation as that of the last change.

    Both lie outside of what the integrity table covers (bytes 208 to the end of the blob table).
    """
    with image.open("r+b") as file:
        wim = read_wim(file)
        xml = wim.xml.decode("utf-16-le")
        created = _CREATED.search(xml)
        changed = _MODIFIED.sub(created[0] if created else _NO_TIME, xml).encode("utf-16-le")
        if len(changed) != len(wim.xml):
            raise BootImageError(f"{image.name}: wimlib wrote a time of another length than expected; report this as a defect.")
        file.seek(wim.header.xml.offset)
        file.write(changed)
        file.seek(24)
        file.write(uuid.uuid5(_NAMESPACE, digest).bytes_le)


def _check_result(image: Path) -> None:
    """Read back what decides whether it starts."""
    wim = read_wim_file(image)
    if wim.header.boot_index != 1 or not wim.image(1).is_windows_pe:
        raise BootImageError("The boot image that was made is not bootable; report this as a defect.")
    names = {path.lower() for path in wimlib.list_files(image, 1, AGENT_FOLDER)}
    missing = [
        n for n in ("agent.zip", "agent.json", CERTIFICATE, KEY, r"python\python.exe") if rf"\{AGENT_FOLDER}\{n}".lower() not in names
    ]
    if missing:
        raise BootImageError(f"The boot image that was made lacks {', '.join(missing)}; report this as a defect.")


def _boot_sdi(request: Request, source: Path, index: int, work: Path) -> Path:
    """Return boot.sdi: the given one, that of the ISO, or that of the image."""
    target = work / SDI
    if request.boot_sdi:
        shutil.copyfile(request.boot_sdi, target)
        return target
    if iso.is_iso(request.source):
        with contextlib.suppress(FileNotFoundError):
            iso.extract(request.source, _ISO_SDI, target)
            return target
    for place in _SDI_PLACES:
        if found := wimlib.extract(source, index, [place], work / "hives", optional=True):
            return found[0]
    raise BootImageError(
        f"{request.source} holds no boot.sdi (looked in {', '.join(_SDI_PLACES)}); give the ADK's "
        r"Windows Preinstallation Environment\<architecture>\Media\boot\boot.sdi as boot_sdi."
    )


def _fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a PEM certificate's DER, as browsers and Windows PE's screen show it."""
    body = certificate.split(b"-----BEGIN CERTIFICATE-----", 1)[-1].split(b"-----END", 1)[0]
    return hashlib.sha256(base64.b64decode(body)).hexdigest()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write beside and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _rename(made: Path, target: Path) -> None:
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.chmod(0o644)
    made.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
