"""Admission's statements: slots, what waits, and letting it in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.chunks import ADMISSIBLE
from shared.db.moves import DUE, move
from shared.pipeline import DOWNLOAD, PIPELINE, ChunkState

_READY = sorted(stage.ready for stage in PIPELINE)


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """Chunks of one cell that hold a slot."""

    chunks: int
    not_started: int  #: in a `…_ready` state
    written_bytes: int


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A chunk that was let in."""

    chunk_id: int
    virtual_start: float
    tier: str
    waited_seconds: float  #: since it was planned
    job_id: UUID
    traceparent: str | None


async def provide(connection: AsyncConnection, max_chunks: int) -> None:
    """Makes the number of slots what it should be; a slot that is taken goes when it is free."""
    await connection.execute(
        text("INSERT INTO slots (no) SELECT generate_series(1, CAST(:most AS int)) ON CONFLICT DO NOTHING"),
        {"most": max_chunks},
    )
    await connection.execute(text("DELETE FROM slots WHERE no > :most AND chunk_id IS NULL"), {"most": max_chunks})


async def in_flight(connection: AsyncConnection, *, most_bytes: int) -> dict[str, InFlight]:
    """What holds slots, by cell. A chunk's bytes count up to `most_bytes`, so that none hides the others' needs."""
    rows = await connection.execute(
        text("""
            SELECT coalesce(chunks.cell, '') AS cell, count(*) AS held,
                coalesce(sum(least(work_bytes, :most)), 0)::bigint AS written,
                count(*) FILTER (WHERE state = ANY(:ready)) AS not_started
            FROM slots JOIN chunks ON chunks.id = slots.chunk_id GROUP BY chunks.cell"""),
        {"ready": _READY, "most": most_bytes},
    )
    return {row.cell: InFlight(chunks=row.held, not_started=row.not_started, written_bytes=row.written) for row in rows}


async def counted(connection: AsyncConnection) -> tuple[int, int]:
    """How many slots there are, and how many of them hold a chunk."""
    row = (await connection.execute(text("SELECT count(*) AS slots, count(chunk_id) AS held FROM slots"))).one()
    return row.slots, row.held


@dataclass(frozen=True, kw_only=True)
class Held:
    """A slot that is taken: by which chunk, whose, where, and for how long."""

    no: int
    chunk_id: int
    job_id: UUID
    tenant: str
    tier: str
    state: str
    owner: str | None  #: the worker that has it in hand
    cell: str | None
    attempt: int
    held_seconds: float
    lease_seconds: float | None  #: until its owner counts as lost


async def held(connection: AsyncConnection) -> list[Held]:
    """The slots that are taken, those longest taken first."""
    rows = await connection.execute(
        text("""
            SELECT no, chunks.id AS chunk_id, job_id, tenants.name AS tenant, tier, chunks.state, owner, cell, attempt,
                   coalesce(extract(epoch FROM clock_timestamp() - admitted_at), 0)::float8 AS held_seconds,
                   extract(epoch FROM lease_until - clock_timestamp())::float8 AS lease_seconds
            FROM slots JOIN chunks ON chunks.id = slots.chunk_id JOIN jobs ON jobs.id = job_id
                JOIN tenants ON tenants.id = jobs.tenant_id
            ORDER BY admitted_at, no""")
    )
    return [Held(**row._mapping) for row in rows]


async def recent_work_bytes(connection: AsyncConnection, *, chunks: int = 100) -> list[int]:
    """What the chunks that ended last took on the work volume, bytes."""
    rows = await connection.execute(
        text("SELECT work_bytes FROM chunks WHERE state = 'completed' AND work_bytes > 0 ORDER BY id DESC LIMIT :most"),
        {"most": chunks},
    )
    return list(rows.scalars())


async def next_waiting(connection: AsyncConnection, count: int) -> list[int]:
    """The next chunks by their rows, in the order of the priority set; for when Redis is away."""
    rows = await connection.execute(
        text("""
            SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible)
            ORDER BY score, chunks.id LIMIT :count"""),
        {"admissible": ADMISSIBLE, "count": count},
    )
    return list(rows.scalars())


async def next_start(connection: AsyncConnection) -> float | None:
    """The virtual start of the first waiting chunk; None when none waits."""
    first = await connection.execute(
        text("""
            SELECT virtual_start FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible) ORDER BY score, chunks.id LIMIT 1"""),
        {"admissible": ADMISSIBLE},
    )
    return first.scalar()


async def count_waiting(connection: AsyncConnection) -> int:
    """How many chunks may be admitted."""
    counted = await connection.execute(
        text("""
            SELECT count(*) FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible)"""),
        {"admissible": ADMISSIBLE},
    )
    return int(counted.scalar_one())


async def all_waiting(connection: AsyncConnection) -> dict[int, float]:
    """Every chunk that may be admitted, with its score: what the priority set should hold."""
    rows = await connection.execute(
        text("""
            SELECT chunks.id, score FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible)"""),
        {"admissible": ADMISSIBLE},
    )
    return {row.id: row.score for row in rows}


async def admit(connection: AsyncConnection, wanted: Sequence[int], cells: Sequence[str]) -> list[Admitted]:
    """Lets in the first of the wanted chunks that still wait, one for each cell place, as far as slots are free."""
    waiting = await connection.execute(
        text("""
            SELECT chunks.id FROM unnest(CAST(:wanted AS bigint[])) WITH ORDINALITY AS wanted (id, place)
            JOIN chunks ON chunks.id = wanted.id JOIN jobs ON jobs.id = chunks.job_id
            WHERE chunks.state = 'pending' AND jobs.state = ANY(:admissible)
            ORDER BY wanted.place LIMIT :most FOR UPDATE OF chunks SKIP LOCKED"""),
        {"wanted": list(wanted), "admissible": ADMISSIBLE, "most": len(cells)},
    )
    chosen = list(waiting.scalars())
    free = await connection.execute(
        text("SELECT no FROM slots WHERE chunk_id IS NULL ORDER BY no LIMIT :most FOR UPDATE SKIP LOCKED"),
        {"most": len(chosen)},
    )
    places = list(zip(chosen, free.scalars(), cells, strict=False))
    await _take_slots(connection, {no: chunk for chunk, no, _ in places})
    moved = await move(
        connection,
        start=ChunkState.PENDING,
        to=DOWNLOAD.ready,
        actor="scheduler",
        tables="unnest(CAST(:ids AS bigint[]), CAST(:cells AS text[])) AS admitted (id, cell)",
        where="chunks.id = admitted.id",
        values={"ids": [chunk for chunk, _, _ in places], "cells": [cell for _, _, cell in places]},
        changes=", cell = admitted.cell, admitted_at = clock_timestamp()" + DUE,
    )
    return [
        Admitted(
            chunk_id=row.id,
            virtual_start=row.virtual_start,
            tier=row.tier,
            waited_seconds=max(0.0, (row.admitted_at - row.created_at).total_seconds()),
            job_id=row.job_id,
            traceparent=row.traceparent,
        )
        for row in moved
    ]


async def _take_slots(connection: AsyncConnection, chunk_of: Mapping[int, int]) -> None:
    await connection.execute(
        text("""
            UPDATE slots SET chunk_id = taken.chunk_id
            FROM unnest(CAST(:nos AS int[]), CAST(:chunks AS bigint[])) AS taken (no, chunk_id)
            WHERE slots.no = taken.no"""),
        {"nos": list(chunk_of), "chunks": list(chunk_of.values())},
    )
