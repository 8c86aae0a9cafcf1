#!/usr/bin/env bash
# ansible-test sanity insists on a real path .../ansible_collections/goldimage/osd: run it in a copy of what git knows or would add.
set -euo pipefail
cd "$(dirname "$0")/../.."

# ansible-test fetches this file from ci-files.testing.ansible.com; ensurepip does the same without that server.
cache=$HOME/.ansible/test/cache
mkdir -p "$cache"
for version in 24_2 25_2; do
  if [ ! -e "$cache/get_pip_$version.py" ] || grep -q goldimage "$cache/get_pip_$version.py"; then
    cp tests/tooling/get_pip.py "$cache/get_pip_$version.py"
  fi
done

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tree=$copy/ansible_collections/goldimage/osd
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ -e "$file" ] && printf '%s\0' "$file"
done | tar --null -T - -cf - | tar -xf - -C "$tree"
cd "$tree"
unset ANSIBLE_CONFIG
ansible-test sanity --local --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "$@"
