# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Join Domain or Workgroup."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.join_domain_or_workgroup import JoinDomainOrWorkgroup
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import domain
from ansible_collections.goldimage.osd.tests.unit.support.fake_windows import FakeContext, FakeWindows, failure, run_step

_NETLOGON = r"SYSTEM\CurrentControlSet\Services\Netlogon"
ACCOUNT = {"user": "CORP\\join", "password": "s3cret-word"}


def options(**given: Any) -> dict[str, Any]:
    base = {"workgroup": None, "domain": None, "domain_ou": None, "account": None, "skip_restart": False, "time_limit": 60}
    return {**base, **given}


def computer(**row: Any) -> FakeWindows:
    windows = FakeWindows()
    windows.rows["Win32_ComputerSystem"] = [
        {"Name": "REF01", "PartOfDomain": False, "Domain": "WORKGROUP", "Workgroup": "WORKGROUP", "DomainRole": 0, **row}
    ]
    windows.set_value(_NETLOGON, "Start", "REG_DWORD", 2)
    state = windows.rows["Win32_ComputerSystem"][0]

    def join(arguments: dict[str, Any]) -> int:
        joined = bool(arguments["FJoinOptions"] & 1)
        state.update(PartOfDomain=joined, Domain=arguments["Name"], Workgroup=None if joined else arguments["Name"])
        return 0

    def leave(arguments: dict[str, Any]) -> int:
        state.update(PartOfDomain=False, Domain="WORKGROUP", Workgroup="WORKGROUP")
        return 0

    windows.methods = {"JoinDomainOrWorkgroup": join, "UnjoinDomainOrWorkgroup": leave}
    return windows


IN_DOMAIN = {"PartOfDomain": True, "Domain": "corp.example.com", "Workgroup": None, "DomainRole": 1}


def test_already_in_the_workgroup_costs_two_requests_and_changes_nothing() -> None:
    windows, context = computer(), FakeContext()
    plan, result = run_step(JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="workgroup"), context), windows)
    assert not plan.changes
    assert windows.requests == 2
    assert result == {"membership": "workgroup WORKGROUP", "restarted": False}
    assert windows.invoked == context.events == []


def test_leaving_a_domain_for_a_workgroup() -> None:
    windows, context = computer(**IN_DOMAIN), FakeContext()
    step = JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="BUILD"), context)
    plan, result = run_step(step, windows)
    assert [change.summary for change in plan.changes] == ["leave domain corp.example.com", "join workgroup BUILD", "restart"]
    assert windows.invoked == [
        ("UnjoinDomainOrWorkgroup", {"FUnjoinOptions": 0}),
        ("JoinDomainOrWorkgroup", {"FJoinOptions": 0, "Name": "BUILD"}),
    ]
    assert context.events == ["restart"]
    assert result["membership"] == "workgroup BUILD"
    assert plan.before == {"membership": "domain corp.example.com"}


def test_leaving_with_an_account_disables_the_computer_account() -> None:
    windows = computer(**IN_DOMAIN)
    run_step(JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="B", account=ACCOUNT), FakeContext()), windows)
    assert windows.invoked[0][1] == {"FUnjoinOptions": 4, "Password": "s3cret-word", "UserName": "CORP\\join"}


def test_joining_a_domain_from_a_workgroup_and_from_another_domain() -> None:
    wish = options(join_type="domain", domain="corp.example.com", domain_ou="LDAP://OU=Ref,DC=corp,DC=example,DC=com", account=ACCOUNT)
    fresh, moved = computer(), computer(**{**IN_DOMAIN, "Domain": "old.example.com"})
    run_step(JoinDomainOrWorkgroup(wish, FakeContext()), fresh)
    run_step(JoinDomainOrWorkgroup(wish, FakeContext()), moved)
    assert fresh.invoked == [
        (
            "JoinDomainOrWorkgroup",
            {
                "FJoinOptions": 3,
                "Name": "corp.example.com",
                "Password": "s3cret-word",
                "UserName": "CORP\\join",
                "AccountOU": "OU=Ref,DC=corp,DC=example,DC=com",
            },
        )
    ]
    assert [method for method, dummy in moved.invoked] == ["JoinDomainOrWorkgroup"]
    assert moved.invoked[0][1]["FJoinOptions"] == 35


