#!/usr/bin/env bash
# Media in QEMU: `make boot-test`. Exit 3, with the package's name in the last line, where a package cannot be had.
set -euo pipefail

needed=(xorriso:/usr/bin/xorriso mtools:/usr/bin/mformat fdisk:/usr/sbin/sfdisk binutils:/usr/bin/as qemu-system-x86:/usr/bin/qemu-system-x86_64
  ovmf:/usr/share/OVMF/OVMF_CODE_4M.fd grub-common:/usr/bin/grub-mkimage grub-efi-amd64-bin:/usr/lib/grub/x86_64-efi/moddep.lst)
missing=()
for entry in "${needed[@]}"; do
  [[ -e ${entry#*:} ]] || missing+=("${entry%%:*}")
done
if ((${#missing[@]})); then
  echo "Debian packages that are missing and get installed: ${missing[*]}"
  root=()
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -qq || true
  for package in "${missing[@]}"; do
    if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null; then
      echo "boot-test: not run, the package $package cannot be had"
      exit 3
    fi
  done
fi
exec python tests/boot/boot_test.py
