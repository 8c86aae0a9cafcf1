# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WMI through COM's typed interfaces: the narrow interface ``providers.Wmi`` on Windows.

IWbemServices, not the scripting library: every value comes with its CIM type, and a boot image needs no scripting component. One
thread with COM serves a queue. Windows' WMI knows threads, Wine's does not [wine]; a thread of its own also makes a call replaceable:
one that takes longer than ``PATIENCE`` gets a fresh thread beside it for everybody else, one that outlives its limit is given up.

Security as Windows asks for (and CPython's own ``_wmi`` does): impersonation for the process, a blanket on each services pointer.
Needs Windows and comtypes; nothing else in the agent imports comtypes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# The multi-threaded apartment, before comtypes initialises COM for the importing thread.
sys.coinit_flags = 0  # type: ignore[attr-defined]

import ctypes  # noqa: E402
from ctypes import POINTER, byref, c_int, c_long, c_ulong, c_void_p, c_wchar_p, memmove, sizeof  # noqa: E402

try:
    import comtypes
    from comtypes import BSTR, COMMETHOD, GUID, HRESULT, IUnknown
    from comtypes.automation import VARIANT, VT_ARRAY, VT_BOOL, VT_BSTR, VT_I4, VT_R8, VT_UI1
    from comtypes.safearray import _midlSAFEARRAY
except ImportError:
    # COM exists on Windows alone. Elsewhere this module can be looked at (ansible-test imports every one), never used.
    BSTR = HRESULT = IUnknown = VARIANT = c_void_p
    VT_ARRAY = VT_BOOL = VT_BSTR = VT_I4 = VT_R8 = VT_UI1 = 0

    def _nothing(*given: object) -> None:
        """Stand in for what comtypes makes of these arguments."""

    COMMETHOD = GUID = _midlSAFEARRAY = _nothing

from .call_thread import CallThread  # noqa: E402
from .providers import WmiClass, WmiError, WmiMember, WmiMethod, WmiObject, WmiValue  # noqa: E402

#: Seconds after which a call no longer keeps others waiting.
PATIENCE = 2.0
#: Seconds after which a call is given up; below the minute that clients wait at most.
LIMIT = 45.0

_WBEM_E_INVALID_METHOD = 0x8004102E
_WBEM_E_NOT_FOUND = 0x80041002
_WBEM_S_NO_ERROR = 0
_WBEM_S_TIMEDOUT = 0x40004
_WBEM_FLAG_FORWARD_ONLY_AND_IMMEDIATELY = 0x30
_WBEM_FLAG_NONSYSTEM_ONLY = 0x40
_WBEM_FLAG_UPDATE_ONLY, _WBEM_FLAG_CREATE_ONLY = 1, 2
_RPC_E_TOO_LATE = 0x80010119
_E_NOINTERFACE = 0x80004002
_CIM_ARRAY = 0x2000
_CIM_STRING, _CIM_BOOLEAN, _CIM_OBJECT, _CIM_REAL32, _CIM_REAL64 = 8, 11, 13, 4, 5
_CIM_UINT8, _CIM_SINT64, _CIM_UINT64, _CIM_DATETIME, _CIM_REFERENCE = 17, 20, 21, 101, 102


def _method(name: str, *arguments: Any) -> Any:
    return COMMETHOD([], HRESULT, name, *(([], kind) for kind in arguments))


def _unused(*names: str) -> list[Any]:
    """Methods that only keep their place in the table."""
    return [_method(name) for name in names]


class _IWbemQualifierSet(IUnknown):
    _iid_ = GUID("{dc12a680-737f-11cf-884d-00aa004b2e24}")
    _methods_ = [_method("Get", c_wchar_p, c_long, POINTER(VARIANT), POINTER(c_long))]


class _IWbemClassObject(IUnknown):
    _iid_ = GUID("{dc12a681-737f-11cf-884d-00aa004b2e24}")


_Object: Any = POINTER(_IWbemClassObject)
_Qualifiers: Any = POINTER(_IWbemQualifierSet)
_IWbemClassObject._methods_ = [
    _method("GetQualifierSet", POINTER(POINTER(_IWbemQualifierSet))),
    _method("Get", c_wchar_p, c_long, POINTER(VARIANT), POINTER(c_long), POINTER(c_long)),
    _method("Put", c_wchar_p, c_long, POINTER(VARIANT), c_long),
    *_unused("Delete", "GetNames"),
    _method("BeginEnumeration", c_long),
    _method("Next", c_long, POINTER(BSTR), POINTER(VARIANT), POINTER(c_long), POINTER(c_long)),
    _method("EndEnumeration"),
    _method("GetPropertyQualifierSet", c_wchar_p, POINTER(POINTER(_IWbemQualifierSet))),
    *_unused("Clone", "GetObjectText", "SpawnDerivedClass"),
    _method("SpawnInstance", c_long, POINTER(_Object)),
    *_unused("CompareTo", "GetPropertyOrigin", "InheritsFrom"),
    _method("GetMethod", c_wchar_p, c_long, POINTER(_Object), POINTER(_Object)),
    *_unused("PutMethod", "DeleteMethod"),
    _method("BeginMethodEnumeration", c_long),
    _method("NextMethod", c_long, POINTER(BSTR), POINTER(_Object), POINTER(_Object)),
    _method("EndMethodEnumeration"),
    _method("GetMethodQualifierSet", c_wchar_p, POINTER(POINTER(_IWbemQualifierSet))),
]


class _IEnumWbemClassObject(IUnknown):
    _iid_ = GUID("{027947e1-d731-11ce-a357-000000000001}")
    _methods_ = [*_unused("Reset"), _method("Next", c_long, c_ulong, POINTER(_Object), POINTER(c_ulong))]


_Rows: Any = POINTER(_IEnumWbemClassObject)


class _IWbemServices(IUnknown):
    _iid_ = GUID("{9556dc99-828c-11cf-a37e-00aa003240c7}")
    _methods_ = [
        *_unused("OpenNamespace", "CancelAsyncCall", "QueryObjectSink"),
        _method("GetObject", BSTR, c_long, c_void_p, POINTER(_Object), c_void_p),
        *_unused("GetObjectAsync", "PutClass", "PutClassAsync", "DeleteClass", "DeleteClassAsync", "CreateClassEnum"),
        *_unused("CreateClassEnumAsync"),
        _method("PutInstance", _Object, c_long, c_void_p, c_void_p),
        *_unused("PutInstanceAsync"),
        _method("DeleteInstance", BSTR, c_long, c_void_p, c_void_p),
        *_unused("DeleteInstanceAsync", "CreateInstanceEnum", "CreateInstanceEnumAsync"),
        _method("ExecQuery", BSTR, BSTR, c_long, c_void_p, POINTER(POINTER(_IEnumWbemClassObject))),
        *_unused("ExecQueryAsync", "ExecNotificationQuery", "ExecNotificationQueryAsync"),
        _method("ExecMethod", BSTR, BSTR, c_long, c_void_p, _Object, POINTER(_Object), c_void_p),
    ]


class _IWbemLocator(IUnknown):
    _iid_ = GUID("{dc12a687-737f-11cf-884d-00aa004b2e24}")
    _methods_ = [
        _method("ConnectServer", BSTR, BSTR, BSTR, BSTR, c_long, BSTR, c_void_p, POINTER(POINTER(_IWbemServices))),
    ]


_WBEM_LOCATOR = GUID("{4590f811-1d3a-11d0-891f-00aa004b2e24}")


class ComWmi:
    """``providers.Wmi`` on the computer's own WMI."""

    def __init__(self, *, patience: float = PATIENCE, limit: float = LIMIT) -> None:
        self._thread = CallThread(_begin, _run, patience=patience, limit=limit)

    def query(self, namespace: str, text: str) -> Sequence[WmiObject]:
        """Run a WQL query."""
        return self._thread.call(lambda session: session.query(namespace, text), text)

    def get(self, namespace: str, path: str) -> WmiObject:
        """Return one instance."""
        return self._thread.call(lambda session: session.get(namespace, path), path)

    def class_definition(self, namespace: str, class_name: str) -> WmiClass:
        """Return a class."""
        return self._thread.call(lambda session: session.class_definition(namespace, class_name), class_name)

    def put(self, namespace: str, class_name: str, path: str, values: Mapping[str, WmiValue]) -> None:
        """Write an instance; without ``path`` a new one is created."""
        self._thread.call(lambda session: session.put(namespace, class_name, path, values), path or class_name)

    def delete(self, namespace: str, path: str) -> None:
        """Delete an instance."""
        self._thread.call(lambda session: session.delete(namespace, path), path)

    def invoke(self, namespace: str, class_name: str, path: str, method: str, arguments: Mapping[str, WmiValue]) -> WmiObject:
        """Call a method."""
        return self._thread.call(lambda session: session.invoke(namespace, class_name, path, method, arguments), f"{path}.{method}")


def _run(work: Callable[[_Session], Any], session: _Session) -> Any:
    """Do the work; only plain data leaves the thread, no COM pointer in a traceback."""
    try:
        return work(session)
    except comtypes.COMError as error:
        raise WmiError(error.hresult, str(error.text or "WMI")) from None
    except OSError as error:  # what ctypes makes of an HRESULT
        raise WmiError(getattr(error, "winerror", 0) or 0x80004005, str(error)) from None


def _begin() -> _Session:
    comtypes.CoInitializeEx(comtypes.COINIT_MULTITHREADED)
    return _Session()


# --- COM --------------------------------------------------------------------------------------------------------------


class _Session:
    """COM pointers of one thread."""

    def __init__(self) -> None:
        self.given_up: Callable[[], bool] = lambda: False
        self._locator: Any = None
        self._services: dict[str, Any] = {}

    def _connect(self, namespace: str) -> Any:
        key = namespace.lower()
        if key not in self._services:
            if self._locator is None:
                _secure_process()
                self._locator = comtypes.CoCreateInstance(_WBEM_LOCATOR, interface=_IWbemLocator)
            services = POINTER(_IWbemServices)()
            self._locator.ConnectServer(namespace.replace("/", "\\"), None, None, None, 0, None, None, byref(services))
            _secure(services)
            self._services[key] = services
        return self._services[key]

    def query(self, namespace: str, text: str) -> list[WmiObject]:
        rows = _Rows()
        self._connect(namespace).ExecQuery("WQL", text, _WBEM_FLAG_FORWARD_ONLY_AND_IMMEDIATELY, None, byref(rows))
        found = []
        while not self.given_up():
            row, count = _Object(), c_ulong()
            state = rows.Next(1000, 1, byref(row), byref(count))
            if count.value:
                found.append(_read(row))
            elif state != _WBEM_S_TIMEDOUT:
                break
        return found

    def _object(self, namespace: str, path: str) -> Any:
        found = _Object()
        self._connect(namespace).GetObject(path, 0, None, byref(found), None)
        if not found:
            raise WmiError(_WBEM_E_NOT_FOUND, f"There is no {path}")
        return found

    def get(self, namespace: str, path: str) -> WmiObject:
        return _read(self._object(namespace, path))

    def class_definition(self, namespace: str, class_name: str) -> WmiClass:
        definition = self._object(namespace, class_name)
        keys = {"key": _Qualifier(definition.GetPropertyQualifierSet)}
        properties = tuple(
            WmiMember(name, kind, keys["key"].flag(name, "key"), _class_of(keys["key"].text(name, "CIMTYPE")))
            for name, dummy, kind in _members(definition)
        )
        return WmiClass(_text(definition, "__CLASS") or class_name, properties, tuple(_methods(definition)))

    def put(self, namespace: str, class_name: str, path: str, values: Mapping[str, WmiValue]) -> None:
        services = self._connect(namespace)
        if path:
            instance = self._object(namespace, path)
        else:
            instance = _Object()
            self._object(namespace, class_name).SpawnInstance(0, byref(instance))
        for name, value in values.items():
            self._set(namespace, instance, name, value)
        services.PutInstance(instance, _WBEM_FLAG_UPDATE_ONLY if path else _WBEM_FLAG_CREATE_ONLY, None, None)

    def delete(self, namespace: str, path: str) -> None:
        self._connect(namespace).DeleteInstance(path, 0, None, None)

    def invoke(self, namespace: str, class_name: str, path: str, method: str, arguments: Mapping[str, WmiValue]) -> WmiObject:
        signature, dummy = _Object(), _Object()
        try:
            self._object(namespace, class_name).GetMethod(method, 0, byref(signature), byref(dummy))
        except comtypes.COMError as error:
            if error.hresult & 0xFFFFFFFF == _WBEM_E_NOT_FOUND:
                raise WmiError(_WBEM_E_INVALID_METHOD, f"{class_name} has no method {method}") from None
            raise
        inputs = _Object()
        if signature:
            signature.SpawnInstance(0, byref(inputs))
            for name, value in arguments.items():
                if value.value is not None:
                    self._set(namespace, inputs, name, value)
        outputs = _Object()
        self._connect(namespace).ExecMethod(path, method, 0, None, inputs, byref(outputs), None)
        return _read(outputs) if outputs else WmiObject("")

    def _set(self, namespace: str, target: Any, name: str, value: WmiValue) -> None:
        variant = self._variant(namespace, value)
        target.Put(name, 0, byref(variant), 0)

    def _variant(self, namespace: str, value: WmiValue) -> Any:
        """Return a VARIANT of the automation type that WMI wants for a CIM type (Microsoft's table 'Numbers', 'Strings' …)."""
        kind = value.cim_type & ~_CIM_ARRAY
        if kind == _CIM_OBJECT:
            return self._embedded(namespace, value)
        if value.cim_type & _CIM_ARRAY:
            return _array(value.value or [], kind)
        return _scalar(value.value, kind)

    def _embedded(self, namespace: str, value: WmiValue) -> Any:
        items = value.value if isinstance(value.value, (list, tuple)) else [value.value]
        made = []
        for item in items:
            instance = _Object()
            self._object(namespace, item.class_name).SpawnInstance(0, byref(instance))
            for name, inner in item.properties.items():
                self._set(namespace, instance, name, inner)
            made.append(instance.QueryInterface(IUnknown))
        if not value.cim_type & _CIM_ARRAY:
            return VARIANT(made[0])
        return _safearray(made, POINTER(IUnknown))


def _secure_process() -> None:
    try:
        ctypes.oledll.ole32.CoInitializeSecurity(None, -1, None, None, 0, 3, None, 0, None)  # type: ignore[attr-defined]
    except OSError as error:
        if getattr(error, "winerror", 0) & 0xFFFFFFFF != _RPC_E_TOO_LATE:
            raise


def _secure(services: Any) -> None:
    """Let WMI act as the agent. Wine's services live in this process and have no proxy: E_NOINTERFACE [wine]."""
    try:
        ctypes.oledll.ole32.CoSetProxyBlanket(services, 10, 0, None, 3, 3, None, 0)  # type: ignore[attr-defined]
    except OSError as error:
        if getattr(error, "winerror", 0) & 0xFFFFFFFF != _E_NOINTERFACE:
            raise


def _members(target: Any, flags: int = _WBEM_FLAG_NONSYSTEM_ONLY) -> Iterator[tuple[str, Any, int]]:
    """Give name, value and CIM type of each property."""
    target.BeginEnumeration(flags)
    while True:
        name, value, kind = BSTR(), VARIANT(), c_long()
        if target.Next(0, byref(name), byref(value), byref(kind), None) != _WBEM_S_NO_ERROR:
            break
        yield str(name.value), value, kind.value
    target.EndEnumeration()


def _read(target: Any) -> WmiObject:
    properties = {name: WmiValue(_plain(value.value), kind) for name, value, kind in _members(target)}
    return WmiObject(_text(target, "__CLASS"), properties, _text(target, "__RELPATH"))


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, IUnknown):
        return _read(value.QueryInterface(_IWbemClassObject))
    return value


