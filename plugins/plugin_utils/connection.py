# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that touches Ansible's winrm connection plugin and pywinrm.

Of the plugin it uses ``_connect``, ``protocol``, ``shell_id`` and ``close``; of pywinrm ``protocol.transport`` with
``build_session``, ``setup_encryption``, ``send_message``, ``close_session``, ``session`` and ``auth_method`` (the same in ansible-core
2.18 to 2.21, pywinrm 0.5). Envelopes come ready from ``wsman.client``. Every problem becomes a :class:`ConnectionProblem` in the
user's words.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .nt_hash import nt_hash
from .one_connection import NotSent, OneConnection, PreparedOnce, SentDirectly
from .windows.computer import ComputerLost
from .wsman.client import Client, Identity, identify_request, parse_identify
from .wsman.envelope import ProtocolError
from .wsman.faults import WsmanFault
from .wsman.known import known
from .wsman.schema import Schema

try:
    import requests
    import requests.adapters
    from winrm.exceptions import AuthenticationError, InvalidCredentialsError, WinRMError, WinRMTransportError

    HAS_WINRM = True
except ImportError:
    HAS_WINRM = False

UNREACHABLE = "unreachable"
REFUSED = "refused"
TIMEOUT = "timeout"
WRONG_CREDENTIALS = "wrong_credentials"
WRONG_CERTIFICATE = "wrong_certificate"
NOT_WSMAN = "not_wsman"

#: Windows closes idle connections after about 120 s, and a sealed one does not survive that: it is renewed well before.
_IDLE_LIMIT = 60.0
#: An answer begins with its root element within so many bytes.
_BEGINNING = 1024
_PLUGIN = "ansible.builtin.winrm"
#: How pywinrm may log on over http for ``one_connection``; the others look into urllib3's own response.
_OVER_ONE_HTTP = ("basic", "plaintext", "ntlm")
#: What pyspnego takes for the LM and NT hashes in place of a password.
_HASHES = re.compile(r"[0-9a-fA-F]{32}:[0-9a-fA-F]{32}")


