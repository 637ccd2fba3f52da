"""Clears away what dropped chunks had stored, some at a time and beside the loop.

Whoever drops a chunk accepts that it stores nothing any more: so whatever it had stored is removed, unless its index
names it. That can be repeated, and done by two at once.
"""

import asyncio

import structlog

from scheduler.patience import Patience
from shared import metrics
from shared.chunk import Claim
from shared.db import leader, remnants
from shared.db.leader import Term
from shared.db.session import transaction
from shared.errors import PixCrawlerError
from shared.index import from_parquet, index_key, object_keys
from shared.remnants import remove_remnants
from shared.resources import Resources
from shared.storage.base import ObjectStore

#: Chunks cleared together.
_AT_ONCE = 4
#: For one chunk.
_LONGEST_SECONDS = 120.0

log = structlog.get_logger(__name__)


class Sweeper:
    """A dataset whose destination makes trouble is put off and keeps no other one waiting."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._patience = Patience()

    async def sweep(self, term: Term) -> bool:
        """The next slice of work. False: there is none for now."""
        async with transaction(self._resources.engine) as connection:
            found = await remnants.left(connection, without=self._patience.put_off_now, limit=_AT_ONCE)
        await asyncio.gather(*(self._clear(term, claim) for claim in found))
        return bool(found)

    async def _clear(self, term: Term, claim: Claim) -> None:
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                async with self._resources.stores.at(claim.destination, claim.endpoint) as store:
                    removed = await _clear(store, claim)
            async with leader.leading(self._resources.engine, term) as connection:
                await remnants.cleared(connection, claim)
        except Exception as error:  # one chunk's trouble, a bug too, must not stop the others
            log.warning(
                "remnants_not_removed",
                job=str(claim.job_id),
                chunk=claim.chunk_id,
                tries=self._patience.put_off(claim.dataset_id),
                error=str(error) or type(error).__name__,
                exc_info=None if isinstance(error, PixCrawlerError | OSError | TimeoutError) else error,
            )
            return
        self._patience.forget(claim.dataset_id)
        metrics.mended.labels(what="remnants").inc()
        log.info("remnants_removed", job=str(claim.job_id), chunk=claim.chunk_id, objects=removed)


async def _clear(store: ObjectStore, claim: Claim) -> int:
    """How many objects went. Without the chunk's own index nobody knows whose they are, and they stay."""
    try:
        index = from_parquet(await store.get(index_key(claim.revision, claim.ordinal, claim.round)))
    except (KeyError, ValueError):
        return 0
    if len(index) != claim.rows or index["row"][0].as_py() != claim.first_row or object_keys(index):
        return 0
    return await remove_remnants(store, claim)
