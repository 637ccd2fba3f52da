"""Bells that are due: chunks in a `…_ready` state whose stage has not been told, or did not come.

`dispatched_at` empty *is* the outbox. Taking a bell stamps it in the same statement, so two ringers do not
ring twice; a bell that could not be rung is put back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.chunks import ADMISSIBLE, HELD_VALUES, NOT_HELD
from shared.db.stages import NOT_PAUSED, PAUSABLE_VALUES
from shared.messages import Why
from shared.pipeline import PIPELINE, Stage

_READY = {stage.ready: stage for stage in PIPELINE}

#: A bell nobody answered is rung again after this, then after twice as long, up to the longest.
RING_AGAIN = timedelta(seconds=30)
RING_AGAIN_LONGEST = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Bell:
    """A chunk whose next stage is to be told."""

    chunk_id: int
    job_id: UUID
    stage: Stage
    cell: str
    attempt: int
    why: Why
    traceparent: str | None


async def take(
    connection: AsyncConnection, *, hold: timedelta, why: Why, job_id: UUID | None = None, limit: int = 200
) -> list[Bell]:
    """Takes bells never rung (of one job, if named); `why` tells who rings."""
    rows = await connection.execute(
        text(f"""
            WITH due AS (
                SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = chunks.job_id
                WHERE chunks.state = ANY(:ready) AND chunks.dispatched_at IS NULL
                  AND (CAST(:job AS uuid) IS NULL OR chunks.job_id = :job) AND jobs.state = ANY(:admissible)
                  AND (chunks.not_before IS NULL OR chunks.not_before <= clock_timestamp()) AND {NOT_HELD}
                  AND {NOT_PAUSED}
                ORDER BY chunks.id LIMIT :limit FOR UPDATE OF chunks SKIP LOCKED)
            UPDATE chunks SET dispatched_at = clock_timestamp() FROM due WHERE chunks.id = due.id
            RETURNING chunks.id, job_id, state, cell, attempt, traceparent"""),
        {
            "ready": sorted(_READY),
            "job": job_id,
            "admissible": ADMISSIBLE,
            "hold": hold,
            "limit": limit,
            **HELD_VALUES,
            **PAUSABLE_VALUES,
        },
    )
    return [_bell_of(row, why) for row in rows]


async def take_unanswered(
    connection: AsyncConnection, *, again: timedelta = RING_AGAIN, limit: int = 200
) -> list[Bell]:
    """Takes bells that were rung and not answered for long enough."""
    rows = await connection.execute(
        text(f"""
            WITH due AS (
                SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = chunks.job_id
                WHERE chunks.state = ANY(:ready) AND jobs.state = ANY(:admissible) AND {NOT_PAUSED}
                  AND dispatched_at < clock_timestamp()
                      - least(CAST(:again AS interval) * power(2, least(rings, 10)), CAST(:longest AS interval))
                ORDER BY chunks.id LIMIT :limit FOR UPDATE OF chunks SKIP LOCKED)
            UPDATE chunks SET dispatched_at = clock_timestamp(), rings = least(rings + 1, 1000)
            FROM due WHERE chunks.id = due.id
            RETURNING chunks.id, job_id, state, cell, attempt, traceparent"""),
        {
            "ready": sorted(_READY),
            "admissible": ADMISSIBLE,
            "again": again,
            "longest": RING_AGAIN_LONGEST,
            "limit": limit,
            **PAUSABLE_VALUES,
        },
    )
    return [_bell_of(row, Why.RUNG_AGAIN) for row in rows]


async def put_back(connection: AsyncConnection, bells: Sequence[Bell]) -> None:
    """Makes bells due again that could not be rung."""
    await connection.execute(
        text("UPDATE chunks SET dispatched_at = NULL WHERE id = ANY(:ids) AND state = ANY(:ready)"),
        {"ids": [bell.chunk_id for bell in bells], "ready": sorted(_READY)},
    )


def _bell_of(row: Row[Any], why: Why) -> Bell:
    return Bell(
        chunk_id=row.id,
        job_id=row.job_id,
        stage=_READY[row.state],
        cell=row.cell,
        attempt=row.attempt,
        why=why,
        traceparent=row.traceparent,
    )
