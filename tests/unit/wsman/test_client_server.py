# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client and server against each other, in memory."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import envelope, faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, CommandTimeout, identify_request
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance, Reference
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError, Limits
from wsman_fakes import IDENTITY, SCHEMA, Computer

WHEN = datetime(2024, 2, 29, 23, 59, 58, 120000, tzinfo=UTC)
FULL = {
    "Name": "ein Ding",
    "Size": 4294967295,
    "Big": 2**64 - 1,
    "Small": -1,
    "On": False,
    "When": WHEN,
    "Tags": ["x"],
    "Bytes": [0, 255],
    "Letter": "C",
    "Ratio": 0.25,
    "Text": "",
    "Inner": Instance("T_Inner", {"Word": "w", "Numbers": [7], "Deeper": Instance("T_Inner", {"Word": "d"}, "root/cimv2")}, "root/cimv2"),
    "Inners": [Instance("T_Inner", {"Word": "one"}, "root/cimv2")],
    "Other": Reference("T_Other", "root/cimv2", {"Id": "a/b", "Number": "3"}),
}


@pytest.fixture
def computer() -> Computer:
    return Computer()


def test_every_type_survives_the_way_there_and_back(computer):
    computer.objects.add("T_Thing", **FULL)
    found = computer.client.get("T_Thing", {"Name": "ein Ding"})
    assert dict(found.properties) == FULL
    assert (found.class_name, found.namespace) == ("T_Thing", "root/cimv2")


@pytest.mark.parametrize(
    "text",
    ["  edges kept ", "a\r\nb\n\tc\r", "<&>\"'", "Ünïcödé \U0001f4be", "]]>", "\u2028", "x" * 70000, "\\\\?\\Volume{1}\\"],
)
def test_texts_survive(computer, text):
    computer.objects.add("T_Thing", Name="n", Text=text, Tags=[text, ""])
    found = computer.client.query("SELECT * FROM T_Thing")[0]
    assert (found["Text"], found["Tags"]) == (text, [text, ""])
    computer.client.invoke("T_Thing", "Make", {"Name": text})
    assert computer.objects.calls[-1][-1] == {"Name": text}


def test_nothing_is_none_in_instances_and_projections(computer):
    computer.objects.add("T_Thing", Name="n", Letter="\0", Tags=None)
    found = computer.client.get("T_Thing", {"Name": "n"})
    assert set(found.properties) == set(FULL)
    assert {name for name, value in found.properties.items() if value is not None} == {"Name", "Letter"}
    assert found["Letter"] == "\0"
    assert b"Tags" not in computer.sent[-1][1]  # a null array is absent,
    assert b'<p:Size xsi:nil="true"/>' in computer.sent[-1][1]  # a null scalar is nil
    row = computer.client.query("SELECT tags, SIZE FROM T_Thing")[0]
    assert dict(row.properties) == {"Tags": None, "Size": None}
    assert b"XmlFragment" in computer.sent[-1][1]


def test_arrays_of_one_are_lists_and_scalars_are_not(computer):
    computer.objects.add("T_Thing", Name="n", Tags=["only"], Bytes=[9], Text="only")
    row = computer.client.query("SELECT Tags, Bytes, Text FROM T_Thing")[0]
    assert (row["Tags"], row["Bytes"], row["Text"]) == (["only"], [9], "only")


def test_properties_come_in_alphabetical_order(computer):
    computer.objects.add("T_Thing", Name="n", Size=1, Big=2, On=True)
    computer.client.get("T_Thing", {"Name": "n"})
    content = envelope.parse(computer.sent[-1][1]).content
    names = [ns.local_name(item.tag) for item in content]
    assert names == sorted(names, key=str.lower)


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)),
        (datetime(1601, 1, 1, tzinfo=UTC), datetime(1601, 1, 1, tzinfo=UTC)),
        (datetime(2024, 1, 2, 3, 4, 5, 1, tzinfo=UTC), datetime(2024, 1, 2, 3, 4, 5, 1, tzinfo=UTC)),
    ],
)
def test_dates(computer, sent, got):
    computer.objects.add("T_Thing", Name="n", When=sent)
    assert computer.client.get("T_Thing", {"Name": "n"})["When"] == got
    assert computer.client.query("SELECT When FROM T_Thing")[0]["When"] == got


