"""What goes from the spool, and what stays: lists and plans of jobs that ended long ago, and of nobody."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from scheduler.housekeeping import Tidied, tidy_spool
from shared.pipeline import FINAL_JOB_STATES, JobState
from shared.resources import Resources, open_resources
from shared.spool import list_key, plan_key
from tests.core import Board, board_at, scheduler_settings

KEEP = timedelta(days=30)


class Spool:
    """A spool in which a test lays lists and plans, and the jobs and uploads that name them."""

    def __init__(self, board: Board, resources: Resources) -> None:
        self._board = board
        self._resources = resources

    async def put(self, key: str) -> str:
        await self._resources.spool.create(key, b"x", content_type="text/plain", sha256="")
        return key

    async def list_of_nobody(self) -> str:
        return await self.put(list_key(uuid4(), "ab" * 32))

    async def job(self, state: JobState, *, ended_days_ago: float = 0, key: str | None = None) -> tuple[UUID, set[str]]:
        """A job with its list and its plan."""
        key = key or await self.list_of_nobody()
        job = await self._board.job(state=state)
        await self._board.run(
            """UPDATE jobs SET source = jsonb_build_object('key', CAST(:key AS text)),
                   created_at = now() - interval '400 days',
                   finished_at = CASE WHEN :ended THEN now() - make_interval(secs => 86400 * :days) END
               WHERE id = :job""",
            job=job,
            key=key,
            ended=state in FINAL_JOB_STATES,
            days=ended_days_ago,
        )
        return job, {key, await self.put(plan_key(job, 0)), await self.put(plan_key(job, 4))}

    async def upload(self, *, days_ago: float, is_complete: bool = True) -> str:
        key = await self.list_of_nobody()
        await self._board.run(
            """INSERT INTO uploads (tenant_id, filename, key, is_complete, created_at)
               SELECT id, 'a.txt', :key, :is_complete, now() - make_interval(secs => 86400 * :days)
               FROM tenants LIMIT 1""",
            key=key,
            is_complete=is_complete,
            days=days_ago,
        )
        return key

    async def holds(self) -> set[str]:
        return {found.key async for found in self._resources.spool.list("")}

    async def tidied(self, suspects: frozenset[str] = frozenset()) -> Tidied:
        return await tidy_spool(self._resources, keep=KEEP, suspects=suspects)

    async def tidied_twice(self) -> None:
        await self.tidied((await self.tidied()).suspects)


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def spool(board: Board, database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Spool]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as resources:
        yield Spool(board, resources)


@pytest.mark.parametrize("state", sorted(FINAL_JOB_STATES))
async def test_lists_and_plans_of_jobs_that_ended_long_ago_go(spool: Spool, state: JobState) -> None:
    await spool.job(state, ended_days_ago=31)

    await spool.tidied()

    assert await spool.holds() == set()


@pytest.mark.parametrize(
    ("state", "ended_days_ago"), [(JobState.RUNNING, 0), (JobState.PAUSED, 0), (JobState.COMPLETED, 29)]
)
async def test_those_of_jobs_that_go_on_or_ended_lately_stay(
    spool: Spool, state: JobState, ended_days_ago: float
) -> None:
    _, keys = await spool.job(state, ended_days_ago=ended_days_ago)

    await spool.tidied_twice()

    assert await spool.holds() == keys


async def test_a_list_stays_as_long_as_one_of_its_jobs_needs_it(spool: Spool) -> None:
    _, current = await spool.job(JobState.RUNNING)
    (key,) = (key for key in current if key.startswith("lists/"))
    await spool.job(JobState.COMPLETED, ended_days_ago=300, key=key)

    await spool.tidied_twice()

    assert await spool.holds() == current


async def test_plans_of_a_job_that_was_forgotten_go(spool: Spool) -> None:
    await spool.put(plan_key(uuid4(), 0))

    await spool.tidied()

    assert await spool.holds() == set()


async def test_uploads_that_nobody_used_go_with_their_lists(spool: Spool, board: Board) -> None:
    await board.job()
    old, young = await spool.upload(days_ago=31), await spool.upload(days_ago=29)
    begun = await spool.upload(days_ago=0.5, is_complete=False)
    left = await spool.upload(days_ago=1.5, is_complete=False)

    done = await spool.tidied()
    await spool.tidied(done.suspects)

    assert done.uploads == 2
    assert done.suspects == {old, left}
    assert await spool.holds() == {young, begun}


async def test_an_old_upload_stays_while_a_job_needs_its_list(spool: Spool, board: Board) -> None:
    await board.job()
    key = await spool.upload(days_ago=300)
    _, keys = await spool.job(JobState.COMPLETED, ended_days_ago=3, key=key)

    done = await spool.tidied()

    assert (done.uploads, done.lists) == (0, 0)
    assert await spool.holds() == keys


async def test_a_list_just_stored_is_given_time_to_be_named(spool: Spool) -> None:
    key = await spool.list_of_nobody()

    first = await spool.tidied()
    _, keys = await spool.job(JobState.QUEUED, key=key)
    second = await spool.tidied(first.suspects)

    assert first.suspects == {key}
    assert second.suspects == set()
    assert await spool.holds() == keys


async def test_what_is_no_plan_of_ours_is_left_alone(spool: Spool) -> None:
    await spool.put("plans/notes.txt")

    await spool.tidied_twice()

    assert await spool.holds() == {"plans/notes.txt"}
