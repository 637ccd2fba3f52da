"""Plans a refresh: rows whose pictures the dataset holds, read from the indexes that say so.

    indexes with accepted rows ──▶ these rows, and what is known of their pictures ──▶ a chunk for each index

So each chunk of a refresh speaks of the rows of one earlier chunk, which learns what it found (`chunk_renewal.py`).
"""

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scheduler.past import INDEXES_A_PART, Past, in_groups, of_one_revision, place_behind, planned
from scheduler.planning import Part, part_chunks, write_part
from shared.db.lifecycle import Plan
from shared.records import HELD
from shared.resources import Resources


class PicturesAgain:
    """Reads what is to be looked at again."""

    def __init__(self, resources: Resources) -> None:
        self._past = Past(resources)

    async def part(self, plan: Plan, path: Path) -> Part:
        """The next part. Raises StoreUnavailable, StoreRefused, DatabaseUnavailable, BadSource."""
        after = place_behind(plan)
        most = min(part_chunks(plan.planned_chunks), INDEXES_A_PART)
        chunks = await self._past.chunks(plan, after, with_pictures=True, limit=most + 1)
        looked = of_one_revision(chunks[:most])
        tables: list[pa.Table] = []
        renews: list[int] = []
        for some in in_groups(looked):
            for chunk, index in zip(some, await self._past.indexes(plan, some), strict=True):
                table = None if index is None else await asyncio.to_thread(_held, index)
                if table is not None and len(table):
                    tables.append(table)
                    renews.append(chunk.id)
        written = await asyncio.to_thread(write_part, tables, first_ordinal=plan.planned_chunks, path=path)
        behind = (looked[-1].revision, looked[-1].ordinal) if looked else after
        return Part(
            path=path,
            size_bytes=written.size_bytes,
            sha256=written.sha256,
            chunks=written.chunks,
            cursor={"revision": behind[0], "ordinal": behind[1]},
            is_last=len(looked) == len(chunks),
            replaced={},
            renews=tuple(renews),
        )


def _held(index: pa.Table) -> pa.Table:
    """The accepted rows as they were planned, and what the dataset holds of each."""
    rows = index.filter(pc.is_null(index["reason"]))
    facts = rows.select([field.name for field in HELD.type]).to_pylist()
    return planned(rows).append_column(HELD, pa.array(facts, HELD.type)).combine_chunks()
