# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer that is only a registry: StdRegProv and the job of ``OfflineRegistry`` over hives in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registration_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment, Job, JobStatus

_KINDS = {
    "String": rh.REG_SZ,
    "ExpandedString": rh.REG_EXPAND_SZ,
    "DWORD": rh.REG_DWORD,
    "QWORD": rh.REG_QWORD,
    "MultiString": rh.REG_MULTI_SZ,
    "Binary": rh.REG_BINARY,
}


class FakeComputer:
    """Only HKLM. ``files`` are hive files by path; ``log`` is every import that ran."""

    environment = Environment.WINDOWS_PE

    def __init__(self, files: Mapping[str, rh.Key] | None = None) -> None:
        self.root = rh.empty()
        self.files = dict(files or {})
        self.log: list[list[str]] = []
        self.denied = False
        self.requests = 0
        self.put: dict[str, bytes] = {}
        self.cim = self

    def invoke(self, class_name: str, method: str, arguments: Mapping[str, Any] | None = None, **dummy: Any) -> dict[str, Any]:
        assert class_name == "StdRegProv"
        assert arguments is not None
        assert arguments["hDefKey"] == 2147483650
        self.requests += 1
        if self.denied:
            return {"ReturnValue": 5}
        path, name = arguments["sSubKeyName"], arguments.get("sValueName", "")
        key = self.root.find(path)
        if method == "CreateKey":
            self.root.create(path)
            return {"ReturnValue": 0}
        if key is None:
            return {"ReturnValue": 2}
        if method == "EnumKey":
            return {"ReturnValue": 0, **({"sNames": list(key.subkeys)} if key.subkeys else {})}
        if method == "EnumValues":
            types = [v.type for v in key.values.values()]
            return {"ReturnValue": 0, **({"sNames": list(key.values), "Types": types} if types else {})}
        if method == "DeleteKey":
            assert not key.subkeys
            self.root.delete(path)
            return {"ReturnValue": 0}
        if method == "DeleteValue":
            return {"ReturnValue": 0 if self.root.delete_value(path, name) else 2}
        kind = _KINDS[method[3:-5]]
        if method.startswith("Set"):
            data = next(v for k, v in arguments.items() if k in ("sValue", "uValue"))
            plain = bytes(data) if kind == rh.REG_BINARY else data
            key.values[name] = rh.Value.make(rh.TYPE_NAMES[kind], plain)
            return {"ReturnValue": 0}
        value = key.values.get(name)
        if value is None or value.type != kind:
            return {"ReturnValue": 1}
        plain = list(value.data) if kind == rh.REG_BINARY else value.python
        return {"ReturnValue": 0, ("sValue" if "String" in method else "uValue"): plain}

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        """Do what the job of ``OfflineRegistry`` is for; how its script does that is tested on the lab's cmd.exe."""
        self.requests += 1
        script = job.files["hives.cmd"].decode("ascii")
        loads = re.findall(r"reg\.exe load HKLM\\(\S+) (\S+)", script)
        for number, (name, file) in enumerate(loads, start=1):
            if file not in self.files:
                return JobStatus(number)
            self.root.subkeys[name] = self.files[file]
        if "changes.reg" in job.files:
            self.log.append(["import"])
            self._import(job.files["changes.reg"])
        exported = []
        for quoted, plain in re.findall(r'reg\.exe export (?:"HKLM\\([^"]+)"|HKLM\\(\S+)) ', script):
            path = quoted or plain
            for below, key in self.root.find(path).walk() if self.root.find(path) else ():
                place = f"HKLM\\{path}\\{below}".rstrip("\\")
                exported.append(registration_file.KeyEntry(place, tuple(key.values.items())))
        self.put[rf"X:\_osd\jobs\{job.id}\registry.reg"] = registration_file.render(exported)
        for name, dummy in loads:
            self.root.subkeys.pop(name)
        return JobStatus(0)

    def _import(self, content: bytes) -> int:
        for entry in registration_file.parse(content):
            path = entry.key.removeprefix("HKEY_LOCAL_MACHINE\\")
            if entry.remove:
                self.root.delete(path)
            for name, value in entry.values:
                if value is None:
                    self.root.delete_value(path, name)
                else:
                    self.root.set(path, name, value)
        return 0

    def put_file(self, path: str, content: bytes) -> None:
        self.put[path] = content

    def get_file(self, path: str) -> bytes:
        if path not in self.put:
            raise FileNotFoundError(path)
        return self.put[path]
