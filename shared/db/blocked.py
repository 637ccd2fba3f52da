"""The takedown list: entries come, are shown and are lifted; workers keep a copy."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.blocklist import Blocklist, Kind, LiveBlocklist, Version
from shared.db.session import Engine, transaction

#: Ids are never used again, so a list that has changed has another one of these.
_VERSION = text("SELECT count(*), coalesce(max(id), 0), coalesce(sum(id), 0) FROM blocked")


@dataclass(frozen=True, kw_only=True)
class Takedown:
    """An entry, its value in the one spelling of `blocklist.normalised`."""

    id: int
    kind: Kind
    value: str
    note: str
    created_at: datetime
    purge: bool  #: whether what is stored already is to go too
    purged_at: datetime | None  #: when nothing of it was left


_ENTRY = "SELECT id, kind, value, note, created_at, purge_no IS NOT NULL AS purge, purged_at FROM blocked"


async def add(connection: AsyncConnection, *, kind: Kind, value: str, note: str) -> tuple[Takedown, bool]:
    """The entry of that normalised value, and whether it is new; an old one keeps its note."""
    made = await connection.execute(
        text("""
            INSERT INTO blocked (kind, value, note) VALUES (:kind, :value, :note)
            ON CONFLICT (kind, value) DO NOTHING"""),
        {"kind": kind, "value": value, "note": note},
    )
    found = await connection.execute(
        text(f"{_ENTRY} WHERE kind = :kind AND value = :value"), {"kind": kind, "value": value}
    )
    return _takedown(found.one()), made.rowcount > 0


async def newest(connection: AsyncConnection, *, kind: Kind | None, before: int | None, limit: int) -> list[Takedown]:
    """Entries, the newest first; `before` is the id behind which to go on."""
    found = await connection.execute(
        text(f"""
            {_ENTRY} WHERE (CAST(:kind AS text) IS NULL OR kind = :kind)
              AND (CAST(:before AS bigint) IS NULL OR id < :before)
            ORDER BY id DESC LIMIT :limit"""),
        {"kind": kind, "before": before, "limit": limit},
    )
    return [_takedown(row) for row in found]


async def get(connection: AsyncConnection, takedown_id: int) -> Takedown | None:
    """The entry of that id; None when there is none."""
    found = await connection.execute(text(f"{_ENTRY} WHERE id = :id"), {"id": takedown_id})
    row = found.one_or_none()
    return None if row is None else _takedown(row)


async def remove(connection: AsyncConnection, takedown_id: int) -> None:
    """Lifts a takedown; no error when there is none of that id."""
    await connection.execute(text("DELETE FROM blocked WHERE id = :id"), {"id": takedown_id})


def live(engine: Engine) -> LiveBlocklist:
    """The list as a worker keeps it."""

    async def read(known: Version | None) -> tuple[Version, Blocklist] | None:
        async with transaction(engine) as connection:
            version = tuple(int(part) for part in (await connection.execute(_VERSION)).one())
            if version == known:
                return None
            entries = await connection.execute(text("SELECT kind, value FROM blocked"))
            found = [(Kind(kind), value) for kind, value in entries]
        return version, await asyncio.to_thread(Blocklist, found)  # 100,000 entries take a while

    return LiveBlocklist(read)


def _takedown(row: Row[Any]) -> Takedown:
    columns = row._asdict()
    return Takedown(**{**columns, "kind": Kind(columns["kind"])})
