"""Chunks that may have stored something no row of their index names, and that will never store again.

What a chunk stores it stores after it settled its fingerprints, so `is_settled` says that there may be something. It
is taken back when what was there is removed.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.chunk import Claim
from shared.db.chunks import CLAIMED, claim_of
from shared.pipeline import JobState


async def left(connection: AsyncConnection, *, without: Collection[UUID], limit: int) -> list[Claim]:
    """Failed chunks that were dropped, or whose job was cancelled, but for some datasets. A cancelled one is cleared
    while it is closed."""
    found = await connection.execute(
        text(f"""
            {CLAIMED} WHERE chunks.state = 'failed' AND is_settled
              AND (dropped_at IS NOT NULL OR jobs.state = :cancelled) AND jobs.dataset_id <> ALL(:without)
            ORDER BY chunks.id LIMIT :limit"""),
        {"cancelled": JobState.CANCELLED, "without": list(without), "limit": limit},
    )
    return [claim_of(row) for row in found]


async def cleared(connection: AsyncConnection, claim: Claim) -> None:
    """Nothing is left of the chunk but its index."""
    await connection.execute(
        text("UPDATE chunks SET is_settled = false WHERE id = :chunk AND round = :round AND state = 'failed'"),
        {"chunk": claim.chunk_id, "round": claim.round},
    )