def _text(target: Any, name: str) -> str:
    value = VARIANT()
    try:
        target.Get(name, 0, byref(value), None, None)
    except comtypes.COMError:
        return ""
    return str(value.value or "").partition("\0")[0]


class _Qualifier:
    """Reads qualifiers of a definition's members; one that is not there is empty."""

    def __init__(self, qualifier_set: Callable[..., Any]) -> None:
        self._set = qualifier_set

    def _value(self, member: str, name: str) -> Any:
        found, value = _Qualifiers(), VARIANT()
        try:
            self._set(member, byref(found))
            found.Get(name, 0, byref(value), None)
        except comtypes.COMError:
            return None
        return value.value

    def flag(self, member: str, name: str) -> bool:
        return bool(self._value(member, name))

    def text(self, member: str, name: str) -> str:
        return str(self._value(member, name) or "")


def _class_of(cim_type: str) -> str:
    """``ref:Win32_Directory`` and ``object:Win32_ProcessStartup`` name the class."""
    return cim_type.partition(":")[2]


def _methods(definition: Any) -> Iterator[WmiMethod]:
    qualifiers = _Qualifier(definition.GetMethodQualifierSet)
    definition.BeginMethodEnumeration(0)
    while True:
        name, inputs, outputs = BSTR(), _Object(), _Object()
        if definition.NextMethod(0, byref(name), byref(inputs), byref(outputs)) != _WBEM_S_NO_ERROR:
            break
        found = tuple(member for member in _parameters(outputs) if member.name.lower() != "returnvalue")
        yield WmiMethod(str(name.value), tuple(_parameters(inputs)), found, qualifiers.flag(str(name.value), "static"))
    definition.EndMethodEnumeration()


