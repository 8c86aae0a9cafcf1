# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults: the four shapes, built and parsed, and what their codes mean."""

from __future__ import annotations

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import FaultShape, WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Schema


@pytest.mark.parametrize(
    ("shape", "code", "hresult", "wmi_status", "text"),
    [
        (FaultShape("r", 2150858793, "w:TimedOut", message="m"), 2150858793, 2150858793, None, "m"),
        (FaultShape("r", 5, kind="provider", message="denied"), 5, 5, None, "denied"),
        (
            FaultShape("r", 2150858752, kind="provider", message="inner", nested_code=0x80041010),
            0x80041010,
            0x80041010,
            0x80041010,
            "inner",
        ),
        (FaultShape("r", 0x803381A5, "w:QuotaLimit", kind="wmi", message="q", cim_status=27), 0x803381A5, 0x803381A5, 27, "q"),
        (FaultShape("r", kind="plain"), None, None, None, ""),
    ],
)
def test_shapes(shape, code, hresult, wmi_status, text):
    fault = faults.parse(faults.build(shape, "uuid:1", "MACHINE"), 500)
    assert (fault.code, fault.hresult, fault.wmi_status, fault.provider_text) == (code, hresult, wmi_status, text)
    assert fault.subcode == shape.subcode.partition(":")[2]
    assert fault.reason == "r"


@pytest.mark.parametrize(
    ("codes", "properties"),
    [
        ({"code": 0x80338000}, {"is_not_found"}),
        ({"code": 0x80041002}, {"is_not_found"}),
        ({"code": 0x8004100E}, {"is_not_found"}),
        ({"code": 0x80041010}, {"is_not_found"}),
        ({"code": 1, "wmi_status": 6}, {"is_not_found"}),
        ({"code": 1, "wmi_status": 4}, set()),
        ({"code": 0x8033801A}, set()),
        ({"code": 2150858793}, {"is_timeout"}),
        ({"code": 2150858843}, {"is_shell_gone"}),
        ({"code": 0x800703FA}, {"is_shell_gone"}),
        ({"code": 995}, {"is_shell_gone"}),
        ({"code": 0x803381A6}, {"is_quota", "is_retry_safe"}),
        ({"code": 2150859173}, {"is_quota", "is_retry_safe"}),
        ({"code": 5}, set()),
        ({}, set()),
    ],
)
def test_meanings(codes, properties):
    fault = WsmanFault("r", **codes)
    names = ("is_not_found", "is_timeout", "is_shell_gone", "is_quota", "is_retry_safe")
    assert {name for name in names if getattr(fault, name)} == properties


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"\xff\xfe", b"<a", b"x" * 10])
def test_what_is_no_fault_keeps_the_http_status(body):
    fault = faults.parse(body, 503)
    assert (fault.code, fault.status) == (None, 503)
    assert "503" in str(fault)


def test_the_text_names_the_number():
    fault = WsmanFault("reason", code=0x80338029, provider_text=" what\n happened ")
    assert str(fault) == "what happened (WS-Management fault 0x80338029)"


@pytest.mark.parametrize("uri", ["root/microsoft/windows/storage", "root/standardcimv2"])
def test_the_namespace_of_a_wmi_error_is_the_providers(uri):
    body = faults.build(FaultShape("r", 0x80041002, kind="wmi", message="m", cim_status=6))
    body = body.replace(
        b"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2", f"http://schemas.microsoft.com/wbem/wsman/1/wmi/{uri}".encode()
    )
    fault = faults.parse(body, 500)
    assert (fault.hresult, fault.wmi_status, fault.is_not_found) == (0x80041002, 6, True)


def test_a_fault_with_http_200_is_a_fault():
    body = faults.build(FaultShape("r", 0x80338000))
    with pytest.raises(WsmanFault) as fault:
        Client(lambda dummy: (200, body), Schema({})).get("X")
    assert fault.value.is_not_found


@pytest.mark.parametrize(("code", "win32"), [(5, 5), (0x800700AA, 170), (0x80338029, None), (None, None)])
def test_win32(code, win32):
    assert WsmanFault("r", code=code).win32 == win32
