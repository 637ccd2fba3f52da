"""Shards written anew without some rows: what stays is byte for byte what was there."""

import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scheduler.shards import without_rows, without_rows_in_table
from shared.errors import StoreRefused
from shared.recipe import OutputFormat, Recipe
from tests.upload_bench import Bench, Row, jpeg

ROWS = [jpeg(20, caption="Jane"), jpeg(24), jpeg(28, caption="a cat")]


async def stored(folder: Path, output: OutputFormat, rows: list[Row]) -> dict[str, bytes]:
    """The data objects of a chunk."""
    bench = Bench(folder)
    await (await bench.chunk(rows, recipe=Recipe(output_format=output))).upload()
    return {key: held.body for key, held in bench.memory.objects.items() if key.startswith("data/")}


def cut(folder: Path, key: str, body: bytes, rows: list[int]) -> bytes | None:
    old, new = folder / "old", folder / "new"
    old.write_bytes(body)
    return new.read_bytes() if without_rows(key, old, new, rows) else None


async def test_a_tar_is_what_it_would_be_without_the_row(tmp_path: Path) -> None:
    ((key, body),) = (await stored(tmp_path / "all", OutputFormat.WEBDATASET, ROWS)).items()
    ((_, wanted),) = (await stored(tmp_path / "two", OutputFormat.WEBDATASET, ROWS[:2])).items()

    assert cut(tmp_path, key, body, [2]) == wanted
    left = cut(tmp_path, key, body, [0])
    assert left is not None
    with tarfile.open(fileobj=io.BytesIO(left)) as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {"000000001", "000000002"}
    assert ROWS[0].body not in left


async def test_a_parquet_file_keeps_its_types_and_how_its_columns_are_stored(tmp_path: Path) -> None:
    ((key, body),) = (await stored(tmp_path / "all", OutputFormat.PARQUET, ROWS)).items()
    before = pq.ParquetFile(io.BytesIO(body))

    left = cut(tmp_path, key, body, [0])

    assert left is not None
    after = pq.ParquetFile(io.BytesIO(left))
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.read().equals(before.read().slice(1))
    assert ROWS[0].body not in left
    assert b"Jane" not in left
    for number in range(before.metadata.num_columns):
        was, now = (file.metadata.row_group(0).column(number) for file in (before, after))
        assert (now.compression, now.has_dictionary_page, now.is_stats_set) == (
            was.compression,
            was.has_dictionary_page,
            was.is_stats_set,
        )


async def test_metadata_is_what_it_would_be_without_the_row(tmp_path: Path) -> None:
    objects = await stored(tmp_path / "all", OutputFormat.FILES, ROWS)
    wanted = await stored(tmp_path / "two", OutputFormat.FILES, ROWS[:2])
    key = "data/r000-000000/metadata.parquet"

    left = without_rows_in_table(key, objects[key], [2])

    assert left is not None
    assert pq.read_table(io.BytesIO(left)).equals(pq.read_table(io.BytesIO(wanted[key])))
    assert without_rows_in_table(key, left, [2]) is left, "nothing to do"


async def test_nothing_is_left_without_the_last_row(tmp_path: Path) -> None:
    for output in (OutputFormat.WEBDATASET, OutputFormat.PARQUET):
        ((key, body),) = (await stored(tmp_path / output, output, ROWS[:1])).items()
        assert cut(tmp_path, key, body, [0]) is None
    objects = await stored(tmp_path / "files", OutputFormat.FILES, ROWS[:1])
    key = "data/r000-000000/metadata.parquet"
    assert without_rows_in_table(key, objects[key], [0]) is None


@pytest.mark.parametrize("key", ["data/r000-000000.tar", "data/r000-000000.parquet"])
def test_what_is_not_ours_is_refused_and_not_rewritten(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreRefused, match="not as it was stored"):
        cut(tmp_path, key, b"something else" * 100, [0])
