# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What a run leaves in the Windows it built, seen offline from Windows PE: found, removed, and proven gone before the capture.

The registry values that opened Windows are ``opening``'s; this adds the run's account and profile, its scheduled tasks, the answer
files and scripts, and what HTTPS left: certificate, private key, the port's binding, the listener's key. The work folder itself is not
here: it is excluded from the capture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from . import https_opening, opening
from .computer import Computer
from .https_opening import Https
from .names import RUN_ACCOUNT, SCHEDULED_TASK_FOLDER, WORK_FOLDER
from .registry import OfflineRegistry
from .volumes import present

HIVES = ("SYSTEM", "SOFTWARE", "SAM")
_ACCOUNT_NAMES = r"SAM\SAM\Domains\Account\Users\Names"
_PROFILES = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList"
_TASK_CACHE = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache"
#: A task's own key lies in Tasks; one of the others, by its triggers, names it once more [knowledge].
_TASK_GROUPS = ("Tasks", "Plain", "Logon", "Boot", "Maintenance")
_TASKS = SCHEDULED_TASK_FOLDER.strip("\\")
_ANSWER_FILES = (
    r"Windows\Panther\unattend.xml",
    r"Windows\Panther\Unattend\unattend.xml",
    r"Windows\System32\Sysprep\unattend.xml",
    "unattend.xml",
)
_SETUP_SCRIPT = r"Windows\Setup\Scripts\SetupComplete.cmd"


@dataclass(frozen=True)
class Traces:
    """What is still there: the opening's values, keys, files and folders to remove, and the account, which only Windows can.

    ``unknown`` is what must be proven gone and cannot be found, in words.
    """

    settings: tuple[opening.Setting, ...] = ()
    unknown: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    account: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything in words."""
        account = (f"the account {self.account}",) if self.account else ()
        values = (opening.describe_remaining(setting) for setting in self.settings)
        return (*account, *values, *self.unknown, *(f"HKLM\\{key}" for key in self.keys), *self.files, *self.folders)


def keys(settings: Iterable[opening.Setting], https: Https | None = None) -> tuple[str, ...]:
    """Return the keys that :func:`find` asks for, to be read before."""
    own = (rf"{_ACCOUNT_NAMES}\{RUN_ACCOUNT}", _PROFILES, rf"{_TASK_CACHE}\Tree\{_TASKS}")
    return (*opening.keys(settings), *own, *((https.certificate_key, https.binding_key, https_opening.LISTENER) if https else ()))


def find(
    computer: Computer,
    registry: OfflineRegistry,
    root: str,
    settings: Iterable[opening.Setting],
    before: Iterable[opening.Before],
    https: Https | None = None,
) -> Traces:
    r"""Look for everything. ``root`` is the Windows volume's (``W:\``); ``registry`` has read what :func:`keys` names.

    Two requests for files and folders; scheduled tasks, a SetupComplete.cmd and HTTPS take two each.
    """
    before = tuple(before)
    account = registry.exists(rf"{_ACCOUNT_NAMES}\{RUN_ACCOUNT}")
    files, unknown = [root + name for name in _ANSWER_FILES], ""
    if https:
        made = _private_keys(computer, root)
        if made is None:
            unknown = f"the private key of the certificate {https.thumbprint}, whose file {root}{https_opening.KEYS_AFTER} does not name"
        files += [root + name for name in (https_opening.PFX, https_opening.PASSWORD, *(made or ()))]
    folders = [rf"{root}Users\{RUN_ACCOUNT}", rf"{root}Windows\System32\Tasks\{_TASKS}"]
    script = root + _SETUP_SCRIPT
    there = present(computer, [*files, script], folders)
    if script in there and _is_ours(computer, script):
        files.append(script)
    settings = tuple(settings)
    keys_found = [*opening.made_keys(registry, settings, before), *_profile_keys(registry), *_task_keys(registry)]
    if https:
        keys_found += _https_keys(registry, https, before)
    return Traces(
        settings=opening.remaining(registry, settings, before),
        unknown=(unknown,) if unknown else (),
        keys=tuple(dict.fromkeys(keys_found)),
        files=tuple(path for path in files if path in there),
        folders=tuple(path for path in folders if path in there),
        account=RUN_ACCOUNT if account else "",
    )


def remove(registry: OfflineRegistry, traces: Traces, before: Iterable[opening.Before]) -> list[list[str]]:
    """Remove registry values and keys, which are read anew then; return the commands that remove files and folders."""
    registry.change(replace(opening.undoing(traces.settings, before), removed_keys=traces.keys))
    cmd = [r"X:\Windows\System32\cmd.exe", "/d", "/c"]
    return [
        *([*cmd, "del", "/f", "/q", "/a", path] for path in traces.files),
        *([*cmd, "rd", "/s", "/q", path] for path in traces.folders),
    ]


def _is_ours(computer: Computer, path: str) -> bool:
    """A SetupComplete.cmd that names the work folder was written by the run; any other belongs to the image."""
    return rf"\{WORK_FOLDER}".encode() in computer.get_file(path)


def _private_keys(computer: Computer, root: str) -> list[str] | None:
    """Return the key files that the certificate's import made, None where nothing tells: the proof is then impossible."""
    try:
        before, after = (computer.get_file(root + name) for name in (https_opening.KEYS_BEFORE, https_opening.KEYS_AFTER))
    except FileNotFoundError:
        return None
    return https_opening.private_keys(before, after) or None


def _https_keys(registry: OfflineRegistry, https: Https, before: Iterable[opening.Before]) -> list[str]:
    """Return the keys that HTTPS made. A listener that the image brought along has its values back and keeps its key."""
    keys = [https.certificate_key]
    bound = registry.get(https.binding_key, "SslCertHash", "REG_BINARY")
    if isinstance(bound, bytes) and bound.hex().upper() == https.thumbprint:
        keys.append(https.binding_key)
    if not any(value.key == https_opening.LISTENER and value.data is not None for value in before):
        keys.append(https_opening.LISTENER)
    return [key for key in keys if registry.exists(key)]


def _profile_keys(registry: OfflineRegistry) -> list[str]:
    keys = []
    for sid in registry.enum_keys(_PROFILES) or ():
        path = registry.get(rf"{_PROFILES}\{sid}", "ProfileImagePath", "REG_EXPAND_SZ")
        if isinstance(path, str) and path.lower().endswith(rf"\{RUN_ACCOUNT}"):
            keys.append(rf"{_PROFILES}\{sid}")
    return keys


def _task_keys(registry: OfflineRegistry) -> list[str]:
    tree = rf"{_TASK_CACHE}\Tree\{_TASKS}"
    names = registry.enum_keys(tree)
    if names is None:
        return []
    ids = [registry.get_string(rf"{tree}\{name}", "Id") for name in names]
    places = [rf"{_TASK_CACHE}\{group}\{task}" for task in ids if task for group in _TASK_GROUPS]
    if places:
        registry.read(places)
    return [tree, *(place for place in places if registry.exists(place))]
