"""One poll for all streams."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from gateway.watch import Figures, JobWatch
from shared.db.jobs import JobRow
from shared.errors import DatabaseUnavailable
from shared.pipeline import JobState
from tests.unit.gateway.test_view import JOB

LIMIT_SECONDS = 5
BASE = "http://x"


class Rows:
    """Stands for the database: answers what it was given, and keeps what it was asked."""

    def __init__(self, *rows: JobRow) -> None:
        self.rows = {row.id: row for row in rows}
        self.asked: list[list[UUID]] = []
        self.failures = 0
        self._rounds: asyncio.Queue[None] = asyncio.Queue()

    async def rounds(self, count: int) -> None:
        """Returns when that many more questions were asked."""
        while not self._rounds.empty():
            self._rounds.get_nowait()
        for _ in range(count):
            await self._rounds.get()

    async def read(self, job_ids: Sequence[UUID]) -> list[Figures]:
        self.asked.append(list(job_ids))
        self._rounds.put_nowait(None)
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable("away")
        return [Figures(job=self.rows[job_id]) for job_id in job_ids if job_id in self.rows]


@asynccontextmanager
async def running(rows: Rows) -> AsyncIterator[JobWatch]:
    watch = JobWatch(rows.read, interval_seconds=0.001)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_streams_of_one_job_share_one_question() -> None:
    rows = Rows(JOB)

    async with running(rows) as watch:
        with watch.subscribed(JOB.id, BASE) as first, watch.subscribed(JOB.id, BASE) as second:
            shown = await asyncio.wait_for(asyncio.gather(first.next(), second.next()), LIMIT_SECONDS)

    assert [view.id for view in shown] == [JOB.id, JOB.id]
    assert rows.asked[0] == [JOB.id]


async def test_each_stream_hears_of_its_own_job() -> None:
    other = replace(JOB, id=uuid4(), name="dogs")

    async with running(Rows(JOB, other)) as watch:
        with watch.subscribed(JOB.id, BASE) as ours, watch.subscribed(other.id, BASE) as theirs:
            names = [(await asyncio.wait_for(stream.next(), LIMIT_SECONDS)).name for stream in (ours, theirs)]

    assert names == ["cats", "dogs"]


async def test_a_stream_wakes_for_changes_only_and_misses_no_last_one() -> None:
    rows = Rows(JOB)

    async with running(rows) as watch:
        with watch.subscribed(JOB.id, BASE) as stream:
            await asyncio.wait_for(stream.next(), LIMIT_SECONDS)
            waiting = asyncio.create_task(stream.next())
            await asyncio.wait_for(rows.rounds(3), LIMIT_SECONDS)
            was_quiet = not waiting.done()
            rows.rows[JOB.id] = replace(JOB, state=JobState.COMPLETED, accepted=990)
            last = await asyncio.wait_for(waiting, LIMIT_SECONDS)

    assert was_quiet
    assert (last.state, last.accepted) == (JobState.COMPLETED, 990)


async def test_an_unavailable_database_costs_a_round_and_no_stream() -> None:
    rows = Rows(JOB)
    rows.failures = 2

    async with running(rows) as watch:
        with watch.subscribed(JOB.id, BASE) as stream:
            shown = await asyncio.wait_for(stream.next(), LIMIT_SECONDS)

    assert shown.id == JOB.id
    assert len(rows.asked) >= 3


async def test_nobody_is_asked_while_nobody_looks() -> None:
    rows = Rows(JOB)

    async with running(rows) as watch:
        with watch.subscribed(JOB.id, BASE) as stream:
            await asyncio.wait_for(stream.next(), LIMIT_SECONDS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rows.rounds(2), 0.1)  # a hundred rounds' time; one may be under way

    assert watch.streams == 0
    assert [] not in rows.asked
