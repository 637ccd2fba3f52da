"""A chunk for the downloader's work without queue and database, on a real work area."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pyarrow as pa

from shared.chunk import Claim, NewObject, SourceRef
from shared.recipe import Recipe
from shared.records import FETCHED_FILE, HELD, PACK, SOURCE, from_stream
from shared.storage.base import ObjectStore
from shared.workdir import Draft, LocalWorkArea, WorkKey


@dataclass
class DownloadChunk:
    """Implements `shared.chunk.Chunk` as far as a download needs it."""

    root: Path
    urls: Sequence[str | None]
    recipe: Recipe = field(default_factory=Recipe)
    job: UUID = field(default_factory=uuid4)
    fence: int = 1
    #: What is known of each row's picture, if it is refreshed.
    held: Sequence[Mapping[str, str]] | None = None
    reports: list[dict[str, int]] = field(default_factory=list)
    #: Is set with each report.
    has_reported: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def area(self) -> LocalWorkArea:
        return LocalWorkArea(self.root)

    @property
    def key(self) -> WorkKey:
        return WorkKey(job=self.job, chunk=3, fence=self.fence)

    @property
    def claim(self) -> Claim:
        return Claim(
            chunk_id=1,
            job_id=self.job,
            dataset_id=self.job,
            revision=0,
            ordinal=3,
            first_row=1500,
            rows=len(self.urls),
            recipe=self.recipe,
            destination="/nowhere",
            endpoint=None,
            source=SourceRef(key="plan", offset=0, length=0),
            cell="main",
            fence=self.fence,
            work_fence=None,
            attempt=1,
            crashes=0,
        )

    async def source(self) -> pa.Table:
        rows = pa.array(range(1500, 1500 + len(self.urls)), pa.int64())
        captions = pa.nulls(len(self.urls), pa.string())
        source = pa.table([rows, pa.array(self.urls, pa.string()), captions], schema=SOURCE)
        return source if self.held is None else source.append_column(HELD, pa.array(self.held, HELD.type))

    async def draft(self) -> Draft:
        return await self.area.draft(self.key)

    async def open(self, name: str, *, fence: int | None = None) -> Path:
        return await self.area.open(self.key, name)

    async def destination(self) -> ObjectStore:
        raise NotImplementedError("a download stores nothing")

    def report(self, *, done: int, passed: int, size_bytes: int) -> None:
        self.reports.append({"done": done, "passed": passed, "size_bytes": size_bytes})
        self.has_reported.set()

    async def settle_duplicates(self, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        raise NotImplementedError("a download settles nothing")

    async def record_objects(self, objects: Sequence[NewObject]) -> None:
        raise NotImplementedError("a download stores nothing")

    async def fetched(self) -> list[dict[str, object]]:
        """The published rows."""
        path = await self.open(FETCHED_FILE)
        rows: list[dict[str, object]] = from_stream(path.read_bytes()).to_pylist()
        return rows

    async def bodies(self) -> list[bytes | None]:
        """The published bodies in input order; None for a rejected row."""
        pack = (await self.open(PACK)).read_bytes()
        return [_slice(pack, row["offset"], row["length"]) for row in await self.fetched()]

    def files(self) -> list[str]:
        """What lies in the work area, published or not."""
        return sorted(path.name for path in self.root.rglob("*") if path.is_file())


def _slice(pack: bytes, offset: object, length: object) -> bytes | None:
    return pack[offset : offset + length] if isinstance(offset, int) and isinstance(length, int) else None
