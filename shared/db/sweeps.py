"""What the scheduler mends: leases that ran out, chunks of cancelled jobs, cells that died."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.chunks import free_slots
from shared.db.moves import ANEW, DUE, RELEASED, move
from shared.pipeline import PIPELINE, ChunkState, Outcome, Stage

_ACTOR = "scheduler"
_CRASHED = "The worker fell silent while it had the chunk."


@dataclass(frozen=True, kw_only=True)
class Expired:
    """Chunks taken from workers that fell silent."""

    stage: Stage
    given_back: int
    given_up: int


async def expire_leases(connection: AsyncConnection, stage: Stage, *, limit: int = 100) -> Expired:
    """Takes chunks of a stage whose lease ran out from their owners: back to be done again, or given up."""
    # The lease is asked for twice: a heartbeat may extend it while this waits for the row.
    due = """chunks.lease_until < clock_timestamp() AND chunks.id IN (
        SELECT id FROM chunks WHERE state = :running AND lease_until < clock_timestamp() LIMIT :limit)"""
    values = {"running": stage.running, "limit": limit, "most": stage.retry.crashes, "failed": Outcome.FAILED}
    given_up = await move(
        connection,
        start=stage.running,
        to=ChunkState.CLEANING,
        actor=_ACTOR,
        where=f"{due} AND chunks.crashes + 1 >= :most",
        values=values,
        changes=RELEASED + ", crashes = crashes + 1, outcome = :failed" + DUE,
        error_code="worker_lost",
        error=_CRASHED,
    )
    given_back = await move(
        connection,
        start=stage.running,
        to=stage.ready,
        actor=_ACTOR,
        where=f"{due} AND chunks.crashes + 1 < :most",
        values={key: value for key, value in values.items() if key != "failed"},
        changes=RELEASED + ", crashes = crashes + 1, attempt = greatest(attempt - 1, 0)" + DUE,
        error_code="worker_lost",
        error=_CRASHED,
    )
    return Expired(stage=stage, given_back=len(given_back), given_up=len(given_up))


async def cancel_chunks(connection: AsyncConnection, *, limit: int = 500) -> int:
    """Ends chunks of cancelled jobs that no worker has in hand; running ones learn it by their heartbeat.

    A waiting chunk that held no slot goes through `cleaning` too, so that its rows get their index.
    """
    ended = 0
    for start in (*(stage.ready for stage in PIPELINE), ChunkState.PENDING):
        moved = await move(
            connection,
            start=start,
            to=ChunkState.CLEANING,
            actor=_ACTOR,
            where="""chunks.id IN (
                SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE chunks.state = :from_state AND jobs.state = 'cancelling' ORDER BY chunks.id LIMIT :limit)""",
            values={"from_state": start, "limit": limit, "cancelled": Outcome.CANCELLED},
            changes=RELEASED + ", outcome = :cancelled" + DUE,
            error_code="cancelled",
            error="The job was cancelled.",
        )
        ended += len(moved)
        if start is ChunkState.PENDING and moved:
            await _forget_starts(connection, sorted({row.job_id for row in moved}))
    return ended


async def _forget_starts(connection: AsyncConnection, jobs: Sequence[UUID]) -> None:
    """A tenant does not pay for chunks that never ran: its next start follows what remains."""
    await connection.execute(
        text("""
            UPDATE tenants SET last_virtual_start = coalesce((
                SELECT max(virtual_start) FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE jobs.tenant_id = tenants.id AND chunks.outcome IS DISTINCT FROM 'cancelled'), 0)
            WHERE id IN (SELECT tenant_id FROM jobs WHERE id = ANY(:jobs))"""),
        {"jobs": list(jobs)},
    )


async def leave_dead_cells(connection: AsyncConnection, *, silent_for: timedelta, limit: int = 100) -> int:
    """Sends chunks of cells nobody reports from back to `pending`: what they had there cannot be reached."""
    left = 0
    for stage in PIPELINE:
        moved = await move(
            connection,
            start=stage.ready,
            to=ChunkState.PENDING,
            actor=_ACTOR,
            where="""chunks.id IN (
                SELECT id FROM chunks
                WHERE state = :from_state AND ready_at < clock_timestamp() - CAST(:silent AS interval)
                  AND NOT EXISTS (
                      SELECT FROM cells WHERE cells.name = chunks.cell
                      AND cells.seen_at > clock_timestamp() - CAST(:silent AS interval)) LIMIT :limit)""",
            values={"from_state": stage.ready, "silent": silent_for, "limit": limit},
            changes=ANEW,
            error_code="cell_lost",
            error="Nobody reports from the cell any more.",
        )
        await free_slots(connection, [row.id for row in moved])
        left += len(moved)
    return left


async def slot_mismatches(connection: AsyncConnection) -> int:
    """Slots whose chunk should hold none, and chunks that should hold one and do not: always 0."""
    rows = await connection.execute(
        text("""
            SELECT count(*) FROM chunks FULL JOIN slots ON slots.chunk_id = chunks.id
            WHERE (slots.chunk_id IS NOT NULL AND chunks.state = ANY(:free))
               OR (slots.no IS NULL AND chunks.state = ANY(:held))"""),
        {
            "free": ["pending", "completed", "failed", "cancelled"],
            "held": sorted({stage.ready for stage in PIPELINE} | {stage.running for stage in PIPELINE}),
        },
    )
    return int(rows.scalar_one())
