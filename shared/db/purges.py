"""Purges: takedowns that also reach what is stored. How they are ordered, how far they are, what they removed.

A purge is a takedown with a number. A chunk says in `purged_to` up to which number it was carried out there; so the
purges still open for a chunk are those with a higher one. Chunks planned a minute after the order need not be looked
at: by then every worker knows the takedown, and none of it can have been stored before.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.blocklist import Kind
from shared.chunk import Claim, NewObject
from shared.db import chunks
from shared.db.lifecycle import Finished
from shared.pipeline import FINAL_JOB_STATES, FINAL_STATES, JobState
from shared.recipe import Recipe

#: Purges carried out in one walk over the chunks; the others wait for the next.
_MOST_AT_ONCE = 10_000
#: Orders take turns, so that their numbers become visible in order. Used for no other lock.
_LOCK = 7_135_022_002

#: In `purged_to` while a purge changes what the chunk has stored: lower than every number.
UNDER_WAY = -1

#: A chunk of which something may lie in a destination that a purge has not seen.
_MAY_HOLD = """
    chunks.purged_to < blocked.purge_no AND chunks.created_at < blocked.purge_asked_at + interval '1 minute'
    AND (chunks.state = ANY(:final) OR chunks.fence > 0
         OR blocked.purge_asked_at > clock_timestamp() - interval '1 minute')"""
_FINAL = sorted(FINAL_STATES)
_FINAL_JOBS = sorted(FINAL_JOB_STATES)


@dataclass(frozen=True, kw_only=True)
class Purge:
    """An order that is not carried out everywhere."""

    takedown_id: int
    number: int
    kind: Kind
    value: str
    asked_at: datetime
    asked_by: str | None


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A row to be emptied, by which purge, and whether it held an image."""

    row: int
    purge: Purge
    was_stored: bool


@dataclass(frozen=True, kw_only=True)
class Remainder:
    """What a chunk holds once a purge was carried out there."""

    counts: Mapping[str, Any]
    stored_bytes: int
    objects: Sequence[NewObject]
    #: Whose bytes nothing of the dataset holds any more.
    emptied_rows: Sequence[int]


