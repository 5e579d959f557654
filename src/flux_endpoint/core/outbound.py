"""Which places the server calls because a client named them: none of its own network, unless the operator allows it.

The rule against server-side request forgery, for webhooks and for buckets of clients. Pure: nothing is looked up here.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from flux_endpoint.core.errors import InvalidParameter

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's registries of special-purpose addresses. Spelt out, because what Python's `is_global` says changed between
# bugfix releases.
_SPECIAL_V4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-private"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_SPECIAL_V6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        # Teredo and benchmarking among them.
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
# All that has been given out to be used on the internet.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
# How an IPv6-only network reaches IPv4: the last 32 bits are the address meant.
_NAT64: Final = IPv6Network("64:ff9b::/96")
_HOST_PATTERN: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_MAX_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_URL_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """What may be called. Empty, as it is by default: every public address and nothing else.

    Attributes:
        hosts: names that may be called on any port, whatever they resolve to.
        places: names or addresses, each with the one port on which it may be called.
        networks: addresses that may be called on any port.
    """

    hosts: frozenset[str] = frozenset()
    places: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[Network, ...] = ()

    def why_refused(self, host: str, port: int, address: Address) -> str | None:
        """Judge the address that a connection would go to.

        Args:
            host: as the client's URL names it.
            port: of the connection.
            address: what the host resolved to.

        Returns:
            Why it must not be called, a sentence; None when it may be.
        """
        name = _plain(host)
        if name in self.hosts or (name, port) in self.places:
            return None
        for form in _forms(address):
            if (str(form), port) in self.places or any(form in network for network in self.networks):
                return None
        kind = _kind_of(address)
        if kind is None:
            return None
        return f"{address} is a {kind} address, and this server calls public ones only (setting OUTBOUND_ALLOW)"

    def check_literal(self, field: str, url: str) -> None:
        """Refuse a URL whose host is an address that must not be called; names are judged when they are called.

        Args:
            field: name of the URL on the wire.
            url: well-formed, http or https.

        Raises:
            InvalidParameter: it must not be called.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = literal_address(host)
        if address is not None and (reason := self.why_refused(host, _port_of(parts), address)):
            raise InvalidParameter(field, f"cannot be called: {reason}")


PUBLIC_ONLY: Final = OutboundRules()


def parse_outbound_allow(text: str) -> OutboundRules:
    """Read the setting OUTBOUND_ALLOW: hosts, `host:port` and networks such as 10.0.0.0/8, joined by commas.

    Raises:
        ValueError: an entry is none of these; the text names it.
    """
    hosts: set[str] = set()
    places: set[tuple[str, int]] = set()
    networks: list[Network] = []
    for entry in filter(None, (part.strip().lower() for part in text.split(","))):
        if (network := _network_in(entry.strip("[]"))) is not None:
            networks.append(network)
            continue
        host, colon, port = entry.rpartition(":")
        host, port = (host.strip("[]"), port) if colon else (entry, "")
        literal = literal_address(host)
        if literal is None and not _HOST_PATTERN.fullmatch(host.rstrip(".")):
            raise ValueError(f"'{entry}' is no host, host:port or network such as 10.0.0.0/8")
        name = _plain(host) if literal is None else str(literal)
        if not colon:
            hosts.add(name)
        elif port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT:
            places.add((name, int(port)))
        else:
            raise ValueError(f"'{entry}' has no port from 1 to {_MAX_PORT} after its colon")
    return OutboundRules(frozenset(hosts), frozenset(places), tuple(networks))


def literal_address(host: str) -> Address | None:
    """The address that a host of a URL is, in every form an operating system reads as one; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        # 127.1, 2130706433 and 0x7f000001 are 127.0.0.1 too.
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def require_url(field: str, value: object, or_else: str = "") -> str:
    """A value as the URL that it must be.

    Args:
        field: its name on the wire.
        value: what a client sent.
        or_else: what else the caller takes, for whoever sends neither.

    Raises:
        InvalidParameter: it is no http or https URL, or a long one.
    """
    problem = f"must be an http:// or https:// URL of at most {_MAX_URL_CHARS} characters{or_else}"
    # Spaces and control characters would split a header or a log line further down.
    if not isinstance(value, str) or len(value) > _MAX_URL_CHARS or not all("!" <= char <= "~" for char in value):
        raise InvalidParameter(field, problem)
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise InvalidParameter(field, problem)
    return value


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: who receives."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{_port_of(parts)}"


def host_of(url: str) -> str:
    """The host of a URL in one spelling: whose machine it is, whatever the port."""
    host = urlsplit(url).hostname or ""
    literal = literal_address(host)
    return _plain(host) if literal is None else str(literal)


def without_secrets(url: str) -> str:
    """A URL as logs show it: without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _port_of(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _network_in(entry: str) -> Network | None:
    try:
        return ip_network(entry)
    except ValueError:
        return None


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that an IPv6 one stands for."""
    yield address
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            yield inner


def _kind_of(address: Address) -> str | None:
    """What makes an address no public one, in a word; None for a public one."""
    *_, meant = _forms(address)
    if isinstance(meant, IPv4Address):
        return next((kind for network, kind in _SPECIAL_V4 if meant in network), None)
    for network, kind in _SPECIAL_V6:
        if meant in network:
            return kind
    return None if meant in _GLOBAL_V6 else "reserved"
