"""Which URLs and addresses may be fetched: the grammar, the address table and the ports. Nothing is repaired.

Three seams ask here, each by itself: the URL (`check_url`, `check_redirect`), the resolver's answer
(`check_answer`: one bad address refuses the name) and the socket that is really dialled (`check_address`).
Values in, verdicts out; no network, no clock. `ipaddress.is_global` is not used: it calls multicast, 6to4
and the metadata services of two clouds global.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)
from urllib.parse import quote, urljoin, urlsplit

import idna

from shared.reasons import Reason

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Longest URL, in characters; the longest of ten thousand real ones had 3,487.
MAX_URL = 4096
DEFAULT_PORTS = frozenset({80, 443, 8080, 8443})
#: In `Policy.allow_ports`: every port of an allowed host.
ANY_PORT = 0


@dataclass(frozen=True)
class Refusal:
    """Why something may not be fetched. `detail` is a class for counting, never an address or a name."""

    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A URL that passed. `host` is the ASCII form that is resolved, sent and logged."""

    scheme: str
    host: str
    port: int
    #: From the slash on, with its query, without its fragment; ASCII.
    path: str
    #: The address itself when the host is a literal: nothing is to be resolved.
    literal: Address | None

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = self.port == _PORT_OF[self.scheme]
        return f"{self.scheme}://{host}" if own else f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        return self.origin + self.path


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the operator decided. The allowances are for tests and benchmarks and never open metadata addresses."""

    ports: frozenset[int] = DEFAULT_PORTS
    deny_cidrs: tuple[Network, ...] = ()
    #: Names that are not fetched, each with all names below it.
    deny_names: frozenset[str] = frozenset()
    #: Names that may be internal, and may resolve into `allow_cidrs`.
    allow_names: frozenset[str] = frozenset()
    allow_cidrs: tuple[Network, ...] = ()
    #: More ports for allowed hosts, not for others.
    allow_ports: frozenset[int] = frozenset()

    @property
    def has_allowances(self) -> bool:
        return bool(self.allow_names or self.allow_cidrs or self.allow_ports)


class Guard:
    """The policy, applied. `is_taken_down` is asked for every URL that the policy lets pass."""

    def __init__(
        self, policy: Policy | None = None, *, is_taken_down: Callable[[Target], bool] = lambda target: False
    ) -> None:
        self.policy = policy or Policy()
        self._is_taken_down = is_taken_down
        # Lists repeat their hosts, and the tables are long.
        self._host_refusal = lru_cache(maxsize=4096)(self._check_host)
        self._is_allowed = lru_cache(maxsize=4096)(self._find_allowance)

    def check_url(self, url: str | None) -> Target | Refusal:
        """The parts of a URL that may be fetched, or why not."""
        target = parsed(url)
        if isinstance(target, Refusal):
            return target
        refusal = self._host_refusal(target.host, target.literal) or self._check_port(
            target.port, self.is_allowed_host(target.host)
        )
        if refusal:
            return refusal
        return Refusal(Reason.BLOCKED_HOST, "taken_down") if self._is_taken_down(target) else target

    def check_redirect(self, source: Target, location: str | None) -> Target | Refusal:
        """Where a redirect leads. Every refusal is `redirect_blocked`, its class kept."""
        if not location or _UNSAFE.search(location):
            return Refusal(Reason.REDIRECT_BLOCKED, "malformed")
        try:
            target = self.check_url(urljoin(source.url, location))
        except ValueError:
            return Refusal(Reason.REDIRECT_BLOCKED, "malformed")
        if isinstance(target, Refusal):
            return Refusal(Reason.REDIRECT_BLOCKED, target.detail)
        return target

    def check_answer(self, host: str, addresses: Sequence[str]) -> Refusal | None:
        """What a resolver answered for the host. One bad address refuses the name."""
        for address in addresses:
            if refusal := self.check_address(host, address):
                return refusal
        return None

    def check_address(self, host: str, address: str) -> Refusal | None:
        """One address on behalf of a host: an answer of the resolver, or the one about to be dialled."""
        if "%" in address:
            return _blocked("zone_id")
        try:
            parsed = ip_address(address)
        except ValueError:
            return _blocked("malformed")
        return self._check_parsed(parsed, is_allowed=self.is_allowed_host(host))

    def is_allowed_host(self, host: str) -> bool:
        """Whether an explicit allowance names the host, or covers it if it is a literal address."""
        return self._is_allowed(host)

    def _find_allowance(self, host: str) -> bool:
        if host in self.policy.allow_names:
            return True
        literal = _literal(host) if self.policy.allow_cidrs else None
        return literal is not None and _within(literal, self.policy.allow_cidrs)

    def _check_host(self, host: str, literal: Address | None) -> Refusal | None:
        if _is_below(host, self.policy.deny_names):
            return Refusal(Reason.BLOCKED_HOST, "deny_names")
        if literal is not None:
            return self._check_parsed(literal, is_allowed=True)
        if host not in self.policy.allow_names and _is_internal(host):
            return _blocked("internal_name")
        return None

    def _check_parsed(self, address: Address, *, is_allowed: bool) -> Refusal | None:
        if address in METADATA:
            return _blocked("metadata")
        if _within(address, self.policy.deny_cidrs):
            return _blocked("extra_deny")
        if is_allowed and _within(address, self.policy.allow_cidrs):
            return None
        found = address_class(address)
        return _blocked(found) if found else None

    def _check_port(self, port: int, is_allowed: bool) -> Refusal | None:
        if port in self.policy.ports:
            return None
        if is_allowed and not self.policy.allow_ports.isdisjoint({port, ANY_PORT}):
            return None
        return Refusal(Reason.BLOCKED_PORT, "port")


#: Services that hand out credentials to whoever asks from inside; some have addresses that look harmless.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "168.63.129.16",  # Azure's wire server, a public address
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba
        "169.254.169.254",
        "169.254.170.2",  # ECS
        "169.254.170.23",  # EKS
        "169.254.42.42",  # Scaleway
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
    )
)

_V4 = tuple(
    (IPv4Network(block), name)
    for name, blocks in {
        "unspecified": ("0.0.0.0/8",),
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        "shared": ("100.64.0.0/10",),
        "loopback": ("127.0.0.0/8",),
        "link_local": ("169.254.0.0/16",),
        "multicast": ("224.0.0.0/4",),
        "reserved": (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
        ),
    }.items()
    for block in blocks
)
#: Narrower blocks stand before the wider ones that hold them.
_V6 = tuple(
    (IPv6Network(block), name)
    for block, name in (
        ("::1/128", "loopback"),
        ("::/128", "unspecified"),
        ("::/96", "embedded_ipv4"),
        ("::ffff:0:0/96", "embedded_ipv4"),
        ("::ffff:0:0:0/96", "embedded_ipv4"),
        ("64:ff9b::/96", "embedded_ipv4"),
        ("64:ff9b:1::/48", "embedded_ipv4"),
        ("2001::/32", "embedded_ipv4"),
        ("2002::/16", "embedded_ipv4"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("3fff::/20", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link_local"),
        ("fec0::/10", "reserved"),
        ("ff00::/8", "multicast"),
    )
)
#: All of IPv6 that may be fetched from, but for the blocks above.
V6_GLOBAL = IPv6Network("2000::/3")

#: The same table for firewalls, which know no classes: what is refused of IPv4 and of `V6_GLOBAL`.
REFUSED_V4 = tuple(
    collapse_addresses(
        [block for block, _ in _V4] + [IPv4Network(place) for place in METADATA if isinstance(place, IPv4Address)]
    )
)
REFUSED_V6 = tuple(collapse_addresses(block for block, _ in _V6 if block.subnet_of(V6_GLOBAL)))

_INSIDE = {"localhost", "local", "internal", "arpa", "lan", "corp", "home", "intranet", "private", "svc"}
_NOWHERE = {"test", "invalid", "example", "onion", "i2p"}
_INTERNAL_SUFFIXES = frozenset(_INSIDE | _NOWHERE)

_PORT_OF = {"http": 80, "https": 443}
#: Controls, space, backslash, DEL and lone surrogates: what parsers drop, repair or read differently.
_UNSAFE = re.compile("[\x00-\x20\x7f\\\\\ud800-\udfff\x80-\x9f]")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?#]*)([^#]*)")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_DOTTED_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class _Split:
    scheme: str
    host: str
    port: str | None
    path: str


def address_class(address: Address) -> str | None:
    """The class for which an address is refused; None for a public one. Metadata services are not looked at."""
    if isinstance(address, IPv4Address):
        return next((name for block, name in _V4 if address in block), None)
    if address.scope_id:
        return "zone_id"
    special = next((name for block, name in _V6 if address in block), None)
    return special or (None if address in V6_GLOBAL else "reserved")


def networks(cidrs: Sequence[str]) -> tuple[Network, ...]:
    """Blocks from their texts. Raises ValueError for one that has host bits or is none."""
    return tuple(ip_network(cidr) for cidr in cidrs)


def parsed(url: str | None) -> Target | Refusal:
    """The parts of a URL in their one spelling, whatever the policy, or why it is none."""
    split = _split(url)
    if isinstance(split, Refusal):
        return split
    host = _host(split.host)
    if isinstance(host, Refusal):
        return host
    port = _port(split.port, split.scheme)
    if port is None:
        return _malformed()
    path = _ascii_path(split.path)
    target = Target(scheme=split.scheme, host=host, port=port, path=path, literal=_literal(host))
    return target if _agrees(target) else _malformed()


def _split(url: str | None) -> _Split | Refusal:
    if not url or len(url) > MAX_URL or _UNSAFE.search(url):
        return _malformed()
    match = _URL.match(url)
    if match is None:
        return _malformed()
    scheme, slashes, authority, path = match.groups()
    if scheme.lower() not in _PORT_OF:
        return Refusal(Reason.BAD_SCHEME, "scheme")
    if not slashes or not authority:
        return _malformed()
    return _split_authority(scheme.lower(), authority, path)


def _split_authority(scheme: str, authority: str, path: str) -> _Split | Refusal:
    if "@" in authority:
        return Refusal(Reason.BAD_URL, "userinfo")
    if "%" in authority:
        return _blocked("zone_id") if authority.startswith("[") else _malformed()
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not parts[1]:
        return _malformed()
    return _Split(scheme, parts[1], parts[2], path)


@lru_cache(maxsize=4096)
def _host(text: str) -> str | Refusal:
    """The host in its one spelling: a canonical address without brackets, or a lower-case ASCII name."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            return _malformed()
    name = text.lower()
    if not name.isascii():
        encoded = _idna(name)
        if encoded is None:
            return Refusal(Reason.BAD_URL, "idn")
        name = encoded
    if _DOTTED_QUAD.fullmatch(name):
        return name if _literal(name) else _blocked("numeric_host")
    return _name(name, was_ascii=text.isascii())


