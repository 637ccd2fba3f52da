"""What workers report of their cells, and what the scheduler reads of it."""

from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.capacity import CellReport

_FIELDS = (
    "free_bytes",
    "total_bytes",
    "free_inodes",
    "memory_available_bytes",
    "memory_total_bytes",
    "memory_is_own",
)


async def report(connection: AsyncConnection, cell: str, worker: str, host: str, measured: CellReport) -> None:
    """Stores a worker's newest measurement."""
    await connection.execute(
        text(f"""
            INSERT INTO cells (name, worker, host, {", ".join(_FIELDS)}, seen_at)
            VALUES (:cell, :worker, :host, {", ".join(":" + field for field in _FIELDS)}, clock_timestamp())
            ON CONFLICT (name, worker) DO UPDATE SET seen_at = excluded.seen_at,
                {", ".join(f"{field} = excluded.{field}" for field in _FIELDS)}"""),
        {"cell": cell, "worker": worker, "host": host, **asdict(measured)},
    )


async def withdraw(connection: AsyncConnection, cell: str, worker: str) -> None:
    """Takes a worker out that stops; a killed one grows stale."""
    await connection.execute(
        text("DELETE FROM cells WHERE name = :cell AND worker = :worker"), {"cell": cell, "worker": worker}
    )


async def forget_silent(connection: AsyncConnection, *, after: timedelta = timedelta(hours=1)) -> None:
    """Takes out workers not heard of for that long."""
    await connection.execute(
        text("DELETE FROM cells WHERE seen_at < clock_timestamp() - CAST(:after AS interval)"), {"after": after}
    )


@dataclass(frozen=True, kw_only=True)
class Report:
    """A worker's newest measurement, where it was made, and how old it is."""

    cell: str
    worker: str
    host: str
    measured: CellReport
    age: timedelta

    @property
    def service(self) -> str:
        """The worker's service: its name begins with it."""
        return self.worker.split("-", 1)[0]


async def reports(connection: AsyncConnection) -> list[Report]:
    """The newest measurement of each worker."""
    rows = await connection.execute(text("SELECT *, clock_timestamp() - seen_at AS age FROM cells"))
    return [
        Report(
            cell=row.name,
            worker=row.worker,
            host=row.host,
            measured=CellReport(**{field: getattr(row, field) for field in _FIELDS}),
            age=row.age,
        )
        for row in rows
    ]
