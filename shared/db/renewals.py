"""What a refresh has found out about the rows of earlier chunks, and is not in their indexes yet.

A refreshed chunk names the one whose rows it fetched again. Once it has ended, the leading scheduler brings the other
one's index up to date, and says here that it did; the job does not end before.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.chunk import Claim
from shared.db import chunks, purges
from shared.db.purges import Remainder
from shared.pipeline import FINAL_STATES, JobState

_FINAL = sorted(FINAL_STATES)


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """An ended chunk of a refresh, and the chunk whose rows it fetched again."""

    by: Claim
    of: Claim
    is_withdrawn: bool = False  #: whether the refresh is being cancelled


async def due(connection: AsyncConnection, *, without: Collection[UUID], limit: int) -> list[Renewal]:
    """Renewals that nobody has carried out, but for some datasets."""
    found = await connection.execute(
        text(f"""
            {chunks.CLAIMED} WHERE renews IS NOT NULL AND renewed_at IS NULL AND chunks.state = ANY(:final)
              AND jobs.dataset_id <> ALL(:without) AND datasets.delete_asked_at IS NULL
            ORDER BY chunks.id LIMIT :limit"""),
        {"final": _FINAL, "without": list(without), "limit": limit},
    )
    fetched = {row.renews: row for row in found}
    if not fetched:
        return []
    earlier = await connection.execute(
        text(f"{chunks.CLAIMED} WHERE chunks.id = ANY(:ids) ORDER BY chunks.id"), {"ids": list(fetched)}
    )
    return [
        Renewal(
            by=chunks.claim_of(fetched[row.id]),
            of=chunks.claim_of(row),
            is_withdrawn=fetched[row.id].job_state == JobState.CANCELLING,
        )
        for row in earlier
    ]


async def conclude(connection: AsyncConnection, renewal: Renewal, left: Remainder | None) -> bool:
    """Says that a renewal is carried out, and counts what is left of the earlier chunk; None: it has not changed.

    False: it was done already.
    """
    marked = await connection.execute(
        text("""
            UPDATE chunks SET renewed_at = clock_timestamp()
            WHERE id = :id AND renewed_at IS NULL AND round = :round AND state = ANY(:final)"""),
        {"id": renewal.by.chunk_id, "round": renewal.by.round, "final": _FINAL},
    )
    if marked.rowcount and left is not None:
        await purges.count_remainder(connection, renewal.of, left)
        await connection.execute(
            text("UPDATE chunks SET edits = edits + 1 WHERE id = :id"), {"id": renewal.of.chunk_id}
        )
    if marked.rowcount:
        await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'chunk_renewed')"))
    return marked.rowcount > 0
