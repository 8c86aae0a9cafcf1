# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Answer files (unattend.xml): typed settings into XML, merged into a file that is given, and XML back into what Setup does with it.

The key of a component is (pass, name, processor architecture). The step's values win over those of a given file, everything else in
it stays. Components, elements and limits: Microsoft's unattend reference [doc: cp/unattend component pages], as windows-mechanics 5
and 6 cite them. A mistake here is dear: Setup stops at a bad file and the computer never answers, so all is checked before.
"""

from __future__ import annotations

import base64
import copy
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

NAMESPACE = "urn:schemas-microsoft-com:unattend"
WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
PASSES: tuple[str, ...] = (
    "windowsPE",
    "offlineServicing",
    "generalize",
    "specialize",
    "auditSystem",
    "auditUser",
    "oobeSystem",
    "oobeUser",
)
ARCHITECTURES = frozenset({"x86", "amd64", "arm64", "arm", "wow64", "ia64"})
TOKEN = "31bf3856ad364e35"
MASK = "********"

SHELL_SETUP = "Microsoft-Windows-Shell-Setup"
INTERNATIONAL = "Microsoft-Windows-International-Core"
DEPLOYMENT = "Microsoft-Windows-Deployment"
JOIN = "Microsoft-Windows-UnattendedJoin"
TCPIP = "Microsoft-Windows-TCPIP"
DNS_CLIENT = "Microsoft-Windows-DNS-Client"
NETBT = "Microsoft-Windows-NetBT"

#: Passes in which a component is valid, of those that Setup goes through on an applied image. What is not listed is not judged.
#: [doc: cp/unattend component pages]
_VALID_PASSES: dict[str, frozenset[str]] = {
    name.lower(): frozenset(passes.split())
    for name, passes in {
        SHELL_SETUP: "specialize oobeSystem",
        INTERNATIONAL: "specialize oobeSystem",
        DEPLOYMENT: "specialize oobeSystem",
        JOIN: "specialize",
        TCPIP: "specialize",
        DNS_CLIENT: "specialize",
        NETBT: "specialize",
        "Microsoft-Windows-Setup": "",
        "Microsoft-Windows-International-Core-WinPE": "",
        "Microsoft-Windows-LUA-Settings": "",
        "Microsoft-Windows-PnpCustomizationsNonWinPE": "",
        "Microsoft-Windows-PnpCustomizationsWinPE": "",
        "Microsoft-Windows-Security-SPP": "",
        "Microsoft-Windows-Security-SPP-UX": "specialize",
        "Microsoft-Windows-IE-InternetExplorer": "specialize",
        "Microsoft-Windows-TerminalServices-LocalSessionManager": "specialize",
        "Microsoft-Windows-TerminalServices-RDP-WinStationExtensions": "specialize",
        "Microsoft-Windows-SecureStartup-FilterDriver": "specialize oobeSystem",
        "Networking-MPSSVC-Svc": "specialize",
        "Security-Malware-Windows-Defender": "specialize oobeSystem",
    }.items()
}
_JUDGED_PASSES = frozenset({"specialize", "oobeSystem"})

#: Lists whose commands are numbered by Order, unique within the list.
_COMMAND_LISTS = ("RunSynchronous", "RunAsynchronous", "FirstLogonCommands", "LogonCommands", "AsynchronousCommands")
#: Elements whose text is a secret, by name of the element and of its parent ('' is any).
_SECRETS = frozenset(
    {
        ("Value", "AdministratorPassword"),
        ("Value", "Password"),
        ("Value", "DomainAdminPassword"),
        ("Password", "Credentials"),
        ("Password", ""),
        ("AdministratorPassword", ""),
        ("MachinePassword", ""),
        ("AccountData", ""),
        ("ProductKey", "component"),
        ("Key", "ProductKey"),
    }
)

ElementTree.register_namespace("", NAMESPACE)
ElementTree.register_namespace("wcm", WCM)


class AnswerFileError(ValueError):
    """An answer file that Windows Setup would not take, or a value it could not hold; the message names what and where."""


# --- values


_COMPUTER_NAME_BAD = re.compile(r"""[\s\x00-\x1f{|}~\[\\\]^':;<=>?@!"#$%`()+/.*,&]""")
_PRODUCT_KEY = re.compile(r"[A-Z0-9]{5}(-[A-Z0-9]{5}){4}", re.IGNORECASE)
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-[A-Za-z]{2}|-\d{3})?(-[A-Za-z]{4,8})?")
_INPUT_LOCALE = re.compile(r"[0-9A-Fa-f]{4}:([0-9A-Fa-f]{8}|\{[0-9A-Fa-f-]{36}\}\{[0-9A-Fa-f-]{36}\})")
_MAC = re.compile(r"([0-9A-Fa-f]{2})[:-]?" * 5 + r"([0-9A-Fa-f]{2})")
_TIME_ZONE = re.compile(r"[A-Za-z0-9 .+()/_-]{1,255}")
_WORKGROUP_BAD = re.compile(r'[\x00-\x1f"/\\\[\]:;|=,+*?<>]')


