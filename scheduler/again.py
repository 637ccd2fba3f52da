"""Plans a retry: rows that earlier revisions rejected, read from their indexes, under their old numbers.

    indexes of earlier revisions ──▶ rows with one of the asked reasons, not taken again before ──▶ chunks of 500

A part looks into a bounded number of indexes, all of one revision, so that a retry of ten million rows keeps no other
job waiting, and its last chunk may be short. The rows' own columns come from the index too: the first list may be gone.
"""

import asyncio
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from scheduler.planning import Part, part_chunks, write_part
from shared.db import revisions
from shared.db.lifecycle import Plan
from shared.db.revisions import PastChunk
from shared.db.session import transaction
from shared.errors import BadSource
from shared.index import from_parquet, index_key, saved_fields_in
from shared.pipeline import CHUNK_ROWS, JobKind
from shared.reasons import Reason
from shared.records import SOURCE
from shared.resources import Resources

#: Indexes looked into for one part: some seconds with a store that takes 50 ms for each.
_INDEXES_A_PART = 100
#: Indexes asked for at once.
_AT_ONCE = 8
_BEGINNING = (-1, -1)


class RowsAgain:
    """Reads what is to be taken again. It remembers of one job which rows a later revision has taken already."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._newest: tuple[UUID, array[int]] | None = None

    async def part(self, plan: Plan, path: Path) -> Part:
        """The next part. Raises StoreUnavailable, StoreRefused, DatabaseUnavailable, BadSource."""
        newest = await self._newest_revisions(plan)
        reasons = [Reason(reason) for reason in plan.source["reasons"]]
        cursor = plan.cursor or {}
        after = (cursor["revision"], cursor["ordinal"]) if cursor else _BEGINNING
        chunks = await self._past(plan, after, reasons=reasons, limit=_INDEXES_A_PART + 1)
        looked = _of_one_revision(chunks[:_INDEXES_A_PART])
        found = _Found(max_rows=part_chunks(plan.planned_chunks) * CHUNK_ROWS)
        for some in _in_groups(looked):
            for chunk, index in zip(some, await self._indexes(plan, some), strict=True):
                await asyncio.to_thread(found.take, chunk, index, reasons, newest)
            if found.is_full:
                break
        written = await asyncio.to_thread(write_part, found.chunks(), first_ordinal=plan.planned_chunks, path=path)
        behind = found.behind or after
        return Part(
            path=path,
            size_bytes=written.size_bytes,
            sha256=written.sha256,
            chunks=written.chunks,
            cursor={"revision": behind[0], "ordinal": behind[1]},
            is_last=not chunks or behind == (chunks[-1].revision, chunks[-1].ordinal),
            replaced=found.reasons,
        )

    async def _newest_revisions(self, plan: Plan) -> "array[int]":
        """For each row of the dataset the newest revision that took it again; 0 for none."""
        if self._newest is not None and self._newest[0] == plan.job_id:
            return self._newest[1]
        newest = array("H", bytes(2 * plan.next_row))
        after = _BEGINNING
        while chunks := await self._past(plan, after, kind=JobKind.RETRY, limit=_INDEXES_A_PART):
            for some in _in_groups(chunks):
                for chunk, index in zip(some, await self._indexes(plan, some), strict=True):
                    for row in index["row"].to_pylist() if index is not None else ():
                        newest[row] = chunk.revision
            after = (chunks[-1].revision, chunks[-1].ordinal)
        self._newest = (plan.job_id, newest)
        return newest

    async def _past(
        self,
        plan: Plan,
        after: tuple[int, int],
        *,
        reasons: Sequence[Reason] | None = None,
        kind: JobKind | None = None,
        limit: int,
    ) -> list[PastChunk]:
        async with transaction(self._resources.engine) as connection:
            return await revisions.past_chunks(
                connection, plan.dataset_id, before=plan.revision, after=after, reasons=reasons, kind=kind, limit=limit
            )

    async def _indexes(self, plan: Plan, chunks: Sequence[PastChunk]) -> list[pa.Table | None]:
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


class _Found:
    """Rows gathered for a part, and where the next one goes on."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._tables: list[pa.Table] = []
        self.reasons: Counter[str] = Counter()
        self.behind: tuple[int, int] | None = None

    @property
    def is_full(self) -> bool:
        return self.reasons.total() >= self._max_rows

    def take(self, chunk: PastChunk, index: pa.Table | None, reasons: Sequence[Reason], newest: "array[int]") -> None:
        """Takes a chunk's rows that are rejected for one of the reasons, and that no later revision took again."""
        self.behind = (chunk.revision, chunk.ordinal)
        if index is None:
            return
        wanted = set(reasons)
        places = [
            place
            for place, (row, reason) in enumerate(
                zip(index["row"].to_pylist(), index["reason"].to_pylist(), strict=True)
            )
            if reason in wanted and newest[row] <= chunk.revision
        ]
        if places:
            rows = index.take(pa.array(places, pa.int64()))
            self.reasons.update(rows["reason"].to_pylist())
            self._tables.append(_planned(rows))

    def chunks(self) -> Iterator[pa.Table]:
        if not self._tables:
            return
        rows = pa.concat_tables(self._tables)
        for start in range(0, len(rows), CHUNK_ROWS):
            yield rows.slice(start, CHUNK_ROWS).combine_chunks()


def _planned(index: pa.Table) -> pa.Table:
    """Rows of an index as they were planned: `records.SOURCE`, then the client's own columns."""
    fields = [*SOURCE, *saved_fields_in(index)]
    return index.select([field.name for field in fields]).cast(pa.schema(fields))


def _of_one_revision(chunks: Sequence[PastChunk]) -> list[PastChunk]:
    return [chunk for chunk in chunks if chunk.revision == chunks[0].revision]


def _in_groups(chunks: Sequence[PastChunk]) -> Iterator[Sequence[PastChunk]]:
    for start in range(0, len(chunks), _AT_ONCE):
        yield chunks[start : start + _AT_ONCE]
