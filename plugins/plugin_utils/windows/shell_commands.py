# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verb ``run`` over WinRS, the same in Windows PE and in Windows: one shell, opened when first needed, closed with the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..wsman.client import Client, Shell
from ..wsman.faults import WsmanFault
from . import command_line
from .computer import CommandResult, ComputerLost


class ShellCommands:
    """What both backends of ``Computer`` share."""

    def __init__(self, client: Client) -> None:
        self.cim = client
        self._client = client
        self._shell: Shell | None = None

    @property
    def requests(self) -> int:
        """HTTP requests sent so far."""
        return self._client.requests

    def close(self) -> None:
        """Close the shell, where one was opened. The connection is its owner's."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()

    def leave(self) -> None:
        """The computer goes down: its shell ends with it."""
        self._shell = None

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        directory: str = "",
        timeout: float = 60,
    ) -> CommandResult:
        """Run a native command in a shell. TimeoutError where it does not end in time; ComputerLost where the shell is gone."""
        line = command_line.cmd_line(argv)
        if environment or directory:
            # A shell has one directory and one environment: what is special, or secret, gets a shell of its own.
            with self._client.open_shell(directory=directory or None, environment=environment) as shell:
                return CommandResult(*shell.run(line, stdin=stdin, timeout=timeout))
        return self._run_line(line, stdin, timeout)

    def _run_line(self, line: str, stdin: bytes = b"", timeout: float = 60, what: str = "") -> CommandResult:
        if self._shell is not None and self._shell.is_worn:
            self.close()
        if self._shell is None:
            self._shell = self._client.open_shell()
        try:
            return CommandResult(*self._shell.run(line, stdin=stdin, timeout=timeout))
        except WsmanFault as fault:
            if not fault.is_shell_gone:
                raise
            self._shell = None
            program = what or line.lstrip('"').split(" ", 1)[0]
            raise ComputerLost(
                f"The remote shell in which {program} was to run is gone (code {fault.code}): the computer was restarted, or its remote "
                "management service was. Run the playbook again; it goes on where the computer is"
            ) from fault
