"""Requests of the services' own to places that clients name: a webhook's receiver, a list on the web.

    URL ─▶ guard ─▶ name looked up here, each answer checked ─▶ dialled at the checked address, one deadline over all

Images are not fetched by this: the downloader has an engine for many transfers, and the same guard. Everything here
blocks; call it in a thread.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import Field, field_validator

from shared.errors import PlaceRefused, PlaceUnavailable
from shared.guard import Guard, Policy, Refusal, Target, networks
from shared.interfaces import own_networks
from shared.settings import Settings
from shared.version import VERSION

_CONNECT_SECONDS = 5.0
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BLOCK = 256 * 1024
#: Of an answer nobody is interested in.
_MOST_IGNORED = 64 * 1024

#: Looks a name up and returns its addresses. Raises OSError.
Lookup = Callable[[str], tuple[str, ...]]


class EgressSettings(Settings):
    """What an operator sets for services that send requests into the world."""

    ca_file: Path | None = Field(default=None, description="Certificates to trust; None: the system's")
    user_agent: str | None = Field(default=None, description="None: PixCrawler/<version> (+<contact>)")
    contact: str | None = Field(default=None, description="Your page or address for site owners; set it")
    deny_cidrs: tuple[str, ...] = Field(default=(), description="More addresses never to fetch from")
    deny_names: frozenset[str] = Field(default=frozenset(), description="Hosts never to fetch from, names below too")
    allow_names: frozenset[str] = Field(default=frozenset(), description="For tests: internal names to allow")
    allow_cidrs: tuple[str, ...] = Field(default=(), description="For tests: internal addresses to allow")
    allow_ports: frozenset[int] = Field(default=frozenset(), description="For tests: ports of those; 0: all")

    @field_validator("deny_cidrs", "allow_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks(value)
        return value

    @field_validator("user_agent", "contact")
    @classmethod
    def _fits_a_header(cls, value: str | None) -> str | None:
        if value is not None and not (value.isascii() and value.isprintable()):
            raise ValueError("must be printable ASCII")
        return value

    @property
    def agent(self) -> str:
        """What we call ourselves; never a browser."""
        own = f"PixCrawler/{VERSION}"
        return self.user_agent or (f"{own} (+{self.contact})" if self.contact else own)

    def policy_for(self, ports: frozenset[int]) -> Policy:
        """What the guard applies here. This machine's own addresses are denied as well."""
        return Policy(
            ports=ports,
            deny_cidrs=networks(self.deny_cidrs) + own_networks(),
            deny_names=self.deny_names,
            allow_names=self.allow_names,
            allow_cidrs=networks(self.allow_cidrs),
            allow_ports=self.allow_ports,
        )


#: Where receivers of webhooks may listen: where the scheduler's stores are reached, too.
NOTICE_PORTS = frozenset({443})


