"""What an interrupted upload had stored: kept while its chunk may be redriven, gone when it never stores again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

from scheduler.leadership import Leadership
from scheduler.sweeper import Sweeper
from shared.chunk import Claim
from shared.closing import close_chunk
from shared.db import chunks, failed
from shared.db.failed import Choice
from shared.db.session import transaction
from shared.index import index_key, index_of_open_rows, to_parquet
from shared.pipeline import UPLOAD, Outcome
from shared.reasons import Reason
from shared.records import SOURCE, to_stream
from shared.resources import Resources, open_resources
from tests.core import Board, board_at, scheduler_settings
from tests.invariants import files_below

ROWS = 4
#: Of the chunk: loose files, with and without metadata, and shards of two kinds, one cut by a purge.
LEFT = {
    "files": [
        "data/r000-000000/000000000.jpg",
        "data/r000-000000/metadata.parquet",
        "thumbnails/r000-000000.parquet",
    ],
    "webdataset": ["data/r000-000000.tar", "data/r000-000000-0123456789abcdef.tar"],
    "parquet": ["data/r000-000000.parquet"],
}
#: Of others: a neighbour, and one whose name only begins alike.
OTHERS = ["data/r000-000001.tar", "data/r000-0000001.tar", "dataset.json"]


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


async def ended_in_upload(
    board: Board, resources: Resources, place: Path, outcome: Outcome, *, form: str = "files"
) -> Claim:
    """A chunk that ended after its upload had stored something; closed."""
    rows = [{"row": number, "url": f"https://a.example/{number}", "caption": None} for number in range(ROWS)]
    plan = to_stream(pa.Table.from_pylist(rows, schema=SOURCE))
    await resources.spool.create("plans/none", plan, content_type="x/y", sha256="0" * 64)
    recipe = f'{{"output_format": "{form}", "thumbnails": 64}}'
    (chunk,) = await board.chunks_of(await board.job(rows=ROWS, destination=str(place), recipe=recipe))
    await board.run("UPDATE chunks SET part_length = :length", length=len(plan))
    claim = await board.claimed(UPLOAD, chunk)
    async with transaction(board.engine) as connection:
        await chunks.settle(connection, claim, UPLOAD, {0: "00" * 32})
    for key in [*LEFT[form], *OTHERS]:
        (place / key).parent.mkdir(parents=True, exist_ok=True)
        (place / key).write_text(key)
    async with transaction(board.engine) as connection:
        await chunks.end(connection, UPLOAD, claim, outcome, error_code="chunk_error", error="odd")
        (ended,) = await chunks.ended(connection, chunk_id=chunk)
    assert await close_chunk(resources, ended, actor="test")
    return claim


async def drop(board: Board) -> None:
    async with transaction(board.engine) as connection:
        await failed.drop(connection, Choice())


async def swept(resources: Resources) -> bool:
    """Whether there was something to sweep."""
    leadership = Leadership(resources.engine)
    term = await leadership.term()
    assert term
    try:
        return await Sweeper(resources).sweep(term)
    finally:
        await leadership.resign()


@pytest.mark.parametrize("form", LEFT)
async def test_what_a_failed_chunk_had_stored_goes_when_it_is_dropped(
    board: Board, resources: Resources, tmp_path: Path, form: str
) -> None:
    claim = await ended_in_upload(board, resources, tmp_path / "out", Outcome.FAILED, form=form)
    assert not await swept(resources)
    assert files_below(tmp_path / "out") >= set(LEFT[form]), "a redrive would find it"

    await drop(board)
    assert await swept(resources)

    assert files_below(tmp_path / "out") == {*OTHERS, index_key(0, claim.ordinal, 0)}
    assert not await swept(resources)


async def test_what_a_cancelled_chunk_had_stored_goes_when_it_is_closed(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    claim = await ended_in_upload(board, resources, tmp_path / "out", Outcome.CANCELLED)

    assert files_below(tmp_path / "out") == {*OTHERS, index_key(0, claim.ordinal, 0)}


async def test_what_the_index_of_a_dropped_chunk_names_stays(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    claim = await ended_in_upload(board, resources, tmp_path / "out", Outcome.FAILED, form="webdataset")
    index = index_of_open_rows(await resources.source(claim.source), Reason.CHUNK_FAILED, revision=0)
    paths = pa.array([LEFT["webdataset"][0], *[None] * (ROWS - 1)], pa.string())
    index = index.set_column(index.column_names.index("path"), "path", paths)
    (tmp_path / "out" / index_key(0, claim.ordinal, 0)).write_bytes(to_parquet(index))

    await drop(board)
    assert await swept(resources)

    assert files_below(tmp_path / "out") >= set(LEFT["webdataset"])


async def test_without_its_index_nothing_of_a_dropped_chunk_is_removed(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    """The place may hold another's dataset by now."""
    claim = await ended_in_upload(board, resources, tmp_path / "out", Outcome.FAILED)
    (tmp_path / "out" / index_key(0, claim.ordinal, 0)).unlink()

    await drop(board)
    assert await swept(resources)

    assert files_below(tmp_path / "out") >= set(LEFT["files"])
