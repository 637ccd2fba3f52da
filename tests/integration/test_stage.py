"""Carrying a chunk: what the row, the work area and the next bell are after each way a verb can go."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from shared import stage as stage_module
from shared.broker import build_app
from shared.chunk import Chunk, StageResult
from shared.errors import ChunkError, DatabaseUnavailable, PermanentError, StoreRefused, StoreUnavailable, WorkAreaGone
from shared.messages import BellKeys, ChunkMessage, Why
from shared.pipeline import DOWNLOAD, UPLOAD, ChunkState, JobState, Stage
from shared.resources import Resources, open_resources
from shared.stage import StageWorker
from tests.core import NO_HOLD, Board, board_at, scheduler_settings

Verb = Callable[[Chunk], Awaitable[StageResult]]


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


@pytest.fixture
def app(database_url: str, redis_url: str, tmp_path: Path) -> Celery:
    return build_app(scheduler_settings(database_url, redis_url, tmp_path))


@pytest.fixture
async def chunk(board: Board, tmp_path: Path) -> int:
    """A chunk that waits for its download."""
    (made,) = await board.chunks_of(await board.job(destination=str(tmp_path / "out")))
    await board.admit(made)
    return made


@pytest.fixture
def worker(resources: Resources, app: Celery) -> Callable[..., StageWorker]:
    def made(verb: Verb, stage: Stage = DOWNLOAD) -> StageWorker:
        return StageWorker(stage, resources, app, verb, owner="worker", hold=NO_HOLD)

    return made


async def message(board: Board, chunk: int, stage: Stage = DOWNLOAD) -> dict[str, Any]:
    job = (await board.chunk(chunk)).job_id
    return ChunkMessage(chunk=chunk, job=job, stage=stage.name, attempt=0, why=Why.DISPATCHED).encode()


async def publishing(chunk: Chunk) -> StageResult:
    draft = await chunk.draft()
    draft.path("pack").write_bytes(b"bodies")
    await draft.publish()
    return StageResult(passed=chunk.claim.rows, size_bytes=6)


def failing(error: BaseException) -> Verb:
    async def verb(chunk: Chunk) -> StageResult:
        (await chunk.draft()).path("pack").write_bytes(b"half")
        raise error

    return verb


def left_in(resources: Resources) -> list[Path]:
    root = resources.settings.work_dir
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_result_is_committed_and_the_next_bell_rings(
    board: Board, worker: Callable[..., StageWorker], chunk: int, resources: Resources
) -> None:
    await worker(publishing).answer(await message(board, chunk))

    row = await board.chunk(chunk)
    assert (row.state, row.work_fence, row.attempt, row.counts["accepted"]) == ("validate_ready", 1, 0, 4)
    assert row.dispatched_at is not None
    assert await resources.redis.llen("validate") == 1
    assert [path.read_bytes() for path in left_in(resources)] == [b"bodies"]


@pytest.mark.parametrize(
    ("error", "state", "attempt", "job"),
    [
        # nobody's fault: as if it had not been tried
        (StoreUnavailable("away"), ChunkState.DOWNLOAD_READY, 0, JobState.RUNNING),
        (asyncio.CancelledError(), ChunkState.DOWNLOAD_READY, 0, JobState.RUNNING),
        # its own: an attempt is burned
        (ChunkError("odd"), ChunkState.DOWNLOAD_READY, 1, JobState.RUNNING),
        (ZeroDivisionError("a bug"), ChunkState.DOWNLOAD_READY, 1, JobState.RUNNING),
        # all chunks would meet it
        (StoreRefused("no permission"), ChunkState.DOWNLOAD_READY, 0, JobState.PAUSED),
        # from the beginning
        (WorkAreaGone("gone"), ChunkState.PENDING, 0, JobState.RUNNING),
        # over: its index cannot be written without a plan, and it ends all the same
        (PermanentError("never"), ChunkState.FAILED, 1, JobState.RUNNING),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_what_is_left_after_an_error(
    board: Board,
    worker: Callable[..., StageWorker],
    chunk: int,
    resources: Resources,
    error: BaseException,
    state: ChunkState,
    attempt: int,
    job: JobState,
) -> None:
    answering = asyncio.ensure_future(worker(failing(error)).answer(await message(board, chunk)))
    await asyncio.wait({answering})

    row = await board.chunk(chunk)
    assert (row.state, row.attempt, row.owner) == (state, attempt, None)
    assert await board.job_state(row.job_id) is job
    assert left_in(resources) == []
    assert answering.cancelled() == isinstance(error, asyncio.CancelledError), "a stop passes on, nothing else does"
    assert (await board.held_slots() == {chunk}) == (state is ChunkState.DOWNLOAD_READY)


async def test_counts_that_do_not_add_up_are_not_committed(
    board: Board, worker: Callable[..., StageWorker], chunk: int
) -> None:
    async def careless(chunk: Chunk) -> StageResult:
        return StageResult(passed=chunk.claim.rows - 1)

    await worker(careless).answer(await message(board, chunk))

    row = await board.chunk(chunk)
    assert (row.state, row.error_code) == ("download_ready", "chunk_error")
    assert "do not add up" in row.error


async def test_a_stage_that_takes_too_long_is_stopped_and_burns_an_attempt(
    board: Board, resources: Resources, app: Celery, chunk: int
) -> None:
    has_cleaned_up = asyncio.Event()

    async def endless(chunk: Chunk) -> StageResult:
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        finally:
            has_cleaned_up.set()

    hasty = replace(DOWNLOAD, deadline=timedelta(seconds=0.05))
    await StageWorker(hasty, resources, app, endless, owner="worker", hold=NO_HOLD).answer(await message(board, chunk))

    row = await board.chunk(chunk)
    assert (row.state, row.attempt) == ("download_ready", 1)
    assert "took longer" in row.error
    assert has_cleaned_up.is_set()


async def test_messages_a_hundred_times_are_one_claim(
    board: Board, worker: Callable[..., StageWorker], chunk: int
) -> None:
    bell = await message(board, chunk)
    one = worker(publishing)

    await asyncio.gather(*(one.answer(bell) for _ in range(20)))

    assert (await board.chunk(chunk)).fence == 1
    assert (await board.histories())[chunk] == [
        ("pending", "download_ready"),
        ("download_ready", "downloading"),
        ("downloading", "validate_ready"),
    ]


async def test_a_message_nobody_can_read_is_kept(board: Board, worker: Callable[..., StageWorker]) -> None:
    await worker(publishing).answer({"version": 1, "note": "\x00" + "x" * 10_000})

    (kept,) = await board.run("SELECT * FROM poison_messages")
    assert (kept.queue, len(kept.body)) == ("download", 4096 - len("\\u0000"))


async def test_a_bell_that_nobody_with_a_key_has_signed_is_kept_and_claims_nothing(
    board: Board, chunk: int, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path, bell_key="n" * 32, bell_key_old="o" * 32)
    bell = ChunkMessage.decode(await message(board, chunk))
    app = build_app(settings)
    async with open_resources(settings) as resources:
        worker = StageWorker(DOWNLOAD, resources, app, publishing, owner="worker", hold=NO_HOLD)

        await worker.answer(bell.encode())
        await worker.answer(BellKeys(current=SecretStr("s" * 32)).signed(bell).encode())

        assert (await board.chunk(chunk)).fence == 0
        errors = await board.run("SELECT error FROM poison_messages ORDER BY id")
        assert [row.error for row in errors] == ["signature: missing", "signature: by none of the keys"]

        await worker.answer(BellKeys(current=SecretStr("o" * 32)).signed(bell).encode())

        assert await board.state(chunk) is ChunkState.VALIDATE_READY
    app.close()


async def test_news_of_a_cancelled_job_or_another_owner_stop_the_verb(
    board: Board, worker: Callable[..., StageWorker], chunk: int, monkeypatch: pytest.MonkeyPatch, resources: Resources
) -> None:
    monkeypatch.setattr(stage_module, "BEATS_IN_A_LEASE", 10**9)
    monkeypatch.setattr(stage_module, "_SHOWN_EVERY", 0.01)

    async def robbed(chunk: Chunk) -> StageResult:
        await (await chunk.draft()).publish()
        await board.run("UPDATE chunks SET fence = fence + 1")
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def withdrawn(chunk: Chunk) -> StageResult:
        await board.run("UPDATE jobs SET state = 'cancelling'")
        return await asyncio.Event().wait()  # type: ignore[return-value]

    await worker(robbed).answer(await message(board, chunk))
    assert (await board.chunk(chunk)).state == "downloading", "the new owner's business"
    assert left_in(resources) == []

    await board.run("UPDATE chunks SET state = 'download_ready'")
    await worker(withdrawn).answer(await message(board, chunk))
    assert await board.state(chunk) is ChunkState.CANCELLED


async def test_a_commit_whose_answer_was_lost_keeps_what_it_published(
    board: Board, worker: Callable[..., StageWorker], chunk: int, monkeypatch: pytest.MonkeyPatch, resources: Resources
) -> None:
    advance, told = stage_module.chunks.advance, []

    async def advance_and_lose_the_answer(connection: Any, *rest: Any) -> None:
        await advance(connection, *rest)
        if not told:
            told.append("once")
            await connection.commit()
            raise DatabaseUnavailable("the answer was lost")

    monkeypatch.setattr(stage_module.chunks, "advance", advance_and_lose_the_answer)

    await worker(publishing).answer(await message(board, chunk))

    assert await board.state(chunk) is ChunkState.VALIDATE_READY
    assert [path.read_bytes() for path in left_in(resources)] == [b"bodies"]


async def test_an_upload_goes_on_although_the_job_was_cancelled(
    board: Board, worker: Callable[..., StageWorker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stage_module, "BEATS_IN_A_LEASE", 10**9)
    job = await board.job(destination=str(tmp_path / "out"))
    (chunk,) = await board.chunks_of(job)
    claim = await board.claimed(UPLOAD, chunk)
    await board.run("UPDATE chunks SET state = 'upload_ready', fence = :fence", fence=claim.fence)

    async def slow(chunk: Chunk) -> StageResult:
        await board.set_job(job, JobState.CANCELLING)
        await chunk.settle_duplicates({})
        return StageResult(passed=chunk.claim.rows)

    await worker(slow, UPLOAD).answer(await message(board, chunk, UPLOAD))

    assert await board.state(chunk) is ChunkState.COMPLETED
    assert (await board.one("SELECT counts ->> 'accepted' FROM jobs")) == "4"


async def test_a_claim_while_the_database_is_away_is_no_error(
    board: Board, worker: Callable[..., StageWorker], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "_CLAIM_PATIENCE", 0.0)

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("away")

    bell = await message(board, chunk)
    with monkeypatch.context() as patched:
        patched.setattr(stage_module.chunks, "claim", away)
        await worker(publishing).answer(bell)

    assert await board.state(chunk) is ChunkState.DOWNLOAD_READY


async def test_a_claim_that_goes_wrong_every_time_ends_the_chunk(
    board: Board, worker: Callable[..., StageWorker], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    bell = await message(board, chunk)
    monkeypatch.setattr(stage_module.chunks, "claim", buggy)
    seen = []
    for _ in range(DOWNLOAD.retry.attempts):
        await worker(publishing).answer(bell)
        await worker(publishing).answer(bell)  # a bell too many, before it is due again, counts for nothing
        row = await board.chunk(chunk)
        seen.append((row.state, row.attempt, row.error_code, row.dispatched_at))
        await board.run("UPDATE chunks SET not_before = clock_timestamp() WHERE id = :chunk", chunk=chunk)

    assert seen == [
        ("download_ready", 1, "ZeroDivisionError", None),
        ("download_ready", 2, "ZeroDivisionError", None),
        ("cleaning", 3, "ZeroDivisionError", None),
    ]
    assert (await board.chunk(chunk)).outcome == "failed"


async def test_a_recipe_of_another_version_is_left_to_its_workers(
    board: Board, worker: Callable[..., StageWorker], chunk: int
) -> None:
    await board.run("""UPDATE jobs SET recipe = recipe || '{"of_tomorrow": true}'""")
    await worker(publishing).answer(await message(board, chunk))
    left = await board.chunk(chunk)
    await board.run("UPDATE jobs SET recipe = recipe - 'of_tomorrow'")

    await worker(publishing).answer(await message(board, chunk))

    assert (left.state, left.attempt, left.fence) == ("download_ready", 0, 0)
    assert await board.state(chunk) is ChunkState.VALIDATE_READY


@pytest.mark.parametrize("error", [FileNotFoundError("a pack"), ChunkError("the decoder, which found no pack, died")])
async def test_what_fails_because_the_whole_work_volume_is_missing_burns_no_attempt(
    board: Board,
    worker: Callable[..., StageWorker],
    chunk: int,
    resources: Resources,
    tmp_path: Path,
    error: Exception,
) -> None:
    async def robbed(chunk: Chunk) -> StageResult:
        await chunk.draft()
        resources.settings.work_dir.rename(tmp_path / "elsewhere")
        raise error

    await worker(robbed).answer(await message(board, chunk))

    row = await board.chunk(chunk)
    assert (row.state, row.attempt, row.error_code) == ("download_ready", 0, "work_area_full")
