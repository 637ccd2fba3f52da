"""Further revisions of a dataset: jobs that append rows to it, or take rows again: rejected ones, or accepted ones.

One job at a time changes a dataset; who comes second is told which one is at it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import jobs, lifecycle
from shared.pipeline import FINAL_JOB_STATES, FINAL_STATES, JobKind
from shared.reasons import Reason

_FINAL_JOBS = sorted(FINAL_JOB_STATES)


@dataclass(frozen=True, kw_only=True)
class NewRevision:
    """A job that is to change a dataset, checked."""

    tenant_id: UUID
    dataset_id: UUID
    kind: JobKind
    name: str
    recipe: Mapping[str, Any]
    source: Mapping[str, Any]
    #: An unfinished job of the same digest, or one that appended the same list, is that job.
    digest: str
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of a wish to change a dataset."""

    job_id: UUID
    is_new: bool
    #: Whether another job, that one, is changing the dataset; then nothing was made.
    is_busy: bool = False


@dataclass(frozen=True, kw_only=True)
class PastChunk:
    """An ended chunk of an earlier revision, whose index can be read."""

    id: int
    revision: int
    ordinal: int
    round: int


async def add(
    connection: AsyncConnection, new: NewRevision, *, if_new: Callable[[], Awaitable[None]] | None = None
) -> Added | None:
    """Adds the next revision, unless the same one was made before or another job is at it. None: no such dataset.

    `if_new` is awaited before a job is made; what it raises passes.
    """
    locked = await connection.execute(
        text("""
            SELECT revision FROM datasets
            WHERE id = :id AND tenant_id = :tenant AND delete_asked_at IS NULL FOR UPDATE"""),
        {"id": new.dataset_id, "tenant": new.tenant_id},
    )
    if (dataset := locked.first()) is None:
        return None
    standing = await _standing(connection, new)
    if standing is not None:
        return standing
    if if_new is not None:
        await if_new()
    await connection.execute(text("UPDATE datasets SET revision = revision + 1 WHERE id = :id"), {"id": new.dataset_id})
    job_id: UUID = await connection.scalar(
        text("""
            INSERT INTO jobs (tenant_id, dataset_id, revision, kind, name, recipe, source, digest, traceparent)
            VALUES (:tenant, :dataset, :revision, :kind, :name, CAST(:recipe AS jsonb), CAST(:source AS jsonb), :digest,
                    :trace)
            RETURNING id"""),
        {
            "tenant": new.tenant_id,
            "dataset": new.dataset_id,
            "revision": dataset.revision + 1,
            "kind": new.kind,
            "name": new.name,
            "recipe": json.dumps(new.recipe),
            "source": json.dumps(new.source),
            "digest": new.digest,
            "trace": new.traceparent,
        },
    )
    await jobs.tell(connection, job_id)
    return Added(job_id=job_id, is_new=True)


async def _standing(connection: AsyncConnection, new: NewRevision) -> Added | None:
    """The job that stands for this wish, or in its way; None when there is none."""
    found = (
        await connection.execute(
            text("""
                SELECT jobs.id, digest, state = ANY(:final) AS is_final, EXISTS (
                    SELECT FROM chunks WHERE job_id = jobs.id AND chunks.state = 'failed'
                    AND redrive_asked_at IS NOT NULL AND dropped_at IS NULL) AS is_redriven
                FROM jobs WHERE dataset_id = :dataset ORDER BY revision FOR UPDATE OF jobs"""),
            {"dataset": new.dataset_id, "final": _FINAL_JOBS},
        )
    ).all()
    for job in found:
        if job.digest == new.digest and (not job.is_final or new.kind is JobKind.APPEND):
            return Added(job_id=job.id, is_new=False)
    busy = [job.id for job in found if not job.is_final or job.is_redriven]
    return Added(job_id=busy[0], is_new=False, is_busy=True) if busy else None


async def is_left(connection: AsyncConnection, new: NewRevision) -> bool:
    """Whether the dataset has rows that such a revision would take again; new rows there are always."""
    if new.kind not in (JobKind.RETRY, JobKind.REFRESH):
        return True
    sums = await lifecycle.sums(connection, new.dataset_id)
    if new.kind is JobKind.REFRESH:
        return sums.accepted > 0
    return any(sums.rejected.get(reason) for reason in new.source["reasons"])


async def take_over_failed(connection: AsyncConnection, new: NewRevision) -> None:
    """Nobody needs to decide about failed chunks whose rows the revision takes again.

    Those of a refresh lost nothing, and the next refresh fetches their rows; other ones a retry has to ask for.
    """
    takes_lost = Reason.CHUNK_FAILED in new.source.get("reasons", ())
    await connection.execute(
        text("""
            UPDATE chunks SET dropped_at = clock_timestamp() FROM jobs
            WHERE chunks.state = 'failed' AND dropped_at IS NULL AND redrive_asked_at IS NULL
              AND jobs.id = job_id AND dataset_id = :dataset
              AND CASE WHEN jobs.kind = 'refresh' THEN CAST(:is_refresh AS bool) ELSE CAST(:takes_lost AS bool) END"""),
        {"dataset": new.dataset_id, "is_refresh": new.kind is JobKind.REFRESH, "takes_lost": takes_lost},
    )


async def past_chunks(
    connection: AsyncConnection,
    dataset_id: UUID,
    *,
    before: int,
    after: tuple[int, int],
    reasons: Sequence[Reason] | None = None,
    kind: JobKind | None = None,
    with_pictures: bool = False,
    limit: int,
) -> list[PastChunk]:
    """Ended chunks of revisions below `before`, behind a revision and ordinal, in order.

    With `reasons` only those in which rows were rejected for one of them; with `kind` only those of such jobs;
    `with_pictures` only those with accepted rows.
    """
    found = await connection.execute(
        text("""
            SELECT chunks.id, jobs.revision, ordinal, round FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE dataset_id = :dataset AND jobs.revision < :before AND chunks.state = ANY(:ended)
              AND (jobs.revision, ordinal) > (:revision, :ordinal)
              AND (CAST(:reasons AS text[]) IS NULL OR jsonb_exists_any(chunks.counts -> 'rejected', :reasons))
              AND (CAST(:kind AS text) IS NULL OR kind = :kind)
              AND (NOT CAST(:with_pictures AS bool) OR (chunks.counts ->> 'accepted')::bigint > 0)
            ORDER BY jobs.revision, ordinal LIMIT :limit"""),
        {
            "dataset": dataset_id,
            "before": before,
            "ended": sorted(FINAL_STATES),
            "revision": after[0],
            "ordinal": after[1],
            "reasons": None if reasons is None else [str(reason) for reason in reasons],
            "kind": kind,
            "with_pictures": with_pictures,
            "limit": limit,
        },
    )
    return [PastChunk(**row._mapping) for row in found]
