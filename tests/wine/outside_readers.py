# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs under Wine: read INF files by setupapi, and an answer file by MSXML. ``outside_readers.py inf|xml input.json output.json``."""

import ctypes
import json
import sys
from ctypes import POINTER, byref, c_uint, c_void_p, c_wchar_p, create_unicode_buffer


class Context(ctypes.Structure):
    _fields_ = [("inf", c_void_p), ("current", c_void_p), ("section", c_uint), ("line", c_uint)]


def read_inf(setupapi, path, sections):
    inf = setupapi.SetupOpenInfFileW(path, None, 2, None)
    if inf == c_void_p(-1).value:
        return {"error": ctypes.get_last_error()}
    found = {}
    for section in sections:
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
    return {path: read_inf(setupapi, path, sections) for path, sections in wanted.items()}


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


with open(sys.argv[2], encoding="utf-8") as file:
    request = json.load(file)
result = infs(request) if sys.argv[1] == "inf" else answer_file(request)
with open(sys.argv[3], "w", encoding="utf-8") as file:
    json.dump(result, file)
