#!/usr/bin/env bash
# Install the Debian packages that are missing, and say which. With "media" those that make and read bootable media, too.
set -euo pipefail

missing=()
need() { # package, then a command that succeeds where it is there
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

need wimtools command -v wimlib-imagex
need libhivex-bin command -v hivexsh
need python3-hivex test -e /usr/lib/python3/dist-packages/hivex.py
need python3-venv "${PYTHON:-$(command -v python3.11 || command -v python3)}" -c 'import ensurepip, venv'
if [[ ${1:-} == media ]]; then
  need xorriso command -v xorriso
  need mtools command -v mdir
  need fdisk test -x /usr/sbin/sfdisk
  need genisoimage command -v genisoimage
fi

if ((${#missing[@]} == 0)); then
  exit 0
fi
echo "Debian packages that are missing and get installed: ${missing[*]}"
root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "Neither root nor sudo: install them by hand: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  root=(sudo)
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
