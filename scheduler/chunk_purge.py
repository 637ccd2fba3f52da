"""Carries purges out in one chunk.

    read the index ─▶ note the rows ─▶ take them out (`scheduler/chunk_edit.py`) ─▶ count, all at once with "done here"

What was deleted is deleted before the chunk says so: a chunk that counts as purged holds nothing any more. A chunk is
not redriven while it is purged.
"""

import asyncio

from scheduler.chunk_edit import Lead, drop, read_index, remainder, replace_index, without
from scheduler.tombstones import Purges, tombs
from shared.chunk import Claim
from shared.db import leader, purges
from shared.db.leader import Term
from shared.failpoints import reach
from shared.reasons import Reason
from shared.resources import Resources
from shared.storage.base import ObjectStore


async def purge_chunk(resources: Resources, term: Term, claim: Claim, asked: Purges) -> int:
    """Empties the rows that the purges name; how many stored images went.

    Raises NotLeader, StoreUnavailable, StoreRefused, and WorkAreaFull when there is no room for a shard.
    """
    async with resources.stores.at(claim.destination, claim.endpoint) as store:
        return await _purge(resources, store, term, claim, asked)


async def _purge(resources: Resources, store: ObjectStore, term: Term, claim: Claim, asked: Purges) -> int:
    lead = Lead(resources, term)
    found = await read_index(store, claim)
    removals = [] if found is None else await asyncio.to_thread(asked.removals, found.index)
    if found is not None and removals:
        async with leader.leading(resources.engine, term) as connection:
            if not await purges.note_removals(connection, claim, removals):
                return 0  # it is redriven, and purged again when that has ended
        reach("purge.noted")
        index = await without(store, found.index, [removal.row for removal in removals], Reason.TAKEN_DOWN)
        reach("purge.cut")
        found = await replace_index(store, found, index, lead)
        reach("purge.indexed")
    if found is None or not tombs(found.index):
        async with leader.leading(resources.engine, term) as connection:
            await purges.mark(connection, claim, number=asked.newest.number)
        return 0
    await drop(store, claim, found.index, lead)
    reach("purge.dropped")
    left = await remainder(resources, store, claim, found.index)
    async with leader.leading(resources.engine, term) as connection:
        removed = await purges.record(connection, claim, left, number=asked.newest.number)
    return removed or 0
