"""Rows of the index, by page and filter."""

from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pyarrow as pa
import pytest

from shared.index import accepted, counts_of, index_key, index_of, records_of, rejected, to_parquet
from shared.reasons import Reason
from shared.records import SOURCE
from tests.integration.gateway.conftest import request_for

#: One letter a row: accepted, not found, too small, duplicate.
KINDS = {"a": None, "n": Reason.HTTP_NOT_FOUND, "s": Reason.TOO_SMALL, "d": Reason.DUPLICATE}


def index_table(first_row: int, kinds: str) -> pa.Table:
    rows = range(first_row, first_row + len(kinds))
    source = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "url": [f"https://example.com/{row}" for row in rows],
            "caption": pa.array([None] * len(kinds), pa.string()),
            "weight": pa.array([float("nan")] * len(kinds)),
        },
        schema=pa.schema([*SOURCE, pa.field("weight", pa.float64())]),
    )
    records = [
        accepted(record, path="data/x") if KINDS[kind] is None else rejected(record, KINDS[kind])  # type: ignore[arg-type]
        for record, kind in zip(records_of(source, revision=0), kinds, strict=True)
    ]
    return index_of(records, source)


@pytest.fixture
async def job(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path) -> str:
    """A job of four chunks; the second has not ended."""
    made: str = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]
    first_row = 0
    for ordinal, (kinds, state) in enumerate(
        [("aans", "completed"), ("aaaa", "uploading"), ("nnd", "failed"), ("sad", "completed")]
    ):
        table = index_table(first_row, kinds)
        passed, by_reason = counts_of(table)
        await database.execute(
            """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                                   virtual_start, score, state, counts)
               VALUES ($1, $2, $3, $4, 'p', 0, 1, 'free', 0, 0, $5,
                       jsonb_build_object('accepted', $6::int, 'rejected', $7::jsonb))""",
            *(made, ordinal, first_row, len(kinds), state, passed, str(by_reason).replace("'", '"')),
        )
        if state != "uploading":
            path = place / index_key(0, ordinal, 0)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(to_parquet(table))
        first_row += len(kinds)
    return made


async def rows_of(api: httpx2.AsyncClient, job: str, **query: Any) -> tuple[list[int], int]:
    """All matching rows over all pages, and how many pages it took."""
    rows: list[int] = []
    for pages in range(1, 50):
        page = (await api.get(f"/v1/jobs/{job}/images", params=query)).json()
        rows += [row["row"] for row in page["data"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            return rows, pages
        query["cursor"] = page["next_cursor"]
    raise AssertionError("the pages never end")


ENDED = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 10, 500])
async def test_pages_show_every_ended_row_once_in_input_order(api: httpx2.AsyncClient, job: str, limit: int) -> None:
    rows, pages = await rows_of(api, job, limit=limit)

    assert rows == ENDED
    assert pages <= -(-len(ENDED) // limit) + 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "accepted"}, [0, 1, 12]),
        ({"status": "success"}, [0, 1, 12]),
        ({"status": "rejected"}, [2, 3, 8, 9, 10, 11, 13]),
        ({"status": "failed_to_download"}, [2, 8, 9]),
        ({"status": "failed_to_resize"}, [3, 10, 11, 13]),
        ({"reason": "too_small"}, [3, 11]),
        ({"reason": "duplicate", "limit": 1}, [10, 13]),
        ({"reason": "tls_invalid"}, []),
        ({"status": "accepted", "reason": "too_small"}, []),
    ],
)
async def test_rows_are_filtered_by_status_and_reason(
    api: httpx2.AsyncClient, job: str, query: dict[str, Any], expected: list[int]
) -> None:
    rows, _ = await rows_of(api, job, **query)

    assert rows == expected


async def test_a_row_carries_saved_columns_and_reason_as_json(api: httpx2.AsyncClient, job: str) -> None:
    page = (await api.get(f"/v1/jobs/{job}/images", params={"reason": "too_small", "limit": 1})).json()

    row = page["data"][0]
    assert (row["key"], row["reason"], row["status"]) == ("000000003", "too_small", "failed_to_resize")
    assert row["weight"] is None  # not a number is no JSON
    assert row["error_message"]


async def test_an_index_is_read_from_the_destination_once(api: httpx2.AsyncClient, job: str, place: Path) -> None:
    before, _ = await rows_of(api, job)
    (place / index_key(0, 0, 0)).unlink()

    after, _ = await rows_of(api, job)

    assert before == after == ENDED


async def test_a_chunk_without_an_index_is_left_out(api: httpx2.AsyncClient, job: str, place: Path) -> None:
    (place / index_key(0, 2, 0)).unlink()

    rows, _ = await rows_of(api, job)

    assert rows == [0, 1, 2, 3, 11, 12, 13]


@pytest.mark.parametrize(
    "query", [{"status": "lovely"}, {"reason": "lovely"}, {"limit": 501}, {"cursor": "WzEsIngiXQ"}, {"cursor": "WzFd"}]
)
async def test_an_unknown_filter_or_cursor_is_refused(api: httpx2.AsyncClient, job: str, query: dict[str, Any]) -> None:
    answer = await api.get(f"/v1/jobs/{job}/images", params=query)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
