# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Applications: what an installer's exit code means and whether an application is installed (detection rules).

Exit codes [knowledge: Windows Installer], detection as Configuration Manager's detection methods. Never Win32_Product:
each enumeration starts a repair check of every product.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .command_line import Verbatim
from .computer import Cim, Computer
from .exit_codes import find_meaning
from .local_content import Source
from .registry import Registry

UNINSTALL_KEYS = (
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall",
    r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
)
SUCCESS = 0
RESTART_REQUIRED = 3010
#: The installer has started the restart itself.
RESTART_STARTED = 1641
INSTALLER_BUSY = 1618
#: Ended by the job because its time was over.
TIMED_OUT = 1460
#: Configuration Manager's code for 'installed with success and not detected'.
NOT_DETECTED = 0x87D00324

_NOT_DETECTED_TEXT = (
    "installed with success and not detected",
    "Check the detection rule, and that it installs on this Windows at all.",
)
_TIMED_OUT_REMEDY = "Raise maximum_run_time, or give the installer its silent option: a window that nobody sees waits for ever."


def describe_exit_code(code: int) -> tuple[str, str]:
    """Return an installer's exit code in words, and a remedy."""
    if code == SUCCESS:
        return "success", ""
    if code == NOT_DETECTED:
        return _NOT_DETECTED_TEXT
    meaning = find_meaning("installer", code)
    if code == TIMED_OUT:
        return "its time limit was over and it was ended", _TIMED_OUT_REMEDY
    if meaning is None:
        return "a code of the installer's own", "Read the vendor's documentation; success_codes can name it."
    return meaning.text, meaning.remedy


class Outcome(enum.StrEnum):
    """What became of one application."""

    ALREADY_INSTALLED = "already installed"
    INSTALLED = "installed"
    FAILED = "failed"
    NOT_ATTEMPTED = "not attempted"


class RuleKind(enum.StrEnum):
    """What a detection rule looks at."""

    MSI = "msi"
    REGISTRY = "registry"
    FILE = "file"
    SERVICE = "service"


@dataclass(frozen=True)
class DetectionRule:
    """One clause; all clauses of an application must hold.

    ``subject`` is a product code, a registry key below HKLM, a path or a service.

    ``operator`` compares ``version`` (MSI, file) or ``value`` (registry): ``equals`` or ``at_least``; without them
    existence counts.
    """

    kind: RuleKind
    subject: str
    value_name: str = ""
    expected: str | None = None
    operator: str = "at_least"

    @property
    def describe(self) -> str:
        """Return the rule as the user reads it."""
        what = f"{self.kind.value} {self.subject}" + (f", value {self.value_name}" if self.value_name else "")
        sign = {"equals": "=", "at_least": ">="}[self.operator]
        return what if self.expected is None else f"{what} {sign} {self.expected}"


@dataclass(frozen=True)
class Observed:
    """What a rule's subject is on the computer: there or not, and its version or value as text."""

    exists: bool
    value: str | None = None


@dataclass(frozen=True)
class Application:
    """One application of the ordered list.

    ``install`` is an argument list, run in the content's folder; times in seconds.
    """

    name: str
    install: tuple[str, ...]
    source: Source | None = None
    detection: tuple[DetectionRule, ...] = ()
    success_codes: frozenset[int] = frozenset({SUCCESS})
    restart_codes: frozenset[int] = frozenset({RESTART_REQUIRED, RESTART_STARTED})
    time_limit: int = 7200
    continue_on_error: bool = False
    retries: int = 3

    @property
    def detectable(self) -> bool:
        """Whether its presence can be told at all."""
        return bool(self.detection)


