# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One virtual environment for each supported ansible-core, in build/cores, made when it is first asked for."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CORES = ROOT / "build/cores"
#: The newest of every supported line, with the oldest Python that it runs on and that is at least this collection's.
VERSIONS = {"2.18.19": "3.11", "2.19.14": "3.11", "2.20.10": "3.12", "2.21.5": "3.12"}
#: A second interpreter for the newest.
NEWEST = ("2.21.5", "3.13")


class NoInterpreter(Exception):
    """This machine has no such Python; the message names it."""


def find_python(version: str) -> Path:
    """Return an interpreter of that version that runs: a pyenv shim on PATH may stand for one that is switched off."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = [found] if (found := shutil.which(f"python{version}")) else []
    for candidate in [*on_path, *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        asked = [str(candidate), "-c", "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return Path(candidate)
    raise NoInterpreter(f"no Python {version} on PATH or in {pyenv}")


def python_of(core: str, version: str) -> Path:
    """Return the interpreter of the environment with that ansible-core and what the collection requires."""
    interpreter = find_python(version)
    folder = CORES / f"{core}-python{version}"
    python = folder / "bin/python"
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    done = folder / "requirements.txt"
    CORES.mkdir(parents=True, exist_ok=True)
    with (CORES / f"{folder.name}.lock").open("w") as lock:
        # Two workers of pytest may ask for the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text(encoding="utf-8") != requirements or not python.exists():
            shutil.rmtree(folder, ignore_errors=True)
            # With its own pip: an older Python's does not run in a newer one.
            _run([str(interpreter), "-m", "venv", str(folder)])
            pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
            _run([*pip, f"ansible-core=={core}", "-r", str(ROOT / "requirements.txt")])
            done.write_text(requirements, encoding="utf-8")
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
