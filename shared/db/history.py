"""What became of a dataset's chunks: which jobs added to it, and how long stages took. Read only."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import PIPELINE


@dataclass(frozen=True, kw_only=True)
class Added:
    """A job, and the revision that it added to its dataset."""

    job_id: UUID
    revision: int


async def revisions_of(connection: AsyncConnection, dataset_id: UUID) -> list[Added]:
    """The jobs of a dataset, newest revision first."""
    rows = await connection.execute(
        text("SELECT id AS job_id, revision FROM jobs WHERE dataset_id = :dataset ORDER BY revision DESC"),
        {"dataset": dataset_id},
    )
    return [Added(**row._mapping) for row in rows]


async def seconds_by_state(connection: AsyncConnection, job_id: UUID) -> Mapping[str, float]:
    """What the job's chunks spent in states of stages, added up, as far as their history is kept."""
    states = sorted({state for stage in PIPELINE for state in (stage.ready, stage.running)})
    rows = await connection.execute(
        text("""
            SELECT from_state, sum(extract(epoch FROM at - since)) AS seconds FROM (
                SELECT from_state, at, lag(at) OVER (PARTITION BY chunk_id ORDER BY chunk_events.id) AS since
                FROM chunks JOIN chunk_events ON chunk_id = chunks.id WHERE job_id = :job) AS moves
            WHERE from_state = ANY(:states) AND since IS NOT NULL GROUP BY from_state"""),
        {"job": job_id, "states": states},
    )
    return {row.from_state: max(0.0, float(row.seconds)) for row in rows}
