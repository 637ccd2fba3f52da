"""Reads the indexes of a dataset's earlier revisions, for plans that take rows of theirs again.

A part looks into a bounded number of indexes, all of one revision, so that a plan for ten million rows keeps no other
job waiting. The rows' own columns come from the index too: the first list may be gone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from shared.db import revisions
from shared.db.lifecycle import Plan
from shared.db.revisions import PastChunk
from shared.db.session import transaction
from shared.errors import BadSource
from shared.index import from_parquet, index_key, saved_fields_in
from shared.records import SOURCE
from shared.resources import Resources

#: Indexes looked into for one part: some seconds with a store that takes 50 ms for each.
INDEXES_A_PART = 100
#: Indexes asked for at once.
_AT_ONCE = 8
#: Before the first revision.
BEGINNING = (-1, -1)


class Past:
    """The ended chunks of a dataset."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def chunks(self, plan: Plan, after: tuple[int, int], *, limit: int, **chosen: Any) -> list[PastChunk]:
        """Those of earlier revisions, behind a revision and ordinal; `chosen` as `revisions.past_chunks` has it."""
        async with transaction(self._resources.engine) as connection:
            return await revisions.past_chunks(
                connection, plan.dataset_id, before=plan.revision, after=after, limit=limit, **chosen
            )

    async def indexes(self, plan: Plan, chunks: Sequence[PastChunk]) -> list[pa.Table | None]:
        """The chunks' indexes, None for one that is not there."""
        async with self._resources.stores.at(plan.destination, plan.endpoint) as store:

            async def read(chunk: PastChunk) -> pa.Table | None:
                try:
                    body = await store.get(index_key(chunk.revision, chunk.ordinal, chunk.round))
                    return await asyncio.to_thread(from_parquet, body)
                except KeyError:
                    return None
                except ValueError as error:
                    raise BadSource("the destination holds an index that is not of this dataset") from error

            return list(await asyncio.gather(*map(read, chunks)))


def place_behind(plan: Plan) -> tuple[int, int]:
    """Where the plan goes on."""
    return (plan.cursor["revision"], plan.cursor["ordinal"]) if plan.cursor else BEGINNING


def planned(index: pa.Table) -> pa.Table:
    """Rows of an index as they were planned: `records.SOURCE`, then the client's own columns."""
    fields = [*SOURCE, *saved_fields_in(index)]
    return index.select([field.name for field in fields]).cast(pa.schema(fields))


def of_one_revision(chunks: Sequence[PastChunk]) -> list[PastChunk]:
    """The first of them; all chunks of a part have the same columns."""
    return [chunk for chunk in chunks if chunk.revision == chunks[0].revision]


def in_groups(chunks: Sequence[PastChunk]) -> Iterator[Sequence[PastChunk]]:
    """To be read together."""
    for start in range(0, len(chunks), _AT_ONCE):
        yield chunks[start : start + _AT_ONCE]
