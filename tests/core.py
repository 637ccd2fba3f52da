"""Jobs and chunks as rows, made by the product's own statements, for tests of the core.

board = Board(engine)
job = await board.job(chunks=3)
first, *_ = await board.chunks_of(job)
await board.admit(first)
claim = await board.claim(DOWNLOAD, first)
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import Row, text

from scheduler.settings import SchedulerSettings
from shared.capacity import CellReport
from shared.chunk import Claim, StageResult
from shared.db import bells, chunks, lifecycle, slots
from shared.db.bells import Bell
from shared.db.lifecycle import NewChunk
from shared.db.session import Engine, open_engine, transaction
from shared.egress import Egress
from shared.guard import Guard
from shared.messages import Why
from shared.pipeline import FINAL_JOB_STATES, PIPELINE, ChunkState, JobState, Stage, Tier

#: No chunk is held back for lower ones.
NO_HOLD = timedelta(0)
#: Every chunk is held back for lower ones, however long it takes.
LONG_HOLD = timedelta(days=1)
#: A cell with room for every chunk.
ROOMY = CellReport(
    free_bytes=10**12,
    total_bytes=10**12,
    free_inodes=10**9,
    memory_available_bytes=10**11,
    memory_total_bytes=10**11,
)


def _no_such_name(_: str) -> tuple[str, ...]:
    raise OSError("no such name")


#: Asks nobody.
NO_WEB = Egress(Guard(), agent="test/1", lookup=_no_such_name)


def scheduler_settings(database_url: str, redis_url: str, folder: Path, **more: Any) -> SchedulerSettings:
    """Settings of a scheduler whose spool and work area lie in the folder, which may also be stored in."""
    return SchedulerSettings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "spool_url": str(folder / "spool"),
            "work_dir": folder / "work",
            "folder_roots": [folder],
            **more,
        }
    )


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
        job = await self._queued(destination or f"/nowhere/{uuid4()}", recipe, {"key": "lists/none", "digest": ""})
        async with transaction(self.engine) as connection:
            plan = await lifecycle.to_plan(connection, job_id=job)
            assert plan is not None
            planned = [_planned(number, rows=rows, score=score + number) for number in range(chunks)]
            await lifecycle.add_chunks(connection, plan, planned, cursor={"rows": chunks * rows}, is_last=True)
        await self.set_job(job, state)
        return job

    async def submit(self, spool: Path, urls: Sequence[str], destination: Path, *, recipe: str = "{}") -> UUID:
        """A job whose list lies in the spool and is to be planned."""
        key = f"lists/{uuid4()}.txt"
        (spool / "lists").mkdir(parents=True, exist_ok=True)
        (spool / key).write_text("\n".join(urls) + "\n")
        source = {"key": key, "format": "txt", "url_col": "url", "caption_col": None, "save_columns": [], "digest": "1"}
        job = await self._queued(str(destination), recipe, source)
        await self.run("SELECT pg_notify('pixcrawler_jobs', :job)", job=str(job))
        return job

    async def _queued(self, destination: str, recipe: str, source: dict[str, Any]) -> UUID:
        """A job that waits to be planned, whole from the first moment: a scheduler may look at any time."""
        tenant = await self.one("INSERT INTO tenants (name) VALUES (:name) RETURNING id", name=str(uuid4()))
        dataset = await self.one(
            "INSERT INTO datasets (tenant_id, destination, revision) VALUES (:tenant, :place, 0) RETURNING id",
            tenant=tenant,
            place=destination,
        )
        job: UUID = await self.one(
            """INSERT INTO jobs (tenant_id, dataset_id, revision, recipe, source, digest)
               VALUES (:tenant, :dataset, 0, CAST(:recipe AS jsonb), CAST(:source AS jsonb), '') RETURNING id""",
            tenant=tenant,
            dataset=dataset,
            recipe=recipe,
            source=json.dumps(source),
        )
        return job

    async def has_ended(self, job: UUID) -> bool:
        return await self.job_state(job) in FINAL_JOB_STATES

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
