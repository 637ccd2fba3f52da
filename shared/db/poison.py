"""Messages nobody could read, kept for an operator."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LONGEST_BODY = 4096


async def keep(connection: AsyncConnection, *, queue: str, message: object, error: str) -> None:
    """Stores the first 4 KiB of the message and what is wrong with it."""
    body = json.dumps(message, default=repr)[:_LONGEST_BODY].replace("\\u0000", "")
    await connection.execute(
        text("INSERT INTO poison_messages (queue, body, error) VALUES (:queue, :body, :error)"),
        {"queue": queue, "body": body, "error": error[:2000]},
    )
