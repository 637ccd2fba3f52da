"""The address of a Redis behind Sentinels, one form for the client and for the broker.

    sentinel://user:password@host:26379,host2:26379/0?master=mymaster

User, password and number are the server's; Sentinels are asked without a password.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

SCHEME = "sentinel"
_PORT = 26379


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """Who tells where the server is, and how to log in there."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> "SentinelAddress":
        """Raises ValueError, which names no part of the address."""
        parts = urlsplit(url)
        login, _, places = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        master = parse_qs(parts.query).get("master", [""])[0]
        number = parts.path.strip("/") or "0"
        if parts.scheme != SCHEME or not places or not master or not number.isdigit():
            raise ValueError("must be sentinel://user:password@host:port,host:port/0?master=name")
        return cls(
            sentinels=tuple(_place(place) for place in places.split(",")),
            master=master,
            database=int(number),
            username=unquote(user) or None,
            password=unquote(password) or None,
        )

    def broker_url(self) -> str:
        """As kombu writes it; the master's name goes beside it."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        return ";".join(f"{SCHEME}://{login}{host}:{port}/{self.database}" for host, port in self.sentinels)


def is_sentinel(url: str) -> bool:
    return url.startswith(f"{SCHEME}://")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    if not host or (port and not port.isdigit()):
        raise ValueError("a Sentinel must be host:port")
    return host, int(port or _PORT)
