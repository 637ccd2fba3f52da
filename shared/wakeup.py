"""Being woken by PostgreSQL's NOTIFY instead of asking all the time.

Only an accelerator: behind a transaction pooler, or while the connection is away, whoever waits is woken by
its own poll.
"""

import asyncio
from contextlib import suppress

import asyncpg
import structlog
from pydantic import SecretStr

_CHECK_EVERY = 5.0

log = structlog.get_logger(__name__)


class Wakeup:
    """Sets `event` whenever one of the channels is notified."""

    def __init__(self, database_url: SecretStr, *channels: str) -> None:
        self.event = asyncio.Event()
        self._url = database_url
        self._channels = channels
        self._listening = asyncio.create_task(self._listen_for_ever())

    async def wait(self, seconds: float) -> None:
        """Returns when notified, at the latest after that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.event.wait()
        self.event.clear()

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait({self._listening})

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.debug("not_listening", error=str(error))
            await asyncio.sleep(_CHECK_EVERY)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url.get_secret_value(), timeout=5)
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._notified)
            while not connection.is_closed():
                await connection.fetchval("SELECT 1", timeout=5)
                await asyncio.sleep(_CHECK_EVERY)
        finally:
            connection.terminate()

    def _notified(self, *_: object) -> None:
        self.event.set()
