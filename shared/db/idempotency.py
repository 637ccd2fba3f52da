"""What was answered to requests that named an idempotency key, so that a repeated one is answered alike.

A row is claimed before the work and holds the answer after it. Who claimed it and died leaves it without an answer;
the same request may take it over after a while.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

#: How long an answer is kept; a key may be used for something else afterwards.
KEEP = timedelta(days=1)
#: A request that has not ended after this has died with its gateway.
LONGEST_REQUEST = timedelta(seconds=60)


class Standing(Enum):
    """What is known of a key."""

    OURS = auto()  #: nobody has used it; it is claimed now
    RUNNING = auto()  #: the first request with it is still being answered
    MISMATCH = auto()  #: it was used for another request
    ANSWERED = auto()


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a key, and the answer if there is one."""

    standing: Standing
    status: int = 0
    response: Mapping[str, Any] | None = None


async def claim(connection: AsyncConnection, tenant_id: UUID, key: str, digest: str) -> Record:
    """Claims a key for a request, or tells what it was used for."""
    place = {"tenant": tenant_id, "key": key, "digest": digest}
    claimed = await connection.scalar(
        text("""
            INSERT INTO idempotency_keys AS known (tenant_id, key, request_digest, created_at)
            VALUES (:tenant, :key, :digest, clock_timestamp())
            ON CONFLICT (tenant_id, key) DO UPDATE
            SET request_digest = excluded.request_digest, created_at = excluded.created_at,
                status = NULL, response = NULL
            WHERE known.created_at < excluded.created_at - CAST(:keep AS interval)
               OR (known.status IS NULL AND known.request_digest = excluded.request_digest
                   AND known.created_at < excluded.created_at - CAST(:longest AS interval))
            RETURNING true"""),
        {**place, "keep": KEEP, "longest": LONGEST_REQUEST},
    )
    if claimed:
        return Record(standing=Standing.OURS)
    found = await connection.execute(
        text("""
            SELECT request_digest, status, response FROM idempotency_keys WHERE tenant_id = :tenant AND key = :key"""),
        {"tenant": tenant_id, "key": key},
    )
    row = found.one_or_none()
    if row is None or (row.status is None and row.request_digest == digest):
        return Record(standing=Standing.RUNNING)  # or it has just been given up, which a repeat finds out
    if row.request_digest != digest:
        return Record(standing=Standing.MISMATCH)
    return Record(standing=Standing.ANSWERED, status=row.status, response=row.response)


async def answer(
    connection: AsyncConnection, tenant_id: UUID, key: str, *, status: int, response: Mapping[str, Any]
) -> None:
    """Keeps the answer to a request that claimed the key."""
    await connection.execute(
        text("""
            UPDATE idempotency_keys SET status = :status, response = CAST(:response AS jsonb)
            WHERE tenant_id = :tenant AND key = :key AND status IS NULL"""),
        {"tenant": tenant_id, "key": key, "status": status, "response": json.dumps(dict(response))},
    )


async def give_up(connection: AsyncConnection, tenant_id: UUID, key: str) -> None:
    """Frees a claimed key: its request was refused and did nothing, so a better one may use it."""
    await connection.execute(
        text("DELETE FROM idempotency_keys WHERE tenant_id = :tenant AND key = :key AND status IS NULL"),
        {"tenant": tenant_id, "key": key},
    )


async def forget(connection: AsyncConnection, *, keep: timedelta = KEEP) -> int:
    """Removes what is older; how many that were."""
    removed = await connection.execute(
        text("DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - CAST(:keep AS interval)"),
        {"keep": keep},
    )
    return removed.rowcount
