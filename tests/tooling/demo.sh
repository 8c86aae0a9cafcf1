#!/usr/bin/env bash
# The demo. 'new': build the tarball, install it as a user does, copy the example project, run it against new lab computers.
# 'again': the same command in the same project, with the computer switched off.
set -euo pipefail
cd "$(dirname "$0")/../.."
demo=$PWD/build/demo
export ANSIBLE_COLLECTIONS_PATH=$demo/collections ANSIBLE_CONFIG=$demo/project/ansible.cfg

in_project() {
  (cd "$demo/project" && "$@")
}

stop_lab() {
  in_project ansible-playbook goldimage.osd.lab -e osd_lab_state=stopped
}

case $1 in
  new)
    if [ -d "$demo/project/lab" ]; then
      stop_lab >/dev/null || true
    fi
    rm -rf "$demo"
    mkdir -p "$demo"
    ansible-galaxy collection build --output-path "$demo" >/dev/null
    ansible-galaxy collection install "$demo"/goldimage-osd-*.tar.gz --collections-path "$demo/collections" --offline >/dev/null
    cp -r docs/examples/project "$demo/project"
    mkdir "$demo/project/capture"
    ln -s project/capture "$demo/capture"
    trap 'stop_lab >/dev/null' EXIT
    in_project ansible-playbook goldimage.osd.lab
    export OSD_REPORT=$demo/result.json
    in_project ansible-playbook build_and_capture.yml
    wimlib-imagex info "$demo/capture/reference.wim" | grep -E '^(Image Count|Index|Name|Description):'
    echo "The image: build/demo/capture/reference.wim, the report: build/demo/result.json"
    ;;
  again)
    if [ ! -e "$demo/capture/reference.wim" ]; then
      echo "There is no captured image yet: run 'make demo' first." >&2
      exit 1
    fi
    export OSD_REPORT=$demo/result-again.json
    in_project ansible-playbook build_and_capture.yml
    ;;
  *)
    echo "usage: $0 new|again" >&2
    exit 2
    ;;
esac
