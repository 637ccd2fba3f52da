"""The lone scheduler's lease: a row with a holder and a term, on the database's clock.

A transaction of the leader begins by locking the row, so a successor waits for it, and a former leader's
transaction finds the row is not its own and does nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.db.session import transaction
from shared.errors import PixCrawlerError
from shared.pipeline import LEADER_LEASE

_NAME = "scheduler"


class NotLeader(PixCrawlerError):
    """Another scheduler leads."""

    code = "not_leader"


@dataclass(frozen=True, kw_only=True)
class Term:
    """A stretch of leadership."""

    holder: str
    number: int


async def acquire(connection: AsyncConnection, holder: str, *, lease: timedelta = LEADER_LEASE) -> Term | None:
    """Takes or renews the lease; None while another holds it. The term rises when the lease had lapsed."""
    row = (
        await connection.execute(
            text("""
                INSERT INTO leader AS lease (name, holder, term, expires_at)
                VALUES (:name, :holder, 1, clock_timestamp() + CAST(:lease AS interval))
                ON CONFLICT (name) DO UPDATE SET
                    holder = excluded.holder, expires_at = excluded.expires_at,
                    term = lease.term + CASE WHEN lease.holder = excluded.holder
                                              AND lease.expires_at > clock_timestamp() THEN 0 ELSE 1 END
                WHERE lease.holder = excluded.holder OR lease.expires_at < clock_timestamp()
                RETURNING term"""),
            {"name": _NAME, "holder": holder, "lease": lease},
        )
    ).first()
    return Term(holder=holder, number=row.term) if row else None


async def resign(connection: AsyncConnection, term: Term) -> None:
    """Gives the lease up, so that another need not wait for its end."""
    await connection.execute(
        text(
            "UPDATE leader SET expires_at = clock_timestamp() WHERE name = :name AND holder = :holder AND term = :term"
        ),
        {"name": _NAME, "holder": term.holder, "term": term.number},
    )


@asynccontextmanager
async def leading(engine: AsyncEngine, term: Term) -> AsyncIterator[AsyncConnection]:
    """A transaction that only the leader of this term can have. Raises NotLeader."""
    async with transaction(engine) as connection:
        held = await connection.execute(
            text("""
                SELECT 1 FROM leader WHERE name = :name AND holder = :holder AND term = :term
                AND expires_at > clock_timestamp() FOR SHARE"""),
            {"name": _NAME, "holder": term.holder, "term": term.number},
        )
        if held.first() is None:
            raise NotLeader("another scheduler leads")
        yield connection


async def clock(connection: AsyncConnection) -> tuple[float, float]:
    """Now, in seconds since the epoch on the database's clock, and the virtual clock's offset."""
    row = (
        await connection.execute(
            text("""
                SELECT extract(epoch FROM clock_timestamp())::float8 AS now, clock_offset
                FROM leader WHERE name = :name"""),
            {"name": _NAME},
        )
    ).one()
    return row.now, row.clock_offset


async def set_clock(connection: AsyncConnection, term: Term, *, offset: float) -> None:
    """Notes the virtual clock's offset, seconds."""
    await connection.execute(
        text("UPDATE leader SET clock_offset = :offset WHERE name = :name AND term = :term"),
        {"name": _NAME, "term": term.number, "offset": offset},
    )