class Egress:
    """Sends requests to places that the guard lets pass."""

    def __init__(self, guard: Guard, *, agent: str, ca_file: Path | None = None, lookup: Lookup | None = None) -> None:
        self._guard = guard
        self._agent = agent
        self._lookup = lookup or _look_up
        self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))

    @classmethod
    def of(cls, settings: EgressSettings, ports: frozenset[int]) -> "Egress":
        """As the operator has it."""
        return cls(Guard(settings.policy_for(ports)), agent=settings.agent, ca_file=settings.ca_file)

    def check(self, url: str, *, only_tls: bool = False) -> Target:
        """The parts of a URL that may be asked. Raises PlaceRefused."""
        target = self._guard.check_url(url)
        if isinstance(target, Refusal):
            raise PlaceRefused(f"the URL may not be asked ({target.reason}: {target.detail})")
        if only_tls and target.scheme != "https" and not self._guard.is_allowed_host(target.host):
            raise PlaceRefused("the URL must begin with https://")
        return target

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> int:
        """Sends the body, by https only and following no redirect; the answer's status.

        Raises PlaceRefused and PlaceUnavailable; an answer of whatever status is neither.
        """
        target = self.check(url, only_tls=True)
        with self._asked("POST", target, body=body, headers=headers, seconds=seconds) as answer:
            answer.read(_MOST_IGNORED)
            return answer.status

    def download(self, url: str, file: BinaryIO, *, most_bytes: int, seconds: float, only_tls: bool = False) -> int:
        """Writes what lies there into the file, following redirects that the guard lets pass; its size.

        Raises PlaceRefused, also for an answer other than 200 and for a body that is too large, and PlaceUnavailable.
        """
        target, until = self.check(url, only_tls=only_tls), time.monotonic() + seconds
        for _ in range(_MOST_REDIRECTS + 1):
            with self._asked("GET", target, seconds=until - time.monotonic()) as answer:
                if answer.status not in _REDIRECTS:
                    return _copied(answer, file, most_bytes)
                found = self._guard.check_redirect(target, answer.headers.get("Location"))
            if isinstance(found, Refusal):
                raise PlaceRefused(f"it redirects to where nothing may be asked ({found.detail})")
            target = self.check(found.url, only_tls=only_tls)
        raise PlaceRefused("it redirects too often")

    @contextmanager
    def _asked(
        self,
        method: str,
        target: Target,
        *,
        seconds: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The head of the answer. When the time is over the connection is shut, whoever waits for it."""
        until = time.monotonic() + seconds
        try:
            dialled = self._dialled(target, until)
            with closing(dialled), _shut_at(dialled, until):
                if isinstance(dialled, ssl.SSLSocket):
                    dialled.do_handshake()
                fields = {"User-Agent": self._agent, "Accept-Encoding": "identity", "Host": _host_field(target)}
                with closing(_speaking_over(dialled, target)) as connection:
                    connection.request(method, target.path, body=body, headers={**fields, **(headers or {})})
                    yield connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            over = ": it took too long" if time.monotonic() >= until else ""
            raise PlaceUnavailable(f"the host does not answer properly ({type(error).__name__}{over})") from error

    def _dialled(self, target: Target, until: float) -> socket.socket:
        """A connection to an address that was checked; for https one that is still to shake hands."""
        addresses = (str(target.literal),) if target.literal is not None else self._lookup(target.host)
        if refusal := self._guard.check_answer(target.host, addresses):
            raise PlaceRefused(f"the host's address may not be asked ({refusal.detail})")
        trouble: OSError = OSError("the host has no address")
        for address in addresses:
            left = min(_CONNECT_SECONDS, max(0.001, until - time.monotonic()))
            try:
                dialled = socket.create_connection((address, target.port), timeout=left)
            except OSError as error:
                trouble = error
                continue
            if target.scheme != "https":
                return dialled
            try:
                return self._tls.wrap_socket(dialled, server_hostname=target.host, do_handshake_on_connect=False)
            except BaseException:
                dialled.close()
                raise
        raise trouble


def _speaking_over(dialled: socket.socket, target: Target) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0  # it would look the name up by itself
    connection.sock = dialled
    return connection


@contextmanager
def _shut_at(connection: socket.socket, until: float) -> Iterator[None]:
    def shut() -> None:
        with suppress(OSError):  # it is closed
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would take its state from the reader

    left = max(0.001, until - time.monotonic())
    connection.settimeout(left)
    timer = threading.Timer(left, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _copied(answer: http.client.HTTPResponse, file: BinaryIO, most_bytes: int) -> int:
    if answer.status != http.HTTPStatus.OK:
        if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == http.HTTPStatus.TOO_MANY_REQUESTS:
            raise PlaceUnavailable(f"the host answers {answer.status}")
        raise PlaceRefused(f"the host answers {answer.status}, where 200 was hoped for")
    size, announced = 0, answer.length
    while block := answer.read(_BLOCK):
        size += len(block)
        if size > most_bytes:
            raise PlaceRefused(f"what lies there is larger than {most_bytes:,} bytes")
        file.write(block)
    if announced is not None and size < announced:
        raise http.client.IncompleteRead(b"", announced - size)
    return size


def _host_field(target: Target) -> str:
    return target.origin.partition("://")[2]


def _look_up(host: str) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
