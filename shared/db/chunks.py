"""What the owner of a chunk writes: claim, heartbeat, result, hand-back, end.

Each write names the claim's fence. When somebody else has the chunk, it raises `ClaimLost` and nothing is
written: the caller stops quietly.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.chunk import Claim, NewObject, SourceRef, StageResult
from shared.db.moves import ANEW, DUE, RELEASED, move
from shared.db.stages import NOT_PAUSED, PAUSABLE_VALUES
from shared.errors import ClaimLost
from shared.pipeline import (
    ADMISSIBLE_JOB_STATES,
    LEASE,
    PIPELINE,
    SLOT_STATES,
    ChunkState,
    Gone,
    JobState,
    Outcome,
    Stage,
    next_stage,
)
from shared.recipe import Recipe

#: States in which a chunk may still settle fingerprints, so that later ones of its job wait for it.
_UNSETTLED = sorted(SLOT_STATES - {ChunkState.CLEANING})
ADMISSIBLE = sorted(ADMISSIBLE_JOB_STATES)

#: What a claim says of its chunk's job.
_OF_JOB = """jobs.recipe, jobs.revision, jobs.dataset_id, jobs.source ->> 'gone' AS gone, datasets.destination,
    datasets.endpoint"""

#: A chunk of a de-duplicating job waits, for a while, until lower ones have settled their fingerprints.
NOT_HELD = """(
    chunks.state <> ALL(:in_order) OR NOT coalesce((jobs.recipe ->> 'deduplicate')::bool, true)
    OR chunks.ready_at < clock_timestamp() - CAST(:hold AS interval)
    OR NOT EXISTS (
        SELECT FROM chunks AS lower
        WHERE lower.job_id = chunks.job_id AND lower.ordinal < chunks.ordinal
          AND lower.state = ANY(:unsettled) AND NOT lower.is_settled))"""
HELD_VALUES = {"in_order": sorted(stage.ready for stage in PIPELINE if stage.in_order), "unsettled": _UNSETTLED}


class Verdict(StrEnum):
    """What a heartbeat learns."""

    OK = "ok"
    CANCEL = "cancel"  #: the job is withdrawn
    LOST = "lost"  #: the chunk has another owner


async def _move_claimed(
    connection: AsyncConnection,
    stage: Stage,
    claim: Claim,
    to: ChunkState,
    *,
    changes: str = "",
    values: Mapping[str, Any] | None = None,
    error_code: str | None = None,
    error: str | None = None,
) -> None:
    """A move by the chunk's owner. Raises ClaimLost when it is not the owner any more."""
    moved = await move(
        connection,
        start=stage.running,
        to=to,
        actor=stage.service,
        where="chunks.id = :id AND chunks.fence = :fence",
        values={"id": claim.chunk_id, "fence": claim.fence, **(values or {})},
        changes=RELEASED + changes,
        error_code=error_code,
        error=error,
    )
    if not moved:
        raise ClaimLost(f"chunk {claim.chunk_id} has another owner than fence {claim.fence}")


async def claim(
    connection: AsyncConnection, stage: Stage, chunk_id: int, *, owner: str, hold: timedelta, lease: timedelta = LEASE
) -> Claim | None:
    """Makes `owner` the owner of a ready chunk. None: it is not ready, not due, held or paused."""
    moved = await move(
        connection,
        start=stage.ready,
        to=stage.running,
        actor=owner,
        tables="jobs JOIN datasets ON datasets.id = jobs.dataset_id",
        where=f"""chunks.id = :id AND jobs.id = chunks.job_id AND jobs.state = ANY(:admissible)
            AND (chunks.not_before IS NULL OR chunks.not_before <= clock_timestamp()) AND {NOT_HELD}
            AND {NOT_PAUSED}""",
        changes=""", fence = chunks.fence + 1, attempt = chunks.attempt + 1, owner = :actor, not_before = NULL,
            lease_until = clock_timestamp() + CAST(:lease AS interval),
            dispatched_at = coalesce(chunks.dispatched_at, clock_timestamp())""",
        values={
            "id": chunk_id,
            "lease": lease,
            "hold": hold,
            "admissible": ADMISSIBLE,
            **HELD_VALUES,
            **PAUSABLE_VALUES,
        },
        returning=f", {_OF_JOB}",
    )
    return claim_of(moved[0]) if moved else None


