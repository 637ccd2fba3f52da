"""Thumbnails of a chunk: one file, named by the index, and never a picture of another image."""

import gc
import io

import psutil
import pyarrow.parquet as pq
import pytest

from shared.index import from_parquet, index_key, thumbnails_key, to_parquet
from shared.reasons import Reason
from shared.recipe import OutputFormat, Recipe
from tests.upload_bench import Bench, Row, jpeg, missing, png

KEY = thumbnails_key(0, 0)
FORMATS = list(OutputFormat)


def small(number: int) -> bytes:
    return jpeg(number).body


ROWS = [jpeg(11, small=small(1)), missing(), png(12, small=small(2)), jpeg(13), jpeg(14, reason=Reason.TOO_SMALL)]


def shown(bench: Bench) -> dict[int, bytes]:
    table = pq.read_table(io.BytesIO(bench.memory.objects[KEY].body))
    return {row["row"]: row["thumbnail"] for row in table.to_pylist()}


@pytest.mark.parametrize("output", FORMATS)
async def test_accepted_rows_name_the_file_that_holds_their_thumbnails(bench: Bench, output: OutputFormat) -> None:
    chunk = await bench.chunk(ROWS, recipe=Recipe(output_format=output, thumbnails=32))

    result = await chunk.upload()

    assert [row["thumbnail_path"] for row in await bench.index()] == [KEY, None, KEY, None, None]
    assert shown(bench) == {0: small(1), 2: small(2)}
    assert KEY in bench.objects
    assert result.size_bytes == sum(len(held.body) for held in bench.memory.objects.values())


@pytest.mark.parametrize("output", FORMATS)
async def test_an_uploaded_chunk_keeps_no_file_open(bench: Bench, output: OutputFormat) -> None:
    """Else its pack takes up room on the work volume for as long as the worker lives."""
    chunk = await bench.chunk(ROWS, recipe=Recipe(output_format=output, thumbnails=32))
    gc.collect()
    before = opened_files()

    gc.disable()
    try:
        await chunk.upload()
        after = opened_files()
    finally:
        gc.enable()

    assert after <= before


def opened_files() -> set[str]:
    return {file.path for file in psutil.Process().open_files()}


async def test_without_the_choice_there_is_no_file(bench: Bench) -> None:
    await (await bench.chunk(ROWS, recipe=Recipe())).upload()

    assert KEY not in bench.memory.objects
    assert {row["thumbnail_path"] for row in await bench.index()} == {None}


async def test_many_lie_in_groups_that_can_be_read_alone(bench: Bench) -> None:
    rows: list[Row] = [jpeg(8 + number, small=small(1 + number % 7)) for number in range(45)]
    await (await bench.chunk(rows, recipe=Recipe(thumbnails=32))).upload()

    contents = pq.read_metadata(io.BytesIO(bench.memory.objects[KEY].body))

    assert [contents.row_group(number).num_rows for number in range(contents.num_row_groups)] == [20, 20, 5]


@pytest.mark.parametrize("output", FORMATS)
async def test_what_an_attempt_that_died_had_stored_is_adopted(bench: Bench, output: OutputFormat) -> None:
    chosen = Recipe(output_format=output, thumbnails=32)
    await (await bench.chunk(ROWS, recipe=chosen)).upload()
    before = bench.memory.objects[KEY]
    del bench.memory.objects[index_key(0, 0, 0)]

    await (await bench.chunk(ROWS, recipe=chosen)).upload()

    assert bench.memory.objects[KEY] is before
    assert [row["thumbnail_path"] for row in await bench.index()] == [KEY, None, KEY, None, None]


async def test_a_thumbnail_of_another_picture_is_not_taken_for_its_own(bench: Bench) -> None:
    chosen = Recipe(output_format=OutputFormat.WEBDATASET, thumbnails=32)
    await (await bench.chunk([jpeg(11, small=small(1)), jpeg(12, small=small(2))], recipe=chosen)).upload()
    for key in (index_key(0, 0, 0), "data/r000-000000.tar"):
        del bench.memory.objects[key]

    await (await bench.chunk([jpeg(21, small=small(3)), jpeg(12, small=small(2))], recipe=chosen)).upload()

    assert [row["thumbnail_path"] for row in await bench.index()] == [None, KEY]


async def test_an_index_of_an_earlier_version_is_read_as_one_without_thumbnails(bench: Bench) -> None:
    await (await bench.chunk(ROWS, recipe=Recipe())).upload()
    index = await bench.index_table()
    older = to_parquet(index.drop_columns(["thumbnail_path"]))

    found = from_parquet(older)

    assert found.equals(index)
    with pytest.raises(ValueError, match="1 columns are missing"):
        from_parquet(to_parquet(index.drop_columns(["thumbnail_path", "sha256"])))
