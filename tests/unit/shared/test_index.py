"""Every input row has one index row, and the rows add up."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import ChunkError
from shared.index import (
    accepted,
    accepted_as_stored,
    counts_of,
    from_parquet,
    index_of,
    index_of_open_rows,
    object_keys,
    records_of,
    rejected,
    saved_fields,
    to_parquet,
)
from shared.reasons import REASONS, Reason
from shared.records import FETCHED, INDEX, SOURCE, VERDICTS, table_of

SAVED = [pa.field("score", pa.float32()), pa.field("id", pa.uint16())]
WHEN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def source(rows: int = 4) -> pa.Table:
    schema = pa.schema([*SOURCE, *SAVED])
    planned = [
        {"row": 7 + n, "url": f"http://o.test/{n}", "caption": None, "score": n / 2, "id": n} for n in range(rows)
    ]
    return pa.Table.from_pylist(planned, schema=schema)


def fetched() -> pa.Table:
    got = {"offset": 0, "length": 100, "http_status": 200, "attempts": 2, "fetch_ms": 9, "fetched_at": WHEN}
    gone = {"reason": "http_not_found", "detail": "the host said 404", "http_status": 404, "attempts": 1}
    return table_of([{"row": 7, **got}, {"row": 8, **gone}, {"row": 9, **got}, {"row": 10, **got}], FETCHED)


def verdicts() -> pa.Table:
    known = {"format": "png", "original_width": 30, "original_height": 40, "sha256": "aa", "exif": "{}", "frames": 1}
    stored = {"length": 60, "stored_format": "jpg", "stored_sha256": "bb", "width": 3, "height": 4}
    return table_of(
        [
            {"row": 7, **known, **stored},
            {"row": 8, "reason": "http_not_found"},
            {"row": 9, **known, "reason": "too_small"},
            {"row": 10, **known, **stored, "duplicate_of": 7},  # nearly the same picture, reported only
        ],
        VERDICTS,
    )


def records() -> list[dict[str, Any]]:
    return records_of(source(), fetched(), verdicts(), revision=3)


def test_a_record_brings_together_what_all_stages_know() -> None:
    first = records()[0]

    expected = {"row": 7, "key": "000000007", "revision": 3, "score": 0.0, "bytes": 100, "stored_bytes": 60, "width": 3}
    assert {name: first[name] for name in expected} == expected
    assert (first["status"], first["reason"], first["error_message"]) == ("success", None, None)
    assert (first["original_width"], first["attempts"], first["fetched_at"]) == (30, 2, WHEN)


def test_a_rejected_record_says_why_in_code_in_words_and_in_img2datasets_status() -> None:
    _, gone, small, _ = records()

    assert (gone["reason"], gone["status"], gone["error_message"]) == (
        "http_not_found",
        "failed_to_download",
        "the host said 404",
    )
    assert (small["reason"], small["status"], small["error_message"]) == (
        "too_small",
        "failed_to_resize",
        REASONS[Reason.TOO_SMALL].advice,
    )
    assert (small["original_width"], small["width"], small["stored_bytes"]) == (30, None, None)


def test_a_near_duplicate_stays_accepted_and_reported() -> None:
    near = accepted(records()[3], path="data/x.tar")

    assert (near["reason"], near["duplicate_of"], near["path"]) == (None, 7, "data/x.tar")


def test_a_duplicate_names_its_winner_and_nothing_stored() -> None:
    loser = rejected(records()[0], Reason.DUPLICATE, duplicate_of=2)

    assert (loser["reason"], loser["duplicate_of"], loser["stored_sha256"], loser["path"]) == (
        "duplicate",
        2,
        None,
        None,
    )
    assert loser["sha256"] == "aa"


def test_an_image_stored_before_keeps_the_fetch_that_brought_the_same_bytes() -> None:
    record = rejected(records()[0], Reason.DUPLICATE, duplicate_of=2)

    same = accepted_as_stored(record, {"sha256": "aa", "stored_sha256": "bb", "width": 3}, path="p")
    other = accepted_as_stored(record, {"sha256": "cc", "stored_sha256": "dd", "width": 5}, path="p")

    assert (same["http_status"], same["width"], same["reason"], same["duplicate_of"]) == (200, 3, None, None)
    assert (other["http_status"], other["fetched_at"], other["width"], other["frames"]) == (None, None, 5, None)
    assert (other["status"], other["error_message"]) == ("success", None)


def test_the_index_has_the_clients_columns_first_and_all_of_ours() -> None:
    index = index_of(records(), source())

    assert list(index.schema) == [*SAVED, *INDEX]
    assert saved_fields(source()) == SAVED


def test_accepted_and_rejected_are_all_rows() -> None:
    index = index_of(records(), source())

    assert counts_of(index) == (2, {"http_not_found": 1, "too_small": 1})


def test_the_index_survives_parquet_and_is_equal_for_equal_rows() -> None:
    index = index_of(records(), source())

    body = to_parquet(index)

    assert from_parquet(body).equals(index)
    assert from_parquet(body).schema.equals(index.schema)
    assert to_parquet(index_of(records(), source())) == body


def test_a_page_of_the_index_is_a_row_group() -> None:
    large = index_of_open_rows(source(250), Reason.CANCELLED, revision=0)

    file = pq.ParquetFile(pa.BufferReader(to_parquet(large)))

    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [100, 100, 50]


def test_another_parquet_file_is_no_index() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"row": [1]}), sink)

    with pytest.raises(ValueError, match="not an index"):
        from_parquet(sink.getvalue().to_pybytes())
    with pytest.raises(pa.ArrowInvalid):
        from_parquet(b"nothing at all")


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, {"chunk_failed": 4}),  # died before anything was fetched
        ({"fetched": fetched()}, {"chunk_failed": 3, "http_not_found": 1}),
        ({"fetched": fetched(), "verdicts": verdicts()}, {"chunk_failed": 2, "http_not_found": 1, "too_small": 1}),
    ],
)
def test_open_rows_of_a_failed_chunk_fail_with_it(tables: dict[str, pa.Table], expected: dict[str, int]) -> None:
    index = index_of_open_rows(source(), Reason.CHUNK_FAILED, revision=0, **tables)

    assert counts_of(index) == (0, expected)
    assert index["path"].null_count == index["stored_bytes"].null_count == 4


def test_tables_of_different_rows_are_refused() -> None:
    with pytest.raises(ChunkError):
        records_of(source(3), fetched(), verdicts(), revision=0)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/r000-000012.tar", ["data/r000-000012.tar"]),
        ("data/png/r000-000012.tar", ["data/png/r000-000012.tar"]),
        ("data/r000-000012.parquet", ["data/r000-000012.parquet"]),
        ("data/r000-000012/000006001.jpg", ["data/r000-000012/metadata.parquet"]),  # loose: named by their metadata
        (None, []),
    ],
)
def test_the_objects_of_a_finished_chunk_are_told_by_its_index(path: str | None, expected: list[str]) -> None:
    rows = [{**record, "path": path} for record in records()]

    assert object_keys(index_of(rows, source())) == expected
