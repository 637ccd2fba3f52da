"""What clients do with jobs: submit, look, pause, resume, cancel. Every statement names the tenant.

A job's changes are told on the channel `pixcrawler_jobs` when they are committed; the payload is its id.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.errors import StoreRefused
from shared.pipeline import (
    ADMISSIBLE_JOB_STATES,
    FINAL_JOB_STATES,
    FINAL_STATES,
    PIPELINE,
    SLOT_STATES,
    ChunkState,
    JobKind,
    JobState,
)

CHANNEL = "pixcrawler_jobs"
_FINAL = sorted(FINAL_JOB_STATES)
#: Nobody needs to know more exactly how long a queue is.
_MOST_AHEAD = 10_000
_PAUSABLE = sorted({JobState.QUEUED, JobState.PLANNING, JobState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as its tenant sees it. Counts are sums over ended chunks."""

    id: UUID
    dataset_id: UUID
    revision: int
    kind: JobKind
    name: str
    state: JobState
    destination: str
    endpoint: str | None
    recipe: Mapping[str, Any]
    planned_rows: int
    is_planned: bool  #: whether the list has been read to its end
    accepted: int
    rejected: Mapping[str, int]
    stored_bytes: int
    waiting_for: str
    error_code: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seen_at: datetime  #: when this was read, by the database's clock
    version: int  #: raised by every move

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_JOB_STATES

    @property
    def ended_rows(self) -> int:
        """Rows of chunks that have ended."""
        return self.accepted + sum(self.rejected.values())


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a client submits, checked."""

    tenant_id: UUID
    name: str
    destination: str
    endpoint: str | None
    recipe: Mapping[str, Any]
    source: Mapping[str, Any]
    digest: str
    #: The request it came by (`shared.trace.Trace.stored`).
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which jobs a list shows: all that meet what is given."""

    state: JobState | None = None
    kind: JobKind | None = None
    dataset: UUID | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """The dataset that the database knows at a destination, and the asked-for job of it, else its newest."""

    dataset_id: UUID
    tenant_id: UUID
    job_id: UUID
    digest: str
    state: JobState
    has_results: bool  #: whether a chunk of it has ended
    is_doomed: bool  #: whether its client wished it gone


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """A chunk that holds a slot: how many of its rows each stage has done, as of its last heartbeat."""

    id: int
    job_id: UUID
    state: ChunkState
    rows: int
    progress: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class EndedChunk:
    """A chunk whose index can be read."""

    ordinal: int
    round: int
    rows: int
    purged_to: int  #: another number, another index
    edits: int  #: as well


_JOB = """
    SELECT jobs.id, dataset_id, jobs.revision, kind, jobs.name, state, destination, nullif(endpoint, '') AS endpoint,
           recipe, planned_rows, planned_at IS NOT NULL AS is_planned, (counts ->> 'accepted')::bigint AS accepted,
           counts -> 'rejected' AS rejected, stored_bytes, waiting_for, error_code, error, jobs.created_at, started_at,
           finished_at, clock_timestamp() AS seen_at, jobs.version
    FROM jobs JOIN datasets ON datasets.id = dataset_id"""


async def get(connection: AsyncConnection, tenant_id: UUID, job_id: UUID) -> JobRow | None:
    """A job of this tenant's; None also when it is somebody else's."""
    found = await connection.execute(
        text(f"{_JOB} WHERE jobs.id = :id AND jobs.tenant_id = :tenant AND delete_asked_at IS NULL"),
        {"id": job_id, "tenant": tenant_id},
    )
    row = found.one_or_none()
    return None if row is None else _job(row)


async def tenant_of(connection: AsyncConnection, job_id: UUID) -> UUID | None:
    """Whose job it is; None when there is none."""
    found: UUID | None = await connection.scalar(text("SELECT tenant_id FROM jobs WHERE id = :job"), {"job": job_id})
    return found


async def source_of(connection: AsyncConnection, job_id: UUID) -> Mapping[str, Any]:
    """What the job was made from, as the planner reads it."""
    found = await connection.execute(text("SELECT source FROM jobs WHERE id = :id"), {"id": job_id})
    source: Mapping[str, Any] = found.scalar_one()
    return source


