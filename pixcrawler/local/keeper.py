"""Keeps the supervisor's processes running, and stops them in reverse order."""

import asyncio
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from pixcrawler.local.errors import LocalStackError
from pixcrawler.local.forks import Forks
from pixcrawler.local.leftovers import Register
from pixcrawler.local.process import Command, Process
from pixcrawler.local.tasks import together

#: A process that dies this often within the window is given up, and the stack with it.
_DEATHS = 5
_WINDOW_SECONDS = 60.0
#: Before a process is started again: doubled at each death in the window, up to the limit.
_BACKOFF_SECONDS = 0.2
_BACKOFF_LIMIT_SECONDS = 5.0


class Keeper:
    """All processes of one stack, written down so that a successor finds them after a crash."""

    def __init__(self, register: Path) -> None:
        self._register = Register(register)
        self._processes: list[Process] = []
        self._fork_server: Process | None = None
        self._forks: Forks | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """Those that were started and not stopped."""
        return tuple(self._processes)

    async def fork_from(self, fork_server: Command) -> None:
        """From now on Python programs are forked, by this one. Without it, and after its death, they are launched."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._fork_server = await Process.start(fork_server, stdin=theirs.fileno())
        self._register.add(self._fork_server)
        self._forks = Forks(ours)

    async def start(self, command: Command) -> Process:
        """Starts a process; from now on it is stopped with the others. Raises LocalStackError."""
        try:
            process = await Process.start(command, self._forks)
        except OSError as error:
            raise LocalStackError(f"{command.name} cannot be started: {error}.") from error
        self._processes.append(process)
        self._register.add(process)
        return process

    async def stop(self, process: Process) -> None:
        """Stops one, with what is left of its group."""
        await process.stop()
        self._processes.remove(process)

    async def keep(self, processes: Iterable[Process]) -> None:
        """Starts again what dies; raises LocalStackError when one dies too often."""
        await together(*(self._keep(process) for process in processes))

    async def stop_all(self) -> None:
        """Stops the highest layer first, each layer together."""
        for layer in sorted({process.command.layer for process in self._processes}, reverse=True):
            members = [process for process in self._processes if process.command.layer == layer]
            await asyncio.gather(*(self.stop(process) for process in members))
        if self._forks and self._fork_server:
            self._forks.close()
            await self._fork_server.stop()
        self._register.clear()

    async def _keep(self, process: Process) -> None:
        deaths: deque[float] = deque(maxlen=_DEATHS)
        while True:
            code = await process.wait()
            deaths.append(time.monotonic())
            log(f"{process.command.name} ended with {code}")
            if len(deaths) == _DEATHS and deaths[-1] - deaths[0] < _WINDOW_SECONDS:
                raise _given_up(process)
            await self.stop(process)
            recent = sum(1 for death in deaths if deaths[-1] - death < _WINDOW_SECONDS)
            await asyncio.sleep(backoff_seconds(recent))
            process = await self.start(process.command)
            log(f"{process.command.name} started again")


def backoff_seconds(deaths: int) -> float:
    """How long to wait after so many deaths within the window."""
    return min(_BACKOFF_SECONDS * 2.0 ** (deaths - 1), _BACKOFF_LIMIT_SECONDS)


def log(text: str) -> None:
    """A line of the supervisor's own log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
    sys.stderr.flush()


def _given_up(process: Process) -> LocalStackError:
    name, path = process.command.name, process.command.log
    return LocalStackError(
        f"{name} ended {_DEATHS} times within a minute and was given up. The end of {path}:\n{process.tail()}"
    )
