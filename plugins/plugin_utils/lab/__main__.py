# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m ansible_collections.goldimage.osd.plugins.plugin_utils.lab <folder>``: run a prepared lab in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from .service import Lab


def main() -> None:
    """Run the lab of a folder until it is told to stop."""
    parser = argparse.ArgumentParser(description="Run the simulated computers of a lab folder.")
    parser.add_argument("directory", type=Path, help="the folder with lab.json")
    Lab(parser.parse_args().directory.absolute()).run()


if __name__ == "__main__":
    main()
