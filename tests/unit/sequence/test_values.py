# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The values of a run: credentials, machine, journal, state, endpoints, conditions, argument spec."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.argument_spec import load_argument_spec
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import conditions, content, endpoints, journal, machine, run, state
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.credentials import derive_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.endpoints import Identity, Variables
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import StepFailure

UUID = "4c4c4544-0051-3610-8035-b4c04f4e3632"
SECRET = "0123456789abcdef"


def variables(**values):
    return Variables({"inventory_hostname": "ref1", **values}, lambda value: value)


# --- credentials ---


def test_derived_passwords_differ_by_purpose_and_secret():
    one = derive_password(SECRET, "boot-image:a")
    assert one == derive_password(SECRET, "boot-image:a")
    assert len({one, derive_password(SECRET, "boot-image:b"), derive_password(SECRET + "x", "boot-image:a")}) == 3
    assert len(one) == 28
    assert one.endswith("aA1!")


def test_the_formula_of_derived_passwords_is_fixed():
    # Boot images carry the hash of this password: another formula would lock the project out of them.
    assert derive_password("secret", "boot-image:x") == "w3gPTP7ikH7q0P928vjuuBfvaA1!"


# --- machine ---


@pytest.mark.parametrize(
    "junk",
    ["", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "03000200-0400-0500-0006-000700080009", "x"],
)
def test_a_junk_uuid_is_no_name(junk):
    assert machine.trusted_uuid(junk) == ""


def test_a_computer_is_named_by_uuid_serial_or_mac():
    known = machine.Machine(UUID, "abc123", ("52:54:00:00:00:01",))
    for name in ("{" + UUID.upper() + "}", "ABC123", "52-54-00-00-00-01"):
        assert known.is_named(name), name
    assert not known.is_named("52:54:00:00:00:02")
    assert not known.is_named("")


def test_the_same_computer_without_a_uuid_is_known_by_serial_or_mac():
    before = machine.Machine("", "", ("52:54:00:00:00:01",))
    assert before.is_same(machine.Machine("", "x", ("52:54:00:00:00:01",)))
    assert not before.is_same(machine.Machine("", "", ("52:54:00:00:00:02",)))
    assert not machine.Machine(UUID, "s").is_same(machine.Machine(UUID[:-1] + "9", "s"))


def test_the_line_to_add_names_the_computer():
    assert machine.line_to_add(machine.Machine(UUID)) == f'osd_machine: "{UUID}"'


# --- journal ---


def test_the_digest_counts_secrets_only_as_set_or_unset():
    key = b"k"
    one = {"account": {"user": "u", "password": "one"}, "list": [{"password": "x"}]}
    other = {"account": {"user": "u", "password": "two"}, "list": [{"password": "x"}]}
    unset = {"account": {"user": "u", "password": None}, "list": [{"password": "x"}]}
    digest = [journal.digest_inputs(key, options, ("account.password", "list.password")) for options in (one, other, unset)]
    assert digest[0] == digest[1] != digest[2]
    assert journal.digest_inputs(b"other", one, ()) != journal.digest_inputs(key, one, ())
    assert journal.digest_inputs(key, {**one, "x": 1}, ()) != journal.digest_inputs(key, one, ())


def test_secrets_are_found_in_lists_and_mappings():
    options = {"a": [{"account": {"password": "p1"}}, {"account": None}], "env": {"X": "p2"}}
    assert journal.secret_values(options, ("a.account.password", "env")) == {"p1", "p2"}


def test_the_journal_leaves_out_a_line_that_a_crash_cut(tmp_path):
    book = journal.Journal(tmp_path / "deep" / "journal.jsonl")
    assert book.read() == []
    book.append(journal.Entry("k|0", "Step", "module", "d", changed=True, result={"msg": "x"}))
    with book.path.open("a") as file:
        file.write('{"key": "cut')
    entries = book.read()
    assert [e.key for e in entries] == ["k|0"]
    assert entries[0].finished
    assert book.path.stat().st_mode & 0o777 == 0o600


# --- the run on the control node ---


def test_a_run_is_named_by_osd_run_or_the_image():
    assert run.run_name(variables(osd_run="My run/1")) == "My-run-1"
    assert run.run_name(variables(osd_image_name="Win 11", osd_image_version="2.0")) == "Win-11-2.0"
    assert run.run_name(variables()) == ""
    with pytest.raises(StepFailure, match="no name"):
        run.new_run(variables())


