"""A web origin on loopback that misbehaves on request: delays, drips, cuts, lies, loops and bombs.

    async with Origin() as origin:
        origin.url("/image/7?size=1000")   # a good answer, always the same bytes for the same path
        origin.hits["/image/7?size=1000"]  # how often it was asked for

Plain asyncio streams, because an HTTP library would not let us break HTTP. The routes are the functions below.
"""

import asyncio
import gzip
import hashlib
import socket
import ssl
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for. Header names are in lower case."""

    target: str
    path: str
    options: Mapping[str, str]
    headers: Mapping[str, str]
    #: How often this target was asked for, this time included.
    visit: int


class Wire:
    """The open connection to a client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def reply(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """A whole answer; `length` is announced instead of the truth."""
        fields = {"Content-Type": "image/jpeg", "Content-Length": str(len(body) if length is None else length)}
        await self.send(head(status, {**fields, **(headers or {})}) + body)

    def reset(self) -> None:
        """Ends the connection with an error on the other side."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Ends the connection in order."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


Handler = Callable[[Request, Wire], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def picture(name: str, size: int = 1000) -> bytes:
    """Bytes for a name, always the same: no real image, but none compresses either."""
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass
class Origin:
    """The server. `robots` is what /robots.txt says (None: 404); `served` adds or replaces whole answers."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    #: None: the host alone; 127.0.0.0/8 has many names for one server that listens on 0.0.0.0.
    listens_on: str | None = None
    robots: str | None = None
    hits: Counter[str] = field(default_factory=Counter)
    handlers: dict[str, Handler] = field(default_factory=dict)
    #: Of each request, in order.
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    #: Requests under way now, and the most there ever were.
    busy: int = 0
    busiest: int = 0
    #: Set it to let the answers of /held go.
    released: asyncio.Event = field(default_factory=asyncio.Event)
    #: Is set when somebody waits at /held.
    is_holding: asyncio.Event = field(default_factory=asyncio.Event)

    #: Of its first opening; later ones listen there again.
    port: int = 0

    async def __aenter__(self) -> Self:
        self._clients: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(
            self._meet, self.listens_on or self.host, self.port, ssl=self.tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def url(self, target: str, *, host: str | None = None) -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{target}"

    def redirect_to(self, place: str, *, status: int = 302) -> str:
        """A URL of ours that redirects to the place."""
        return self.url(f"/redirect?status={status}&to={quote(place, safe='')}")

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        self.connections += 1
        try:
            while (request := await self._read(reader)) is not None:
                await self._answer(request, Wire(writer))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client went away, or we do: asyncio reports a cancelled connection as an error
        finally:
            self._clients.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").strip().split("\r\n")
        target = first.split(" ")[1]
        self.hits[target] += 1
        parts = urlsplit(target)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        request = Request(
            target=target,
            path=parts.path,
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=headers,
            visit=self.hits[target],
        )
        self.requests.append(request)
        return request

    async def _answer(self, request: Request, wire: Wire) -> None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            handler = self.handlers.get(request.path) or getattr(self, f"_serve_{_route(request.path)}", None)
            if handler is None:
                await wire.reply(b"no such page", status=404)
            else:
                await handler(request, wire)
        finally:
            self.busy -= 1

    async def _serve_robots_txt(self, request: Request, wire: Wire) -> None:
        if self.robots is None:
            await wire.reply(b"none", status=404)
        else:
            await wire.reply(self.robots.encode(), headers={"Content-Type": "text/plain"})

    async def _serve_image(self, request: Request, wire: Wire) -> None:
        """/image/<name>?size=<bytes>"""
        await wire.reply(picture(request.path, int(request.options.get("size", "1000"))), headers={"ETag": '"1"'})

    async def _serve_status(self, request: Request, wire: Wire) -> None:
        """/status/<code>"""
        await wire.reply(b"text", status=int(request.path.rsplit("/", 1)[1]))

    async def _serve_bodiless(self, request: Request, wire: Wire) -> None:
        """/bodiless/<code>: a status that has no body, such as 204 and 304."""
        await wire.send(head(int(request.path.rsplit("/", 1)[1]), {}))

    async def _serve_empty(self, request: Request, wire: Wire) -> None:
        await wire.reply(b"")

    async def _serve_headers(self, request: Request, wire: Wire) -> None:
        """/headers?<name>=<value>&…: an image with those header fields; repeated names are kept."""
        fields = [f"{name}: {value}\r\n" for name, value in parse_qsl(urlsplit(request.target).query)]
        body = picture(request.target)
        first = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
        await wire.send((first + "".join(fields) + "\r\n").encode("latin-1") + body)

    async def _serve_redirect(self, request: Request, wire: Wire) -> None:
        """/redirect?to=<place>&status=<code>"""
        place = {"Location": request.options["to"]} if request.options.get("to") else {}
        await wire.reply(b"moved", status=int(request.options.get("status", "302")), headers=place)

    async def _serve_loop(self, request: Request, wire: Wire) -> None:
        await wire.reply(b"", status=302, headers={"Location": request.target})

    async def _serve_hops(self, request: Request, wire: Wire) -> None:
        """/hops/<n>: that many redirects, relative ones, and then an image."""
        left = int(request.path.rsplit("/", 1)[1])
        if left == 0:
            await wire.reply(picture("hops"))
        else:
            await wire.reply(b"", status=301, headers={"Location": str(left - 1)})

    async def _serve_flaky(self, request: Request, wire: Wire) -> None:
        """/flaky?fails=<n>&status=<code>: that many failures, then an image."""
        if request.visit <= int(request.options.get("fails", "1")):
            fields = {"Retry-After": request.options["after"]} if "after" in request.options else {}
            await wire.reply(b"sorry", status=int(request.options.get("status", "500")), headers=fields)
        else:
            await wire.reply(picture(request.path))

    async def _serve_held(self, request: Request, wire: Wire) -> None:
        """Answers when `released` is set."""
        self.is_holding.set()
        await self.released.wait()
        await wire.reply(picture(request.path))

    async def _serve_held_body(self, request: Request, wire: Wire) -> None:
        """/held_body?size=<bytes>: all but the last byte at once, that one when `released` is set."""
        body = picture(request.path, int(request.options.get("size", "1000")))
        await wire.send(head(200, {"Content-Length": str(len(body))}) + body[:-1])
        self.is_holding.set()
        await self.released.wait()
        await wire.send(body[-1:])

    async def _serve_late(self, request: Request, wire: Wire) -> None:
        """/late?seconds=<n>"""
        await asyncio.sleep(float(request.options["seconds"]))
        await wire.reply(picture(request.path))

    async def _serve_drip(self, request: Request, wire: Wire) -> None:
        """/drip?pause=<seconds>: a byte at a time, without end in sight."""
        await wire.send(head(200, {"Content-Length": "1000000"}))
        while True:
            await wire.send(b"x")
            await asyncio.sleep(float(request.options.get("pause", "0.1")))

    async def _serve_truncated(self, request: Request, wire: Wire) -> None:
        """Announces more than it sends, and closes in order."""
        await wire.reply(picture(request.path), length=2000)
        await wire.close()

    async def _serve_longer(self, request: Request, wire: Wire) -> None:
        """Sends more than it announces."""
        await wire.reply(picture(request.path, 2000), length=1000)
        await wire.close()

    async def _serve_reset(self, request: Request, wire: Wire) -> None:
        """Breaks off in the middle of the body."""
        await wire.reply(picture(request.path), length=1_000_000)
        wire.reset()

    async def _serve_hang_up(self, request: Request, wire: Wire) -> None:
        """Closes without a word."""
        await wire.close()

    async def _serve_chunked(self, request: Request, wire: Wire) -> None:
        """/chunked?size=<bytes>&cut=1: no length is announced; cut: the last chunk is missing."""
        body = picture(request.path, int(request.options.get("size", "1000")))
        await wire.send(head(200, {"Transfer-Encoding": "chunked"}) + b"%x\r\n" % len(body) + body + b"\r\n")
        if "cut" in request.options:
            await wire.close()
        else:
            await wire.send(b"0\r\n\r\n")

    async def _serve_endless(self, request: Request, wire: Wire) -> None:
        """A body without an announced length that never ends."""
        await wire.send(head(200, {"Connection": "close"}))
        while True:
            await wire.send(bytes(65536))

    async def _serve_encoded(self, request: Request, wire: Wire) -> None:
        """/encoded?as=<encoding>&size=<bytes>: really encoded for gzip, deflate and raw deflate."""
        wanted, body = request.options["as"], picture(request.path, int(request.options.get("size", "1000")))
        raw = zlib.compressobj(wbits=-15)
        bodies = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "raw": raw.compress(body) + raw.flush()}
        await wire.reply(
            bodies.get(wanted, body), headers={"Content-Encoding": "deflate" if wanted == "raw" else wanted}
        )

    async def _serve_bomb(self, request: Request, wire: Wire) -> None:
        """A hundred megabytes of zeroes in a hundred kilobytes."""
        packed = zlib.compressobj(9, wbits=31)
        body = b"".join([*(packed.compress(bytes(1_000_000)) for _ in range(100)), packed.flush()])
        await wire.reply(body, headers={"Content-Encoding": "gzip"})

    async def _serve_many_headers(self, request: Request, wire: Wire) -> None:
        await wire.reply(picture(request.path), headers={f"X-{number}": "x" for number in range(1000)})

    async def _serve_long_header(self, request: Request, wire: Wire) -> None:
        await wire.reply(picture(request.path), headers={"X-Long": "x" * 50_000})

    async def _serve_garbage(self, request: Request, wire: Wire) -> None:
        """No HTTP at all."""
        await wire.send(b"\x00\x01\x02 nothing of the kind\r\n\r\n")
        await wire.close()


def _route(path: str) -> str:
    """The name of a route: the first part of the path."""
    return path.strip("/").split("/")[0].replace(".", "_").replace("-", "_")
