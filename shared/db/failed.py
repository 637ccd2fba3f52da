"""Dead letters: chunks that failed. What administrators look at, wish redriven or drop, and the scheduler redrives.

A failed chunk is *open* until it is wished redriven or dropped; chunks of a cancelled job are not open, for nobody
waits for them. The wish is granted by the scheduler alone, once the job neither finishes nor is cancelled, and no
purge is at what the chunk has stored.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.moves import RELEASED, move
from shared.db.purges import UNDER_WAY
from shared.pipeline import FINAL_JOB_STATES, MAX_ROUNDS, PIPELINE, ChunkState, JobState

_WITHDRAWN = sorted({JobState.CANCELLING, JobState.CANCELLED})
#: States of a job to which a redriven chunk may come back; one that finishes is waited for.
_TAKES_BACK = sorted(set(JobState) - set(_WITHDRAWN) - {JobState.FINISHING})
_OPEN = """chunks.state = 'failed' AND redrive_asked_at IS NULL AND dropped_at IS NULL
    AND jobs.state <> ALL(:withdrawn)"""
_CHOSEN = """(CAST(:chunk AS bigint) IS NULL OR chunks.id = :chunk) AND (CAST(:job AS uuid) IS NULL OR job_id = :job)
    AND (CAST(:code AS text) IS NULL OR chunks.error_code = :code)"""
#: What a redriven chunk forgets; its counts go after they were taken from its job's.
_REDRIVEN = """, round = round + 1, redrive_asked_at = NULL, outcome = NULL, ended_at = NULL, admitted_at = NULL,
    work_fence = NULL, cell = NULL, attempt = 0, crashes = 0, restarts = 0, not_before = NULL, ready_at = NULL,
    dispatched_at = NULL, rings = 0, is_settled = false, work_bytes = 0, progress = '{}', purged_to = 0,
    renewed_at = NULL"""
_MOST_EVENTS = 500


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which failed chunks are meant: all that meet what is given."""

    chunk: int | None = None
    job: UUID | None = None
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class FailedChunk:
    """A chunk that failed, and how often it was tried."""

    id: int
    job_id: UUID
    ordinal: int
    first_row: int
    rows: int
    state: ChunkState
    stage: str | None  #: the stage it last failed in; None when it never did
    error_code: str | None
    error: str | None
    attempts: int  #: in that stage
    crashes: int  #: workers that died under it there
    restarts: int
    redrives: int
    failed_at: datetime | None
    redrive_asked_at: datetime | None
    dropped_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A committed move of a chunk."""

    from_state: ChunkState
    to_state: ChunkState
    actor: str
    error_code: str | None
    error: str | None
    at: datetime


_FAILED = """
    SELECT chunks.id, job_id, ordinal, first_row, rows, chunks.state, from_state, chunks.error_code, chunks.error,
        attempt AS attempts, crashes, restarts, round AS redrives, ended_at AS failed_at, redrive_asked_at, dropped_at
    FROM chunks JOIN jobs ON jobs.id = job_id LEFT JOIN LATERAL (
        SELECT from_state FROM chunk_events
        WHERE chunk_id = chunks.id AND to_state = 'cleaning' ORDER BY id DESC LIMIT 1) AS ending ON true"""


async def newest(
    connection: AsyncConnection, choice: Choice, *, before: int | None = None, limit: int
) -> list[FailedChunk]:
    """Open failed chunks, newest first, from behind the chunk `before`."""
    rows = await connection.execute(
        text(f"""
            {_FAILED} WHERE {_OPEN} AND {_CHOSEN} AND (CAST(:before AS bigint) IS NULL OR chunks.id < :before)
            ORDER BY chunks.id DESC LIMIT :limit"""),
        {**_values(choice), "before": before, "limit": limit},
    )
    return [_failed(row) for row in rows]


async def get(connection: AsyncConnection, chunk_id: int) -> FailedChunk | None:
    """A chunk in whatever state, so that one can see what became of a redrive."""
    row = (await connection.execute(text(f"{_FAILED} WHERE chunks.id = :chunk"), {"chunk": chunk_id})).first()
    return None if row is None else _failed(row)


async def history(connection: AsyncConnection, chunk_id: int) -> list[Event]:
    """The chunk's newest moves, oldest first, at most 500."""
    rows = await connection.execute(
        text("""
            SELECT from_state, to_state, actor, error_code, error, at FROM (
                SELECT * FROM chunk_events WHERE chunk_id = :chunk ORDER BY id DESC LIMIT :most) AS newest
            ORDER BY id"""),
        {"chunk": chunk_id, "most": _MOST_EVENTS},
    )
    return [
        Event(**{**row._asdict(), "from_state": ChunkState(row.from_state), "to_state": ChunkState(row.to_state)})
        for row in rows
    ]


