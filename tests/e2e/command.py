"""The `pixcrawler` command as a child process, in a home of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 100.0


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@dataclass
class Running:
    """A command under way."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    def until(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of its JSON output that is so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if is_it(self.events[-1]):
                return self.events[-1]
        raise AssertionError(f"it ended before: {self.events}")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        out, err = self.process.communicate(timeout=LIMIT_SECONDS)
        return Ended(self.process.returncode, out, err)


class Command:
    """Runs `pixcrawler` with one home, from a folder with a blank in its name."""

    def __init__(self, home: Path, cwd: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._cwd = cwd
        self._settings = dict(settings or {})

    def __call__(self, *arguments: str, home: Path | None = None) -> Ended:
        with self.started(*arguments, home=home) as running:
            return running.end()

    @contextlib.contextmanager
    def started(self, *arguments: str, home: Path | None = None) -> Iterator[Running]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXCRAWLER_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "pixcrawler.cli", *arguments],
            cwd=self._cwd,
            env=environment | self._settings | {"PIXCRAWLER_HOME": str(home or self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with process.stdout, process.stderr:
                yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT_SECONDS)

    def leftovers(self) -> list[str]:
        """Processes that belong to this home."""
        return [line for line in _command_lines() if str(self.home) in line]


def _command_lines() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield f"{words} in {os.readlink(folder / 'cwd')}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
