"""How a job moves on: planned, paused, finished. What the scheduler and the workers write of it.

(What clients ask for, create, pause, resume and cancel, is in `shared/db/jobs.py`.)
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.chunk import NewObject, SourceRef
from shared.db import deliveries
from shared.errors import StoreUnavailable, WorkAreaFull
from shared.pipeline import FINAL_JOB_STATES, FINAL_STATES, PIPELINE, JobKind, JobState, Tier
from shared.reasons import ELSEWHERE
from shared.recipe import Recipe

Json = dict[str, Any]

#: What clients read while all of a job's chunks were put off by its store, or by a full work volume.
_STORE_AWAY = "its destination, which does not answer"
_NO_ROOM = "room on the work volume"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job that is to be planned on, and where its tenant stands."""

    job_id: UUID
    dataset_id: UUID
    tenant_id: UUID
    kind: JobKind
    revision: int
    destination: str
    endpoint: str | None
    source: Json
    cursor: Json | None
    planned_rows: int
    planned_chunks: int
    next_row: int  #: dataset-wide number of the next row
    traceparent: str | None
    tenant_plan: Tier
    tenant_created_at: datetime
    tenant_rows: int
    tenant_last_start: float


@dataclass(frozen=True, kw_only=True)
class NewChunk:
    """A planned chunk, as its row will say."""

    ordinal: int
    first_row: int
    rows: int
    part_key: str
    part_offset: int
    part_length: int
    tier: Tier
    virtual_start: float
    score: float
    renews: int | None = None  #: the chunk whose rows it refreshes


async def to_plan(connection: AsyncConnection, *, job_id: UUID | None = None) -> Plan | None:
    """The unfinished plan that has waited longest, shortest first; or that job's, locked with its tenant's row."""
    locked = "FOR UPDATE OF jobs, tenants, datasets" if job_id else ""
    row = (
        await connection.execute(
            text(f"""
                SELECT jobs.id AS job_id, dataset_id, jobs.tenant_id, kind, jobs.revision, destination,
                    nullif(endpoint, '') AS endpoint, source, cursor, planned_rows, planned_chunks,
                    next_row, traceparent, plan AS tenant_plan, tenants.created_at AS tenant_created_at,
                    tenants.rows_planned AS tenant_rows, last_virtual_start AS tenant_last_start
                FROM jobs JOIN tenants ON tenants.id = jobs.tenant_id JOIN datasets ON datasets.id = dataset_id
                WHERE planned_at IS NULL AND state IN ('queued', 'planning')
                  AND (CAST(:job AS uuid) IS NULL OR jobs.id = :job)
                ORDER BY planned_chunks, jobs.created_at LIMIT 1 {locked}"""),
            {"job": job_id},
        )
    ).first()
    if row is None:
        return None
    return Plan(**{**row._mapping, "kind": JobKind(row.kind), "tenant_plan": Tier(row.tenant_plan)})


async def add_chunks(
    connection: AsyncConnection,
    plan: Plan,
    new: Sequence[NewChunk],
    *,
    cursor: Mapping[str, int],
    is_last: bool,
    replaced: Mapping[str, int] | None = None,
) -> dict[int, float]:
    """Inserts planned chunks and moves the cursor, all at once; the new chunks' scores by id.

    `replaced` counts their rows by the reason they had in earlier revisions; None: the rows are new ones.
    """
    rows = await connection.execute(
        text("""
            INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length,
                tier, virtual_start, score, renews, traceparent)
            SELECT :job, new.*, :traceparent FROM unnest(CAST(:ordinals AS int[]), CAST(:first_rows AS bigint[]),
                CAST(:rows AS int[]), CAST(:keys AS text[]), CAST(:offsets AS bigint[]), CAST(:lengths AS bigint[]),
                CAST(:tiers AS text[]), CAST(:starts AS float8[]), CAST(:scores AS float8[]),
                CAST(:renews AS bigint[])) AS new
            RETURNING id, score"""),
        {
            "job": plan.job_id,
            "traceparent": plan.traceparent,
            "ordinals": [chunk.ordinal for chunk in new],
            "first_rows": [chunk.first_row for chunk in new],
            "rows": [chunk.rows for chunk in new],
            "keys": [chunk.part_key for chunk in new],
            "offsets": [chunk.part_offset for chunk in new],
            "lengths": [chunk.part_length for chunk in new],
            "tiers": [chunk.tier for chunk in new],
            "starts": [chunk.virtual_start for chunk in new],
            "scores": [chunk.score for chunk in new],
            "renews": [chunk.renews for chunk in new],
        },
    )
    scores = {row.id: row.score for row in rows}
    total = sum(chunk.rows for chunk in new)
    await connection.execute(
        text("""
            UPDATE jobs SET cursor = CAST(:cursor AS jsonb), planned_rows = planned_rows + :rows,
                planned_chunks = planned_chunks + :chunks, version = version + 1,
                planned_at = CASE WHEN :is_last THEN clock_timestamp() END,
                started_at = coalesce(started_at, clock_timestamp()),
                state = CASE WHEN :is_last THEN 'running' ELSE 'planning' END
            WHERE id = :job"""),
        {"job": plan.job_id, "cursor": json.dumps(dict(cursor)), "rows": total, "chunks": len(new), "is_last": is_last},
    )
    if replaced is None:
        await connection.execute(
            text("UPDATE datasets SET next_row = next_row + :rows WHERE id = :dataset"),
            {"dataset": plan.dataset_id, "rows": total},
        )
    else:
        await _add_replaced(connection, plan.job_id, replaced)
    await connection.execute(
        text("""
            UPDATE tenants SET rows_planned = rows_planned + :rows, last_virtual_start = :start WHERE id = :tenant"""),
        {
            "tenant": plan.tenant_id,
            "rows": total,
            "start": max((chunk.virtual_start for chunk in new), default=plan.tenant_last_start),
        },
    )
    return scores