def _name(name: str, *, was_ascii: bool) -> str | Refusal:
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return _malformed()
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _blocked("numeric_host") if was_ascii else Refusal(Reason.BAD_URL, "idn")
    return name


def _idna(name: str) -> str | None:
    """UTS 46, non-transitional; None when it fails or hides an address."""
    try:
        encoded = idna.encode(name, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        return None
    return None if _NUMERIC_LABEL.fullmatch(encoded.rstrip(".").rsplit(".", 1)[-1]) else encoded.lower()


@lru_cache(maxsize=4096)
def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _port(text: str | None, scheme: str) -> int | None:
    """The port as a number; None when it is none."""
    if text is None:
        return _PORT_OF[scheme]
    number = int(text) if 1 <= len(text) <= 5 else 0
    return number if 1 <= number <= 65535 else None


def _ascii_path(path: str) -> str:
    """A path that starts with a slash, what is not ASCII percent-encoded as browsers do."""
    rooted = path if path.startswith("/") else "/" + path
    return rooted if rooted.isascii() else quote(rooted, safe=_KEPT)


#: Everything printable stays as it was written, percent signs included.
_KEPT = "".join(map(chr, range(0x21, 0x7F)))


def _agrees(target: Target) -> bool:
    """Whether another parser reads the same host and port: a defence against drift."""
    try:
        parts = urlsplit(target.url)
        return parts.hostname == target.host and (parts.port or _PORT_OF[target.scheme]) == target.port
    except ValueError:
        return False


def _is_internal(name: str) -> bool:
    return "." not in name or name.rsplit(".", 1)[-1] in _INTERNAL_SUFFIXES


def _is_below(name: str, parents: frozenset[str]) -> bool:
    if not parents:
        return False
    labels = name.split(".")
    return any(".".join(labels[start:]) in parents for start in range(len(labels)))


def _within(address: Address, blocks: Sequence[Network]) -> bool:
    return any(address in block for block in blocks if block.version == address.version)


def _malformed() -> Refusal:
    return Refusal(Reason.BAD_URL, "malformed")


def _blocked(detail: str) -> Refusal:
    return Refusal(Reason.BLOCKED_ADDRESS, detail)
