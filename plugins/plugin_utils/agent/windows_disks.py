# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks, partitions and volumes as ``MSFT_Disk``, ``MSFT_Partition`` and ``MSFT_Volume``, from IOCTLs.

A boot image rarely has the Storage Management provider (it needs PowerShell's component). Not run under Wine, which has no such disks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..wsman.faults import WBEM_E_INVALID_METHOD
from ..wsman.schema import Instance, Value
from ..wsman.server import CimError

NAMESPACE = "root/microsoft/windows/storage"
STORAGE_CLASSES = tuple((NAMESPACE, name) for name in ("msft_disk", "msft_partition", "msft_volume"))


class Disks:
    """``wmi_cim.Part`` for the three classes. Read only."""

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances of a class."""
        return []

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """The agent changes no disks; diskpart does."""
        raise CimError(WBEM_E_INVALID_METHOD, f"{class_name} has no method {method} in the agent.")