async def _add_replaced(connection: AsyncConnection, job_id: UUID, replaced: Mapping[str, int]) -> None:
    before = (await connection.execute(text("SELECT replaced FROM jobs WHERE id = :job"), {"job": job_id})).scalar_one()
    await connection.execute(
        text("UPDATE jobs SET replaced = CAST(:replaced AS jsonb) WHERE id = :job"),
        {"job": job_id, "replaced": json.dumps(Counter(before) + Counter(replaced))},
    )


async def stop_planning(connection: AsyncConnection, job_id: UUID, *, error_code: str, error: str) -> None:
    """The list cannot be read on: the job fails, or ends with the chunks it has."""
    stopped = await connection.execute(
        text("""
            UPDATE jobs SET planned_at = clock_timestamp(), error_code = :code, error = :error, version = version + 1,
                state = CASE WHEN planned_chunks = 0 THEN 'failed' ELSE 'running' END,
                finished_at = CASE WHEN planned_chunks = 0 THEN clock_timestamp() END
            WHERE id = :job AND state IN ('queued', 'planning') RETURNING state"""),
        {"job": job_id, "code": error_code, "error": error[:2000]},
    )
    if stopped.scalar() == JobState.FAILED:
        await deliveries.owe(connection, job_id, JobState.FAILED)


async def pause_for(connection: AsyncConnection, job_id: UUID, *, error_code: str, error: str) -> None:
    """Pauses a job for a trouble only its client or operator can mend, and says which."""
    await connection.execute(
        text("""
            UPDATE jobs SET state = 'paused', error_code = :code, error = :error, version = version + 1
            WHERE id = :job AND state IN ('planning', 'running')"""),
        {"job": job_id, "code": error_code, "error": error[:2000]},
    )


async def note_waiting(connection: AsyncConnection, why: str) -> None:
    """Tells the clients of jobs none of whose chunks moves what they wait for: their store, room, or admission."""
    await connection.execute(
        text("""
            UPDATE jobs SET waiting_for = waits.why FROM (
                SELECT jobs.id, CASE WHEN held.chunks IS NULL THEN CAST(:why AS text)
                    WHEN held.chunks = held.put_off THEN CAST(:store_away AS text)
                    WHEN held.chunks = held.without_room THEN CAST(:no_room AS text) ELSE '' END AS why
                FROM jobs LEFT JOIN (
                    SELECT job_id, count(*) AS chunks, count(*) FILTER (
                        WHERE error_code = :away AND state = :before_storing) AS put_off, count(*) FILTER (
                        WHERE error_code = :full AND state = ANY(:ready)) AS without_room
                    FROM chunks JOIN slots ON slots.chunk_id = chunks.id GROUP BY job_id
                ) AS held ON held.job_id = jobs.id
                WHERE jobs.state IN ('queued', 'planning', 'running')) AS waits
            WHERE jobs.id = waits.id AND waiting_for <> waits.why"""),
        {
            "why": why,
            "away": StoreUnavailable.code,
            "before_storing": PIPELINE[-1].ready,
            "store_away": _STORE_AWAY,
            "full": WorkAreaFull.code,
            "ready": sorted(stage.ready for stage in PIPELINE),
            "no_room": _NO_ROOM,
        },
    )


