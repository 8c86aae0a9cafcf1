# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and broken input: nothing but protocol errors, faults and values may come out."""

from __future__ import annotations

import random

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import envelope, faults, wql
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.envelope import ProtocolError
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance
from wsman_fakes import SCHEMA, Computer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"\xff\xfe\x00",
        b"<a/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>',
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"/>',
        b"<a>" * 5000,
        b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>',
    ],
)
def test_what_is_no_envelope(body):
    with pytest.raises(ProtocolError):
        envelope.parse(body)
    status, answer = Computer().server.handle(body, user="osd")
    assert status == 500
    assert faults.parse(answer, status).code == faults.INVALID_HEADER


def test_entities_are_never_expanded():
    entities = "".join(f'<!ENTITY a{n} "&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};">' for n in range(1, 30))
    body = f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]><x>&a29;</x>'.encode()
    with pytest.raises(ProtocolError, match="document type"):
        envelope.parse(body)


def _seeds() -> list[tuple[bytes, bytes]]:
    computer = Computer()
    client = computer.client
    for number in range(3):
        inner = Instance("T_Inner", {"Word": "w", "Numbers": [1, 2]}, "root/cimv2")
        computer.objects.add("T_Thing", Name=f"n{number}", Size=number, Tags=["a", "b"], Inner=inner, On=True, Letter="C")
    client.identify()
    client.query("SELECT * FROM T_Thing WHERE Size >= 0")
    client.query("SELECT Name, Tags FROM T_Thing")
    client.get("T_Thing", {"Name": "n1"})
    client.invoke("T_Thing", "Make", {"Name": "x", "Bytes": [1]})
    with client.open_shell() as shell:
        shell.run("echo x", stdin=b"y")
    with pytest.raises(WsmanFault):
        client.get("T_Nothing")
    return computer.sent


def _mutate(rng: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for dummy in range(rng.randint(1, 4)):
        kind = rng.randrange(5)
        at = rng.randrange(len(data))
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(32, 127) for dummy in range(rng.randint(1, 5)))
        elif kind == 3:
            piece = bytes(data[at : at + rng.randint(1, 200)])
            data[at:at] = piece
        else:
            digits = [i for i, value in enumerate(data) if 48 <= value <= 57]
            if digits:
                data[rng.choice(digits)] = rng.choice(b"09-.e ")
        if not data:
            break
    return bytes(data)


def test_broken_answers_end_in_errors_that_callers_expect():
    rng = random.Random(20240229)
    answers = [answer for dummy, answer in _seeds()]
    seen = {"value": 0, "error": 0}
    for dummy in range(1200):
        answer = _mutate(rng, rng.choice(answers))
        client = Client(lambda dummy, answer=answer: (200, answer), SCHEMA, operation_timeout=1)
        for call in (
            lambda client=client: client.get("T_Thing", {"Name": "x"}),
            lambda client=client: client.invoke("T_Thing", "Make"),
            lambda client=client: client.identify(),
            lambda client=client: client.open_shell().id,
        ):
            try:
                call()
                seen["value"] += 1
            except (WsmanFault, ValueError):
                seen["error"] += 1
    assert min(seen.values()) > 200


def test_broken_requests_are_answered():
    rng = random.Random(4711)
    requests = [request for request, dummy in _seeds()]
    computer = Computer()
    statuses = set()
    for dummy in range(1500):
        status, answer = computer.server.handle(_mutate(rng, rng.choice(requests)), user="osd")
        statuses.add(status)
        content = envelope.parse(answer).content
        assert status == 200 or faults.is_fault(content)
        assert b"RuntimeError" not in answer
        assert b"KeyError" not in answer
        assert b"TypeError" not in answer
        assert b"AttributeError" not in answer
    assert statuses == {200, 500}


def test_broken_queries():
    rng = random.Random(99)
    words = ["a = 5", "b <> 'x'", "a LIKE '[x'", "b IS NULL", "(", ")", "AND", "OR", "NOT", "'", "b >= 0x5", "a < TRUE"]
    parsed = 0
    for dummy in range(4000):
        text = "SELECT * FROM X WHERE " + " ".join(rng.choice(words) for dummy in range(rng.randint(1, 6)))
        try:
            wql.parse(text).matches({"a": "x", "b": 5})
            parsed += 1
        except wql.WqlError:
            pass
    assert 300 < parsed < 3000
