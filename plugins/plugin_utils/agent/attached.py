# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent in front of a computer that is another process: what ``providers.py`` names comes over a socket.

The lab's Windows PE is the agent's zip application so attached to the machine model. Both sides are peers: each calls the other's objects,
values go over as values, everything else (open files, shells, processes) by reference. Only values of this protocol's own list are
unpickled, whoever sends them.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, GeneratorType
from typing import Any

from ..windows.cim_classes import SCHEMA
from ..wsman.known import known
from ..wsman.server_faults import CimError
from .service import Service
from .settings import SettingsError, read_settings

_HEADER = struct.Struct("<IQB")
_CALL, _GET, _RESULT, _ERROR, _RELEASE = range(5)
_LIMIT = 64 * 1024 * 1024
#: The package that holds ``agent`` and ``wsman`` here: another name in the zip than in the collection.
_PACKAGE = __name__.rsplit(".", 2)[0]
_VALUE_MODULES = ("wsman.schema", "wsman.wql", "wsman.server_shells", "wsman.client")
_VALUE_CLASSES = {
    ("datetime", "datetime"),
    ("datetime", "date"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("ipaddress", "IPv4Address"),
    ("ipaddress", "IPv6Address"),
    ("_io", "BytesIO"),
    ("builtins", "bytearray"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
}
_PLAIN = (type(None), bool, int, float, str, bytes, list, tuple, dict)


class PeerGone(ConnectionError):
    """The other process has ended."""


class RemoteProblem(OSError):
    """An OSError of the other side; ``code`` is its Win32 error where it has one."""

    def __init__(self, number: int, text: str, code: int | None) -> None:
        super().__init__(number, text)
        if code is not None:
            self.code = code


def _is_value(kind: type) -> bool:
    if kind in _PLAIN or (kind.__module__, kind.__qualname__) in _VALUE_CLASSES:
        return True
    package, dummy, rest = kind.__module__.partition(f"{_PACKAGE}.")
    return not package and rest in _VALUE_MODULES


class _Pickler(pickle.Pickler):
    """Writes values as they are, and everything else as a reference."""

    def __init__(self, file: io.BytesIO, peer: Peer) -> None:
        super().__init__(file, 5)
        self._peer = peer

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType | BuiltinFunctionType) or _is_value(type(obj)):
            return None
        if isinstance(obj, Remote):
            return ("yours", obj._handle)
        return ("mine", *self._peer.export(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, peer: Peer) -> None:
        super().__init__(file)
        self._peer = peer

    def find_class(self, module: str, name: str) -> Any:
        # The other side's package has another name; what follows is the same.
        for allowed in _VALUE_MODULES:
            if module.endswith(f".{allowed}") and "." not in name:
                return getattr(sys.modules[f"{_PACKAGE}.{allowed}"], name)
        if (module, name) not in _VALUE_CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is no value of this protocol")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "yours":
            return self._peer.exported(pid[1])
        return Remote(self._peer, *pid[1:])


class Remote:
    """An object of the other side. It has that one's public methods and attributes, and nothing else."""

    _peer: Peer
    _handle: int

    def __init__(self, peer: Peer, handle: int, methods: tuple[str, ...], attributes: tuple[str, ...]) -> None:
        self._peer = peer
        self._handle = handle
        self._methods = frozenset(methods)
        self._attributes = frozenset(attributes)

    def __getattr__(self, name: str) -> Any:
        if name in self._methods:
            return lambda *arguments, **named: self._peer.call(self._handle, name, arguments, named)
        if name in self._attributes:
            return self._peer.get(self._handle, name)
        raise AttributeError(name)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._handle:
            self._peer.release(self._handle)


class Peer:
    """One end of the socket. ``root`` is what the other side finds at handle 0; ``gone`` is called once when the other side has ended."""

    def __init__(self, connection: socket.socket, root: object, gone: Callable[[], None] | None = None) -> None:
        self._socket = connection
        self._gone = gone
        self._send_lock = threading.Lock()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._handles = itertools.count(1)
        self._objects: dict[int, object] = {0: root}
        self._waiting: dict[int, queue.SimpleQueue[tuple[int, Any]]] = {}
        self._ended = False
        self._idle: list[queue.SimpleQueue[tuple[int, int, Any]]] = []

    def start(self) -> None:
        """Read what comes, in a thread of its own."""
        threading.Thread(target=self._read, daemon=True, name="peer").start()

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    # --- objects

    def export(self, obj: object) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        """Return handle, methods and attributes under which the other side knows an object."""
        with self._lock:
            handle = next(self._handles)
            self._objects[handle] = obj
        names = [name for name in dir(obj) if not name.startswith("_")]
        methods = tuple(name for name in names if callable(getattr(type(obj), name, None)))
        return handle, methods, tuple(name for name in names if name not in methods)

    def exported(self, handle: int) -> object:
        """Return the object of a handle; it is the same object again, not a reference to it."""
        with self._lock:
            return self._objects[handle]

    def root(self, methods: tuple[str, ...], attributes: tuple[str, ...]) -> Remote:
        """Return the other side's root."""
        return Remote(self, 0, methods, attributes)

    # --- calls

    def call(self, handle: int, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a method of the other side and return what it returns, or raise what it raises."""
        return self._ask(_CALL, (handle, name, arguments, named))

    def get(self, handle: int, name: str) -> Any:
        """Return an attribute of an object of the other side."""
        return self._ask(_GET, (handle, name))

    def release(self, handle: int) -> None:
        """Forget an object of the other side."""
        with contextlib.suppress(OSError, TypeError, AttributeError):
            self._send(_RELEASE, 0, handle)

    def _ask(self, kind: int, what: Any) -> Any:
        number = next(self._numbers)
        answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        with self._lock:
            if self._ended:
                raise PeerGone("the other process has ended")
            self._waiting[number] = answers
        try:
            self._send(kind, number, what)
            outcome, value = answers.get()
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if outcome == _ERROR:
            raise _problem(value)
        return value

    def _send(self, kind: int, number: int, what: Any) -> None:
        buffer = io.BytesIO()
        _Pickler(buffer, self).dump(what)
        data = buffer.getvalue()
        with self._send_lock:
            self._socket.sendall(_HEADER.pack(len(data), number, kind) + data)

    def _read(self) -> None:
        stream = self._socket.makefile("rb")
        try:
            while len(head := stream.read(_HEADER.size)) == _HEADER.size:
                size, number, kind = _HEADER.unpack(head)
                if size > _LIMIT:
                    break
                what = _Unpickler(io.BytesIO(stream.read(size)), self).load()
                self._take(kind, number, what)
        except (OSError, EOFError):
            pass
        except (pickle.UnpicklingError, KeyError, AttributeError) as problem:
            print(f"What came over the socket is not understood: {problem}", file=sys.stderr, flush=True)
        with self._lock:
            self._ended = True
            waiting = list(self._waiting.values())
        for answers in waiting:
            answers.put((_ERROR, ("gone",)))
        if self._gone is not None:
            self._gone()

    def _take(self, kind: int, number: int, what: Any) -> None:
        if kind == _RELEASE:
            with self._lock:
                self._objects.pop(what, None)
        elif kind in (_RESULT, _ERROR):
            with self._lock:
                answers = self._waiting.get(number)
            if answers is not None:
                answers.put((kind, what))
        else:
            self._hand_to_worker((kind, number, what))

    def _hand_to_worker(self, job: tuple[int, int, Any]) -> None:
        """Calls may wait for each other: there is always a free thread, and it is used again."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
                return
        threading.Thread(target=self._work, args=(job,), daemon=True, name="peer call").start()

    def _work(self, job: tuple[int, int, Any]) -> None:
        inbox: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()
        while True:
            self._perform(*job)
            del job
            with self._lock:
                if self._ended or len(self._idle) >= 8:
                    return
                self._idle.append(inbox)
            job = inbox.get()

    def _perform(self, kind: int, number: int, what: Any) -> None:
        try:
            found = self.exported(what[0])
            name = what[1]
            if name.startswith("_"):
                raise AttributeError(name)
            value = getattr(found, name) if kind == _GET else getattr(found, name)(*what[2], **what[3])
            if isinstance(value, GeneratorType | map | filter):
                value = list(value)
            answer = (_RESULT, value)
        except Exception as error:  # noqa: BLE001 - whatever it is goes to who asked
            answer = (_ERROR, _plain(error))
        try:
            self._send(answer[0], number, answer[1])
        except OSError:
            return
        except Exception as error:  # noqa: BLE001 - a value that cannot go over
            with contextlib.suppress(OSError):
                self._send(_ERROR, number, _plain(error))


def _plain(error: Exception) -> tuple[Any, ...]:
    if isinstance(error, CimError):
        return ("cim", error.wbem_code, error.message)
    if isinstance(error, BrokenPipeError):
        return ("pipe", str(error))
    if isinstance(error, OSError):
        code = getattr(error, "code", None) or getattr(error, "winerror", None)
        return ("os", error.errno or 0, str(error.strerror or error), code if isinstance(code, int) else None)
    return ("other", type(error).__name__, str(error))


def _problem(plain: tuple[Any, ...]) -> Exception:
    kind, *rest = plain
    if kind == "cim":
        return CimError(*rest)
    if kind == "os":
        return RemoteProblem(*rest)
    if kind == "pipe":
        return BrokenPipeError(109, rest[0])
    if kind == "gone":
        return PeerGone("the other process has ended")
    return RuntimeError(": ".join(str(part) for part in rest))


class _Agent:
    """What the computer's side asks of the agent: when to answer."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.started = threading.Event()

    def start(self, ready: bool) -> int:
        """Listen, answering or not yet; return the port."""
        service = known(self.service)
        if not ready:
            service.http.ready.clear()
        service.start()
        self.started.set()
        return service.port

    def answer(self) -> None:
        """Answer what came and comes."""
        known(self.service).http.ready.set()


#: Names that the computer's side has at its root.
COMPUTER = (("hello",), ("cim", "shells", "files", "starter", "network", "host", "identity", "failure_delay"))
AGENT = (("start", "answer"), ())


def main(arguments: list[str], folder: Path) -> int:
    """Serve a computer that is at the other end of the socket with the number given. Ends when that end closes."""
    agent = _Agent()
    peer = Peer(socket.socket(fileno=int(arguments[0])), agent, gone=lambda: os._exit(0))
    computer = peer.root(*COMPUTER)
    peer.start()
    try:
        agent.service = Service(
            read_settings(folder),
            host=computer.host,
            schema=SCHEMA,
            cim=computer.cim,
            shells=computer.shells,
            files=computer.files,
            starter=computer.starter,
            network=computer.network,
            identity=computer.identity,
            failure_delay=computer.failure_delay,
        )
    except (SettingsError, OSError, ValueError) as problem:
        computer.hello(str(problem))
        return 1
    computer.hello("")
    while True:
        time.sleep(3600)
