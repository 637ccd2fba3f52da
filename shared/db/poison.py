"""Messages nobody could read, kept for an operator."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LONGEST_BODY = 4096


@dataclass(frozen=True, kw_only=True)
class Poison:
    """A message as it was found in a queue, and what is wrong with it."""

    id: int
    queue: str
    body: str
    error: str
    seen_at: datetime


async def keep(connection: AsyncConnection, *, queue: str, message: object, error: str) -> None:
    """Stores the first 4 KiB of the message and what is wrong with it."""
    body = json.dumps(message, default=repr)[:_LONGEST_BODY].replace("\\u0000", "")
    await connection.execute(
        text("INSERT INTO poison_messages (queue, body, error) VALUES (:queue, :body, :error)"),
        {"queue": queue, "body": body, "error": error[:2000]},
    )


async def newest(connection: AsyncConnection, *, before: int | None, limit: int) -> list[Poison]:
    """Kept messages, newest first, from behind the message `before`."""
    rows = await connection.execute(
        text("""
            SELECT id, queue, body, error, seen_at FROM poison_messages
            WHERE CAST(:before AS bigint) IS NULL OR id < :before ORDER BY id DESC LIMIT :limit"""),
        {"before": before, "limit": limit},
    )
    return [Poison(**row._mapping) for row in rows]


async def remove(connection: AsyncConnection, poison_id: int) -> Poison | None:
    """Forgets a message; what it was. None: there is none of that id."""
    row = (
        await connection.execute(
            text("DELETE FROM poison_messages WHERE id = :id RETURNING id, queue, body, error, seen_at"),
            {"id": poison_id},
        )
    ).first()
    return None if row is None else Poison(**row._mapping)


async def count(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT count(id) FROM poison_messages"))).scalar_one())
