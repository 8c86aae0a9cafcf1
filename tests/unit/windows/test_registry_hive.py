# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registry hives: our reader against hivex's writer, hivex's reader against our writer, and both against each other."""

from __future__ import annotations

import base64
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import registry_hive as rh
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.registry_hive import HiveError, Key, Names, Value

hivexsh = pytest.mark.skipif(not shutil.which("hivexsh"), reason="hivexsh (libhivex-bin) is not installed")


def shell(hive: Path, script: str, *, write: bool = False) -> str:
    """Run hivexsh over a hive and return what it prints."""
    argv = ["hivexsh", *(["-w"] if write else []), str(hive)]
    return subprocess.run(argv, input=script, text=True, capture_output=True, check=True).stdout


def sample() -> Key:
    root = rh.empty()
    root.set_string(r"Microsoft\Windows NT\CurrentVersion", "EditionID", "Enterprise")
    root.set_dword(r"Microsoft\Windows NT\CurrentVersion", "UBR", 4061)
    root.set_multi("Setup", "CloneTag", ["Tue Nov 24 11:00:00 2026", "zwei"])
    root.set_binary("Setup", "Blob", bytes(range(256)) * 3)
    root.set("Setup", "", Value.sz("the default value"))
    root.set("Setup", "Path", Value.expand_sz(r"%SystemRoot%\x"))
    root.set("Setup", "Big", Value.qword(1 << 40))
    root.set("Setup", "Nothing", Value(rh.REG_NONE, b""))
    root.set_string("Grüße", "Name mit Ö", "äöü")
    root.set_string("Ключ", "Имя", "значение")
    return root


def same(one: Key, other: Key) -> bool:
    ours = {path: dict(key.values.items()) for path, key in one.walk()}
    theirs = {path: dict(key.values.items()) for path, key in other.walk()}
    return ours == theirs


def test_round_trip_keeps_everything() -> None:
    root = sample()
    again = rh.load(rh.dump(root))
    assert same(root, again)
    assert again.get_string(r"microsoft\WINDOWS nt\currentversion", "editionid") == "Enterprise"
    assert again.get_dword(r"Microsoft\Windows NT\CurrentVersion", "UBR") == 4061
    assert again.get_multi("Setup", "CloneTag") == ["Tue Nov 24 11:00:00 2026", "zwei"]
    assert again.get_string("Setup", "UBR") is None
    assert again.get_dword("No", "Such") is None


def test_class_names_and_times_survive() -> None:
    root = rh.empty()
    key = root.create(r"ControlSet001\Control\Lsa\JD")
    key.class_name, key.time = "f3a1b2c4", 133_000_000_000_000_000
    found = rh.load(rh.dump(root)).find(r"ControlSet001\Control\Lsa\JD")
    assert found is not None
    assert (found.class_name, found.time) == ("f3a1b2c4", 133_000_000_000_000_000)


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1203])
def test_many_subkeys(count: int) -> None:
    root = rh.empty()
    for index in range(count):
        root.set_dword(rf"Many\Key{index}", "n", index)
    again = rh.load(rh.dump(root))
    many = again.find("Many")
    assert many is not None
    assert len(many.subkeys) == count
    assert again.get_dword(rf"Many\Key{count - 1}", "n") == count - 1
    assert list(many.subkeys) == sorted(many.subkeys, key=rh.fold)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 4060, 4096, 16344, 16345, 40000, 70000])
def test_data_sizes(size: int) -> None:
    data = bytes(random.Random(size).randbytes(size))
    root = rh.empty()
    root.set_binary("K", "v", data)
    root.set_string("K", "after", "still there")
    again = rh.load(rh.dump(root))
    assert again.get_binary("K", "v") == data
    assert again.get_string("K", "after") == "still there"


@hivexsh
def test_hivex_reads_what_we_write(tmp_path: Path) -> None:
    root = sample()
    for index in range(1203):
        root.set_dword(rf"Many\Key{index}", "n", index)
    root.set_binary("Large", "v", b"A" * 40000)
    hive = tmp_path / "SOFTWARE"
    hive.write_bytes(rh.dump(root))
    assert shell(hive, "cd \\Microsoft\\Windows NT\\CurrentVersion\nlsval EditionID\n") == "Enterprise\n"
    assert shell(hive, "cd \\Microsoft\\Windows NT\\CurrentVersion\nlsval UBR\n") == "4061\n"
    names = shell(hive, "cd \\Many\nls\n").split()
    assert len(names) == 1203
    assert shell(hive, "cd \\Many\\Key1202\nlsval n\n").strip() == "1202"
    assert shell(hive, "cd \\Large\nlsval v\n").count("A") == 40000
    assert "Ключ" in shell(hive, "ls\n")
    assert shell(hive, "cd \\Ключ\nlsval Имя\n") == "значение\n"


@hivexsh
def test_hivex_edits_what_we_write_and_we_read_it(tmp_path: Path) -> None:
    hive = tmp_path / "SYSTEM"
    hive.write_bytes(rh.dump(sample()))
    script = "cd \\Setup\nadd Unit\ncd Unit\nsetval 2\nCmdLine\nstring:oobe\\windeploy.exe\nSetupType\ndword:00000002\n"
    shell(hive, script + "commit\n", write=True)
    root = rh.load(hive.read_bytes())
    assert root.get_string(r"Setup\Unit", "CmdLine") == r"oobe\windeploy.exe"
    assert root.get_dword(r"Setup\Unit", "SetupType") == 2
    assert root.get_multi("Setup", "CloneTag") == ["Tue Nov 24 11:00:00 2026", "zwei"]


