# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply Windows Settings: owner, names, keys, languages and the administrator's password, into the answer file."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..windows import answer_file
from ..windows.answer_file import AnswerFile, LocalAccount, Locales, WindowsSettings
from ..windows.applied_windows import ANSWER_FILE, AppliedWindows
from ..windows.computer import Computer, Environment
from ..windows.names import RUN_ACCOUNT
from ..windows.time_zones import TIME_ZONES
from ..wsman.known import known
from .answer_file_step import AnswerFilePlan, check_result, parse_present, read_windows, verify_written, write
from .base import Change, Step

#: Values as plain text in the plan: option, what the user reads.
_SHOWN = {
    "user_name": "user name",
    "organization_name": "organization name",
    "computer_name": "computer name",
    "time_zone": "time zone",
    "input_locale": "input locale",
    "system_locale": "system locale",
    "ui_language": "UI language",
    "ui_language_fallback": "UI language fallback",
    "user_locale": "user locale",
}
_CHECKS: dict[str, Callable[[str], str]] = {
    "computer_name": answer_file.check_computer_name,
    "product_key": answer_file.check_product_key,
    "time_zone": answer_file.check_time_zone,
    "input_locale": answer_file.check_input_locale,
    "system_locale": answer_file.check_locale,
    "ui_language": answer_file.check_locale,
    "ui_language_fallback": answer_file.check_locale,
    "user_locale": answer_file.check_locale,
}
_SECRET = ("product_key", "local_administrator_password")
#: Key under which later steps find what the built Windows will be like.
REMEMBERED = "windows_settings"


class ApplyWindowsSettings(Step[AppliedWindows, AnswerFilePlan]):
    """The step. Inside a run it also has Setup make the run's own administrator."""

    name: ClassVar[str] = "Apply Windows Settings"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    secrets: ClassVar[tuple[str, ...]] = _SECRET

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check each value's form; a bad one would stop Setup, long after this step."""
        problems = []
        for option, check in _CHECKS.items():
            value = options.get(option)
            problem = check(value) if value else ""
            if problem:
                shown = "" if option in _SECRET else f" is {value!r}"
                problems.append(f"{option}{shown}: {problem}")
        for option in ("user_name", "organization_name", "local_administrator_password"):
            if len(options.get(option) or "") > 255:
                problems.append(f"{option}: use at most 255 characters")
        return problems + cls._account_problems(options) + cls._licence_problems(options)

    @staticmethod
    def _account_problems(options: Mapping[str, Any]) -> list[str]:
        given = bool(options.get("local_administrator_password"))
        if options.get("randomly_generate_local_administrator_password", True) is False and not given:
            return ["local_administrator_password: required when randomly_generate_local_administrator_password is false"]
        return []

    @staticmethod
    def _licence_problems(options: Mapping[str, Any]) -> list[str]:
        connections = options.get("maximum_connections")
        if options.get("server_licensing") == "per_server" and not 5 <= (connections or 0) <= 9999:
            return [f"maximum_connections is {connections}: use 5 to 9999 with server_licensing per_server"]
        return []

    def observe(self, computer: Computer) -> AppliedWindows:
        """Find the applied Windows and read its answer file. Five requests in a run with one volume."""
        return read_windows(computer, self.context)

    def plan(self, state: AppliedWindows) -> AnswerFilePlan:
        """Merge the settings into the file that is there."""
        self._warn()
        present = parse_present(state, self.context)
        file = present.copy()
        answer_file.apply_windows_settings(file, self._settings(state))
        self._administrator(file, state.architecture)
        if self.context.run_id:
            password = self.context.derived_password("run-account")
            account = LocalAccount(RUN_ACCOUNT, password, ("Administrators",))
            answer_file.add_local_account(file, state.architecture, account)
        check_result(file, state)
        if state.answer_file is not None and present.render() == file.render():
            return AnswerFilePlan(windows=state, file=file)
        return AnswerFilePlan(
            changes=tuple(self._changes(state.answer_file_path)),
            before={"answer_file": present.masked() if state.answer_file is not None else ""},
            after={"answer_file": file.masked()},
            windows=state,
            file=file,
        )

    def _warn(self) -> None:
        if self.options["time_zone"] not in TIME_ZONES:
            self.context.warn(
                f"time_zone {self.options['time_zone']!r} is no name that is known here. Where Windows does not know it, it takes UTC; "
                "'tzutil /l' lists the names; they are English in every language."
            )
        if self.options.get("server_licensing", "do_not_specify") != "do_not_specify":
            self.context.warn("server_licensing has no effect: only Windows Server 2003 knows licence modes.")
        if self._random and self.options.get("local_administrator_password"):
            self.context.warn("local_administrator_password is not used: randomly_generate_local_administrator_password is true.")

    @property
    def _random(self) -> bool:
        return bool(self.options["randomly_generate_local_administrator_password"])

    def _settings(self, state: AppliedWindows) -> WindowsSettings:
        def text(option: str) -> str:
            return self.options.get(option) or ""

        return WindowsSettings(
            architecture=state.architecture,
            user_name=text("user_name"),
            organization=text("organization_name"),
            computer_name=text("computer_name"),
            product_key=text("product_key").upper(),
            time_zone=text("time_zone"),
            locales=Locales(
                text("input_locale"),
                text("system_locale"),
                text("ui_language"),
                text("ui_language_fallback"),
                text("user_locale"),
            ),
            server=state.server,
        )

    def _administrator(self, file: AnswerFile, architecture: str) -> None:
        if not self._random:
            answer_file.set_administrator_password(file, architecture, self.options["local_administrator_password"])
        elif not answer_file.has_generated_password(file, architecture):
            # The plan is the same each time; apply puts the password in.
            answer_file.set_administrator_password(file, architecture, "", generated=True)

    def _changes(self, path: str) -> list[Change]:
        changes = [Change(f"write {path}")]
        changes += [Change(f"set {label} to {v!r}") for option, label in _SHOWN.items() if (v := self.options.get(option))]
        if self.options.get("product_key"):
            changes.append(Change("set the product key"))
        how = "generate a random" if self._random else "set the given"
        changes.append(Change(f"{how} password for the built-in administrator"))
        if self.context.run_id:
            changes.append(Change(f"have Setup make the run's own administrator {RUN_ACCOUNT}"))
        return changes

    def predict(self) -> AnswerFilePlan:
        """Without Windows on the disk the settings are known all the same."""
        return AnswerFilePlan(changes=tuple(self._changes("\\" + ANSWER_FILE)), predicted=True)

    def apply(self, computer: Computer, plan: AnswerFilePlan) -> Computer:
        """Generate the password where one is wanted, and write the file."""
        architecture = known(plan.windows).architecture
        if self._random and plan.file.administrator_password(architecture) == "":
            answer_file.set_administrator_password(plan.file, architecture, _random_password(), generated=True)
        write(computer, plan)
        return computer

    def verify(self, computer: Computer, plan: AnswerFilePlan) -> Mapping[str, Any]:
        """Read the file again."""
        verify_written(computer, plan)
        return self.result(plan)

    def result(self, plan: AnswerFilePlan) -> Mapping[str, Any]:
        """Return where the file is, and keep for later steps what Windows will be like."""
        kept = {
            "computer_name": self.options.get("computer_name") or "",
            "disable_administrator": self._random,
            "server": known(plan.windows).server,
        }
        self.context.remember(REMEMBERED, kept)
        return {"answer_file": known(plan.windows).answer_file_path}


def _random_password() -> str:
    """Return a password that meets Windows' complexity rules and that nobody keeps."""
    return secrets.token_urlsafe(24) + "aA1!"
