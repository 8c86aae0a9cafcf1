# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answer files: written, merged, read as Setup reads them, refused with a reason."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file as af
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.answer_file import (
    AnswerFile,
    AnswerFileError,
    Interface,
    LocalAccount,
    Locales,
    Membership,
    NetworkSettings,
    WindowsSettings,
)

ROOT = Path(__file__).resolve().parents[3]
CORPORA = (ROOT / os.environ.get("CORPORA", "../shared/corpora")).resolve()
SAMPLES = sorted(p for p in (CORPORA / "unattend").rglob("*") if p.is_file())
GIVEN = b"""<?xml version="1.0" encoding="utf-8"?>
<unattend xmlns="urn:schemas-microsoft-com:unattend">
  <!-- kept -->
  <settings pass="specialize">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35"
               language="neutral" versionScope="nonSxS">
      <ComputerName>OLD</ComputerName><CopyProfile>true</CopyProfile>
    </component>
    <component name="Contoso-Thing" processorArchitecture="amd64"><Deep><Value>1</Value></Deep></component>
  </settings>
  <settings pass="oobeSystem">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64">
      <TimeZone>UTC</TimeZone>
    </component>
  </settings>
</unattend>
"""
FULL = WindowsSettings(
    architecture="amd64",
    user_name="Größe & Co",
    organization="Org",
    computer_name="REF01",
    product_key="AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
    time_zone="Romance Standard Time",
    locales=Locales("0407:00000407", "de-DE", "de-DE", "en-US", "de-DE"),
)


def test_settings_from_nothing() -> None:
    file = AnswerFile()
    af.apply_windows_settings(file, FULL)
    af.set_administrator_password(file, "amd64", "p&ss wörd")
    af.add_local_account(file, "amd64", LocalAccount("osd-run", "s3cret", ("Administrators",)))
    again = af.parse(file.render())
    assert again.computer_name("amd64") == "REF01"
    assert again.product_key("amd64") == "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
    assert again.shell_setup("amd64", "RegisteredOwner") == "Größe & Co"
    assert again.shell_setup("amd64", "TimeZone") == "Romance Standard Time"
    assert again.locales("amd64") == again.locales("amd64", "specialize") == FULL.locales
    assert again.administrator_password("amd64") == "p&ss wörd"
    assert again.local_accounts("amd64") == (LocalAccount("osd-run", "s3cret", ("Administrators",)),)
    assert again.oobe("amd64")["ProtectYourPC"] == "3"
    assert "HideLocalAccountScreen" not in again.oobe("amd64")
    assert again.render() == file.render()
    assert again.computer_name("arm64") == ""
    assert af.content_problems(again, "amd64") == []


def test_our_values_win_and_the_rest_of_a_given_file_stays() -> None:
    file = af.parse(GIVEN)
    af.apply_windows_settings(file, FULL)
    text = file.render().decode()
    assert "<!-- kept -->" in text
    assert "<CopyProfile>true</CopyProfile>" in text
    assert "Contoso-Thing" in text
    assert "OLD" not in text
    assert file.shell_setup("amd64", "TimeZone") == "Romance Standard Time"
    assert text.count("Microsoft-Windows-Shell-Setup") == 2


def test_merging_twice_changes_nothing() -> None:
    file = af.parse(GIVEN)
    network = NetworkSettings("amd64", Membership(workgroup="WG"), (Interface("00-11-22-33-44-55", dns_servers=("192.0.2.1",)),))
    for dummy in range(2):
        af.apply_windows_settings(file, FULL)
        af.add_local_account(file, "amd64", LocalAccount("osd-run", "s", ("Administrators",)))
        af.add_run_synchronous(file, "amd64", "cmd /c x", "OSD")
        af.apply_network_settings(file, network)
    once = af.parse(GIVEN)
    af.apply_windows_settings(once, FULL)
    af.add_local_account(once, "amd64", LocalAccount("osd-run", "s", ("Administrators",)))
    af.add_run_synchronous(once, "amd64", "cmd /c x", "OSD")
    af.apply_network_settings(once, network)
    assert file.render() == once.render()


