# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply Network Settings: workgroup or domain, and the adapters' addresses, into the answer file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..windows import answer_file
from ..windows.answer_file import Interface, Membership, NetworkSettings
from ..windows.applied_windows import ANSWER_FILE, AppliedWindows
from ..windows.computer import Computer, Environment
from ..wsman.known import known
from .answer_file_step import AnswerFilePlan, check_result, parse_present, read_windows, verify_written, write
from .base import Change, Step, StepFailure

_QUERY = "SELECT Index, MACAddress, Name, PhysicalAdapter FROM Win32_NetworkAdapter WHERE PhysicalAdapter=TRUE"
_NETBIOS = {"dhcp": 0, "enable": 1, "disable": 2}


@dataclass(frozen=True)
class Adapter:
    """A physical adapter of the computer, its MAC address as answer files have it."""

    mac: str
    name: str


@dataclass(frozen=True)
class Situation:
    """The applied Windows and the computer's adapters in the order that Windows lists them."""

    windows: AppliedWindows
    adapters: tuple[Adapter, ...]


class ApplyNetworkSettings(Step[Situation, AnswerFilePlan]):
    """The step."""

    name: ClassVar[str] = "Apply Network Settings"
    environments: ClassVar[frozenset[Environment]] = frozenset({Environment.WINDOWS_PE})
    secrets: ClassVar[tuple[str, ...]] = ("account.password",)
    rules: ClassVar[Mapping[str, Any]] = {
        "required_if": [["join_type", "workgroup", ["workgroup"]], ["join_type", "domain", ["domain", "account"]]],
    }

    @classmethod
    def validate(cls, options: Mapping[str, Any]) -> list[str]:
        """Check names and addresses; a bad one would leave the computer unreachable."""
        problems = []
        workgroup = options.get("workgroup")
        if options.get("join_type") == "workgroup" and workgroup:
            problem = answer_file.check_workgroup(workgroup)
            problems += [f"workgroup is {workgroup!r}: {problem}"] if problem else []
        if options.get("join_type") == "domain" and "\\" not in ((options.get("account") or {}).get("user") or "\\"):
            problems.append("account.user: use DOMAIN\\user")
        for number, row in enumerate(options.get("network_adapters") or (), start=1):
            problems += [f"network_adapters, entry {number}: {text}" for text in _adapter_problems(row)]
        return problems

    def observe(self, computer: Computer) -> Situation:
        """Find the applied Windows, its answer file and the computer's adapters. Six requests in a run with one volume."""
        windows = read_windows(computer, self.context)
        rows = computer.cim.query(_QUERY) if self.options.get("network_adapters") else []
        ordered = sorted((r for r in rows if r["MACAddress"]), key=lambda r: int(str(r["Index"] or 0)))
        adapters = (Adapter(answer_file.normalise_mac(str(r["MACAddress"])), str(r["Name"] or "")) for r in ordered)
        return Situation(windows, tuple(adapters))

    def plan(self, state: Situation) -> AnswerFilePlan:
        """Give each entry its adapter and merge the settings into the file that is there."""
        if self.options.get("enable_tcpip_filtering"):
            self.context.warn("enable_tcpip_filtering has no effect: only Windows XP and Server 2003 have these filters.")
        windows = state.windows
        settings = NetworkSettings(
            architecture=windows.architecture,
            membership=self._membership(),
            interfaces=self._interfaces(state.adapters),
            dns_domain=self.options.get("dns_domain") or "",
            dns_suffixes=tuple(self.options.get("dns_suffix_search_order") or ()),
        )
        present = parse_present(windows, self.context)
        file = present.copy()
        answer_file.apply_network_settings(file, settings)
        check_result(file, windows)
        if windows.answer_file is not None and present.render() == file.render():
            return AnswerFilePlan(windows=windows, file=file)
        return AnswerFilePlan(
            changes=tuple(self._changes(windows.answer_file_path, settings.interfaces)),
            before={"answer_file": present.masked() if windows.answer_file is not None else ""},
            after={"answer_file": file.masked()},
            windows=windows,
            file=file,
        )

    def _membership(self) -> Membership:
        if self.options["join_type"] == "workgroup":
            return Membership(workgroup=self.options["workgroup"])
        account = self.options["account"]
        domain, dummy, user = account["user"].rpartition("\\")
        return Membership(
            domain=self.options["domain"],
            ou=(self.options.get("domain_ou") or "").removeprefix("LDAP://"),
            account_domain=domain,
            account_user=user,
            account_password=account["password"],
        )

    def _interfaces(self, adapters: Sequence[Adapter]) -> tuple[Interface, ...]:
        rows = self.options.get("network_adapters") or []
        macs = [answer_file.normalise_mac(row["mac_address"]) if row.get("mac_address") else "" for row in rows]
        known = "; ".join(f"{a.mac} ({a.name})" for a in adapters) or "none"
        free = [a.mac for a in adapters if a.mac not in macs]
        interfaces = []
        for number, (row, mac) in enumerate(zip(rows, macs, strict=True), start=1):
            if mac and mac not in {a.mac for a in adapters}:
                raise StepFailure(
                    f"network_adapters, entry {number}: the computer has no adapter {mac}. It has {known}.",
                    remedy="Correct mac_address, or add the adapter's driver to the boot image.",
                )
            if not mac and not free:
                raise StepFailure(
                    f"network_adapters, entry {number}: the computer has no adapter left for it. It has {known}.",
                    remedy="Remove the entry, or add the adapter's driver to the boot image.",
                )
            interfaces.append(_interface(row, mac or free.pop(0)))
        return tuple(interfaces)

    def _changes(self, path: str, interfaces: Iterable[Interface]) -> list[Change]:
        kind = self.options["join_type"]
        changes = [Change(f"write {path}"), Change(f"join the {kind} {self.options[kind]} when Windows is set up")]
        for interface in interfaces:
            how = "by DHCP" if interface.dhcp else f"{', '.join(interface.addresses)}"
            changes.append(Change(f"adapter {interface.identifier}: {how}"))
        return changes

    def predict(self) -> AnswerFilePlan:
        """Which adapters there are is not known yet; the settings are."""
        rows = self.options.get("network_adapters") or []
        named = [_interface(row, row.get("mac_address") or f"number {n}") for n, row in enumerate(rows, start=1)]
        return AnswerFilePlan(changes=tuple(self._changes("\\" + ANSWER_FILE, named)), predicted=True)

    def apply(self, computer: Computer, plan: AnswerFilePlan) -> Computer:
        """Write the file."""
        write(computer, plan)
        return computer

    def verify(self, computer: Computer, plan: AnswerFilePlan) -> Mapping[str, Any]:
        """Read the file again."""
        verify_written(computer, plan)
        return self.result(plan)

    def result(self, plan: AnswerFilePlan) -> Mapping[str, Any]:
        """Return where the file is."""
        return {"answer_file": known(plan.windows).answer_file_path}


