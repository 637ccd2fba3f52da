"""Jobs and chunks as rows, made by the product's own statements, for tests of the core.

board = Board(engine)
job = await board.job(chunks=3)
first, *_ = await board.chunks_of(job)
await board.admit(first)
claim = await board.claim(DOWNLOAD, first)
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import Row, text

from shared.chunk import Claim, StageResult
from shared.db import bells, chunks, lifecycle, slots
from shared.db.bells import Bell
from shared.db.lifecycle import NewChunk
from shared.db.session import Engine, open_engine, transaction
from shared.messages import Why
from shared.pipeline import PIPELINE, ChunkState, JobState, Stage, Tier

#: No chunk is held back for lower ones.
NO_HOLD = timedelta(0)
#: Every chunk is held back for lower ones, however long it takes.
LONG_HOLD = timedelta(days=1)
SOURCE = {"key": "lists/none", "format": "csv", "url_col": "url", "caption_col": None, "save_columns": [], "digest": ""}


@asynccontextmanager
async def board_at(database_url: str, *, connections: int = 5) -> AsyncIterator["Board"]:
    """A board over a migrated database; its engine lives in the running loop."""
    engine = open_engine(SecretStr(database_url), connections=connections)
    try:
        yield Board(engine)
    finally:
        await engine.dispose()


@dataclass
class Board:
    """What a test sets up and looks at."""

    engine: Engine

    async def run(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        """One statement of the test's own; the rows it returns."""
        async with transaction(self.engine) as connection:
            done = await connection.execute(text(statement), values)
            return done.all() if done.returns_rows else []

    async def one(self, statement: str, **values: Any) -> Any:
        """The first value of the first row."""
        return (await self.run(statement, **values))[0][0]

    async def job(
        self,
        *,
        chunks: int = 1,
        rows: int = 4,
        state: JobState = JobState.RUNNING,
        recipe: str = "{}",
        destination: str | None = None,
        score: float = 0.0,
    ) -> UUID:
        """A planned job of that many chunks, in a dataset of its own."""
        tenant = await self.one("INSERT INTO tenants (name) VALUES (:name) RETURNING id", name=str(uuid4()))
        dataset = await self.one(
            "INSERT INTO datasets (tenant_id, destination, revision) VALUES (:tenant, :place, 0) RETURNING id",
            tenant=tenant,
            place=destination or f"/nowhere/{uuid4()}",
        )
        job: UUID = await self.one(
            """INSERT INTO jobs (tenant_id, dataset_id, revision, recipe, source, digest)
               VALUES (:tenant, :dataset, 0, CAST(:recipe AS jsonb), CAST(:source AS jsonb), '') RETURNING id""",
            tenant=tenant,
            dataset=dataset,
            recipe=recipe,
            source='{"key": "lists/none", "digest": ""}',
        )
        async with transaction(self.engine) as connection:
            plan = await lifecycle.to_plan(connection, job_id=job)
            assert plan is not None
            planned = [_planned(number, rows=rows, score=score + number) for number in range(chunks)]
            await lifecycle.add_chunks(connection, plan, planned, cursor={"rows": chunks * rows}, is_last=True)
        await self.set_job(job, state)
        return job

    async def set_job(self, job: UUID, state: JobState) -> None:
        await self.run("UPDATE jobs SET state = :state WHERE id = :job", state=state, job=job)

    async def job_state(self, job: UUID) -> JobState:
        return JobState(await self.one("SELECT state FROM jobs WHERE id = :job", job=job))

    async def chunks_of(self, job: UUID) -> list[int]:
        """The job's chunks, in order."""
        rows = await self.run("SELECT id FROM chunks WHERE job_id = :job ORDER BY ordinal", job=job)
        return [row.id for row in rows]

    async def chunk(self, chunk_id: int) -> Row[Any]:
        return (await self.run("SELECT * FROM chunks WHERE id = :id", id=chunk_id))[0]

    async def state(self, chunk_id: int) -> ChunkState:
        return ChunkState((await self.chunk(chunk_id)).state)

    async def histories(self) -> dict[int, list[tuple[str, str]]]:
        """The committed moves of every chunk, oldest first."""
        found: dict[int, list[tuple[str, str]]] = {}
        for row in await self.run("SELECT chunk_id, from_state, to_state FROM chunk_events ORDER BY id"):
            found.setdefault(row.chunk_id, []).append((row.from_state, row.to_state))
        return found

    async def held_slots(self) -> set[int]:
        return {row.chunk_id for row in await self.run("SELECT chunk_id FROM slots WHERE chunk_id IS NOT NULL")}

    async def admit(self, *chunk_ids: int, cell: str = "main", max_chunks: int = 35) -> list[int]:
        """Lets chunks in; those that were."""
        async with transaction(self.engine) as connection:
            await slots.provide(connection, max_chunks)
            admitted = await slots.admit(connection, chunk_ids, [cell] * len(chunk_ids))
        return sorted(one.chunk_id for one in admitted)

    async def claim(
        self, stage: Stage, chunk_id: int, *, owner: str = "worker", hold: timedelta = NO_HOLD
    ) -> Claim | None:
        async with transaction(self.engine) as connection:
            return await chunks.claim(connection, stage, chunk_id, owner=owner, hold=hold)

    async def advance(self, stage: Stage, claim: Claim, *, passed: int | None = None, **rejected: int) -> None:
        accepted = claim.rows - sum(rejected.values()) if passed is None else passed
        async with transaction(self.engine) as connection:
            await chunks.advance(
                connection, stage, claim, StageResult(passed=accepted, rejected=rejected, size_bytes=7)
            )

    async def claimed(self, stage: Stage, chunk_id: int, *, owner: str = "worker") -> Claim:
        """The chunk brought from `pending` into the stage, and claimed there."""
        await self.admit(chunk_id)
        for before in PIPELINE[: PIPELINE.index(stage)]:
            await self.advance(before, _got(await self.claim(before, chunk_id)))
        return _got(await self.claim(stage, chunk_id, owner=owner))

    async def to_cleaning(self, chunk_id: int, **rejected: int) -> chunks.Ended:
        """The chunk brought through all stages."""
        claim = await self.claimed(PIPELINE[-1], chunk_id)
        await self.advance(PIPELINE[-1], claim, **rejected)
        async with transaction(self.engine) as connection:
            (ended,) = await chunks.ended(connection, chunk_id=chunk_id)
        return ended

    async def close(self, ended: chunks.Ended) -> bool:
        async with transaction(self.engine) as connection:
            return await chunks.close(connection, ended, actor="test")

    async def take_bells(self, *, hold: timedelta = NO_HOLD, job: UUID | None = None) -> list[Bell]:
        async with transaction(self.engine) as connection:
            return await bells.take(connection, hold=hold, why=Why.DISPATCHED, job_id=job)


def _planned(number: int, *, rows: int, score: float) -> NewChunk:
    return NewChunk(
        ordinal=number,
        first_row=number * rows,
        rows=rows,
        part_key="plans/none",
        part_offset=0,
        part_length=0,
        tier=Tier.FREE,
        virtual_start=score,
        score=score,
    )


def _got(claim: Claim | None) -> Claim:
    assert claim is not None, "the chunk was to be had"
    return claim
