# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""The agent of a boot image: ``X:\osd\python\python.exe -I X:\osd\agent.zip``, with ``agent.json`` beside the zip.

The zip's own ``__main__`` calls ``main``. With the word ``job`` it is the process of one detached job (``windows_jobs``), with
``attached`` it serves a computer that is another process (``attached``).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..windows.cim_classes import CIMV2, DEFAULT, SCHEMA
from ..wsman.client import Identity
from . import network_settings, win32
from .providers import Providers
from .screen import PAUSE, Screen
from .service import VENDOR, Service
from .settings import SettingsError, read_settings


def windows_providers(command: list[str]) -> Providers:
    """Return what the agent needs of the Windows it runs on. ``command`` starts this application again."""
    # Here: comtypes and the Win32 API exist on Windows only.
    from .windows_disks import STORAGE_CLASSES, Disks
    from .windows_files import WindowsFiles
    from .windows_jobs import WindowsJobs
    from .windows_network import WindowsConnections
    from .windows_registry import RegistryMethods
    from .windows_shells import CmdShells
    from .wmi import ComWmi
    from .wmi_cim import LiveSchema, WmiCim

    wmi = ComWmi()
    schema = LiveSchema(SCHEMA, wmi)
    registry, disks = RegistryMethods(), Disks()
    methods = {(namespace, "stdregprov"): registry for namespace in (CIMV2, DEFAULT)}
    cim = WmiCim(wmi, schema, parts=dict.fromkeys(STORAGE_CLASSES, disks), methods=methods)
    jobs = WindowsJobs(rf"{_folder()}\jobs", command)
    return Providers(schema, cim, CmdShells(), WindowsFiles(), jobs, WindowsConnections())


def _folder() -> str:
    """Return the folder of jobs and recorder. Wine's drive is another [wine]."""
    return rf"{os.environ.get('SYSTEMDRIVE') or 'X:'}\_osd"


def _version() -> str:
    """Return Windows' version. Not by ``platform``: from Python 3.12 on that asks WMI, for which a boot image may not be ready."""
    version = sys.getwindowsversion()  # type: ignore[attr-defined]
    return f"{version.major}.{version.minor}.{version.build}"


def serve(folder: Path, command: list[str]) -> tuple[Service, Screen]:
    """Return the started service and its screen. SettingsError or OSError where it cannot start."""
    settings = read_settings(folder)
    win32.use_utf8_console()
    providers = windows_providers(command)
    for problem in network_settings.apply(providers.cim, network_settings.find(providers.files)):
        print(problem, file=sys.stderr, flush=True)
    service = Service(
        settings,
        host=settings.address,
        schema=providers.schema,
        cim=providers.cim,
        shells=providers.shells,
        files=providers.files,
        jobs=providers.jobs,
        network=providers.network,
        folder=_folder(),
        identity=Identity(VENDOR, f"OS: {_version()} SP: 0.0 Stack: 3.0"),
    )
    service.start()
    return service, Screen(settings, providers.cim, service.recorder, _shower())


def _shower() -> Callable[[Sequence[str]], None]:
    """Return what shows the screen's lines: in place of those before where the console can clear itself, below them otherwise."""
    clear = "\x1b[2J\x1b[H" if win32.understands_escapes() else ""
    return lambda lines: print(clear + "\n".join(lines), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Serve until the computer is switched off, or run one job."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["job"]:
        from . import windows_jobs

        return windows_jobs.main()
    application = Path(sys.argv[0]).absolute()
    if words[:1] == ["attached"]:
        from . import attached

        return attached.main(words[1:], application.parent)
    try:
        service, screen = serve(application.parent, [sys.executable, "-I", str(application)])
    except (SettingsError, OSError) as problem:
        print(f"The agent does not start: {problem}", file=sys.stderr, flush=True)
        return 1
    print(f"The agent answers on port {service.port}.", flush=True)
    while True:
        # Whatever is wrong with what is shown, the agent goes on answering.
        with contextlib.suppress(Exception):
            screen.look()
        time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main())
