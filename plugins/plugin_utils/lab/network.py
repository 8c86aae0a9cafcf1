# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab network: file servers with shares and accounts, an https server, a domain. Only what is declared here can be reached.

A share is backed by a folder of the host that the user of the lab named; nothing else of the host is visible. Passwords are compared
with what the lab's definition says; a domain's accounts are valid on every server of the network.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .tools.interface import Connection, Session, Win32Problem

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class NetworkAccount:
    r"""An account: ``name`` as ``DOMAIN\\user`` or a server's own user."""

    name: str
    password: str = field(repr=False)
    may_join: bool = False


@dataclass(frozen=True)
class LabShare:
    """A share: server, name, host folder, who may read and write (account names), capacity in bytes."""

    server: str
    name: str
    root: Path
    readers: tuple[str, ...]
    writers: tuple[str, ...]
    capacity: int

    def may_write(self, user: str) -> bool:
        """Tell whether an account may write."""
        return _same(user, self.writers)

    def may_read(self, user: str) -> bool:
        """Tell whether an account may read."""
        return _same(user, (*self.readers, *self.writers))


@dataclass(frozen=True)
class WebSite:
    """One site of the https server: host name, host folder, an account where it asks for one."""

    host: str
    root: Path
    account: str = ""


@dataclass
class Domain:
    """The domain: DNS name, NetBIOS name, the computers that joined."""

    name: str
    netbios: str
    computers: set[str] = field(default_factory=set)


@dataclass
class LabNetwork:
    """All of the network, shared by the lab's computers."""

    accounts: dict[str, NetworkAccount]
    shares: tuple[LabShare, ...] = ()
    sites: tuple[WebSite, ...] = ()
    domain: Domain | None = None
    ca_pem: bytes = b""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LabNetwork:
        """Read the definition.

        ``accounts`` [{name, password, may_join}], ``shares`` [{server, name, path, read, write, size_mb}], ``sites`` [{host, path,
        account}], ``domain`` {name, netbios}.
        """
        accounts = {
            a["name"].lower(): NetworkAccount(a["name"], str(a["password"]), bool(a.get("may_join"))) for a in plain.get("accounts") or ()
        }
        shares = tuple(
            LabShare(
                server=s["server"].lower(),
                name=s["name"],
                root=Path(s["path"]),
                readers=tuple(s.get("read") or ()),
                writers=tuple(s.get("write") or ()),
                capacity=int(s.get("size_mb") or 100 * 1024) * 1024 * 1024,
            )
            for s in plain.get("shares") or ()
        )
        sites = tuple(WebSite(s["host"].lower(), Path(s["path"]), s.get("account") or "") for s in plain.get("sites") or ())
        domain = plain.get("domain")
        return cls(
            accounts,
            shares,
            sites,
            Domain(domain["name"], domain.get("netbios") or domain["name"].split(".")[0].upper()) if domain else None,
        )

    def check(self, user: str, password: str) -> NetworkAccount | None:
        r"""Return the account where name and password are right. ``user@domain`` and ``domain\\user`` mean the same."""
        account = self.accounts.get(self.normalise(user))
        if account is None or not hmac.compare_digest(account.password.encode(), password.encode()):
            return None
        return account

    def normalise(self, user: str) -> str:
        r"""Return a name as the accounts are kept: domain accounts as ``netbios\\user``."""
        name, dummy, realm = user.partition("@")
        if not realm:
            realm, dummy, name = user.rpartition("\\")
        if self.domain and realm.lower() in (self.domain.name.lower(), self.domain.netbios.lower()):
            return f"{self.domain.netbios}\\{name}".lower()
        if realm and any(share.server == realm.lower() for share in self.shares):
            return name.lower()
        return f"{realm}\\{name}".lower() if realm else name.lower()

    def find_share(self, unc: str) -> LabShare | None:
        """Return the share of a UNC root."""
        server, dummy, name = unc.lstrip("\\").lower().partition("\\")
        return next((s for s in self.shares if s.server == server and s.name.lower() == name), None)


