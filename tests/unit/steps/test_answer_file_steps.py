# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply Windows Settings and Apply Network Settings: from options to the file that Setup reads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.apply_network_settings import ApplyNetworkSettings
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.apply_windows_settings import ApplyWindowsSettings
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file as af
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import applied_windows
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.volumes import NoWindows
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from ansible_collections.goldimage.osd.tests.unit.support.fake_registry import FakeComputer
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, failure, run_step

PATH = r"W:\Windows\Panther\unattend.xml"
IMAGE = {"architecture": "x64", "edition": "Enterprise"}
WINDOWS = {"user_name": "Zoë", "organization_name": "Org", "time_zone": "UTC"}
WORKGROUP = {"join_type": "workgroup", "workgroup": "BUILD"}


class Context(FakeContext):
    def derived_password(self, purpose: str) -> str:
        return f"derived for {purpose}"


class Computer(FakeComputer):
    """An applied Windows on W: and two network adapters."""

    def query(self, wql: str, namespace: str = "root/cimv2") -> list[Instance]:
        assert "FROM Win32_NetworkAdapter " in wql
        rows = [(9, "52:54:00:00:00:02", "B"), (3, "52:54:00:00:00:01", "A"), (1, None, "no address")]
        return [Instance("Win32_NetworkAdapter", {"Index": i, "MACAddress": m, "Name": n}) for i, m, n in rows]


@pytest.fixture(autouse=True)
def windows_on_w(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_windows, "windows_root", lambda computer, drive: "W:\\")


def options(module: str, **given: Any) -> dict[str, Any]:
    documentation = importlib.import_module(f"ansible_collections.goldimage.osd.plugins.modules.{module}").DOCUMENTATION
    spec = yaml.safe_load(documentation)["options"]
    assert set(given) <= set(spec)
    return {name: given.get(name, rules.get("default")) for name, rules in spec.items()}


def windows_step(context: Context | None = None, **given: Any) -> ApplyWindowsSettings:
    values = options("apply_windows_settings", **{**WINDOWS, **given})
    assert ApplyWindowsSettings.validate(values) == []
    return ApplyWindowsSettings(values, context or Context(applied_image=IMAGE))


def network_step(context: Context | None = None, **given: Any) -> ApplyNetworkSettings:
    values = options("apply_network_settings", **{**WORKGROUP, **given})
    assert ApplyNetworkSettings.validate(values) == []
    return ApplyNetworkSettings(values, context or Context(applied_image=IMAGE))


def test_in_a_run_the_file_has_owner_random_administrator_and_the_run_account() -> None:
    computer, context = Computer(), Context(applied_image=IMAGE)
    plan, result = run_step(windows_step(context, computer_name="REF01"), computer)
    assert result == {"answer_file": PATH}
    file = af.parse(computer.put[PATH])
    assert file.computer_name("amd64") == "REF01"
    assert file.shell_setup("amd64", "RegisteredOwner") == "Zoë"
    (account,) = file.local_accounts("amd64")
    assert (account.name, account.password, account.groups) == ("osd-run", "derived for run-account", ("Administrators",))
    password = file.administrator_password("amd64")
    assert password
    assert len(password) > 20
    assert context.remembered["windows_settings"] == {
        "computer_name": "REF01",
        "disable_administrator": True,
        "server": False,
    }
    shown = plan.after["answer_file"]
    assert password not in shown
    assert af.hide_password(account.password, "Password") not in shown
    assert "set computer name to 'REF01'" in [c.summary for c in plan.changes]


def test_a_rerun_changes_nothing_and_keeps_the_random_password() -> None:
    computer = Computer()
    run_step(windows_step(), computer)
    run_step(network_step(), computer)
    before = dict(computer.put)
    for step in (windows_step(), network_step()):
        plan, result = run_step(step, computer)
        assert plan.changes == ()
        assert result == {"answer_file": PATH}
    assert computer.put == before


def test_the_plan_is_the_same_each_time() -> None:
    step = windows_step()
    state = step.observe(Computer())
    assert step.plan(state).after == step.plan(state).after


def test_a_given_password_and_a_given_file() -> None:
    computer = Computer()
    given = af.AnswerFile()
    af.set_administrator_password(given, "amd64", "known")
    computer.put[PATH] = given.render()
    run_step(windows_step(), computer)
    assert af.parse(computer.put[PATH]).administrator_password("amd64") != "known"
    secret = {"randomly_generate_local_administrator_password": False, "local_administrator_password": "m1ne"}
    run_step(windows_step(**secret), computer)
    assert af.parse(computer.put[PATH]).administrator_password("amd64") == "m1ne"


