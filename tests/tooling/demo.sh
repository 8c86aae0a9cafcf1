#!/usr/bin/env bash
# The demo, in DEMO (build/demo), by phases:
#   prepare  build the tarball, install it as a user does, copy the example project
#   start    start the lab with new computers
#   run      build and capture, as the user does
#   stop     switch the lab off
#   new      all of these
#   again    run once more, the lab switched off
set -euo pipefail
cd "$(dirname "$0")/../.."
self=$PWD/tests/tooling/demo.sh
demo=$(realpath -m "${DEMO:-build/demo}")
export ANSIBLE_COLLECTIONS_PATH=$demo/collections ANSIBLE_CONFIG=$demo/project/ansible.cfg

in_project() {
  (cd "$demo/project" && "$@")
}

case $1 in
  prepare)
    if [ -d "$demo/project/lab" ]; then
      "$self" stop || true
    fi
    rm -rf "$demo"
    mkdir -p "$demo"
    ansible-galaxy collection build --output-path "$demo" >/dev/null
    ansible-galaxy collection install "$demo"/goldimage-osd-*.tar.gz --collections-path "$demo/collections" --offline >/dev/null
    cp -r docs/examples/project "$demo/project"
    mkdir "$demo/project/capture"
    ln -s project/capture "$demo/capture"
    ;;
  start)
    in_project ansible-playbook goldimage.osd.lab
    ;;
  run)
    export OSD_REPORT=$demo/result.json
    in_project ansible-playbook build_and_capture.yml
    ;;
  stop)
    in_project ansible-playbook goldimage.osd.lab -e osd_lab_state=stopped >/dev/null
    ;;
  new)
    "$self" prepare
    trap '"$self" stop' EXIT
    "$self" start
    "$self" run
    wimlib-imagex info "$demo/capture/reference.wim" | grep -E '^(Image Count|Index|Name|Description):'
    echo "The image: $demo/capture/reference.wim, the report: $demo/result.json"
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
    echo "usage: $0 prepare|start|run|stop|new|again" >&2
    exit 2
    ;;
esac
