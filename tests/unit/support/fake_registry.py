# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A computer that is only a registry: StdRegProv and reg.exe over hives in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registration_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import CommandResult, Environment

_KINDS = {
    "String": rh.REG_SZ,
    "ExpandedString": rh.REG_EXPAND_SZ,
    "DWORD": rh.REG_DWORD,
    "QWORD": rh.REG_QWORD,
    "MultiString": rh.REG_MULTI_SZ,
    "Binary": rh.REG_BINARY,
}


class FakeComputer:
    """Only HKLM. ``files`` are hive files by path; ``log`` is every command that ran."""

    environment = Environment.WINDOWS_PE

    def __init__(self, files: Mapping[str, rh.Key] | None = None) -> None:
        self.root = rh.empty()
        self.files = dict(files or {})
        self.log: list[list[str]] = []
        self.unload_refusals = 0
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

    def run(self, argv: Sequence[str], **dummy: Any) -> CommandResult:
        self.log.append(list(argv))
        self.requests += 1
        return CommandResult(self._reg(list(argv)))

    def _reg(self, argv: list[str]) -> int:
        if argv[0].lower().endswith(".cmd"):
            return self._script(self.put[argv[0]].decode("ascii"), argv[1])
        program, verb, key, *rest = argv
        assert program.lower().endswith("reg.exe")
        if verb == "import":
            return self._import(self.put[key])
        path = key.removeprefix("HKLM\\")
        if verb == "load":
            if rest[0] not in self.files or path in self.root.subkeys:
                return 1
            self.root.subkeys[path] = self.files[rest[0]]
            return 0
        assert verb == "unload"
        if self.unload_refusals or path not in self.root.subkeys:
            self.unload_refusals = max(0, self.unload_refusals - 1)
            return 1
        return 0 if self.root.delete(path) else 1

    def _script(self, text: str, label: str) -> int:
        """Run the commands behind a label as cmd would: ``|| exit /b N`` and ``|| set FAILED=1`` are all that is used."""
        failed = 0
        for line in text.split(f":{label}\r\n", 1)[1].split("\r\n"):
            command, dummy, otherwise = line.partition(" || ")
            if command.startswith("exit"):
                return failed
            if self._reg(command.split(" ")):
                if otherwise.startswith("exit /b "):
                    return int(otherwise[8:])
                failed = 1
        raise AssertionError("the script has no end")

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
