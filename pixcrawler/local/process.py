"""One child process of the supervisor: started with its log, stopped within a limit."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pixcrawler.local.forks import Fork, Forks, ForkServerGone
from pixcrawler.local.forkserver import Order
from pixcrawler.local.home import append_private

#: Before a module and its arguments. -P: nothing is imported from the working directory.
PYTHON = (sys.executable, "-P", "-m")

_LAUNCH = Path(__file__).with_name("launch.py")
#: A log is set aside when the process starts and it is larger than this.
_LOG_BYTES = 8 * 1024 * 1024
#: How much of a log's end is read to explain a failure.
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class Command:
    """What to start and how it wants to be stopped."""

    name: str
    program: tuple[str, ...]
    log: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    #: How long a clean stop may take before the whole group is killed.
    stop_seconds: float = 10.0
    #: Those of a higher layer need those of lower ones, and are stopped first.
    layer: int = 1
    #: The user to become; empty: stay who we are.
    user: str = ""
    #: Whether the standard output is wanted by `Process.output` instead of in the log.
    is_asked: bool = False


class Process:
    """A running `Command`. It leads a process group of its own, so the terminal's Ctrl-C does not reach it."""

    def __init__(self, command: Command, child: asyncio.subprocess.Process | Fork, log_start: int) -> None:
        self.command = command
        self._child = child
        self._log_start = log_start

    @classmethod
    async def start(cls, command: Command, forks: Forks | None = None, *, stdin: int = subprocess.DEVNULL) -> "Process":
        """A `PYTHON` program is forked where there are `forks`. Raises OSError when it cannot be started."""
        _set_aside(command.log)
        with append_private(command.log) as log:
            start = log.tell()
            return cls(command, await _forked(command, forks, log) or await _launched(command, log, stdin), start)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._child.returncode

    @property
    def is_running(self) -> bool:
        return self._child.returncode is None

    async def wait(self) -> int:
        """Waits for the end; the exit code is negative for a signal."""
        return await self._child.wait()

    async def output(self, seconds: float) -> str:
        """Waits for the end of a command that is asked something; raises TimeoutError after the limit."""
        text, _ = await asyncio.wait_for(self._child.communicate(), seconds)
        return (text or b"").decode()

    async def stop(self) -> None:
        """Asks it to end, and kills what is left of its group after the command's limit."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(self.command.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), self.command.stop_seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._child.wait()

    def tail(self, lines: int = 12) -> str:
        """The last lines this process wrote, for an error message."""
        with self.command.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


async def _forked(command: Command, forks: Forks | None, log: IO[bytes]) -> Fork | None:
    """None for what is not to be forked, and when nothing can be forked any more."""
    if forks is None or command.program[: len(PYTHON)] != PYTHON:
        return None
    module, *arguments = command.program[len(PYTHON) :]
    order = Order(
        name=command.name,
        module=module,
        arguments=arguments,
        environment=command.environment,
        folder=str(command.cwd),
        stop_signal=int(command.stop_signal),
    )
    try:
        return await forks.start(order, log.fileno(), is_asked=command.is_asked)
    except ForkServerGone:
        return None


async def _launched(command: Command, log: IO[bytes], stdin: int) -> asyncio.subprocess.Process:
    launch = (sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), str(int(command.stop_signal)))
    return await asyncio.create_subprocess_exec(
        *launch,
        command.user,
        *command.program,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE if command.is_asked else log,
        stderr=log,
        cwd=command.cwd,
        env=dict(command.environment),
        start_new_session=True,
    )


def _set_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