def application_from_option(option: Mapping[str, Any], continue_on_error: bool) -> Application:
    """Build an application from one entry of the step's list; ``continue_on_error`` is the list's own setting."""
    own = option.get("continue_on_error")
    source = option.get("source")
    return Application(
        name=option["name"],
        install=_words(option["install"]),
        source=Source.from_option(source) if source else None,
        detection=tuple(rule_from_option(rule) for rule in option.get("detection") or ()),
        success_codes=frozenset(code & 0xFFFFFFFF for code in option["success_codes"]),
        restart_codes=frozenset(code & 0xFFFFFFFF for code in option["restart_codes"]),
        time_limit=option["maximum_run_time"] * 60,
        continue_on_error=continue_on_error if own is None else own,
        retries=option["retries"],
    )


def _words(install: Sequence[str]) -> tuple[str, ...]:
    """Return an installer's words as its program wants them quoted.

    msiexec takes its command line apart itself: only the value of a property stands in quotes, with those in it doubled
    [doc: win32/Msi command-line-options]. Around the whole word they are error 1639 [seen: rust-lang/rustup issue 89].
    """
    if not _is_msiexec(install):
        return tuple(install)
    return tuple(_property(word) for word in install)


def _property(word: str) -> str:
    found = _PROPERTY.fullmatch(word)
    if found is None:
        return word
    value = found[2].replace('"', '""')
    return Verbatim(f'{found[1]}="{value}"')


def rule_from_option(option: Mapping[str, Any]) -> DetectionRule:
    """Build a rule from an entry of ``detection``."""
    kind = RuleKind(option["type"])
    subject = {
        RuleKind.MSI: option.get("product_code"),
        RuleKind.REGISTRY: option.get("key"),
        RuleKind.FILE: option.get("path"),
        RuleKind.SERVICE: option.get("service"),
    }[kind]
    expected = option.get("value") if kind is RuleKind.REGISTRY else option.get("version")
    key = re.sub(r"^(HKLM|HKEY_LOCAL_MACHINE):?\\", "", str(subject), flags=re.IGNORECASE)
    return DetectionRule(
        kind,
        key if kind is RuleKind.REGISTRY else str(subject),
        option.get("value_name") or "",
        expected,
        option.get("operator") or "at_least",
    )


