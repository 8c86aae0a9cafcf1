#!/usr/bin/env bash
# A lab of COMPUTERS bare computers in the foreground, in build/lab; its inventory is build/lab/inventory.yml.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/lab
python - "${1:-1}" >build/lab/vars.json <<'PYTHON'
import json
import sys

computers = [{"name": f"lab-{number:02}"} for number in range(1, int(sys.argv[1]) + 1)]
accounts = [{"name": r"LAB\osd", "password": "lab-Osd-1", "may_join": True}]
lab = {
    "directory": "build/lab/lab",
    "network": "127.81.0.0/24",
    "inventory": "build/lab/inventory.yml",
    "computers": computers,
    "accounts": accounts,
}
print(json.dumps({"osd_lab": lab, "osd_secret": "the secret of make lab"}, indent=2))
PYTHON
stop() {
  ansible-playbook goldimage.osd.lab -e @build/lab/vars.json -e osd_lab_state=stopped >/dev/null
}
trap stop EXIT
ansible-playbook goldimage.osd.lab -e @build/lab/vars.json
echo "The inventory: build/lab/inventory.yml; osd_secret: 'the secret of make lab'; account of the shares: LAB\\osd, lab-Osd-1."
echo "Ctrl+C switches the lab off."
tail -n +1 --follow=name --retry --quiet build/lab/lab/computers/*/console.log
