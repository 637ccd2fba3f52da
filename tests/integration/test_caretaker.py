"""What the scheduler mends, and when it had better wait."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.caretaker import Caretaker
from scheduler.leadership import Leadership
from shared.broker import build_app
from shared.pipeline import DOWNLOAD, ChunkState
from shared.resources import Resources, open_resources
from tests.core import Board, board_at, scheduler_settings
from tests.servers import free_port


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("grace_seconds", "state"), [(600.0, ChunkState.DOWNLOADING), (0.0, ChunkState.DOWNLOAD_READY)]
)
async def test_no_lease_is_taken_before_everybody_could_be_heard_again(
    board: Board,
    resources: Resources,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    grace_seconds: float,
    state: ChunkState,
) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path, grace_seconds=grace_seconds)
    leadership = Leadership(resources.engine)
    term = await leadership.term()
    assert term
    (chunk,) = await board.chunks_of(await board.job())
    await board.claimed(DOWNLOAD, chunk)
    await board.run("UPDATE chunks SET lease_until = clock_timestamp() - interval '1 s'")

    await Caretaker(settings, resources, build_app(settings), leadership).expire(term)

    assert await board.state(chunk) is state


async def test_a_bell_that_the_broker_does_not_take_is_due_again_at_once(
    board: Board, resources: Resources, database_url: str, tmp_path: Path
) -> None:
    settings = scheduler_settings(database_url, f"redis://127.0.0.1:{free_port()}/0", tmp_path)
    leadership = Leadership(resources.engine)
    term = await leadership.term()
    assert term
    (chunk,) = await board.chunks_of(await board.job())
    await board.admit(chunk)

    await Caretaker(settings, resources, build_app(settings), leadership).ring(term)

    assert [bell.chunk_id for bell in await board.take_bells()] == [chunk]