def test_alone_it_reads_the_image_itself_and_makes_no_account() -> None:
    system = rh.empty()
    system.set_dword("Select", "Current", 1)
    system.set_string(r"ControlSet001\Control\Session Manager\Environment", "PROCESSOR_ARCHITECTURE", "ARM64")
    system.set_string(r"ControlSet001\Control\ProductOptions", "ProductType", "ServerNT")
    computer, context = Computer({r"W:\Windows\System32\config\SYSTEM": system}), Context()
    context.run_id = ""
    run_step(windows_step(context), computer)
    file = af.parse(computer.put[PATH])
    assert file.local_accounts("arm64") == ()
    assert file.oobe("arm64")["HideLocalAccountScreen"] == "true"
    assert context.remembered["windows_settings"]["server"]
    assert list(computer.root.subkeys) == []


def test_a_file_that_would_stop_setup_is_refused_before_anything_is_written() -> None:
    computer = Computer()
    computer.put[PATH] = b"<unattend>"
    problem = failure(lambda: run_step(windows_step(), computer))
    assert "not well-formed" in problem.message
    assert "never answer" in problem.remedy
    arm = af.AnswerFile()
    arm.component("specialize", "Contoso", "arm64")
    computer.put[PATH] = arm.render()
    assert "is for arm64, the image is amd64" in failure(lambda: run_step(windows_step(), computer)).message
    assert computer.put[PATH] == arm.render()
    arm.component("specialize", "Contoso", "amd64")
    computer.put[PATH] = arm.render()
    run_step(windows_step(), computer)
    assert b'processorArchitecture="arm64"' in computer.put[PATH]


def test_the_remainder_of_an_earlier_setup_is_replaced() -> None:
    computer, context = Computer(), Context(applied_image=IMAGE)
    old = af.AnswerFile()
    old.component("specialize", "Contoso-Old", "amd64")
    computer.put[PATH] = old.render().replace(b'pass="specialize"', b'pass="specialize" wasPassProcessed="true"')
    run_step(windows_step(context), computer)
    assert b"Contoso-Old" not in computer.put[PATH]
    assert "remainder of an earlier setup" in context.warnings[0]


def test_no_windows_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(computer: Any, drive: str) -> Any:
        raise NoWindows("No volume holds a Windows installation.")

    monkeypatch.setattr(applied_windows, "windows_root", none)
    assert failure(lambda: run_step(windows_step(), Computer())).remedy == "Run Apply Operating System Image first."


@pytest.mark.parametrize("make", [windows_step, network_step])
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_is_not_there_afterwards_is_a_failure(make: Callable[[], Any], gone: bool) -> None:
    computer = Computer()
    step = make()
    plan = step.plan(step.observe(computer))
    step.apply(computer, plan)
    assert step.verify(computer, plan)["answer_file"] == PATH
    if gone:
        del computer.put[PATH]
    else:
        reverted = computer.put[PATH].replace(b"BUILD<", b"OTHER<").replace(b"Org<", b"Old<")
        assert reverted != computer.put[PATH]
        computer.put[PATH] = reverted
    assert "not what was written" in failure(lambda: step.verify(computer, plan)).message


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"computer_name": "this-name-is-too-long"}, "computer_name is 'this-name-is-too-long'"),
        ({"product_key": "SECRET"}, "product_key: use five groups"),
        ({"time_zone": "Heure d\u2019été\t"}, "time_zone is"),
        ({"ui_language": "french"}, "ui_language is 'french'"),
        ({"user_name": "x" * 256}, "user_name: use at most 255"),
        ({"randomly_generate_local_administrator_password": False}, "local_administrator_password: required"),
        ({"server_licensing": "per_server", "maximum_connections": 4}, "maximum_connections is 4: use 5 to 9999"),
    ],
)
def test_bad_windows_settings(given: dict[str, Any], text: str) -> None:
    (problem,) = ApplyWindowsSettings.validate(options("apply_windows_settings", **{**WINDOWS, **given}))
    assert problem.startswith(text)
    assert "SECRET" not in problem


def test_options_without_effect_are_said() -> None:
    context = Context(applied_image=IMAGE)
    step = windows_step(context, server_licensing="per_seat", local_administrator_password="x")
    step.plan(step.observe(Computer()))
    assert len(context.warnings) == 2
    step = network_step(context, enable_tcpip_filtering=True)
    step.plan(step.observe(Computer()))
    assert len(context.warnings) == 3


