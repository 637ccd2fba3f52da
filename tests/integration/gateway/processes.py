"""Gateways as processes of their own, as an operator starts them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2

from gateway.settings import GatewaySettings
from tests.servers import free_port

LIMIT_SECONDS = 20


@dataclass
class Process:
    """A gateway of its own, and a client that speaks to it."""

    process: asyncio.subprocess.Process
    client: httpx2.AsyncClient
    health_port: int

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), LIMIT_SECONDS)


def environment_of(settings: GatewaySettings, **more: object) -> dict[str, str]:
    chosen = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "SPOOL_URL": settings.spool_url,
        "WORK_DIR": settings.work_dir,
        "FOLDER_ROOTS": json.dumps([str(root) for root in settings.folder_roots]),
        "HTTP_PORT": free_port(),
        "LISTEN_PORT": free_port(),
        **more,
    }
    return os.environ | {f"PIXCRAWLER_{name}": str(value) for name, value in chosen.items()}


@contextlib.asynccontextmanager
async def started(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def serving(settings: GatewaySettings, key: str, **more: object) -> AsyncIterator[Process]:
    """A gateway that answers, and a client of it with that key."""
    environment = environment_of(settings, **more)
    base = f"http://127.0.0.1:{environment['PIXCRAWLER_LISTEN_PORT']}"
    headers = {"Authorization": f"Bearer {key}"}
    async with started(environment) as process, httpx2.AsyncClient(base_url=base, headers=headers) as client:
        await told(process, "gateway_started")
        draining = asyncio.create_task(_drain(process))  # a full pipe would halt it
        try:
            yield Process(process, client, int(environment["PIXCRAWLER_HTTP_PORT"]))
        finally:
            draining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await draining


async def told(process: asyncio.subprocess.Process, word: str) -> str:
    """The first line on stderr that holds the word."""
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT_SECONDS):
        async for line in process.stderr:
            if word in line.decode():
                return line.decode()
    raise AssertionError(f"the gateway never said {word}")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass


class Stream:
    """The events of one stream, one at a time."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.aiter_lines()
        #: Of the last event.
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        fields: dict[str, str] = {}
        async with asyncio.timeout(LIMIT_SECONDS):
            async for line in self._lines:
                if not line and "data" in fields:
                    self.last_id = fields.get("id", "")
                    return fields["event"], json.loads(fields["data"])
                name, _, value = line.partition(": ")
                fields[name] = value
        raise EOFError

    async def line(self) -> str:
        """The next line as it is."""
        async with asyncio.timeout(LIMIT_SECONDS):
            return await anext(self._lines)

    async def has_ended(self) -> bool:
        with contextlib.suppress(EOFError):
            await self.next()
            return False
        return True


@contextlib.asynccontextmanager
async def streaming(client: httpx2.AsyncClient, job: str, **headers: str) -> AsyncIterator[Stream]:
    """The job's progress, as it is streamed to a client."""
    async with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)
