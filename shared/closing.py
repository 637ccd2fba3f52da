"""Ends a chunk that stands in `cleaning`: its rows get their index, its work area goes, its slot is free.

Every chunk that ends has an index in the dataset, also one that failed or was cancelled: each row that was
open gets that reason, so that `rows = accepted + Σ rejected` holds whatever happened. Each step can run
twice. The worker that ended the chunk closes it; what it could not close, the cell's janitor or the
scheduler does.
"""

import hashlib

import structlog

from shared import progress
from shared.chunk import NewObject
from shared.db import chunks
from shared.db.session import transaction
from shared.errors import PermanentError, StoreRefused
from shared.index import counts_of, from_parquet, index_key, index_of_open_rows, object_keys, to_parquet
from shared.pipeline import Outcome
from shared.reasons import Reason
from shared.resources import Resources
from shared.storage.base import ObjectStore

_REASONS = {Outcome.FAILED: Reason.CHUNK_FAILED, Outcome.CANCELLED: Reason.CANCELLED}
_PARQUET = "application/vnd.apache.parquet"

log = structlog.get_logger(__name__)


async def close_chunk(resources: Resources, ended: chunks.Ended, *, actor: str) -> bool:
    """Closes a chunk in `cleaning`. False: somebody else did. Raises TransientError; then it is still to be closed."""
    if ended.outcome in _REASONS:
        await _index_open_rows(resources, ended)
    await resources.area.remove(ended.claim.job_id, ended.claim.chunk_id)
    async with transaction(resources.engine) as connection:
        closed = await chunks.close(connection, ended, actor=actor)
    await progress.forget(resources.redis, ended.claim.job_id, ended.claim.chunk_id)
    return closed


async def _index_open_rows(resources: Resources, ended: chunks.Ended) -> None:
    """Writes the index of a chunk without a result, or adopts the one its upload left: an index is complete."""
    claim = ended.claim
    index = index_of_open_rows(await resources.source(claim.source), _REASONS[ended.outcome], revision=claim.revision)
    body = to_parquet(index)
    digest = hashlib.sha256(body).hexdigest()
    key = index_key(claim.revision, claim.ordinal)
    objects: list[NewObject] = []
    try:
        store = await resources.stores.at(claim.destination, claim.endpoint)
        if not await store.create(key, body, content_type=_PARQUET, sha256=digest):
            body = await store.get(key)
            index, digest = from_parquet(body), hashlib.sha256(body).hexdigest()
            objects = [await _as_stored(store, name) for name in object_keys(index)]
        objects.append(NewObject(key=key, size_bytes=len(body), sha256=digest))
    except StoreRefused as error:
        log.error("index_refused", chunk=claim.chunk_id, error=str(error))  # the counts stand all the same
    async with transaction(resources.engine) as connection:
        accepted, rejected = counts_of(index)
        await chunks.set_counts(connection, ended, accepted=accepted, rejected=rejected)
        await chunks.record_objects(connection, claim, objects)


async def _as_stored(store: ObjectStore, key: str) -> NewObject:
    """An object that an earlier attempt stored, as its index says; a folder keeps no digest beside it."""
    found = await store.stat(key)
    if found is None:
        raise PermanentError(f"the index names {key}, which is not there")
    digest = found.sha256 or hashlib.sha256(await store.get(key)).hexdigest()
    return NewObject(key=key, size_bytes=found.size_bytes, sha256=digest)