#: Whether nothing of a job is under way: neither its chunks, nor the earlier ones that these bring up to date.
_IS_DONE = """NOT EXISTS (SELECT FROM chunks WHERE job_id = jobs.id
    AND (chunks.state <> ALL(:final) OR (renews IS NOT NULL AND renewed_at IS NULL)))"""


async def begin_finishing(connection: AsyncConnection) -> None:
    """Moves on jobs whose last chunk has ended."""
    await connection.execute(
        text(f"""
            UPDATE jobs SET state = 'finishing', waiting_for = '', version = version + 1
            WHERE state = 'running' AND planned_at IS NOT NULL AND {_IS_DONE}"""),
        {"final": sorted(FINAL_STATES)},
    )


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job whose chunks have all ended: what its papers are made of."""

    job_id: UUID
    dataset_id: UUID
    revision: int
    name: str
    state: JobState
    recipe: Recipe
    source: Json
    counts: Json
    error_code: str | None
    planned_rows: int
    destination: str
    endpoint: str | None
    failed_chunks: int


async def to_finish(connection: AsyncConnection) -> list[Finished]:
    """Jobs whose papers are to be written: finishing ones, and cancelled ones whose chunks have all ended."""
    rows = await connection.execute(
        text(f"""
            SELECT jobs.id AS job_id, dataset_id, jobs.revision, name, state, recipe, source, counts, error_code,
                planned_rows, destination, nullif(endpoint, '') AS endpoint,
                (SELECT count(*) FROM chunks WHERE job_id = jobs.id AND state = 'failed') AS failed_chunks
            FROM jobs JOIN datasets ON datasets.id = dataset_id
            WHERE jobs.state = 'finishing' OR (jobs.state = 'cancelling' AND {_IS_DONE})"""),
        {"final": sorted(FINAL_STATES)},
    )
    return [
        Finished(**{**row._mapping, "state": JobState(row.state), "recipe": Recipe.read(row.recipe)}) for row in rows
    ]


async def first_source(connection: AsyncConnection, job_id: UUID) -> SourceRef | None:
    """Where the rows of a job's first chunk lie; all its chunks have the same columns."""
    row = (
        await connection.execute(
            text("SELECT part_key, part_offset, part_length FROM chunks WHERE job_id = :job AND ordinal = 0"),
            {"job": job_id},
        )
    ).first()
    return SourceRef(key=row.part_key, offset=row.part_offset, length=row.part_length) if row else None


async def finish(connection: AsyncConnection, job_id: UUID, *, start: JobState, to: JobState) -> None:
    """The job's last move; who wants to know of it is told."""
    moved = await connection.execute(
        text("""
            UPDATE jobs SET state = :to, finished_at = clock_timestamp(), waiting_for = '', version = version + 1
            WHERE id = :job AND state = :start"""),
        {"job": job_id, "start": start, "to": to},
    )
    if moved.rowcount:
        await deliveries.owe(connection, job_id, to)


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What a dataset holds, over all of its revisions: a row counts as its newest revision has it."""

    revision: int  #: the newest
    rows: int
    accepted: int
    rejected: Mapping[str, int]
    is_growing: bool  #: whether another job than that one is still at it


async def sums(connection: AsyncConnection, dataset_id: UUID, *, but: UUID | None = None) -> Sums:
    """The sums over a dataset's jobs; `but` is the job that does not count as one that is still at it."""
    rows = (
        await connection.execute(
            text("""
                SELECT datasets.revision, next_row, counts, replaced,
                    state <> ALL(:final) AND jobs.id IS DISTINCT FROM CAST(:but AS uuid) AS is_growing
                FROM datasets JOIN jobs ON dataset_id = datasets.id WHERE datasets.id = :dataset"""),
            {"dataset": dataset_id, "but": but, "final": sorted(FINAL_JOB_STATES)},
        )
    ).all()
    rejected: Counter[str] = Counter()
    for row in rows:
        rejected.update({reason: n for reason, n in row.counts["rejected"].items() if reason not in ELSEWHERE})
        rejected.subtract(row.replaced)
    return Sums(
        revision=max((row.revision for row in rows), default=0),
        rows=max((row.next_row for row in rows), default=0),
        accepted=sum(row.counts["accepted"] for row in rows),
        rejected=+rejected,
        is_growing=any(row.is_growing for row in rows),
    )


async def objects_of(connection: AsyncConnection, dataset_id: UUID) -> list[NewObject]:
    """Every recorded object of a dataset, in key order."""
    rows = await connection.execute(
        text("SELECT key, size_bytes, sha256 FROM objects WHERE dataset_id = :dataset ORDER BY key"),
        {"dataset": dataset_id},
    )
    return [NewObject(key=row.key, size_bytes=row.size_bytes, sha256=bytes(row.sha256).hex()) for row in rows]
