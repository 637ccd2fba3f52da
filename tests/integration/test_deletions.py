"""Datasets are deleted: what lies at the destination, bit by bit, then the rows; and nothing of others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scheduler import remover
from scheduler.leadership import Leadership
from scheduler.remover import Remover
from shared.db import deletions
from shared.db.session import transaction
from shared.pipeline import JobState
from shared.resources import Resources, open_resources
from tests.core import Board, board_at, scheduler_settings

#: Of a dataset in each of the formats, and of a redriven and a later chunk.
OURS = (
    "_SUCCESS",
    "README.md",
    "dataset.json",
    "statistics.json",
    "data/r000-000000/000000000.jpg",
    "data/r000-000000/metadata.parquet",
    "data/png/r000-000001.tar",
    "data/r001-000002-0123456789abcdef.tar",
    "index/r000-000000.parquet",
    "thumbnails/r000-000000.parquet",
    "index/r001-000012-1.parquet",
)
THEIRS = ("notes.txt", "data/raw/cat.jpg", "index/mine.parquet", "thumbnails/mine.parquet")


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


def fill(destination: Path, *keys: str) -> None:
    for key in keys:
        (destination / key).parent.mkdir(parents=True, exist_ok=True)
        (destination / key).write_text("x")


def left_in(destination: Path) -> set[str]:
    return {str(path.relative_to(destination)) for path in destination.rglob("*") if path.is_file()}


async def ended(board: Board, destination: Path) -> UUID:
    return await board.job(chunks=2, state=JobState.COMPLETED, destination=str(destination))


async def wish_gone(board: Board, job: UUID) -> UUID | None:
    row = (await board.run("SELECT tenant_id, dataset_id FROM jobs WHERE id = :job", job=job))[0]
    async with transaction(board.engine) as connection:
        return await deletions.ask(connection, row.tenant_id, row.dataset_id)


async def work_off(resources: Resources) -> int:
    """Slices until there is nothing left to do."""
    leadership, slices = Leadership(resources.engine), 0
    term = await leadership.term()
    assert term
    work = Remover(resources)
    while await work.remove(term):
        slices += 1
    await leadership.resign()
    return slices


async def test_a_dataset_goes_with_its_objects_and_rows_and_strangers_files_stay(
    board: Board, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remover, "_A_SLICE", 3)
    job, other = await ended(board, tmp_path / "cats"), await ended(board, tmp_path / "dogs")
    fill(tmp_path / "cats", *OURS, *THEIRS)
    fill(tmp_path / "dogs", *OURS)

    assert await wish_gone(board, job) is None
    slices = await work_off(resources)

    assert slices == 3
    assert left_in(tmp_path / "cats") == set(THEIRS)
    assert not (tmp_path / "cats/data/r000-000000").exists(), "no empty folder is left"
    assert left_in(tmp_path / "dogs") == set(OURS)
    assert [row.id for row in await board.run("SELECT id FROM jobs")] == [other]
    assert await board.one("SELECT count(*) FROM datasets") == 1
    assert await board.one("SELECT count(*) FROM chunks") == 2


async def test_a_dataset_that_a_job_is_changing_is_not_deleted(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    job = await board.job(destination=str(tmp_path / "cats"))
    fill(tmp_path / "cats", *OURS)

    assert await wish_gone(board, job) == job
    assert await work_off(resources) == 0
    assert left_in(tmp_path / "cats") == set(OURS)


async def test_an_upload_goes_unless_another_job_names_it(board: Board, resources: Resources, tmp_path: Path) -> None:
    first, second = await ended(board, tmp_path / "cats"), await ended(board, tmp_path / "dogs")
    await board.run("""INSERT INTO uploads (tenant_id, filename, key, is_complete)
                       SELECT id, 'a.txt', 'lists/none', true FROM tenants LIMIT 1""")

    async def uploads_after(job: UUID) -> Any:
        await wish_gone(board, job)
        await work_off(resources)
        return await board.one("SELECT count(*) FROM uploads")

    assert [await uploads_after(job) for job in (first, second)] == [1, 0]


async def test_a_destination_that_refuses_keeps_no_other_dataset_waiting(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    broken, sound = await ended(board, tmp_path / "file" / "cats"), await ended(board, tmp_path / "dogs")
    fill(tmp_path / "dogs", *OURS)
    for job in (broken, sound):
        assert await wish_gone(board, job) is None

    await work_off(resources)

    assert [row.id for row in await board.run("SELECT id FROM jobs")] == [broken]
    assert left_in(tmp_path / "dogs") == set()
