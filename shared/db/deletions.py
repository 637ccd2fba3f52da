"""Datasets that their clients wish gone: asked for by the gateway, carried out by the scheduler.

From the wish on no client sees the dataset's jobs; its destination stays taken until it is empty.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import FINAL_JOB_STATES

_FINAL = sorted(FINAL_JOB_STATES)


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """A dataset to be deleted."""

    dataset_id: UUID
    destination: str
    endpoint: str | None


async def ask(connection: AsyncConnection, tenant_id: UUID, dataset_id: UUID) -> UUID | None:
    """Wishes a dataset gone. Returns a job of it that has not ended, in which case nothing was done."""
    await connection.execute(
        text("SELECT FROM datasets WHERE id = :id AND tenant_id = :tenant FOR UPDATE"),
        {"id": dataset_id, "tenant": tenant_id},
    )
    busy: UUID | None = (
        await connection.execute(
            text("""
                SELECT jobs.id FROM jobs WHERE dataset_id = :id AND (state <> ALL(:final) OR EXISTS (
                    SELECT FROM chunks WHERE job_id = jobs.id AND chunks.state = 'failed'
                    AND redrive_asked_at IS NOT NULL AND dropped_at IS NULL)) LIMIT 1 FOR UPDATE OF jobs"""),
            {"id": dataset_id, "final": _FINAL},
        )
    ).scalar()
    if busy is None:
        await connection.execute(
            text("""
                UPDATE datasets SET delete_asked_at = coalesce(delete_asked_at, clock_timestamp())
                WHERE id = :id AND tenant_id = :tenant"""),
            {"id": dataset_id, "tenant": tenant_id},
        )
        await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'delete_asked')"))
    return busy


async def next_doomed(connection: AsyncConnection, *, without: Collection[UUID]) -> Doomed | None:
    """The dataset that has waited longest for its deletion, but for some."""
    row = (
        await connection.execute(
            text("""
                SELECT id AS dataset_id, destination, nullif(endpoint, '') AS endpoint FROM datasets
                WHERE delete_asked_at IS NOT NULL AND id <> ALL(:without) ORDER BY delete_asked_at LIMIT 1"""),
            {"without": list(without)},
        )
    ).first()
    return None if row is None else Doomed(**row._mapping)


async def forget(connection: AsyncConnection, dataset_id: UUID) -> None:
    """Removes the rows of a dataset whose destination is empty, and uploads of lists that only its jobs name."""
    values = {"id": dataset_id}
    await connection.execute(
        text("""
            DELETE FROM uploads WHERE key IN (SELECT source ->> 'key' FROM jobs WHERE dataset_id = :id)
              AND NOT EXISTS (SELECT FROM jobs WHERE source ->> 'key' = uploads.key AND dataset_id <> :id)"""),
        values,
    )
    await connection.execute(text("DELETE FROM jobs WHERE dataset_id = :id"), values)
    await connection.execute(text("DELETE FROM datasets WHERE id = :id"), values)
