"""A chunk as the validator leaves it, and a twin of its surroundings, for tests of the uploader."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from shared.blocklist import Blocklist
from shared.chunk import Claim, NewObject, SourceRef, StageResult
from shared.index import from_parquet, index_key
from shared.reasons import Reason
from shared.recipe import ImageKind, Recipe
from shared.records import (
    DERIVED_PACK,
    FETCHED,
    FETCHED_FILE,
    PACK,
    SOURCE,
    VERDICTS,
    VERDICTS_FILE,
    table_of,
    to_stream,
)
from shared.storage.base import ObjectStore
from shared.storage.memory import MemoryStore
from shared.workdir import Draft, LocalWorkArea, WorkKey
from tests import images
from uploader.upload import upload

NOTHING_TAKEN_DOWN = Blocklist()
JOB = UUID("0192e4a0-0000-7000-8000-000000000001")
DATASET = UUID("0192e4a0-0000-7000-8000-000000000002")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One input row and what the earlier stages made of it."""

    body: bytes = b""
    kind: ImageKind = ImageKind.JPEG
    caption: str | None = None
    fetch_reason: Reason | None = None
    reason: Reason | None = None
    #: The bytes to store when they are not the fetched ones.
    derived: bytes | None = None
    #: Its thumbnail, as the validator made it.
    small: bytes | None = None
    saved: Mapping[str, Any] = field(default_factory=dict)


def jpeg(side: int, **more: Any) -> Row:
    return Row(body=images.jpeg(side, side), kind=ImageKind.JPEG, **more)


def png(side: int, **more: Any) -> Row:
    return Row(body=images.png(side, side), kind=ImageKind.PNG, **more)


def webp(side: int, **more: Any) -> Row:
    return Row(body=images.webp(side, side), kind=ImageKind.WEBP, **more)


def gif(side: int, **more: Any) -> Row:
    return Row(body=images.gif(side, side), kind=ImageKind.GIF, **more)


def missing(**more: Any) -> Row:
    return Row(fetch_reason=Reason.HTTP_NOT_FOUND, **more)


class Bench:
    """One dataset: its store, its fingerprints and a work area; `chunk` makes a claim with its drafts filled."""

    def __init__(self, root: Path, store: ObjectStore | None = None) -> None:
        self.area = LocalWorkArea(root)
        self.store: ObjectStore = store or MemoryStore()
        self.fingerprints: dict[str, int] = {}
        self.objects: dict[str, NewObject] = {}
        self._fences = 0

    @property
    def memory(self) -> MemoryStore:
        assert isinstance(self.store, MemoryStore)
        return self.store

    async def chunk(
        self,
        rows: Sequence[Row],
        *,
        recipe: Recipe,
        saved: Sequence[pa.Field] = (),
        first_row: int = 0,
        ordinal: int = 0,
        fetched_at: datetime = datetime(2026, 11, 21, tzinfo=UTC),
    ) -> "ChunkTwin":
        numbers = range(first_row, first_row + len(rows))
        pack_fence, work_fence = self._fence(), self._fence()
        source = _source(rows, numbers, saved)
        await self._publish(ordinal, pack_fence, _fetched_files(rows, numbers, fetched_at))
        await self._publish(ordinal, work_fence, _verdict_files(rows, numbers, pack_fence))
        claim = Claim(
            chunk_id=ordinal + 1,
            job_id=JOB,
            dataset_id=DATASET,
            revision=0,
            ordinal=ordinal,
            first_row=first_row,
            rows=len(rows),
            recipe=recipe,
            destination="memory",
            endpoint=None,
            source=SourceRef(key="plan", offset=0, length=0),
            cell="main",
            fence=self._fence(),
            work_fence=work_fence,
            attempt=1,
            crashes=0,
        )
        return ChunkTwin(self, claim, source)

    def _fence(self) -> int:
        self._fences += 1
        return self._fences

    async def _publish(self, ordinal: int, fence: int, files: Mapping[str, bytes]) -> None:
        draft = await self.area.draft(WorkKey(job=JOB, chunk=ordinal, fence=fence))
        for name, body in files.items():
            draft.path(name).write_bytes(body)
        await draft.publish()

    async def index(self, ordinal: int = 0) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self.index_table(ordinal)).to_pylist()
        return rows

    async def index_table(self, ordinal: int = 0, round: int = 0, revision: int = 0) -> pa.Table:
        return from_parquet(await self.store.get(index_key(revision, ordinal, round)))