async def order(connection: AsyncConnection, takedown_id: int, *, asked_by: str) -> None:
    """Makes a takedown reach what is stored. One that was carried out is ordered anew; an open one stays as it is."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    await connection.execute(
        text("""
            UPDATE blocked SET purge_no = nextval('blocked_id_seq'), purge_asked_at = clock_timestamp(),
                purge_asked_by = :by, purged_at = NULL
            WHERE id = :id AND (purge_no IS NULL OR purged_at IS NOT NULL)"""),
        {"id": takedown_id, "by": asked_by},
    )


async def open_purges(connection: AsyncConnection) -> list[Purge]:
    """Purges that are not carried out everywhere, the oldest first."""
    found = await connection.execute(
        text("""
            SELECT id AS takedown_id, purge_no AS number, kind, value, purge_asked_at AS asked_at,
                purge_asked_by AS asked_by
            FROM blocked WHERE purge_no IS NOT NULL AND purged_at IS NULL ORDER BY purge_no LIMIT :most"""),
        {"most": _MOST_AT_ONCE},
    )
    return [Purge(**{**row._mapping, "kind": Kind(row.kind)}) for row in found]


async def unpurged(
    connection: AsyncConnection, newest: Purge, *, after: int, without: Collection[UUID], limit: int
) -> list[Claim]:
    """Ended chunks behind the id `after` in which purges up to that one are not carried out, but for some datasets."""
    found = await connection.execute(
        text(f"""
            {chunks.CLAIMED} WHERE chunks.id > :after AND chunks.state = ANY(:final) AND purged_to < :number
              AND chunks.created_at < CAST(:asked_at AS timestamptz) + interval '1 minute'
              AND jobs.dataset_id <> ALL(:without) AND datasets.delete_asked_at IS NULL
            ORDER BY chunks.id LIMIT :limit"""),
        {
            "after": after,
            "final": _FINAL,
            "number": newest.number,
            "asked_at": newest.asked_at,
            "without": list(without),
            "limit": limit,
        },
    )
    return [chunks.claim_of(row) for row in found]


async def objects_of_chunk(connection: AsyncConnection, chunk_id: int) -> dict[str, NewObject]:
    """The recorded objects of a chunk by key."""
    found = await connection.execute(
        text("SELECT key, size_bytes, sha256 FROM objects WHERE chunk_id = :chunk"), {"chunk": chunk_id}
    )
    return {row.key: NewObject(key=row.key, size_bytes=row.size_bytes, sha256=bytes(row.sha256).hex()) for row in found}


async def note_removals(connection: AsyncConnection, claim: Claim, removals: Sequence[Removal]) -> bool:
    """Writes the audit before anything goes, and keeps the chunk from being redriven; repeating it is harmless.

    False: it is redriven already.
    """
    begun = await connection.execute(
        text("""
            UPDATE chunks SET purged_to = :under_way
            WHERE id = :chunk AND round = :round AND state = ANY(:final)"""),
        {"chunk": claim.chunk_id, "round": claim.round, "final": _FINAL, "under_way": UNDER_WAY},
    )
    if not begun.rowcount:
        return False
    await connection.execute(
        text("""
            INSERT INTO removals (dataset_id, chunk_id, row, takedown_id, kind, ordered_by, was_stored)
            SELECT :dataset, :chunk, new.* FROM unnest(CAST(:rows AS bigint[]), CAST(:takedowns AS bigint[]),
                CAST(:kinds AS text[]), CAST(:by AS text[]), CAST(:stored AS bool[])) AS new
            ON CONFLICT (chunk_id, row) DO NOTHING"""),
        {
            "dataset": claim.dataset_id,
            "chunk": claim.chunk_id,
            "rows": [removal.row for removal in removals],
            "takedowns": [removal.purge.takedown_id for removal in removals],
            "kinds": [removal.purge.kind for removal in removals],
            "by": [removal.purge.asked_by for removal in removals],
            "stored": [removal.was_stored for removal in removals],
        },
    )
    return True


async def record(connection: AsyncConnection, claim: Claim, left: Remainder, *, number: int) -> int | None:
    """Counts what is left of a chunk, in its row and its job's; how many stored images went. None: it was done.

    The dataset's papers are stale from here on.
    """
    if not await mark(connection, claim, number=number):
        return None
    values = {"chunk": claim.chunk_id, "dataset": claim.dataset_id}
    await count_remainder(connection, claim, left)
    await connection.execute(
        text("DELETE FROM fingerprints WHERE dataset_id = :dataset AND row = ANY(:rows)"),
        {**values, "rows": list(left.emptied_rows)},
    )
    await connection.execute(text("UPDATE datasets SET is_stale = true WHERE id = :dataset"), values)
    removed = await connection.execute(
        text("""
            UPDATE removals SET removed_at = clock_timestamp() WHERE chunk_id = :chunk AND removed_at IS NULL
            RETURNING was_stored"""),
        values,
    )
    return sum(bool(stored) for stored in removed.scalars())


async def count_remainder(connection: AsyncConnection, claim: Claim, left: Remainder) -> None:
    """Counts what is left of an ended chunk in its row and its job's, and remembers its objects."""
    before = (
        await connection.execute(
            text("SELECT counts, stored_bytes FROM chunks WHERE id = :chunk FOR UPDATE"), {"chunk": claim.chunk_id}
        )
    ).one()
    await connection.execute(
        text("UPDATE chunks SET counts = CAST(:counts AS jsonb), stored_bytes = :bytes WHERE id = :chunk"),
        {"chunk": claim.chunk_id, "counts": json.dumps(dict(left.counts)), "bytes": left.stored_bytes},
    )
    await chunks.add_to_job(
        connection,
        claim.job_id,
        counts=_difference(left.counts, before.counts),
        stored_bytes=left.stored_bytes - before.stored_bytes,
    )
    await connection.execute(
        text("DELETE FROM objects WHERE chunk_id = :chunk AND key <> ALL(:keys)"),
        {"chunk": claim.chunk_id, "keys": [item.key for item in left.objects]},
    )
    await chunks.record_objects(connection, claim, left.objects)


