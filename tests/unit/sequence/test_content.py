# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declared content: every source is read before anything is destroyed, with its own account and no other connection."""

from __future__ import annotations

import hashlib
import uuid
from types import SimpleNamespace

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence import content
from ansible_collections.goldimage.osd.plugins.plugin_utils.sequence.endpoints import Variables
from ansible_collections.goldimage.osd.plugins.plugin_utils.steps.base import StepFailure
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Environment, FileInfo
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.image import ImageError, Wim, WimHeader, WimImage
from ansible_collections.goldimage.osd.plugins.plugin_utils.wsman.schema import Instance

PE, OS = Environment.WINDOWS_PE, Environment.FULL_OS
WIM = r"\\server\images\install.wim"
READER = {"user": "reader", "password": "right"}


def fail(error: BaseException) -> None:
    """Raise what a test wants to go wrong."""
    raise error


class World:
    """A computer, its network with one account, and the context of a step."""

    def __init__(self, environment=PE):
        self.environment = environment
        self.cim = self
        self.variables = Variables({}, lambda value: value)
        self.files = {}
        self.folders = set()
        self.hashed = 0
        self.connects = []
        self.logged_on = None
        self.needs = "reader"
        self.warnings = []
        self.architecture = 9
        self.shares = content.ShareConnections()
        self.accounts = {("reader", "right"), ("writer", "right")}
        self.answers = []

    # context

    def content(self, source, *, fresh=False):
        return self.shares.connect(self, source, fresh=fresh)

    def progress(self, percent, text):
        pass

    def warn(self, text):
        self.warnings.append(text)

    # computer

    def invoke(self, class_name, method, arguments=None, selectors=None, namespace=""):
        assert (namespace, class_name) == ("root/osd", "OSD_NetworkDrive")
        self.connects.append((method, arguments))
        if self.answers:
            return {"ReturnValue": self.answers.pop(0)}
        if method == "Disconnect" or arguments["Fresh"]:
            self.logged_on = None
        if method == "Connect" and self.logged_on != arguments["UserName"]:
            if self.logged_on:
                return {"ReturnValue": 1219}
            if (arguments["UserName"], arguments["Password"]) not in self.accounts:
                return {"ReturnValue": 1326}
            self.logged_on = arguments["UserName"]
        return {"ReturnValue": 0}

    def query(self, wql, namespace=""):
        return [Instance("Win32_Processor", {"Architecture": self.architecture})]

    def file_info(self, path):
        visible = self.logged_on == self.needs and path.lower() in self.files
        return FileInfo(len(self.files[path.lower()]), None) if visible else None

    def is_folder(self, path):
        return self.logged_on == self.needs and path.lower() in self.folders

    def file_hash(self, path):
        self.hashed += 1
        return hashlib.sha256(self.files[path.lower()]).hexdigest()


def image(index=1, architecture="x64", **values):
    return WimImage(index, name="Windows 11", architecture=architecture, **{"is_windows": True, "edition": "Enterprise", **values})


@pytest.fixture
def world(monkeypatch):
    made = World()
    made.files[WIM.lower()] = b"install"
    made.wim = Wim(
        WimHeader(0x10D00, 0, 32768, uuid.UUID(int=1), 1, 1, 1, *[SimpleNamespace(size=0)] * 2, 0, SimpleNamespace(size=0)), (image(),), b""
    )

    def read(file):
        if isinstance(made.wim, Exception):
            fail(made.wim)
        return made.wim

    monkeypatch.setattr(content, "read_wim", read)
    return made


def source(**values):
    return {"name": "osd_image", "target": WIM, "account": READER, "image_index": 1, **values}


def refused(world, *sources):
    with pytest.raises(StepFailure) as caught:
        content.check_sources(world, world, sources)
    assert caught.value.message.startswith("Content cannot be used. ")
    assert "right" not in caught.value.message
    return caught.value.message


def test_a_good_source_is_read_with_its_account(world):
    assert content.check_sources(world, world, [source()]) == []
    assert world.connects == [("Connect", {"RemoteName": r"\\server\images", "UserName": "reader", "Password": "right", "Fresh": True})]


def test_a_share_is_connected_once_and_another_account_takes_the_server_over(world):
    writer = {"user": "writer", "password": "right"}
    for dummy in range(2):
        assert world.content({"target": WIM, "account": READER}) == WIM
    assert len(world.connects) == 1
    world.content({"target": WIM, "account": writer})
    assert [arguments["Fresh"] for dummy, arguments in world.connects] == [False, False, True]
    assert world.logged_on == "writer"
    # The reader's connection has gone for it.
    world.content({"target": WIM, "account": READER})
    assert world.logged_on == "reader"


def test_another_account_on_one_server_leaves_the_connections_to_others(world):
    world.answers = [0, 0, 1219, 0]
    logs = {"target": r"\\files\logs\x.log", "account": READER}
    world.content(logs)
    world.content({"target": WIM, "account": READER})
    world.content({"target": WIM, "account": {"user": "writer", "password": "right"}})
    assert len(world.connects) == 4
    world.content(logs)
    assert len(world.connects) == 4


