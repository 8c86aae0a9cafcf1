# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent of Windows PE in a process of its own: requests, and how fast it takes and gives files."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import ROOT, spread

_SERVER = """
import sys, json, threading
import measuring
from pathlib import Path
from agent_fakes import NAME, PASSWORD, Computer
computer = Computer(Path(sys.argv[1]))
print(json.dumps({"port": computer.port, "certificate": computer.certificate, "name": NAME, "password": PASSWORD}), flush=True)
threading.Event().wait()
"""
_CLIENTS = 8
#: Where ``make wine-test`` keeps its prefix.
_WINE = ROOT / "build/wine"
#: The controller never sends more than 1 MB at once; this much tells the rate.
_FILE = 64 * 1024 * 1024


def measure(runs: int) -> dict[str, Any]:
    """Ask the agent for its operating system, over one connection, over new ones and over several, and move a file both ways.

    The first with the lab's providers, then with the real ones under Wine, where ``make wine-test`` has left its prefix.
    """
    with tempfile.TemporaryDirectory(prefix="osd-bench-") as folder, _agent(Path(folder)) as about:
        client = _Client(about)
        result: dict[str, Any] = {**_requests(client, runs, 300), **_files(client, runs)}
    if shutil.which("wine") and (_WINE / "prefix").is_dir():
        with _agent_under_wine() as about:
            result["under_wine"] = _requests(_Client(about), runs, 100)
    else:
        print("  not measured under Wine: make wine-test makes the prefix for it")
    return result


def _requests(client: _Client, runs: int, count: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"same": [], "new": [], "parallel": [], "product": [], "product_new": []}
    for _run in range(runs):
        with contextlib.closing(client.connect()) as connection:
            client.ask(connection)
            seconds["same"].append(_timed(lambda: [client.ask(connection) for dummy in range(count)]) / count)
        seconds["new"].append(_timed(lambda: [client.ask_anew() for dummy in range(count // 6)]) / (count // 6))
        seconds["parallel"].append(_timed(lambda: _at_once(client, count)) / (_CLIENTS * count))
        seconds["product"].append(client.product(count))
        seconds["product_new"].append(_timed(lambda: [client.product(0) for dummy in range(count // 6)]) / (count // 6))
    return {
        "requests_per_second": 1 / spread(seconds["same"])["median"],
        "requests_per_second_with_new_tls_connections": 1 / spread(seconds["new"])["median"],
        f"requests_per_second_of_{_CLIENTS}_clients": 1 / spread(seconds["parallel"])["median"],
        "milliseconds_on_the_same_connection": 1000 * spread(seconds["same"])["median"],
        "milliseconds_with_a_new_tls_connection": 1000 * spread(seconds["new"])["median"],
        "milliseconds_of_the_collections_client_on_the_same_connection": 1000 * spread(seconds["product"])["median"],
        "milliseconds_of_the_collections_client_with_a_new_tls_connection": 1000 * spread(seconds["product_new"])["median"],
    }


def _files(client: _Client, runs: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"put": [], "get": []}
    for _run in range(runs):
        with contextlib.closing(client.connect()) as connection:
            seconds["put"].append(_timed(lambda: client.put(connection)))
            seconds["get"].append(_timed(lambda: client.get(connection)))
    return {
        "put_megabytes_per_second": _FILE / 1e6 / spread(seconds["put"])["median"],
        "get_megabytes_per_second": _FILE / 1e6 / spread(seconds["get"])["median"],
    }


def show(result: dict[str, Any]) -> None:
    """Print what was measured."""
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"  {name.replace('_', ' ')}:")
            show(value)
        else:
            print(f"  {name.replace('_', ' '):68} {value:9.1f}")


class _Client:
    """Sends a query ready made, so that what is measured is the agent; and the collection's own client beside it."""

    def __init__(self, about: dict[str, Any]) -> None:
        from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import Endpoint
        from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
        from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.client import Client

        self._about = about
        self._schema = SCHEMA
        self._context = ssl.create_default_context(cafile=about["certificate"])
        self._context.check_hostname = False
        credentials = base64.b64encode(f"osd:{about['password']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/soap+xml;charset=UTF-8"}
        self._content = os.urandom(_FILE)
        self._endpoint = Endpoint(
            "127.0.0.1",
            about["port"],
            "https",
            "osd",
            "basic",
            about["password"],
            certificate=about["certificate"],
            certificate_name=about["name"],
        )
        sent: list[bytes] = []

        def keep(body: bytes) -> tuple[int, bytes]:
            sent.append(body)
            raise InterruptedError

        with contextlib.suppress(InterruptedError):
            Client(keep, SCHEMA).query("SELECT SystemDrive FROM Win32_OperatingSystem")
        self._query = sent[0]

    def connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection("127.0.0.1", self._about["port"], context=self._context)
        connection.connect()
        return connection

    def ask(self, connection: http.client.HTTPSConnection) -> None:
        self._exchange(connection, "POST", "/wsman", self._query, 200)

    def ask_anew(self) -> None:
        with contextlib.closing(self.connect()) as connection:
            self.ask(connection)

    def put(self, connection: http.client.HTTPSConnection) -> None:
        self._exchange(connection, "PUT", "/osd/files/X:/bench.bin", self._content, 201, 204)

    def get(self, connection: http.client.HTTPSConnection) -> None:
        if self._exchange(connection, "GET", "/osd/files/X:/bench.bin", None, 200) != self._content:
            raise SystemExit("the agent gave other bytes than it was sent")

    def _exchange(self, connection: http.client.HTTPSConnection, verb: str, path: str, body: bytes | None, *wanted: int) -> bytes:
        connection.request(verb, path, body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in wanted:
            raise SystemExit(f"{verb} {path}: {answer.status} {content[:500]!r}")
        return content

    def product(self, count: int) -> float:
        """Open the collection's own connection, ask once, and return the seconds for each of the further requests."""
        from ansible_collections.goldimage.osd.plugins.plugin_utils.connection import open_endpoint

        link = open_endpoint(self._endpoint)
        client = link.client(self._schema)
        with contextlib.closing(link):
            client.query("SELECT SystemDrive FROM Win32_OperatingSystem")
            seconds = _timed(lambda: [client.query("SELECT SystemDrive FROM Win32_OperatingSystem") for dummy in range(count)])
        return seconds / max(count, 1)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _at_once(client: _Client, count: int) -> None:
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            with contextlib.closing(client.connect()) as connection:
                for dummy in range(count):
                    client.ask(connection)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=ask) for dummy in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextlib.contextmanager
def _agent(folder: Path) -> Iterator[dict[str, Any]]:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder)], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def _agent_under_wine() -> Iterator[dict[str, Any]]:
    """The agent of a boot image in the prefix of ``make wine-test``; afterwards the prefix's own processes are ended."""
    os.environ.update(WINEPREFIX=str(_WINE / "prefix"), WINEARCH="win64", WINEDEBUG="-all", WINEDLLOVERRIDES="mscoree,mshtml=")
    os.environ.pop("DISPLAY", None)
    from agent_fakes import NAME, PASSWORD
    from wine_agent import WineAgent

    agent = WineAgent(_WINE)
    try:
        yield {"port": agent.port, "certificate": agent.certificate, "name": NAME, "password": PASSWORD}
    finally:
        agent.kill()
        subprocess.run(["wineserver", "-k"], check=False)
        subprocess.run(["wineserver", "-w"], check=False)