@pytest.mark.parametrize("count", [0, 1, 2, 3, 400])
def test_a_query_returns_every_row_whatever_the_pages(computer, count):
    for number in range(count):
        computer.objects.add("T_Thing", Name=f"n{number}", Size=number, Text="t" * 2000)
    rows = computer.client.query("SELECT * FROM T_Thing")
    assert [row["Size"] for row in rows] == list(range(count))
    first = envelope.parse(computer.sent[0][1]).content
    assert len(envelope.child(first, "Items")) == min(count, 1)  # as Windows: one item first
    # 250 KB of text a page: half the envelope, as Windows counts UTF-16.
    assert computer.client.requests == {0: 1, 1: 1, 2: 2, 3: 2}.get(count, computer.client.requests)
    assert all(len(answer) <= 256000 for dummy, answer in computer.sent)
    if count == 400:
        assert computer.client.requests >= 4


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (40, 1), (400, 4)])
def test_whole_pages_come_with_the_first_answer(count, requests):
    computer = Computer(whole_pages=True)
    for number in range(count):
        computer.objects.add("T_Thing", Name=f"n{number}", Size=number, Text="t" * 2000)
    assert [row["Size"] for row in computer.client.query("SELECT * FROM T_Thing")] == list(range(count))
    assert computer.client.requests == requests
    assert all(len(answer) <= 256000 for dummy, answer in computer.sent)
    wanted = f'<w:Filter Dialect="{ns.WQL_DIALECT}">SELECT * FROM T_Thing</w:Filter>'
    one = f"<n:Enumerate><w:OptimizeEnumeration/>{wanted}</n:Enumerate>"
    content = computer.client.request(ns.ACTION_ENUMERATE, ns.class_uri("root/cimv2", "*"), one)
    assert len(envelope.child(content, "Items")) == min(count, 1)  # no MaxElements means one


def test_a_small_envelope_makes_small_pages():
    computer = Computer(max_envelope=32768)
    for number in range(30):
        computer.objects.add("T_Thing", Name=f"n{number}", Text="t" * 1000)
    assert len(computer.client.query("SELECT Name, Text FROM T_Thing")) == 30
    assert all(len(answer) <= 16384 for dummy, answer in computer.sent)


def test_a_context_is_good_once_for_one_user_and_for_four_minutes(computer):
    for number in range(3):
        computer.objects.add("T_Thing", Name=f"n{number}")
    enumerate_body = f'<n:Enumerate><w:Filter Dialect="{ns.WQL_DIALECT}">SELECT * FROM T_Thing</w:Filter></n:Enumerate>'
    uri = ns.class_uri("root/cimv2", "*")

    def start() -> str:
        content = computer.client.request(ns.ACTION_ENUMERATE, uri, enumerate_body)
        assert envelope.child(content, "Items") is None  # without OptimizeEnumeration nothing comes first
        return f"<n:Pull><n:EnumerationContext>{envelope.child_text(content, 'EnumerationContext')}</n:EnumerationContext></n:Pull>"

    pull = start()
    content = computer.client.request(ns.ACTION_PULL, uri, pull)
    assert len(envelope.child(content, "Items")) == 1  # no MaxElements means one
    with pytest.raises(WsmanFault) as fault:
        computer.client.request(ns.ACTION_PULL, uri, pull)
    assert fault.value.code == faults.INVALID_ENUMERATION_CONTEXT
    assert fault.value.is_retry_safe

    pull = start()
    request = envelope.build_request(ns.ACTION_PULL, uri, pull)
    assert b"InvalidEnumerationContext" in computer.server.handle(request, user="other")[1]

    pull = start()
    computer.now += 241
    with pytest.raises(WsmanFault):
        computer.client.request(ns.ACTION_PULL, uri, pull)


def test_enumeration_of_a_class_with_references(computer):
    computer.objects.add("T_Other", Id="x", Number=5, Good=True)
    body = (
        "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>9</w:MaxElements>"
        "<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode></n:Enumerate>"
    )
    content = computer.client.request(ns.ACTION_ENUMERATE, ns.class_uri("root/cimv2", "T_Other"), body)
    item = envelope.child(content, "Items")[0]
    assert ns.local_name(item.tag) == "Item"
    assert [ns.local_name(part.tag) for part in item] == ["T_Other", "EndpointReference"]
    selectors = envelope.child(envelope.child(item[1], "ReferenceParameters"), "SelectorSet")
    assert envelope.parse_named(selectors, "Selector") == {"Id": "x", "Number": "5"}


