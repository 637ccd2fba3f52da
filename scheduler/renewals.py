"""Carries out what refreshes found, some chunks at a time: indexes learn it, and replaced images go.

A dataset whose destination makes trouble is put off and keeps no other one waiting; its job runs on so long, unless it
is cancelled and the destination refuses for good.
"""

import asyncio
from contextlib import suppress

import structlog

from scheduler.chunk_renewal import renew_chunk
from scheduler.patience import Patience
from shared.db import leader, renewals
from shared.db.leader import Term
from shared.db.renewals import Renewal
from shared.db.session import transaction
from shared.errors import PermanentError, PixCrawlerError
from shared.resources import Resources

#: Chunks renewed together.
_AT_ONCE = 4
#: For one chunk, most of which a shard of some gigabytes takes that is copied twice.
_LONGEST_SECONDS = 900.0

log = structlog.get_logger(__name__)


class Renewals:
    """Looks for chunks that a refresh has fetched again. Purges, which change the same indexes, wait so long."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._patience = Patience()

    async def renew(self, term: Term) -> bool:
        """The next slice of work. False: there is none for now."""
        async with transaction(self._resources.engine) as connection:
            found = await renewals.due(connection, without=self._patience.put_off_now, limit=_AT_ONCE)
        await asyncio.gather(*(self._renew_one(term, renewal) for renewal in found))
        return bool(found)

    async def _renew_one(self, term: Term, renewal: Renewal) -> None:
        by = renewal.by
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                replaced = await renew_chunk(self._resources, term, renewal)
        except Exception as error:  # one chunk's trouble, a bug too, must not stop the others
            if renewal.is_withdrawn and isinstance(error, PermanentError):
                await self._give_up(term, renewal)
            log.warning(
                "renewal_hindered",
                job=str(by.job_id),
                chunk=by.chunk_id,
                tries=self._patience.put_off(by.dataset_id),
                error=str(error) or type(error).__name__,
                exc_info=None if isinstance(error, PixCrawlerError | OSError | TimeoutError) else error,
            )
            return
        self._patience.forget(by.dataset_id)
        log.info("chunk_renewed", job=str(by.job_id), chunk=renewal.of.chunk_id, rows=replaced)

    async def _give_up(self, term: Term, renewal: Renewal) -> None:
        """A job that is cancelled does not wait for a destination that refuses."""
        with suppress(PixCrawlerError):
            async with leader.leading(self._resources.engine, term) as connection:
                await renewals.conclude(connection, renewal, None)
