# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Identify, and WMI through COM, asked from Linux over WS-Management."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.service import VENDOR
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import startnet_cmd
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import namespaces as ns
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.envelope import escape
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault

HKLM = 0x80000002


def test_it_is_started_by_the_line_of_the_boot_image(agent):
    """On C:, since Wine's system drive is no other."""
    line = " ".join(agent.command).replace("C:", "X:")
    assert line in startnet_cmd(drivers=False).decode().split("\r\n")
    with open(f"/proc/{agent.process.pid}/cmdline") as file:
        assert file.read().split("\0")[: len(agent.command)] == list(agent.command)


def test_identify(cim):
    found = cim.identify()
    assert found.product_vendor == VENDOR
    assert found.product_version.startswith("OS: 10.0.")


def test_the_fence_query(cim):
    (row,) = cim.query("SELECT SystemDrive, LastBootUpTime FROM Win32_OperatingSystem")
    assert row["SystemDrive"] == "C:"
    assert isinstance(row["LastBootUpTime"], datetime)
    assert abs(datetime.now(UTC) - row["LastBootUpTime"]) < timedelta(days=2)


def test_uint64(cim):
    row = cim.get("Win32_OperatingSystem")
    assert isinstance(row["TotalVisibleMemorySize"], int)
    assert row["TotalVisibleMemorySize"] > 100_000
    (disk,) = cim.query("SELECT Size FROM Win32_DiskDrive WHERE Index = 0")
    assert int(disk["Size"]) > 2**32


def test_uint32_above_its_half(cim):
    """A column in a row: COM hands a uint32 over as a signed number. make wine-test gives Wine's adapter 3 GB."""
    (row,) = cim.query("SELECT AdapterRAM, CurrentBitsPerPixel FROM Win32_VideoController")
    # Not in the project's table, so the client takes the number as text.
    assert (row["AdapterRAM"], row["CurrentBitsPerPixel"]) == (str(3 * 1024**3), "32")
    # Wine's own reading of such a number: docs/compared-with-wine.md.
    assert cim.query(f"SELECT AdapterRAM FROM Win32_VideoController WHERE AdapterRAM = {3 * 1024**3}") == []


def test_all_columns_of_a_row_have_their_types(cim):
    row = cim.get("Win32_OperatingSystem")
    kinds = {name: type(value) for name, value in row.properties.items() if value is not None}
    assert kinds["LocalDateTime"] is datetime
    assert kinds["BuildNumber"] is str
    assert kinds["OSLanguage"] is int
    assert len(kinds) > 15


def test_all_rows_come(cim):
    names = [row["Name"] for row in cim.query("SELECT Name FROM Win32_Service")]
    assert len(names) == len(set(names)) > 5
    some = [row["Name"] for row in cim.query("SELECT Name FROM Win32_Service WHERE Name >= 'R'")]
    assert some == [name for name in names if name.upper() >= "R"]
    assert 0 < len(some) < len(names)


def test_conditions(cim):
    (disk,) = cim.query("SELECT DeviceId, DriveType FROM Win32_LogicalDisk WHERE DriveType = 3 AND NOT (DeviceID LIKE '[D-Y]:')")
    # Not in the project's table, so the client takes the number as text.
    assert (disk["DeviceId"], disk["DriveType"]) == ("C:", "3")
    assert cim.query("SELECT DeviceID FROM Win32_LogicalDisk WHERE DeviceID = 'Q:' OR VolumeName IS NULL") == []


def test_an_array_and_a_null(cim):
    row = cim.query("SELECT ChassisTypes, SMBIOSAssetTag FROM Win32_SystemEnclosure")[0]
    assert isinstance(row["ChassisTypes"], list)
    assert all(0 <= item < 64 for item in row["ChassisTypes"])
    # Null is null on the wire as well, and an empty text is none.
    row = enumerate_text(cim, "SELECT * FROM Win32_OperatingSystem")[0]
    sent = {ns.local_name(item.tag): (item.text, item.get(f"{{{ns.XSI}}}nil")) for item in row}
    assert (sent["CSDVersion"], sent["RegisteredUser"]) == ((None, "true"), (None, None))
    row = cim.query("SELECT CSDVersion, RegisteredUser FROM Win32_OperatingSystem")[0]
    assert (row["CSDVersion"], row["RegisteredUser"]) == (None, "")


def test_an_instance_by_its_path(cim):
    (name,) = {row["Name"] for row in cim.query("SELECT Name FROM Win32_Service WHERE Name = 'RpcSs'")}
    row = cim.get("Win32_Service", {"Name": name})
    assert row["State"] in ("Running", "Stopped")


def test_a_reference(cim):
    row = cim.query("SELECT * FROM Win32_LogicalDiskToPartition")[0]
    # Not in the project's table: the client guesses, the agent's answer is a reference all the same.
    assert row["Dependent"].class_name == "Win32_LogicalDisk"
    assert next(iter(row["Dependent"].selectors.values())) == "C:"
    assert row["Antecedent"].namespace.lower() == "root/cimv2"
    # What it refers to is an instance that can be asked for.
    for reference in (row["Dependent"], row["Antecedent"]):
        found = cim.get(reference.class_name, reference.selectors)
        assert {found[name] for name in reference.selectors} == set(reference.selectors.values())


