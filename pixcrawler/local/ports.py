"""Loopback ports and small questions to who listens there."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

LOOPBACK = "127.0.0.1"
_ASK_SECONDS = 2.0
_PAUSE_SECONDS = 0.02


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        # All stay open until all are chosen, or the system may give the same one twice.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(each.getsockname()[1] for each in sockets)


def is_free(port: int) -> bool:
    """Whether somebody could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def ask(port: int, message: bytes, size: int = 512) -> bytes:
    """Sends the message and returns the beginning of the answer; empty when nobody answers."""

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(message)
            return await reader.read(size)
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(exchange(), _ASK_SECONDS)
    except (OSError, TimeoutError):
        return b""


async def http_status(port: int, path: str) -> int:
    """The status of a GET; 0 when nobody answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n"
    words = (await ask(port, request.encode())).split(b" ", 2)
    return int(words[1]) if len(words) == 3 and words[0].startswith(b"HTTP/") and words[1].isdigit() else 0


async def until(is_ready: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Asks again and again; False when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await is_ready():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
    return True