def _random_tree(seed: int) -> Key:
    dice = random.Random(seed)
    root = rh.empty()
    alphabet = "abcXYZ019 _-.{}äÖßйКλ"
    paths = [""]
    for dummy in range(dice.randrange(1, 200)):
        name = "".join(dice.choices(alphabet, k=dice.randrange(1, 12)))
        path = f"{dice.choice(paths)}\\{name}".lstrip("\\")
        paths.append(path)
        key = root.create(path)
        for index in range(dice.randrange(4)):
            data = dice.randbytes(dice.choice([0, 1, 3, 4, 5, 200, 5000, 20000]))
            key.values[f"v{index}{dice.choice(alphabet)}"] = Value(dice.choice([0, 3, 3, 3, 9]), data)
    return root


@pytest.mark.skipif(not shutil.which("hivexml"), reason="hivexml (libhivex-bin) is not installed")
@pytest.mark.parametrize("seed", range(25))
def test_random_trees_are_the_same_for_us_and_for_hivex(seed: int, tmp_path: Path) -> None:
    root = _random_tree(seed)
    (tmp_path / "hive").write_bytes(rh.dump(root))
    assert same(root, rh.load(rh.dump(root)))
    xml = subprocess.run(["hivexml", tmp_path / "hive"], capture_output=True, check=True).stdout

    def walk(node: ElementTree.Element, path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
        values = {v.get("key") or "": v for v in node.findall("value")}
        yield path, {name: base64.b64decode(v.get("value") or "") for name, v in values.items()}
        for child in node.findall("node"):
            name = child.get("name") or ""
            yield from walk(child, f"{path}\\{name}" if path else name)

    (top,) = ElementTree.fromstring(xml).findall("node")
    theirs = dict(walk(top, ""))
    ours = {path: {name: value.data for name, value in key.values.items()} for path, key in root.walk()}
    assert theirs.keys() == ours.keys()
    assert {p: set(v) for p, v in theirs.items()} == {p: set(v) for p, v in ours.items()}
    assert theirs == ours


def test_plain_and_fast_lists_are_read() -> None:
    root = rh.empty()
    for name in ("Alpha", "Beta"):
        root.set_dword(rf"List\{name}", "n", len(name))
    data = bytearray(rh.dump(root))
    at = data.rindex(b"lh\x02\x00")
    first, dummy, second, dummy = struct.unpack_from("<4I", data, at + 4)
    struct.pack_into("<2sHII", data, at, b"li", 2, first, second)
    assert rh.load(bytes(data)).get_dword(r"List\Beta", "n") == 4
    struct.pack_into("<2sHI4sI4s", data, at, b"lf", 2, first, b"Alph", second, b"Beta")
    assert rh.load(bytes(data)).get_dword(r"List\Beta", "n") == 4


def test_delete() -> None:
    root = sample()
    assert root.delete(r"microsoft\windows nt")
    assert not root.delete(r"microsoft\windows nt")
    assert root.find("Microsoft") is not None
    assert root.delete_value("setup", "CLONETAG")
    assert not root.delete_value("setup", "CLONETAG")
    assert not root.delete("")


def test_names_keep_case_and_find_any() -> None:
    names: Names[int] = Names([("Path", 1)])
    names["PATH"] = 2
    assert list(names.items()) == [("Path", 2)]
    assert "pAth" in names
    assert 3 not in names


@pytest.mark.parametrize(
    ("kind", "value", "plain"),
    [
        ("REG_SZ", "x", "x"),
        ("REG_DWORD", "0x10", 16),
        ("reg_dword", 5, 5),
        ("REG_QWORD", 1 << 33, 1 << 33),
        ("REG_MULTI_SZ", ["a", "b"], ["a", "b"]),
        ("REG_BINARY", "00ff", b"\x00\xff"),
        ("REG_EXPAND_SZ", "%windir%", "%windir%"),
    ],
)
def test_make_from_plain_values(kind: str, value: object, plain: object) -> None:
    assert Value.make(kind, value).python == plain


@pytest.mark.parametrize(("kind", "value"), [("REG_DWORD", []), ("REG_MULTI_SZ", "a"), ("REG_ODD", 1), ("REG_BINARY", 5)])
def test_make_refuses(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Value.make(kind, value)


@pytest.mark.parametrize("name", ["", "a\\b", "x" * 256])
def test_impossible_key_names_are_refused(name: str) -> None:
    root = rh.empty()
    root.subkeys[name] = Key(name)
    with pytest.raises(ValueError, match="cannot hold"):
        rh.dump(root)


def test_what_is_no_hive_is_refused() -> None:
    with pytest.raises(HiveError, match="Not a registry hive"):
        rh.load(b"MZ" + bytes(5000))
    with pytest.raises(HiveError):
        rh.load(rh.dump(sample())[:4096])


def test_damage_is_an_error_and_never_a_crash() -> None:
    data = rh.dump(sample())
    dice = random.Random(7)
    for dummy in range(300):
        broken = bytearray(data)
        for dummy in range(4):
            broken[dice.randrange(4096, len(data))] = dice.randrange(256)
        try:
            rh.load(bytes(broken))
        except HiveError:
            continue


def test_five_hundred_keys_are_fast() -> None:
    root = rh.empty()
    for index in range(500):
        root.set_dword(rf"Many\Key{index}", "n", index)
    best = min(_seconds(lambda: rh.load(rh.dump(root))) for dummy in range(3))
    assert best < 0.1  # 10 ms on an idle machine; the rest is room for a busy one


def _seconds(action: object) -> float:
    start = time.process_time()
    action()  # type: ignore[operator]
    return time.process_time() - start
