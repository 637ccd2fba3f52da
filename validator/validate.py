"""What validating a chunk means: judge every fetched image, write the verdicts, pass on what is kept.

    pack + fetched.arrow ──▶ decode child ──▶ journal ──▶ verdicts.arrow (+ derived pack)

Each row of the chunk has one row in the verdicts, in input order. A row that the downloader rejected keeps
its reason. The verdicts' schema names under `pack_fence` the draft whose pack their offsets speak of.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa

from shared.chunk import Chunk, StageResult, Verb
from shared.errors import ChunkError
from shared.pipeline import VALIDATE
from shared.reasons import Reason
from shared.records import DERIVED_PACK, FETCHED_FILE, PACK, VERDICTS, VERDICTS_FILE, from_stream, table_of, to_stream
from shared.workdir.base import Draft
from shared.workdir.local import full_disk_is_transient
from validator.children import Columns, DecodeChildren, Limits
from validator.settings import ValidatorSettings
from validator.work import At, ChunkWork, WorkRow

#: Key of the verdicts' schema metadata: the fence of the draft that holds the fetched pack.
PACK_FENCE = b"pack_fence"
#: The child's own notes in the draft; removed before it is published.
_JOURNAL = "journal"
#: What a chunk's images leave of the stage's deadline for reading, writing and starting decoders.
_MARGIN = timedelta(minutes=1)
#: Columns that only speak of stored bytes.
_STORED = (
    "derived",
    "offset",
    "length",
    "stored_format",
    "stored_sha256",
    "width",
    "height",
    "thumbnail_offset",
    "thumbnail_length",
)


@asynccontextmanager
async def open_validator(settings: ValidatorSettings) -> AsyncIterator[Verb]:
    """The verb, with its decode child, until the block ends. For one chunk at a time.

    Enter it on the event loop's own thread, which must live as long: the child dies with that thread.
    """
    async with DecodeChildren(limits_of(settings)) as children:
        yield partial(validate, children=children)


def limits_of(settings: ValidatorSettings) -> Limits:
    """What the settings allow a decode child."""
    return Limits(
        image_seconds=settings.image_deadline_seconds,
        memory_mb=settings.decode_memory_mb,
        chunk_seconds=(VALIDATE.deadline - _MARGIN).total_seconds(),
    )


async def validate(chunk: Chunk, *, children: DecodeChildren) -> StageResult:
    """Judges the chunk's images and publishes its verdicts. Raises WorkAreaGone, WorkAreaFull or ChunkError."""
    fetched_file = await chunk.open(FETCHED_FILE)
    pack = await chunk.open(PACK)
    draft = await chunk.draft()
    fetched = await asyncio.to_thread(_read, fetched_file)
    work = _work(chunk, fetched, pack, draft)
    judged = await children.judge(work, partial(_report, chunk, before=len(fetched) - len(work.rows)))
    verdicts = [_verdict(row, judged.get(place)) for place, row in enumerate(fetched)]
    if chunk.claim.recipe.deduplicate:
        reject_duplicates(verdicts)
    await asyncio.to_thread(_write, draft.path(VERDICTS_FILE), verdicts, chunk.claim.work_fence)
    await draft.publish()
    result = result_of(verdicts)
    chunk.report(done=len(verdicts), passed=result.passed, size_bytes=result.size_bytes)
    return result


def reject_duplicates(verdicts: Iterable[Columns]) -> None:
    """Of accepted rows with the same fetched bytes the first one stays; the others name it."""
    first: dict[object, Columns] = {}
    for verdict in verdicts:
        if verdict["reason"] is not None:
            continue
        kept = first.setdefault(verdict["sha256"], verdict)
        if kept is not verdict:
            verdict |= dict.fromkeys(_STORED)
            verdict |= {"reason": Reason.DUPLICATE.value, "detail": None, "duplicate_of": kept["row"]}


def result_of(verdicts: Iterable[Mapping[str, object]]) -> StageResult:
    """The sums of a chunk's verdicts."""
    rejected: Counter[str] = Counter()
    passed = size_bytes = 0
    for verdict in verdicts:
        if verdict["reason"] is not None:
            rejected[str(verdict["reason"])] += 1
            continue
        passed += 1
        size_bytes += int(str(verdict["length"]))
    return StageResult(passed=passed, rejected=dict(rejected), size_bytes=size_bytes)


def _read(fetched_file: Path) -> list[dict[str, object]]:
    table = from_stream(fetched_file.read_bytes())
    rows: list[dict[str, object]] = table.select(["row", "reason", "detail", "offset", "length"]).to_pylist()
    return rows


def _work(chunk: Chunk, fetched: list[dict[str, object]], pack: Path, draft: Draft) -> ChunkWork:
    size = pack.stat().st_size
    rows = tuple(
        WorkRow(place=place, offset=int(str(row["offset"])), length=int(str(row["length"])))
        for place, row in enumerate(fetched)
        if row["reason"] is None and row["offset"] is not None and row["length"]
    )
    if any(row.offset + row.length > size for row in rows):
        raise ChunkError("the pack is shorter than its index says")
    derived = draft.path(DERIVED_PACK)
    with full_disk_is_transient():
        derived.touch()
    return ChunkWork(pack=pack, derived=derived, journal=draft.path(_JOURNAL), recipe=chunk.claim.recipe, rows=rows)


def _verdict(fetched: Mapping[str, object], judged: Columns | None) -> Columns:
    """The verdict on one row, with every column."""
    verdict: Columns = dict.fromkeys(VERDICTS.names)
    verdict["row"] = int(str(fetched["row"]))
    if judged is not None:
        return verdict | judged
    if fetched["reason"] is None:
        return verdict | {"reason": Reason.EMPTY_BODY.value, "detail": "no bytes"}
    detail = fetched["detail"]
    return verdict | {"reason": str(fetched["reason"]), "detail": None if detail is None else str(detail)}


def _report(chunk: Chunk, at: At, *, before: int) -> None:
    chunk.report(done=before + at.done, passed=at.accepted, size_bytes=at.stored_bytes)


def _write(path: Path, verdicts: list[Columns], pack_fence: int | None) -> None:
    schema: pa.Schema = VERDICTS.with_metadata({PACK_FENCE: str(pack_fence).encode()})
    rows: list[dict[str, object]] = [dict(verdict) for verdict in verdicts]
    with full_disk_is_transient():
        path.write_bytes(to_stream(table_of(rows, schema)))