def test_a_run_comes_back_as_it_was_saved(tmp_path):
    values = variables(osd_run="r", osd_state_dir=str(tmp_path))
    assert run.load_run(values) is None
    made = run.new_run(values)
    made.record.position = run.Position("windows_pe", "127.0.0.1", "Windows PE", "b")
    made.record.remembered["volumes"] = {"disk": 0}
    made.save()
    found = run.load_run(values)
    assert found is not None
    assert found.record == made.record
    assert found.key == made.key
    assert (tmp_path / "r" / "ref1" / "run.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_record_is_named(tmp_path):
    values = variables(osd_run="r", osd_state_dir=str(tmp_path))
    run.new_run(values).save()
    (tmp_path / "r" / "ref1" / "run.json").write_text("{")
    with pytest.raises(StepFailure, match="damaged"):
        run.load_run(values)


def test_tasks_of_the_same_name_are_counted_apart(tmp_path):
    play = run.PlayState(tmp_path, "ref1")
    assert play.occurrence("a") == 0
    play.count("a")
    assert run.PlayState(tmp_path, "ref1").occurrence("a") == 1
    assert run.PlayState(tmp_path, "ref2").occurrence("a") == 0


# --- the state on the computer ---


def machine_state(**values):
    return state.MachineState(**{"run": "r", "holder": "here/1", "expires": datetime(2030, 1, 1, tzinfo=UTC), **values})


def test_the_state_survives_its_file():
    before = machine_state(counter=3, step="x", remembered={"a": [1]})
    assert state.parse_state(before.render()) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": "x"}', b"\xff"])
def test_a_file_that_is_no_state_counts_as_none(content):
    assert state.parse_state(content) is None


def test_a_foreign_lease_is_refused_until_it_ends():
    held = machine_state()
    now = held.expires - timedelta(minutes=1)
    with pytest.raises(StepFailure, match=r"held by the run 'r' of here until 2030-01-01 00:00 UTC"):
        state.check_lease(held, "there/2", "other", now)
    state.check_lease(held, "here/1", "r", now)
    state.check_lease(held, "there/2", "other", held.expires + timedelta(seconds=1))
    state.check_lease(None, "there/2", "r", now)


def test_a_run_is_not_taken_over_when_its_lease_is_over():
    held = machine_state()
    with pytest.raises(StepFailure, match=r"was held by the run 'r' of here until .* cannot be taken over") as refused:
        state.check_lease(held, "there/2", "r", held.expires + timedelta(seconds=1))
    assert "start another osd_run" in refused.value.remedy
    state.check_lease(held, "here/1", "r", held.expires + timedelta(seconds=1))


def test_a_computer_behind_its_journal_is_refused():
    with pytest.raises(StepFailure, match="behind the run"):
        state.check_reverted(machine_state(counter=2), "r", 3)
    state.check_reverted(machine_state(counter=3), "r", 3)


def test_a_computer_that_lost_the_runs_state_is_refused():
    for lost in (None, machine_state(counter=9)):
        with pytest.raises(StepFailure, match="behind the run 'another': it does not know the run, the journal has 3"):
            state.check_reverted(lost, "another", 3)
    state.check_reverted(None, "r", 0)


# --- endpoints ---


def winpe(tmp_path, **given):
    (tmp_path / "certificate.pem").write_text("x")
    return {"certificate": str(tmp_path / "certificate.pem"), **given}


def test_windows_pe_is_where_it_was_staged_and_then_where_the_medium_answers(tmp_path):
    (tmp_path / "boot.json").write_text(
        json.dumps({"schema": 1, "boot_image": "id", "name": "pe.example", "certificate": "certificate.pem"})
    )
    values = variables(osd_secret=SECRET, osd_winpe_connection=winpe(tmp_path, host="127.80.0.2"))
    targets = endpoints.windows_pe_targets(values, "127.80.0.9")
    assert [target.address for target in targets] == ["127.80.0.9:5986", "127.80.0.2:5986"]
    assert targets[0].certificate_name == "pe.example"
    assert targets[0].password == derive_password(SECRET, "boot-image:id")
    assert targets[0].password not in repr(targets)


def test_boot_json_beside_the_boot_image_says_the_rest(tmp_path):
    winpe(tmp_path)
    (tmp_path / "boot.json").write_text(json.dumps({"schema": 1, "boot_image": "id", "name": "n", "certificate": "certificate.pem"}))
    values = variables(
        osd_secret=SECRET, osd_winpe_connection={"host": "h"}, osd_boot_image={"target": "x", "controller": str(tmp_path / "boot.wim")}
    )
    assert endpoints.windows_pe_targets(values, "")[0].certificate == str(tmp_path / "certificate.pem")


def test_boot_json_says_the_hash_of_the_boot_image(tmp_path):
    certificate = tmp_path / "certificate.pem"
    variables = Variables({"osd_winpe_connection": {"certificate": str(certificate)}}, lambda value: value)
    assert endpoints.boot_image_hash(variables) == ""
    (tmp_path / "boot.json").write_text(json.dumps({"sha256": {"boot.sdi": "1" * 64, "boot.wim": "AB" * 32}}))
    assert endpoints.boot_image_hash(variables) == "ab" * 32
    (tmp_path / "boot.json").write_text(json.dumps({"sha256": "ab"}))
    assert endpoints.boot_image_hash(variables) == ""


def test_one_value_of_a_dictionary_may_be_omitted() -> None:
    """Ansible leaves an omitted value out of a dictionary; alone it is an error."""

    def template(value):
        assert value != "omitted"
        return {key: item for key, item in value.items() if item != "omitted"} if isinstance(value, dict) else value

    values = Variables({"osd_boot_image": {"target": "x", "controller": "omitted"}}, template)
    assert (values.item("osd_boot_image", "controller"), values.item("osd_boot_image", "target")) == (None, "x")
    assert (values.item("osd_boot_image", "account"), values.item("osd_image", "target")) == (None, None)


@pytest.mark.parametrize(
    ("given", "secret", "message"),
    [
        ({"host": "h"}, SECRET, "certificate of Windows PE is not declared"),
        ({"host": "h", "certificate": "/nowhere/c.pem"}, SECRET, "is not there: /nowhere/c.pem"),
    ],
)
def test_what_is_missing_for_windows_pe_is_named(given, secret, message):
    with pytest.raises(StepFailure, match=message):
        endpoints.windows_pe_targets(variables(osd_secret=secret, osd_winpe_connection=given), "")


@pytest.mark.parametrize(("secret", "message"), [("", "osd_secret is not set"), ("short", "has 5 characters")])
def test_the_secret_must_be_there_and_long_enough(tmp_path, secret, message):
    values = variables(osd_secret=secret, osd_winpe_connection=winpe(tmp_path, host="h", boot_image="id"))
    with pytest.raises(StepFailure, match=message):
        endpoints.windows_pe_targets(values, "")


def test_nothing_leaks_from_one_identity_to_another(tmp_path):
    values = variables(
        ansible_user="admin", ansible_password="p", ansible_port=5985, ansible_winrm_transport="kerberos", ansible_host="10.0.0.1",
        osd_secret=SECRET, osd_winpe_connection=winpe(tmp_path, boot_image="id", port=7000), osd_windows_connection={"user": "me"},
    )  # fmt: skip
    found, pe, built = (
        endpoints.found_target(values),
        *endpoints.windows_pe_targets(values, "10.0.0.1"),
        *endpoints.windows_targets(values, "10.0.0.1", "derived"),
    )
    assert (found.identity, found.port) == (Identity.FOUND, 5985)
    assert (pe.user, pe.transport, pe.scheme, pe.port) == ("osd", "basic", "https", 7000)
    assert (built.user, built.transport, built.scheme, built.port, built.password) == ("me", "ntlm", "http", 5985, "derived")


def test_bare_metal_has_no_windows_that_was_found():
    assert endpoints.found_target(variables(ansible_host="10.0.0.1")) is None


# --- conditions ---


@pytest.mark.parametrize(
    ("module", "options", "facts", "skips"),
    [
        ("restart_computer", {"target": "windows_pe"}, {"_SMSTSInWinPE": True}, True),
        ("restart_computer", {"target": "windows_pe"}, {"_SMSTSInWinPE": False}, False),
        ("restart_computer", {"target": "installed_os"}, {"_SMSTSInWinPE": True}, False),
        ("auto_apply_drivers", {}, {"_SMSTSMediaType": "FullMedia"}, True),
        ("auto_apply_drivers", {}, {"_SMSTSMediaType": "BootMedia"}, False),
        ("install_software_updates", {}, {"_SMSTSMediaType": "FullMedia"}, True),
        ("format_and_partition_disk", {}, {"_SMSTSClientCache": r"C:\_SMSTaskSequence"}, True),
        ("format_and_partition_disk", {}, {}, False),
    ],
)
def test_the_conditions_of_the_example_sequence(module, options, facts, skips):
    assert bool(conditions.skip_reason(module, options, facts)) is skips


# --- argument spec ---


def test_the_documentation_is_the_argument_spec():
    spec = load_argument_spec("format_and_partition_disk")
    assert spec["disk_number"] == {"type": "int", "default": 0, "no_log": False}
    assert spec["machine"]["type"] == "str"
    assert spec["boot_image"]["options"]["account"]["options"]["password"]["required"] is True


# --- content ---


def test_one_destination_for_two_computers_is_refused():
    mine = {"path": r"\\srv\capture\reference.wim"}
    play = {
        "osd_capture": mine,
        "ansible_play_hosts_all": ["ref1", "ref2"],
        "hostvars": {"ref2": {"osd_capture": {"path": mine["path"].upper()}}},
    }
    with pytest.raises(StepFailure, match="ref1 and ref2 have the same destination"):
        content.refuse_shared_destination(variables(**play))
    play["hostvars"]["ref2"]["osd_capture"]["path"] = r"\\srv\capture\ref2.wim"
    content.refuse_shared_destination(variables(**play))


def test_declared_sources_are_named_for_the_user():
    values = variables(
        osd_boot_image={"target": "b"},
        osd_image={"target": "i"},
        osd_drivers=[{"target": "d"}],
        osd_applications=[{"name": "7-Zip", "source": {"target": "a"}}],
    )
    assert [s["name"] for s in content.declared_sources(values, ["build"])] == [
        "osd_boot_image",
        "osd_image",
        "osd_drivers[0]",
        "application 7-Zip",
    ]
    assert [s["name"] for s in content.declared_sources(values, ["capture"])] == ["osd_boot_image"]
