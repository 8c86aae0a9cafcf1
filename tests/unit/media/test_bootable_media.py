# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media, read back by our ISO reader, xorriso, mtools and sfdisk; booting them is ``make boot-test``."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import bootable_media, iso
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.bootable_media import Request, build
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import boot_signature
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import BootImageError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from media_files import make_winpe

TOOLS = {"iso": ["xorriso"], "usb": ["mdir", "sfdisk"]}
pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("wimlib-imagex", "mformat", "mmd", "mcopy")), reason="wimtools or mtools are not installed"
)


def needs(kind: str) -> pytest.MarkDecorator:
    missing = [tool for tool in TOOLS[kind] if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def signed(authority: str) -> bytes:
    """Return a program that says it was signed by a certificate of an authority; the authority is made up here."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder().subject_name(name("Microsoft Windows")).issuer_name(name(authority)).public_key(key.public_key())
    certificate = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    structure = pkcs7.serialize_certificates([certificate], Encoding.DER)
    program = bytearray(content.portable_executable())
    optional = 0x80 + 24
    struct.pack_into("<H", program, optional, 0x20B)
    struct.pack_into("<I", program, optional + 108, 16)
    struct.pack_into("<II", program, optional + 112 + 8 * 4, len(program), len(structure) + 8)
    return bytes(program) + struct.pack("<IHH", len(structure) + 8, 0x200, 2) + structure


def write_boot_sector(path: Path, program: bytes) -> None:
    """Write what efisys.bin is: a floppy disk's FAT volume with the loader that firmware starts of an ISO."""
    path.write_bytes(bytes(1440 * 1024))
    loader = path.with_suffix(".efi")
    loader.write_bytes(program)
    subprocess.run(["mformat", "-i", path, "-f", "1440", "::"], check=True)
    subprocess.run(["mmd", "-i", path, "::/efi", "::/efi/boot"], check=True)
    subprocess.run(["mcopy", "-i", path, loader, "::/efi/boot/bootx64.efi"], check=True)
    loader.unlink()


@pytest.fixture(scope="module")
def adk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with boot.wim and what copype makes."""
    folder = tmp_path_factory.mktemp("adk")
    make_winpe(folder / "boot.wim")
    loader = signed(boot_signature.CA_2011)
    for name in (
        "bootmgr",
        "Boot/BCD",
        "Boot/boot.sdi",
        "EFI/Microsoft/Boot/BCD",
        "EFI/Boot/bootx64.efi",
        "sources/boot.wim",
        "Boot/Fonts/x.ttf",
    ):
        path = folder / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(loader if name.endswith(".efi") else name.encode())
    (folder / "bootbins").mkdir()
    (folder / "bootbins" / "etfsboot.com").write_bytes(b"E" * 4096)
    write_boot_sector(folder / "bootbins" / "efisys_noprompt.bin", loader)
    return folder


def request(adk: Path, target: Path, kind: str = "iso", label: str = "WINDOWS_PE") -> Request:
    return Request(kind, adk / "boot.wim", adk / "media", target, adk / "bootbins", label)


@needs("iso")
def test_an_iso_holds_both_boot_entries_and_the_files(adk: Path, tmp_path: Path) -> None:
    target = tmp_path / "winpe.iso"
    outcome = build(request(adk, target))
    assert outcome.changed
    with target.open("rb") as medium:
        assert iso.find(medium, "sources/boot.wim").open(medium).read() == (adk / "boot.wim").read_bytes()
        assert iso.find(medium, "boot/fonts/x.ttf").open(medium).read() == b"Boot/Fonts/x.ttf"
        manager = (adk / "media" / "EFI" / "Boot" / "bootx64.efi").read_bytes()
        assert iso.find(medium, "efi/microsoft/boot/bootmgfw.efi").open(medium).read() == manager
    shown = subprocess.run(["xorriso", "-indev", target, "-report_el_torito", "plain"], capture_output=True, text=True, check=False).stdout
    assert [line.split()[6] for line in shown.splitlines() if line.startswith("El Torito boot img :")] == ["BIOS", "UEFI"] or (
        "BIOS  y   none" in shown and "UEFI  y   none" in shown
    )
    assert "/boot/etfsboot.com" in shown.lower()
    assert "/efi/microsoft/boot/efisys.bin" in shown.lower()


@needs("usb")
def test_a_stick_holds_the_files(adk: Path, tmp_path: Path) -> None:
    target = tmp_path / "winpe.img"
    build(request(adk, target, "usb"))
    table = json.loads(subprocess.run(["sfdisk", "--json", target], capture_output=True, text=True, check=True).stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert [row["type"] for row in table["partitions"]] == ["EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"]
    drive = f"{target}@@{table['partitions'][0]['start'] * 512}"
    copy = tmp_path / "copy.wim"
    subprocess.run(["mcopy", "-i", drive, "::/sources/boot.wim", copy], check=True)
    assert copy.read_bytes() == (adk / "boot.wim").read_bytes()
    assert "WINDOWS_PE" in subprocess.run(["mdir", "-i", drive, "::/"], capture_output=True, text=True, check=True).stdout
    with target.open("rb") as file:
        file.seek(table["partitions"][0]["start"] * 512 + 82)
        assert file.read(8) == b"FAT32   "


@pytest.mark.parametrize("kind", [pytest.param("iso", marks=needs("iso")), pytest.param("usb", marks=needs("usb"))])
def test_the_same_inputs_touch_nothing_and_give_the_same_bytes(adk: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "one"
    build(request(adk, target, kind))
    before = target.stat()
    assert not build(request(adk, target, kind)).changed
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    build(request(adk, tmp_path / "two", kind))
    assert (tmp_path / "two").read_bytes() == target.read_bytes()
    assert build(request(adk, target, kind, label="OTHER"), check_only=True).changed
    with target.open("r+b") as file:
        file.write(b"x")
    assert build(request(adk, target, kind)).changed


@needs("iso")
def test_the_authority_of_the_boot_manager(adk: Path, tmp_path: Path) -> None:
    outcome = build(request(adk, tmp_path / "x.iso"))
    assert outcome.manifest["signatures"] == {"bootx64.efi": "2011", "efisys_noprompt.bin": "2011"}
    (warning,) = outcome.warnings
    assert warning.startswith("bootx64.efi and efisys_noprompt.bin: signed below 'Microsoft Windows Production PCA 2011'")
    assert "KB5025885" in warning
    assert boot_signature.generation(signed(boot_signature.CA_2023)) == "2023"
    assert boot_signature.generation(signed("Somebody")) == "other"
    assert boot_signature.generation(content.portable_executable()) == ""
    assert boot_signature.what_firmware_refuses({"bootx64.efi": b"MZ"}) == (
        "bootx64.efi: not signed by Microsoft; firmware with Secure Boot does not start it.",
    )


@needs("iso")
@needs("usb")
def test_a_newer_boot_manager_behind_an_older_boot_sector(adk: Path, tmp_path: Path) -> None:
    """Firmware starts the loader in efisys.bin first: who exchanges the boot manager alone has an ISO that starts nowhere."""
    media = tmp_path / "media"
    shutil.copytree(adk / "media", media)
    (media / "EFI" / "Boot" / "bootx64.efi").write_bytes(signed(boot_signature.CA_2023))
    outcome = build(Request("iso", adk / "boot.wim", media, tmp_path / "x.iso", adk / "bootbins"))
    assert outcome.manifest["signatures"] == {"bootx64.efi": "2023", "efisys_noprompt.bin": "2011"}
    newer, older = outcome.warnings
    assert newer.startswith("bootx64.efi: signed below 'Windows UEFI CA 2023'")
    assert older.startswith("efisys_noprompt.bin: signed below 'Microsoft Windows Production PCA 2011'")
    assert "efisys_noprompt_EX.bin" in older
    stick = build(Request("usb", adk / "boot.wim", media, tmp_path / "x.img"))
    assert stick.manifest["signatures"] == {"bootx64.efi": "2023"}
    # What MakeWinPEMedia.cmd has put there before stays, and is read too.
    (media / "EFI" / "Microsoft" / "Boot" / "bootmgfw.efi").write_bytes(signed(boot_signature.CA_2011))
    stick = build(Request("usb", adk / "boot.wim", media, tmp_path / "x.img"))
    assert stick.manifest["signatures"] == {"bootx64.efi": "2023", "bootmgfw.efi": "2011"}


def test_a_boot_sector_without_a_loader(adk: Path, tmp_path: Path) -> None:
    (tmp_path / "etfsboot.com").write_bytes(b"E" * 4096)
    (tmp_path / "efisys_noprompt.bin").write_bytes(b"F" * 8192)
    with pytest.raises(BootImageError, match=r"efisys_noprompt.bin holds no EFI/BOOT/bootx64.efi"):
        build(Request("iso", adk / "boot.wim", adk / "media", tmp_path / "x.iso", tmp_path))
    assert not (tmp_path / "x.iso").exists()


@pytest.mark.parametrize("at", [0, 0x3C, 0x80, 0x98, 0x104, 0x128, 0x12C, 1024, 1026, 1030, 1040])
def test_a_damaged_program_is_no_signed_one(at: int) -> None:
    data = bytearray(signed(boot_signature.CA_2011))
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert boot_signature.generation(bytes(data)) in ("", "2011", "other")


def test_what_is_missing_is_named(adk: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    shutil.copytree(adk / "media", media)
    (media / "bootmgr").unlink()
    with pytest.raises(BootImageError, match="lacks bootmgr.*copype amd64"):
        build(Request("iso", adk / "boot.wim", media, tmp_path / "x.iso", adk / "bootbins"))
    with pytest.raises(BootImageError, match="firmware_files is missing"):
        build(Request("iso", adk / "boot.wim", adk / "media", tmp_path / "x.iso"))
    with pytest.raises(BootImageError, match="lacks efisys.bin"):
        build(Request("iso", adk / "boot.wim", adk / "media", tmp_path / "x.iso", adk / "bootbins", prompt=True))
    with pytest.raises(BootImageError, match="label is 'A B'"):
        build(request(adk, tmp_path / "x.iso", label="A B"))
    with pytest.raises(BootImageError, match="up to 11"):
        build(request(adk, tmp_path / "x.img", "usb", label="TWELVE_CHARS"))
    with pytest.raises(BootImageError, match="no WIM file"):
        build(Request("iso", adk / "media" / "bootmgr", adk / "media", tmp_path / "x.iso", adk / "bootbins"))
    content.make_install_image(tmp_path / "install.wim", [content.ENTERPRISE])
    with pytest.raises(BootImageError, match="no boot image"):
        build(Request("iso", tmp_path / "install.wim", adk / "media", tmp_path / "x.iso", adk / "bootbins"))
    assert not list(tmp_path.glob("x.*"))


def test_a_boot_image_that_no_stick_can_hold(adk: Path, tmp_path: Path) -> None:
    big = tmp_path / "boot.wim"
    shutil.copyfile(adk / "boot.wim", big)
    with big.open("r+b") as file:
        file.truncate(bootable_media.FAT32_FILE + 1)
    with pytest.raises(BootImageError, match="cannot load a split boot image"):
        build(Request("usb", big, adk / "media", tmp_path / "x.img"))
