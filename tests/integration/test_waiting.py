"""The priority set against a model, also when Redis forgets it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pydantic import SecretStr
from redis.exceptions import RedisError

from scheduler.admitter import Admitter
from scheduler.leadership import Leadership
from scheduler.settings import SchedulerSettings
from shared.cache import open_redis
from shared.db import cells
from shared.db.session import transaction
from shared.pipeline import JobState
from shared.resources import Resources, open_resources
from shared.runtime import LoopThread
from shared.waiting import WaitingSet
from tests.core import ROOMY, Board, board_at, scheduler_settings
from tests.servers import Valkey

chunk_ids = st.integers(1, 30)
scores = st.dictionaries(chunk_ids, st.floats(-1e9, 2e9, allow_nan=False), max_size=8)


class WaitingMachine(RuleBasedStateMachine):
    """Adds, takes out, rebuilds and loses."""

    def __init__(self, url: str, thread: LoopThread) -> None:
        super().__init__()
        self._thread = thread
        self._redis = open_redis(SecretStr(url), connections=1)
        self.set = WaitingSet(self._redis)
        self.model: dict[int, float] = {}
        self.forget()

    def do(self, work: Any) -> Any:
        return self._thread.run(work, grace_seconds=5)

    def teardown(self) -> None:
        self.do(self._redis.aclose())

    def in_order(self) -> list[int]:
        """Lowest score first; Redis orders equal scores by the member's text."""
        return sorted(self.model, key=lambda chunk: (self.model[chunk], str(chunk)))

    @rule(added=scores)
    def add(self, added: dict[int, float]) -> None:
        self.do(self.set.add(added))
        self.model |= added

    @rule(taken=st.lists(chunk_ids, max_size=8))
    def remove(self, taken: list[int]) -> None:
        self.do(self.set.remove(taken))
        for chunk in taken:
            self.model.pop(chunk, None)

    @rule(count=st.integers(0, 40))
    def peek_takes_nothing_out(self, count: int) -> None:
        assert self.do(self.set.peek(count)) == self.in_order()[:count]

    @rule(truth=scores)
    def rebuild(self, truth: dict[int, float]) -> None:
        self.do(self.set.rebuild(truth))
        self.model = dict(truth)

    @rule()
    def forget(self) -> None:
        self.do(self._redis.flushall())
        self.model = {}

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.do(self.set.size()) == len(self.model)
        assert self.do(self.set.peek(100)) == self.in_order()


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    running = LoopThread("machine")
    yield running
    running.close()


def test_the_set_follows_the_model(redis_url: str, thread: LoopThread) -> None:
    run_state_machine_as_test(
        lambda: WaitingMachine(redis_url, thread),
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_the_set_is_rebuilt_when_redis_lost_it(database_url: str, redis_url: str, tmp_path: Path) -> None:
    chosen = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(chosen) as resources:
        waiting = WaitingSet(resources.redis)
        job = await board.job(chunks=5, score=10)
        admitter = Admitter(chosen, resources, waiting)
        assert await admitter.audit()
        await resources.redis.flushall()

        assert await admitter.audit()

        assert await waiting.peek(10) == await board.chunks_of(job)
        assert not await admitter.audit(), "it holds what the rows say"


async def test_a_paused_job_leaves_the_set_and_a_resumed_one_comes_back(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    chosen = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(chosen) as resources:
        waiting = WaitingSet(resources.redis)
        job = await board.job(chunks=3)
        admitter = Admitter(chosen, resources, waiting)
        await admitter.audit()

        await board.set_job(job, JobState.PAUSED)
        await admitter.audit()
        assert await waiting.size() == 0

        await board.set_job(job, JobState.RUNNING)
        await admitter.audit()
        assert await waiting.size() == 3


async def _admit_all(resources: Resources, board: Board, chosen: SchedulerSettings) -> int:
    async with transaction(board.engine) as connection:
        await cells.report(connection, "main", "downloader-a-1", "host", ROOMY)
    term = await Leadership(resources.engine).term()
    assert term
    return await Admitter(chosen, resources, WaitingSet(resources.redis)).admit(term)


async def test_with_redis_away_admission_goes_on_in_the_same_order(database_url: str, tmp_path: Path) -> None:
    with Valkey() as redis:
        chosen = scheduler_settings(database_url, redis.url, tmp_path, max_chunks=2)
        async with board_at(database_url) as board, open_resources(chosen) as resources:
            late = await board.chunks_of(await board.job(chunks=2, score=100))
            early = await board.chunks_of(await board.job(chunks=2, score=50))
            redis.kill()

            assert await _admit_all(resources, board, chosen) == 2

            assert await board.held_slots() == set(early)
            assert not await board.held_slots() & set(late)
            with pytest.raises((RedisError, OSError)):
                await WaitingSet(resources.redis).size()


async def test_stale_members_are_passed_over_and_taken_out(database_url: str, redis_url: str, tmp_path: Path) -> None:
    chosen = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(chosen) as resources:
        (chunk,) = await board.chunks_of(await board.job())
        waiting = WaitingSet(resources.redis)
        await waiting.add({999_999: -5.0, chunk: 1.0})

        assert await _admit_all(resources, board, chosen) == 1

        assert await board.held_slots() == {chunk}
        assert await waiting.size() == 0
