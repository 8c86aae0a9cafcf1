# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many clients at once, and a query that hangs."""

from __future__ import annotations

import os
import threading
import time

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.cim_classes import SCHEMA
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.windows_pe import WindowsPe

SECONDS = float(os.environ.get("WINE_SECONDS", "60"))


def memory_of(agent):
    """Return the agent's resident memory in KB: of the process under Wine, which has the name of its program."""
    total = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                if words[0].endswith(b"python.exe") and rb"C:\osd\agent.zip" in words and b"job" not in words:
                    with open(f"/proc/{entry}/status") as file:
                        total += next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
            except (OSError, StopIteration):
                continue
    return total


def own_place(computer, number, count):
    """Write and read what is this client's alone: a file, and a value of the registry. One that sees another's raises."""
    content = f"{number} {count}".encode() * 100
    path = rf"C:\many\{number}.txt"
    computer.put_file(path, content)
    place = {"hDefKey": 0x80000002, "sSubKeyName": rf"SOFTWARE\goldimage.osd many\{number}"}
    for method, value in (("CreateKey", {}), ("SetDWORDValue", {"sValueName": "count", "uValue": count})):
        assert computer.cim.invoke("StdRegProv", method, {**place, **value})["ReturnValue"] == 0
    assert computer.get_file(path) == content
    assert computer.cim.invoke("StdRegProv", "GetDWORDValue", {**place, "sValueName": "count"})["uValue"] == count


QUERIES = [
    ("SELECT DeviceID, MediaType, Model FROM Win32_DiskDrive", "Model"),
    ("SELECT DeviceId, FileSystem FROM Win32_LogicalDisk", "DeviceId"),
    ("SELECT SystemDrive, BuildNumber, Version FROM Win32_OperatingSystem", "Version"),
    ("SELECT Name, NumberOfCores FROM Win32_Processor", "NumberOfCores"),
]


def load(agent, expected, seconds):
    """Let 32 clients ask at once for so many seconds; return the first wrong answer or None, and the rounds of each."""
    end = time.monotonic() + seconds
    wrong: list[object] = []
    counts = [0] * 32

    def work(number):
        connection = agent.connect()
        client = connection.client(SCHEMA)
        try:
            while time.monotonic() < end and not wrong:
                text = QUERIES[(number + counts[number]) % len(QUERIES)][0]
                rows = [row.properties for row in client.query(text)]
                if rows != expected[text]:
                    wrong.append((text, rows, expected[text]))
                counts[number] += 1
                own_place(WindowsPe(client, connection.http), number, counts[number])
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next(iter(wrong), None), counts


def test_32_clients_at_once(agent, cim):
    """Every answer is the one that a single client gets. A quarter as long before it warms the agent up; then its memory does not grow.

    The memory is that of the agent without clients, before and after: while they are at it, it goes up and down by a tenth.
    """
    expected = {text: [row.properties for row in cim.query(text)] for text, dummy in QUERIES}
    assert all(expected[text][0][column] is not None for text, column in QUERIES)
    memory = []
    for seconds in (SECONDS / 4, SECONDS):
        wrong, counts = load(agent, expected, seconds)
        assert wrong is None, wrong
        assert min(counts) > 0, sorted(counts)
        time.sleep(3)  # the connections' threads end
        memory.append(memory_of(agent))
    print(f"{sum(counts)} rounds in {SECONDS:g} s, {memory[0]} KB and {memory[1]} KB")
    assert memory[0] > 0
    assert memory[1] < memory[0] * 1.05 + 2048


@pytest.fixture
def endless_drive(agent):
    """A drive that no walk comes to the end of: two links to the folder itself."""
    place = agent.build / "endless"
    place.mkdir(exist_ok=True)
    links = [place / "a", place / "b"]
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(".")
    letter = agent.build / "prefix" / "dosdevices" / "r:"
    letter.symlink_to(place)
    agent.restart_wine()
    yield
    letter.unlink()
    for link in links:
        link.unlink()
    agent.restart_wine()


def test_a_query_that_hangs_stops_nobody_else(agent, endless_drive, cim):
    outcome: list[object] = []

    def hang():
        connection = agent.connect()
        try:
            outcome.append(connection.client(SCHEMA).query("SELECT Name FROM CIM_DataFile WHERE Drive = 'R:'"))
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    assert cim.query("SELECT SystemDrive FROM Win32_OperatingSystem")[0]["SystemDrive"] == "C:"
    assert time.monotonic() - started < 5
    started = time.monotonic()
    for dummy in range(20):
        cim.query("SELECT SystemDrive FROM Win32_OperatingSystem")
    assert time.monotonic() - started < 15  # the walk keeps a processor busy, more it may not keep
    assert not outcome, f"the query did not hang, so nothing was shown: {outcome}"