@pytest.mark.parametrize(("code", "words"), [(1326, "user name or password is wrong"), (2691, "a member of a domain already")])
def test_a_refused_join_says_code_meaning_remedy_and_log_but_no_password(code: int, words: str) -> None:
    windows, context = computer(), FakeContext()
    windows.methods["JoinDomainOrWorkgroup"] = lambda arguments: code
    step = JoinDomainOrWorkgroup(options(join_type="domain", domain="corp.example.com", account=ACCOUNT), context)
    problem = failure(lambda: run_step(step, windows))
    assert problem.message.startswith(f"REF01 could not join domain corp.example.com: error {code}, ")
    assert words in problem.message
    assert problem.code == code
    assert problem.remedy
    assert problem.log == "NetSetup.LOG"
    assert "s3cret" not in problem.message + problem.remedy + repr(step._credentials())


def test_a_join_that_did_not_last_over_the_restart_fails() -> None:
    windows, context = computer(), FakeContext()
    context.on_restart = lambda: windows.rows["Win32_ComputerSystem"][0].update(PartOfDomain=False, Workgroup="WORKGROUP")
    step = JoinDomainOrWorkgroup(options(join_type="domain", domain="corp.example.com", account=ACCOUNT), context)
    assert "is a member of workgroup WORKGROUP, not of domain corp.example.com" in failure(lambda: run_step(step, windows)).message


def test_a_pending_join_is_completed_by_a_restart_only() -> None:
    windows, context = computer(**IN_DOMAIN), FakeContext()
    windows.set_value(_NETLOGON, "JoinDomain", "REG_DWORD", 1)
    wish = options(join_type="domain", domain="corp.example.com", account=ACCOUNT)
    plan, result = run_step(JoinDomainOrWorkgroup(wish, context), windows)
    assert [change.summary for change in plan.changes] == ["restart to complete the change of the domain"]
    assert context.events == ["restart"]
    assert windows.invoked == []
    assert result["restarted"] is True


def test_skip_restart_warns_and_does_not_restart() -> None:
    windows, context = computer(), FakeContext()
    run_step(JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="X", skip_restart=True), context), windows)
    assert context.events == []
    assert "after the next restart" in context.warnings[0]


def test_a_domain_controller_is_refused() -> None:
    step = JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="X"), FakeContext())
    assert "REF01 is a domain controller" in failure(lambda: run_step(step, computer(**{**IN_DOMAIN, "DomainRole": 5}))).message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"join_type": "workgroup", "workgroup": "A" * 16}, "workgroup: 'AAAAAAAAAAAAAAAA' has 16 characters; allowed are 1 to 15"),
        ({"join_type": "workgroup", "workgroup": "A/B"}, "characters that are not allowed"),
        ({"join_type": "workgroup", "workgroup": "W", "domain_ou": "OU=x"}, "no meaning with join_type workgroup"),
        ({"join_type": "domain", "domain": "d", "domain_ou": "Computers"}, "write LDAP://OU=x,DC=y,DC=z"),
        ({"join_type": "domain", "domain": "d" * 256}, "256 characters"),
    ],
)
def test_bad_options(given: dict[str, Any], words: str) -> None:
    assert words in " ".join(JoinDomainOrWorkgroup.validate(options(**given)))


def test_good_options_and_names() -> None:
    assert JoinDomainOrWorkgroup.validate(options(join_type="domain", domain="d", domain_ou="LDAP://OU=x,DC=y")) == []
    have = domain.Membership("R", True, "corp.example.com")
    assert domain.is_member(have, domain="CORP")
    assert domain.is_member(have, domain="corp.example.com.")
    assert not domain.is_member(have, domain="example.com")
    assert not domain.is_member(have, workgroup="corp.example.com")


def test_predict_is_marked() -> None:
    plan = JoinDomainOrWorkgroup(options(join_type="workgroup", workgroup="X"), FakeContext()).predict()
    assert plan.predicted
    assert plan.changes
