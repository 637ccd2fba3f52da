"""Plans a retry: rows that earlier revisions rejected, read from their indexes, under their old numbers.

    indexes of earlier revisions ──▶ rows with one of the asked reasons, not taken again before ──▶ chunks of 500

The last chunk of a part may be short.
"""

import asyncio
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from scheduler.past import BEGINNING, INDEXES_A_PART, Past, in_groups, of_one_revision, place_behind, planned
from scheduler.planning import Part, part_chunks, write_part
from shared.db.lifecycle import Plan
from shared.db.revisions import PastChunk
from shared.pipeline import CHUNK_ROWS, JobKind
from shared.reasons import Reason
from shared.resources import Resources


class RowsAgain:
    """Reads what is to be taken again. It remembers of one job which rows a later revision has taken already."""

    def __init__(self, resources: Resources) -> None:
        self._past = Past(resources)
        self._newest: tuple[UUID, array[int]] | None = None

    async def part(self, plan: Plan, path: Path) -> Part:
        """The next part. Raises StoreUnavailable, StoreRefused, DatabaseUnavailable, BadSource."""
        newest = await self._newest_revisions(plan)
        reasons = [Reason(reason) for reason in plan.source["reasons"]]
        after = place_behind(plan)
        chunks = await self._past.chunks(plan, after, reasons=reasons, limit=INDEXES_A_PART + 1)
        looked = of_one_revision(chunks[:INDEXES_A_PART])
        found = _Found(max_rows=part_chunks(plan.planned_chunks) * CHUNK_ROWS)
        for some in in_groups(looked):
            for chunk, index in zip(some, await self._past.indexes(plan, some), strict=True):
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
        after = BEGINNING
        while chunks := await self._past.chunks(plan, after, kind=JobKind.RETRY, limit=INDEXES_A_PART):
            for some in in_groups(chunks):
                for chunk, index in zip(some, await self._past.indexes(plan, some), strict=True):
                    for row in index["row"].to_pylist() if index is not None else ():
                        newest[row] = chunk.revision
            after = (chunks[-1].revision, chunks[-1].ordinal)
        self._newest = (plan.job_id, newest)
        return newest


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
            self._tables.append(planned(rows))

    def chunks(self) -> Iterator[pa.Table]:
        if not self._tables:
            return
        rows = pa.concat_tables(self._tables)
        for start in range(0, len(rows), CHUNK_ROWS):
            yield rows.slice(start, CHUNK_ROWS).combine_chunks()
