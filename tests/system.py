"""The services as processes, as an operator starts them, over a test's servers and folder.

system = System(database_url, redis_url, tmp_path)
with system.running("downloader", "validator") as (downloader, validator):
    ...
    assert downloader.stop() == 0
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.servers import free_port

START_LIMIT_SECONDS = 60.0
STOP_LIMIT_SECONDS = 30.0
STACKS_LIMIT_SECONDS = 3.0
_LOOK_EVERY = 0.05
#: Of the tests' own environment; nothing else counts.
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


async def until(claim: str, holds: Callable[[], Awaitable[bool]], *, limit_seconds: float = 40.0) -> None:
    """Returns when it holds; fails the test when it does not within the limit."""
    ends_at = time.monotonic() + limit_seconds
    while not await holds():
        assert time.monotonic() < ends_at, f"waited {limit_seconds:.0f} s in vain: {claim}"
        await asyncio.sleep(_LOOK_EVERY)


@dataclass
class Service:
    """One running service."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    #: Where a gateway answers its clients.
    api_port: int

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, line_start: str) -> float:
        """The value of the metric whose line starts so."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(line_start):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_until_ready(self) -> None:
        ends_at = time.monotonic() + START_LIMIT_SECONDS
        while self.get("/readyz")[0] != 200:
            assert self.process.poll() is None, f"{self.name} ended: {self.said()}"
            assert time.monotonic() < ends_at, f"{self.name} is not ready: {self.get('/readyz')} {self.said()}"
            time.sleep(_LOOK_EVERY)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]

    def events(self, name: str) -> list[dict[str, object]]:
        """Its log's lines of that event."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event.get("event") == name]

    def hangs_where(self) -> str:
        """Where it and each of its children stand, in their innermost lines; one that does not say is left out."""
        before, asked = len(self.events("stacks")), []
        for process in (found := psutil.Process(self.process.pid), *found.children()):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGUSR2)
                asked.append(process.pid)
        ends_at = time.monotonic() + STACKS_LIMIT_SECONDS
        while len(told := self.events("stacks")[before:]) < len(asked) and time.monotonic() < ends_at:
            time.sleep(_LOOK_EVERY)
        return "\n".join(str(line["stack"]) for line in told)

    def stop(self) -> int:
        """SIGTERM, as every supervisor does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the service and all its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT_SECONDS)


@dataclass
class System:
    """Starts services over one database, one Redis and one folder."""

    database_url: str
    redis_url: str
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def environment(self, plain: dict[str, str] | None = None, **more: str) -> dict[str, str]:
        own = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SPOOL_URL": str(self.spool),
            "WORK_DIR": str(self.work),
            "FOLDER_ROOTS": json.dumps([str(self.folder)]),
            "CONCURRENCY": "1",
            "GRACE_SECONDS": "0",
            "SOFT_STOP_SECONDS": "0",
        }
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        return (
            passed | {f"PIXCRAWLER_{name}": value for name, value in (own | more).items()} | self.extra | (plain or {})
        )

    def start(self, name: str, plain: dict[str, str] | None = None, **more: str) -> Service:
        """Starts a service, without waiting until it is ready. `plain` variables have no prefix of ours."""
        self._started += 1
        port, api_port = free_port(), free_port()
        log = self.folder / f"{name}-{self._started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", name],
                env=self.environment(plain, HTTP_PORT=str(port), LISTEN_PORT=str(api_port), **more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Service(name, process, port, log, api_port)

    @contextmanager
    def running(self, *names: str, **more: str) -> Iterator[tuple[Service, ...]]:
        """Services that are ready; those that the test did not stop are killed."""
        services = tuple(self.start(name, **more) for name in names)
        try:
            for service in services:
                service.wait_until_ready()
            yield services
        finally:
            for service in services:
                if service.process.poll() is None:
                    service.kill()
