# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent put together: WS-Management, jobs and files on one port. The lab's Windows PE is the same with other providers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from email.message import Message
from typing import Protocol
from urllib.parse import unquote

from ..wsman.client import Identity
from ..wsman.faults import WBEM_E_INVALID_METHOD
from ..wsman.schema import Instance, Reference, Schema, Value
from ..wsman.server import CimError, CimProvider, Limits, Server, ShellProvider
from . import jobs as job_class
from . import network_drives
from .authentication import BasicAuthenticator
from .files import PREFIX, FileRoutes, FileSystem
from .http_server import HttpServer
from .jobs import NAMESPACE, JobProvider, Jobs, ProcessStarter
from .recorder import PAUSE, RecordedJobs, RecordedShells, Recorder
from .settings import AgentSettings

#: The folder of jobs and recorder in Windows PE.
FOLDER = r"X:\_osd"
#: The request header that names the controller's step, percent-encoded.
STEP_HEADER, _STEP_LENGTH = "X-OSD-Step", 200
VENDOR = "goldimage.osd Windows PE agent"


class _OwnClass(Protocol):
    """One of the agent's own classes: made and ended by its methods alone."""

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        """Return all instances."""

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        """Return one."""

    def invoke(
        self, namespace: str, class_name: str, method: str, selectors: Mapping[str, str] | None, arguments: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        """Call a method."""


class _WithOwn:
    """The computer's CIM provider with the agent's own classes beside it; ``own`` by their names in lower case."""

    def __init__(self, cim: CimProvider, own: Mapping[str, _OwnClass]) -> None:
        self._cim = cim
        self._own = own

    def own(self, namespace: str, class_name: str) -> _OwnClass | None:
        return self._own.get(class_name.lower()) if namespace.lower() == NAMESPACE else None

    def instances(self, namespace: str, class_name: str) -> Iterable[Instance]:
        return (self.own(namespace, class_name) or self._cim).instances(namespace, class_name)

    def get(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> Instance:
        return (self.own(namespace, class_name) or self._cim).get(namespace, class_name, selectors)

    def put(self, namespace: str, instance: Instance, selectors: Mapping[str, str]) -> Instance:
        self._refuse_own(namespace, instance.class_name)
        return self._cim.put(namespace, instance, selectors)

    def create(self, namespace: str, instance: Instance) -> Reference:
        self._refuse_own(namespace, instance.class_name)
        return self._cim.create(namespace, instance)

    def delete(self, namespace: str, class_name: str, selectors: Mapping[str, str]) -> None:
        self._refuse_own(namespace, class_name)
        self._cim.delete(namespace, class_name, selectors)

    def invoke(
        self,
        namespace: str,
        class_name: str,
        method: str,
        selectors: Mapping[str, str] | None,
        arguments: Mapping[str, Value],
    ) -> Mapping[str, Value]:
        return (self.own(namespace, class_name) or self._cim).invoke(namespace, class_name, method, selectors, arguments)

    def _refuse_own(self, namespace: str, class_name: str) -> None:
        if self.own(namespace, class_name):
            raise CimError(WBEM_E_INVALID_METHOD, f"{class_name} is made and ended by its methods alone.")


class Service:
    r"""One Windows PE's agent on the network. Made stopped.

    Args:
        settings: from the boot image.
        host: the address to listen on.
        schema: the classes the computer has, the agent's own among them.
        cim: the computer's objects.
        shells: runs WinRS commands.
        files: the computer's files.
        network: its network connections.
        folder: where jobs and recorder are.
        starter: starts jobs, or
        jobs: the jobs themselves.
        identity: what Identify answers; the lab's own says so in the vendor.
        port: another one than the settings', for tests.
        limits: of the WS-Management server.
        failure_delay: seconds before a wrong password is answered.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        host: str,
        schema: Schema,
        cim: CimProvider,
        shells: ShellProvider | None,
        files: FileSystem,
        network: network_drives.NetworkConnections,
        identity: Identity,
        starter: ProcessStarter | None = None,
        jobs: Jobs | None = None,
        folder: str = FOLDER,
        port: int | None = None,
        limits: Limits | None = None,
        failure_delay: float = 1.0,
    ) -> None:
        if jobs is None:
            if starter is None:
                raise TypeError("either starter or jobs")
            jobs = JobProvider(files, starter, rf"{folder}\jobs")
        self._settings = settings
        self._stopped = threading.Event()
        self.recorder = Recorder(files, folder)
        self.jobs = RecordedJobs(jobs, self.recorder)
        if shells is not None:
            shells = RecordedShells(shells, self.recorder)
        drives = network_drives.NetworkDrives(network)
        hooked = _WithOwn(cim, {job_class.CLASS.lower(): self.jobs, network_drives.CLASS.lower(): drives})
        hook = getattr(cim, "query", None)
        if hook is not None:
            # The server asks for the hook by name; the agent's own are few enough to be filtered by it.
            hooked.query = lambda namespace, query: (  # type: ignore[attr-defined]
                own.instances(namespace, query.class_name) if (own := hooked.own(namespace, query.class_name)) else hook(namespace, query)
            )
        associated = getattr(cim, "query_text", None)
        if associated is not None:
            hooked.query_text = associated  # type: ignore[attr-defined]
        self.server = Server(schema, hooked, shells=shells, identity=identity, limits=limits, machine=settings.name, whole_pages=True)
        self.http = HttpServer(
            (host, settings.port if port is None else port),
            wsman=self._handle,
            authenticator=BasicAuthenticator(settings.user, settings.password, failure_delay=failure_delay),
            routes={PREFIX: FileRoutes(files, version=getattr(files, "version", None))},
            tls=settings.tls(),
            admitted=self._admitted,
        )

    def _handle(self, body: bytes, user: str | None, content_type: str) -> tuple[int, bytes]:
        return self.server.handle(body, user=user, content_type=content_type)

    def _admitted(self, headers: Message) -> None:
        step = unquote(headers.get(STEP_HEADER) or "")[:_STEP_LENGTH]
        self.recorder.heard_step("".join(character for character in step if character.isprintable()))

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.http.port

    def start(self) -> None:
        """Answer requests."""
        self.recorder.agent_started(self._settings.boot_image)
        threading.Thread(target=self._look, daemon=True, name="recorder").start()
        self.http.start()

    def _look(self) -> None:
        while not self._stopped.wait(PAUSE):
            # Whatever is wrong with what is recorded, the agent goes on answering.
            with contextlib.suppress(Exception):
                self.jobs.look()

    def stop(self) -> None:
        """Cut connections, end shells and jobs, as a power cut does."""
        self._stopped.set()
        self.http.stop()
        self.server.close()
        self.jobs.close()
        self.recorder.close()