def check_computer_name(name: str) -> str:
    """Return what is wrong with a computer name, '' when nothing is. ``*`` asks Setup for a random one."""
    if name == "*":
        return ""
    if not 1 <= len(name.encode()) <= 15:
        return "use 1 to 15 bytes, letters, digits and hyphens"
    if _COMPUTER_NAME_BAD.search(name):
        return "it holds a character that a computer name cannot have"
    return "a name cannot be digits only" if name.isdigit() else ""


def check_product_key(key: str) -> str:
    """Return what is wrong with a product key, '' when nothing is. Never repeats the key."""
    return "" if _PRODUCT_KEY.fullmatch(key) else "use five groups of five letters or digits with hyphens between them"


def check_time_zone(name: str) -> str:
    """Return what is wrong with the form of a time zone's name, '' when nothing is."""
    return "" if _TIME_ZONE.fullmatch(name) else "use the English name that 'tzutil /l' prints, such as 'Romance Standard Time'"


def check_locale(name: str) -> str:
    """Return what is wrong with a language name such as ``en-US``, '' when nothing is."""
    return "" if _LOCALE.fullmatch(name) else "use a language name such as en-US"


def check_input_locale(text: str) -> str:
    """Return what is wrong with a list of keyboard layouts, '' when nothing is."""
    parts = [part.strip() for part in text.split(";")]
    if all(_INPUT_LOCALE.fullmatch(part) or _LOCALE.fullmatch(part) for part in parts):
        return ""
    return "use language names or pairs such as 0409:00000409, several with ;"


def check_workgroup(name: str) -> str:
    """Return what is wrong with a workgroup's name, '' when nothing is. NetBIOS takes 15 characters, whatever the editor takes."""
    if not 1 <= len(name.encode()) <= 15:
        return "use 1 to 15 characters"
    return "it holds a character that a workgroup name cannot have" if _WORKGROUP_BAD.search(name) else ""


def normalise_mac(text: str) -> str:
    """Return a MAC address as answer files have it, ``00-11-22-33-44-55``. ValueError for anything else."""
    match = _MAC.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no MAC address")
    return "-".join(match.groups()).upper()


def hide_password(password: str, element: str) -> str:
    """Return a password as ``Value`` with ``PlainText`` false: base64 of the UTF-16 text and the element's name.

    It hides, it does not encrypt. The element is AdministratorPassword, or Password for accounts and automatic logon [doc; code].
    """
    return base64.b64encode((password + element).encode("utf-16-le")).decode()


def show_password(value: str, element: str) -> str:
    """Return the password that :func:`hide_password` hid. AnswerFileError where the text is not of that form."""
    try:
        text = base64.b64decode(value, validate=True).decode("utf-16-le")
    except ValueError as error:
        raise AnswerFileError(f"The hidden {element} cannot be read") from error
    if not text.endswith(element):
        raise AnswerFileError(f"The hidden {element} does not end in its name; Windows would take it as a wrong password")
    return text.removesuffix(element)


# --- what Setup reads


