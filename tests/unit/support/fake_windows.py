# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small Windows in memory and the sequence's side, for steps: what they send is recorded, what they change is there afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import JobResult, StepFailure
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import CommandResult, Environment, FileInfo
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import wql_query
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.faults import WsmanFault
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import CimClass, Instance

_TYPES = {"REG_SZ": 1, "REG_EXPAND_SZ": 2, "REG_BINARY": 3, "REG_DWORD": 4, "REG_MULTI_SZ": 7, "REG_QWORD": 11}
_KINDS = {"String": "REG_SZ", "ExpandedString": "REG_EXPAND_SZ", "DWORD": "REG_DWORD", "MultiString": "REG_MULTI_SZ"}
_KINDS["QWORD"] = "REG_QWORD"


def _cim_class(namespace: str, name: str) -> CimClass:
    found = SCHEMA.find(namespace, name)
    assert found, f"{namespace}:{name} is not in the table of classes"
    return found


def _check_members(namespace: str, name: str, members: Sequence[str]) -> None:
    cim_class = _cim_class(namespace, name)
    assert not [m for m in members if not cim_class.find_property(m)], (name, members)


class FakeWindows:
    """Registry, files, services, rows of other classes by name. Paths and names ignore case."""

    def __init__(self, environment: Environment = Environment.FULL_OS) -> None:
        self.environment = environment
        self.cim = self
        self.requests = 0
        self.keys: dict[str, dict[str, tuple[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.folders: set[str] = set()
        self.services: set[str] = set()
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.namespaces: set[str] = set()
        self.invoked: list[tuple[str, dict[str, Any]]] = []
        self.commands: list[list[str]] = []
        self.deleted: list[str] = []
        self.methods: dict[str, Callable[[dict[str, Any]], int]] = {}

    def set_value(self, key: str, name: str, kind: str, value: Any) -> None:
        parts = key.split("\\")
        for depth in range(1, len(parts) + 1):
            self.keys.setdefault("\\".join(parts[:depth]).lower(), {})
        self.keys[key.lower()][name.lower()] = (kind, value)

    def add_file(self, path: str, content: bytes = b"", version: str = "") -> None:
        self.files[path.lower()] = content
        if version:
            self.versions[path.lower()] = version
        parts = path.split("\\")
        for depth in range(2, len(parts)):
            self.folders.add("\\".join(parts[:depth]).lower())

    # the four verbs

    def query(self, wql: str, namespace: str = "root/cimv2") -> list[Instance]:
        query = wql_query(wql)
        assert query.columns, wql
        _check_members(namespace, query.class_name, list(query.names))
        rows = [row for row in self._rows(query.class_name) if query.matches(row)]
        # The first page holds one item, as Windows answers; the agent fills it.
        self.requests += 2 if len(rows) > 1 and self.environment is Environment.FULL_OS else 1
        names = {name.lower(): name for name in query.columns}
        return [Instance(query.class_name, {names[k]: v for k, v in row.items() if k in names}) for row in rows]

    def _rows(self, class_name: str) -> list[dict[str, Any]]:
        if class_name in ("CIM_DataFile", "Win32_Directory"):
            paths = self.files if class_name == "CIM_DataFile" else self.folders
            return [self._file_row(path) for path in sorted(paths)]
        if class_name == "Win32_Service":
            return [{"name": name} for name in sorted(self.services)]
        return [{k.lower(): v for k, v in row.items()} for row in self.rows.get(class_name, [])]

    def _file_row(self, path: str) -> dict[str, Any]:
        drive, rest = path.split("\\", 1)
        folder = "\\" + rest.rsplit("\\", 1)[0] + "\\" if "\\" in rest else "\\"
        stem, dot, extension = path.rpartition("\\")[2].rpartition(".")
        found = {"name": path, "drive": drive, "path": folder, "filename": stem if dot else extension}
        return found | ({"extension": extension if dot else "", "filesize": len(self.files[path])} if path in self.files else {})

    def get(self, class_name: str, selectors: Any = None, namespace: str = "root/cimv2") -> Instance:
        self.requests += 1
        if namespace not in self.namespaces:
            raise WsmanFault("no such namespace", code=0x8004100E)
        return Instance(class_name, self.rows[class_name][0])

    def delete(self, class_name: str, selectors: Mapping[str, str], namespace: str = "root/cimv2") -> None:
        self.requests += 1
        assert class_name == "__Namespace"
        self.namespaces.discard(f"{namespace}/{selectors['Name']}")

    def invoke(
        self, class_name: str, method: str, arguments: Any = None, selectors: Any = None, namespace: str = "root/cimv2"
    ) -> dict[str, Any]:
        self.requests += 1
        if class_name == "StdRegProv":
            return self._registry(method, arguments)
        known = _cim_class(namespace, class_name).find_method(method)
        assert known, method
        assert set(arguments or {}) <= {p.name for p in known.inputs}
        self.invoked.append((method, dict(arguments or {})))
        return {"ReturnValue": self.methods[method](dict(arguments or {}))}

    def _registry(self, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert arguments["hDefKey"] == 0x80000002
        key = arguments["sSubKeyName"].lower()
        if key not in self.keys:
            return {"ReturnValue": 2}
        values = self.keys[key]
        if method == "EnumKey":
            below = [k[len(key) + 1 :] for k in self.keys if k.startswith(key + "\\")]
            names = sorted({k for k in below if "\\" not in k})
            return {"ReturnValue": 0, **({"sNames": names} if names else {})}
        if method == "EnumValues":
            return {"ReturnValue": 0, "sNames": list(values), "Types": [_TYPES[kind] for kind, dummy in values.values()]}
        kind = _KINDS[method[3:-5]]
        found = values.get(arguments["sValueName"].lower())
        if found is None or found[0] != kind:
            return {"ReturnValue": 1}
        return {"ReturnValue": 0, ("sValue" if "SZ" in kind else "uValue"): found[1]}

    def run(self, argv: Sequence[str], **dummy: Any) -> CommandResult:
        self.requests += 1
        self.commands.append(list(argv))
        path = argv[-1].lower()
        if "rd" in argv:
            self.folders = {f for f in self.folders if f != path and not f.startswith(path + "\\")}
            self.files = {f: c for f, c in self.files.items() if not f.startswith(path + "\\")}
        elif "del" in argv:
            self.files.pop(path, None)
        elif argv[1] == "delete":
            key = argv[2].removeprefix("HKLM\\").lower()
            self.keys = {k: v for k, v in self.keys.items() if k != key and not k.startswith(key + "\\")}
        else:
            return CommandResult(1)
        return CommandResult(0)

    def put_file(self, path: str, content: bytes) -> None:
        self.requests += 1
        self.add_file(path, content)

    def get_file(self, path: str) -> bytes:
        self.requests += 1
        if path.lower() not in self.files:
            raise FileNotFoundError(path)
        return self.files[path.lower()]

    def is_folder(self, path: str) -> bool:
        self.requests += 1
        return any(name.lower().startswith(path.lower().rstrip("\\") + "\\") for name in self.files)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        assert self.environment is Environment.WINDOWS_PE
        assert length <= 1_000_000
        return self.get_file(path)[offset : offset + length]

    def file_info(self, path: str) -> FileInfo | None:
        self.requests += 1
        content = self.files.get(path.lower())
        return None if content is None else FileInfo(len(content), self.versions.get(path.lower()))

    def file_hash(self, path: str) -> str:
        return hashlib.sha256(self.get_file(path)).hexdigest()


class FakeContext:
    """The sequence's side. ``handler`` is what a job does: it gets label and argument list and returns the exit code."""

    def __init__(self, handler: Callable[[str, list[str]], int] | None = None, **remembered: Any) -> None:
        self.run_id = "run"
        self.log_directory = None
        self.check_mode = False
        self.handler = handler
        self.remembered: dict[str, Any] = dict(remembered)
        self.jobs: list[tuple[str, list[str]]] = []
        self.environments: list[dict[str, str]] = []
        self.inputs: list[bytes] = []
        self.directories: list[str] = []
        self.time_limits: list[int] = []
        self.warnings: list[str] = []
        self.files: list[dict[str, bytes]] = []
        self.events: list[str] = []
        self.fetched: list[str] = []
        self.on_restart: Callable[[], None] = lambda: None

    def windows_drive(self, computer: Any) -> str:
        return ""

    def progress(self, percent: float | None, text: str) -> None:
        assert percent is None or 0 <= percent <= 100

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def run_job(
        self,
        computer: Any,
        label: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        directory: str = "",
        time_limit: int = 0,
        files: Mapping[str, bytes] | None = None,
    ) -> JobResult:
        assert label not in [known for known, dummy in self.jobs], f"label {label} is used twice: it would find the old job"
        self.jobs.append((label, list(argv)))
        self.environments.append(dict(environment or {}))
        self.inputs.append(stdin)
        self.directories.append(directory)
        self.time_limits.append(time_limit)
        self.files.append(dict(files or {}))
        self.events.append(label)
        code = self.handler(label, list(argv)) if self.handler else 0
        return JobResult(code, b"", None, 0.5)

    def boot_image_hash(self, image: Mapping[str, Any]) -> str:
        return str(image.get("sha256") or "").lower()

    def restart(self, computer: Any, target: Environment, *, time_limit: int) -> Any:
        self.events.append("restart")
        self.on_restart()
        return computer

    def wait_for(self, target: Environment, *, time_limit: int, last_boot: str) -> Any:
        self.events.append(f"wait after {last_boot}")
        self.on_restart()
        return self.computer

    computer: Any = None

    def boot_id(self, computer: Any) -> str:
        self.computer = computer
        return "boot-1"

    def fetch_log(self, computer: Any, *paths: str) -> str:
        self.fetched += paths
        return ", ".join(path.rsplit("\\", 1)[-1] for path in paths)

    def content(self, source: Mapping[str, Any]) -> str:
        return str(source["target"])

    def remember(self, key: str, value: Any) -> None:
        self.remembered[key] = value

    def recall(self, key: str) -> Any:
        return self.remembered.get(key)


def run_step(step: Any, computer: Any) -> tuple[Any, Mapping[str, Any]]:
    """Do what the action base class does; return the plan and the result."""
    plan = step.plan(step.observe(computer))
    if not plan.changes:
        return plan, step.result(plan)
    computer = step.apply(computer, plan)
    return plan, step.verify(computer, plan)


def failure(action: Callable[[], Any]) -> StepFailure:
    """Return the StepFailure that an action ends with."""
    try:
        action()
    except StepFailure as problem:
        return problem
    raise AssertionError("no failure")
