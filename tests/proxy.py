"""A TCP proxy that misbehaves on request, to stand between a service and one of its servers.

    with Proxy(server_port) as proxy:
        proxy.freeze()           # nothing passes, nothing ends: a partition
        proxy.cut()              # every open connection is reset; new ones pass
        proxy.refuse()           # and no new ones
        proxy.delay(0.2)         # seconds, each way
        proxy.lose_answer_to(b"COMMIT")  # the next such request reaches the server, its answer nobody
        proxy.lose_answer_to(b"COMMIT", after=b"UPDATE")  # on a connection that asked for that before
        proxy.heal()

It lives in a thread of its own; every method takes effect before it returns.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from shared.runtime import LoopThread

_BLOCK = 64 * 1024
_LIMIT_SECONDS = 10.0


class Proxy:
    """Listens on a port of its own for its whole life, on loopback."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._thread = LoopThread("proxy")
        self._pairs: set[_Pair] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._is_refusing = False
        self._delay = 0.0
        self._unanswered = b""
        self._unanswered_after = b""
        #: Whether an answer was lost since it was asked for.
        self.has_lost_answer = False

    def __enter__(self) -> Self:
        self._server = self._thread.submit(asyncio.start_server(self._meet, "127.0.0.1", 0)).result(_LIMIT_SECONDS)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._server.close)
        self.cut()
        self._thread.close()

    def freeze(self) -> None:
        self._do(self._open.clear)

    def cut(self) -> None:
        self._do(lambda: [pair.reset() for pair in list(self._pairs)])

    def refuse(self) -> None:
        self._do(lambda: setattr(self, "_is_refusing", True))
        self.cut()

    def delay(self, seconds: float) -> None:
        self._do(lambda: setattr(self, "_delay", seconds))

    def lose_answer_to(self, request: bytes, *, after: bytes = b"") -> None:
        def ask() -> None:
            self._unanswered, self._unanswered_after, self.has_lost_answer = request, after, False

        self._do(ask)

    def heal(self) -> None:
        def heal() -> None:
            self._is_refusing, self._delay, self._unanswered = False, 0.0, b""
            self._open.set()

        self._do(heal)

    def _do(self, act: Callable[[], object]) -> None:
        async def done() -> None:
            act()

        self._thread.submit(done()).result(_LIMIT_SECONDS)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            reset(writer)
            return
        try:
            behind, to_behind = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            reset(writer)
            return
        pair = _Pair(writer, to_behind)
        self._pairs.add(pair)
        ways = (self._forward(reader, to_behind, pair, is_request=True), self._forward(behind, writer, pair))
        try:
            await asyncio.gather(*ways)
        except (ConnectionError, OSError, asyncio.CancelledError):
            pass  # one side went, or we do
        finally:
            self._pairs.discard(pair)
            pair.reset()

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, pair: "_Pair", *, is_request: bool = False
    ) -> None:
        while block := await source.read(_BLOCK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._open.wait()
            if is_request:
                self._listen(block, pair)
            if not is_request and pair.is_mute:
                self.has_lost_answer = True
                raise ConnectionResetError("the answer is lost")
            target.write(block)
            await target.drain()
        with suppress(OSError, RuntimeError):
            target.write_eof()

    def _listen(self, request: bytes, pair: "_Pair") -> None:
        """Makes the connection mute at the request whose answer is to be lost."""
        if not self._unanswered:
            return
        pair.is_marked = pair.is_marked or self._unanswered_after in request
        if pair.is_marked and self._unanswered in request:
            self._unanswered, pair.is_mute = b"", True


class _Pair:
    """A client's connection and its twin at the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)
        #: It asked for what the lost answer is to come after.
        self.is_marked = False
        #: The next answer is to be lost.
        self.is_mute = False

    def reset(self) -> None:
        for writer in self._writers:
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with an error on the other side."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
