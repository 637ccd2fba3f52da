"""Stray objects: what a chunk that is complete made, and its index does not name.

Nobody writes for such a chunk any more, but for a worker that was frozen in the middle of it, and a purge. So an object
counts as stray when it is seen, and as one that may go when it still is after some days, no purge having begun.
"""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.chunk import Claim
from shared.db.chunks import CLAIMED, claim_of

_AT_REST = "chunks.state = 'completed' AND purged_to >= 0"


async def at_rest(connection: AsyncConnection, *, after: int, ended_for: timedelta, limit: int) -> list[Claim]:
    """Complete chunks behind the id `after` that ended so long ago, in order, but of datasets that are deleted."""
    found = await connection.execute(
        text(f"""
            {CLAIMED} WHERE chunks.id > :after AND {_AT_REST} AND ended_at < clock_timestamp() - CAST(:age AS interval)
              AND datasets.delete_asked_at IS NULL
            ORDER BY chunks.id LIMIT :limit"""),
        {"after": after, "age": ended_for, "limit": limit},
    )
    return [claim_of(row) for row in found]


async def note(connection: AsyncConnection, claim: Claim, found: Mapping[str, int]) -> int:
    """Remembers a chunk's strays with their sizes, and forgets what is none any more; how many are new.

    What the dataset's papers name is no stray.
    """
    await connection.execute(
        text("DELETE FROM strays WHERE chunk_id = :chunk AND key <> ALL(:keys)"),
        {"chunk": claim.chunk_id, "keys": list(found)},
    )
    if not found:
        return 0
    noted = await connection.execute(
        text("""
            INSERT INTO strays (chunk_id, key, size_bytes)
            SELECT :chunk, key, size FROM unnest(CAST(:keys AS text[]), CAST(:sizes AS bigint[])) AS found (key, size)
            WHERE NOT EXISTS (SELECT FROM objects WHERE objects.chunk_id = :chunk AND objects.key = found.key)
            ON CONFLICT DO NOTHING"""),
        {"chunk": claim.chunk_id, "keys": list(found), "sizes": list(found.values())},
    )
    return noted.rowcount


async def removable(connection: AsyncConnection, claim: Claim, *, seen_for: timedelta) -> list[str]:
    """The chunk's strays that were seen so long ago; none while a purge is at the chunk or about to be."""
    found = await connection.execute(
        text(f"""
            SELECT key FROM strays JOIN chunks ON chunks.id = chunk_id
            WHERE chunk_id = :chunk AND seen_at < clock_timestamp() - CAST(:age AS interval) AND {_AT_REST}
              AND NOT EXISTS (SELECT FROM blocked WHERE purge_no IS NOT NULL AND purged_at IS NULL)
            ORDER BY key"""),
        {"chunk": claim.chunk_id, "age": seen_for},
    )
    return list(found.scalars())


async def forget(connection: AsyncConnection, claim: Claim, keys: list[str]) -> None:
    """These were removed."""
    await connection.execute(
        text("DELETE FROM strays WHERE chunk_id = :chunk AND key = ANY(:keys)"),
        {"chunk": claim.chunk_id, "keys": keys},
    )
