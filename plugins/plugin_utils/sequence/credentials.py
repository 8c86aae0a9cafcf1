# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passwords that a run needs and nobody keeps: derived from the project's one secret whenever they are needed."""

from __future__ import annotations

import base64
import hashlib
import hmac

#: Shorter secrets could be guessed from what they protect.
MINIMUM_SECRET = 16


def derive_password(secret: str, purpose: str) -> str:
    """Return the password for a purpose: 28 characters of every kind that a Windows password policy asks for."""
    digest = hmac.new(secret.encode(), f"goldimage.osd:{purpose}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()[:24] + "aA1!"


def boot_image_purpose(boot_image: str) -> str:
    """Return the purpose of the password of the agent in a boot image."""
    return f"boot-image:{boot_image}"


def run_account_purpose(run: str, machine: str) -> str:
    """Return the purpose of the password of a run's own local administrator."""
    return f"run:{run}:{machine}"
