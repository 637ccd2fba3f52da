"""The lone scheduler's lease: a row with a holder and a term, on the database's clock.

A transaction of the leader begins by locking the row, so a successor waits for it, and a former leader's
transaction finds the row is not its own and does nothing.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
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
    """Renews the lease, or takes it when it has lapsed; None while another holds it. The term rises when it is taken.

    A renewal waits for nobody; who takes the lease waits until the former leader's open transactions have ended.
    """
    values = {"name": _NAME, "holder": holder, "lease": lease}
    renewed = await connection.execute(
        text("""
            UPDATE leader SET expires_at = clock_timestamp() + CAST(:lease AS interval)
            WHERE name = :name AND holder = :holder AND expires_at > clock_timestamp() RETURNING term"""),
        values,
    )
    if (row := renewed.first()) is None:
        row = await _take(connection, values)
    return Term(holder=holder, number=row.term) if row else None


async def _take(connection: AsyncConnection, values: Mapping[str, Any]) -> Row[Any] | None:
    # Alone it would not wait for FOR KEY SHARE, which an update of other columns than the key passes by.
    await connection.execute(
        text("SELECT FROM leader WHERE name = :name AND expires_at < clock_timestamp() FOR UPDATE"), values
    )
    taken = await connection.execute(
        text("""
            INSERT INTO leader AS lease (name, holder, term, expires_at)
            VALUES (:name, :holder, 1, clock_timestamp() + CAST(:lease AS interval))
            ON CONFLICT (name) DO UPDATE SET
                holder = excluded.holder, expires_at = excluded.expires_at, term = lease.term + 1
            WHERE lease.expires_at < clock_timestamp()
            RETURNING term"""),
        values,
    )
    return taken.first()


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
                AND expires_at > clock_timestamp() FOR KEY SHARE"""),
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


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a leader last told of itself."""

    figures: Mapping[str, Any]
    at: datetime | None
    is_led: bool  #: whether anybody leads now


async def tell(connection: AsyncConnection, term: Term, figures: Mapping[str, Any]) -> None:
    """Writes down what only the leader knows, for those who ask the gateway."""
    await connection.execute(
        text("""
            UPDATE leader SET figures = CAST(:figures AS jsonb), figures_at = clock_timestamp()
            WHERE name = :name AND term = :term"""),
        {"name": _NAME, "term": term.number, "figures": json.dumps(dict(figures))},
    )


async def told(connection: AsyncConnection) -> Told:
    """What the leader last told; also when it is gone."""
    row = (
        await connection.execute(
            text("SELECT figures, figures_at, expires_at > clock_timestamp() AS is_led FROM leader WHERE name = :name"),
            {"name": _NAME},
        )
    ).first()
    if row is None:
        return Told(figures={}, at=None, is_led=False)
    return Told(figures=row.figures, at=row.figures_at, is_led=row.is_led)
