"""Who still needs what lies in the spool: lists by their keys, plans by their jobs."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import FINAL_JOB_STATES

_FINAL = sorted(FINAL_JOB_STATES)
#: A job that goes on, or ended a shorter while ago than `:keep`.
_NEEDS_IT = "(state <> ALL(:final) OR coalesce(finished_at, created_at) > clock_timestamp() - CAST(:keep AS interval))"


async def forget_uploads(
    connection: AsyncConnection, *, keep: timedelta, keep_unfinished: timedelta, limit: int = 1_000
) -> int:
    """Forgets uploaded lists that no job has needed for so long, and uploads that were begun that long ago."""
    gone = await connection.execute(
        text(f"""
            DELETE FROM uploads WHERE id IN (
                SELECT id FROM uploads WHERE
                    created_at < clock_timestamp() - CASE WHEN is_complete
                        THEN CAST(:keep AS interval) ELSE CAST(:keep_unfinished AS interval) END
                    AND NOT EXISTS (SELECT FROM jobs WHERE source->>'key' = uploads.key AND {_NEEDS_IT})
                LIMIT :limit)"""),
        {"keep": keep, "keep_unfinished": keep_unfinished, "final": _FINAL, "limit": limit},
    )
    return gone.rowcount


async def lists_in_use(connection: AsyncConnection, keys: Sequence[str], *, keep: timedelta) -> dict[str, bool]:
    """Of those keys that anybody names, whether an upload does, or a job that goes on or ended lately."""
    found = await connection.execute(
        text(f"""
            SELECT key, bool_or(is_needed) AS is_needed FROM (
                SELECT key, true AS is_needed FROM uploads WHERE key = ANY(:keys)
                UNION ALL
                SELECT source->>'key', {_NEEDS_IT} FROM jobs WHERE source->>'key' = ANY(:keys)
            ) AS uses GROUP BY key"""),
        {"keys": list(keys), "keep": keep, "final": _FINAL},
    )
    return {row.key: row.is_needed for row in found}


async def needed_plans(connection: AsyncConnection, jobs: Sequence[UUID], *, keep: timedelta) -> set[UUID]:
    """Those of the jobs that go on or ended lately; one that is unknown does neither."""
    found = await connection.execute(
        text(f"SELECT id FROM jobs WHERE id = ANY(:jobs) AND {_NEEDS_IT}"),
        {"jobs": list(jobs), "keep": keep, "final": _FINAL},
    )
    return {row.id for row in found}
