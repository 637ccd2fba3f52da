"""Stumbles: claims that went wrong themselves, so that nobody owned the chunk when it did.

A claim that raises leaves the chunk as it was, ready. Without a count it would be rung and stumbled over for ever.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.chunks import ADMISSIBLE
from shared.db.moves import DUE, RELEASED, move
from shared.pipeline import ChunkState, Outcome, Stage

#: As a claim asks, so that of many bells for one stumble one counts.
_DUE = """chunks.id = (SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = job_id
    WHERE chunks.id = :id AND jobs.state = ANY(:admissible))
    AND (chunks.not_before IS NULL OR chunks.not_before <= clock_timestamp())"""


async def note(
    connection: AsyncConnection, stage: Stage, chunk_id: int, *, actor: str, error_code: str, error: str
) -> None:
    """Burns an attempt of a ready chunk whose claim raised; the last one ends it. Nothing when it is not due."""
    values = {"id": chunk_id, "admissible": ADMISSIBLE, "most": stage.retry.attempts}
    await move(
        connection,
        actor=actor,
        start=stage.ready,
        to=ChunkState.CLEANING,
        where=f"{_DUE} AND chunks.attempt + 1 >= :most",
        values={**values, "failed": Outcome.FAILED},
        changes=RELEASED + ", attempt = attempt + 1, outcome = :failed" + DUE,
        error_code=error_code,
        error=error,
    )
    await move(
        connection,
        actor=actor,
        start=stage.ready,
        to=stage.ready,
        where=f"{_DUE} AND chunks.attempt + 1 < :most",
        values={**values, "first": stage.retry.first_delay, "longest": stage.retry.longest_delay},
        changes=""", attempt = attempt + 1, dispatched_at = NULL, rings = 0, not_before = clock_timestamp()
            + least(CAST(:first AS interval) * power(2, least(attempt, 30)), CAST(:longest AS interval))""",
        error_code=error_code,
        error=error,
    )