def claim_of(row: Any) -> Claim:
    """The chunk that a row of `CLAIMED` speaks of."""
    return Claim(
        chunk_id=row.id,
        job_id=row.job_id,
        dataset_id=row.dataset_id,
        revision=row.revision,
        ordinal=row.ordinal,
        first_row=row.first_row,
        rows=row.rows,
        recipe=Recipe.read(row.recipe),
        destination=row.destination,
        endpoint=row.endpoint or None,
        source=SourceRef(key=row.part_key, offset=row.part_offset, length=row.part_length),
        cell=row.cell,
        fence=row.fence,
        work_fence=row.work_fence,
        attempt=row.attempt,
        crashes=row.crashes,
        restarts=row.restarts,
        round=row.round,
        gone=Gone(row.gone) if row.gone else None,
        traceparent=row.traceparent,
    )


async def beat(
    connection: AsyncConnection, stage: Stage, claim: Claim, *, done: int, work_bytes: int, lease: timedelta = LEASE
) -> Verdict:
    """Extends the lease and says how far the stage is; tells whether to go on."""
    row = (
        await connection.execute(
            text("""
                UPDATE chunks SET lease_until = clock_timestamp() + CAST(:lease AS interval),
                    progress = chunks.progress || jsonb_build_object(CAST(:stage AS text), CAST(:done AS int)),
                    work_bytes = greatest(work_bytes, :work_bytes)
                FROM jobs WHERE chunks.id = :id AND fence = :fence AND chunks.state = :running AND jobs.id = job_id
                RETURNING jobs.state"""),
            {
                "id": claim.chunk_id,
                "fence": claim.fence,
                "running": stage.running,
                "lease": lease,
                "stage": stage.name,
                "done": done,
                "work_bytes": work_bytes,
            },
        )
    ).first()
    if row is None:
        return Verdict.LOST
    return Verdict.CANCEL if row.state == JobState.CANCELLING else Verdict.OK


async def advance(connection: AsyncConnection, stage: Stage, claim: Claim, result: StageResult) -> None:
    """Commits a stage's result: on to the next stage, or to `cleaning` after the last. Raises ClaimLost."""
    following = next_stage(stage)
    counts = {"accepted": result.passed, "rejected": dict(result.rejected)}
    values: dict[str, Any] = {
        "counts": json.dumps(counts),
        "done": json.dumps({stage.name: claim.rows}),
        "size": result.size_bytes,
    }
    changes = f""", counts = CAST(:counts AS jsonb), progress = progress || CAST(:done AS jsonb),
        attempt = 0, crashes = 0, not_before = NULL {DUE}"""
    if following:
        changes += ", work_fence = :own, work_bytes = greatest(work_bytes, :size)"
        await _move_claimed(
            connection, stage, claim, following.ready, changes=changes, values=values | {"own": claim.fence}
        )
    else:
        changes += ", outcome = :outcome, stored_bytes = :size"
        values["outcome"] = Outcome.COMPLETED
        await _move_claimed(connection, stage, claim, ChunkState.CLEANING, changes=changes, values=values)


async def hand_back(
    connection: AsyncConnection,
    stage: Stage,
    claim: Claim,
    *,
    pause: timedelta,
    burns_attempt: bool,
    error_code: str | None = None,
    error: str | None = None,
) -> None:
    """Gives the chunk back to its stage's queue, to be taken again after the pause. Raises ClaimLost."""
    await _move_claimed(
        connection,
        stage,
        claim,
        stage.ready,
        changes=f""", not_before = clock_timestamp() + CAST(:pause AS interval), attempt = attempt - :unburned {DUE}""",
        values={"pause": pause, "unburned": 0 if burns_attempt else 1},
        error_code=error_code,
        error=error,
    )


async def end(
    connection: AsyncConnection,
    stage: Stage,
    claim: Claim,
    outcome: Outcome,
    *,
    error_code: str | None = None,
    error: str | None = None,
) -> None:
    """Ends the chunk without a result; its rows are closed while it is cleaned. Raises ClaimLost."""
    await _move_claimed(
        connection,
        stage,
        claim,
        ChunkState.CLEANING,
        changes=", outcome = :outcome" + DUE,
        values={"outcome": outcome},
        error_code=error_code,
        error=error,
    )


async def restart(connection: AsyncConnection, stage: Stage, claim: Claim, *, error: str) -> None:
    """Sends the chunk back to `pending` because its work area is gone. Raises ClaimLost."""
    await _move_claimed(
        connection, stage, claim, ChunkState.PENDING, changes=ANEW, error_code="work_area_gone", error=error
    )
    await free_slots(connection, [claim.chunk_id])


