"""Programs forked by `forkserver.py`, looked at like any other child of the supervisor."""

import asyncio
import json
import os
import signal
import socket
from collections import deque
from dataclasses import asdict

from pixcrawler.local.forkserver import LONGEST_MESSAGE, Order

#: How a fork seems to have ended when only the fork server could have told it.
_UNKNOWN = -int(signal.SIGKILL)


class ForkServerGone(Exception):
    """It takes no orders any more; what it forked was told to stop by the kernel."""


class Fork:
    """A running fork, with as much of `asyncio.subprocess.Process` as is used of it."""

    def __init__(self, pid: int, output: asyncio.StreamReader | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._output = output
        self._ended = asyncio.Event()

    def end(self, code: int) -> None:
        """The fork server saw its end."""
        self.returncode = code
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None, "set before the event"
        return self.returncode

    async def communicate(self) -> tuple[bytes, None]:
        """What it printed until its end; only of one whose output was asked for."""
        assert self._output is not None, "its output is asked for"
        text = await self._output.read()
        await self.wait()
        return text, None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class Forks:
    """The supervisor's end of the socket."""

    def __init__(self, orders: socket.socket) -> None:
        orders.setblocking(False)
        self._orders = orders
        self._running: dict[int, Fork] = {}
        self._ordered: deque[tuple[asyncio.Future[Fork], asyncio.StreamReader | None]] = deque()
        asyncio.get_running_loop().add_reader(orders, self._read)

    async def start(self, order: Order, log: int, *, is_asked: bool) -> Fork:
        """Its errors go to the descriptor, and its output too unless it is asked for. Raises ForkServerGone."""
        output, writing = await _pipe() if is_asked else (None, os.dup(log))
        answer: asyncio.Future[Fork] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._orders, [json.dumps(asdict(order)).encode()], [writing, log])
        except OSError as error:
            raise ForkServerGone from error
        finally:
            os.close(writing)
        self._ordered.append((answer, output))
        return await answer

    def close(self) -> None:
        """Nothing is ordered any more, and what runs counts as ended."""
        if self._orders.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._orders)
        self._orders.close()
        for fork in self._running.values():
            fork.end(_UNKNOWN)
        self._running.clear()
        for answer, _ in self._ordered:
            if not answer.done():
                answer.set_exception(ForkServerGone())

    def _read(self) -> None:
        try:
            message = self._orders.recv(LONGEST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.close()
            return
        told = json.loads(message)
        if "pid" in told:
            self._answer(told["pid"])
        elif fork := self._running.pop(told["ended"], None):
            fork.end(told["code"])

    def _answer(self, pid: int) -> None:
        answer, output = self._ordered.popleft()
        fork = self._running[pid] = Fork(pid, output)
        if not answer.done():  # who ordered it may have been cancelled; then the fork goes with its server
            answer.set_result(fork)


async def _pipe() -> tuple[asyncio.StreamReader, int]:
    """A reader, and the descriptor to write to."""
    reading, writing = os.pipe()
    output = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0))
    return output, writing
