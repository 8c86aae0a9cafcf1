# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults: one exception for the four shapes in which Windows (and OMI) write them, and a builder for the same shapes.

1. ``f:WSManFault`` with a message; 2. the same around ``f:ProviderFault`` with the real cause inside;
3. ``p:MSFT_WmiError``; 4. no detail at all. The innermost code is the one that says what happened
(ws-management.md, section 5.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from . import namespaces as ns
from .envelope import ProtocolError, build_answer, child, child_text, escape, escape_attribute, local_name
from .envelope import parse as parse_envelope

OPERATION_TIMEDOUT = 0x80338029
UNEXPECTED_SELECTORS = 0x8033805B
INSUFFICIENT_SELECTORS = 0x8033805A
RESOURCE_NOT_FOUND = 0x80338000
CANNOT_PROCESS_FILTER = 0x8033801A
INVALID_ENUMERATION_CONTEXT = 0x8033801B
INVALID_HEADER = 0x8033800F
ENVELOPE_TOO_LARGE = 2150859025
ANSWER_TOO_LARGE = 2150858824
QUOTA_MAX_SHELLS = 0x803381A5
QUOTA_MAX_OPERATIONS = 0x803381A6
OPERATION_ABORTED = 995
INVALID_PARAMETER = 87

WBEM_E_NOT_FOUND = 0x80041002
WBEM_E_ACCESS_DENIED = 0x80041003
WBEM_E_INVALID_CLASS = 0x80041010
WBEM_E_INVALID_NAMESPACE = 0x8004100E
WBEM_E_INVALID_PARAMETER = 0x80041008
WBEM_E_INVALID_METHOD = 0x8004102E
WBEM_E_INVALID_QUERY = 0x80041017
WBEM_E_NOT_SUPPORTED = 0x8004100C
WBEM_E_ALREADY_EXISTS = 0x80041019
WBEM_E_FAILED = 0x80041001

#: CIM status (DSP0223) of WBEM codes, for faults of the MSFT_WmiError shape.
CIM_STATUS = {
    WBEM_E_NOT_FOUND: 6,
    WBEM_E_INVALID_CLASS: 5,
    WBEM_E_INVALID_NAMESPACE: 3,
    WBEM_E_INVALID_PARAMETER: 4,
    WBEM_E_INVALID_METHOD: 17,
    WBEM_E_INVALID_QUERY: 15,
    WBEM_E_NOT_SUPPORTED: 7,
    WBEM_E_ALREADY_EXISTS: 11,
    WBEM_E_ACCESS_DENIED: 2,
    WBEM_E_FAILED: 1,
}

_NOT_FOUND = frozenset([RESOURCE_NOT_FOUND, WBEM_E_NOT_FOUND, WBEM_E_INVALID_CLASS, WBEM_E_INVALID_NAMESPACE])
_QUOTA = frozenset([QUOTA_MAX_SHELLS, QUOTA_MAX_OPERATIONS, 0x803381A7, 0x803381A8, 0x803381AB, *range(0x803381E4, 0x803381EB)])
_SHELL_GONE = frozenset([UNEXPECTED_SELECTORS, OPERATION_ABORTED, 0x800703FA])
_CIM_NOT_FOUND = frozenset([3, 5, 6])


class WsmanFault(Exception):
    """A fault that the other side answered. Decide on its codes, never on its texts: they are localised.

    Attributes:
        code: the innermost code of WSManFault, ProviderFault or MSFT_WmiError, unsigned; None where there is no detail.
        hresult: the HRESULT of MSFT_WmiError's MessageID, else ``code``.
        wmi_status: a WBEM code (0x8004…) or MSFT_WmiError's CIM status (1 to 29).
        subcode: the local name of the SOAP subcode, such as ``TimedOut``.
        reason: the SOAP reason.
        provider_text: the innermost message, '' where there is none.
        status: the HTTP status.
        filter_checked: set by a client that has parsed the query itself: a refused filter can then only mean that the
            class, the namespace or a column is not there.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: int | None = None,
        hresult: int | None = None,
        wmi_status: int | None = None,
        subcode: str = "",
        provider_text: str = "",
        status: int = 500,
    ) -> None:
        self.code = code
        self.hresult = hresult if hresult is not None else code
        self.wmi_status = wmi_status
        self.subcode = subcode
        self.reason = reason
        self.provider_text = provider_text
        self.status = status
        self.filter_checked = False
        super().__init__(reason)

    def __str__(self) -> str:
        text = " ".join((self.provider_text or self.reason or "no reason given").split())
        numbers = [f"{label}{value:#x}" for label, value in self._numbers()]
        return f"{text} ({', '.join(numbers)})"

    def _numbers(self) -> list[tuple[str, int]]:
        numbers = [("WS-Management fault ", self.code)] if self.code is not None else [("HTTP status ", self.status)]
        if self.hresult not in (None, self.code):
            numbers.append(("HRESULT ", self.hresult))
        if self.wmi_status not in (None, self.code, self.hresult):
            numbers.append(("WMI status ", self.wmi_status))
        return [(label, value) for label, value in numbers if value is not None]

    @property
    def _codes(self) -> frozenset[int]:
        return frozenset(value for value in (self.code, self.hresult, self.wmi_status) if value is not None)

    @property
    def win32(self) -> int | None:
        """The Win32 error in the code, also where it comes as an HRESULT (0x8007…); None for every other code."""
        if self.code is None or (self.code >= 0x10000 and self.code >> 16 != 0x8007):
            return None
        return self.code & 0xFFFF

    @property
    def is_not_found(self) -> bool:
        """The instance, class or namespace is not there."""
        if self._codes & _NOT_FOUND or self.wmi_status in _CIM_NOT_FOUND:
            return True
        return self.filter_checked and CANNOT_PROCESS_FILTER in self._codes

    @property
    def is_timeout(self) -> bool:
        """The operation did not end within its OperationTimeout.

        For Receive that is normal; for Invoke the outcome is unknown.
        """
        return OPERATION_TIMEDOUT in self._codes

    @property
    def is_shell_gone(self) -> bool:
        """The shell or command is no longer known there.

        The computer restarted, the shell was idle too long, or its user's registry hive was unloaded.
        """
        return bool(self._codes & _SHELL_GONE)

    @property
    def is_quota(self) -> bool:
        """A limit of shells or operations is reached: close own shells, wait, try again."""
        return bool(self._codes & _QUOTA) or self.subcode == "QuotaLimit"

    @property
    def is_retry_safe(self) -> bool:
        """The request was refused before it had any effect, so that the same request may be sent again."""
        return self.is_quota or bool(self._codes & {170, INVALID_ENUMERATION_CONTEXT})


# --- parsing ----------------------------------------------------------------------------------------------------------


def parse(body: bytes, status: int = 500) -> WsmanFault:
    """Return the fault in an answer. What is no fault envelope becomes one with the HTTP status and no code."""
    try:
        message = parse_envelope(body)
    except ProtocolError:
        return WsmanFault(_http_reason(status, body), status=status)
    content = message.content
    if content is None or local_name(content.tag) != "Fault":
        return WsmanFault(_http_reason(status, body), status=status)
    return fault_from_element(content, status)


def _http_reason(status: int, body: bytes) -> str:
    kind = "an empty answer" if not body else "an answer that is no WS-Management fault"
    return f"HTTP status {status} with {kind}"


def is_fault(element: Element | None) -> bool:
    """Tell whether the first element of a body is a fault."""
    return element is not None and element.tag == f"{{{ns.SOAP}}}Fault"


def fault_from_element(element: Element, status: int = 500) -> WsmanFault:
    """Return the exception for a ``s:Fault`` element of any of the four shapes."""
    subcode = child_text(child(child(element, "Code"), "Subcode"), "Value").strip().rpartition(":")[2]
    reason = child_text(child(element, "Reason"), "Text").strip()
    detail = child(element, "Detail")
    fault = child(detail, "WSManFault")
    if fault is not None:
        return _from_wsman_fault(fault, reason, subcode, status)
    wmi_error = child(detail, "MSFT_WmiError")
    if wmi_error is not None:
        return _from_wmi_error(wmi_error, reason, subcode, status)
    return WsmanFault(reason, subcode=subcode, status=status)


def _from_wsman_fault(element: Element, reason: str, subcode: str, status: int) -> WsmanFault:
    code: int | None = None
    text = ""
    wmi_status: int | None = None
    for item in element.iter():
        name = local_name(item.tag)
        if name == "WSManFault":
            found = _number(item.get("Code", ""))
            code = found if found is not None else code
        if name in ("Message", "ProviderFault") and (item.text or "").strip():
            text = (item.text or "").strip()
        if name == "StatusCode":
            wmi_status = _number((item.text or "").strip())
    if wmi_status is None and code is not None and code >> 16 == 0x8004:
        wmi_status = code
    return WsmanFault(reason, code=code, wmi_status=wmi_status, subcode=subcode, provider_text=text, status=status)


_HRESULT = re.compile(r"HRESULT\s+0x([0-9A-Fa-f]{1,8})")


def _from_wmi_error(element: Element, reason: str, subcode: str, status: int) -> WsmanFault:
    found = _HRESULT.search(child_text(element, "MessageID"))
    hresult = int(found[1], 16) if found else None
    code = _number(child_text(element, "error_Code").strip())
    return WsmanFault(
        reason,
        code=code if code else hresult,
        hresult=hresult,
        wmi_status=_number(child_text(element, "CIMStatusCode").strip()),
        subcode=subcode,
        provider_text=child_text(element, "Message").strip(),
        status=status,
    )


def _number(text: str) -> int | None:
    text = text.strip()
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        return None
    return int(text) & 0xFFFFFFFF


# --- building ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultShape:
    """What a server answers.

    ``kind`` is ``wsman``, ``provider``, ``wmi`` or ``plain``: the four shapes, in the order above.
    """

    reason: str
    code: int = 0
    subcode: str = "w:InternalError"
    sender: bool = True
    kind: str = "wsman"
    message: str = ""
    provider: str = "WMI Provider"
    provider_path: str = r"%systemroot%\system32\WsmWmiPl.dll"
    nested_code: int = 0
    cim_status: int = 1
    detail_uri: str = ""


_FAULT_ACTIONS = {
    "wsman": "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
    "addressing": f"{ns.ADDRESSING}/fault",
    "enumeration": f"{ns.ENUMERATION}/fault",
    "transfer": f"{ns.TRANSFER}/fault",
}


def build(shape: FaultShape, relates_to: str = "", machine: str = "") -> bytes:
    """Return the fault's envelope; the HTTP status that belongs to it is 500."""
    prefix = shape.subcode.partition(":")[0]
    action = {"a": "addressing", "n": "enumeration", "x": "transfer"}.get(prefix, "wsman")
    subcode = f"<s:Subcode><s:Value>{escape(shape.subcode)}</s:Value></s:Subcode>"
    if shape.subcode.startswith("s:"):  # a SOAP fault proper, such as s:MustUnderstand
        code = f"<s:Code><s:Value>{escape(shape.subcode)}</s:Value></s:Code>"
    else:
        code = f"<s:Code><s:Value>s:{'Sender' if shape.sender else 'Receiver'}</s:Value>{subcode}</s:Code>"
    body = (
        f'<s:Fault>{code}<s:Reason><s:Text xml:lang="en-US">{escape(shape.reason)}</s:Text></s:Reason>{_detail(shape, machine)}</s:Fault>'
    )
    return build_answer(_FAULT_ACTIONS[action], relates_to, body)


def _detail(shape: FaultShape, machine: str) -> str:
    if shape.kind == "plain":
        return ""
    if shape.kind == "wmi":
        return f"<s:Detail>{_wmi_error(shape)}</s:Detail>"
    detail_uri = f"<w:FaultDetail>{escape(shape.detail_uri)}</w:FaultDetail>" if shape.detail_uri else ""
    message = escape(shape.message or shape.reason)
    if shape.kind == "provider":
        inner = f"{_wsman_fault(shape.nested_code, machine, message)}" if shape.nested_code else message
        message = (
            f'<f:ProviderFault provider="{escape_attribute(shape.provider)}" '
            f'path="{escape_attribute(shape.provider_path)}">'
            f"{inner}</f:ProviderFault>"
        )
    return f"<s:Detail>{detail_uri}{_wsman_fault(shape.code, machine, message)}</s:Detail>"


def _wsman_fault(code: int, machine: str, message: str) -> str:
    return (
        f'<f:WSManFault xmlns:f="{ns.WSMAN_FAULT}" Code="{code}" Machine="{escape_attribute(machine)}">'
        f"<f:Message>{message}</f:Message></f:WSManFault>"
    )


def _wmi_error(shape: FaultShape) -> str:
    uri = escape_attribute(f"{ns.CIM_SCHEMA}/MSFT_WmiError")
    return (
        f'<p:MSFT_WmiError b:IsCIM_Error="true" xmlns:b="{ns.CIM_BINDING}" xmlns:cim="{ns.CIM}" xmlns:p="{uri}" '
        f'xmlns:xsi="{ns.XSI}" xsi:type="p:MSFT_WmiError_Type">'
        f'<p:CIMStatusCode xsi:type="cim:cimUnsignedInt">{shape.cim_status}</p:CIMStatusCode>'
        f'<p:Message xsi:type="cim:cimString">{escape(shape.message or shape.reason)}</p:Message>'
        f'<p:MessageID xsi:type="cim:cimString">HRESULT {shape.code:#010x}</p:MessageID>'
        f'<p:error_Category xsi:type="cim:cimUnsignedInt">0</p:error_Category>'
        f'<p:error_Code xsi:type="cim:cimUnsignedInt">{shape.code}</p:error_Code>'
        f'<p:error_Type xsi:type="cim:cimString">HRESULT</p:error_Type>'
        f"</p:MSFT_WmiError>"
    )
