"""The only writer of a chunk's state.

Every move names the state it starts from, and a worker's moves also name its fence; the history is written
in the same statement. A move that finds nothing moves nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import ALLOWED_MOVES, ChunkState

#: Assignments that make a chunk nobody's.
RELEASED = ", owner = NULL, lease_until = NULL"
#: Assignments that make its bell due.
DUE = ", ready_at = clock_timestamp(), dispatched_at = NULL, rings = 0"
#: What a chunk forgets when it begins anew.
ANEW = """, work_fence = NULL, cell = NULL, attempt = 0, crashes = 0, restarts = restarts + 1, not_before = NULL,
    dispatched_at = NULL, rings = 0, work_bytes = 0, progress = '{}', counts = '{"accepted": 0, "rejected": {}}'"""

_LONGEST_ERROR = 2000


async def move(
    connection: AsyncConnection,
    *,
    start: ChunkState,
    to: ChunkState,
    actor: str,
    where: str,
    values: Mapping[str, Any],
    changes: str = "",
    tables: str = "",
    returning: str = "",
    error_code: str | None = None,
    error: str | None = None,
    keeps_error: bool = False,
) -> Sequence[Row[Any]]:
    """Moves all chunks in state `start` that meet `where`; returns the moved rows (and `returning`).

    `changes` are further assignments, `tables` further tables that `where` joins. An assertion refuses a
    move that `shared/pipeline.py` does not allow.
    """
    assert to in ALLOWED_MOVES[start], f"{start} to {to} is no legal move"
    told = "" if keeps_error else ", error_code = :error_code, error = :error"
    moved = await connection.execute(
        text(f"""
            WITH moved AS (
                UPDATE chunks SET state = :to {told} {changes}
                {"FROM " + tables if tables else ""}
                WHERE chunks.state = :start AND {where}
                RETURNING chunks.* {returning}),
            history AS (
                INSERT INTO chunk_events (chunk_id, fence, from_state, to_state, actor, error_code, error)
                SELECT id, fence, :start, :to, :actor, :error_code, :error FROM moved)
            SELECT * FROM moved"""),
        {
            "start": start,
            "to": to,
            "actor": actor,
            "error_code": error_code,
            "error": error[:_LONGEST_ERROR] if error else None,
            **values,
        },
    )
    return moved.all()
