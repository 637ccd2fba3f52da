"""What is forgotten after a while, a block at a time, so that no statement takes long."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import FINAL_JOB_STATES

_FINAL = sorted(FINAL_JOB_STATES)
_BLOCK = 10_000


async def forget_keys(connection: AsyncConnection, *, keep: timedelta) -> int:
    """Forgets API keys that have been useless for so long; how many."""
    gone = await connection.execute(
        text("""
            DELETE FROM api_keys
            WHERE least(expires_at, revoked_at) < clock_timestamp() - CAST(:keep AS interval)"""),
        {"keep": keep},
    )
    return gone.rowcount


async def forget_moves(connection: AsyncConnection, *, keep: timedelta, after: int) -> tuple[int, int | None]:
    """Forgets moves of chunks whose job ended so long ago, among the next 10,000 from behind the move `after`.

    How many, and where to go on; None when what follows is younger.
    """
    values = {"keep": keep, "after": after, "block": _BLOCK, "final": _FINAL}
    block = """
        SELECT id, chunk_id FROM (SELECT id, chunk_id, at FROM chunk_events WHERE id > :after ORDER BY id LIMIT :block)
            AS oldest WHERE at < clock_timestamp() - CAST(:keep AS interval)"""
    last = (await connection.execute(text(f"SELECT max(id) FROM ({block}) AS block"), values)).scalar()
    if last is None:
        return 0, None
    gone = await connection.execute(
        text(f"""
            DELETE FROM chunk_events USING ({block}) AS block JOIN chunks ON chunks.id = chunk_id
                JOIN jobs ON jobs.id = job_id
            WHERE chunk_events.id = block.id AND jobs.state = ANY(:final)
              AND jobs.finished_at < clock_timestamp() - CAST(:keep AS interval)"""),
        values,
    )
    return gone.rowcount, last


async def forget_fingerprints(connection: AsyncConnection, *, keep: timedelta) -> int:
    """Forgets at most 10,000 fingerprints of datasets to which nothing was added for so long; how many."""
    gone = await connection.execute(
        text("""
            DELETE FROM fingerprints AS old USING (
                SELECT fingerprints.dataset_id, row FROM fingerprints JOIN datasets ON datasets.id = dataset_id
                WHERE NOT EXISTS (
                    SELECT FROM jobs WHERE jobs.dataset_id = datasets.id AND (state <> ALL(:final)
                        OR coalesce(finished_at, created_at) > clock_timestamp() - CAST(:keep AS interval)))
                LIMIT :block) AS chosen
            WHERE old.dataset_id = chosen.dataset_id AND old.row = chosen.row"""),
        {"keep": keep, "final": _FINAL, "block": _BLOCK},
    )
    return gone.rowcount
