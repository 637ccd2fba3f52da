"""Paused stages: no bell of theirs is rung and no chunk of theirs is claimed; what is in hand comes to its end.

A pause is a row, so it outlives whoever asked for it, and every worker sees it at its next claim.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import PIPELINE, SLOT_STATES, ChunkState, Stage

#: That the stage for which a chunk is ready is not paused; with `PAUSABLE_VALUES`.
NOT_PAUSED = """NOT EXISTS (
    SELECT FROM paused_stages
    JOIN unnest(CAST(:stages AS text[]), CAST(:stage_readies AS text[])) AS declared (stage, ready) USING (stage)
    WHERE declared.ready = chunks.state)"""
PAUSABLE_VALUES = {
    "stages": [stage.name for stage in PIPELINE],
    "stage_readies": [stage.ready.value for stage in PIPELINE],
}


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Since when a stage is paused, and by whom."""

    since: datetime
    by: str  #: id of the API key


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a stage has before it and in hand."""

    ready: int
    running: int
    oldest_ready_seconds: float  #: 0 when nothing is ready


async def paused(connection: AsyncConnection) -> dict[str, Pause]:
    """The paused stages, by name."""
    rows = await connection.execute(text("SELECT stage, since, paused_by FROM paused_stages"))
    return {row.stage: Pause(since=row.since, by=row.paused_by) for row in rows}


async def pause(connection: AsyncConnection, stage: Stage, *, by: str) -> None:
    """Pauses a stage until it is resumed. Repeating it is harmless."""
    await connection.execute(
        text("INSERT INTO paused_stages (stage, paused_by) VALUES (:stage, :by) ON CONFLICT DO NOTHING"),
        {"stage": stage.name, "by": by},
    )


async def resume(connection: AsyncConnection, stage: Stage) -> None:
    """Lets a stage go on; bells that were refused meanwhile are due again at once."""
    resumed = await connection.execute(
        text("DELETE FROM paused_stages WHERE stage = :stage RETURNING stage"), {"stage": stage.name}
    )
    if resumed.first() is None:
        return
    await connection.execute(
        text("UPDATE chunks SET dispatched_at = NULL WHERE state = :ready"), {"ready": stage.ready}
    )
    await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'stage_resumed')"))


async def standings(connection: AsyncConnection) -> dict[str, Standing]:
    """How each stage stands, by its name."""
    rows = await connection.execute(
        text("""
            SELECT state, count(*) AS chunks,
                   extract(epoch FROM clock_timestamp() - min(ready_at))::float8 AS oldest
            FROM chunks WHERE state = ANY(:held) GROUP BY state"""),
        {"held": sorted(SLOT_STATES)},
    )
    found = {ChunkState(row.state): row for row in rows}
    return {
        stage.name: Standing(
            ready=found[stage.ready].chunks if stage.ready in found else 0,
            running=found[stage.running].chunks if stage.running in found else 0,
            oldest_ready_seconds=max(0.0, found[stage.ready].oldest or 0.0) if stage.ready in found else 0.0,
        )
        for stage in PIPELINE
    }
