# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""What a boot image tells its agent: ``\osd\agent.json``, and the certificate and key beside it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


class SettingsError(ValueError):
    """The boot image's agent.json cannot be used; the message says why."""


@dataclass(frozen=True)
class AgentSettings:
    """Identity, port and credentials of an agent. ``name`` is the fixed DNS name of its certificate.

    ``address``: where it listens, everywhere if not given.
    """

    boot_image: str
    port: int
    user: str
    name: str
    password: Mapping[str, Any] = field(repr=False)
    certificate: Path
    key: Path
    address: str = ""

    def tls(self) -> ssl.SSLContext:
        """Return a server's context with the certificate. OSError or ssl.SSLError where certificate or key are not usable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


def read_settings(folder: Path) -> AgentSettings:
    """Read ``agent.json`` in a folder. SettingsError where it is missing, malformed or of another version."""
    path = folder / "agent.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise SettingsError(f"{path} has not the schema {SCHEMA}; make the boot image with this version of the collection")
    try:
        settings = AgentSettings(
            boot_image=str(found["boot_image"]),
            port=int(found["port"]),
            user=str(found["user"]),
            name=str(found["name"]),
            password=dict(found["password"]),
            certificate=folder / str(found["certificate"]),
            key=folder / str(found["key"]),
            address=str(found.get("address", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{path}: {error} is missing or malformed") from None
    if not 0 < settings.port < 65536:
        raise SettingsError(f"{path}: {settings.port} is no port")
    return settings
