"""A chunk's life against a model: whatever happens in whatever order, the rows say what the model says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from shared.chunk import Claim, NewObject, StageResult
from shared.db import chunks, sweeps
from shared.db.chunks import Verdict
from shared.db.session import open_engine, transaction
from shared.errors import ClaimLost
from shared.pipeline import (
    ADMISSIBLE_JOB_STATES,
    ALLOWED_MOVES,
    DOWNLOAD,
    FINAL_STATES,
    PIPELINE,
    UPLOAD,
    VALIDATE,
    ChunkState,
    JobState,
    Outcome,
    Stage,
    next_stage,
)
from shared.runtime import LoopThread
from tests.core import Board, board_at

MAX_CHUNKS = 3
CHUNKS = 5
ROWS = 4

stages = st.sampled_from(PIPELINE)
places = st.integers(0, CHUNKS - 1)


@dataclass
class ModelChunk:
    """What a chunk should be."""

    state: ChunkState = ChunkState.PENDING
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    restarts: int = 0
    has_slot: bool = False
    outcome: Outcome | None = None
    accepted: int = 0
    history: list[tuple[str, str]] = field(default_factory=list)

    def move(self, to: ChunkState) -> None:
        assert to in ALLOWED_MOVES[self.state]
        self.history.append((self.state, to))
        self.state = to

    def end(self, outcome: Outcome) -> None:
        self.move(ChunkState.CLEANING)
        self.outcome = outcome

    def begin_anew(self) -> None:
        self.move(ChunkState.PENDING)
        self.attempt = self.crashes = self.accepted = 0
        self.restarts += 1
        self.has_slot = False


class ChunkMachine(RuleBasedStateMachine):
    """Every operation on chunks, by owners present and past."""

    def __init__(self, board: Board, thread: LoopThread) -> None:
        super().__init__()
        self.board = board
        self._thread = thread
        self.job_state = JobState.RUNNING
        self.model = [ModelChunk() for _ in range(CHUNKS)]
        self.claims: list[tuple[int, Stage, Claim]] = []

    def do(self, work: Any) -> Any:
        return self._thread.run(work, grace_seconds=5)

    def write(self, statements: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            async with transaction(self.board.engine) as connection:
                return await statements(connection)

        return self.do(run())

    @initialize()
    def begin(self) -> None:
        self.do(self.board.run("TRUNCATE chunk_events, chunks, slots, jobs, datasets, tenants CASCADE"))
        self.job = self.do(self.board.job(chunks=CHUNKS, rows=ROWS))
        self.ids = self.do(self.board.chunks_of(self.job))

    @property
    def is_admissible(self) -> bool:
        return self.job_state in ADMISSIBLE_JOB_STATES

    @rule(wanted=st.lists(places, unique=True, min_size=1))
    def admit(self, wanted: list[int]) -> None:
        waiting = [place for place in wanted if self.model[place].state is ChunkState.PENDING and self.is_admissible]
        free = MAX_CHUNKS - sum(chunk.has_slot for chunk in self.model)

        admitted = self.do(self.board.admit(*(self.ids[place] for place in wanted), max_chunks=MAX_CHUNKS))

        assert admitted == sorted(self.ids[place] for place in waiting[:free])
        for place in waiting[:free]:
            self.model[place].move(DOWNLOAD.ready)
            self.model[place].has_slot = True

    @rule(place=places, stage=stages)
    def claim(self, place: int, stage: Stage) -> None:
        chunk = self.model[place]
        is_to_be_had = chunk.state is stage.ready and self.is_admissible

        claim = self.do(self.board.claim(stage, self.ids[place]))

        assert (claim is not None) == is_to_be_had
        if claim is not None:
            chunk.move(stage.running)
            assert claim.fence == chunk.fence + 1, "each claim raises the fence"
            chunk.fence, chunk.attempt = claim.fence, chunk.attempt + 1
            assert (claim.attempt, claim.crashes, claim.restarts) == (chunk.attempt, chunk.crashes, chunk.restarts)
            self.claims.append((place, stage, claim))

    @precondition(lambda self: self.is_admissible and any(chunk.fence for chunk in self.model))
    @rule(number=st.integers(0, 99))
    def lose_to_another(self, number: int) -> None:
        """A worker falls silent and another claims its chunk: from now on the first is a former owner."""
        place, stage, _ = self.claims[number % len(self.claims)]
        if self.model[place].state is stage.running:
            self.expire(stage, {place})
            if self.model[place].state is stage.ready:
                self.claim(place, stage)

    def pick(self, number: int) -> tuple[ModelChunk, Stage, Claim, bool]:
        """A claim ever made, and whether it is still good."""
        place, stage, claim = self.claims[number % len(self.claims)]
        chunk = self.model[place]
        return chunk, stage, claim, chunk.state is stage.running and chunk.fence == claim.fence

    def by_owner(self, statements: Callable[[Any], Any], *, is_good: bool) -> None:
        """A former owner's write raises and leaves no trace."""
        if is_good:
            self.write(statements)
        else:
            with pytest.raises(ClaimLost):
                self.write(statements)

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99))
    def beat(self, number: int) -> None:
        _, stage, claim, is_good = self.pick(number)

        verdict = self.write(lambda connection: chunks.beat(connection, stage, claim, done=1, work_bytes=1))

        cancels = Verdict.CANCEL if self.job_state is JobState.CANCELLING else Verdict.OK
        assert verdict is (cancels if is_good else Verdict.LOST)

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99), passed=st.integers(0, ROWS))
    def advance(self, number: int, passed: int) -> None:
        chunk, stage, claim, is_good = self.pick(number)
        result = StageResult(passed=passed, rejected={"too_small": ROWS - passed})

        self.by_owner(lambda connection: chunks.advance(connection, stage, claim, result), is_good=is_good)

        if is_good:
            following = next_stage(stage)
            chunk.attempt = chunk.crashes = 0
            chunk.accepted = passed
            if following:
                chunk.move(following.ready)
            else:
                chunk.end(Outcome.COMPLETED)

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99), burns=st.booleans())
    def hand_back(self, number: int, burns: bool) -> None:
        chunk, stage, claim, is_good = self.pick(number)

        self.by_owner(
            lambda connection: chunks.hand_back(connection, stage, claim, pause=timedelta(0), burns_attempt=burns),
            is_good=is_good,
        )

        if is_good:
            chunk.move(stage.ready)
            chunk.attempt -= 0 if burns else 1

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99), outcome=st.sampled_from([Outcome.FAILED, Outcome.CANCELLED]))
    def end(self, number: int, outcome: Outcome) -> None:
        chunk, stage, claim, is_good = self.pick(number)

        self.by_owner(lambda connection: chunks.end(connection, stage, claim, outcome), is_good=is_good)

        if is_good:
            chunk.end(outcome)

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99))
    def restart(self, number: int) -> None:
        chunk, stage, claim, is_good = self.pick(number)

        self.by_owner(lambda connection: chunks.restart(connection, stage, claim, error="gone"), is_good=is_good)

        if is_good:
            chunk.begin_anew()

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 99))
    def settle(self, number: int) -> None:
        _, stage, claim, is_good = self.pick(number)
        digests = {claim.first_row: "aa" * 32}

        self.by_owner(lambda connection: chunks.settle(connection, claim, stage, digests), is_good=is_good)

    @rule(stage=stages, silent=st.sets(places))
    def expire(self, stage: Stage, silent: set[int]) -> None:
        self.do(
            self.board.run(
                "UPDATE chunks SET lease_until = clock_timestamp() - interval '1 s'"
                " WHERE id = ANY(:ids) AND state = :on",
                ids=[self.ids[place] for place in silent],
                on=stage.running,
            )
        )
        lost = [self.model[place] for place in silent if self.model[place].state is stage.running]

        expired = self.write(lambda connection: sweeps.expire_leases(connection, stage))

        for chunk in lost:
            chunk.crashes += 1
            if chunk.crashes >= stage.retry.crashes:
                chunk.end(Outcome.FAILED)
            else:
                chunk.attempt = max(chunk.attempt - 1, 0)
                chunk.move(stage.ready)
        given_up = sum(chunk.state is ChunkState.CLEANING for chunk in lost)
        assert (expired.given_up, expired.given_back) == (given_up, len(lost) - given_up)

    @rule(place=places)
    def close(self, place: int) -> None:
        chunk = self.model[place]
        found = self.write(lambda connection: chunks.ended(connection, chunk_id=self.ids[place]))

        assert len(found) == (chunk.state is ChunkState.CLEANING)
        for ended in found:
            assert ended.outcome is chunk.outcome
            assert self.do(self.board.close(ended))
            assert not self.do(self.board.close(ended)), "a second closer finds it done"
            chunk.move(ended.outcome.state)
            chunk.has_slot = False

    @precondition(lambda self: self.job_state is not JobState.CANCELLING)
    @rule(state=st.sampled_from([JobState.RUNNING, JobState.PAUSED, JobState.PLANNING]))
    def set_job(self, state: JobState) -> None:
        self.job_state = state
        self.do(self.board.set_job(self.job, state))

    @rule(chance=st.integers(0, 9))
    def cancel(self, chance: int) -> None:
        if chance > 0:  # seldom, since little happens after it
            return
        self.job_state = JobState.CANCELLING
        self.do(self.board.set_job(self.job, self.job_state))

    @rule()
    def sweep_cancelled(self) -> None:
        idle = {ChunkState.PENDING, *(stage.ready for stage in PIPELINE)}
        ending = [chunk for chunk in self.model if chunk.state in idle and self.job_state is JobState.CANCELLING]

        ended = self.write(sweeps.cancel_chunks)

        assert ended == len(ending)
        for chunk in ending:
            chunk.end(Outcome.CANCELLED)

    @invariant()
    def rows_say_what_the_model_says(self) -> None:
        rows = self.do(self.board.run("SELECT * FROM chunks ORDER BY ordinal"))
        histories = self.do(self.board.histories())
        for row, chunk in zip(rows, self.model, strict=True):
            assert (row.state, row.outcome, row.fence) == (chunk.state, chunk.outcome, chunk.fence)
            assert (row.attempt, row.crashes, row.restarts) == (chunk.attempt, chunk.crashes, chunk.restarts)
            assert row.counts["accepted"] == chunk.accepted
            is_owned = chunk.state in {stage.running for stage in PIPELINE}
            assert (row.owner is not None, row.lease_until is not None) == (is_owned, is_owned)
            assert histories.get(row.id, []) == chunk.history

    @invariant()
    def each_chunk_in_flight_has_one_slot_and_never_too_many(self) -> None:
        held = self.do(self.board.held_slots())
        assert held == {self.ids[place] for place, chunk in enumerate(self.model) if chunk.has_slot}
        assert len(held) <= MAX_CHUNKS
        assert self.write(sweeps.slot_mismatches) == 0

    @invariant()
    def a_jobs_sum_is_that_of_its_ended_chunks(self) -> None:
        accepted = self.do(self.board.one("SELECT counts ->> 'accepted' FROM jobs"))
        assert int(accepted) == sum(chunk.accepted for chunk in self.model if chunk.state in FINAL_STATES)


