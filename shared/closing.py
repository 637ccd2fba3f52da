"""Ends a chunk that stands in `cleaning`: its rows get their index, its work area goes, its slot is free.

Every chunk that ends has an index in the dataset, also one that failed or was cancelled: each row that was
open gets that reason, so that `rows = accepted + Σ rejected` holds whatever happened. Each step can run
twice. The worker that ended the chunk closes it; what it could not close, the cell's janitor or the
scheduler does.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa
import structlog

from shared import progress
from shared.chunk import Claim, NewObject
from shared.db import chunks
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable, PermanentError, PixCrawlerError, StoreRefused, StoreUnavailable
from shared.failpoints import reach
from shared.index import counts_of, from_parquet, index_key, index_of_open_rows, object_keys, to_parquet
from shared.pipeline import Outcome
from shared.reasons import Reason
from shared.remnants import remove_remnants
from shared.resources import Resources
from shared.rounds import announce_change, retire_older_indexes
from shared.storage.base import ObjectStore

_REASONS = {Outcome.FAILED: Reason.CHUNK_FAILED, Outcome.CANCELLED: Reason.CANCELLED}
_PARQUET = "application/vnd.apache.parquet"
#: Chunks closed at once by one closer.
_AT_ONCE = 8
#: For the index of one chunk. Above a store's own limit for one silent request.
_LONGEST_SECONDS = 45.0
#: A destination away for this many tries (about 40 minutes) loses the index of chunks that stored nothing; their
#: rows are counted all the same, and their slots are wanted by others.
_MOST_TRIES = 12

log = structlog.get_logger(__name__)


async def close_all(resources: Resources, left: Sequence[chunks.Ended], *, actor: str) -> None:
    """Closes chunks, some at once: a destination that hangs keeps nobody else waiting for long."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def close_one(ended: chunks.Ended) -> None:
        async with places:
            await close_or_put_off(resources, ended, actor=actor)

    await asyncio.gather(*map(close_one, left))


async def close_or_put_off(resources: Resources, ended: chunks.Ended, *, actor: str) -> None:
    """Closes a chunk; when that cannot be done now, it is tried again later, by whoever looks after it."""
    try:
        if await close_chunk(resources, ended, actor=actor):
            log.debug("chunk_closed", chunk=ended.claim.chunk_id, outcome=ended.outcome, actor=actor)
    except Exception as error:  # one chunk's trouble, a bug too, must not stop those who close all others
        is_expected = isinstance(error, PixCrawlerError | OSError | TimeoutError)
        log.warning(
            "chunk_not_closed",
            chunk=ended.claim.chunk_id,
            error=str(error) or type(error).__name__,
            exc_info=None if is_expected else error,
        )
        with suppress(DatabaseUnavailable):
            async with transaction(resources.engine) as connection:
                await chunks.put_off_closing(connection, ended)


async def close_chunk(resources: Resources, ended: chunks.Ended, *, actor: str) -> bool:
    """Closes a chunk in `cleaning`. False: somebody else did. Raises TransientError; then it is still to be closed."""
    if ended.outcome in _REASONS:
        await _close_open_rows(resources, ended)
    await resources.area.remove(ended.claim.job_id, ended.claim.chunk_id)
    reach("close.removed")
    async with transaction(resources.engine) as connection:
        closed = await chunks.close(connection, ended, actor=actor)
    await progress.forget(resources.redis, ended.claim.job_id, ended.claim.chunk_id)
    return closed


async def _close_open_rows(resources: Resources, ended: chunks.Ended) -> None:
    """Counts the rows of a chunk without a result, and writes their index if that is possible at all."""
    claim = ended.claim
    accepted, rejected = 0, {_reason_of(ended).value: claim.rows}
    objects: list[NewObject] = []
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            index, objects = await _stored_index(resources, ended)
        accepted, rejected = counts_of(index)
    except PermanentError as error:  # the destination refuses, or the plan is gone
        log.error("index_not_written", chunk=claim.chunk_id, error=str(error))
    except (StoreUnavailable, TimeoutError) as error:
        if ended.tries < _MOST_TRIES:
            raise
        log.error("index_not_written", chunk=claim.chunk_id, error=str(error))
    reach("close.indexed")
    async with transaction(resources.engine) as connection:
        await chunks.set_counts(connection, ended, accepted=accepted, rejected=rejected)
        await chunks.record_objects(connection, claim, objects)


def _reason_of(ended: chunks.Ended) -> Reason:
    """Why open rows are not accepted; those of a refresh go on holding what they held."""
    return _REASONS[ended.outcome] if ended.claim.gone is None else Reason.KEPT


async def _stored_index(resources: Resources, ended: chunks.Ended) -> tuple[pa.Table, list[NewObject]]:
    """Writes the index of a chunk without a result, or adopts the one its upload left: an index is complete."""
    claim = ended.claim
    index = index_of_open_rows(await resources.source(claim.source), _reason_of(ended), revision=claim.revision)
    async with resources.stores.at(claim.destination, claim.endpoint) as store:
        index, objects = await _store_index(store, claim, index)
        keeps_remnants = ended.outcome is Outcome.FAILED and claim.gone is None  # they are found when it is redriven
        if ended.may_have_stored and not keeps_remnants and not object_keys(index):
            await remove_remnants(store, claim)
    return index, objects


async def _store_index(store: ObjectStore, claim: Claim, index: pa.Table) -> tuple[pa.Table, list[NewObject]]:
    body, key = to_parquet(index), index_key(claim.revision, claim.ordinal, claim.round)
    await announce_change(store, claim)
    named: list[str] = []
    if not await store.create(key, body, content_type=_PARQUET, sha256=hashlib.sha256(body).hexdigest()):
        body = await store.get(key)
        index = _adopted(key, body, rows=claim.rows)
        named = object_keys(index)
    await retire_older_indexes(store, claim)
    stored = NewObject(key=key, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    return index, [*[await _as_stored(store, name) for name in named], stored]


def _adopted(key: str, body: bytes, *, rows: int) -> pa.Table:
    try:
        index = from_parquet(body)
    except ValueError as error:
        raise StoreRefused(f"{key} is no index that can be read; move it away") from error
    if len(index) != rows:
        raise StoreRefused(f"{key} is not the index of this chunk; move it away")
    return index


async def _as_stored(store: ObjectStore, key: str) -> NewObject:
    """An object that an earlier attempt stored, as its index says; a folder keeps no digest beside it."""
    found = await store.stat(key)
    if found is None:
        raise PermanentError(f"the index names {key}, which is not there")
    digest = found.sha256 or hashlib.sha256(await store.get(key)).hexdigest()
    return NewObject(key=key, size_bytes=found.size_bytes, sha256=digest)