def test_static_addresses() -> None:
    interface = Interface(
        identifier="52-54-00-12-34-56",
        dhcp=False,
        addresses=("192.0.2.10/24", "192.0.2.11/24"),
        gateways=(("192.0.2.1", 5),),
        dns_servers=("192.0.2.2", "192.0.2.3"),
        dns_domain="example.com",
        register_in_dns=False,
        full_dns_registration=True,
        netbios_options=2,
        wins_servers=("192.0.2.9",),
    )
    file = AnswerFile()
    settings = NetworkSettings("arm64", Membership(workgroup="BUILD"), (interface,), "example.com", ("a.example", "b.example"))
    af.apply_network_settings(file, settings)
    again = af.parse(file.render())
    assert again.interfaces("arm64") == (interface,)
    assert again.membership("arm64") == Membership(workgroup="BUILD")
    text = file.render().decode()
    tcpip = text[text.index('name="Microsoft-Windows-TCPIP"') :]
    order = [tcpip.index(f"<{name}>") for name in ("Ipv4Settings", "Identifier", "UnicastIpAddresses", "Routes")]
    assert order == sorted(order)
    assert 'keyValue="2">192.0.2.11/24' in text
    assert af.address_with_prefix("192.0.2.10", "255.255.255.0") == "192.0.2.10/24"


def test_without_addresses_the_adapter_takes_dhcp_as_windows_does() -> None:
    file = AnswerFile()
    settings = NetworkSettings("amd64", Membership(workgroup="W"), (Interface("52-54-00-12-34-56", dhcp=False),))
    af.apply_network_settings(file, settings)
    assert file.interfaces("amd64")[0].dhcp


def test_domain_join_and_its_plain_password_is_masked() -> None:
    membership = Membership("", "example.com", "OU=PC,DC=example,DC=com", "EXAMPLE", "join", "pl@in")
    file = AnswerFile()
    af.apply_network_settings(file, NetworkSettings("amd64", membership))
    assert file.membership("amd64") == membership
    assert "pl@in" not in repr(membership)
    af.apply_windows_settings(file, FULL)
    af.set_administrator_password(file, "amd64", "top")
    af.add_local_account(file, "amd64", LocalAccount("a", "low", ()))
    masked = file.masked()
    for secret in ("pl@in", FULL.product_key, af.hide_password("top", "AdministratorPassword"), af.hide_password("low", "Password")):
        assert secret not in masked
    assert masked.count(af.MASK) == 4
    assert "pl@in" in file.render().decode()


def test_commands_come_in_order() -> None:
    file = AnswerFile()
    for line in ("one", "two", "three"):
        af.add_run_synchronous(file, "amd64", line, line)
    af.add_run_synchronous(file, "amd64", "uno", "one")
    assert [(c.order, c.line) for c in file.run_synchronous("specialize", "amd64")] == [(2, "two"), (3, "three"), (4, "uno")]


