"""Small pictures over HTTP: only what the index names, with an ETag, and nothing a browser would run."""

import io
from pathlib import Path

import asyncpg
import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.index import index_key, thumbnails_key, to_parquet
from shared.records import THUMBNAILS
from tests.images import jpeg
from tests.integration.gateway.conftest import request_for
from tests.integration.gateway.test_gateway_images import index_table

FIRST_ROW = 500
PICTURES = [jpeg(8 + number) for number in range(3)]


@pytest.fixture
async def job(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path) -> str:
    """A job whose chunk has three rows: with a thumbnail, accepted without one, and rejected though there is one."""
    made: str = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]
    await database.execute(
        """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                               virtual_start, score, state)
           VALUES ($1, 0, $2, 3, 'p', 0, 1, 'free', 0, 0, 'completed')""",
        *(made, FIRST_ROW),
    )
    index = index_table(FIRST_ROW, "aan")
    column = pa.array([thumbnails_key(0, 0), None, None], pa.string())
    named = index.set_column(index.column_names.index("thumbnail_path"), "thumbnail_path", column)
    rows = range(FIRST_ROW, FIRST_ROW + 3)
    table = pa.table({"row": rows, "stored_sha256": ["0"] * 3, "thumbnail": PICTURES}, THUMBNAILS)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    for key, body in ((index_key(0, 0, 0), to_parquet(named)), (thumbnails_key(0, 0), sink.getvalue())):
        path = place / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
    return made


def url(job: str, row: int | str) -> str:
    return f"/v1/jobs/{job}/images/{row}/thumbnail"


async def test_the_picture_of_a_row_is_answered_as_a_picture_only(api: httpx2.AsyncClient, job: str) -> None:
    answer = await api.get(url(job, FIRST_ROW))

    assert (answer.status_code, answer.content) == (200, PICTURES[0])
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, max-age=300"


async def test_who_has_it_already_is_told_so(api: httpx2.AsyncClient, job: str) -> None:
    tag = (await api.get(url(job, FIRST_ROW))).headers["ETag"]

    again = await api.get(url(job, FIRST_ROW), headers={"If-None-Match": tag})
    other = await api.get(url(job, FIRST_ROW), headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert other.status_code == 200


@pytest.mark.parametrize("row", [FIRST_ROW + 1, FIRST_ROW + 2, FIRST_ROW + 3, 0, 2**53])
async def test_what_the_index_does_not_name_is_not_shown(api: httpx2.AsyncClient, job: str, row: int) -> None:
    answer = await api.get(url(job, row))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_thumbnail")


async def test_a_file_that_is_gone_is_no_thumbnail(api: httpx2.AsyncClient, job: str, place: Path) -> None:
    (place / thumbnails_key(0, 0)).unlink()

    answer = await api.get(url(job, FIRST_ROW))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_thumbnail")


@pytest.mark.parametrize("row", ["-1", "x", str(2**53 + 1), "9" * 5000, "%00"])
async def test_what_is_no_row_is_refused(api: httpx2.AsyncClient, job: str, row: str) -> None:
    answer = await api.get(url(job, row))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_the_list_of_images_says_which_have_one(api: httpx2.AsyncClient, job: str) -> None:
    page = (await api.get(f"/v1/jobs/{job}/images")).json()

    assert [row["thumbnail_path"] for row in page["data"]] == [thumbnails_key(0, 0), None, None]