class ConnectionProblem(ComputerLost):
    """The endpoint cannot be used. ``kind`` is one of unreachable, refused, timeout, wrong_credentials, wrong_certificate, not_wsman.

    ``in_doubt`` is false where the request was certainly not carried out: it never left whole, or was refused by its HTTP status.
    """

    def __init__(self, kind: str, message: str, *, in_doubt: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.in_doubt = in_doubt


@dataclass(frozen=True)
class Endpoint:
    """How one identity of a computer is reached.

    ``transport`` is pywinrm's: basic, ntlm, kerberos, credssp, certificate. ``certificate`` is the path of the one certificate that is
    trusted, ``certificate_name`` the DNS name in it; without it ``server_cert_validation`` (validate, ignore) holds.
    ``operation_timeout`` and ``read_timeout`` in seconds. ``extras`` are further ``ansible_winrm_*`` variables, with that prefix.
    ``step`` is what the agent of Windows PE shows on its screen; it goes with every request.
    ``settings`` and ``remedy`` are for messages: where the user has set all this, and what to do where the password is refused.
    """

    host: str
    port: int
    scheme: str
    user: str
    transport: str
    password: str = field(default="", repr=False)
    path: str = "/wsman"
    certificate: str | None = None
    certificate_name: str | None = None
    server_cert_validation: str = "validate"
    operation_timeout: int = 20
    read_timeout: int = 30
    extras: Mapping[str, Any] = field(default_factory=dict, repr=False)
    step: str = ""
    settings: str = "this connection"
    remedy: str = ""

    @property
    def place(self) -> str:
        """``host:port``, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base of all URLs, without a path."""
        return f"{self.scheme}://{self.place}"


class WinrmConnection:
    """A connection to one endpoint through Ansible's plugin and pywinrm. Nothing is sent before the first ``send`` or ``http``.

    ``plugin`` is an instance of ``ansible.builtin.winrm``; ``owned`` says whether ``close`` closes it, too. ``endpoint`` is only for
    messages and trust where the plugin is the task's own.
    """

    def __init__(self, plugin: Any, endpoint: Endpoint, *, owned: bool) -> None:
        self.endpoint = endpoint
        self._plugin = plugin
        self._owned = owned
        self._mounted: Any = None
        self._last = 0.0
        self._used = False

    # --- what the layers above use ---

    def client(self, schema: Schema) -> Client:
        """Return a WS-Management client over this connection."""
        return Client(self.send, schema, operation_timeout=float(self.endpoint.operation_timeout))

    def send(self, body: bytes) -> tuple[int, bytes]:
        """Send an envelope and return HTTP status and answer. Raises ConnectionProblem."""
        transport = self._transport()
        idle = time.monotonic() - self._last
        if self._used and idle > _IDLE_LIMIT and transport.encryption is not None:
            self._renew(transport)
        try:
            return self._send_once(transport, body)
        except ConnectionProblem as problem:
            if not self._used or transport.encryption is None:
                raise
            # A sealed session whose TCP connection is gone fails for good. What may have been carried out is not sent a second time.
            self._renew(transport)
            if problem.in_doubt:
                raise
            return self._send_once(transport, body)
        finally:
            self._last = time.monotonic()

    def http(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a plain HTTP request (the agent's files) over the same session; return status, headers in lower case, body."""
        transport = self._transport()
        with self._translated():
            session = self._session(transport)
            sent = {"Content-Type": "application/octet-stream", **(headers or {})}
            # Prepared and sent as pywinrm does: 'request' would take a proxy from the environment again.
            prepared = session.prepare_request(requests.Request(method, self.endpoint.url + target, data=body, headers=sent))
            response = session.send(prepared, timeout=self.endpoint.read_timeout, allow_redirects=False)
            content = response.content
        self._used = True
        self._last = time.monotonic()
        if response.status_code == 401:
            raise self._problem(WRONG_CREDENTIALS)
        return response.status_code, {name.lower(): value for name, value in response.headers.items()}, content

    def close(self) -> None:
        """Close the session. The task's own connection is closed by Ansible."""
        if self._plugin.protocol is not None:
            self._plugin.protocol.transport.close_session()
        if self._owned:
            self._plugin.close()
        self._used = False

    # --- pywinrm ---

    def _transport(self) -> Any:
        plugin = self._plugin
        if plugin.protocol is None or not getattr(plugin, "_connected", False):
            # With a shell id the plugin opens no shell: a CIM operation costs one request instead of three.
            plugin.shell_id = "deferred"
            try:
                with self._translated():
                    plugin._connect()
            finally:
                plugin.shell_id = None
            if is_loopback(self.endpoint.host):
                # A proxy of the environment cannot reach this host's own addresses.
                plugin.protocol.transport.proxy = None
        return plugin.protocol.transport

    def _session(self, transport: Any) -> Any:
        sealing = type(transport).setup_encryption

        def setup_encryption(session: Any) -> None:
            # A sealed session belongs to the connection on which its handshake went: what sends must be there before it.
            self._mount(transport, session)
            sealing(transport, session)

        if transport.session is None:
            transport.setup_encryption = setup_encryption
        session = transport.build_session()
        self._mount(transport, session)
        return session

    def _mount(self, transport: Any, session: Any) -> None:
        if session is self._mounted:
            return
        self._mounted = session
        endpoint = self.endpoint
        if endpoint.step:
            session.headers["X-OSD-Step"] = urllib.parse.quote(endpoint.step, safe=" ")
        # pywinrm has taken the proxy and the authorities from the environment; requests would look there again for each request.
        session.trust_env = False
        proxied = any(session.proxies.get(name) for name in ("http", "https", "all"))
        if endpoint.scheme == "http" and not proxied and transport.auth_method in _OVER_ONE_HTTP:
            if transport.auth_method == "ntlm":
                _simplify_ntlm(session.auth)
            _send_over_one_connection(session, None)
        elif endpoint.certificate is not None:
            if not proxied and transport.auth_method == "basic":
                _send_over_one_connection(session, endpoint)
            else:
                session.mount("https://", _adapter(endpoint))

    def _renew(self, transport: Any) -> None:
        transport.close_session()
        transport.encryption = None
        self._mounted = None
        self._used = False

    def _send_once(self, transport: Any, body: bytes) -> tuple[int, bytes]:
        try:
            with self._translated():
                self._session(transport)
                answer: bytes = transport.send_message(body)
        except _HttpStatus as problem:
            status, answer = problem.status, problem.body
        else:
            status = 200
        if b"Envelope" not in answer[:_BEGINNING]:
            raise self._without_envelope(status, answer)
        self._used = True
        return status, answer

    # --- problems ---

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from ansible.errors import AnsibleError

        try:
            yield
        except InvalidCredentialsError:
            raise self._problem(WRONG_CREDENTIALS) from None
        except AuthenticationError:
            raise self._problem(WRONG_CREDENTIALS) from None
        except WinRMTransportError as error:
            raise _HttpStatus(int(error.code), str(error.response_text).encode()) from None
        except requests.exceptions.SSLError as error:
            raise self._tls_problem(error) from None
        except requests.exceptions.ConnectTimeout:
            raise self._problem(UNREACHABLE, in_doubt=False) from None
        except requests.exceptions.Timeout:
            raise self._problem(TIMEOUT) from None
        except requests.exceptions.ConnectionError as error:
            if _caused_by(error, ConnectionRefusedError):
                raise self._problem(REFUSED, in_doubt=False) from None
            raise self._problem(UNREACHABLE, in_doubt=not _caused_by(error, NotSent)) from None
        except WinRMError as error:
            raise self._problem(NOT_WSMAN, f"{type(error).__name__}: {error}") from None
        except requests.exceptions.RequestException as error:
            raise self._problem(NOT_WSMAN, type(error).__name__) from None
        except AnsibleError as error:
            raise self._problem(WRONG_CREDENTIALS if self.endpoint.transport == "kerberos" else NOT_WSMAN, str(error)) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # pywinrm stumbles over answers that lack what every WinRM sends, as a server that asks for no authentication.
            raise self._problem(NOT_WSMAN, "it does not ask for an account, or its answer lacks what WinRM sends") from error

    def _tls_problem(self, error: Exception) -> ConnectionProblem:
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "doesn't match" in str(error):
            return self._problem(WRONG_CERTIFICATE)
        return self._problem(NOT_WSMAN, "it does not speak TLS as expected")

    def _problem(self, kind: str, detail: str = "", *, in_doubt: bool = True) -> ConnectionProblem:
        return problem(self.endpoint, kind, detail, in_doubt=in_doubt)

    def _without_envelope(self, status: int, answer: bytes) -> ConnectionProblem:
        endpoint = self.endpoint
        if status == 500 and not answer and endpoint.scheme == "http":
            return ConnectionProblem(
                REFUSED,
                f"{endpoint.place} refuses messages that are not encrypted (HTTP 500 without content, AllowUnencrypted is false). "
                f"Use the transport ntlm, kerberos or credssp, or https, in {endpoint.settings}.",
            )
        if status == 503:
            text = f"{endpoint.place}: the service is not ready yet (HTTP 503). Wait and try again."
            return ConnectionProblem(UNREACHABLE, text, in_doubt=False)
        refused = 300 <= status < 500
        return self._problem(NOT_WSMAN, f"HTTP {status} {'with other' if answer else 'without'} content", in_doubt=not refused)


class _HttpStatus(Exception):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def open_endpoint(endpoint: Endpoint, *, connection: Any = None) -> WinrmConnection:
    """Return a connection to an endpoint; nothing is sent yet.

    With ``connection`` (the task's own) that one is used as it is, its transport and credentials included. Without it a second
    instance of the plugin is made from the endpoint's values alone, so that no ``ansible_*`` variable of the host leaks into it.
    Raises ConnectionProblem where a library is missing or the connection is of another kind.
    """
    if not HAS_WINRM:
        raise ConnectionProblem(
            NOT_WSMAN, "The Python library pywinrm is not installed on the control node. Install it: pip install 'pywinrm>=0.5'."
        )
    if connection is not None:
        refuse_other_plugin(connection)
        return WinrmConnection(connection, endpoint, owned=False)
    from ansible.playbook.play_context import PlayContext
    from ansible.plugins.loader import connection_loader

    plugin = connection_loader.get(_PLUGIN, PlayContext())
    plugin.set_options(var_options=_variables(endpoint))
    return WinrmConnection(plugin, endpoint, owned=True)


def refuse_other_plugin(connection: Any) -> None:
    """Raise ConnectionProblem where a task's connection is not Ansible's winrm plugin."""
    if getattr(connection, "transport", "") != "winrm":
        kind = getattr(connection, "ansible_name", None) or getattr(connection, "transport", "another plugin")
        raise ConnectionProblem(
            NOT_WSMAN,
            f"This host is connected by {kind}; the collection goldimage.osd speaks WS-Management only. Set for the host: "
            "ansible_connection: ansible.builtin.winrm, ansible_port, ansible_winrm_scheme (http or https) and ansible_winrm_transport "
            "(ntlm, kerberos, basic …).",
        )


def _variables(endpoint: Endpoint) -> dict[str, Any]:
    extras = {
        "ansible_winrm_operation_timeout_sec": endpoint.operation_timeout,
        "ansible_winrm_read_timeout_sec": endpoint.read_timeout,
        "ansible_winrm_server_cert_validation": endpoint.server_cert_validation,
        **endpoint.extras,
    }
    if endpoint.certificate is not None:
        # pywinrm must not look for authorities in the environment: there is only the one certificate.
        extras.setdefault("ansible_winrm_ca_trust_path", None)
    return {
        "ansible_host": endpoint.host,
        "ansible_port": endpoint.port,
        "ansible_user": endpoint.user,
        "ansible_password": endpoint.password,
        "ansible_winrm_scheme": endpoint.scheme,
        "ansible_winrm_path": endpoint.path,
        "ansible_winrm_transport": [endpoint.transport],
        "_extras": extras,
    }


def unreadable(endpoint: Endpoint) -> str:
    """Return what to say of a file that is no certificate."""
    return f"The certificate to trust at {endpoint.place} cannot be read from {endpoint.certificate}. Correct it in {endpoint.settings}."


def is_loopback(host: str) -> bool:
    """Tell whether a host is this one; a proxy must not come between."""
    return host.startswith("127.") or host in ("localhost", "::1")


def problem(endpoint: Endpoint, kind: str, detail: str = "", *, in_doubt: bool = True) -> ConnectionProblem:
    """Return the problem of that kind with its message: what happened, where, what to do. A refused password leaves no doubt."""
    place, settings = endpoint.place, endpoint.settings
    what, remedy = {
        UNREACHABLE: (
            f"{place} does not answer",
            f"Is the computer on, started and on the network? Are host and port right in {settings}?",
        ),
        REFUSED: (
            f"{place} refuses the connection: the computer is there, but nothing listens on that port (yet)",
            f"Is it still starting, or in another environment? Is the port right in {settings}?",
        ),
        TIMEOUT: (
            f"{place} took the request, but did not answer within {endpoint.read_timeout} seconds",
            "It may still be starting, or be overloaded; try again.",
        ),
        WRONG_CREDENTIALS: (
            f"{place} does not accept the user '{endpoint.user}' by {endpoint.transport}: the password is wrong, the user may not log on "
            "remotely, or that transport is off",
            endpoint.remedy or f"Check user, password and transport in {settings}.",
        ),
        WRONG_CERTIFICATE: (
            f"{place} shows another certificate than the one that is trusted, {endpoint.certificate} with the name "
            f"'{endpoint.certificate_name or endpoint.host}'"
            if endpoint.certificate
            else f"{place} shows a certificate that is not trusted",
            f"Is it the right computer, and started from the right boot image? Then correct the certificate in {settings}."
            if endpoint.certificate
            else "Give its authority by ansible_winrm_ca_trust_path, or the certificate itself.",
        ),
        NOT_WSMAN: (
            f"{place} answers, but not as WS-Management",
            f"Check host, port, scheme ({endpoint.scheme}) and path ({endpoint.path}) in {settings}.",
        ),
    }[kind]
    text = f"{what}{f' ({detail})' if detail else ''}. {remedy}"
    return ConnectionProblem(kind, text, in_doubt=in_doubt and kind != WRONG_CREDENTIALS)


def _caused_by(error: BaseException, wanted: type[BaseException]) -> bool:
    """Look through what requests and urllib3 wrap around the socket's error."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        current = todo.pop()
        if not isinstance(current, BaseException) or current in seen:
            continue
        if isinstance(current, wanted):
            return True
        seen.append(current)
        todo += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return False


def load_for_forks() -> None:
    """Let TLS and NTLM load what they load at their first use, once before Ansible forks its workers.

    OpenSSL's settings, ciphers and the provider that has RC4 took each worker 2 ms over HTTPS and 10 ms for NTLM.
    """
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ImportError):
        import spnego
        from cryptography.hazmat.backends import default_backend
        from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
        from cryptography.hazmat.primitives.ciphers import Cipher

        spnego.client("nobody", ":".join(2 * ["0" * 32]), protocol="ntlm").step()
        Cipher(ARC4(bytes(16)), mode=None, backend=default_backend()).encryptor()


# --- trust in exactly one certificate -------------------------------------------------------------------------------------------------


def exact_context(certificate: str) -> ssl.SSLContext:
    """Return a context that trusts that one certificate and nothing else. OSError or ssl.SSLError where the file is none.

    A computer that starts is asked many times: the context is made once, as long as the file is the same.
    """
    return _exact_context(certificate, os.stat(certificate).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _exact_context(certificate: str, changed: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    # The certificate itself is trusted, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _trusting(endpoint: Endpoint) -> tuple[ssl.SSLContext, str]:
    """Return the context for the endpoint's one certificate, and the name in it."""
    try:
        context = exact_context(known(endpoint.certificate))
    except (OSError, ssl.SSLError):
        raise ConnectionProblem(WRONG_CERTIFICATE, unreadable(endpoint)) from None
    return context, endpoint.certificate_name or endpoint.host


def _simplify_ntlm(auth: Any) -> None:
    """Leave out of NTLM over http what it does not need."""
    # Without TLS there is no channel to bind it to.
    auth.send_cbt = False
    # NTLM of version 2 takes the NT hash alone ([MS-NLMP] 3.3.2). From a password pyspnego makes the LM hash, too: DES in Python, 2 ms.
    # Who asks for an older version by that variable needs both.
    if auth.password and not _HASHES.fullmatch(auth.password) and "LM_COMPAT_LEVEL" not in os.environ:
        auth.password = f"{'0' * 32}:{nt_hash(auth.password).hex()}"


def _send_over_one_connection(session: Any, endpoint: Endpoint | None) -> None:
    """Let a session send so where nothing of urllib3 is needed; with an endpoint over TLS, by its one certificate."""
    if endpoint is None:
        connection = OneConnection()
    else:
        context, name = _trusting(endpoint)
        connection = OneConnection(lambda plain: context.wrap_socket(plain, server_hostname=name))
    session.prepare_request, session.send = PreparedOnce(session), SentDirectly(connection)
    # It closes the connection with the session.
    session.mount(f"{'https' if endpoint else 'http'}://", connection)


def _adapter(endpoint: Endpoint) -> Any:
    """Return what sends by that certificate where it takes urllib3: a proxy, or NTLM, which is bound to the channel."""
    context, name = _trusting(endpoint)

    class ExactCertificate(requests.adapters.HTTPAdapter):  # type: ignore[misc, unused-ignore]
        """Verifies that one certificate and its fixed name; the system's authorities are not even loaded."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, assert_hostname=name, server_hostname=name, **kwargs)

        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            # Whatever the session's own verification says (False included), the pool's context and name stand.
            host, dummy = super().build_connection_pool_key_attributes(request, True, None)
            return host, {"cert_reqs": "CERT_REQUIRED"}

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            conn.cert_reqs = "CERT_REQUIRED"
            conn.ca_certs = conn.ca_cert_dir = None

    return ExactCertificate()


# --- is it there? ---------------------------------------------------------------------------------------------------------------------


def probe(endpoint: Endpoint, timeout: float = 3.0) -> Identity | ConnectionProblem:
    """Ask who is there, without credentials and without Ansible: one Identify within ``timeout`` seconds.

    Returns what keeps it from answering instead of raising it: a computer that starts passes through most of them.
    """
    try:
        connection = _plain_connection(endpoint, timeout)
    except (OSError, ssl.SSLError):
        return ConnectionProblem(WRONG_CERTIFICATE, unreadable(endpoint))
    headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "WSMANIDENTIFY": "unauthenticated"}
    try:
        connection.request("POST", endpoint.path, identify_request(), headers)
        response = connection.getresponse()
        body = response.read(64 * 1024)
        if response.status != 200:
            return problem(endpoint, NOT_WSMAN, f"HTTP {response.status}")
        return parse_identify(body)
    except ssl.SSLCertVerificationError:
        return problem(endpoint, WRONG_CERTIFICATE)
    except ConnectionRefusedError:
        return problem(endpoint, REFUSED)
    except TimeoutError:
        return ConnectionProblem(TIMEOUT, f"{endpoint.place} did not answer within {timeout:g} seconds. It may still be starting.")
    except ssl.SSLError:
        return problem(endpoint, NOT_WSMAN, "it does not speak TLS as expected")
    except OSError:
        return problem(endpoint, UNREACHABLE)
    except (http.client.HTTPException, ProtocolError, WsmanFault, ValueError):
        return problem(endpoint, NOT_WSMAN, "its answer to Identify is none")
    finally:
        connection.close()


class _NamedHttps(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate has another, fixed name."""

    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, context=context, timeout=timeout)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


def _plain_connection(endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
    if endpoint.scheme != "https":
        return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    if endpoint.certificate is not None:
        context = exact_context(endpoint.certificate)
    elif endpoint.server_cert_validation == "ignore":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=endpoint.extras.get("ansible_winrm_ca_trust_path") or None)
    return _NamedHttps(endpoint.host, endpoint.port, endpoint.certificate_name or endpoint.host, context, timeout)
