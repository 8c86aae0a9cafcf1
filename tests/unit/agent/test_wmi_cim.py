# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CIM out of WMI, with a WMI in memory: queries, paths, types, errors, classes that only the computer has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.providers import (
    WmiClass,
    WmiError,
    WmiMember,
    WmiMethod,
    WmiObject,
    WmiValue,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.windows_registry import RegistryMethods
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.wmi_cim import (
    LiveSchema,
    WmiCim,
    decoded,
    dmtf,
    object_path,
    query_text,
    reference,
)
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import CIMV2, SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults, wql
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance, Reference
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError


def fail(error: BaseException | None) -> None:
    """Raise what a test wants to go wrong."""
    if error is not None:
        raise error


class Wmi:
    """Remembers every call; answers with what a test puts in."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.rows: list[WmiObject] = []
        self.classes: dict[str, WmiClass] = {}
        self.outputs = WmiObject("", {"ReturnValue": WmiValue(0, 19)})
        self.error: WmiError | None = None

    def _called(self, *call):
        self.calls.append(call)
        fail(self.error)

    def query(self, namespace, text):
        self._called("query", namespace, text)
        return self.rows

    def get(self, namespace, path):
        self._called("get", namespace, path)
        return self.rows[0]

    def class_definition(self, namespace, class_name):
        if class_name.lower() not in self.classes:
            raise WmiError(faults.WBEM_E_NOT_FOUND)
        return self.classes[class_name.lower()]

    def put(self, namespace, class_name, path, values):
        self._called("put", namespace, class_name, path, dict(values))

    def delete(self, namespace, path):
        self._called("delete", namespace, path)

    def invoke(self, namespace, class_name, path, method, arguments):
        self._called("invoke", namespace, class_name, path, method, dict(arguments))
        return self.outputs


@pytest.fixture
def wmi():
    return Wmi()


@pytest.fixture
def cim(wmi):
    return WmiCim(wmi, LiveSchema(SCHEMA, wmi))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM Win32_Service",
        "SELECT Name FROM Win32_Service WHERE Name = 'a\\'b\\\\c'",
        "SELECT Name, State FROM Win32_Service WHERE NOT (State = 'Running') AND (ProcessId > 4 OR Started = TRUE)",
        "SELECT Name FROM Win32_Service WHERE Name LIKE '[a-f]%' AND PathName IS NOT NULL",
        "SELECT Name FROM Win32_Service WHERE StartName IS NULL",
    ],
)
def test_a_query_is_written_so_that_it_means_the_same(text):
    query = wql.parse(text)
    again = wql.parse(query_text(query))
    assert (again.class_name, again.where) == (query.class_name, query.where)


def test_columns_of_the_condition_are_asked_for_too():
    # The server filters once more, so it needs them.
    assert query_text(wql.parse("SELECT B FROM X WHERE A = 1")) == "SELECT A, B FROM X WHERE A = 1"


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [
        (-2, "uint32", 0xFFFFFFFE),
        (30146562, "uint16", 2),
        ("18446744073709551615", "uint64", 2**64 - 1),
        ("-5", "sint64", -5),
        (-1, "sint32", -1),
        (255, "sint8", -1),
        (-1, "boolean", True),
        (67, "char16", "C"),
        (0, "char16", "\0"),
        (1.5, "real32", 1.5),
        (28, "string", "28"),
        (None, "uint32", None),
        ("nonsense", "uint32", None),
        ("20261124130337.180000+060", "datetime", datetime(2026, 11, 24, 13, 3, 37, 180000, timezone(timedelta(hours=1)))),
        ("20261124130337.180000+00", "datetime", datetime(2026, 11, 24, 13, 3, 37, 180000, UTC)),
        ("00000001000000.000000:000", "datetime", "00000001000000.000000:000"),
        ("tomorrow", "datetime", None),
    ],
)
def test_values_as_cim_means_them(raw, kind, value):
    found = decoded(raw, kind)
    assert (found, type(found)) == (value, type(value))


def test_a_time_as_dmtf_writes_it():
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2)))
    assert dmtf(moment) == "20260102010405.000006+000"
    assert decoded(dmtf(moment), "datetime") == moment


def test_a_row_has_the_tables_types_and_names(cim, wmi):
    wmi.rows = [
        WmiObject(
            "Win32_OperatingSystem",
            {"SYSTEMDRIVE": WmiValue("X:", 8), "OSLanguage": WmiValue("1033", 8), "MUILanguages": WmiValue(["de-DE"], 0x2008)},
        )
    ]
    (row,) = cim.query(CIMV2, wql.parse("SELECT * FROM Win32_OperatingSystem"))
    assert row.properties == {"SystemDrive": "X:", "OSLanguage": 1033, "MUILanguages": ["de-DE"]}


def test_paths(cim, wmi):
    process = SCHEMA.find(CIMV2, "Win32_NetworkAdapterConfiguration")
    assert object_path("X", {"Index": "7"}, process) == "X.Index=7"
    assert object_path("X", {"Name": 'c:\\a"b'}, None) == 'X.Name="c:\\\\a\\"b"'
    assert object_path("X", {"A": "1", "B": "2"}, None) == 'X.A="1",B="2"'
    path = r'\\PC\root\cimv2:Win32_Directory.Name="c:\\a, \"b\"",Other=5'
    assert reference(path) == Reference("Win32_Directory", "root/cimv2", {"Name": 'c:\\a, "b"', "Other": "5"})
    assert reference("Win32_OperatingSystem=@") == Reference("Win32_OperatingSystem=@")
    wmi.rows = [WmiObject("Win32_Service", {"Name": WmiValue("x", 8)})]
    assert cim.get(CIMV2, "Win32_Service", {"Name": "x"})["Name"] == "x"
    assert wmi.calls == [("get", CIMV2, 'Win32_Service.Name="x"')]


def test_a_singleton_without_keys_is_asked_for_by_a_query(cim, wmi):
    wmi.rows = [WmiObject("Win32_OperatingSystem", {}, 'Win32_OperatingSystem.Name="w"')]
    cim.get(CIMV2, "Win32_OperatingSystem", {})
    cim.invoke(CIMV2, "Win32_OperatingSystem", "Reboot", {}, {})
    assert wmi.calls[-1] == ("invoke", CIMV2, "Win32_OperatingSystem", 'Win32_OperatingSystem.Name="w"', "Reboot", {})
    wmi.rows = wmi.rows * 2
    with pytest.raises(CimError) as caught:
        cim.get(CIMV2, "Win32_OperatingSystem", {})
    assert caught.value.wbem_code == faults.WBEM_E_NOT_FOUND


def test_method_arguments_have_wmis_types(cim, wmi):
    startup = Instance("Win32_ProcessStartup", {"CreateFlags": 8, "EnvironmentVariables": ["A=1"]}, CIMV2)
    wmi.outputs = WmiObject("", {"ReturnValue": WmiValue(0, 19), "processid": WmiValue(-2, 19)})
    result = cim.invoke(CIMV2, "Win32_Process", "Create", None, {"CommandLine": "x", "ProcessStartupInformation": startup})
    assert result == {"ReturnValue": 0, "ProcessId": 0xFFFFFFFE}
    dummy, dummy, dummy, path, dummy, arguments = wmi.calls[0]
    assert path == "Win32_Process"
    assert arguments["CommandLine"] == WmiValue("x", 8)
    inner = arguments["ProcessStartupInformation"].value
    assert inner.properties == {"CreateFlags": WmiValue(8, 19), "EnvironmentVariables": WmiValue(["A=1"], 0x2008)}


def test_an_error_of_wmi_is_the_faults_code(cim, wmi):
    wmi.error = WmiError(0x80041003, "no")
    with pytest.raises(CimError) as caught:
        cim.query(CIMV2, wql.parse("SELECT * FROM Win32_Service"))
    assert caught.value.wbem_code == faults.WBEM_E_ACCESS_DENIED


def test_a_class_of_the_computer_adds_to_the_table(wmi):
    schema = LiveSchema(SCHEMA, wmi)
    wmi.classes["win32_bios"] = WmiClass("Win32_BIOS", (WmiMember("SerialNumber", 19, key=True), WmiMember("Extra", 0x2012)))
    wmi.classes["my_class"] = WmiClass(
        "My_Class", (WmiMember("Id", 8, key=True), WmiMember("Link", 102, class_name="Other")), (WmiMethod("Do", (WmiMember("A", 21),)),)
    )
    bios = schema.find("root\\cimv2", "WIN32_bios")
    assert bios.find_property("serialnumber").type == "string"
    assert bios.keys == ()
    assert (bios.find_property("Extra").type, bios.find_property("Extra").array) == ("uint16", True)
    mine = schema.find(CIMV2, "My_Class")
    assert [p.name for p in mine.keys] == ["Id"]
    assert (mine.find_property("Link").type, mine.find_property("Link").class_name) == ("reference", "Other")
    assert mine.find_method("do").inputs[0].type == "uint64"
    assert schema.find(CIMV2, "Nothing") is None
    assert schema.find(CIMV2, "Bad name' OR") is None


# --- the registry's methods


class Key:
    def __init__(self, key):
        self.key = key

    def __enter__(self):
        return self.key

    def __exit__(self, *dummy):
        pass

    def Close(self):
        pass


class Winreg:
    """As much of winreg as is used, over a dictionary of keys."""

    def __init__(self):
        self.keys = {}
        self.views = set()

    def _find(self, key):
        if key not in self.keys:
            raise FileNotFoundError(2, "not found")
        return Key(key)

    def OpenKey(self, root, key, reserved, access):
        self.views.add(access & 0x300)
        return self._find(key)

    def CreateKeyEx(self, root, key, reserved, access):
        self.keys.setdefault(key, {})
        return Key(key)

    def DeleteKeyEx(self, root, key, access, reserved):
        del self.keys[self._find(key).key]

    def DeleteValue(self, opened, name):
        if self.keys[opened].pop(name, None) is None:
            raise FileNotFoundError(2, "not found")

    def QueryInfoKey(self, opened):
        below = [key for key in self.keys if key.startswith(opened + "\\")]
        return len(below), len(self.keys[opened]), 0

    def EnumKey(self, opened, index):
        return [key for key in self.keys if key.startswith(opened + "\\")][index].rpartition("\\")[2]

    def EnumValue(self, opened, index):
        return [(name, *value) for name, value in self.keys[opened].items()][index]

    def QueryValueEx(self, opened, name):
        if name not in self.keys[opened]:
            raise FileNotFoundError(2, "not found")
        return self.keys[opened][name]

    def SetValueEx(self, opened, name, reserved, kind, data):
        self.keys[opened][name] = (data, kind)

    def ExpandEnvironmentStrings(self, text):
        return text.replace("%SystemRoot%", "X:\\Windows")


@pytest.fixture
def registry():
    part = RegistryMethods(Winreg())

    def call(method, key="A", **arguments):
        return dict(part.invoke(CIMV2, "StdRegProv", method, None, {"hDefKey": 0x80000002, "sSubKeyName": key, **arguments}))

    call.registry = part._registry
    return call


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("DWORD", "uValue", 0xFFFFFFFF),
        ("QWORD", "uValue", 2**64 - 1),
        ("String", "sValue", "ü"),
        ("MultiString", "sValue", ["a", "b"]),
        ("Binary", "uValue", [0, 255]),
    ],
)
def test_registry_values(registry, kind, field, value):
    registry("CreateKey")
    assert registry(f"Set{kind}Value", sValueName="v", **{field: value}) == {"ReturnValue": 0}
    assert registry(f"Get{kind}Value", sValueName="v") == {"ReturnValue": 0, field: value}
    assert registry.registry.views == {0x100}


def test_registry_return_values(registry):
    assert registry("GetStringValue", sValueName="v") == {"ReturnValue": 2}
    assert registry("SetStringValue", sValueName="v", sValue="x") == {"ReturnValue": 2}
    assert registry("EnumKey") == {"ReturnValue": 2}
    registry("CreateKey")
    registry("CreateKey", key="A\\B")
    assert registry("GetStringValue", sValueName="v") == {"ReturnValue": 1}
    assert registry("DeleteValue", sValueName="v") == {"ReturnValue": 2}
    registry("SetExpandedStringValue", sValueName="v", sValue="%SystemRoot%\\x")
    assert registry("GetDWORDValue", sValueName="v") == {"ReturnValue": 1}
    assert registry("GetExpandedStringValue", sValueName="v")["sValue"] == "X:\\Windows\\x"
    assert registry("GetStringValue", sValueName="v")["sValue"] == "%SystemRoot%\\x"
    assert registry("EnumKey") == {"ReturnValue": 0, "sNames": ["B"]}
    assert registry("EnumValues") == {"ReturnValue": 0, "sNames": ["v"], "Types": [2]}
    assert registry("EnumValues", key="A\\B") == {"ReturnValue": 0, "sNames": None, "Types": None}
    assert registry("DeleteKey") == {"ReturnValue": 5}
    assert registry("DeleteKey", key="A\\B") == {"ReturnValue": 0}
    assert registry("CheckAccess") == {"ReturnValue": 0, "bGranted": True}
    with pytest.raises(CimError):
        registry("Explode")


def test_a_method_that_wmi_does_not_have_is_the_agents_own(wmi):
    part = RegistryMethods(Winreg())
    cim = WmiCim(wmi, LiveSchema(SCHEMA, wmi), methods={(CIMV2, "stdregprov"): part})
    wmi.error = WmiError(faults.WBEM_E_INVALID_METHOD)
    assert cim.invoke(CIMV2, "StdRegProv", "CreateKey", None, {"sSubKeyName": "A"}) == {"ReturnValue": 0}
    assert part._registry.keys == {"A": {}}
    wmi.error = WmiError(faults.WBEM_E_ACCESS_DENIED)
    with pytest.raises(CimError):
        cim.invoke(CIMV2, "StdRegProv", "CreateKey", None, {"sSubKeyName": "B"})
