# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps in the running Windows share this.

Bring declared content to the local disk, checked, with the user's words when it fails.
"""

from __future__ import annotations

from ..windows import local_content
from ..windows.computer import Computer
from ..windows.exit_codes import describe_exit_code
from ..windows.local_content import Source
from .base import StepContext, StepFailure

#: Two hours; content for a reference computer is some gigabytes at most.
_TIME_LIMIT = 2 * 3600


def fetch_content(context: StepContext, computer: Computer, source: Source, name: str, *, folder: str = "", also: str = "") -> str:
    """Bring the content to the computer's disk and return its folder. Raises StepFailure.

    ``name`` is a job label, unique within the step, and the name of the folder where none is given; ``also`` a second file beside the
    first one, on a share.
    """
    folder = folder or local_content.local_folder(source, name)
    fetch = local_content.plan_fetch(source, folder, also)
    if fetch:
        job = context.run_job(
            computer,
            f"copy-{name}",
            fetch.argv,
            environment=fetch.environment,
            stdin=fetch.stdin,
            time_limit=_TIME_LIMIT,
            files=fetch.files,
        )
        _check_exit_code(source, job.exit_code, str(job.log or ""))
    if source.sha256 and source.is_file:
        _check_hash(computer, source, rf"{folder}\{source.file_name}")
    return folder


def _check_exit_code(source: Source, code: int, log: str) -> None:
    if source.is_web:
        if code:
            raise StepFailure(
                f"{source.target} could not be downloaded: curl ended with {code}.",
                code=code,
                remedy="22 is an HTTP error (address, account), 6 and 7 the network, 60 the server's certificate.",
                log=log,
            )
    elif code == local_content.CONNECT_FAILED:
        raise StepFailure(
            f"The computer could not connect to {source.target} as {source.user}.",
            code=code,
            remedy="Check server, share, account and password; the log holds the system error's number.",
            log=log,
        )
    elif code >= local_content.COPY_FAILED:
        raise StepFailure(
            f"{source.target} could not be copied to the computer: robocopy ended with {describe_exit_code('robocopy', code)}.",
            code=code,
            remedy="Check that the folder exists and is readable for the account, and that the disk has room.",
            log=log,
        )


def _check_hash(computer: Computer, source: Source, path: str) -> None:
    try:
        found = computer.file_hash(path)
    except FileNotFoundError as error:
        raise StepFailure(f"{source.target} was copied and {path} is not there.", remedy="Check the file's name.") from error
    if found != source.sha256:
        raise StepFailure(
            f"{source.target} has SHA-256 {found}, declared is {source.sha256}.",
            remedy="Correct sha256, or restore the file.",
        )