class ChunkTwin:
    """A `shared.chunk.Chunk` over a bench."""

    def __init__(self, bench: Bench, claim: Claim, source: pa.Table) -> None:
        self._bench = bench
        self._source = source
        self.claim = claim
        self.settled: list[dict[int, str]] = []
        self.recorded: list[NewObject] = []
        self.reports: list[tuple[int, int, int]] = []

    async def upload(self, puts: int = 4, blocked: Blocklist = NOTHING_TAKEN_DOWN) -> StageResult:
        return await upload(self, puts=puts, blocked=blocked)

    def again(self) -> "ChunkTwin":
        """The same chunk in its next attempt: another fence, the same drafts."""
        claim = replace(self.claim, fence=self._bench._fence(), attempt=self.claim.attempt + 1)
        return ChunkTwin(self._bench, claim, self._source)

    def in_round(self, round: int) -> "ChunkTwin":
        """The chunk as it is after so many redrives."""
        return ChunkTwin(self._bench, replace(self.claim, round=round), self._source)

    async def source(self) -> pa.Table:
        return self._source

    async def draft(self) -> Draft:
        return await self._bench.area.draft(WorkKey(job=JOB, chunk=self.claim.ordinal, fence=self.claim.fence))

    async def open(self, name: str, *, fence: int | None = None) -> Path:
        chosen = self.claim.work_fence if fence is None else fence
        assert chosen is not None
        return await self._bench.area.open(WorkKey(job=JOB, chunk=self.claim.ordinal, fence=chosen), name)

    async def destination(self) -> ObjectStore:
        return self._bench.store

    def report(self, *, done: int, passed: int, size_bytes: int) -> None:
        self.reports.append((done, passed, size_bytes))

    async def settle_duplicates(self, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        claimed = {row: digest for row, digest in sorted(fingerprints.items()) if digest}
        self.settled.append(claimed)
        known = {
            digest: row for digest, row in self._bench.fingerprints.items() if fingerprints.get(row, digest) == digest
        }
        for row, digest in claimed.items():
            known.setdefault(digest, row)
        self._bench.fingerprints = known
        return {digest: known[digest] for digest in claimed.values()}

    async def record_objects(self, objects: Sequence[NewObject]) -> None:
        self.recorded += objects
        self._bench.objects |= {item.key: item for item in objects}


def _source(rows: Sequence[Row], numbers: range, saved: Sequence[pa.Field]) -> pa.Table:
    planned = [
        {"row": number, "url": f"http://origin.test/{number}", "caption": row.caption, **row.saved}
        for number, row in zip(numbers, rows, strict=True)
    ]
    return pa.Table.from_pylist(planned, schema=pa.schema([*SOURCE, *saved]))


def _fetched_files(rows: Sequence[Row], numbers: range, fetched_at: datetime) -> dict[str, bytes]:
    pack = bytearray()
    records: list[dict[str, object]] = []
    for number, row in zip(numbers, rows, strict=True):
        has_body = row.fetch_reason is None
        records.append(
            {
                "row": number,
                "reason": row.fetch_reason,
                "offset": len(pack) if has_body else None,
                "length": len(row.body) if has_body else None,
                "http_status": 200 if has_body else 404,
                "attempts": 1,
                "fetch_ms": fetched_at.microsecond + 5,
                "fetched_at": fetched_at,
            }
        )
        pack += row.body
    return {PACK: bytes(pack), FETCHED_FILE: to_stream(table_of(records, FETCHED))}


def _verdict_files(rows: Sequence[Row], numbers: range, pack_fence: int) -> dict[str, bytes]:
    derived, records, offset = bytearray(), [], 0
    for number, row in zip(numbers, rows, strict=True):
        record: dict[str, Any] = {"row": number, "reason": row.reason or row.fetch_reason}
        if row.fetch_reason is None:
            record |= _judged(row)
        if record["reason"] is None:
            stored = row.body if row.derived is None else row.derived
            record |= _stored(row.kind, stored, derived=row.derived is not None)
            record["offset"] = offset if row.derived is None else len(derived)
            derived += row.derived or b""
            if row.small is not None:
                record |= {"thumbnail_offset": len(derived), "thumbnail_length": len(row.small)}
                derived += row.small
        records.append(record)
        offset += len(row.body)
    judged = table_of(records, VERDICTS).replace_schema_metadata({b"pack_fence": str(pack_fence).encode()})
    return {VERDICTS_FILE: to_stream(judged), DERIVED_PACK: bytes(derived)}


def _judged(row: Row) -> dict[str, Any]:
    return {
        "format": row.kind.value,
        "original_width": 10,
        "original_height": 20,
        "orientation": 1,
        "frames": 1,
        "sha256": hashlib.sha256(row.body).hexdigest(),
        "phash": "00ff00ff00ff00ff",
        "exif": "{}",
    }


def _stored(kind: ImageKind, body: bytes, *, derived: bool) -> dict[str, Any]:
    return {
        "derived": derived,
        "length": len(body),
        "stored_format": kind.value,
        "stored_sha256": hashlib.sha256(body).hexdigest(),
        "width": 10,
        "height": 20,
    }
