# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small computer of made-up objects behind the real server, and the client that speaks to it in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman import faults
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client, Identity
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance, Reference, Schema, Value
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.server import CimError, Limits, Server, ShellOptions

SCHEMA = Schema(
    {
        "root/cimv2": {
            "T_Thing": (
                "key string Name; uint32 Size; uint64 Big; sint32 Small; boolean On; datetime When; string[] Tags; uint8[] Bytes; "
                "char16 Letter; real64 Ratio; T_Inner Inner; T_Inner[] Inners; ref:T_Other Other; string Text; "
                "static Make(string Name, string[] Tags, T_Inner Inner, uint8[] Bytes, boolean On, datetime When, "
                "ref:T_Other Other) -> T_Thing Made, string[] Echo; Touch(uint32 Times) -> uint32 Times; Quiet()"
            ),
            "T_Other": "key string Id; key uint32 Number; boolean Good",
            "T_Inner": "string Word; uint32[] Numbers; T_Inner Deeper",
            "T_Single": "string Caption; Reboot()",
        },
        "root/osd": {"T_Job": "key string Id; string State"},
    }
)
IDENTITY = Identity("Microsoft Corporation", "OS: 10.0.20348 SP: 0.0 Stack: 3.0")


def fail(error: BaseException | None) -> None:
    """Raise what a test wants to go wrong."""
    if error is not None:
        raise error


class Objects:
    """Instances by (namespace, class), keyed by their first key."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], list[Instance]] = {}
        self.calls: list[tuple[object, ...]] = []
        self.outputs: Mapping[str, Value] = {"ReturnValue": 0}
        self.broken: Exception | None = None

    def add(self, class_name: str, namespace: str = "root/cimv2", **properties: Value) -> Instance:
        instance = Instance(class_name, properties, namespace)
        self.held.setdefault((namespace, class_name), []).append(instance)
        return instance

    def instances(self, namespace: str, class_name: str) -> list[Instance]:
        fail(self.broken)
        return self.held.get((namespace, class_name), [])

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        for instance in self.instances(namespace, class_name):
            if all(str(instance[name]) == value for name, value in selectors.items()):
                return instance
        raise CimError(faults.WBEM_E_NOT_FOUND, f"no {class_name} with {dict(selectors)}")

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance:
        old = self.get(namespace, instance.class_name, selectors)
        new = replace(old, properties={**old.properties, **instance.properties})
        held = self.held[(namespace, instance.class_name)]
        held[held.index(old)] = new
        return new

    def create(self, namespace: str, instance: Instance) -> Reference:
        self.held.setdefault((namespace, instance.class_name), []).append(instance)
        return Reference(instance.class_name, namespace, {"Name": str(instance["Name"])})

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None:
        self.held[(namespace, class_name)].remove(self.get(namespace, class_name, selectors))

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        self.calls.append((namespace, class_name, method, selectors, dict(arguments)))
        return self.outputs


class Command:
    """A command whose output a test feeds."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.output: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.stdin = b""
        self.stdin_ended = False
        self.ended: int | None = None
        self.closed_pipe = False
        self.news = threading.Event()

    @property
    def exit_code(self) -> int | None:
        return self.ended

    def feed(self, stream: str, data: bytes) -> None:
        self.output.put((stream, data))

    def finish(self, code: int) -> None:
        self.ended = code

    def read(self, timeout: float) -> list[tuple[str, bytes]]:
        try:
            found = [self.output.get(timeout=min(timeout, 0.02)) if timeout else self.output.get_nowait()]
        except queue.Empty:
            return []
        while not self.output.empty():
            found.append(self.output.get_nowait())
        return found

    def write(self, data: bytes, end: bool) -> None:
        if self.closed_pipe:
            raise BrokenPipeError
        self.stdin += data
        self.stdin_ended = self.stdin_ended or end
        if end and self.line == "cat":
            self.feed("stdout", self.stdin)
            self.finish(0)

    def terminate(self) -> None:
        if self.ended is None:
            self.ended = 0xC000013A


class Shells:
    """Opens shells; ``echo X`` answers X, ``fail N`` ends with N, ``cat`` answers stdin, ``hang`` never ends."""

    def __init__(self) -> None:
        self.options: list[ShellOptions] = []
        self.commands: list[Command] = []
        self.closed = 0

    def open(self, options: ShellOptions) -> Shells:
        if options.directory == "Z:\\":
            raise OSError(2, "The system cannot find the file specified. ")
        self.options.append(options)
        return self

    def start(self, command_line: str) -> Command:
        command = Command(command_line)
        self.commands.append(command)
        word, dummy, rest = command_line.partition(" ")
        if word == "echo":
            command.feed("stdout", rest.encode())
            command.feed("stderr", b"err")
            command.finish(0)
        elif word == "fail":
            command.finish(int(rest))
        return command

    def close(self) -> None:
        self.closed += 1


class Computer:
    """Objects, shells, a server over them and a client of the server; ``sent`` keeps request and answer bodies."""

    def __init__(self, limits: Limits | None = None, whole_pages: bool = False, **client_options: object) -> None:
        self.objects = Objects()
        self.shells = Shells()
        self.now = 0.0
        self.server = Server(
            SCHEMA,
            self.objects,
            shells=self.shells,
            identity=IDENTITY,
            limits=limits,
            whole_pages=whole_pages,
            clock=lambda: self.now,
        )
        self.sent: list[tuple[bytes, bytes]] = []
        self.client = Client(self.send, SCHEMA, **client_options)  # type: ignore[arg-type]

    def send(self, body: bytes) -> tuple[int, bytes]:
        status, answer = self.server.handle(body, user="osd")
        self.sent.append((body, answer))
        return status, answer