def test_subclasses_keep_their_class_and_unknown_properties(computer):
    special = Instance("T_Special", {"Name": "s", "Size": 5, "More": "yes", "Many": ["a", "b"]}, "root/cimv2")
    computer.objects.held[("root/cimv2", "T_Thing")] = [special]
    found = computer.client.query("SELECT * FROM T_Thing")[0]
    assert found.class_name == "T_Special"
    assert (found["Size"], found["More"], found["Many"]) == (5, "yes", ["a", "b"])


def test_the_server_shows_nothing_that_the_schema_lacks(computer):
    computer.objects.add("T_Thing", Name="n", Invented="x")
    assert "Invented" not in computer.client.get("T_Thing", {"Name": "n"}).properties
    with pytest.raises(WsmanFault):
        computer.client.query("SELECT Invented FROM T_Thing")
    with pytest.raises(WsmanFault):
        computer.client.query("SELECT Name FROM T_Thing WHERE Invented = 1")
    with pytest.raises(WsmanFault) as fault:
        computer.client.invoke("T_Thing", "Invented")
    assert fault.value.hresult == faults.WBEM_E_INVALID_METHOD
    with pytest.raises(WsmanFault) as fault:
        computer.client.invoke("T_Thing", "Touch", {"Invented": 1}, {"Name": "n"})
    assert fault.value.hresult == faults.WBEM_E_INVALID_PARAMETER
    assert computer.objects.calls == []
    with pytest.raises(WsmanFault):
        computer.client.get("T_Thing", {"Invented": "n"})


def test_create_put_and_delete(computer):
    made = computer.client.create(Instance("T_Thing", {"Name": "new", "Tags": ["a"], "On": True}))
    assert made == Reference("T_Thing", "root/cimv2", {"Name": "new"})
    changed = computer.client.put(Instance("T_Thing", {"Name": "new", "Size": 3}))
    assert (changed["Size"], changed["On"], changed["Tags"]) == (3, True, ["a"])
    computer.client.delete("T_Thing", made.selectors)
    with pytest.raises(WsmanFault) as fault:
        computer.client.delete("T_Thing", made.selectors)
    assert fault.value.is_not_found


def test_invoke_static_with_every_kind_of_parameter(computer):
    arguments = {name: FULL[name] for name in ("Name", "Tags", "Inner", "Bytes", "On", "When", "Other")}
    computer.objects.outputs = {
        "ReturnValue": 4294967295,
        "Echo": ["one"],
        "Made": Instance("T_Thing", {"Name": "m", "Tags": ["t"], "Size": 2}, "root/cimv2"),
    }
    result = computer.client.invoke("T_Thing", "Make", arguments)
    assert computer.objects.calls == [("root/cimv2", "T_Thing", "Make", None, arguments)]
    assert (result["ReturnValue"], result["Echo"]) == (4294967295, ["one"])
    assert result["Made"].class_name == "T_Thing"
    assert (result["Made"]["Tags"], result["Made"]["Size"]) == (["t"], 2)


def test_invoke_on_an_instance_and_without_a_return_value(computer):
    computer.objects.outputs = {}
    assert computer.client.invoke("T_Thing", "Quiet", None, {"Name": "n"}) == {"ReturnValue": None}
    assert computer.objects.calls == [("root/cimv2", "T_Thing", "Quiet", {"Name": "n"}, {})]
    assert computer.client.invoke("T_Single", "Reboot") == {"ReturnValue": None}
    assert computer.objects.calls[-1][3] == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"Times": -1}, "uint32"), ({"Times": 2**32}, "uint32"), ({"Times": "3"}, "uint32"), ({"Times": True}, "uint32")],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(computer, arguments, word):
    with pytest.raises(ValueError, match=word):
        computer.client.invoke("T_Thing", "Touch", arguments, {"Name": "n"})
    assert computer.client.requests == 0


def test_the_error_for_a_wrong_argument_does_not_show_texts(computer):
    with pytest.raises(ValueError, match="Times is a uint32, not str") as error:
        computer.client.invoke("T_Thing", "Touch", {"Times": "geheim"}, {"Name": "n"})
    assert "geheim" not in str(error.value)
    with pytest.raises(ValueError, match="Tags is an array of string, not str"):
        computer.client.invoke("T_Thing", "Make", {"Tags": "geheim"})