_PRODUCT_CODE = re.compile(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", re.IGNORECASE)
_NEEDS = {"msi": "product_code", "registry": "key", "file": "path", "service": "service"}
#: A property whose value needs quotes, for msiexec or for a batch file's cmd.
_PROPERTY = re.compile(r'([A-Za-z_][\w.]*)=(.*[\s"&|<>()^].*)', re.DOTALL)
_QUIET = re.compile(r"[/-](q|qn|quiet|qb|qb-|passive|qn\+|qb!?)", re.IGNORECASE)


def application_problems(option: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one entry of the list, each line with the option's name."""
    name = option["name"]
    problems = [] if option["install"] and option["install"][0] else [f"install of {name}: empty; give program and arguments as a list"]
    source = option.get("source")
    if source and Source.from_option(source).problem():
        problems.append(f"source of {name}: {Source.from_option(source).problem()}")
    if option["maximum_run_time"] < 1:
        problems.append(f"maximum_run_time of {name}: {option['maximum_run_time']} minutes; at least 1")
    problems += _msiexec_problems(name, option["install"])
    for rule in option.get("detection") or ():
        problems += [f"detection of {name}: {problem}" for problem in _rule_problems(rule)]
    return problems


def _is_msiexec(install: Sequence[str]) -> bool:
    return bool(install) and re.split(r"[\\/]", install[0])[-1].lower() in ("msiexec", "msiexec.exe")


def _msiexec_problems(name: str, install: Sequence[str]) -> list[str]:
    if not _is_msiexec(install):
        return []
    problems = []
    if not any(_QUIET.fullmatch(word) for word in install):
        problems.append(f"install of {name}: msiexec without /qn would wait for a user; add /qn")
    if not any(word.lower() == "/norestart" or word.upper().startswith("REBOOT=") for word in install):
        problems.append(f"install of {name}: msiexec without /norestart may restart the computer by itself; add /norestart")
    return problems


def _rule_problems(rule: Mapping[str, Any]) -> list[str]:
    kind = rule["type"]
    subject = rule.get(_NEEDS[kind])
    if not subject:
        return [f"type {kind} needs {_NEEDS[kind]}"]
    if kind == "msi" and not _PRODUCT_CODE.fullmatch(subject):
        return [f"product_code '{subject}' is no product code; write {{XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX}}"]
    if kind == "registry" and re.match(r"(HKCU|HKEY_CURRENT_USER|HKU|HKCR)\b", subject, re.IGNORECASE):
        return [f"key '{subject}' is not below HKLM; a reference computer has no user"]
    if kind == "registry" and rule.get("value") is not None and not rule.get("value_name"):
        return ["value needs value_name"]
    if kind == "file" and not re.match(r"[A-Za-z]:\\", subject):
        return [f"path '{subject}' has no drive letter; write C:\\..."]
    return []


def parse_version(text: str) -> tuple[int, ...]:
    """Return a version's numbers, trailing zeros left out so that 1.2 equals 1.2.0.0.

    What follows the first blank does not count.
    """
    numbers = [int(part) for part in re.findall(r"\d+", text.split(" ", 1)[0].replace(",", "."))]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def evaluate(rule: DetectionRule, observed: Observed) -> bool:
    """Tell whether a rule holds.

    Versions compare by number; registry values compare as text where they are no versions.
    """
    if not observed.exists:
        return False
    if rule.expected is None:
        return True
    if observed.value is None:
        return False
    if rule.operator == "at_least":
        return parse_version(observed.value) >= parse_version(rule.expected)
    if rule.kind is RuleKind.REGISTRY:
        return observed.value.lower() == rule.expected.lower()
    return parse_version(observed.value) == parse_version(rule.expected)


def observe_rule(rule: DetectionRule, computer: Computer) -> Observed:
    """Read what a rule looks at.

    One request where it is there, two where a 32-bit view, existence without a version, or another value type has to be tried.
    """
    registry = Registry(computer.cim)
    if rule.kind is RuleKind.MSI:
        return _observe_product(rule, registry)
    if rule.kind is RuleKind.REGISTRY:
        return _observe_value(rule, registry)
    if rule.kind is RuleKind.FILE:
        info = computer.file_info(rule.subject)
        return Observed(info is not None, info.version if info else None)
    return Observed(service_exists(computer.cim, rule.subject))


def service_exists(cim: Cim, name: str) -> bool:
    """Tell whether a service of that name is registered. One request."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return bool(cim.query(f"SELECT Name FROM Win32_Service WHERE Name='{escaped}'"))


def _observe_product(rule: DetectionRule, registry: Registry) -> Observed:
    for root in UNINSTALL_KEYS:
        path = rf"{root}\{rule.subject}"
        version = registry.get_string(path, "DisplayVersion") if rule.expected is not None else None
        if version is not None or registry.exists(path):
            return Observed(True, version)
    return Observed(False)


def _observe_value(rule: DetectionRule, registry: Registry) -> Observed:
    if not rule.value_name:
        return Observed(registry.exists(rule.subject))
    names = {name.lower() for name in registry.enum_values(rule.subject) or {}}
    if rule.value_name.lower() not in names:
        return Observed(False)
    if rule.expected is None:
        return Observed(True)
    for kind in ("REG_SZ", "REG_DWORD", "REG_EXPAND_SZ", "REG_QWORD"):
        found = registry.get(rule.subject, rule.value_name, kind)
        if found is not None:
            return Observed(True, str(found))
    return Observed(True)


def is_installed(application: Application, computer: Computer) -> bool:
    """Tell whether every rule holds; False without rules."""
    return application.detectable and all(evaluate(rule, observe_rule(rule, computer)) for rule in application.detection)


def log_file(install: Sequence[str]) -> str:
    """Return the log that msiexec is told to write, '' where none is asked for."""
    for word, following in zip(install, install[1:], strict=False):
        if re.fullmatch(r"[/-](l|log)([iwearucmopvx*+!]*)", word, re.IGNORECASE):
            return following
    return ""
