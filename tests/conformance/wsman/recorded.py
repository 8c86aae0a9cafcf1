# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the recordings share: which of them are answered, and when an answer has the recorded shape."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import envelope
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns

PYPSRP = "winrm/jborean93+pypsrp/tests/tests_pypsrp/responses"

#: Exchanges of WinRS and WS-Management proper; all others speak to the PowerShell resource, which is not served here.
ANSWERED = (
    "test_client_execute_cmd",
    "test_client_execute_cmd_environment",
    "test_winrs_bad_cmd_id",
    "test_winrs_environment",
    "test_winrs_extra_opts",
    "test_winrs_fail_poll_process",
    "test_winrs_no_cmd_shell",
    "test_winrs_noprofile",
    "test_winrs_open_already_opened",
    "test_winrs_operation_timeout",
    "test_winrs_send",
    "test_winrs_standard",
    "test_winrs_stderr_rc",
    "test_winrs_unicode",
    "test_wsman_update_envelope_size_150",
    "test_wsman_update_envelope_size_4096",
    "test_wsman_update_envelope_size_500",
)


def exchanges(path: Path) -> list[tuple[str, str]]:
    messages = yaml.safe_load(path.read_text(encoding="utf-8"))["messages"]
    return [(m["request"], m["response"]) for m in messages if m.get("request") and m.get("response")]


def learn(ids: dict[str, str], recorded: str, answer: str) -> None:
    """Our ids stand for the recorded ones from here on."""
    for pattern in (r'Name="ShellId">([^<]+)<', r"<rsp:CommandId>([^<]+)<"):
        theirs, ours = re.search(pattern, recorded), re.search(pattern, answer)
        if theirs and ours:
            ids[theirs[1]] = ours[1]


#: Texts that differ by nature: addresses, times, people.
_FREE = {"MessageID", "Address", "Owner", "RelatesTo", "ShellRunTime", "ShellInactivity", "Text", "Message", "ProviderFault"}


def shape(body: bytes) -> list[object]:
    root = ElementTree.fromstring(body)
    return [_node(part) for part in root if len(part)] or [_node(part) for part in root]


def _node(element: ElementTree.Element) -> object:
    name = element.tag
    local = ns.local_name(name)
    parts = [_node(item) for item in element if ns.local_name(item.tag) not in ("ActivityId", "ClientIP")]
    # The recording's names of variables have lost their backslashes.
    attributes = {k: "" if k == "Machine" else v.replace("\\", "") for k, v in element.attrib.items()}
    text = "" if local in _FREE or parts else (element.text or "").strip()
    return (name, attributes, text, parts)


def compare_config(recorded: str, answer: bytes) -> None:
    theirs = envelope.parse(recorded.encode()).content
    ours = envelope.parse(answer).content
    assert {"/".join(path) for path in paths(ours)} <= {"/".join(path) for path in paths(theirs)}


def paths(element: ElementTree.Element, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    here = (*above, element.tag)
    return [here, *(path for item in element for path in paths(item, here))]