def test_characters_that_xml_cannot_carry_are_refused_with_their_number(computer):
    with pytest.raises(ValueError, match="U\\+0001"):
        computer.client.invoke("T_Thing", "Make", {"Name": "a\x01"})


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get("T_Nothing", {"Name": "x"}),
        lambda c: c.get("T_Thing", {"Name": "x"}),
        lambda c: c.get("T_Thing", {"Name": "x"}, "root/nowhere"),
        lambda c: c.query("SELECT * FROM T_Nothing"),
        lambda c: c.query("SELECT * FROM T_Nothing", "root/nowhere"),
        lambda c: c.invoke("T_Nothing", "Do"),
    ],
)
def test_what_is_not_there_is_not_found(computer, call):
    with pytest.raises(WsmanFault) as fault:
        call(computer.client)
    assert fault.value.is_not_found
    assert fault.value.status == 500
    assert not fault.value.is_retry_safe


def _faulting(computer: Computer, times: int, shape: faults.FaultShape, action: str) -> None:
    """Answer the next requests of that action with a fault."""
    left = [shape] * times
    real = computer.send

    def send(body: bytes) -> tuple[int, bytes]:
        if left and envelope.parse(body).header.action == action:
            return 500, faults.build(left.pop())
        return real(body)

    computer.client._send = send


def test_reading_is_tried_again_once_while_wmi_starts(computer):
    computer.objects.add("T_Single", Caption="c")
    timed_out = faults.FaultShape("r", faults.OPERATION_TIMEDOUT, "w:TimedOut")
    _faulting(computer, 1, timed_out, ns.ACTION_GET)
    assert computer.client.get("T_Single")["Caption"] == "c"
    _faulting(computer, 1, timed_out, ns.ACTION_ENUMERATE)
    assert len(computer.client.query("SELECT * FROM T_Single")) == 1
    assert computer.client.requests == 4
    _faulting(computer, 2, timed_out, ns.ACTION_GET)
    with pytest.raises(WsmanFault) as fault:
        computer.client.get("T_Single")
    assert fault.value.is_timeout


def test_a_method_is_never_called_twice(computer):
    timed_out = faults.FaultShape("r", faults.OPERATION_TIMEDOUT, "w:TimedOut")
    _faulting(computer, 1, timed_out, ns.class_uri("root/cimv2", "T_Single") + "/Reboot")
    with pytest.raises(WsmanFault) as fault:
        computer.client.invoke("T_Single", "Reboot")
    assert fault.value.is_timeout
    assert computer.client.requests == 1


def test_a_method_that_takes_too_long_runs_on_after_the_fault(computer, monkeypatch):
    monkeypatch.setattr(computer.server, "_limits", Limits(max_timeout=-0.95))  # a second more is given
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow(*_arguments):
        started.set()
        go.wait(10)
        done.set()
        return {"ReturnValue": 0}

    computer.objects.invoke = slow
    with pytest.raises(WsmanFault) as fault:
        computer.client.invoke("T_Single", "Reboot")
    assert fault.value.is_timeout
    assert started.is_set()
    assert not done.is_set()
    go.set()
    assert done.wait(10)


def test_many_at_once(computer):
    """Queries, methods and shells of several threads, and nothing left behind."""
    for number in range(40):
        computer.objects.add("T_Thing", Name=f"n{number}", Size=number, Text="t" * 3000)
    errors = []

    def work(number: int) -> None:
        client = Client(computer.send, SCHEMA, max_envelope=65536)
        try:
            for dummy in range(5):
                assert len(client.query(f"SELECT * FROM T_Thing WHERE Size >= {number}")) == 40 - number
                assert client.invoke("T_Single", "Reboot")["ReturnValue"] == 0
                with client.open_shell() as shell:
                    assert shell.run(f"echo {number}")[1] == str(number).encode()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert computer.shells.closed == 40
    assert computer.server._active == {}
    assert computer.server._enumerations == {}


def test_a_lost_enumeration_starts_again(computer):
    for number in range(5):
        computer.objects.add("T_Thing", Name=f"n{number}")
    lost = faults.FaultShape("r", faults.INVALID_ENUMERATION_CONTEXT, "n:InvalidEnumerationContext")
    _faulting(computer, 1, lost, ns.ACTION_PULL)
    assert len(computer.client.query("SELECT * FROM T_Thing")) == 5


