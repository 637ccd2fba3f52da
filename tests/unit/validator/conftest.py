"""A chunk in memory, with a real work area, for the validator's verb."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest

from shared.chunk import Claim, NewObject, SourceRef
from shared.reasons import Reason
from shared.recipe import Recipe
from shared.records import FETCHED, FETCHED_FILE, PACK, table_of, to_stream
from shared.storage.base import ObjectStore
from shared.workdir import Draft, LocalWorkArea, WorkKey
from validator.children import DecodeChildren, Limits

JOB = UUID(int=7)
FIRST_ROW = 1500
PACK_FENCE = 3
FENCE = 4

#: What the downloader left for a row: the body, or why there is none.
Fetched = bytes | Reason


@dataclass
class ChunkTwin:
    """A claimed chunk whose downloader has finished; implements `shared.chunk.Chunk` as far as validating goes."""

    area: LocalWorkArea
    claim: Claim
    reports: list[tuple[int, int, int]] = field(default_factory=list)

    async def source(self) -> pa.Table:
        raise NotImplementedError

    async def draft(self) -> Draft:
        return await self.area.draft(self._key(self.claim.fence))

    async def open(self, name: str, *, fence: int | None = None) -> Path:
        wanted = self.claim.work_fence if fence is None else fence
        assert wanted is not None
        return await self.area.open(self._key(wanted), name)

    async def destination(self) -> ObjectStore:
        raise NotImplementedError

    def report(self, *, done: int, passed: int, size_bytes: int) -> None:
        self.reports.append((done, passed, size_bytes))

    async def settle_duplicates(self, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        raise NotImplementedError

    async def record_objects(self, objects: Sequence[NewObject]) -> None:
        raise NotImplementedError

    async def published(self, name: str) -> Path:
        """A file that the verb published."""
        return await self.area.open(self._key(self.claim.fence), name)

    def _key(self, fence: int) -> WorkKey:
        return WorkKey(job=self.claim.job_id, chunk=self.claim.chunk_id, fence=fence)


async def fetched_chunk(root: Path, bodies: Sequence[Fetched], recipe: Recipe) -> ChunkTwin:
    """A chunk with these rows, as the downloader publishes it."""
    claim = Claim(
        chunk_id=11,
        job_id=JOB,
        dataset_id=UUID(int=8),
        revision=0,
        ordinal=3,
        first_row=FIRST_ROW,
        rows=len(bodies),
        recipe=recipe,
        destination="/unused",
        endpoint=None,
        source=SourceRef(key="unused", offset=0, length=0),
        cell="main",
        fence=FENCE,
        work_fence=PACK_FENCE,
        attempt=1,
        crashes=0,
    )
    area = LocalWorkArea(root)
    draft = await area.draft(WorkKey(job=JOB, chunk=claim.chunk_id, fence=PACK_FENCE))
    rows: list[dict[str, object]] = []
    with draft.path(PACK).open("wb") as pack:
        for place, body in enumerate(bodies):
            row: dict[str, object] = {"row": FIRST_ROW + place, "attempts": 1}
            if isinstance(body, Reason):
                row |= {"reason": body.value, "detail": "said the downloader"}
            else:
                row |= {"offset": pack.tell(), "length": len(body)}
                pack.write(body)
            rows.append(row)
    draft.path(FETCHED_FILE).write_bytes(to_stream(table_of(rows, FETCHED)))
    await draft.publish()
    return ChunkTwin(area, claim)


@pytest.fixture
async def children() -> AsyncIterator[DecodeChildren]:
    """Decode children with the usual limits."""
    async with DecodeChildren(Limits(image_seconds=10, memory_mb=1024, chunk_seconds=300)) as running:
        yield running
