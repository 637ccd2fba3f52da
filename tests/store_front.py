"""A front before an S3 server that misbehaves on request.

    with StoreFront(server_port) as front:
        front.refuse_puts(503, "SlowDown")       # until `heal`
        front.refuse_puts(429, "TooManyRequests", retry_after=1)
        front.hang_puts(after_storing=True)      # stored, and never answered
        front.cut_puts(times=20)                 # reset in the middle of the body
        front.heal()

Only PUT and POST are troubled, so that a test can always look. It lives in a thread of its own.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from shared.runtime import LoopThread
from tests.proxy import reset

_LIMIT_SECONDS = 10.0


@dataclass
class _Trouble:
    """What happens to the next `left` writes; to all of them when it is None."""

    left: int | None = None
    answer: bytes = b""
    is_stored: bool = False
    is_cut: bool = False
    pause_seconds: float = 0.0


@dataclass
class _Message:
    """A request, whole but for its body."""

    first: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return self.first.startswith(("PUT ", "POST "))

    @property
    def size(self) -> int:
        return int(self.headers.get("content-length", "0"))

    def encoded(self) -> bytes:
        kept = {name: value for name, value in self.headers.items() if name not in ("expect", "connection")}
        lines = [self.first, *(f"{name}: {value}" for name, value in kept.items()), "connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class StoreFront:
    """Listens on loopback; each connection serves one request."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._thread = LoopThread("store-front")
        self._trouble: _Trouble | None = None
        self._healed = asyncio.Event()
        #: Writes that met trouble since it was asked for.
        self.troubled = 0

    def __enter__(self) -> Self:
        server = self._thread.submit(asyncio.start_server(self._meet, "127.0.0.1", 0)).result(_LIMIT_SECONDS)
        self._server = server
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._do(self._server.close)
        self._thread.close()

    def refuse_puts(self, status: int, code: str, *, retry_after: int | None = None, times: int | None = None) -> None:
        """Answers writes with an error of S3's kind; the server does not hear of them."""
        body = f"<Error><Code>{code}</Code><Message>on request</Message></Error>".encode()
        wait = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
        head = f"HTTP/1.1 {status} Trouble\r\n{wait}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._begin(_Trouble(left=times, answer=head.encode() + body))

    def hang_puts(self, *, after_storing: bool, times: int | None = None) -> None:
        self._begin(_Trouble(left=times, is_stored=after_storing))

    def cut_puts(self, *, times: int) -> None:
        self._begin(_Trouble(left=times, is_cut=True))

    def slow_puts(self, seconds: float) -> None:
        self._begin(_Trouble(pause_seconds=seconds, is_stored=True))

    def heal(self) -> None:
        def heal() -> None:
            self._trouble = None
            self._healed.set()

        self._do(heal)

    def _begin(self, trouble: _Trouble) -> None:
        def begin() -> None:
            self._trouble, self._healed, self.troubled = trouble, asyncio.Event(), 0

        self._do(begin)

    def _do(self, act: Callable[[], None]) -> None:
        async def done() -> None:
            act()

        self._thread.submit(done()).result(_LIMIT_SECONDS)

    def _next_trouble(self, request: _Message) -> _Trouble | None:
        trouble = self._trouble
        if trouble is None or not request.writes or trouble.left == 0:
            return None
        if trouble.left is not None:
            trouble.left -= 1
        self.troubled += 1
        return trouble

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went, or we do
        finally:
            reset(writer)
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_head(reader)
        if request.headers.get("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        trouble = self._next_trouble(request)
        if trouble and trouble.is_cut:
            await reader.readexactly(request.size // 2)
            return
        body = await reader.readexactly(request.size)
        answer = trouble.answer if trouble and not trouble.is_stored else await self._forward(request, body)
        if trouble and trouble.pause_seconds:
            await asyncio.sleep(trouble.pause_seconds)
        elif trouble and not trouble.answer:
            await self._healed.wait()
            return
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        with suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(reader.read(), _LIMIT_SECONDS)  # until the client has taken it

    async def _forward(self, request: _Message, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        try:
            writer.write(request.encoded() + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> _Message:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    return _Message(first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)})