class ComputerNetwork:
    """The network as one computer sees it. Not reachable at all without an address."""

    def __init__(self, network: LabNetwork, *, online: bool = True) -> None:
        """Take the network."""
        self._network = network
        self.online = online

    def connect(self, session: Session, unc: str, *, user: str = "", password: str = "", letter: str = "") -> None:
        """Connect a share in a session."""
        server, dummy, name = unc.lstrip("\\").partition("\\")
        root = f"\\\\{server}\\{name}"
        if not self.online or not any(share.server == server.lower() for share in self._network.shares):
            raise Win32Problem(53, "The network path was not found.")
        drive = letter.rstrip(":").upper() + ":" if letter else ""
        if drive and drive in session.connections:
            raise Win32Problem(85, "The local device name is already in use.")
        for other in session.connections.values():
            same = other.unc.lower().startswith(f"\\\\{server.lower()}\\")
            if same and user and self._network.normalise(other.user) != self._network.normalise(user):
                raise Win32Problem(1219, "Multiple connections to a server by the same user, using more than one user name.")
        account = self._network.check(user, password)
        if account is None:
            raise Win32Problem(1326, "The user name or password is incorrect.")
        share = self._network.find_share(root)
        if share is None:
            raise Win32Problem(67, "The network name cannot be found.")
        if not share.may_read(account.name):
            raise Win32Problem(5, "Access is denied.")
        session.connections[drive or root.lower()] = Connection(root, account.name, drive)

    def disconnect(self, session: Session, name: str) -> None:
        """Disconnect a letter or a share."""
        for key, connection in list(session.connections.items()):
            if key.lower() == name.lower() or connection.unc.lower() == name.rstrip("\\").lower():
                del session.connections[key]
                return
        raise Win32Problem(2250, "This network connection does not exist.")

    def find_share(self, connection: Connection) -> LabShare | None:
        """Return the share behind a connection, None while the network is gone."""
        return self._network.find_share(connection.unc) if self.online else None

    def http_get(self, url: str, *, user: str = "", password: str = "", offset: int = 0) -> tuple[int, int, Iterator[bytes]]:
        """GET from the https server."""
        parts = urlsplit(url)
        site = next((s for s in self._network.sites if s.host == (parts.hostname or "").lower()), None)
        if site is None or not self.online:
            raise Win32Problem(12007, "The server name or address could not be resolved.")
        if parts.scheme != "https":
            raise Win32Problem(12029, "A connection with the server could not be established.")
        if site.account:
            account = self._network.check(user, password) if user else None
            if account is None or not _same(account.name, (site.account,)):
                return 401, 0, iter(())
        file = _below(site.root, unquote(parts.path))
        if file is None or not file.is_file():
            return 404, 0, iter(())
        size = file.stat().st_size
        return (206 if offset else 200), size, _chunks(file, offset)

    def ping(self, host: str) -> bool:
        """Tell whether a name or address of the lab answers."""
        names = {share.server for share in self._network.shares} | {site.host for site in self._network.sites}
        if self._network.domain:
            names.add(self._network.domain.name.lower())
        return self.online and (host.lower() in names or host.startswith("127."))

    def certificate_authorities(self) -> bytes:
        """Return what the https server is signed by."""
        return self._network.ca_pem

    # --- the domain

    def join(self, domain: str, user: str, password: str, computer: str) -> None:
        """Join a computer: 1355 no such domain, 1326 wrong account, 5 no right to join."""
        known = self._network.domain
        if not self.online or known is None or domain.lower() not in (known.name.lower(), known.netbios.lower()):
            raise Win32Problem(1355, "The specified domain either does not exist or could not be contacted.")
        account = self._network.check(user, password)
        if account is None:
            raise Win32Problem(1326, "The user name or password is incorrect.")
        if not account.may_join:
            raise Win32Problem(5, "Access is denied.")
        known.computers.add(computer.upper())

    @property
    def domain(self) -> Domain | None:
        """The domain."""
        return self._network.domain


def _same(user: str, names: tuple[str, ...]) -> bool:
    return any(user.lower() == name.lower() or name == "*" for name in names)


def _below(root: Path, path: str) -> Path | None:
    current = root
    for part in path.split("/"):
        if part in ("", "."):
            continue
        current = current / part
        if part == ".." or current.is_symlink():
            return None
    return current


def _chunks(file: Path, offset: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(offset)
        while chunk := stream.read(_CHUNK):
            yield chunk