async def settle(
    connection: AsyncConnection, claim: Claim, stage: Stage, rows: Mapping[int, str | None]
) -> dict[str, int]:
    """Claims digests for rows of this chunk; returns the row each digest belongs to. Raises ClaimLost.

    Whoever is first keeps a digest, and chunks come in order; so the lowest row wins. Digests that an
    earlier attempt held for one of these rows and this one has no more are given up first.
    """
    owned = await connection.execute(
        text("UPDATE chunks SET is_settled = true WHERE id = :id AND fence = :fence AND state = :running RETURNING id"),
        {"id": claim.chunk_id, "fence": claim.fence, "running": stage.running},
    )
    if owned.first() is None:
        raise ClaimLost(f"chunk {claim.chunk_id} has another owner than fence {claim.fence}")
    values = {
        "dataset": claim.dataset_id,
        "own": list(rows),
        "rows": [row for row, digest in rows.items() if digest],
        "digests": [bytes.fromhex(digest) for digest in rows.values() if digest],
    }
    await connection.execute(
        text("""
            DELETE FROM fingerprints AS held WHERE held.dataset_id = :dataset AND held.row = ANY(:own) AND NOT EXISTS (
                SELECT FROM unnest(CAST(:rows AS bigint[]), CAST(:digests AS bytea[])) AS now (row, sha256)
                WHERE now.row = held.row AND now.sha256 = held.sha256)"""),
        values,
    )
    await connection.execute(
        text("""
            INSERT INTO fingerprints (dataset_id, sha256, row)
            SELECT CAST(:dataset AS uuid), sha256, min(row)
            FROM unnest(CAST(:rows AS bigint[]), CAST(:digests AS bytea[])) AS now (row, sha256) GROUP BY sha256
            ORDER BY sha256 ON CONFLICT DO NOTHING"""),
        values,
    )
    winners = await connection.execute(
        text("SELECT sha256, row FROM fingerprints WHERE dataset_id = :dataset AND sha256 = ANY(:digests)"), values
    )
    return {bytes(row.sha256).hex(): row.row for row in winners}


