# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make boot-test``: media that bootable_media makes start in QEMU under SeaBIOS and OVMF, in software emulation.

Microsoft's boot manager is not ours to give: a stand-in takes its place, a boot sector that prints the volume's label, and GRUB, which
prints the SHA-256 of the boot image it finds on the medium. Exit code 0: all three started; 1: one did not.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests/unit/media")]

from ansible_collections.goldimage.osd.plugins.plugin_utils.media import boot_image, bootable_media  # noqa: E402
from media_files import comtypes_archive, make_winpe, python_archive  # noqa: E402

OVMF = Path("/usr/share/OVMF")
SECONDS = 120
GRUB = """\
serial --unit=0
terminal_output serial
search --no-floppy --set=root --file /sources/boot.wim
echo "OSD-BOOT uefi"
hashsum --hash sha256 ($root)/sources/boot.wim
echo "OSD-END"
halt
"""
MODULES = "serial terminal echo search search_fs_file part_gpt part_msdos fat iso9660 hashsum gcry_sha256 halt normal test"


def make_stand_ins(work: Path) -> tuple[Path, Path]:
    """Return folders like copype's media and bootbins."""
    media, firmware = work / "adk" / "media", work / "adk" / "bootbins"
    firmware.mkdir(parents=True)
    here = Path(__file__).parent
    subprocess.run(["as", "--32", "-o", work / "sector.o", here / "boot_sector.s"], check=True)
    subprocess.run(
        ["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", firmware / "etfsboot.com", work / "sector.o"], check=True
    )
    (work / "grub.cfg").write_text(GRUB)
    loader = media / "EFI" / "Boot" / "bootx64.efi"
    loader.parent.mkdir(parents=True)
    grub = ["grub-mkimage", "-O", "x86_64-efi", "-o", loader, "-p", "/boot", "-c", work / "grub.cfg", *MODULES.split()]
    subprocess.run(grub, check=True)
    for name in ("bootmgr", "boot/BCD", "boot/boot.sdi", "EFI/Microsoft/Boot/BCD", "sources/boot.wim"):
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(f"stand-in for {name}".encode())
    fat = firmware / "efisys_noprompt.bin"
    fat.write_bytes(bytes(2880 * 1024))
    subprocess.run(["mformat", "-i", fat, "-f", "2880", "::"], check=True)
    subprocess.run(["mmd", "-i", fat, "::/EFI", "::/EFI/BOOT"], check=True)
    subprocess.run(["mcopy", "-i", fat, loader, "::/EFI/BOOT/BOOTX64.EFI"], check=True)
    return media, firmware


def make_boot_image(work: Path) -> Path:
    """Return a boot.wim that went through the module's builder."""
    make_winpe(work / "winpe.wim")
    archives = {}
    for name, data in (("python", python_archive()), ("comtypes", comtypes_archive())):
        (work / name).write_bytes(data)
        archives[name] = boot_image.Archive(str(work / name), hashlib.sha256(data).hexdigest())
    boot_image.build(
        boot_image.Request(name="boot-test", source=work / "winpe.wim", destination=work / "boot", password="x" * 28, **archives)
    )
    return work / "boot" / "boot.wim"


def run(name: str, work: Path, arguments: list[str], *, uefi: bool) -> str:
    """Start QEMU and return what came over the serial port, up to the end mark."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-display", "none", "-no-reboot", "-net", "none"]
    if uefi:
        variables = work / f"{name}.vars"
        shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}"]
        command += ["-drive", f"if=pflash,format=raw,file={variables}"]
    process = subprocess.Popen(
        [*command, *arguments, "-serial", "stdio", "-monitor", "none"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    text = b""
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end and b"OSD-END" not in text:
            if select.select([process.stdout], [], [], 0.5)[0]:
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    break
                text += piece
    finally:
        process.kill()
        process.wait()
    return re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]", "", text.decode("latin-1"))


def main() -> int:
    """Make the media, start them, say what happened."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="boot-test-") as folder:
        work = Path(folder)
        media, firmware = make_stand_ins(work)
        image = make_boot_image(work)
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        iso, stick = work / "winpe.iso", work / "winpe.img"
        for target, kind, label in ((iso, "iso", "OSD_BOOT_TEST"), (stick, "usb", "OSD_BOOT")):
            bootable_media.build(bootable_media.Request(kind, image, media, target, firmware, label))
        usb = [
            "-drive",
            f"if=none,id=stick,format=raw,readonly=on,file={stick}",
            "-device",
            "qemu-xhci",
            "-device",
            "usb-storage,drive=stick",
        ]
        for name, arguments, uefi, wanted in (
            ("ISO under SeaBIOS", ["-cdrom", str(iso), "-boot", "d"], False, "OSD-BOOT bios OSD_BOOT_TEST"),
            ("ISO under OVMF", ["-cdrom", str(iso)], True, digest),
            ("USB image under OVMF", usb, True, digest),
        ):
            start = time.monotonic()
            text = run(name.replace(" ", "-"), work, arguments, uefi=uefi)
            good = wanted in text
            failed += not good
            print(f"{'ok    ' if good else 'FAILED'} {name}: {time.monotonic() - start:.1f} s", flush=True)
            if not good:
                print(f"  expected '{wanted}', the serial port said: {text[-2000:]!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
