"""The calendar: entries, their due runs, and what became of these. The leader plans and carries out; administrators
pause an entry, or wish a run of it.

A due run is a row, unique by entry and due time, made together with a compare-and-set of the entry's last due time:
whoever believes in an older one makes none. An entry has one open run at most.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Json = dict[str, Any]
#: Open runs taken in one look.
_MOST = 20
_LONGEST_ERROR = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is done periodically."""

    name: str
    schedule: Json
    last_due_at: datetime | None  #: None: it never was
    next_due_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A due run that is to be carried out."""

    entry: str
    due_at: datetime
    arguments: Json


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An entry and its newest run, as administrators see it."""

    name: str
    schedule: Json
    is_enabled: bool
    next_due_at: datetime | None  #: None while it is paused, or before a scheduler has looked at it
    last_due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    is_open: bool  #: whether a run waits or is being carried out


async def provide(connection: AsyncConnection, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Makes the entries of the house, by name with their schedules, what they should be; a paused one stays paused.

    Rows are locked in the order of their names, as by all who plan.
    """
    names = sorted(entries)
    await connection.execute(
        text("""
            INSERT INTO calendar AS kept (name, schedule, arguments)
            SELECT name, CAST(schedule AS jsonb), '{"of": "house"}'
            FROM unnest(CAST(:names AS text[]), CAST(:schedules AS text[])) AS wanted (name, schedule)
            ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, arguments = excluded.arguments
            WHERE kept.schedule <> excluded.schedule"""),
        {"names": names, "schedules": [json.dumps(dict(entries[name])) for name in names]},
    )
    await connection.execute(
        text("DELETE FROM calendar WHERE arguments ->> 'of' = 'house' AND name <> ALL(:names)"),
        {"names": names},
    )


async def entries(connection: AsyncConnection) -> tuple[datetime, list[Entry]]:
    """Now by the database's clock, and the entries that are neither paused nor waiting for a run to end."""
    rows = (
        await connection.execute(
            text("""
                SELECT clock.now, name, schedule, last_due_at, next_due_at
                FROM (SELECT clock_timestamp() AS now) AS clock LEFT JOIN calendar ON is_enabled AND NOT EXISTS (
                    SELECT FROM calendar_runs WHERE entry = name AND finished_at IS NULL)
                ORDER BY name""")
        )
    ).all()
    found = [
        Entry(name=row.name, schedule=row.schedule, last_due_at=row.last_due_at, next_due_at=row.next_due_at)
        for row in rows
        if row.name is not None
    ]
    return rows[0].now, found


async def claim(connection: AsyncConnection, entry: Entry, *, due_at: datetime, next_due_at: datetime) -> bool:
    """Makes the due run of an entry. False: another has made it, or the entry was paused or removed meanwhile."""
    made = await connection.execute(
        text("""
            WITH claimed AS (
                UPDATE calendar SET last_due_at = :due, next_due_at = :next
                WHERE name = :name AND is_enabled AND last_due_at IS NOT DISTINCT FROM CAST(:believed AS timestamptz)
                RETURNING name)
            INSERT INTO calendar_runs (entry, due_at) SELECT name, :due FROM claimed
            ON CONFLICT DO NOTHING"""),
        {"name": entry.name, "believed": entry.last_due_at, "due": due_at, "next": next_due_at},
    )
    return made.rowcount > 0


async def note_next(connection: AsyncConnection, entry: Entry, next_due_at: datetime) -> None:
    """Says when an entry is due, for people."""
    await connection.execute(
        text("UPDATE calendar SET next_due_at = :next WHERE name = :name AND is_enabled"),
        {"name": entry.name, "next": next_due_at},
    )


async def open_runs(connection: AsyncConnection) -> list[Run]:
    """Runs that are due and have not ended, oldest first; also those that a former leader began."""
    rows = await connection.execute(
        text("""
            SELECT entry, due_at, arguments FROM calendar_runs JOIN calendar ON name = entry
            WHERE finished_at IS NULL ORDER BY due_at, entry LIMIT :most"""),
        {"most": _MOST},
    )
    return [Run(**row._mapping) for row in rows]


async def begin(connection: AsyncConnection, run: Run) -> bool:
    """Notes that a run is being carried out. False: it has ended already."""
    begun = await connection.execute(
        text("""
            UPDATE calendar_runs SET started_at = clock_timestamp()
            WHERE entry = :entry AND due_at = :due AND finished_at IS NULL"""),
        {"entry": run.entry, "due": run.due_at},
    )
    return begun.rowcount > 0


async def finish(connection: AsyncConnection, run: Run, *, error: str | None = None) -> None:
    """Ends a run, well or with an error."""
    await connection.execute(
        text("""
            UPDATE calendar_runs SET finished_at = clock_timestamp(), error = :error
            WHERE entry = :entry AND due_at = :due AND finished_at IS NULL"""),
        {"entry": run.entry, "due": run.due_at, "error": None if error is None else error[:_LONGEST_ERROR]},
    )


async def remember(connection: AsyncConnection, name: str, arguments: Mapping[str, Any]) -> None:
    """Adds to what an entry's next run is told."""
    await connection.execute(
        text("UPDATE calendar SET arguments = arguments || CAST(:more AS jsonb) WHERE name = :name"),
        {"name": name, "more": json.dumps(dict(arguments))},
    )


async def forget_runs(connection: AsyncConnection, *, keep: timedelta) -> int:
    """Forgets runs that ended so long ago; how many."""
    gone = await connection.execute(
        text("DELETE FROM calendar_runs WHERE finished_at < clock_timestamp() - CAST(:keep AS interval)"),
        {"keep": keep},
    )
    return gone.rowcount


_LISTED = """
    SELECT name, schedule, is_enabled, last_due_at, CASE WHEN is_enabled THEN next_due_at END AS next_due_at,
           run.started_at, run.finished_at, run.error, run.entry IS NOT NULL AND run.finished_at IS NULL AS is_open
    FROM calendar LEFT JOIN LATERAL (
        SELECT * FROM calendar_runs WHERE entry = name ORDER BY due_at DESC LIMIT 1) AS run ON true"""


async def listed(connection: AsyncConnection) -> list[Listed]:
    """All entries, by name."""
    rows = await connection.execute(text(f"{_LISTED} ORDER BY name"))
    return [Listed(**row._mapping) for row in rows]


async def get(connection: AsyncConnection, name: str) -> Listed | None:
    """The entry of that name."""
    row = (await connection.execute(text(f"{_LISTED} WHERE name = :name"), {"name": name})).first()
    return None if row is None else Listed(**row._mapping)


async def set_enabled(connection: AsyncConnection, name: str, *, is_enabled: bool) -> None:
    """Lets an entry rest, or go on; a run that is open is carried out all the same."""
    await connection.execute(
        text("UPDATE calendar SET is_enabled = :enabled WHERE name = :name"), {"name": name, "enabled": is_enabled}
    )


async def ask_run(connection: AsyncConnection, name: str) -> bool:
    """Wishes a run of an entry now, paused or not. False: one is open already, and will do."""
    asked = await connection.execute(
        text("""
            INSERT INTO calendar_runs (entry, due_at) SELECT name, clock_timestamp() FROM calendar
            WHERE name = :name
              AND NOT EXISTS (SELECT FROM calendar_runs WHERE entry = :name AND finished_at IS NULL)"""),
        {"name": name},
    )
    return asked.rowcount > 0