def test_a_busy_shell_gets_its_input_later(computer, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    with computer.client.open_shell() as shell:
        _faulting(computer, 2, faults.FaultShape("r", 170), ns.ACTION_SEND)
        assert shell.run("cat", stdin=b"x") == (0, b"x", b"")
        assert len(slept) == 2
        _faulting(computer, 9, faults.FaultShape("r", 0x800700AA), ns.ACTION_SEND)
        with pytest.raises(WsmanFault):
            shell.run("cat", stdin=b"x")


def test_missing_keys_are_refused(computer):
    computer.objects.add("T_Other", Id="x", Number=1)
    for call in (
        lambda: computer.client.get("T_Other", {"Id": "x"}),
        lambda: computer.client.get("T_Other"),
        lambda: computer.client.invoke("T_Thing", "Quiet"),
    ):
        with pytest.raises(WsmanFault) as fault:
            call()
        assert fault.value.code == faults.INSUFFICIENT_SELECTORS
        assert not fault.value.is_not_found


def test_rows_that_go_away_between_pages_do_not_disturb(computer):
    for number in range(200):
        computer.objects.add("T_Thing", Name=f"n{number}", Text="t" * 3000)
    real = computer.send

    def send(body):
        computer.objects.held.clear()
        return real(body)

    computer.client.query("SELECT Name FROM T_Thing WHERE Name = 'n5'")
    answers = [real]

    def first_whole(body):
        return answers.pop()(body) if answers else send(body)

    computer.client._send = first_whole
    assert len(computer.client.query("SELECT * FROM T_Thing")) == 200


def test_a_class_that_only_the_provider_lacks_is_not_found_either(computer):
    """Windows PE has fewer classes than the schema."""
    computer.objects.broken = CimError(faults.WBEM_E_INVALID_CLASS, "not in Windows PE")
    for call in (lambda: computer.client.query("SELECT * FROM T_Thing"), lambda: computer.client.get("T_Single")):
        with pytest.raises(WsmanFault) as fault:
            call()
        assert fault.value.is_not_found


def test_a_provider_error_is_no_absence(computer):
    for broken in (CimError(faults.WBEM_E_ACCESS_DENIED, "Access denied"), RuntimeError("boom")):
        computer.objects.broken = broken
        with pytest.raises(WsmanFault) as fault:
            computer.client.query("SELECT * FROM T_Thing")
        assert not fault.value.is_not_found
    assert "boom" in str(fault.value)


def test_identify_hides_the_version_from_strangers(computer):
    assert computer.client.identify() == IDENTITY
    status, answer = computer.server.handle(identify_request(), user=None)
    assert status == 200
    assert b"OS: 0.0.0 SP: 0.0 Stack: 3.0" in answer
    assert b"20348" not in answer
    request = envelope.build_request(ns.ACTION_GET, ns.class_uri("root/cimv2", "T_Single"), "")
    assert computer.server.handle(request, user=None) == (401, b"")


def test_utf16_requests_are_understood(computer):
    computer.objects.add("T_Single", Caption="Ünicode")
    request = envelope.build_request(ns.ACTION_GET, ns.class_uri("root/cimv2", "T_Single"), "").decode()
    for body, content_type in (
        (request.encode("utf-16"), "application/soap+xml;charset=UTF-16"),
        (request.encode("utf-16-le"), 'application/soap+xml; charset="utf-16"'),
        (request.encode("utf-16"), "application/soap+xml"),
        (request.encode(), "application/soap+xml;charset=UTF-8"),
    ):
        status, answer = computer.server.handle(body, user="osd", content_type=content_type)
        assert (status, "Ünicode" in answer.decode()) == (200, True)


def test_headers_that_must_be_understood(computer):
    request = envelope.build_request(ns.ACTION_GET, ns.class_uri("root/cimv2", "T_Single"), "").decode()
    computer.objects.add("T_Single", Caption="c")
    for header, expected in (
        ('<q:New xmlns:q="urn:q" s:mustUnderstand="true"/>', 500),
        ('<q:New xmlns:q="urn:q" s:mustUnderstand="1"/>', 500),
        ('<q:New xmlns:q="urn:q" s:mustUnderstand="false"/>', 200),
        ('<q:New xmlns:q="urn:q"/>', 200),
    ):
        body = request.replace("<s:Header>", f"<s:Header>{header}").encode()
        status, answer = computer.server.handle(body, user="osd")
        assert status == expected, header
        assert (b"s:MustUnderstand" in answer) == (expected == 500)
    locale = request.replace('xml:lang="en-US" s:mustUnderstand="false"', 'xml:lang="en-US" s:mustUnderstand="true"').encode()
    assert computer.server.handle(locale, user="osd")[0] == 500


@pytest.mark.parametrize("message_id", ["uuid:ABCdef01", "  spaced  ", "no-prefix", ""])
def test_the_message_id_goes_back_as_it_came(computer, message_id):
    request = envelope.build_request(ns.ACTION_GET, ns.class_uri("root/cimv2", "T_Single"), "", message_id="@@@")
    for resource in ("T_Single", "T_Nothing"):  # answers and faults
        body = request.replace(b"@@@", message_id.encode()).replace(b"T_Single", resource.encode())
        header = envelope.parse(computer.server.handle(body, user="osd")[1]).header
        assert header.relates_to == message_id.strip()


# --- WinRS ------------------------------------------------------------------------------------------------------------


def test_a_command_with_output_error_output_and_exit_code(computer):
    heard = []
    with computer.client.open_shell(directory="C:\\x", environment={"A b": "1<2", "P": "geheim"}) as shell:
        assert shell.run('echo "a" & b', on_output=lambda *news: heard.append(news)) == (0, b'"a" & b', b"err")
        assert shell.run("fail 2147942402")[0] == 0x80070002
    options = computer.shells.options[0]
    assert (options.user, options.directory, options.codepage, options.no_profile) == ("osd", "C:\\x", 65001, True)
    assert options.environment == {"A b": "1<2", "P": "geheim"}
    assert "geheim" not in repr(options)
    assert heard == [("stdout", b'"a" & b'), ("stderr", b"err")]
    assert computer.shells.closed == 1
    # open, two a command (command, receive), delete
    assert computer.client.requests == 6


def test_ended_commands_stay_in_their_shell_below_windows_quota(computer):
    with computer.client.open_shell() as shell:
        for dummy in range(9):
            shell.run("echo x")
        assert not shell.is_worn
        shell.run("echo x")
        assert shell.is_worn
        before = computer.client.requests
        for dummy in range(30):
            assert shell.run("echo x")[0] == 0
        # who goes on with a worn shell acknowledges each command
        assert computer.client.requests == before + 3 * 30


def test_a_service_that_wants_the_end_of_each_command_acknowledged_gets_it():
    computer = Computer(Limits(max_processes_per_shell=1))
    with computer.client.open_shell() as shell:
        for number in range(3):
            assert shell.run(f"echo {number}")[1] == str(number).encode()
        # open; two commands were refused once, told the end of the one before, and sent again
        assert computer.client.requests == 1 + 3 * 2 + 2 * 2
        shell.start("hang")
        with pytest.raises(WsmanFault, match="maximum number of concurrent processes"):
            shell.start("echo")


def test_arguments_are_joined_and_skip_cmd_shell_is_ignored(computer):
    with computer.client.open_shell() as shell:
        body = (
            f'<rsp:CommandLine xmlns:rsp="{ns.SHELL}"><rsp:Command>echo</rsp:Command><rsp:Arguments>a b</rsp:Arguments>'
            "<rsp:Arguments>c</rsp:Arguments></rsp:CommandLine>"
        )
        options = {"WINRS_SKIP_CMD_SHELL": "TRUE"}
        computer.client.request(ns.ACTION_COMMAND, ns.CMD_SHELL, body, {"ShellId": shell.id}, options)
    assert computer.shells.commands[0].line == "echo a b c"


@pytest.mark.parametrize("size", [1, 3, 4096, 700001])
def test_stdin_goes_in_pieces_under_the_limit(computer, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    with computer.client.open_shell() as shell:
        assert shell.run("cat", stdin=data) == (0, data, b"")
    assert computer.shells.commands[0].stdin_ended
    assert all(len(request) <= 512000 for request, dummy in computer.sent)


def test_a_command_that_ended_before_it_read_its_input(computer):
    with computer.client.open_shell() as shell:
        command_id = shell.start("fail 3")
        computer.shells.commands[0].closed_pipe = True
        shell.send(command_id, b"x")
        assert shell.receive(command_id) == ([], 3)


def test_output_larger_than_an_answer_comes_in_order():
    computer = Computer(max_envelope=16384)
    data = bytes(i % 251 for i in range(100000))
    with computer.client.open_shell() as shell:
        command_id = shell.start("quiet")
        command = computer.shells.commands[0]
        command.feed("stdout", data)
        command.feed("stderr", b"end")
        command.finish(7)
        got, exit_code = b"", None
        while exit_code is None:
            chunks, exit_code = shell.receive(command_id)
            got += b"".join(piece for name, piece in chunks if name == "stdout")
    assert got == data
    assert exit_code == 7
    assert all(len(answer) <= 16384 for dummy, answer in computer.sent)


def test_receive_without_news_is_no_end(computer):
    with computer.client.open_shell() as shell:
        command_id = shell.start("hang")
        assert shell.receive(command_id, 0.05) == ([], None)
        computer.shells.commands[0].feed("stdout", b"late")
        assert shell.receive(command_id, 5) == ([("stdout", b"late")], None)
        computer.shells.commands[0].finish(0)
        assert shell.receive(command_id, 5) == ([], 0)


def test_a_command_that_does_not_end_is_terminated(computer):
    with computer.client.open_shell() as shell:
        with pytest.raises(CommandTimeout, match="hang did not end within 0.05 seconds") as error:
            shell.run("hang /password:geheim", timeout=0.05)
        assert "geheim" not in str(error.value)
        assert computer.shells.commands[0].ended is not None


def test_a_lost_shell_says_so_and_closes_in_peace(computer):
    shell = computer.client.open_shell()
    computer.server.close()  # the computer restarts
    with pytest.raises(WsmanFault) as fault:
        shell.run("echo x")
    assert fault.value.is_shell_gone
    assert fault.value.code == 2150858843
    shell.close()
    assert computer.shells.closed == 1


def test_a_shell_belongs_to_its_user_not_to_the_connection(computer):
    shell = computer.client.open_shell()
    request = envelope.build_request(ns.ACTION_DELETE, ns.CMD_SHELL, "", selectors={"ShellId": shell.id})
    assert computer.server.handle(request, user="other")[0] == 500
    assert computer.server.handle(request, user="OSD")[0] == 200


def test_idle_shells_end(computer):
    computer.client.open_shell(idle_timeout=60)
    lasting = computer.client.open_shell()
    computer.now += 61
    lasting.run("echo x")
    assert computer.shells.closed == 1
    computer.now += 7201
    with pytest.raises(WsmanFault) as fault:
        lasting.run("echo x")
    assert fault.value.is_shell_gone


def test_the_quota_of_shells(computer):
    shells = [computer.client.open_shell() for dummy in range(30)]
    with pytest.raises(WsmanFault) as fault:
        computer.client.open_shell()
    assert fault.value.is_quota
    assert fault.value.is_retry_safe
    assert fault.value.code == faults.QUOTA_MAX_SHELLS
    shells[0].close()
    computer.client.open_shell()


def test_commands_count_against_the_operations_until_the_shell_is_deleted():
    computer = Computer(Limits(max_operations_per_user=10))
    with pytest.raises(WsmanFault) as fault, computer.client.open_shell() as shell:
        for dummy in range(20):
            shell.run("echo x")
    assert fault.value.is_quota
    assert len(computer.shells.commands) == 10


def test_a_shell_that_cannot_be_opened(computer):
    with pytest.raises(WsmanFault) as fault:
        computer.client.open_shell(directory="Z:\\")
    assert fault.value.code == 0x80070002


def test_a_waiting_receive_ends_when_the_command_is_terminated(computer):
    with computer.client.open_shell() as shell:
        command_id = shell.start("hang")
        timer = threading.Timer(0.1, shell.terminate, [command_id])
        timer.start()
        assert shell.receive(command_id, 20) == ([], 0xC000013A)
        timer.join()


def test_reading_the_limits(computer):
    content = computer.client.request(ns.ACTION_GET, ns.CONFIG, "")
    assert envelope.child_text(content, "MaxEnvelopeSizekb") == "500"
    assert envelope.child_text(envelope.child(content, "Winrs"), "MaxShellsPerUser") == "30"
