"""The uploader's work on one chunk, from verdicts to a stored index.

    finished already? ─yes─▶ adopt its index
           │no
           ▼
    open verdicts ─▶ drop what was taken down ─▶ (of a refresh: drop what has not changed) ─▶ settle duplicates
        ─▶ put pictures ─▶ compare with what is held ─▶ put thumbnails, if asked for ─▶ put index ─▶ record objects

Of a chunk that was redriven (`shared/rounds.py`), the index of the failed round goes when this one's is stored.

The index is stored last, so an index that exists says that its chunk is whole. Every step can run twice.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa
import structlog

from shared.blocklist import Blocklist, LiveBlocklist
from shared.chunk import Chunk, NewObject, StageResult, Verb
from shared.errors import ChunkError
from shared.index import (
    Record,
    accepted,
    accepted_as_stored,
    counts_of,
    index_key,
    index_of,
    is_accepted,
    records_of,
    rejected,
    saved_fields,
    to_parquet,
)
from shared.reasons import ELSEWHERE, Reason
from shared.rounds import announce_change, remove_superseded, retire_older_indexes
from uploader.adopt import create_or_find, finished_index, loose_bytes, objects_of
from uploader.formats import Delivery, Holding, format_of
from uploader.formats.parquet import CONTENT_TYPE
from uploader.packs import Verdicts, open_verdicts, pictures_in
from uploader.refresh import held_digests, kept_if_not_stored, refreshed
from uploader.settings import UploaderSettings
from uploader.thumbnails import put_thumbnails

_log = structlog.get_logger()


@asynccontextmanager
async def open_uploader(settings: UploaderSettings, blocked: LiveBlocklist) -> AsyncIterator[Verb]:
    """The verb of this service; it holds nothing open between two chunks."""

    async def verb(chunk: Chunk) -> StageResult:
        return await upload(chunk, puts=settings.puts, blocked=await blocked.refresh())

    yield verb


async def upload(chunk: Chunk, *, puts: int, blocked: Blocklist) -> StageResult:
    """Stores the chunk's accepted images and its index, or adopts what an earlier attempt stored.

    Raises StoreUnavailable, StoreRefused, WorkAreaFull, WorkAreaGone, and ChunkError when the destination or the
    work area holds what cannot be a part of this dataset.
    """
    await announce_change(await chunk.destination(), chunk.claim)
    adopted = await _adopt_finished(chunk)
    if adopted is not None:
        return adopted
    verdicts = await open_verdicts(chunk)
    records = records_of(verdicts.source, verdicts.fetched, verdicts.judged, revision=chunk.claim.revision)
    records, digests = _without_taken_down(records, blocked), held_digests(verdicts.source)
    if chunk.claim.gone is not None:
        records = refreshed(records, digests, chunk.claim.gone)
    records = await _settle_duplicates(chunk, records, digests)
    holding = await _put_pictures(chunk, verdicts, records, puts=puts)
    held = _as_held(records, holding)
    if chunk.claim.gone is not None:
        held = kept_if_not_stored(held)
    if holding.conflicts:
        await _note_conflict(chunk, records, held, holding, digests)
    held, thumbnails = await put_thumbnails(chunk, verdicts, held)
    if thumbnails is not None:
        holding.objects.append(thumbnails)
        holding.size_bytes += thumbnails.size_bytes
    return await _put_index(chunk, index_of(held, verdicts.source), holding)


async def _adopt_finished(chunk: Chunk) -> StageResult | None:
    claim = chunk.claim
    store = await chunk.destination()
    finished = await finished_index(store, claim)
    if finished is None:
        return None
    index, stored = finished
    records = index.select(["row", "sha256", "reason"]).to_pylist()
    digests = held_digests(await chunk.source()) if claim.gone is not None else {}
    await chunk.settle_duplicates(_fingerprints(chunk, records, digests))
    objects = await objects_of(store, index)
    await remove_superseded(store, claim, index)
    await retire_older_indexes(store, claim)
    await chunk.record_objects([*objects, stored])
    passed, by_reason = counts_of(index)
    size_bytes = stored.size_bytes + sum(item.size_bytes for item in objects) + loose_bytes(claim, index)
    chunk.report(done=claim.rows, passed=passed, size_bytes=size_bytes)
    return StageResult(passed=passed, rejected=by_reason, size_bytes=size_bytes)


def _without_taken_down(records: Sequence[Record], blocked: Blocklist) -> list[Record]:
    """What was taken down since it was fetched is not stored either."""
    return [
        rejected(record, Reason.TAKEN_DOWN) if is_accepted(record) and blocked.holds_image(record) else record
        for record in records
    ]


def _fingerprints(chunk: Chunk, records: Sequence[Record], held: Mapping[int, str]) -> dict[int, str | None]:
    """Which row lays claim to which bytes, None to none; empty when the client wants duplicates kept.

    A row that stands in an earlier index goes on claiming those that it is `held` with.
    """
    if not chunk.claim.recipe.deduplicate:
        return {}

    def digest_of(record: Record) -> str | None:
        if record["reason"] in ELSEWHERE:
            return held.get(record["row"])
        return record["sha256"] or None if is_accepted(record) else None

    return {record["row"]: digest_of(record) for record in records}


async def _settle_duplicates(chunk: Chunk, records: Sequence[Record], held: Mapping[int, str]) -> list[Record]:
    fingerprints = _fingerprints(chunk, records, held)
    standing = [record["row"] for record in records if record["reason"] in ELSEWHERE]
    if fingerprints and standing:  # first, for they were there first: a new picture may be the same as one of them
        await chunk.settle_duplicates({row: fingerprints[row] for row in standing})
    winners = await chunk.settle_duplicates(fingerprints)

    def settled(record: Record) -> Record:
        row, digest = record["row"], fingerprints.get(record["row"])
        winner = row if digest is None else winners.get(digest, row)
        return record if winner == row else rejected(record, Reason.DUPLICATE, duplicate_of=winner)

    return [settled(record) for record in records]


async def _put_pictures(chunk: Chunk, verdicts: Verdicts, records: Sequence[Record], *, puts: int) -> Holding:
    rejects = sum(not is_accepted(record) for record in records)
    so_far: Counter[str] = Counter()

    def stored(pictures: int, size_bytes: int) -> None:
        so_far.update(pictures=pictures, size_bytes=size_bytes)
        passed = so_far["pictures"]
        done = min(chunk.claim.rows, rejects + passed)
        chunk.report(done=done, passed=min(passed, done), size_bytes=so_far["size_bytes"])

    delivery = Delivery(
        claim=chunk.claim,
        store=await chunk.destination(),
        draft=await chunk.draft(),
        saved=saved_fields(verdicts.source),
        records={record["row"]: record for record in records},
        puts=puts,
        stored=stored,
    )
    async with pictures_in(verdicts, records) as pictures:
        return await format_of(chunk.claim.recipe.output_format).put(delivery, pictures)


def _as_held(records: Sequence[Record], holding: Holding) -> list[Record]:
    """The records as the destination bears them out."""
    held = [_record_as_held(record, holding.rows.get(record["row"])) for record in records]
    lost = {record["row"] for record in held if not is_accepted(record) and record["reason"] not in ELSEWHERE}
    return [_without_lost_winner(record, lost) for record in held]


def _record_as_held(record: Record, facts: Mapping[str, object] | None) -> Record:
    if facts is None:
        return rejected(record, Reason.SUPERSEDED) if is_accepted(record) else record
    path = str(facts["path"])
    if is_accepted(record) and record["stored_sha256"] == facts["stored_sha256"]:
        return accepted(record, path=path)
    return accepted_as_stored(record, facts, path=path)


def _without_lost_winner(record: Record, lost: set[int]) -> Record:
    if record["reason"] == Reason.DUPLICATE and record["duplicate_of"] in lost:
        return rejected(record, Reason.DUPLICATE_OF_LOST)
    return record


async def _note_conflict(
    chunk: Chunk, records: Sequence[Record], held: Sequence[Record], holding: Holding, digests: Mapping[int, str]
) -> None:
    """Counts it, and claims the digests of what is really stored instead of what this attempt meant to store."""
    changed = sum(
        after["reason"] is None and before["stored_sha256"] != after["stored_sha256"]
        for before, after in zip(records, held, strict=True)
    )
    superseded = sum(record["reason"] == Reason.SUPERSEDED for record in held)
    _log.warning(
        "object_conflict",
        key=index_key(chunk.claim.revision, chunk.claim.ordinal, chunk.claim.round),
        objects=holding.conflicts,
        adopted=changed,
        superseded=superseded,
    )
    await chunk.settle_duplicates(_fingerprints(chunk, held, digests))


async def _put_index(chunk: Chunk, index: pa.Table, holding: Holding) -> StageResult:
    claim = chunk.claim
    body = to_parquet(index)
    sha256 = hashlib.sha256(body).hexdigest()
    stored: NewObject = await create_or_find(
        await chunk.destination(),
        index_key(claim.revision, claim.ordinal, claim.round),
        body,
        size_bytes=len(body),
        content_type=CONTENT_TYPE,
        sha256=sha256,
    )
    if stored.sha256 != sha256:
        return await _adopt_faster(chunk)
    await remove_superseded(await chunk.destination(), claim, index)
    await retire_older_indexes(await chunk.destination(), claim)
    await chunk.record_objects([*holding.objects, stored])
    passed, by_reason = counts_of(index)
    size_bytes = holding.size_bytes + stored.size_bytes
    chunk.report(done=claim.rows, passed=passed, size_bytes=size_bytes)
    return StageResult(passed=passed, rejected=by_reason, size_bytes=size_bytes)


async def _adopt_faster(chunk: Chunk) -> StageResult:
    """A worker that lost this chunk finished it meanwhile; what it stored is whole and stands."""
    adopted = await _adopt_finished(chunk)
    if adopted is None:
        raise ChunkError("the chunk's index was removed while it was stored")
    return adopted