async def record_objects(connection: AsyncConnection, claim: Claim, objects: Sequence[NewObject]) -> None:
    """Remembers that these objects of the dataset are the chunk's, and no others; nothing when it has a new owner.

    Repeating it is harmless.
    """
    if not objects:
        return
    await connection.execute(
        text("""
            WITH owned AS (SELECT id FROM chunks WHERE id = :chunk AND fence = :fence), forgotten AS (
                DELETE FROM objects USING owned WHERE chunk_id = owned.id AND key <> ALL(:keys))
            INSERT INTO objects (dataset_id, key, revision, chunk_id, size_bytes, sha256)
            SELECT :dataset, key, :revision, owned.id, size_bytes, sha256
            FROM owned, unnest(CAST(:keys AS text[]), CAST(:sizes AS bigint[]), CAST(:digests AS bytea[]))
                AS new (key, size_bytes, sha256)
            ON CONFLICT (dataset_id, key) DO UPDATE
                SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256, chunk_id = excluded.chunk_id"""),
        {
            "dataset": claim.dataset_id,
            "revision": claim.revision,
            "chunk": claim.chunk_id,
            "fence": claim.fence,
            "keys": [made.key for made in objects],
            "sizes": [made.size_bytes for made in objects],
            "digests": [bytes.fromhex(made.sha256) for made in objects],
        },
    )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A chunk in `cleaning`: what is left to do is to close it."""

    claim: Claim
    outcome: Outcome
    tries: int  #: times it was tried to close it, in vain
    may_have_stored: bool  #: its upload had begun


CLAIMED = f"""SELECT chunks.*, jobs.state AS job_state, {_OF_JOB}
    FROM chunks JOIN jobs ON jobs.id = job_id JOIN datasets ON datasets.id = jobs.dataset_id"""


async def ended(
    connection: AsyncConnection,
    *,
    chunk_id: int | None = None,
    cell: str | None = None,
    for_at_least: timedelta = timedelta(0),
    limit: int = 50,
) -> list[Ended]:
    """Chunks in `cleaning`: that one, or those of a cell, that stand there long enough."""
    rows = await connection.execute(
        text(f"""
            {CLAIMED} WHERE chunks.state = 'cleaning' AND (CAST(:id AS bigint) IS NULL OR chunks.id = :id)
              AND (CAST(:cell AS text) IS NULL OR chunks.cell = :cell)
              AND chunks.ready_at <= clock_timestamp() - CAST(:age AS interval)
            ORDER BY chunks.ready_at, chunks.id LIMIT :limit"""),
        {"id": chunk_id, "cell": cell, "age": for_at_least, "limit": limit},
    )
    return [_ended_of(row) for row in rows]


async def ended_nowhere(connection: AsyncConnection, *, dead_after: timedelta, limit: int) -> list[Ended]:
    """Chunks in `cleaning` that have no cell, or one nobody reports from: no janitor closes them."""
    rows = await connection.execute(
        text(f"""
            {CLAIMED} WHERE chunks.state = 'cleaning' AND (chunks.cell IS NULL
                OR (chunks.ready_at < clock_timestamp() - CAST(:dead AS interval)
                    AND NOT EXISTS (SELECT FROM cells WHERE cells.name = chunks.cell
                                    AND cells.seen_at > clock_timestamp() - CAST(:dead AS interval))))
              AND chunks.ready_at <= clock_timestamp()
            ORDER BY chunks.ready_at, chunks.id LIMIT :limit"""),
        {"dead": dead_after, "limit": limit},
    )
    return [_ended_of(row) for row in rows]


def _ended_of(row: Any) -> Ended:
    return Ended(claim=claim_of(row), outcome=Outcome(row.outcome), tries=row.rings, may_have_stored=row.is_settled)


async def put_off_closing(connection: AsyncConnection, ended: Ended) -> None:
    """Lets others be closed before this one is tried again: after 5 s, then twice as long, at most 5 minutes."""
    await connection.execute(
        text("""
            UPDATE chunks SET rings = least(rings + 1, 1000), ready_at = clock_timestamp()
                + least(interval '5 s' * power(2, least(rings, 10)), interval '5 minutes')
            WHERE id = :id AND fence = :fence AND state = 'cleaning'"""),
        {"id": ended.claim.chunk_id, "fence": ended.claim.fence},
    )


async def close(connection: AsyncConnection, ended: Ended, *, actor: str) -> bool:
    """Takes a cleaned chunk to its final state, frees its slot and adds its counts to its job's, all at once.

    False: somebody else did it.
    """
    moved = await move(
        connection,
        start=ChunkState.CLEANING,
        to=ended.outcome.state,
        actor=actor,
        where="chunks.id = :id AND chunks.fence = :fence AND chunks.outcome = :outcome",
        values={"id": ended.claim.chunk_id, "fence": ended.claim.fence, "outcome": ended.outcome},
        changes=RELEASED + ", ended_at = clock_timestamp(), work_fence = NULL",
        keeps_error=True,
    )
    if not moved:
        return False
    await free_slots(connection, [ended.claim.chunk_id])
    chunk = moved[0]
    await add_to_job(connection, chunk.job_id, counts=chunk.counts, stored_bytes=chunk.stored_bytes)
    await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'chunk_ended')"))
    return True


async def set_counts(connection: AsyncConnection, ended: Ended, *, accepted: int, rejected: Mapping[str, int]) -> None:
    """Says how the rows of a chunk that ended without a result are counted."""
    await connection.execute(
        text(
            "UPDATE chunks SET counts = CAST(:counts AS jsonb) WHERE id = :id AND fence = :fence AND state = 'cleaning'"
        ),
        {
            "id": ended.claim.chunk_id,
            "fence": ended.claim.fence,
            "counts": json.dumps({"accepted": accepted, "rejected": dict(rejected)}),
        },
    )


async def free_slots(connection: AsyncConnection, chunk_ids: Sequence[int]) -> None:
    """Frees the slots of these chunks; in the transaction that moves them out."""
    await connection.execute(
        text("UPDATE slots SET chunk_id = NULL WHERE chunk_id = ANY(:ids)"), {"ids": list(chunk_ids)}
    )


async def add_to_job(
    connection: AsyncConnection, job_id: UUID, *, counts: Mapping[str, Any], stored_bytes: int
) -> None:
    """Adds an ended chunk's counts to its job's sums."""
    sums = (
        await connection.execute(text("SELECT counts FROM jobs WHERE id = :job FOR UPDATE"), {"job": job_id})
    ).scalar_one()
    rejected = Counter(sums["rejected"]) + Counter(counts["rejected"])
    total = {"accepted": sums["accepted"] + counts["accepted"], "rejected": rejected}
    await connection.execute(
        text("UPDATE jobs SET counts = CAST(:counts AS jsonb), stored_bytes = stored_bytes + :bytes WHERE id = :job"),
        {"job": job_id, "counts": json.dumps(total), "bytes": stored_bytes},
    )


async def is_published(connection: AsyncConnection, claim: Claim) -> bool:
    """Whether what this claim left in the work area is what the chunk goes on with."""
    published = await connection.execute(
        text("SELECT work_fence = :fence FROM chunks WHERE id = :id"), {"id": claim.chunk_id, "fence": claim.fence}
    )
    return bool(published.scalar())


async def active(connection: AsyncConnection, chunk_ids: Sequence[int]) -> set[int]:
    """Those of the chunks that hold a slot, so that their work area is in use."""
    rows = await connection.execute(
        text("SELECT id FROM chunks WHERE id = ANY(:ids) AND state = ANY(:states)"),
        {"ids": list(chunk_ids), "states": sorted(SLOT_STATES)},
    )
    return set(rows.scalars())
