"""What a service keeps open while it lives: database, Redis, spool, work area, destinations.

All of it belongs to one event loop. Whoever opens it closes it, in one `async with`.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
from redis.asyncio import Redis

from shared.cache import open_redis
from shared.chunk import SourceRef
from shared.db.session import Engine, open_engine
from shared.errors import PermanentError
from shared.records import from_stream
from shared.settings import Settings
from shared.storage import open_store
from shared.storage.base import ObjectStore
from shared.storage.destination import Destination
from shared.workdir import LocalWorkArea, StoreWorkArea, WorkArea

#: Destinations kept open though nobody uses them; the one used longest ago is closed for the next.
_MOST_IDLE = 16


#: Makes the store of a destination.
Opener = Callable[[Destination, Settings], Awaitable[ObjectStore]]


class Stores:
    """Opened destinations, each opened once; one that opens slowly keeps no other waiting.

    One that somebody uses stays open, however many there are: who uses them is bounded elsewhere.
    """

    def __init__(self, settings: Settings, *, opener: Opener = open_store) -> None:
        self._settings = settings
        self._opener = opener
        self._open: OrderedDict[Destination, ObjectStore] = OrderedDict()
        self._opening: dict[Destination, asyncio.Task[ObjectStore]] = {}
        self._users: Counter[Destination] = Counter()

    @asynccontextmanager
    async def at(self, url: str, endpoint: str | None) -> AsyncIterator[ObjectStore]:
        """The store of a destination, to be used within and not to be closed. Raises StoreRefused, StoreUnavailable."""
        destination = Destination.parse(url, endpoint=endpoint)
        self._users[destination] += 1
        try:
            yield await self._found(destination)
        finally:
            self._users[destination] -= 1
            if destination in self._open:
                self._open.move_to_end(destination)
            await self._close_idle()

    async def _found(self, destination: Destination) -> ObjectStore:
        if destination in self._open:
            return self._open[destination]
        task = self._opening.get(destination)
        if task is None:
            task = self._opening[destination] = asyncio.create_task(self._open_one(destination))
            task.add_done_callback(partial(self._opened, destination))
        return await asyncio.shield(task)  # others may wait for it, too

    async def _open_one(self, destination: Destination) -> ObjectStore:
        store = self._open[destination] = await self._opener(destination, self._settings)
        return store

    async def _close_idle(self) -> None:
        self._users = +self._users  # forgets those nobody uses
        idle = [destination for destination in self._open if destination not in self._users]
        for destination in idle[: max(0, len(idle) - _MOST_IDLE)]:
            await self._open.pop(destination).close()

    def _opened(self, destination: Destination, task: "asyncio.Task[ObjectStore]") -> None:
        del self._opening[destination]
        if not task.cancelled():
            task.exception()  # told to those who wait, if there still are any

    async def close(self) -> None:
        for task in (opening := list(self._opening.values())):
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        while self._open:
            _, store = self._open.popitem()
            with suppress(Exception):  # the others must be closed too
                await store.close()


class Resources:
    """Everything a stage or the scheduler needs from outside."""

    def __init__(
        self, settings: Settings, engine: Engine, redis: Redis, spool: ObjectStore, area: WorkArea, stores: Stores
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.redis = redis
        self.spool = spool
        self.area = area
        self.stores = stores

    async def source(self, reference: SourceRef) -> pa.Table:
        """The planned rows of a chunk. Raises PermanentError when the plan is gone or unreadable."""
        try:
            stream = await self.spool.get(reference.key, offset=reference.offset, length=reference.length)
            return from_stream(stream)
        except (KeyError, pa.ArrowInvalid) as error:
            raise PermanentError(f"the plan {reference.key} is gone or unreadable") from error


def own_place(url: str) -> Destination:
    """The spool, or the work area, as a destination; a relative folder is taken from the working directory."""
    return Destination.parse(url if "://" in url else str(Path(url).absolute()))


@asynccontextmanager
async def open_resources(settings: Settings, *, connections: int = 4) -> AsyncIterator[Resources]:
    """Opens what every service needs, lazily where it can; raises StoreRefused when a store of its own refuses."""
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url, connections=connections)
        stack.push_async_callback(engine.dispose)
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        spool = await open_store(own_place(settings.spool_url), settings)
        stack.push_async_callback(spool.close)
        area: WorkArea = LocalWorkArea(settings.work_dir)
        if settings.work_url is not None:
            between = await open_store(own_place(settings.work_url), settings)
            stack.push_async_callback(between.close)
            area = StoreWorkArea(between, settings.work_dir)
        stores = Stores(settings)
        stack.push_async_callback(stores.close)
        yield Resources(settings, engine, redis, spool, area, stores)