async def mark(connection: AsyncConnection, claim: Claim, *, number: int) -> bool:
    """Says that purges up to that number are carried out in the chunk. False: it was known, or is redriven now."""
    marked = await connection.execute(
        text("""
            UPDATE chunks SET purged_to = :number
            WHERE id = :chunk AND purged_to < :number AND round = :round AND state = ANY(:final)"""),
        {"chunk": claim.chunk_id, "number": number, "round": claim.round, "final": _FINAL},
    )
    return marked.rowcount > 0


async def stale(connection: AsyncConnection, *, without: Collection[UUID]) -> Finished | None:
    """The newest job of a dataset whose papers are stale, once it has ended; but for some datasets."""
    row = (
        await connection.execute(
            text("""
                SELECT jobs.id AS job_id, dataset_id, jobs.revision, name, state, recipe, source, counts, error_code,
                    planned_rows, destination, nullif(endpoint, '') AS endpoint, 0 AS failed_chunks
                FROM datasets JOIN jobs ON jobs.dataset_id = datasets.id AND jobs.revision = datasets.revision
                WHERE is_stale AND jobs.state = ANY(:final) AND datasets.id <> ALL(:without)
                  AND delete_asked_at IS NULL LIMIT 1"""),
            {"final": _FINAL_JOBS, "without": list(without)},
        )
    ).first()
    if row is None:
        return None
    return Finished(**{**row._mapping, "state": JobState(row.state), "recipe": Recipe.read(row.recipe)})


async def refreshed(connection: AsyncConnection, dataset_id: UUID) -> None:
    """The dataset's papers are as they should be."""
    await connection.execute(text("UPDATE datasets SET is_stale = false WHERE id = :dataset"), {"dataset": dataset_id})


async def conclude(connection: AsyncConnection, purges: Sequence[Purge]) -> list[int]:
    """Ends those of the purges that are carried out everywhere; the ids of their takedowns."""
    ended = await connection.execute(
        text(f"""
            UPDATE blocked SET purged_at = clock_timestamp()
            WHERE purge_no = ANY(:numbers) AND purged_at IS NULL
              AND NOT EXISTS (SELECT FROM chunks WHERE {_MAY_HOLD})
              AND NOT EXISTS (
                  SELECT FROM datasets JOIN jobs ON jobs.dataset_id = datasets.id
                  AND jobs.revision = datasets.revision WHERE is_stale AND jobs.state = ANY(:final_jobs))
            RETURNING id"""),
        {"numbers": [purge.number for purge in purges], "final": _FINAL, "final_jobs": _FINAL_JOBS},
    )
    return sorted(ended.scalars())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a purge is."""

    chunks_left: int
    images_removed: int


async def progress(connection: AsyncConnection, takedown_ids: Sequence[int]) -> dict[int, Progress]:
    """How far the purges among these takedowns are, by the takedown's id."""
    found = await connection.execute(
        text(f"""
            SELECT id, CASE WHEN purged_at IS NULL THEN (SELECT count(*) FROM chunks WHERE {_MAY_HOLD}) ELSE 0 END
                AS chunks_left,
                (SELECT count(*) FROM removals WHERE takedown_id = blocked.id AND was_stored
                 AND removed_at IS NOT NULL) AS images_removed
            FROM blocked WHERE id = ANY(:ids) AND purge_no IS NOT NULL"""),
        {"ids": list(takedown_ids), "final": _FINAL},
    )
    return {row.id: Progress(chunks_left=row.chunks_left, images_removed=row.images_removed) for row in found}


def _difference(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Counts that turn the sums with `before` in them into those with `after`."""
    reasons = {*after["rejected"], *before["rejected"]}
    return {
        "accepted": after["accepted"] - before["accepted"],
        "rejected": {
            reason: after["rejected"].get(reason, 0) - before["rejected"].get(reason, 0) for reason in reasons
        },
    }
