# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs under Wine: read INF files and match devices by setupapi, and read an answer file by MSXML.

``outside_readers.py inf|match|xml input.json output.json``.
"""

import ctypes
import json
import sys
from ctypes import POINTER, byref, c_uint, c_void_p, c_wchar_p, create_unicode_buffer


class Context(ctypes.Structure):
    _fields_ = [("inf", c_void_p), ("current", c_void_p), ("section", c_uint), ("line", c_uint)]


def section_names(setupapi, inf):
    names, text = [], create_unicode_buffer(256)
    while setupapi.SetupEnumInfSectionsW(inf, len(names), text, 256, None):
        names.append(text.value)
    return names


def read_inf(setupapi, path):
    inf = setupapi.SetupOpenInfFileW(path, None, 2, None)
    if inf == c_void_p(-1).value:
        return {"error": ctypes.get_last_error()}
    found = {}
    for section in section_names(setupapi, inf):
        lines = []
        context = Context()
        more = setupapi.SetupFindFirstLineW(inf, section, None, byref(context))
        while more:
            count = setupapi.SetupGetFieldCount(byref(context))
            lines.append([field(setupapi, context, index) for index in range(count + 1)])
            more = setupapi.SetupFindNextLine(byref(context), byref(context))
        found[section] = lines
    setupapi.SetupCloseInfFile(inf)
    return {"sections": found}


def field(setupapi, context, index):
    text = create_unicode_buffer(8192)
    return text.value if setupapi.SetupGetStringFieldW(byref(context), index, text, 8192, None) else None


def infs(wanted):
    setupapi = ctypes.WinDLL("setupapi", use_last_error=True)
    setupapi.SetupOpenInfFileW.restype = c_void_p
    setupapi.SetupOpenInfFileW.argtypes = [c_wchar_p, c_wchar_p, c_uint, c_void_p]
    setupapi.SetupFindFirstLineW.argtypes = [c_void_p, c_wchar_p, c_wchar_p, POINTER(Context)]
    setupapi.SetupCloseInfFile.argtypes = [c_void_p]
    setupapi.SetupEnumInfSectionsW.argtypes = [c_void_p, c_uint, c_wchar_p, c_uint, c_void_p]
    return {path: read_inf(setupapi, path) for path in wanted}


def answer_file(path):
    """Return every element with text as a path of local names, by MSXML 6."""
    sys.path.insert(0, r"C:\osd\agent.zip")
    import comtypes.client

    comtypes.client.gen_dir = None
    document = comtypes.client.CreateObject("Msxml2.DOMDocument.6.0", dynamic=True)
    if not document.load(path):
        return {"error": document.parseError.errorCode}
    found = []

    def walk(node, names):
        here = [*names, node.baseName]
        kids = [node.childNodes.item(index) for index in range(node.childNodes.length)]
        elements = [kid for kid in kids if kid.nodeType == 1]
        if not elements:
            found.append(["/".join(here), node.text])
        for kid in elements:
            walk(kid, here)

    walk(document.documentElement, [])
    return {"elements": found}


class DeviceData(ctypes.Structure):
    _fields_ = [("size", c_uint), ("kind", ctypes.c_byte * 16), ("instance", c_uint), ("reserved", c_void_p)]


class InstallParams(ctypes.Structure):
    _fields_ = [
        ("size", c_uint), ("flags", c_uint), ("more_flags", c_uint), ("window", c_void_p), ("handler", c_void_p), ("context", c_void_p),
        ("queue", c_void_p), ("class_reserved", c_void_p), ("reserved", c_uint), ("path", ctypes.c_wchar * 260),
    ]  # fmt: skip


class DriverInfo(ctypes.Structure):
    _fields_ = [
        ("size", c_uint), ("type", c_uint), ("reserved", c_void_p), ("description", ctypes.c_wchar * 256),
        ("manufacturer", ctypes.c_wchar * 256), ("provider", ctypes.c_wchar * 256), ("date", ctypes.c_uint64), ("version", ctypes.c_uint64),
    ]  # fmt: skip


def matches(wanted):
    """Return for each INF and hardware id the models that setupapi lists for a device of that id."""
    setupapi = ctypes.WinDLL("setupapi", use_last_error=True)
    setupapi.SetupDiCreateDeviceInfoList.restype = c_void_p
    found, number = {}, 0
    kind = (ctypes.c_byte * 16)(*range(16))
    for path, identifiers in wanted.items():
        found[path] = {}
        for identifier in identifiers:
            number += 1
            devices = c_void_p(setupapi.SetupDiCreateDeviceInfoList(None, None))
            device = DeviceData(size=ctypes.sizeof(DeviceData))
            name = c_wchar_p(f"ROOT\\OSDTEST\\{number:04}")
            assert setupapi.SetupDiCreateDeviceInfoW(devices, name, byref(kind), None, None, 0, byref(device)), ctypes.get_last_error()
            data = (identifier + "\0\0").encode("utf-16-le")
            assert setupapi.SetupDiSetDeviceRegistryPropertyW(devices, byref(device), 1, data, len(data)), ctypes.get_last_error()
            params = InstallParams(size=ctypes.sizeof(InstallParams))
            assert setupapi.SetupDiGetDeviceInstallParamsW(devices, byref(device), byref(params)), ctypes.get_last_error()
            params.flags |= 0x10000  # DI_ENUMSINGLEINF
            params.path = path
            assert setupapi.SetupDiSetDeviceInstallParamsW(devices, byref(device), byref(params)), ctypes.get_last_error()
            assert setupapi.SetupDiBuildDriverInfoList(devices, byref(device), 2), ctypes.get_last_error()
            listed = []
            info = DriverInfo(size=ctypes.sizeof(DriverInfo))
            while setupapi.SetupDiEnumDriverInfoW(devices, byref(device), 2, len(listed), byref(info)):
                listed.append([info.description, info.provider])
            found[path][identifier] = listed
            setupapi.SetupDiDestroyDeviceInfoList(devices)
    return found


with open(sys.argv[2], encoding="utf-8") as file:
    request = json.load(file)
result = {"inf": infs, "match": matches, "xml": answer_file}[sys.argv[1]](request)
with open(sys.argv[3], "w", encoding="utf-8") as file:
    json.dump(result, file)
