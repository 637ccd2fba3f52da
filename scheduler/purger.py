"""Carries out purges, some chunks at a time and beside the loop: deletes what was taken down from datasets.

Chunks first, then the papers of the datasets that changed, last the word that a purge is done. A dataset whose
destination makes trouble is put off and keeps no other one waiting.
"""

import asyncio
from uuid import UUID

import pyarrow as pa
import structlog

from scheduler.chunk_purge import purge_chunk
from scheduler.finisher import papers_of
from scheduler.patience import Patience
from scheduler.renewals import Renewals
from scheduler.statistician import statistics_of
from scheduler.tombstones import Purges
from shared import metrics
from shared.chunk import Claim
from shared.db import jobs, leader, purges
from shared.db.leader import Term
from shared.db.lifecycle import Finished
from shared.db.session import transaction
from shared.errors import PixCrawlerError
from shared.index import from_parquet, index_key, saved_fields_in
from shared.papers import SUCCESS_KEY
from shared.pipeline import JobState
from shared.publishing import publish_papers
from shared.resources import Resources
from shared.storage.base import ObjectStore

#: Chunks looked at together; admission shares the process.
_AT_ONCE = 4
#: For one chunk, most of which a shard of some gigabytes takes that is copied twice.
_LONGEST_SECONDS = 1200.0

log = structlog.get_logger(__name__)


class Purger:
    """Looks through the chunks that may hold what was taken down."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._patience = Patience()
        self._renewals = Renewals(resources)
        #: Where this walk over the chunks is.
        self._after = 0

    async def purge(self, term: Term) -> bool:
        """The next slice of work. False: there is none for now.

        What a refresh found is carried out here, too: both change indexes, and take turns.
        """
        has_renewed = await self._renewals.renew(term)
        asked = await self._asked()
        if asked and await self._purge_some(term, asked):
            return True
        if await self._refresh_papers(term):
            return True
        if asked:
            await self._conclude(term, asked)
        return has_renewed

    async def _asked(self) -> Purges | None:
        async with transaction(self._resources.engine) as connection:
            orders = await purges.open_purges(connection)
        return await asyncio.to_thread(Purges, orders) if orders else None

    async def _purge_some(self, term: Term, asked: Purges) -> bool:
        async with transaction(self._resources.engine) as connection:
            found = await purges.unpurged(
                connection, asked.newest, after=self._after, without=self._patience.put_off_now, limit=_AT_ONCE
            )
        self._after = found[-1].chunk_id if found else 0
        await asyncio.gather(*(self._purge_one(term, chunk, asked) for chunk in found))
        return bool(found)

    async def _purge_one(self, term: Term, chunk: Claim, asked: Purges) -> None:
        dataset = chunk.dataset_id
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                removed = await purge_chunk(self._resources, term, chunk, asked)
        except Exception as error:  # one chunk's trouble, a bug too, must not stop the others
            self._put_off(dataset, error, chunk=chunk.chunk_id)
            return
        self._patience.forget(dataset)
        if removed:
            metrics.images_purged.inc(removed)
            log.info("chunk_purged", job=str(chunk.job_id), chunk=chunk.chunk_id, images=removed)

    async def _refresh_papers(self, term: Term) -> bool:
        """Writes the papers of one dataset anew. False: none needs it now."""
        async with transaction(self._resources.engine) as connection:
            job = await purges.stale(connection, without=self._patience.put_off_now)
        if job is None:
            return False
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                await self._publish(term, job)
        except Exception as error:  # as above
            self._put_off(job.dataset_id, error)
        else:
            self._patience.forget(job.dataset_id)
        return True

    async def _publish(self, term: Term, job: Finished) -> None:
        async with self._resources.stores.at(job.destination, job.endpoint) as store:
            saved = await _saved_columns(self._resources, store, job)
            papers = await papers_of(self._resources, job, is_cancelled=job.state is JobState.CANCELLED, saved=saved)
            # A dataset that was not whole before does not become so by what it loses.
            figures = await statistics_of(self._resources, store, job.dataset_id)
            await publish_papers(store, papers, figures, is_whole=await store.stat(SUCCESS_KEY) is not None)
        async with leader.leading(self._resources.engine, term) as connection:
            await purges.refreshed(connection, job.dataset_id)

    async def _conclude(self, term: Term, asked: Purges) -> None:
        async with leader.leading(self._resources.engine, term) as connection:
            ended = await purges.conclude(connection, asked.orders)
        for takedown in ended:
            log.info("purge_ended", takedown=takedown)

    def _put_off(self, dataset: UUID, error: Exception, *, chunk: int | None = None) -> None:
        log.warning(
            "purge_hindered",
            dataset=str(dataset),
            chunk=chunk,
            tries=self._patience.put_off(dataset),
            error=str(error) or type(error).__name__,
            exc_info=None if isinstance(error, PixCrawlerError | OSError | TimeoutError) else error,
        )


async def _saved_columns(resources: Resources, store: ObjectStore, job: Finished) -> list[pa.Field] | None:
    """The client's own columns, as an index has them: the plan may have been removed. None when there is no index."""
    async with transaction(resources.engine) as connection:
        chunks = await jobs.ended_chunks(connection, job.job_id, start=0, limit=1)
    if not chunks:
        return None
    try:
        body = await store.get(index_key(job.revision, chunks[0].ordinal, chunks[0].round))
    except KeyError:
        return None
    return saved_fields_in(await asyncio.to_thread(from_parquet, body))
