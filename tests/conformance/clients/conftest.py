# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

# The running agent of the unit tests serves here, too.
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "agent"))
sys.path.insert(0, str(Path(__file__).parent))
