# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults that the server answers, in the shape and with the codes that Windows gives them."""

from __future__ import annotations

from . import faults
from .envelope import HeaderError, ProtocolError
from .faults import FaultShape

#: Name and file of the provider that runs shells.
SHELL_PLUGIN = ("Shell cmd plugin", r"%systemroot%\system32\winrscmd.dll")


class CimError(Exception):
    """What a provider raises; ``wbem_code`` (``faults.WBEM_E_…``) decides the fault that goes out."""

    def __init__(self, wbem_code: int, message: str) -> None:
        super().__init__(message)
        self.wbem_code = wbem_code
        self.message = message


def bad_request(error: ProtocolError) -> FaultShape:
    """Return the fault for a request that breaks the protocol; for a bad header as recorded, else [unverified]."""
    if isinstance(error, HeaderError):
        return FaultShape(
            "The WS-Management service cannot process the request. The request contains one or more invalid SOAP headers. ",
            faults.INVALID_HEADER,
            "a:InvalidMessageInformationHeader",
            message=f"The WS-Management service cannot process the request. {error} ",
        )
    return FaultShape(
        "The WS-Management service cannot process the request because it is not valid.",
        faults.INVALID_HEADER,
        "w:SchemaValidationError",
        message=str(error),
    )


def destination_unreachable(uri: str) -> FaultShape:
    """Return the fault for a resource that is not served here."""
    return FaultShape(
        "The WS-Management service cannot process the request. The resource URI is missing or it has an incorrect format.",
        2150858754,
        "a:DestinationUnreachable",
        message=f"The resource URI {uri[:200]!r} is not served here.",
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidResourceURI",
    )


def timed_out() -> FaultShape:
    """Return the fault for an operation that did not end in its time; normal for Receive (recorded)."""
    return FaultShape(
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
        faults.OPERATION_TIMEDOUT,
        "w:TimedOut",
        sender=False,
    )


def unexpected_selectors(message: str) -> FaultShape:
    """Return the fault for a shell, command or key that does not exist (recorded for commands)."""
    return FaultShape(
        "The WS-Management service cannot process the request because the request contained invalid selectors for the resource. ",
        faults.UNEXPECTED_SELECTORS,
        "w:InvalidSelectors",
        message=message,
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/UnexpectedSelectors",
    )


def insufficient_selectors(names: list[str]) -> FaultShape:
    """Return the fault for keys that were not given [knowledge: ERROR_WSMAN_INSUFFICIENT_SELECTORS]."""
    return FaultShape(
        "The WS-Management service cannot process the request because the request did not contain all required selectors.",
        faults.INSUFFICIENT_SELECTORS,
        "w:InvalidSelectors",
        message=f"Missing selectors: {', '.join(names)}.",
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InsufficientSelectors",
    )


def parameter_fault() -> FaultShape:
    """Return the fault for a wrong parameter of a shell operation (recorded: Receive without a command)."""
    return FaultShape(
        "The parameter is incorrect. ",
        faults.INVALID_PARAMETER,
        "w:InvalidParameter",
        kind="provider",
        provider=SHELL_PLUGIN[0],
        provider_path=SHELL_PLUGIN[1],
        detail_uri="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidValue",
    )


def shell_error(error: OSError) -> FaultShape:
    """A Win32 error of the shell as HRESULT: 2 is 0x80070002, as recorded."""
    number = getattr(error, "winerror", None) or error.errno or 0
    return FaultShape(
        error.strerror or str(error),
        0x80070000 | (number & 0xFFFF),
        "w:InternalError",
        sender=False,
        kind="provider",
        provider=SHELL_PLUGIN[0],
        provider_path=SHELL_PLUGIN[1],
    )


def quota_fault(code: int, message: str) -> FaultShape:
    """Return the fault for a limit that is reached, in the shape recorded for the number of shells."""
    return FaultShape(
        f"The WS-Management service cannot process the request. {message}",
        code,
        "w:QuotaLimit",
        kind="wmi",
        message=f"The WS-Management service cannot process the request. {message}",
        cim_status=27,
    )


def filter_fault(message: str, wbem_code: int) -> FaultShape:
    """Windows answers CANNOT_PROCESS_FILTER outside and inside for a class that is not there (recorded on 2008 R2)."""
    nested = wbem_code if wbem_code == faults.WBEM_E_INVALID_NAMESPACE else faults.CANNOT_PROCESS_FILTER
    return FaultShape(
        "The data source could not process the filter. The filter might be missing or it might be invalid. "
        "Change the filter "
        "and try the request again.  ",
        faults.CANNOT_PROCESS_FILTER,
        "n:CannotProcessFilter",
        kind="provider",
        message=message,
        nested_code=nested,
    )


def cim_fault(error: CimError) -> FaultShape:
    """Turn a provider's error into the shape that Windows gives it.

    What is not there is RESOURCE_NOT_FOUND around the provider's own code; everything else comes as MSFT_WmiError.
    """
    code = error.wbem_code & 0xFFFFFFFF
    if code in (faults.WBEM_E_NOT_FOUND, faults.WBEM_E_INVALID_CLASS, faults.WBEM_E_INVALID_NAMESPACE):
        return FaultShape(
            "The WS-Management service cannot process the request. The service cannot find the resource "
            "identified by the "
            "resource URI and selectors. ",
            faults.RESOURCE_NOT_FOUND,
            "a:DestinationUnreachable",
            kind="provider",
            message=error.message,
            nested_code=faults.RESOURCE_NOT_FOUND if code == faults.WBEM_E_NOT_FOUND else code,
        )
    return FaultShape(
        error.message,
        code,
        "w:InternalError",
        sender=False,
        kind="wmi",
        message=error.message,
        cim_status=faults.CIM_STATUS.get(code, 1),
    )


def internal_error(error: Exception) -> FaultShape:
    """Return the fault for an error that no provider should let out."""
    return FaultShape(
        "The WS-Management service cannot process the request because of an internal error.",
        1359,
        "w:InternalError",
        sender=False,
        message=f"{type(error).__name__}: {error}",
    )
