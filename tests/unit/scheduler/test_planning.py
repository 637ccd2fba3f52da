"""Plans: parts of independent chunks, numbered without gaps, the same after a crash."""

import asyncio
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scheduler.planning import FIRST_PART_CHUNKS, PART_CHUNKS, Part, part_chunks, plan, plan_slice
from shared.errors import BadSource
from shared.manifest import open_list
from shared.pipeline import CHUNK_ROWS
from shared.records import SOURCE, from_stream, saved_columns

FIRST_ROW = 7_000


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list that fills the first part, one more part, and ends within a chunk."""
    rows = (FIRST_PART_CHUNKS + PART_CHUNKS) * CHUNK_ROWS + 3 * CHUNK_ROWS + 7
    path = tmp_path / "list.parquet"
    table = pa.table(
        {
            "url": [f"https://example.org/{number}" for number in range(rows)],
            "caption": [None if number % 3 else f"picture {number}" for number in range(rows)],
            "wide": pa.array(range(rows), pa.int32()),
        }
    )
    pq.write_table(table, path, row_group_size=12_345)
    return path


def planned(path: Path, folder: Path) -> list[Part]:
    folder.mkdir()
    with open_list(path, caption_col="caption", save_columns=["wide"]) as reader:
        return list(plan(reader, first_row=FIRST_ROW, folder=folder))


def tables(part: Part) -> list[pa.Table]:
    stored = part.path.read_bytes()
    return [from_stream(stored[chunk.offset : chunk.offset + chunk.length]) for chunk in part.chunks]


def test_the_first_part_is_small_and_only_the_last_says_so(listed: Path, tmp_path: Path) -> None:
    parts = planned(listed, tmp_path / "parts")

    assert [len(part.chunks) for part in parts] == [FIRST_PART_CHUNKS, PART_CHUNKS, 4]
    assert [part.is_last for part in parts] == [False, False, True]
    assert part_chunks(0) == FIRST_PART_CHUNKS


def test_each_chunk_is_readable_by_itself_and_all_have_one_schema(listed: Path, tmp_path: Path) -> None:
    parts = planned(listed, tmp_path / "parts")

    found = [table for part in parts for table in tables(part)]

    assert {table.schema for table in found} == {pa.schema([*SOURCE, pa.field("wide", pa.int32())])}
    assert saved_columns(found[0]) == ["wide"]
    assert pa.concat_tables(found).drop_columns("row").equals(pq.read_table(listed))


def test_rows_and_ordinals_have_no_gaps(listed: Path, tmp_path: Path) -> None:
    parts = planned(listed, tmp_path / "parts")
    chunks = [chunk for part in parts for chunk in part.chunks]

    rows = pa.concat_tables([table for part in parts for table in tables(part)])["row"].to_pylist()

    assert rows == list(range(FIRST_ROW, FIRST_ROW + pq.read_metadata(listed).num_rows))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.first_row for chunk in chunks] == rows[::CHUNK_ROWS]
    assert {chunk.rows for chunk in chunks[:-1]} == {CHUNK_ROWS}
    assert chunks[-1].rows == 7


def test_byte_ranges_fill_the_part_and_its_digest_is_right(listed: Path, tmp_path: Path) -> None:
    for part in planned(listed, tmp_path / "parts"):
        ends = [chunk.offset + chunk.length for chunk in part.chunks]

        assert [chunk.offset for chunk in part.chunks] == [0, *ends[:-1]]
        assert ends[-1] == part.size_bytes == part.path.stat().st_size
        assert part.sha256 == hashlib.sha256(part.path.read_bytes()).hexdigest()


def test_a_part_planned_again_by_another_process_has_the_same_bytes(listed: Path, tmp_path: Path) -> None:
    first, second, _ = planned(listed, tmp_path / "parts")

    with open_list(listed, caption_col="caption", save_columns=["wide"]) as reader:
        again = plan_slice(
            reader,
            first.cursor,
            first_row=FIRST_ROW + first.rows,
            first_ordinal=len(first.chunks),
            max_chunks=PART_CHUNKS,
            path=tmp_path / "again",
        )

    assert (again.sha256, again.chunks, again.cursor) == (second.sha256, second.chunks, second.cursor)


def test_a_list_that_ends_with_the_part_leaves_no_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("https://example.org/1\n" * (FIRST_PART_CHUNKS * CHUNK_ROWS))

    with open_list(path) as reader:
        parts = list(plan(reader, first_row=0, folder=tmp_path))

    assert [(part.rows, part.is_last) for part in parts] == [(FIRST_PART_CHUNKS * CHUNK_ROWS, True)]


def test_a_list_that_breaks_later_gives_its_first_part_before(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[" + '"https://example.org/1",' * (FIRST_PART_CHUNKS * CHUNK_ROWS + 5) + "broken]")

    with open_list(path) as reader:
        parts = plan(reader, first_row=0, folder=tmp_path)

        assert next(parts).rows == FIRST_PART_CHUNKS * CHUNK_ROWS
        with pytest.raises(BadSource, match="broken at byte"):
            next(parts)


async def test_planning_runs_in_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("url\nhttps://example.org/1\n")

    reader = await asyncio.to_thread(open_list, path)
    part = await asyncio.to_thread(
        plan_slice, reader, None, first_row=0, first_ordinal=0, max_chunks=4, path=tmp_path / "part"
    )
    await asyncio.to_thread(reader.close)

    assert (part.rows, part.is_last) == (1, True)