def test_a_server_that_is_slow_is_waited_for(world):
    world.answers = [997, 997, 53]
    with pytest.raises(StepFailure, match=r"to \\\\server\\images as reader: system error 53 \(the network path") as caught:
        world.content({"target": WIM, "account": READER})
    assert (caught.value.code, len(world.connects)) == (53, 3)
    world.answers = [424242]
    with pytest.raises(StepFailure, match=r"as reader: system error 424242\."):
        world.content({"target": WIM, "account": READER})


def test_a_wrong_account_is_not_hidden_by_an_earlier_connection(world):
    second = source(name="second", account={"user": "reader", "password": "wrong"}, target=WIM)
    message = refused(world, source(), second)
    assert "second: The computer could not connect to \\\\server\\images as reader: system error 1326" in message
    nobody = source(name="nobody", account=None)
    assert f"nobody: {WIM} is not there, or the account may not read it" in refused(world, source(), nobody)


def test_every_problem_is_told_at_once(world):
    message = refused(world, source(name="one", target=r"\\server\images\absent.wim"), source(name="two", target=r"\\server\images\none"))
    assert message.count("is not there, or the account may not read it") == 2


def test_a_folder_is_enough_where_no_file_is_meant(world):
    world.folders.add(r"\\server\images\drivers")
    drivers = {"name": "osd_drivers[0]", "target": r"\\server\images\drivers", "account": READER}
    assert content.check_sources(world, world, [drivers]) == []
    world.folders.add(r"\\server\images\folder.wim")
    assert "is not there" in refused(world, source(target=r"\\server\images\folder.wim"))


def test_a_declared_hash_is_compared_once(world):
    good = hashlib.sha256(b"install").hexdigest()
    marks = content.check_sources(world, world, [source(sha256=good)])
    assert (len(marks), world.hashed) == (1, 1)
    assert content.check_sources(world, world, [source(sha256=good)], marks) == []
    assert world.hashed == 1
    assert f"{WIM} has SHA-256 {good}, declared is {'0' * 64}" in refused(world, source(sha256="0" * 64))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (ImageError("This is no WIM file"), "cannot be used as an image: This is no WIM file"),
        ({"images": (image(), image(2))}, None),
        ({"images": (image(2),)}, "has no image 1; it holds 2 Windows 11"),
        ({"images": (image(architecture="arm64"),)}, "is for arm64; the computer's processor runs x64 and x86"),
        ({"images": (image(edition="WindowsPE"),)}, "(Windows 11) is Windows PE"),
        ({"images": (image(is_windows=False),)}, "(Windows 11) is no Windows"),
        ({"parts": 3}, "is part 1 of 3 of a split file"),
    ],
)
def test_the_image_is_judged_by_its_header(world, found, told):
    from dataclasses import replace

    if isinstance(found, Exception):
        world.wim = found
    elif "parts" in found:
        world.wim = replace(world.wim, header=replace(world.wim.header, parts=3))
    else:
        world.wim = replace(world.wim, **found)
    if told:
        assert told in refused(world, source())
    else:
        content.check_sources(world, world, [source()])


def test_the_boot_image_needs_boot_sdi_beside_it(world):
    from dataclasses import replace

    boot = {"name": "osd_boot_image", "target": WIM, "account": READER, "boots": True}
    assert f"{WIM} holds no Windows PE" in refused(world, boot)
    world.wim = replace(world.wim, images=(image(edition="WindowsPE"),))
    assert r"\\server\images\boot.sdi is not there" in refused(world, boot)
    world.files[r"\\server\images\boot.sdi"] = b"sdi"
    content.check_sources(world, world, [boot])


def test_the_copy_on_the_control_node_is_the_same_file(world, tmp_path):
    local = tmp_path / "install.wim"
    assert f"{local} is not on the control node" in refused(world, source(controller=str(local)))
    local.write_bytes(b"another")
    content.check_sources(world, world, [source(controller=str(local))])
    local.write_bytes(b"longer than that")
    assert "they are not the same file" in refused(world, source(controller=str(local)))


def test_from_the_full_operating_system_the_control_nodes_side_is_read(world, tmp_path):
    world.environment = OS
    content.check_sources(world, world, [source()])
    assert world.connects == []
    local = tmp_path / "install.wim"
    local.write_bytes(b"install")
    assert "declared is" in refused(world, source(controller=str(local), sha256="0" * 64))
    world.wim = ImageError("This is no WIM file")
    assert "This is no WIM file" in refused(world, source(controller=str(local)))


def test_a_web_source_is_asked_for_from_the_control_node(world, monkeypatch):
    web = {"name": "application x", "target": "https://web.example/x.msi"}
    answers = iter(["https://web.example/x.msi answers with HTTP 404", "", None])
    monkeypatch.setattr(content, "web_problem", lambda source: next(answers))
    assert "HTTP 404" in refused(world, web)
    content.check_sources(world, world, [web])
    assert world.warnings == []
    content.check_sources(world, world, [web])
    assert "could not be asked for" in world.warnings[0]
