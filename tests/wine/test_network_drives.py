# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network drives by API: the code that comes back is mpr.dll's own. Wine has no network provider, so nothing can be connected."""

from __future__ import annotations

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import network_drives
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import OSD
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from wine_agent import PYTHON, run

#: The same calls from a program of its own, beside the agent.
_ASK = r"""
import ctypes
class Resource(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32) for n in "stdu"] + [(n, ctypes.c_wchar_p) for n in ("local", "remote", "comment", "provider")]
resource = Resource(t=1, remote=r"\\nowhere.invalid\images")
print(ctypes.WinDLL("mpr").WNetAddConnection2W(ctypes.byref(resource), "secret", "reader", 4))
print(ctypes.WinDLL("mpr").WNetCancelConnection2W(ctypes.c_wchar_p(r"\\nowhere.invalid\images"), 0, 1))
"""


def test_an_unknown_server_answers_the_code_of_the_api_itself(computer, cim):
    code, output = run(computer, Job("ask-mpr", (PYTHON, "-I", "ask.py"), files={"ask.py": _ASK.encode()}))
    assert code == 0
    add, cancel = (int(line) for line in output.split())
    assert add
    assert cancel
    assert network_drives.connect(cim, r"\\nowhere.invalid\images", "reader", "secret") == (add, False)
    answer = cim.invoke("OSD_NetworkDrive", "Disconnect", {"Name": r"\\nowhere.invalid\images"}, namespace=OSD)
    assert answer["ReturnValue"] == cancel


def test_nothing_is_connected(cim):
    assert cim.query("SELECT RemoteName FROM OSD_NetworkDrive", namespace=OSD) == []
    assert network_drives.disconnect_all(cim) == 0