def enumerate_text(cim, text):
    """Send a query as it is; the client's own would not let a bad one out. Returns the rows' names and texts."""
    body = (
        f'<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>50</w:MaxElements><w:Filter Dialect="{ns.WQL_DIALECT}">{escape(text)}'
        "</w:Filter></n:Enumerate>"
    )
    content = cim.request(ns.ACTION_ENUMERATE, ns.class_uri("root/cimv2", "*"), body)
    return [row for row in content.iter() if row.tag.startswith("{http://schemas.microsoft.com/wbem/wsman/1/wmi/") and len(row)]


def test_associators(cim):
    (row,) = enumerate_text(cim, 'ASSOCIATORS OF {Win32_LogicalDisk.DeviceID="C:"} WHERE AssocClass = Win32_LogicalDiskToPartition')
    assert row.tag.endswith("}Win32_DiskPartition")
    assert {child.tag.rpartition("}")[2]: child.text for child in row}["DiskIndex"] == "0"


@pytest.mark.parametrize(
    ("call", "code", "not_found"),
    [
        (lambda cim: enumerate_text(cim, "SELECT FROM WHERE"), faults.CANNOT_PROCESS_FILTER, False),
        (lambda cim: cim.query("SELECT Nothing FROM Win32_OperatingSystem"), faults.CANNOT_PROCESS_FILTER, False),
        (lambda cim: cim.query("SELECT * FROM Win32_Nothing"), faults.CANNOT_PROCESS_FILTER, True),
        (lambda cim: cim.get("Win32_Service", {"Name": "no such service"}), faults.RESOURCE_NOT_FOUND, True),
        (lambda cim: cim.query("SELECT * FROM Win32_Service", namespace="root/nowhere"), faults.WBEM_E_INVALID_NAMESPACE, True),
    ],
    ids=["bad WQL", "no such column", "no such class", "no such instance", "no such namespace"],
)
def test_faults(cim, call, code, not_found):
    with pytest.raises(WsmanFault) as caught:
        call(cim)
    assert caught.value.code == code
    assert caught.value.is_not_found is not_found


# --- methods


def registry(cim, method, key, **arguments):
    return cim.invoke("StdRegProv", method, {"hDefKey": HKLM, "sSubKeyName": key, **arguments})


def test_the_registry_provider(cim):
    """What Wine's StdRegProv has goes through COM, the rest through the agent's own."""
    key = r"SOFTWARE\goldimage.osd\Wine test"
    assert registry(cim, "CreateKey", key)["ReturnValue"] == 0
    written = {
        "String": 'Grüße, 100% "quoted"',
        "ExpandedString": "%SystemRoot%\\x",
        "DWORD": 0xFFFFFFFE,
        "QWORD": 2**63 + 5,
        "MultiString": ["one", "zwei ü"],
        "Binary": [0, 127, 128, 255],
    }
    for kind, value in written.items():
        field = "sValue" if "String" in kind else "uValue"
        result = registry(cim, f"Set{kind}Value", key, sValueName=kind, **{field: value})
        assert result["ReturnValue"] == 0, kind
    for kind, value in written.items():
        field = "sValue" if "String" in kind else "uValue"
        result = registry(cim, f"Get{kind}Value", key, sValueName=kind)
        expected = r"C:\windows\x" if kind == "ExpandedString" else value
        assert (result["ReturnValue"], result[field]) == (0, expected), kind
    found = registry(cim, "EnumValues", key)
    types = dict(zip(found["sNames"], found["Types"], strict=True))
    assert types == {"String": 1, "ExpandedString": 2, "Binary": 3, "DWORD": 4, "MultiString": 7, "QWORD": 11}
    assert "Wine test" in registry(cim, "EnumKey", r"SOFTWARE\goldimage.osd")["sNames"]
    assert registry(cim, "GetDWORDValue", key, sValueName="String")["ReturnValue"] == 1
    assert registry(cim, "GetDWORDValue", key, sValueName="nothing")["ReturnValue"] == 1
    assert registry(cim, "GetDWORDValue", key + r"\nowhere", sValueName="x")["ReturnValue"] == 2
    assert registry(cim, "DeleteValue", key, sValueName="DWORD")["ReturnValue"] == 0
    assert registry(cim, "DeleteKey", key)["ReturnValue"] == 0
    assert registry(cim, "EnumKey", key)["ReturnValue"] == 2


def test_a_process_is_created(cim, agent):
    mark = agent.drive / "created.txt"
    result = cim.invoke("Win32_Process", "Create", {"CommandLine": r"cmd.exe /c echo made> C:\created.txt", "CurrentDirectory": "C:\\"})
    assert result["ReturnValue"] == 0
    assert result["ProcessId"] > 0
    limit = datetime.now(UTC) + timedelta(seconds=20)
    while not (mark.exists() and mark.read_text().strip() == "made"):
        assert datetime.now(UTC) < limit


def test_volumes_by_the_agents_own_calls(cim):
    """The volume functions exist in Wine; of a disk it knows the geometry, but no partitions."""
    space = "root/microsoft/windows/storage"
    volumes = {row["DriveLetter"]: row for row in cim.query("SELECT * FROM MSFT_Volume", namespace=space)}
    assert volumes["C"]["Size"] > volumes["C"]["SizeRemaining"] > 0
    assert volumes["C"]["Path"].startswith("\\\\?\\Volume{")
    for disk in cim.query("SELECT * FROM MSFT_Disk", namespace=space):
        assert disk["Size"] > 0
        assert disk["LogicalSectorSize"] == 512