async def ask_redrive(connection: AsyncConnection, choice: Choice, *, force: bool) -> int:
    """Wishes open failed chunks redriven; how many. Without force, those redriven too often stay as they are."""
    asked = await connection.execute(
        text(f"""
            UPDATE chunks SET redrive_asked_at = clock_timestamp() FROM jobs JOIN datasets ON datasets.id = dataset_id
            WHERE jobs.id = job_id AND delete_asked_at IS NULL AND {_OPEN} AND {_CHOSEN}
              AND (:force OR round < :most)"""),
        {**_values(choice), "force": force, "most": MAX_ROUNDS},
    )
    await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'redrive_asked')"))
    return asked.rowcount


async def drop(connection: AsyncConnection, choice: Choice) -> int:
    """Accepts the loss of open failed chunks for good; how many."""
    dropped = await connection.execute(
        text(f"""
            UPDATE chunks SET dropped_at = clock_timestamp() FROM jobs
            WHERE jobs.id = job_id AND {_OPEN} AND {_CHOSEN}"""),
        _values(choice),
    )
    return dropped.rowcount


async def count_open(connection: AsyncConnection, choice: Choice | None = None) -> int:
    """How many failed chunks wait for somebody's decision."""
    counted = await connection.execute(
        text(f"SELECT count(*) FROM chunks JOIN jobs ON jobs.id = job_id WHERE {_OPEN} AND {_CHOSEN}"),
        _values(choice or Choice()),
    )
    return int(counted.scalar_one())


async def grant_redrives(connection: AsyncConnection, *, limit: int = 500) -> int:
    """Sends failed chunks that were wished redriven back to `pending`; a job of theirs that had ended runs again.

    Those of a dataset that another job is changing wait until it has ended.
    """
    moved = await move(
        connection,
        start=ChunkState.FAILED,
        to=ChunkState.PENDING,
        actor="scheduler",
        where="""chunks.id IN (
            SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'failed' AND redrive_asked_at IS NOT NULL AND dropped_at IS NULL
              AND jobs.state = ANY(:takes_back)
              AND NOT EXISTS (SELECT FROM jobs AS other WHERE other.dataset_id = jobs.dataset_id
                              AND other.id <> jobs.id AND other.state <> ALL(:final))
            ORDER BY chunks.id LIMIT :limit)
            AND (purged_to <> :under_way OR NOT EXISTS (
                SELECT FROM blocked WHERE purge_no IS NOT NULL AND purged_at IS NULL))""",
        values={
            "takes_back": _TAKES_BACK,
            "final": sorted(FINAL_JOB_STATES),
            "limit": limit,
            "under_way": UNDER_WAY,
        },
        changes=RELEASED + _REDRIVEN,
    )
    by_job = sorted(moved, key=lambda chunk: (chunk.job_id, chunk.id))
    for job_id, chunks in groupby(by_job, key=lambda chunk: chunk.job_id):
        await _take_from_job(connection, job_id, list(chunks))
    return len(moved)


async def _take_from_job(connection: AsyncConnection, job_id: UUID, chunks: Sequence[Row[Any]]) -> None:
    """Takes what these chunks had been counted for from their job's sums, and lets the job run."""
    sums = (
        await connection.execute(text("SELECT counts FROM jobs WHERE id = :job FOR UPDATE"), {"job": job_id})
    ).scalar_one()
    rejected = Counter(sums["rejected"]) - _sum(chunk.counts["rejected"] for chunk in chunks)
    accepted = sums["accepted"] - sum(chunk.counts["accepted"] for chunk in chunks)
    await connection.execute(
        text("""
            UPDATE jobs SET counts = CAST(:counts AS jsonb), stored_bytes = stored_bytes - :bytes,
                finished_at = CASE WHEN state <> ALL(:final) THEN finished_at END,
                state = CASE WHEN state = ANY(:final) THEN 'running' ELSE state END, version = version + 1
            WHERE id = :job"""),
        {
            "job": job_id,
            "counts": json.dumps({"accepted": accepted, "rejected": rejected}),
            "bytes": sum(chunk.stored_bytes for chunk in chunks),
            "final": sorted(FINAL_JOB_STATES),
        },
    )
    await connection.execute(
        text("UPDATE chunks SET counts = DEFAULT, stored_bytes = 0 WHERE id = ANY(:ids)"),
        {"ids": [chunk.id for chunk in chunks]},
    )


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _values(choice: Choice) -> dict[str, Any]:
    return {"chunk": choice.chunk, "job": choice.job, "code": choice.code, "withdrawn": _WITHDRAWN}


def _failed(row: Row[Any]) -> FailedChunk:
    values = row._asdict()
    ended_in = values.pop("from_state")
    stage = next((stage.name for stage in PIPELINE if ended_in in (stage.ready, stage.running)), None)
    return FailedChunk(**{**values, "state": ChunkState(row.state), "stage": stage})
