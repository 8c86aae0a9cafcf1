# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a refused play must look like: one message and nothing else, in the words that the test expects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import hardware
from integration_support import READER, SECRET, SERVER, WRITER, Played, Project, bare

#: ansible-playbook's exit codes.
FAILED, UNREACHABLE = 2, 4
OLD_PASSWORD = "Old-windows-password-1"
LOOK = {"name": "Look", "goldimage.osd.task_sequence_facts": {"subset": ["environment"]}}
START = {"name": "Start the task sequence", "goldimage.osd.start_task_sequence": {"phases": ["build"]}}
PARTITION = {"name": "Partition Disk 0", "goldimage.osd.format_and_partition_disk": {"boot_image": "{{ osd_boot_image }}"}}
APPLY = {
    "name": "Apply Operating System",
    "goldimage.osd.apply_operating_system_image": {"image": "{{ osd_image }}", "image_index": "{{ osd_image_index }}"},
}
_RESULT = re.compile(r"^fatal: \[([^\]]+)\]: (?:FAILED|UNREACHABLE)! => (\{.*\})$", re.MULTILINE)
_SECRETS = (SECRET, READER["password"], WRITER["password"], OLD_PASSWORD)


def play_tasks(
    project: Project, hosts: dict[str, dict[str, Any]], *tasks: dict[str, Any], arguments: Sequence[str] = (), **variables: Any
) -> Played:
    """Play these tasks on these hosts of an inventory of its own, as a user's own playbook does."""
    project.write_inventory(hosts, {**bare(), **variables})
    playbook = project.folder / "own.yml"
    content = [{"hosts": "reference_computers", "gather_facts": False, "tasks": list(tasks)}]
    playbook.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return project.play(playbook, *arguments)


def existing(project: Project, computer: str, **variables: Any) -> dict[str, Any]:
    """Return a host whose old Windows is found by the inventory's own connection; Windows PE will answer where it is staged."""
    host = project.host(computer)
    found = {
        "ansible_host": project.address(computer, "windows"),
        "ansible_port": 5985,
        "ansible_user": "Administrator",
        "ansible_password": OLD_PASSWORD,
        "ansible_winrm_transport": "ntlm",
        "osd_winpe_connection": {"certificate": host["osd_winpe_connection"]["certificate"]},
    }
    return {**host, **found, **variables}


def described(project: Project, computer: str) -> str:
    """Return how a message names a computer."""
    known = hardware.load(project.computer_folder(computer))
    return f"UUID {known.uuid.lower()}; serial number {known.serial.lower()}; MAC {', '.join(mac.lower() for mac in known.macs)}"


def with_winpe(base: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return the host with other settings of osd_winpe_connection."""
    return {**base, "osd_winpe_connection": {**base["osd_winpe_connection"], **settings}}


def messages(played: Played) -> dict[str, str]:
    """Return the message of each host that failed; the test fails where it was told twice, with a traceback or with a secret."""
    results = _RESULT.findall(played.stdout)
    found = {host: json.loads(text)["msg"] for host, text in results}
    assert len(found) == len(results), f"a host has more than one message\n{played.text}"
    # Core repeats the message of a failed task on the line before the result, and of an unreachable one nowhere.
    assert played.text.count("[ERROR]") == played.stdout.count("FAILED! =>"), played.text
    assert "Traceback" not in played.text
    assert "[WARNING]" not in played.text, played.text
    assert not [secret for secret in _SECRETS if secret in played.text]
    return found


def the_message(played: Played, rc: int, host: str) -> str:
    """Return a host's one message in a play in which every host failed alike."""
    assert played.rc == rc, played.text
    found = messages(played)
    counts = played.recap()
    assert (counts["changed"], counts["failed"] + counts["unreachable"]) == (0, len(found))
    return found[host]


def refusal(played: Played, rc: int = FAILED) -> str:
    """Return the one message of a play on one host that ended with that exit code."""
    assert played.rc == rc, played.text
    (message,) = messages(played).values()
    return message


def unc(path: str) -> str:
    r"""Return ``\share\path`` on the lab's server."""
    return SERVER + path
