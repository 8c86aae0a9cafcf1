# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in for get-pip.py, which ansible-test fetches from a server of its own: pip comes from Python's own ensurepip.

ensurepip runs as a process, because in-process it switches pip's configuration (a proxy, a certificate) off.
"""

from __future__ import annotations

import subprocess
import sys

#: get-pip.py's own options, which pip does not know.
own_options = {"--no-setuptools", "--no-wheel"}
arguments = [argument for argument in sys.argv[1:] if argument not in own_options]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], check=True)