def test_a_pass_that_nobody_runs_is_a_warning() -> None:
    computer, context = Computer(), Context(applied_image=IMAGE)
    given = af.AnswerFile()
    given.component("offlineServicing", "Contoso", "amd64")
    computer.put[PATH] = given.render()
    run_step(network_step(context), computer)
    assert "offlineServicing" in context.warnings[0]


def test_an_unknown_time_zone_is_a_warning() -> None:
    context = Context(applied_image=IMAGE)
    step = windows_step(context, time_zone="Romanische Normalzeit")
    step.plan(step.observe(Computer()))
    assert "Romanische Normalzeit" in context.warnings[0]


def test_workgroup_and_adapters_by_mac_and_by_order() -> None:
    static = {
        "mac_address": "52:54:00:00:00:01",
        "enable_dhcp": False,
        "ip_addresses": [{"ip_address": "192.0.2.10", "subnet_mask": "255.255.255.0"}],
        "gateways": [{"gateway": "192.0.2.1", "metric": 1}],
        "dns_servers": ["192.0.2.53"],
        "netbios": "disable",
    }
    computer = Computer()
    plan, dummy = run_step(network_step(network_adapters=[{"enable_dhcp": True}, static]), computer)
    file = af.parse(computer.put[PATH])
    assert file.membership("amd64").workgroup == "BUILD"
    first, second = file.interfaces("amd64")
    assert (first.identifier, first.dhcp) == ("52-54-00-00-00-02", True)
    assert (second.identifier, second.addresses) == ("52-54-00-00-00-01", ("192.0.2.10/24",))
    assert (second.gateways, second.netbios_options) == ((("192.0.2.1", 1),), 2)
    assert "adapter 52-54-00-00-00-01: 192.0.2.10/24" in [c.summary for c in plan.changes]


def test_a_domain() -> None:
    computer = Computer()
    account = {"user": "EXAMPLE\\join", "password": "pl@in"}
    given = {"join_type": "domain", "domain": "example.com", "domain_ou": "LDAP://OU=a,DC=b", "account": account}
    plan, dummy = run_step(network_step(workgroup=None, **given), computer)
    membership = af.parse(computer.put[PATH]).membership("amd64")
    assert (membership.domain, membership.ou) == ("example.com", "OU=a,DC=b")
    assert (membership.account_domain, membership.account_user, membership.account_password) == ("EXAMPLE", "join", "pl@in")
    assert "pl@in" not in repr(plan)


def test_an_adapter_that_is_not_there_is_named_with_those_that_are() -> None:
    problem = failure(lambda: run_step(network_step(network_adapters=[{"mac_address": "525400000009"}]), Computer()))
    assert "no adapter 52-54-00-00-00-09" in problem.message
    assert "52-54-00-00-00-01 (A); 52-54-00-00-00-02 (B)" in problem.message
    problem = failure(lambda: run_step(network_step(network_adapters=[{}, {}, {}]), Computer()))
    assert "entry 3" in problem.message


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"workgroup": "x" * 16}, "workgroup is"),
        ({"join_type": "domain", "domain": "d", "account": {"user": "u", "password": "p"}}, "account.user: use DOMAIN"),
        ({"network_adapters": [{"mac_address": "x"}]}, "network_adapters, entry 1: mac_address"),
        ({"network_adapters": [{"enable_dhcp": False}]}, "network_adapters, entry 1: ip_addresses: required"),
        (
            {"network_adapters": [{"ip_addresses": [{"ip_address": "1.2.3", "subnet_mask": "24"}]}]},
            "network_adapters, entry 1: ip_addresses",
        ),
        ({"network_adapters": [{"gateways": [{"gateway": "x"}]}]}, "network_adapters, entry 1: gateways: 'x'"),
        ({"network_adapters": [{"dns_servers": ["x"]}]}, "network_adapters, entry 1: dns_servers: 'x'"),
    ],
)
def test_bad_network_settings(given: dict[str, Any], text: str) -> None:
    (problem,) = ApplyNetworkSettings.validate(options("apply_network_settings", **{**WORKGROUP, **given}))
    assert problem.startswith(text)


@pytest.mark.parametrize("step", [windows_step, network_step])
def test_prediction(step: Any) -> None:
    plan = step().predict()
    assert plan.predicted
    assert plan.changes[0].summary == r"write \Windows\Panther\unattend.xml"
