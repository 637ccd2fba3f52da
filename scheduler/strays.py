"""Looks for stray objects: what lies in a destination, was made by PixCrawler, and is named by no index.

    complete chunks, in order ──▶ what lies under their names, less what their index names
        ──▶ noted since when ──▶ still so after some days, and the operator wishes it ──▶ removed

It asks for each chunk's own objects, so whatever else lies in a destination is not even looked at; nor is what a chunk
left that failed, for it may be redriven, and what was dropped or cancelled goes by `scheduler/sweeper.py`. A walk
remembers how far it came in the calendar's entry, and each run goes on from there.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from scheduler.settings import SchedulerSettings
from shared import metrics
from shared.chunk import Claim
from shared.db import calendar, leader, strays
from shared.db.calendar import Run
from shared.db.leader import NotLeader, Term
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable, PixCrawlerError
from shared.index import from_parquet, index_key, object_keys
from shared.remnants import objects_of_chunk, remove
from shared.resources import Resources
from shared.storage.base import ObjectStore

#: Chunks looked at in one run.
_MOST = 1000
#: Chunks looked at together.
_AT_ONCE = 8
#: For one chunk.
_LONGEST_SECONDS = 60.0
#: A run begins no further chunks after this: other entries of the calendar wait for it.
_LONGEST_RUN_SECONDS = 300.0
#: So long after its end a worker that was frozen over a chunk may still wake up and store.
_RESTS_FOR = timedelta(days=1)

log = structlog.get_logger(__name__)


class Strays:
    """One walk over all complete chunks after the other."""

    def __init__(self, settings: SchedulerSettings, resources: Resources) -> None:
        self._resources = resources
        self._keep = timedelta(days=settings.keep_strays_days)
        self._removes = settings.remove_strays

    async def sweep(self, term: Term, run: Run) -> None:
        """The next part of the walk. Raises DatabaseUnavailable, NotLeader."""
        after = int(run.arguments.get("after", 0))
        async with transaction(self._resources.engine) as connection:
            chunks = await strays.at_rest(connection, after=after, ended_for=_RESTS_FOR, limit=_MOST)
        looked = await self._look_at_all(term, chunks)
        is_end = looked == len(chunks) < _MOST
        async with leader.leading(self._resources.engine, term) as connection:
            await calendar.remember(connection, run.entry, {"after": 0 if is_end else chunks[looked - 1].chunk_id})

    async def _look_at_all(self, term: Term, chunks: Sequence[Claim]) -> int:
        """How many it came to. A dataset whose destination makes trouble is left for the next walk."""
        troubled: set[UUID] = set()
        until = time.monotonic() + _LONGEST_RUN_SECONDS
        for start in range(0, len(chunks), _AT_ONCE):
            if start and time.monotonic() > until:
                return start
            some = [chunk for chunk in chunks[start : start + _AT_ONCE] if chunk.dataset_id not in troubled]
            went_well = await asyncio.gather(*(self._look_at(term, chunk) for chunk in some))
            troubled |= {chunk.dataset_id for chunk, well in zip(some, went_well, strict=True) if not well}
        return len(chunks)

    async def _look_at(self, term: Term, chunk: Claim) -> bool:
        """Whether the destination made no trouble."""
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                async with self._resources.stores.at(chunk.destination, chunk.endpoint) as store:
                    await self._settle(term, store, chunk, await _unnamed(store, chunk))
        except (DatabaseUnavailable, NotLeader):
            raise
        except (PixCrawlerError, OSError, TimeoutError) as error:
            what = str(error) or "no answer in time"
            log.warning("strays_not_looked_for", job=str(chunk.job_id), chunk=chunk.chunk_id, error=what)
            return False
        return True

    async def _settle(self, term: Term, store: ObjectStore, chunk: Claim, found: dict[str, int]) -> None:
        async with leader.leading(self._resources.engine, term) as connection:
            new = await strays.note(connection, chunk, found)
            going = await strays.removable(connection, chunk, seen_for=self._keep) if self._removes else []
        metrics.strays.inc(new)
        if new:
            log.warning(
                "strays_found",
                job=str(chunk.job_id),
                chunk=chunk.chunk_id,
                new=new,
                objects=len(found),
                bytes=sum(found.values()),
                one=min(found),
            )
        if not going:
            return
        await remove(store, going)
        async with leader.leading(self._resources.engine, term) as connection:
            await strays.forget(connection, chunk, going)
        metrics.mended.labels(what="strays").inc(len(going))
        log.info("strays_removed", job=str(chunk.job_id), chunk=chunk.chunk_id, objects=len(going))


async def _unnamed(store: ObjectStore, chunk: Claim) -> dict[str, int]:
    """The chunk's objects that its index does not name, and their sizes.

    Without the chunk's own index nobody knows whose they are, and none counts. What lies there is listed before the
    index is read: an object that is named in the meantime is no stray.
    """
    found = {stored.key: stored.size_bytes async for stored in objects_of_chunk(store, chunk)}
    if not found:
        return {}
    try:
        index = from_parquet(await store.get(index_key(chunk.revision, chunk.ordinal, chunk.round)))
    except (KeyError, ValueError):
        return {}
    if len(index) != chunk.rows or index["row"][0].as_py() != chunk.first_row:
        return {}
    named = {*object_keys(index), *(path for path in index["path"].to_pylist() if path is not None)}
    return {key: size for key, size in found.items() if key not in named}