async def get_many(connection: AsyncConnection, job_ids: Sequence[UUID]) -> list[JobRow]:
    """Jobs by id, whosever they are: for streams whose right to see them was checked when they were opened."""
    found = await connection.execute(text(f"{_JOB} WHERE jobs.id = ANY(:ids)"), {"ids": list(job_ids)})
    return [_job(row) for row in found]


async def newest(
    connection: AsyncConnection,
    tenant_id: UUID,
    wanted: Wanted,
    *,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[JobRow]:
    """A tenant's jobs, newest first, from behind the place `before`."""
    created_at, job_id = before or (None, None)
    found = await connection.execute(
        text(f"""
            {_JOB}
            WHERE jobs.tenant_id = :tenant AND delete_asked_at IS NULL
              AND (CAST(:state AS text) IS NULL OR state = :state) AND (CAST(:kind AS text) IS NULL OR kind = :kind)
              AND (CAST(:dataset AS uuid) IS NULL OR dataset_id = :dataset)
              AND (CAST(:created_from AS timestamptz) IS NULL OR jobs.created_at >= :created_from)
              AND (CAST(:created_before AS timestamptz) IS NULL OR jobs.created_at < :created_before)
              AND (CAST(:created_at AS timestamptz) IS NULL
                   OR (jobs.created_at, jobs.id) < (CAST(:created_at AS timestamptz), CAST(:id AS uuid)))
            ORDER BY jobs.created_at DESC, jobs.id DESC LIMIT :limit"""),
        {"tenant": tenant_id, **asdict(wanted), "created_at": created_at, "id": job_id, "limit": limit},
    )
    return [_job(row) for row in found]


async def occupant(
    connection: AsyncConnection, destination: str, endpoint: str | None, *, digest: str
) -> Occupant | None:
    """What is known to lie at a destination, whosever it is, with the job of that digest if it has one."""
    found = await connection.execute(
        text("""
            SELECT datasets.id AS dataset_id, datasets.tenant_id, jobs.id AS job_id, digest, state,
                   delete_asked_at IS NOT NULL AS is_doomed,
                   EXISTS (SELECT FROM chunks WHERE job_id = jobs.id AND chunks.state = ANY(:ended)) AS has_results
            FROM datasets JOIN jobs ON jobs.dataset_id = datasets.id
            WHERE destination = :destination AND endpoint = :endpoint
            ORDER BY (digest = :digest) DESC, jobs.revision DESC LIMIT 1"""),
        {
            "destination": destination,
            "endpoint": endpoint or "",
            "digest": digest,
            "ended": sorted(FINAL_STATES),
        },
    )
    row = found.one_or_none()
    return None if row is None else Occupant(**{**row._asdict(), "state": JobState(row.state)})


async def create(connection: AsyncConnection, new: NewJob) -> UUID | None:
    """Adds a dataset and the job that builds it. None when somebody was faster at this destination."""
    dataset_id = await connection.scalar(
        text("""
            INSERT INTO datasets (tenant_id, destination, endpoint, revision)
            VALUES (:tenant, :destination, :endpoint, 0)
            ON CONFLICT (destination, endpoint) DO NOTHING RETURNING id"""),
        {"tenant": new.tenant_id, "destination": new.destination, "endpoint": new.endpoint or ""},
    )
    if dataset_id is None:
        return None
    job_id: UUID = await connection.scalar(
        text("""
            INSERT INTO jobs (tenant_id, dataset_id, revision, name, recipe, source, digest, traceparent)
            VALUES (:tenant, :dataset, 0, :name, CAST(:recipe AS jsonb), CAST(:source AS jsonb), :digest, :trace)
            RETURNING id"""),
        {
            "tenant": new.tenant_id,
            "dataset": dataset_id,
            "name": new.name,
            "recipe": json.dumps(new.recipe),
            "source": json.dumps(new.source),
            "digest": new.digest,
            "trace": new.traceparent,
        },
    )
    await tell(connection, job_id)
    return job_id


async def forget_dataset(connection: AsyncConnection, dataset_id: UUID) -> bool:
    """Removes a dataset whose client emptied its destination. False while a job of it is unfinished."""
    locked = await connection.execute(
        text("SELECT state FROM jobs WHERE dataset_id = :id FOR UPDATE"), {"id": dataset_id}
    )
    if any(state not in FINAL_JOB_STATES for (state,) in locked):
        return False
    await connection.execute(text("DELETE FROM jobs WHERE dataset_id = :id"), {"id": dataset_id})
    await connection.execute(text("DELETE FROM datasets WHERE id = :id"), {"id": dataset_id})
    return True


async def cancel(
    connection: AsyncConnection, tenant_id: UUID, job_id: UUID, known: Collection[int] | None = None
) -> bool:
    """Any unfinished job ▶ cancelling. False when it was not moved, as when its version is none of the known."""
    states = [*_FINAL, JobState.CANCELLING]
    return await _move(connection, tenant_id, job_id, "'cancelling'", "state <> ALL(:states)", states, known=known)


async def pause(
    connection: AsyncConnection, tenant_id: UUID, job_id: UUID, known: Collection[int] | None = None
) -> bool:
    """queued, planning, running ▶ paused. False when it was not moved."""
    return await _move(connection, tenant_id, job_id, "'paused'", "state = ANY(:states)", _PAUSABLE, known=known)


async def resume(
    connection: AsyncConnection, tenant_id: UUID, job_id: UUID, known: Collection[int] | None = None
) -> bool:
    """paused ▶ where planning stands. False when it was not moved."""
    where_it_stood = """
        CASE WHEN planned_at IS NOT NULL THEN 'running' WHEN cursor IS NULL THEN 'queued' ELSE 'planning' END"""
    # The trouble that paused it is taken to be over; a list that could not be read to its end still cannot.
    forgets = f""", error_code = nullif(error_code, '{StoreRefused.code}'),
        error = CASE WHEN error_code = '{StoreRefused.code}' THEN NULL ELSE error END"""
    has_moved = await _move(
        connection,
        tenant_id,
        job_id,
        where_it_stood,
        "state = ANY(:states)",
        [JobState.PAUSED],
        changes=forgets,
        known=known,
    )
    if has_moved:
        await _ring_anew(connection, job_id)
    return has_moved


async def _ring_anew(connection: AsyncConnection, job_id: UUID) -> None:
    """A bell that came while the job was paused was refused and is gone; do not wait until it counts as unanswered."""
    await connection.execute(
        text("UPDATE chunks SET dispatched_at = NULL WHERE job_id = :job AND state = ANY(:ready)"),
        {"job": job_id, "ready": sorted(stage.ready for stage in PIPELINE)},
    )


async def in_flight(connection: AsyncConnection, job_ids: Sequence[UUID]) -> list[InFlight]:
    """The chunks of these jobs that hold a slot."""
    found = await connection.execute(
        text("""
            SELECT id, job_id, state, rows, progress FROM chunks
            WHERE state = ANY(:held) AND job_id = ANY(:jobs) ORDER BY id"""),
        {"held": sorted(SLOT_STATES), "jobs": list(job_ids)},
    )
    return [InFlight(**{**row._asdict(), "state": ChunkState(row.state)}) for row in found]


async def chunks_ahead(connection: AsyncConnection, job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many chunks are to be admitted before the first one of each of these jobs, at most 10,000."""
    found = await connection.execute(
        text("""
            SELECT first.job_id, (
                SELECT count(*) FROM (
                    SELECT FROM chunks AS other JOIN jobs ON jobs.id = other.job_id
                    WHERE other.state = 'pending' AND jobs.state = ANY(:admissible) AND other.score < first.score
                    LIMIT :most) AS ahead) AS ahead
            FROM (SELECT job_id, min(score) AS score FROM chunks
                  WHERE state = 'pending' AND job_id = ANY(:jobs) GROUP BY job_id) AS first"""),
        {"jobs": list(job_ids), "admissible": sorted(ADMISSIBLE_JOB_STATES), "most": _MOST_AHEAD},
    )
    return {row.job_id: row.ahead for row in found}


@dataclass(frozen=True, kw_only=True)
class RecordedObject:
    """An object of a dataset, as its writer recorded it."""

    key: str
    size_bytes: int
    sha256: str


async def objects(
    connection: AsyncConnection, tenant_id: UUID, job_id: UUID, *, after: str, limit: int
) -> list[RecordedObject]:
    """Objects that chunks of the job have stored, in key order behind that key."""
    found = await connection.execute(
        text("""
            SELECT objects.key, objects.size_bytes, objects.sha256
            FROM jobs JOIN objects ON objects.dataset_id = jobs.dataset_id AND objects.revision = jobs.revision
            WHERE jobs.id = :job AND jobs.tenant_id = :tenant AND objects.key > :after
            ORDER BY objects.key LIMIT :limit"""),
        {"job": job_id, "tenant": tenant_id, "after": after, "limit": limit},
    )
    return [RecordedObject(key=row.key, size_bytes=row.size_bytes, sha256=bytes(row.sha256).hex()) for row in found]


async def ended_chunks(
    connection: AsyncConnection,
    job_id: UUID,
    *,
    start: int,
    limit: int,
    accepted: bool | None = None,
    reason: str | None = None,
) -> list[EndedChunk]:
    """Ended chunks from an ordinal on, in input order; only those whose counts promise rows of the asked kind."""
    found = await connection.execute(
        text("""
            SELECT ordinal, round, rows, purged_to, edits FROM chunks
            WHERE job_id = :job AND ordinal >= :start AND state = ANY(:ended)
              AND (CAST(:accepted AS bool) IS NULL OR ((counts ->> 'accepted')::bigint > 0) AND :accepted
                   OR ((counts ->> 'accepted')::bigint < rows) AND NOT :accepted)
              AND (CAST(:reason AS text) IS NULL OR jsonb_exists(counts -> 'rejected', :reason))
            ORDER BY ordinal LIMIT :limit"""),
        {
            "job": job_id,
            "start": start,
            "ended": sorted(FINAL_STATES),
            "accepted": accepted,
            "reason": reason,
            "limit": limit,
        },
    )
    return [EndedChunk(**row._mapping) for row in found]


async def ended_chunk_with(connection: AsyncConnection, job_id: UUID, *, row: int) -> EndedChunk | None:
    """The ended chunk of the job that holds the row of that number, if one does."""
    found = await connection.execute(
        text("""
            SELECT ordinal, round, rows, purged_to, edits FROM chunks
            WHERE job_id = :job AND first_row <= :row AND state = ANY(:ended) ORDER BY ordinal DESC LIMIT 1"""),
        {"job": job_id, "row": row, "ended": sorted(FINAL_STATES)},
    )
    chunk = found.one_or_none()
    return None if chunk is None else EndedChunk(**chunk._mapping)


async def tell(connection: AsyncConnection, job_id: UUID) -> None:
    """Tells who listens that a job has changed; heard when the transaction is committed."""
    await connection.execute(text("SELECT pg_notify(:channel, :job)"), {"channel": CHANNEL, "job": str(job_id)})


async def _move(
    connection: AsyncConnection,
    tenant_id: UUID,
    job_id: UUID,
    to: str,
    where: str,
    states: Sequence[str],
    *,
    changes: str = "",
    known: Collection[int] | None = None,
) -> bool:
    moved = await connection.execute(
        text(f"""
            UPDATE jobs SET state = {to}, version = version + 1 {changes}
            WHERE id = :id AND tenant_id = :tenant AND {where}
              AND (CAST(:known AS int[]) IS NULL OR version = ANY(CAST(:known AS int[])))"""),
        {
            "id": job_id,
            "tenant": tenant_id,
            "states": [str(state) for state in states],
            "known": None if known is None else list(known),
        },
    )
    if moved.rowcount:
        await tell(connection, job_id)
    return moved.rowcount > 0


def _job(row: Row[Any]) -> JobRow:
    return JobRow(**{**row._asdict(), "state": JobState(row.state), "kind": JobKind(row.kind)})