@pytest.fixture
def machine_parts(database_url: str) -> Iterator[tuple[Board, LoopThread]]:
    thread = LoopThread("machine")

    async def opened() -> Board:
        return Board(open_engine(SecretStr(database_url), connections=2))

    board = thread.submit(opened()).result()
    try:
        yield board, thread
    finally:
        thread.submit(board.engine.dispose()).result()
        thread.close()


def test_rows_follow_the_model_whatever_happens(machine_parts: tuple[Board, LoopThread]) -> None:
    run_state_machine_as_test(
        lambda: ChunkMachine(*machine_parts),
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("write", ["advance", "hand_back", "end", "restart", "settle"])
async def test_a_former_owner_writes_nothing(database_url: str, write: str) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        former = await board.claimed(UPLOAD, chunk)
        async with transaction(board.engine) as connection:
            await chunks.hand_back(connection, UPLOAD, former, pause=timedelta(0), burns_attempt=False)
        assert await board.claim(UPLOAD, chunk, owner="successor") is not None
        before, history = await board.chunk(chunk), await board.histories()
        writes: dict[str, Callable[[Any], Any]] = {
            "advance": lambda c: chunks.advance(c, UPLOAD, former, StageResult(passed=4)),
            "hand_back": lambda c: chunks.hand_back(c, UPLOAD, former, pause=timedelta(0), burns_attempt=True),
            "end": lambda c: chunks.end(c, UPLOAD, former, Outcome.FAILED),
            "restart": lambda c: chunks.restart(c, UPLOAD, former, error="gone"),
            "settle": lambda c: chunks.settle(c, former, UPLOAD, {0: "aa" * 32}),
        }

        async def run() -> None:
            async with transaction(board.engine) as connection:
                await writes[write](connection)

        with pytest.raises(ClaimLost):
            await run()

        assert await board.chunk(chunk) == before
        assert await board.histories() == history
        assert await board.run("SELECT * FROM fingerprints") == []
        async with transaction(board.engine) as connection:
            assert await chunks.beat(connection, UPLOAD, former, done=1, work_bytes=1) is Verdict.LOST


async def test_a_result_is_committed_although_the_job_was_paused_meanwhile(database_url: str) -> None:
    async with board_at(database_url) as board:
        job = await board.job()
        (chunk,) = await board.chunks_of(job)
        claim = await board.claimed(DOWNLOAD, chunk)
        await board.set_job(job, JobState.PAUSED)

        await board.advance(DOWNLOAD, claim)

        assert await board.state(chunk) is VALIDATE.ready
        assert await board.claim(VALIDATE, chunk) is None, "but nobody goes on with it"
        assert await board.take_bells() == []


async def test_a_chunk_handed_back_with_a_pause_is_not_taken_before_it_is_over(database_url: str) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        claim = await board.claimed(DOWNLOAD, chunk)
        async with transaction(board.engine) as connection:
            await chunks.hand_back(connection, DOWNLOAD, claim, pause=timedelta(hours=1), burns_attempt=True)

        assert await board.claim(DOWNLOAD, chunk) is None
        assert await board.take_bells() == []

        await board.run("UPDATE chunks SET not_before = clock_timestamp()")
        assert [bell.chunk_id for bell in await board.take_bells()] == [chunk]
        assert (await board.claim(DOWNLOAD, chunk)) is not None


async def test_what_a_chunk_forgets_when_it_begins_anew(database_url: str) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        claim = await board.claimed(VALIDATE, chunk)
        async with transaction(board.engine) as connection:
            await chunks.restart(connection, VALIDATE, claim, error="the folder is gone")

        row = await board.chunk(chunk)

        assert (row.state, row.work_fence, row.cell, row.progress, row.work_bytes) == ("pending", None, None, {}, 0)
        assert (row.restarts, row.error_code, row.error) == (1, "work_area_gone", "the folder is gone")
        assert row.counts == {"accepted": 0, "rejected": {}}
        assert row.fence == claim.fence, "the fence is never lowered"
        assert await board.held_slots() == set()


async def test_job_sums_are_the_sums_of_its_chunks(database_url: str) -> None:
    async with board_at(database_url) as board:
        job = await board.job(chunks=3, rows=10)
        first, second, third = await board.chunks_of(job)

        for chunk, rejected in ((first, {"too_small": 3}), (second, {"too_small": 1, "deadline": 2}), (third, {})):
            assert await board.close(await board.to_cleaning(chunk, **rejected))

        counts = await board.one("SELECT counts FROM jobs WHERE id = :job", job=job)
        assert counts == {"accepted": 24, "rejected": {"too_small": 4, "deadline": 2}}
        assert counts["accepted"] + sum(counts["rejected"].values()) == 30


async def test_objects_are_remembered_once_however_often_they_are_told(database_url: str) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        claim = await board.claimed(UPLOAD, chunk)
        made = [NewObject(key="data/0.jpg", size_bytes=3, sha256="ab" * 32)]

        for _ in range(2):
            async with transaction(board.engine) as connection:
                await chunks.record_objects(connection, claim, made)

        rows = await board.run("SELECT key, size_bytes, chunk_id FROM objects")
        assert [tuple(row) for row in rows] == [("data/0.jpg", 3, chunk)]
