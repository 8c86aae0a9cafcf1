# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The job that reads and changes the hives of an applied Windows, run by the lab's cmd.exe and reg.exe."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab.tools.interface import Win32Problem
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registration_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.command_line import quote
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job, JobStatus
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry import (
    OfflineRegistry,
    RegistryChanges,
    RegistryError,
    RegistryValue,
)

CONFIG = r"X:\applied\Windows\System32\config"
ROOT = "X:\\applied\\"
START = RegistryValue(r"SYSTEM\CurrentControlSet\Services\WinRM", "Start", "REG_DWORD", 2)
NOTICE = RegistryValue(r"SOFTWARE\Policies", "notice", "REG_SZ", 'two "lines"\r\n[no key]\r\n;C:\\end\\')
LONG = RegistryValue(r"SOFTWARE\Policies", "long", "REG_BINARY", bytes(range(256)))


class Jobs:
    """What ``OfflineRegistry`` needs of a computer, on the bench."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.codes: list[int] = []

    def start_job(self, job: Job, wait: float = 0) -> JobStatus:
        folder = rf"X:\_osd\jobs\{job.id}"
        self.bench.files.make_directories(folder)
        for name, content in job.files.items():
            self.bench.files.write(rf"{folder}\{name}", content)
        result = self.bench.run(quote(job.argv), directory=folder)
        assert (result.out, result.err) == ("", "")
        self.codes.append(result.code)
        return JobStatus(result.code)

    def get_file(self, path: str) -> bytes:
        return self.bench.files.read(path)


def hive(pe: Any, name: str) -> rh.Key:
    return rh.load(pe.files.read(rf"{CONFIG}\{name}"))


def loaded(pe: Any) -> list[str]:
    return [name for name in ("OSD_SYSTEM", "OSD_SOFTWARE") if pe.machine.registry.find(f"HKLM\\{name}") is not None]


@pytest.fixture
def registry(pe: Any) -> OfflineRegistry:
    system, software = rh.empty(), rh.empty()
    system.set_dword("Select", "Current", 2)
    system.set_dword(r"ControlSet002\Services\WinRM", "Start", 3)
    software.set_string("Policies", "", "default")
    pe.files.make_directories(CONFIG)
    pe.files.write(rf"{CONFIG}\SYSTEM", rh.dump(system))
    pe.files.write(rf"{CONFIG}\SOFTWARE", rh.dump(software))
    return OfflineRegistry(Jobs(pe), ROOT)  # type: ignore[arg-type]


def test_read_change_and_read_again(pe: Any, registry: OfflineRegistry) -> None:
    registry.read((START.key, r"SOFTWARE\Policies", r"SOFTWARE\Absent Key"))
    assert registry.get_dword(START.key, "Start") == 3
    assert registry.get_string(r"SOFTWARE\Policies", "") == "default"
    assert not registry.exists(r"SOFTWARE\Absent Key")
    registry.change(RegistryChanges((START, NOTICE, LONG)))
    assert all(registry.holds(value) for value in (START, NOTICE, LONG))
    assert loaded(pe) == []
    assert hive(pe, "SYSTEM").get_dword(r"ControlSet002\Services\WinRM", "Start") == 2
    registry.change(RegistryChanges((), ((NOTICE.key, "notice"),), (START.key,)))
    assert registry.get_string(NOTICE.key, "notice") is None
    assert not registry.exists(START.key)


def test_hives_that_were_left_loaded_are_loaded_anew(pe: Any, registry: OfflineRegistry) -> None:
    assert pe.run(rf"X:\Windows\System32\reg.exe load HKLM\OSD_SOFTWARE {CONFIG}\SOFTWARE").code == 0
    registry.read((START.key,))
    assert loaded(pe) == []


def test_a_hive_that_is_missing_or_damaged_is_named_and_none_stays_loaded(pe: Any, registry: OfflineRegistry) -> None:
    pe.files.write(rf"{CONFIG}\SOFTWARE", b"no hive")
    with pytest.raises(RegistryError, match=r"could not load the hive X:\\applied\\.*\\SOFTWARE: code 2"):
        registry.read((START.key,))
    assert loaded(pe) == []


def test_changes_that_are_not_taken_leave_no_hive_loaded(pe: Any, registry: OfflineRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.read((START.key,))
    monkeypatch.setattr(registration_file, "render", lambda entries: b"no registration file")
    with pytest.raises(RegistryError, match="could not import"):
        registry.change(RegistryChanges((START,)))
    assert loaded(pe) == []


def test_a_key_that_is_there_and_is_not_exported_is_an_error(pe: Any, registry: OfflineRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.read((r"SOFTWARE\Policies",))
    write = type(pe.files).write

    def full(own: Any, path: str, content: bytes) -> None:
        if path.endswith("0.reg") and b"P\0o\0l\0i\0c" in content:
            raise Win32Problem(112, "There is not enough space on the disk.")
        write(own, path, content)

    monkeypatch.setattr(type(pe.files), "write", full)
    with pytest.raises(RegistryError, match="could not export"):
        registry.read((r"SOFTWARE\Policies",))
    assert loaded(pe) == []


def test_a_job_that_another_one_disturbs_calls_no_key_absent(pe: Any, registry: OfflineRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from before a lost connection goes on, and unloads the hives when it is done."""
    write = type(pe.files).write

    def disturb(own: Any, path: str, content: bytes) -> None:
        write(own, path, content)
        if path.endswith("0.reg") and "OSD_SOFTWARE" in loaded(pe):
            pe.machine.registry.unload(r"HKLM\OSD_SOFTWARE")

    monkeypatch.setattr(type(pe.files), "write", disturb)
    with pytest.raises(RegistryError, match="another job unloaded the hives .*: code 23"):
        registry.read((r"SOFTWARE\Policies",))
    assert loaded(pe) == []


def test_each_job_has_a_result_of_its_own(pe: Any, registry: OfflineRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = registry._computer
    other = OfflineRegistry(Jobs(pe), ROOT)  # type: ignore[arg-type]

    def fetch(path: str) -> bytes:
        other.read((START.key,))
        return bytes(pe.files.read(path))

    monkeypatch.setattr(jobs, "get_file", fetch)
    registry.read((r"SOFTWARE\Policies",))
    assert registry.get_string(r"SOFTWARE\Policies", "") == "default"


@pytest.mark.parametrize(("refusals", "good"), [(3, True), (99, False)])
def test_a_hive_that_is_held_open_is_waited_for(
    pe: Any, registry: OfflineRegistry, monkeypatch: pytest.MonkeyPatch, refusals: int, good: bool
) -> None:
    left = [refusals]
    unload = pe.machine.registry.unload

    def held(name: str) -> None:
        if name.endswith("OSD_SYSTEM") and left[0]:
            left[0] -= 1
            raise Win32Problem(5, "Access is denied.")
        unload(name)

    monkeypatch.setattr(pe.machine.registry, "unload", held)
    if good:
        registry.read((START.key,))
        assert loaded(pe) == []
    else:
        with pytest.raises(RegistryError, match="another process"):
            registry.read((START.key,))
