"""The leader's reading of the whole system, and what it shows of it."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.admission import Shut
from scheduler.truth import read_truth, show_truth, withdraw_truth
from shared import metrics
from shared.broker import build_app, queue_lengths, ring
from shared.db import cells
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, PIPELINE
from shared.resources import open_resources
from tests.core import ROOMY, Board, board_at, scheduler_settings
from tests.servers import Valkey


@pytest.fixture(autouse=True)
def nothing_published() -> Iterator[None]:
    yield
    withdraw_truth()


def told() -> dict[str, float]:
    """Every sample, by name and labels."""
    return {name: float(value) for name, value in re.findall(r"^(pixcrawler_\S+) (\S+)$", exposition(), re.MULTILINE)}


def exposition() -> str:
    return metrics.exposition().decode()


async def report(board: Board, *, worker: str, cell: str = "main", age: timedelta = timedelta()) -> None:
    async with transaction(board.engine) as connection:
        await cells.report(connection, cell, worker, "host", ROOMY)
    await board.run(
        "UPDATE cells SET seen_at = seen_at - CAST(:age AS interval) WHERE worker = :worker", age=age, worker=worker
    )


async def test_the_reading_tells_what_each_server_knows(database_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        app = build_app(settings)
        await board.admit(*(await board.chunks_of(await board.job(chunks=3)))[:2], cell="far")
        for bell in await board.take_bells():
            ring(app, bell)
        await report(board, worker="downloader-a-1", cell="far")
        await report(board, worker="downloader-b-1", cell="far", age=timedelta(minutes=2))
        await report(board, worker="validator-a-2", cell="far")

        show_truth(await read_truth(resources, app), Shut.SLOTS)

    shown = told()
    assert shown['pixcrawler_chunks{state="download_ready"}'] == 2
    assert shown['pixcrawler_queue_messages{stage="download"}'] == 2
    assert shown['pixcrawler_backlog_chunks{tier="free"}'] == 1
    assert (shown["pixcrawler_slots"], shown["pixcrawler_slots_held"]) == (35, 2)
    assert [shown[f'pixcrawler_workers{{cell="far",stage="{stage.name}"}}'] for stage in PIPELINE] == [1, 1, 0]
    assert shown['pixcrawler_work_free_bytes{cell="far"}'] == ROOMY.free_bytes
    assert [shown[f'pixcrawler_admission_shut{{reason="{reason}"}}'] for reason in ("slots", "disk")] == [1, 0]
    assert shown['pixcrawler_dependency_up{server="broker"}'] == 1


async def test_a_server_that_is_away_is_told_and_the_rest_is_read(
    database_url: str, own_redis: Valkey, tmp_path: Path
) -> None:
    settings = scheduler_settings(database_url, own_redis.url, tmp_path)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        await board.job(chunks=1)
        app = build_app(settings)
        show_truth(await read_truth(resources, app), None)
        with_redis = told()
        own_redis.kill()

        show_truth(await read_truth(resources, app), None)

    assert with_redis['pixcrawler_queue_messages{stage="upload"}'] == 0
    shown = told()
    assert [shown[f'pixcrawler_dependency_up{{server="{server}"}}'] for server in ("redis", "broker")] == [0, 0]
    assert not [name for name in shown if name.startswith("pixcrawler_queue_messages")]
    assert shown['pixcrawler_backlog_chunks{tier="free"}'] == 1


async def test_a_cell_that_nobody_reports_from_is_not_told_any_more(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        app = build_app(settings)
        await report(board, worker="downloader-a-1", cell="far")
        show_truth(await read_truth(resources, app), None)
        await board.run("UPDATE cells SET seen_at = seen_at - interval '1 minute'")

        show_truth(await read_truth(resources, app), None)

    assert "far" not in exposition()
    assert told()['pixcrawler_workers{cell="main",stage="download"}'] == 0


async def test_bells_of_all_cells_are_one_length(redis_url: str, database_url: str, tmp_path: Path) -> None:
    app = build_app(scheduler_settings(database_url, redis_url, tmp_path))
    async with board_at(database_url) as board:
        first, second = await board.chunks_of(await board.job(chunks=2))
        await board.admit(first)
        await board.admit(second, cell="far")
        for bell in await board.take_bells():
            ring(app, bell)

    assert queue_lengths(app) == {stage.name: 2 if stage is DOWNLOAD else 0 for stage in PIPELINE}