def test_password_forms() -> None:
    # Decoded from Microsoft's documentation sample and from unattend-generator's rule: text, then the element's name.
    assert af.hide_password("", "AdministratorPassword").startswith("QQBkAG0A")
    assert af.show_password(af.hide_password("x", "Password"), "Password") == "x"
    with pytest.raises(AnswerFileError, match="does not end"):
        af.show_password(af.hide_password("x", "Password"), "AdministratorPassword")
    with pytest.raises(AnswerFileError, match="cannot be read"):
        af.show_password("***", "Password")
    plain = GIVEN.replace(
        b"<TimeZone>UTC</TimeZone>",
        b"<UserAccounts><AdministratorPassword><Value>a b</Value><PlainText>true</PlainText></AdministratorPassword></UserAccounts>",
    )
    assert af.parse(plain).administrator_password("amd64") == "a b"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d[:-20], "not well-formed"),
        (lambda d: d.replace(b"<unattend", b"<!DOCTYPE a><unattend"), "document type"),
        (lambda d: d.replace(b"urn:schemas-microsoft-com:unattend", b"urn:x"), "instead of unattend"),
        (lambda d: d.replace(b'pass="oobeSystem"', b'pass="oobesystem"'), "unknown pass 'oobesystem'"),
        (lambda d: d.replace(b'"Contoso-Thing" processorArchitecture="amd64"', b'"Contoso-Thing"'), "processorArchitecture ''"),
        (lambda d: d.replace(b"Contoso-Thing", b"Microsoft-Windows-Shell-Setup"), "twice for amd64"),
        (
            lambda d: d.replace(
                b"<Deep><Value>1</Value></Deep>",
                b"<RunSynchronous><A><Order>1</Order></A><A><Order>1</Order></A></RunSynchronous>",
            ),
            "Order 1 more than once",
        ),
    ],
)
def test_refusals_name_the_reason(change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(AnswerFileError, match=re.escape(reason)):
        af.parse(change(GIVEN))


def test_content_that_stops_setup_is_found() -> None:
    bad = GIVEN.replace(b"OLD", b"THIS-NAME-IS-TOO-LONG").replace(b'pass="specialize"', b'pass="specialize" wasPassProcessed="true"')
    problems = " ".join(af.content_problems(af.parse(bad), "amd64"))
    assert "cached copy" in problems
    assert "ComputerName" in problems
    assert "the image is arm64" in " ".join(af.content_problems(af.parse(GIVEN), "arm64"))


def test_a_component_in_a_wrong_pass_is_found() -> None:
    file = AnswerFile()
    file.component("oobeSystem", af.JOIN, "amd64")
    file.component("windowsPE", "Microsoft-Windows-Setup", "amd64")  # nobody runs that pass on an applied image
    assert af.content_problems(file, "amd64") == ["Microsoft-Windows-UnattendedJoin is not valid in the pass oobeSystem"]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (af.check_computer_name, ["REF01", "*", "a-b", "é1"], ["", "x" * 16, "123", "a b", "a_b.c", "ééééééééé"]),
        (af.check_product_key, ["aaaaa-bbbbb-ccccc-ddddd-11111"], ["", "AAAAA", "AAAAA-BBBBB-CCCCC-DDDDD-EEEE"]),
        (af.check_time_zone, ["UTC", "Romance Standard Time", "UTC-11", "E. Africa Standard Time"], ["", "Heure d\u2019été\n"]),
        (af.check_locale, ["en-US", "de", "zh-Hans-CN", "sr-Latn-RS", "es-419"], ["", "english", "en_US"]),
        (af.check_input_locale, ["0409:00000409", "en-US;de-DE", "0409:00000409;0407:00000407"], ["", "409", "en-US;"]),
        (af.check_workgroup, ["WORKGROUP", "Büro 1"], ["", "x" * 16, "a/b"]),
    ],
)
def test_checks(check: Callable[[str], str], good: list[str], bad: list[str]) -> None:
    assert [value for value in good if check(value)] == []
    assert [value for value in bad if not check(value)] == []


def test_mac_addresses() -> None:
    assert af.normalise_mac("52:54:00:ab:cd:ef") == "52-54-00-AB-CD-EF"
    assert af.normalise_mac("525400abcdef") == "52-54-00-AB-CD-EF"
    with pytest.raises(ValueError, match="no MAC"):
        af.normalise_mac("52:54:00:ab:cd")


@pytest.mark.skipif(not SAMPLES, reason="foreign files: the folder is not there")
@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: "/".join(p.parts[-3:]))
def test_foreign_files_are_read_or_refused_with_a_reason(path: Path, foreign_file: Callable[[Path], Path]) -> None:
    data = foreign_file(path).read_bytes()
    try:
        file = af.parse(data)
    except AnswerFileError as error:
        assert re.search(r"not well-formed|document type|instead of unattend|unknown|twice|Order", str(error))
        return
    assert file.components
    for architecture in sorted(file.architectures()):
        af.content_problems(file, architecture)
        file.interfaces(architecture)
        file.run_synchronous("specialize", architecture)
    # Everything that was in it is still there after our settings went in.
    before = set(file.components)
    af.apply_windows_settings(file, FULL)
    again = af.parse(file.render())
    assert before <= set(again.components)
    assert again.computer_name("amd64") == "REF01"
