# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""XML namespaces, actions and resource URIs of WS-Management as Windows speaks it (MS-WSMV, DSP0226, DSP0230)."""

from __future__ import annotations

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
WSMAN_MS = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
WSMAN_FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/common"
CIM_BINDING = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
CIM_SCHEMA = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XML = "http://www.w3.org/XML/1998/namespace"

ANONYMOUS = f"{ADDRESSING}/role/anonymous"
WQL_DIALECT = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi"
CMD_SHELL = f"{SHELL}/cmd"

ACTION_GET = f"{TRANSFER}/Get"
ACTION_PUT = f"{TRANSFER}/Put"
ACTION_CREATE = f"{TRANSFER}/Create"
ACTION_DELETE = f"{TRANSFER}/Delete"
ACTION_ENUMERATE = f"{ENUMERATION}/Enumerate"
ACTION_PULL = f"{ENUMERATION}/Pull"
ACTION_RELEASE = f"{ENUMERATION}/Release"
ACTION_COMMAND = f"{SHELL}/Command"
ACTION_SEND = f"{SHELL}/Send"
ACTION_RECEIVE = f"{SHELL}/Receive"
ACTION_SIGNAL = f"{SHELL}/Signal"

SIGNAL_TERMINATE = f"{SHELL}/signal/terminate"
COMMAND_RUNNING = f"{SHELL}/CommandState/Running"
COMMAND_DONE = f"{SHELL}/CommandState/Done"

#: The prefixes every envelope declares; the letters are Windows' own.
PREFIXES = {
    "s": SOAP,
    "a": ADDRESSING,
    "x": TRANSFER,
    "n": ENUMERATION,
    "w": WSMAN,
    "p": WSMAN_MS,
}


def class_uri(namespace: str, class_name: str) -> str:
    """Return the resource URI of a class; ``*`` as class is the target of a query over the namespace."""
    return f"{WMI}/{namespace.strip('/')}/{class_name}"


def parse_class_uri(uri: str) -> tuple[str, str] | None:
    """Return namespace and class of a class URI, or None for another resource. Windows varies the case of both."""
    lowered = uri.lower()
    if not lowered.startswith(f"{WMI}/"):
        return None
    namespace, dummy, class_name = uri[len(WMI) + 1 :].rpartition("/")
    return (namespace, class_name) if namespace and class_name else None


def local_name(tag: str) -> str:
    """Return the name without its ``{namespace}``."""
    return tag.rpartition("}")[2]


def namespace_of(tag: str) -> str:
    """Return the namespace of an ElementTree tag, '' where it has none."""
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""
