"""A store whose operations are timed and whose failures are counted, around any other."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path

from shared import metrics
from shared.errors import PixCrawlerError, StoreRefused, StoreUnavailable
from shared.storage.base import ObjectStore, StoredObject
from shared.storage.destination import Scheme

_TIMED = ("create", "replace", "exchange", "get", "stat", "delete")


class TimedStore:
    """Does what the inner store does. A listing is counted but not timed: its reader sets the pace."""

    def __init__(self, inner: ObjectStore, scheme: Scheme) -> None:
        self._inner = inner
        self._kind = scheme.value
        self._seconds = {name: metrics.store_seconds.labels(kind=self._kind, operation=name) for name in _TIMED}
        for operation, error in product((*_TIMED, "list"), (StoreUnavailable, StoreRefused)):
            metrics.store_errors.labels(kind=self._kind, operation=operation, code=error.code)

    async def create(self, key: str, body: bytes | memoryview | Path, *, content_type: str, sha256: str) -> bool:
        with self._timed("create"):
            return await self._inner.create(key, body, content_type=content_type, sha256=sha256)

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        with self._timed("replace"):
            await self._inner.replace(key, body, content_type=content_type, sha256=sha256)

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        with self._timed("exchange"):
            return await self._inner.exchange(key, body, version=version, content_type=content_type, sha256=sha256)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self._timed("get"):
            return await self._inner.get(key, offset=offset, length=length)

    async def stat(self, key: str) -> StoredObject | None:
        with self._timed("stat"):
            return await self._inner.stat(key)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        try:
            async for stored in self._inner.list(prefix):
                yield stored
        except PixCrawlerError as error:
            self._count("list", error)
            raise

    async def delete(self, key: str) -> None:
        with self._timed("delete"):
            await self._inner.delete(key)

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        return await self._inner.link(key, valid=valid)

    async def sweep(self) -> None:
        await self._inner.sweep()

    async def close(self) -> None:
        await self._inner.close()

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        """Counts failures; not an object that is missing: asking for it was no mistake of the store's."""
        started = time.monotonic()
        try:
            yield
        except PixCrawlerError as error:
            self._count(operation, error)
            raise
        finally:
            self._seconds[operation].observe(time.monotonic() - started)

    def _count(self, operation: str, error: PixCrawlerError) -> None:
        metrics.store_errors.labels(kind=self._kind, operation=operation, code=error.code).inc()
