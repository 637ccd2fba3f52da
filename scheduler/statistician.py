"""Works out what a dataset is like, from all of its indexes: once when a job ends, so that nobody has to wait for it.

    newest revision first ──▶ some chunks' indexes at once, a few columns of each ──▶ rows not seen yet ──▶ tally

Memory holds those few indexes, the tally, and a byte a row once there are several revisions.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from shared.db import history, jobs
from shared.db.history import Added
from shared.db.jobs import EndedChunk
from shared.db.session import transaction
from shared.index import index_key, standing
from shared.pipeline import PIPELINE
from shared.resources import Resources
from shared.statistics import COLUMNS, SCHEMA, StageTime, Statistics, Tally
from shared.storage.base import ObjectStore

#: Indexes read at once, and chunks asked for at a time.
_AT_ONCE, _A_PAGE = 16, 500
#: Ten million rows take a minute or two from a store nearby; no job waits for its figures for longer than this.
_LONGEST_SECONDS = 900.0

log = structlog.get_logger(__name__)


async def statistics_of(resources: Resources, store: ObjectStore, dataset_id: UUID) -> Statistics | None:
    """The dataset in figures, over all chunks that have ended; None when that takes too long.

    Raises StoreUnavailable, StoreRefused, DatabaseUnavailable.
    """
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await _statistics_of(resources, store, dataset_id)
    except TimeoutError:
        log.warning("statistics_not_made", dataset=str(dataset_id), seconds=_LONGEST_SECONDS)
        return None


async def _statistics_of(resources: Resources, store: ObjectStore, dataset_id: UUID) -> Statistics:
    async with transaction(resources.engine) as connection:
        added = await history.revisions_of(connection, dataset_id)
    tally, seconds, unread = Tally(), Counter[str](), 0
    seen = _Rows() if len(added) > 1 else None
    for job in added:
        async with transaction(resources.engine) as connection:
            seconds.update(await history.seconds_by_state(connection, job.job_id))
        async for chunks in _chunks(resources, job):
            tables = await asyncio.gather(*(_index(store, job, chunk) for chunk in chunks))
            unread += sum(chunk.rows for chunk, table in zip(chunks, tables, strict=True) if table is None)
            await asyncio.to_thread(_count, tally, [table for table in tables if table is not None], seen)
    return tally.statistics(
        dataset_id, added[0].revision if added else 0, rows_without_index=unread, stages=_stages(seconds)
    )


def _stages(seconds: Counter[str]) -> dict[str, StageTime]:
    return {
        stage.name: StageTime(
            working_seconds=round(seconds[stage.running], 1), waiting_seconds=round(seconds[stage.ready], 1)
        )
        for stage in PIPELINE
    }


async def _chunks(resources: Resources, job: Added) -> AsyncIterator[Sequence[EndedChunk]]:
    start = 0
    while True:
        async with transaction(resources.engine) as connection:
            page = await jobs.ended_chunks(connection, job.job_id, start=start, limit=_A_PAGE)
        for place in range(0, len(page), _AT_ONCE):
            yield page[place : place + _AT_ONCE]
        if len(page) < _A_PAGE:
            return
        start = page[-1].ordinal + 1


async def _index(store: ObjectStore, job: Added, chunk: EndedChunk) -> pa.Table | None:
    """Some columns of a chunk's index; None when it cannot be read: a figure is not worth a job."""
    key = index_key(job.revision, chunk.ordinal, chunk.round)
    try:
        return await asyncio.to_thread(_read, await store.get(key))
    except (KeyError, ValueError) as error:
        log.warning("index_not_counted", job=str(job.job_id), key=key, error=str(error))
        return None


def _read(body: bytes) -> pa.Table:
    """Raises ValueError, which pyarrow's are, when it is no index."""
    with pq.ParquetFile(pa.BufferReader(body)) as file:
        return file.read(columns=list(COLUMNS)).select(list(COLUMNS)).cast(SCHEMA)


def _count(tally: Tally, tables: Sequence[pa.Table], seen: "_Rows | None") -> None:
    """Adds these tables, which are all of one revision."""
    if not tables:
        return
    table = standing(pa.concat_tables(tables))
    tally.add(table if seen is None else table.filter(seen.new(table["row"].to_pylist())))


class _Rows:
    """Which rows newer revisions had."""

    def __init__(self) -> None:
        self._seen = bytearray()

    def new(self, rows: Sequence[int]) -> pa.Array:
        """Which of these are seen for the first time; from now on they are known."""
        highest = max(rows, default=-1)
        self._seen.extend(bytes(max(0, highest + 1 - len(self._seen))))
        fresh = [not self._seen[row] for row in rows]
        for row in rows:
            self._seen[row] = 1
        return pa.array(fresh, pa.bool_())