@dataclass(frozen=True)
class LocalAccount:
    """An account that Setup makes; ``groups`` by their English names."""

    name: str
    password: str = field(repr=False)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A numbered command of a list."""

    order: int
    line: str


@dataclass(frozen=True)
class Locales:
    """International settings of one pass."""

    input_locale: str = ""
    system_locale: str = ""
    ui_language: str = ""
    ui_language_fallback: str = ""
    user_locale: str = ""


@dataclass(frozen=True)
class Membership:
    """Where Setup joins: a domain wins over a workgroup."""

    workgroup: str = ""
    domain: str = ""
    ou: str = ""
    account_domain: str = ""
    account_user: str = ""
    account_password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Interface:
    """One network adapter by its MAC address (or Windows' name for it). Addresses with prefix, ``192.0.2.10/24``."""

    identifier: str
    dhcp: bool = True
    addresses: tuple[str, ...] = ()
    gateways: tuple[tuple[str, int], ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_domain: str = ""
    register_in_dns: bool | None = None
    full_dns_registration: bool | None = None
    netbios_options: int | None = None
    wins_servers: tuple[str, ...] = ()


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _path(path: str) -> str:
    return "/".join(_tag(part) for part in path.split("/"))


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


class AnswerFile:
    """One answer file. Made from nothing or read from bytes; the typed readers are what the lab's Setup goes by."""

    def __init__(self, root: Element | None = None) -> None:
        """Take the root element of a file that was checked, or start an empty one."""
        self._root = Element(_tag("unattend")) if root is None else root

    # components

    @property
    def components(self) -> dict[tuple[str, str, str], Element]:
        """Every component by (pass, name, architecture)."""
        return {(p, c.get("name") or "", c.get("processorArchitecture") or ""): c for p, c in _components(self._root)}

    @property
    def processed_passes(self) -> frozenset[str]:
        """Passes that a Setup has gone through with this file: it is a cached copy then."""
        marked = [s for s in self._root.findall(_tag("settings")) if s.get("wasPassProcessed", "").lower() == "true"]
        return frozenset(s.get("pass") or "" for s in marked)

    def architectures(self) -> frozenset[str]:
        """Return the architectures that components are for."""
        return frozenset(key[2] for key in self.components)

    def find(self, pass_name: str, component: str, architecture: str) -> Element | None:
        """Return a component, None where the file does not have it. Names in any case, as Setup takes them [knowledge]."""
        wanted = (pass_name, component.lower(), architecture.lower())
        return next((e for (p, c, a), e in self.components.items() if (p, c.lower(), a.lower()) == wanted), None)

    def component(self, pass_name: str, component: str, architecture: str) -> Element:
        """Return a component, made where the file did not have it."""
        found = self.find(pass_name, component, architecture)
        if found is not None:
            return found
        settings = next((s for s in self._root.findall(_tag("settings")) if s.get("pass") == pass_name), None)
        if settings is None:
            settings = ElementTree.SubElement(self._root, _tag("settings"), {"pass": pass_name})
        attributes = {
            "name": component,
            "processorArchitecture": architecture,
            "publicKeyToken": TOKEN,
            "language": "neutral",
            "versionScope": "nonSxS",
        }
        return ElementTree.SubElement(settings, _tag("component"), attributes)

    def text(self, pass_name: str, component: str, architecture: str, path: str) -> str:
        """Return an element's text, '' where it is not there."""
        found = self.find(pass_name, component, architecture)
        return (found.findtext(_path(path)) or "").strip() if found is not None else ""

    # typed readers

    def shell_setup(self, architecture: str, name: str) -> str:
        """Return a text of Shell-Setup, from specialize or oobeSystem, whichever has it (the later pass wins)."""
        texts = [self.text(p, SHELL_SETUP, architecture, name) for p in ("specialize", "oobeSystem")]
        return texts[1] or texts[0]

    def computer_name(self, architecture: str) -> str:
        """Return the computer name, '' or ``*`` where Setup makes one up."""
        return self.text("specialize", SHELL_SETUP, architecture, "ComputerName")

    def product_key(self, architecture: str) -> str:
        """Return the product key of specialize, '' where there is none."""
        return self.text("specialize", SHELL_SETUP, architecture, "ProductKey")

    def locales(self, architecture: str, pass_name: str = "oobeSystem") -> Locales:
        """Return the international settings of a pass."""
        names = ("InputLocale", "SystemLocale", "UILanguage", "UILanguageFallback", "UserLocale")
        return Locales(*(self.text(pass_name, INTERNATIONAL, architecture, name) for name in names))

    def administrator_password(self, architecture: str) -> str | None:
        """Return the built-in administrator's password, None where the file sets none."""
        component = self.find("oobeSystem", SHELL_SETUP, architecture)
        element = component.find(_path("UserAccounts/AdministratorPassword")) if component is not None else None
        return None if element is None else _password(element, "AdministratorPassword")

    def local_accounts(self, architecture: str) -> tuple[LocalAccount, ...]:
        """Return the local accounts that Setup makes."""
        component = self.find("oobeSystem", SHELL_SETUP, architecture)
        if component is None:
            return ()
        return tuple(
            LocalAccount(
                name=_text(element, "Name"),
                password=_password(p, "Password") if (p := element.find(_tag("Password"))) is not None else "",
                groups=tuple(g.strip() for g in _text(element, "Group").split(";") if g.strip()),
            )
            for element in component.findall(_path("UserAccounts/LocalAccounts/LocalAccount"))
        )

    def oobe(self, architecture: str) -> dict[str, str]:
        """Return the OOBE element's settings by name."""
        component = self.find("oobeSystem", SHELL_SETUP, architecture)
        element = component.find(_tag("OOBE")) if component is not None else None
        return {} if element is None else {_local(e): (e.text or "").strip() for e in element if _local(e)}

    def run_synchronous(self, pass_name: str, architecture: str) -> tuple[Command, ...]:
        """Return the commands that Setup runs as SYSTEM in a pass, in order."""
        component = self.find(pass_name, DEPLOYMENT, architecture)
        if component is None:
            return ()
        found = component.findall(_path("RunSynchronous/RunSynchronousCommand"))
        return tuple(sorted((Command(int(_text(e, "Order") or 0), _text(e, "Path")) for e in found), key=lambda c: c.order))

    def membership(self, architecture: str) -> Membership:
        """Return what the computer joins in specialize."""

        def text(path: str) -> str:
            return self.text("specialize", JOIN, architecture, f"Identification/{path}")

        return Membership(
            workgroup=text("JoinWorkgroup"),
            domain=text("JoinDomain"),
            ou=text("MachineObjectOU"),
            account_domain=text("Credentials/Domain"),
            account_user=text("Credentials/Username"),
            account_password=text("Credentials/Password"),
        )

    def interfaces(self, architecture: str) -> tuple[Interface, ...]:
        """Return the adapters that specialize configures, from TCPIP, DNS-Client and NetBT together."""
        tcpip, dns, netbt = (self._by_identifier(name, architecture) for name in (TCPIP, DNS_CLIENT, NETBT))
        return tuple(
            _interface(identifier, tcpip.get(identifier), dns.get(identifier), netbt.get(identifier))
            for identifier in dict.fromkeys([*tcpip, *dns, *netbt])
        )

    def _by_identifier(self, component: str, architecture: str) -> dict[str, Element]:
        found = self.find("specialize", component, architecture)
        if found is None:
            return {}
        return {_identifier(_text(e, "Identifier")): e for e in found.findall(_path("Interfaces/Interface"))}

    # writing

    def render(self) -> bytes:
        """Return the file: UTF-8, indented, with a declaration. The same content gives the same bytes."""
        root = copy.deepcopy(self._root)
        ElementTree.indent(root, "  ")
        text = '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
        return text.encode("utf-8")

    def masked(self) -> str:
        """Return the file with every secret replaced, for a diff."""
        root = copy.deepcopy(self._root)
        _mask(root, "")
        ElementTree.indent(root, "  ")
        return ElementTree.tostring(root, encoding="unicode") + "\n"

    def copy(self) -> AnswerFile:
        """Return a copy to change."""
        return AnswerFile(copy.deepcopy(self._root))


def _components(root: Element) -> Iterator[tuple[str, Element]]:
    for settings in root.findall(_tag("settings")):
        for component in settings.findall(_tag("component")):
            yield settings.get("pass") or "", component


def _text(element: Element, path: str) -> str:
    return (element.findtext(_path(path)) or "").strip()


def _password(element: Element, name: str) -> str:
    value = element.find(_tag("Value"))
    text = (element.text or "").strip() if value is None else value.text or ""
    if value is None or _text(element, "PlainText").lower() != "false":
        return text
    return show_password(text.strip(), name)


def _identifier(text: str) -> str:
    return text.upper().replace(":", "-") if _MAC.fullmatch(text) else text


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())


def _interface(identifier: str, tcpip: Element | None, dns: Element | None, netbt: Element | None) -> Interface:
    def one(element: Element | None, path: str) -> str:
        return "" if element is None else _text(element, path)

    def many(element: Element | None, path: str) -> tuple[str, ...]:
        return () if element is None else tuple((e.text or "").strip() for e in element.findall(_path(path)))

    addresses = many(tcpip, "UnicastIpAddresses/IpAddress")
    routes = [] if tcpip is None else tcpip.findall(_path("Routes/Route"))
    netbios = one(netbt, "NetbiosOptions")
    return Interface(
        identifier=identifier,
        dhcp=(_flag(one(tcpip, "Ipv4Settings/DhcpEnabled")) is not False) or not addresses,
        addresses=addresses,
        gateways=tuple(
            (_text(r, "NextHopAddress"), int(_text(r, "Metric") or 0)) for r in routes if _text(r, "Prefix") in ("0.0.0.0/0", "::/0")
        ),
        dns_servers=many(dns, "DNSServerSearchOrder/IpAddress"),
        dns_domain=one(dns, "DNSDomain"),
        register_in_dns=None if (flag := _flag(one(dns, "DisableDynamicUpdate"))) is None else not flag,
        full_dns_registration=_flag(one(dns, "EnableAdapterDomainNameRegistration")),
        netbios_options=int(netbios) if netbios.isdigit() else None,
        wins_servers=many(netbt, "NameServerList/IpAddress"),
    )


def _mask(element: Element, parent: str) -> None:
    for child in element:
        name = _local(child)
        if ((name, parent) in _SECRETS or (name, "") in _SECRETS) and (child.text or "").strip() and not len(child):
            child.text = MASK
        _mask(child, name)


# --- reading and checking


def parse(data: bytes) -> AnswerFile:
    """Read an answer file. Raises AnswerFileError with the reason where Windows Setup would not take it."""
    if any("<!DOCTYPE".encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be")):
        raise AnswerFileError("The answer file holds a document type (DTD), which is not taken")
    builder = ElementTree.TreeBuilder(insert_comments=True)
    parser = ElementTree.XMLParser(target=builder)
    try:
        parser.feed(data)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnswerFileError(f"The answer file is not well-formed XML: {error}") from error
    problems = check_structure(root)
    if problems:
        raise AnswerFileError(f"The answer file is not valid: {'; '.join(problems)}")
    return AnswerFile(root)


def check_structure(root: Element) -> list[str]:
    """Return what is wrong with the file as a whole: root, passes, components, architectures, double keys and Order numbers."""
    if root.tag != _tag("unattend"):
        return [f"it starts with {root.tag} instead of unattend in the namespace {NAMESPACE}"]
    problems = [
        f"a settings element has the unknown pass {s.get('pass')!r}" for s in root.findall(_tag("settings")) if s.get("pass") not in PASSES
    ]
    seen: set[tuple[str, str, str]] = set()
    for pass_name, component in _components(root):
        name, architecture = component.get("name") or "", component.get("processorArchitecture") or ""
        where = f"component {name or '(no name)'} in pass {pass_name}"
        if not name:
            problems.append(f"{where} has no name")
        if architecture.lower() not in ARCHITECTURES:
            problems.append(f"{where} has the unknown processorArchitecture {architecture!r}")
        key = (pass_name, name.lower(), architecture.lower())
        if key in seen:
            problems.append(f"{where} stands there twice for {architecture}")
        seen.add(key)
        problems += [f"{where}: {text}" for text in _order_problems(component)]
    return problems


def _order_problems(component: Element) -> list[str]:
    problems = []
    for element in component.iter():
        if _local(element) not in _COMMAND_LISTS:
            continue
        orders = [_text(command, "Order") for command in element if _local(command)]
        twice = sorted({o for o in orders if o and orders.count(o) > 1})
        if twice:
            problems.append(f"{_local(element)} has the Order {', '.join(twice)} more than once")
        if any(not o.isdigit() for o in orders):
            problems.append(f"{_local(element)} has a command without a number as Order")
    return problems


# --- writing


def _set(parent: Element, path: str, text: str) -> None:
    """Set an element's text, made with its parents where it was not there."""
    element = parent
    for part in path.split("/"):
        child = element.find(_tag(part))
        element = ElementTree.SubElement(element, _tag(part)) if child is None else child
    element.text = text


def _remove(parent: Element, name: str) -> None:
    for child in parent.findall(_tag(name)):
        parent.remove(child)


def _list_item(parent: Element, name: str) -> Element:
    return ElementTree.SubElement(parent, _tag(name), {f"{{{WCM}}}action": "add"})


def _hidden(parent: Element, name: str, password: str) -> None:
    _remove(parent, name)
    element = ElementTree.SubElement(parent, _tag(name))
    _set(element, "Value", hide_password(password, name))
    _set(element, "PlainText", "false")


@dataclass(frozen=True)
class WindowsSettings:
    """Apply Windows Settings, typed. '' leaves an element as the given file has it; ``server`` is the image's kind."""

    architecture: str
    user_name: str = ""
    organization: str = ""
    computer_name: str = ""
    product_key: str = field(default="", repr=False)
    time_zone: str = ""
    locales: Locales = Locales()
    server: bool = False


def apply_windows_settings(file: AnswerFile, settings: WindowsSettings) -> None:
    """Write the settings into the file, and the first start's screens off."""
    specialize = file.component("specialize", SHELL_SETUP, settings.architecture)
    oobe = file.component("oobeSystem", SHELL_SETUP, settings.architecture)
    for name, text in (("ComputerName", settings.computer_name), ("ProductKey", settings.product_key)):
        if text:
            _set(specialize, name, text)
    for name, text in (
        ("RegisteredOwner", settings.user_name),
        ("RegisteredOrganization", settings.organization),
        ("TimeZone", settings.time_zone),
    ):
        if text:
            _set(specialize, name, text)
            # A later pass would win over ours.
            if oobe.find(_tag(name)) is not None:
                _set(oobe, name, text)
    _apply_locales(file, settings)
    _apply_oobe(oobe, settings.server)


def _apply_locales(file: AnswerFile, settings: WindowsSettings) -> None:
    locales = settings.locales
    values = {
        "InputLocale": locales.input_locale,
        "SystemLocale": locales.system_locale,
        "UILanguage": locales.ui_language,
        "UILanguageFallback": locales.ui_language_fallback,
        "UserLocale": locales.user_locale,
    }
    if not any(values.values()):
        return
    for pass_name in ("specialize", "oobeSystem"):
        component = file.component(pass_name, INTERNATIONAL, settings.architecture)
        for name, text in values.items():
            if text:
                _set(component, name, text)


def _apply_oobe(component: Element, server: bool) -> None:
    """No screen of the first start may wait for somebody. HideLocalAccountScreen is valid on a server only [doc: cp]."""
    for name, text in {
        "HideEULAPage": "true",
        "HideOnlineAccountScreens": "true",
        "HideWirelessSetupInOOBE": "true",
        "ProtectYourPC": "3",
    }.items():
        _set(component, f"OOBE/{name}", text)
    if server:
        _set(component, "OOBE/HideLocalAccountScreen", "true")


#: Stands as a comment beside a password that nobody knows, so that a rerun leaves it alone.
_GENERATED = "goldimage.osd: generated"


def set_administrator_password(file: AnswerFile, architecture: str, password: str, *, generated: bool = False) -> None:
    """Give the built-in administrator a password, hidden. A generated one is marked as such."""
    accounts = _child(file.component("oobeSystem", SHELL_SETUP, architecture), "UserAccounts")
    _hidden(accounts, "AdministratorPassword", password)
    if generated:
        _child(accounts, "AdministratorPassword").append(ElementTree.Comment(_GENERATED))


def has_generated_password(file: AnswerFile, architecture: str) -> bool:
    """Tell whether the administrator's password is one that we generated."""
    component = file.find("oobeSystem", SHELL_SETUP, architecture)
    element = component.find(_path("UserAccounts/AdministratorPassword")) if component is not None else None
    return element is not None and any(child.text == _GENERATED for child in element if not _local(child))


def add_local_account(file: AnswerFile, architecture: str, account: LocalAccount) -> None:
    """Have Setup make a local account; one of the same name is replaced."""
    component = file.component("oobeSystem", SHELL_SETUP, architecture)
    accounts = _child(_child(component, "UserAccounts"), "LocalAccounts")
    for element in accounts.findall(_tag("LocalAccount")):
        if _text(element, "Name").lower() == account.name.lower():
            accounts.remove(element)
    element = _list_item(accounts, "LocalAccount")
    _hidden(element, "Password", account.password)
    _set(element, "Group", ";".join(account.groups))
    _set(element, "Name", account.name)


def _child(parent: Element, name: str) -> Element:
    found = parent.find(_tag(name))
    return ElementTree.SubElement(parent, _tag(name)) if found is None else found


def add_run_synchronous(file: AnswerFile, architecture: str, line: str, description: str) -> None:
    """Have Setup run a command as SYSTEM in specialize, after those that are there; one of the same description is replaced."""
    commands = _child(file.component("specialize", DEPLOYMENT, architecture), "RunSynchronous")
    for element in commands.findall(_tag("RunSynchronousCommand")):
        if _text(element, "Description") == description:
            commands.remove(element)
    orders = [int(_text(e, "Order") or 0) for e in commands.findall(_tag("RunSynchronousCommand"))]
    element = _list_item(commands, "RunSynchronousCommand")
    _set(element, "Order", str(max(orders, default=0) + 1))
    _set(element, "Path", line)
    _set(element, "Description", description)
    _set(element, "WillReboot", "Never")


@dataclass(frozen=True)
class NetworkSettings:
    """Apply Network Settings, typed. No interfaces leave the adapters to DHCP, or as the given file has them."""

    architecture: str
    membership: Membership
    interfaces: tuple[Interface, ...] = ()
    dns_domain: str = ""
    dns_suffixes: tuple[str, ...] = ()


def apply_network_settings(file: AnswerFile, settings: NetworkSettings) -> None:
    """Write the settings into the file; the adapters of the step replace all that the file had."""
    _apply_membership(file.component("specialize", JOIN, settings.architecture), settings.membership)
    if settings.dns_domain or settings.dns_suffixes or any(i.dns_servers or i.dns_domain for i in settings.interfaces):
        _apply_dns(file.component("specialize", DNS_CLIENT, settings.architecture), settings)
    if not settings.interfaces:
        return
    tcpip = file.component("specialize", TCPIP, settings.architecture)
    _remove(tcpip, "Interfaces")
    interfaces = _child(tcpip, "Interfaces")
    for interface in settings.interfaces:
        _tcpip_interface(_list_item(interfaces, "Interface"), interface)
    netbt = [i for i in settings.interfaces if i.netbios_options is not None or i.wins_servers]
    if netbt:
        component = file.component("specialize", NETBT, settings.architecture)
        _remove(component, "Interfaces")
        parent = _child(component, "Interfaces")
        for interface in netbt:
            _netbt_interface(_list_item(parent, "Interface"), interface)


def _apply_membership(component: Element, membership: Membership) -> None:
    _remove(component, "Identification")
    identification = _child(component, "Identification")
    if membership.domain:
        # The join's password has no hidden form [doc].
        for name, text in (
            ("Domain", membership.account_domain),
            ("Username", membership.account_user),
            ("Password", membership.account_password),
        ):
            _set(identification, f"Credentials/{name}", text)
        _set(identification, "JoinDomain", membership.domain)
        if membership.ou:
            _set(identification, "MachineObjectOU", membership.ou)
    else:
        _set(identification, "JoinWorkgroup", membership.workgroup)


def _tcpip_interface(element: Element, interface: Interface) -> None:
    """Children in the documented order: Ipv4Settings, Identifier, UnicastIpAddresses, Routes [doc: cp/microsoft-windows-tcpip]."""
    _set(element, "Ipv4Settings/DhcpEnabled", "true" if interface.dhcp else "false")
    _set(element, "Identifier", interface.identifier)
    if interface.dhcp:
        return
    _numbered(element, "UnicastIpAddresses", "IpAddress", interface.addresses)
    if interface.gateways:
        routes = _child(element, "Routes")
        for number, (gateway, metric) in enumerate(interface.gateways):
            route = _list_item(routes, "Route")
            _set(route, "Identifier", str(number))
            _set(route, "Metric", str(metric or 1))
            _set(route, "NextHopAddress", gateway)
            _set(route, "Prefix", "::/0" if ":" in gateway else "0.0.0.0/0")


def _numbered(parent: Element, name: str, item: str, texts: Sequence[str]) -> None:
    element = _child(parent, name)
    for number, text in enumerate(texts, start=1):
        child = _list_item(element, item)
        child.set(f"{{{WCM}}}keyValue", str(number))
        child.text = text


def _apply_dns(component: Element, settings: NetworkSettings) -> None:
    if settings.dns_domain:
        _set(component, "DNSDomain", settings.dns_domain)
    if settings.dns_suffixes:
        _remove(component, "DNSSuffixSearchOrder")
        _numbered(component, "DNSSuffixSearchOrder", "DomainName", settings.dns_suffixes)
    listed = [i for i in settings.interfaces if i.dns_servers or i.dns_domain or i.register_in_dns is not None]
    if not listed:
        return
    _remove(component, "Interfaces")
    interfaces = _child(component, "Interfaces")
    for interface in listed:
        element = _list_item(interfaces, "Interface")
        _set(element, "Identifier", interface.identifier)
        if interface.dns_domain:
            _set(element, "DNSDomain", interface.dns_domain)
        if interface.dns_servers:
            _numbered(element, "DNSServerSearchOrder", "IpAddress", interface.dns_servers)
        if interface.full_dns_registration is not None:
            _set(element, "EnableAdapterDomainNameRegistration", str(interface.full_dns_registration).lower())
        if interface.register_in_dns is not None:
            _set(element, "DisableDynamicUpdate", str(not interface.register_in_dns).lower())


def _netbt_interface(element: Element, interface: Interface) -> None:
    if interface.wins_servers:
        _numbered(element, "NameServerList", "IpAddress", interface.wins_servers)
    _set(element, "NetbiosOptions", str(interface.netbios_options or 0))
    _set(element, "Identifier", interface.identifier)


def address_with_prefix(address: str, mask: str) -> str:
    """Return ``192.0.2.10/24`` from an address and a mask (or prefix length). ValueError for what is none."""
    return ipaddress.ip_interface(f"{address}/{mask}").with_prefixlen


def content_problems(file: AnswerFile, architecture: str) -> list[str]:
    """Return values in the file that Setup would stop at, for the image's architecture; each line names component and element."""
    problems = []
    if file.processed_passes:
        problems.append(f"it is Setup's cached copy: the passes {', '.join(sorted(file.processed_passes))} are done already")
    checks: Mapping[str, tuple[str, str]] = {
        "ComputerName": (name := file.computer_name(architecture), check_computer_name(name) if name else ""),
        "ProductKey": (key := file.product_key(architecture), check_product_key(key) if key else ""),
    }
    problems += [f"{SHELL_SETUP}/{element}: {problem}" for element, (dummy, problem) in checks.items() if problem]
    problems += [
        f"{component} is not valid in the pass {pass_name}"
        for pass_name, component, dummy in file.components
        if pass_name in _JUDGED_PASSES and pass_name not in _VALID_PASSES.get(component.lower(), _JUDGED_PASSES)
    ]
    others = {a.lower() for a in file.architectures()} - {"wow64"}
    if others and architecture not in others:
        problems.append(f"its components are for {', '.join(sorted(others))}, the image is {architecture}")
    try:
        file.administrator_password(architecture)
        file.local_accounts(architecture)
    except AnswerFileError as error:
        problems.append(str(error))
    return problems