def _parameters(signature: Any) -> Iterator[WmiMember]:
    if signature:
        qualifiers = _Qualifier(signature.GetPropertyQualifierSet)
        for name, dummy, kind in _members(signature):
            yield WmiMember(name, kind, class_name=_class_of(qualifiers.text(name, "CIMTYPE")))


def _scalar(value: Any, kind: int) -> Any:
    variant = VARIANT()
    if kind == _CIM_BOOLEAN:
        variant.vt, variant._.VT_BOOL = VT_BOOL, bool(value)
    elif kind in (_CIM_REAL32, _CIM_REAL64):
        variant.vt, variant._.VT_R8 = VT_R8, float(value)
    elif kind in (_CIM_STRING, _CIM_DATETIME, _CIM_REFERENCE, _CIM_SINT64, _CIM_UINT64):
        return VARIANT(str(value))
    elif kind == _CIM_UINT8:
        variant.vt, variant._.VT_UI1 = VT_UI1, value
    else:
        variant.vt, variant._.VT_I4 = VT_I4, c_int(value).value
    return variant


def _array(values: Sequence[Any], kind: int) -> Any:
    if kind in (_CIM_STRING, _CIM_DATETIME, _CIM_REFERENCE, _CIM_SINT64, _CIM_UINT64):
        return _safearray([str(value) for value in values], BSTR, VT_BSTR)
    if kind == _CIM_UINT8:
        return _safearray(list(values), ctypes.c_ubyte, VT_UI1)
    if kind == _CIM_BOOLEAN:
        return _safearray([-1 if value else 0 for value in values], ctypes.c_short, VT_BOOL)
    if kind in (_CIM_REAL32, _CIM_REAL64):
        return _safearray([float(value) for value in values], ctypes.c_double, VT_R8)
    return _safearray([c_int(value).value for value in values], c_int, VT_I4)


def _safearray(values: list[Any], kind: Any, vartype: int | None = None) -> Any:
    made = _midlSAFEARRAY(kind).create(values)
    variant = VARIANT()
    memmove(byref(variant._), byref(made), sizeof(made))
    variant.vt = VT_ARRAY | (vartype if vartype is not None else made._vartype_)
    return variant
