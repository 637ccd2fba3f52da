"""The figures of the whole system that the leading scheduler exports: read only, a few statements a look."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.chunks import ADMISSIBLE
from shared.pipeline import PIPELINE


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits for admission in one tier."""

    chunks: int
    #: Since the oldest waiting chunk was planned.
    oldest_seconds: float
    #: The longest that one of its tenants has gone without a chunk let in.
    unserved_seconds: float


NO_BACKLOG = Backlog(chunks=0, oldest_seconds=0.0, unserved_seconds=0.0)


async def image_sums(connection: AsyncConnection) -> tuple[int, dict[str, int]]:
    """Accepted and rejected rows of all jobs, from the same sums that jobs show."""
    accepted = await connection.execute(text("SELECT coalesce(sum((counts ->> 'accepted')::bigint), 0) FROM jobs"))
    rejected = await connection.execute(
        text("""
            SELECT reason.key, sum(reason.value::bigint)::bigint AS rows
            FROM jobs, jsonb_each_text(counts -> 'rejected') AS reason GROUP BY reason.key""")
    )
    return int(accepted.scalar_one()), {row.key: row.rows for row in rejected}


async def jobs_by_state(connection: AsyncConnection) -> Mapping[str, int]:
    rows = await connection.execute(text("SELECT state, count(*) AS jobs FROM jobs GROUP BY state"))
    return {row.state: row.jobs for row in rows}


async def chunks_by_state(connection: AsyncConnection) -> Mapping[str, int]:
    rows = await connection.execute(text("SELECT state, count(*) AS chunks FROM chunks GROUP BY state"))
    return {row.state: row.chunks for row in rows}


async def oldest_ready(connection: AsyncConnection) -> Mapping[str, float]:
    """Seconds since the oldest chunk became ready, by its state; a chunk that is to rest first counts from then."""
    rows = await connection.execute(
        text("""
            SELECT state, max(extract(epoch FROM clock_timestamp() - greatest(ready_at, not_before))) AS seconds
            FROM chunks WHERE state = ANY(:ready) GROUP BY state"""),
        {"ready": sorted(stage.ready for stage in PIPELINE)},
    )
    return {row.state: max(0.0, float(row.seconds)) for row in rows if row.seconds is not None}


@dataclass(frozen=True, kw_only=True)
class Owed:
    """What is owed to webhooks."""

    waiting: int
    #: Of what could be sent now.
    late_seconds: float
    disabled: int  #: webhooks that were given up


async def owed(connection: AsyncConnection) -> Owed:
    row = (
        await connection.execute(
            text("""
                SELECT count(*) AS waiting, coalesce(max(extract(epoch FROM clock_timestamp() - next_attempt_at))
                        FILTER (WHERE disabled_at IS NULL AND (rests_until IS NULL OR rests_until < clock_timestamp())),
                        0) AS late_seconds,
                    (SELECT count(*) FROM webhooks WHERE disabled_at IS NOT NULL) AS disabled
                FROM webhook_deliveries JOIN webhooks ON webhooks.id = webhook_id WHERE state = 'pending'""")
        )
    ).one()
    return Owed(waiting=row.waiting, late_seconds=max(0.0, float(row.late_seconds)), disabled=row.disabled)


async def backlog_by_tier(connection: AsyncConnection) -> Mapping[str, Backlog]:
    """What waits for admission, by tier; a tier with nothing waiting is left out."""
    rows = await connection.execute(
        text("""
            WITH waiting AS (
                SELECT tier, tenant_id, count(*) AS chunks, min(chunks.created_at) AS oldest
                FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible) GROUP BY tier, tenant_id),
            served AS (
                SELECT tenant_id, max(admitted_at) AS last FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE jobs.state = ANY(:admissible) GROUP BY tenant_id)
            SELECT tier, sum(chunks)::bigint AS chunks,
                extract(epoch FROM clock_timestamp() - min(oldest)) AS oldest,
                max(extract(epoch FROM clock_timestamp() - greatest(oldest, last))) AS unserved
            FROM waiting LEFT JOIN served USING (tenant_id) GROUP BY tier"""),
        {"admissible": ADMISSIBLE},
    )
    return {
        row.tier: Backlog(
            chunks=row.chunks,
            oldest_seconds=max(0.0, float(row.oldest)),
            unserved_seconds=max(0.0, float(row.unserved)),
        )
        for row in rows
    }