def _adapter_problems(row: Mapping[str, Any]) -> list[str]:
    problems = []
    if row.get("mac_address"):
        try:
            answer_file.normalise_mac(row["mac_address"])
        except ValueError as error:
            problems.append(f"mac_address: {error}")
    rows = row.get("ip_addresses") or []
    if row.get("enable_dhcp", True) is False and not rows:
        problems.append("ip_addresses: required when enable_dhcp is false")
    for entry in rows:
        try:
            answer_file.address_with_prefix(entry["ip_address"], entry["subnet_mask"])
        except ValueError as error:
            problems.append(f"ip_addresses: {error}")
    addresses = [("gateways", g["gateway"]) for g in row.get("gateways") or []]
    addresses += [(name, a) for name in ("dns_servers", "wins_servers") for a in row.get(name) or []]
    for option, address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            problems.append(f"{option}: {address!r} is no IP address")
    return problems


def _interface(row: Mapping[str, Any], identifier: str) -> Interface:
    netbios = row.get("netbios")
    dhcp = row.get("enable_dhcp", True)
    static = not dhcp
    return Interface(
        identifier=identifier,
        dhcp=dhcp,
        addresses=tuple(
            answer_file.address_with_prefix(entry["ip_address"], entry["subnet_mask"])
            for entry in (row.get("ip_addresses") or [])
            if static
        ),
        gateways=tuple((g["gateway"], g.get("metric") or 1) for g in (row.get("gateways") or []) if static),
        dns_servers=tuple(row.get("dns_servers") or ()),
        dns_domain=row.get("dns_domain") or "",
        register_in_dns=row.get("enable_dns_registration"),
        full_dns_registration=row.get("enable_full_dns_registration"),
        netbios_options=_NETBIOS[netbios] if netbios else None,
        wins_servers=tuple(row.get("wins_servers") or ()),
    )
