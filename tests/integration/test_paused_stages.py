"""A paused stage: nothing of it is rung or claimed, what is in hand comes to its end, and all goes on afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.admission import Shut
from scheduler.admitter import Admitter
from scheduler.leadership import Leadership
from shared.capacity import CellReport
from shared.db import bells, cells, stages
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD, VALIDATE, ChunkState, Stage
from shared.resources import open_resources
from shared.waiting import WaitingSet
from tests.core import ROOMY, Board, board_at, scheduler_settings


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


async def pause(board: Board, stage: Stage) -> None:
    async with transaction(board.engine) as connection:
        await stages.pause(connection, stage, by="key")


async def resume(board: Board, stage: Stage) -> None:
    async with transaction(board.engine) as connection:
        await stages.resume(connection, stage)


@pytest.mark.parametrize("stage", PIPELINE)
async def test_no_chunk_of_a_paused_stage_is_rung_or_claimed(board: Board, stage: Stage) -> None:
    (chunk,) = await board.chunks_of(await board.job())
    await board.admit(chunk)
    for before in PIPELINE[: PIPELINE.index(stage)]:
        claim = await board.claim(before, chunk)
        assert claim is not None
        await board.advance(before, claim)
    await pause(board, stage)

    assert await board.take_bells() == []
    assert await board.claim(stage, chunk) is None

    await resume(board, stage)
    assert [bell.chunk_id for bell in await board.take_bells()] == [chunk]
    assert await board.claim(stage, chunk) is not None


async def test_the_other_stages_go_on(board: Board) -> None:
    first, second = await board.chunks_of(await board.job(chunks=2))
    claim = await board.claimed(DOWNLOAD, first)
    await board.admit(second)

    await pause(board, VALIDATE)

    assert [bell.chunk_id for bell in await board.take_bells()] == [second]
    await board.advance(DOWNLOAD, claim)
    assert await board.state(first) is ChunkState.VALIDATE_READY


async def test_a_chunk_in_hand_comes_to_its_end(board: Board) -> None:
    (chunk,) = await board.chunks_of(await board.job())
    claim = await board.claimed(UPLOAD, chunk)

    await pause(board, UPLOAD)
    await board.advance(UPLOAD, claim)

    assert await board.state(chunk) is ChunkState.CLEANING


async def test_a_bell_refused_during_the_pause_is_due_at_once_afterwards(board: Board) -> None:
    (chunk,) = await board.chunks_of(await board.job())
    await board.admit(chunk)
    await board.take_bells()
    await pause(board, DOWNLOAD)
    await board.run("UPDATE chunks SET dispatched_at = clock_timestamp() - interval '1 hour'")
    async with transaction(board.engine) as connection:
        assert await bells.take_unanswered(connection) == []

    await resume(board, DOWNLOAD)

    assert [bell.chunk_id for bell in await board.take_bells()] == [chunk]


async def test_nothing_is_let_in_while_the_first_stage_is_paused(
    board: Board, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with open_resources(settings) as resources:
        admitter = Admitter(settings, resources, WaitingSet(resources.redis))
        term = await Leadership(resources.engine).term()
        assert term is not None
        await board.job(chunks=2)
        await _report(board, ROOMY)
        await admitter.audit()
        await pause(board, DOWNLOAD)

        assert await admitter.admit(term) == 0
        assert admitter.why is Shut.PAUSED

        await resume(board, DOWNLOAD)
        assert await admitter.admit(term) == 2


async def _report(board: Board, measured: CellReport) -> None:
    async with transaction(board.engine) as connection:
        await cells.report(connection, "main", "downloader-a", "host", measured)
