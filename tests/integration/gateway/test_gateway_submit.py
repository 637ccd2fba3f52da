"""How a request becomes a job, and what it leaves behind when it does not."""

import asyncio
import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.integration.gateway.conftest import Effects, put, request_for


async def test_inline_rows_become_a_job_that_the_scheduler_can_plan(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, tmp_path: Path
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    await database.add_listener("pixcrawler_jobs", lambda *args: told.put_nowait(args[-1]))

    answer = await api.post("/v1/jobs", json=request_for(place, name="cats"))

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["urls"]["self"] == f"http://gateway/v1/jobs/{job['id']}"
    assert (job["name"], job["state"], job["planned"], job["rows"]) == ("cats", "queued", False, 0)
    assert job["destination"] == {"url": str(place), "endpoint": None}
    row = await database.fetchrow("SELECT * FROM jobs")
    source = json.loads(row["source"])
    listed = (tmp_path / "spool" / source["key"]).read_bytes()
    assert source["format"] == "jsonl"
    assert source["digest"] == hashlib.sha256(listed).hexdigest()
    assert [json.loads(line)["url"][-5:] for line in listed.splitlines()] == ["a.jpg", "b.jpg"]
    assert await asyncio.wait_for(told.get(), 5) == job["id"]


async def test_an_accepted_job_marks_its_destination_as_being_built(api: httpx2.AsyncClient, place: Path) -> None:
    answer = await api.post("/v1/jobs", json=request_for(place))

    papers = json.loads((place / "dataset.json").read_text())
    assert (papers["job"], papers["state"], papers["revision"]) == (answer.json()["id"], "building", 0)


async def test_an_uploaded_manifest_is_spooled_once_and_read_in_full(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, tmp_path: Path
) -> None:
    body = gzip.compress(b"link,licence\nhttps://example.com/a.jpg,CC0\n")

    uploads = [await api.post("/v1/manifests", params={"filename": "my urls.csv.gz"}, content=body) for _ in range(2)]
    job = await api.post(
        "/v1/jobs",
        json={
            "source": {"manifest_id": uploads[0].json()["id"]},
            "list": {"url_col": "link", "save_columns": ["licence"]},
            "destination": {"url": str(place)},
        },
    )

    assert [upload.status_code for upload in uploads] == [201, 201]
    assert uploads[0].json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert uploads[0].json()["size_bytes"] == len(body)
    assert job.status_code == 202
    source = json.loads(await database.fetchval("SELECT source FROM jobs"))
    assert (source["format"], source["url_col"], source["save_columns"]) == ("csv", "link", ["licence"])
    assert [path.read_bytes() for path in (tmp_path / "spool" / "lists").rglob("*") if path.is_file()] == [body]


async def test_the_same_request_gives_the_same_job_even_when_it_has_ended(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await api.post("/v1/jobs", json=request_for(place))
    await api.post(f"/v1/jobs/{first.json()['id']}/pause")

    second = await api.post("/v1/jobs", json=request_for(f"{place}/"))
    await database.execute("UPDATE jobs SET state = 'completed'")
    third = await api.post("/v1/jobs", json=request_for(place))

    assert (second.status_code, second.json()["id"], second.json()["state"]) == (200, first.json()["id"], "paused")
    assert (third.status_code, third.json()["id"], third.json()["state"]) == (200, first.json()["id"], "completed")
    assert second.headers["Location"] == first.json()["urls"]["self"]
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1


async def test_the_same_request_sent_at_once_makes_one_job(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    answers = await asyncio.gather(*(api.post("/v1/jobs", json=request_for(place)) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await database.fetchval("SELECT count(*) FROM datasets") == 1


async def test_papers_that_a_crash_swallowed_are_written_by_the_retry(api: httpx2.AsyncClient, place: Path) -> None:
    first = await api.post("/v1/jobs", json=request_for(place))
    (place / "dataset.json").unlink()

    second = await api.post("/v1/jobs", json=request_for(place))

    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert json.loads((place / "dataset.json").read_text())["job"] == first.json()["id"]


@pytest.mark.parametrize("change", [{"recipe": {"depth": "full"}}, {"list": {"save_columns": ["url2"]}}, {"urls": 1}])
async def test_another_dataset_at_the_destination_is_refused_by_name(
    api: httpx2.AsyncClient, effects: Effects, place: Path, change: dict[str, Any]
) -> None:
    rows = [{"url": "https://example.com/a.jpg", "url2": "x"}]
    asked = {"source": {"rows": rows}, "destination": {"url": str(place)}}
    first = await api.post("/v1/jobs", json=asked)
    before = await effects.seen()

    other = {"source": {"rows": [*rows, *rows]}} if "urls" in change else change
    answer = await api.post("/v1/jobs", json=asked | other)

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_taken")
    assert first.json()["id"] in answer.json()["detail"]
    assert await effects.seen() == before


async def test_another_tenants_dataset_is_not_named(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    first = await api.post("/v1/jobs", json=request_for(place))

    answer = await stranger.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_taken")
    assert first.json()["id"] not in answer.text


async def test_a_dataset_whose_state_is_gone_is_refused_with_what_to_do(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    await api.post("/v1/jobs", json=request_for(place))
    await database.execute("TRUNCATE jobs, datasets CASCADE")

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_state_gone")
    assert "choose another destination, or delete this one" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["README.md", "_SUCCESS", "data/cat.jpg", "index/x.parquet"])
async def test_a_destination_that_holds_other_things_is_refused_and_untouched(
    api: httpx2.AsyncClient, effects: Effects, place: Path, name: str
) -> None:
    put(place / name, "mine")
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_not_empty")
    assert name.split("/")[0] in answer.json()["detail"]
    assert await effects.seen() == before


async def test_a_folder_with_unrelated_files_is_a_fine_destination(api: httpx2.AsyncClient, place: Path) -> None:
    put(place / "notes.txt", "mine")

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert answer.status_code == 202


async def test_an_emptied_destination_is_free_once_its_job_has_ended(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await api.post("/v1/jobs", json=request_for(place))
    await database.execute("UPDATE jobs SET state = 'completed'")
    (place / "dataset.json").unlink()

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert answer.status_code == 202
    assert answer.json()["id"] != first.json()["id"]
    assert await database.fetchval("SELECT count(*) FROM datasets") == 1


async def test_an_unfinished_job_whose_results_vanished_is_not_continued_silently(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    job = (await api.post("/v1/jobs", json=request_for(place))).json()
    await database.execute(
        """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                               virtual_start, score, state, outcome)
           VALUES ($1, 0, 0, 2, 'p', 0, 1, 'free', 0, 0, 'completed', 'completed')""",
        job["id"],
    )
    (place / "dataset.json").unlink()

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_lost")


BAD_SOURCES = {
    "an unreadable column": ({"list": {"url_col": "link"}}, "link"),
    "a missing caption column": ({"list": {"caption_col": "text"}}, "text"),
    "a missing saved column": ({"list": {"save_columns": ["licence"]}}, "licence"),
    "a reserved column": (
        {"source": {"rows": [{"url": "u", "sha256": "x"}]}, "list": {"save_columns": ["sha256"]}},
        "",
    ),
    "too many rows": ({"source": {"rows": [{"url": "u"}] * 4}}, "POST /v1/manifests"),
    "an unknown upload": ({"source": {"manifest_id": "0" * 36}}, "POST /v1/manifests"),
    "a local reference": ({"source": {"reference": "/etc/passwd"}}, "az://"),
    "a reference without a container": ({"source": {"reference": "s3://"}}, ""),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
async def test_a_list_that_cannot_be_read_leaves_nothing_behind(
    api: httpx2.AsyncClient, effects: Effects, place: Path, case: str
) -> None:
    change, word = BAD_SOURCES[case]
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for(place) | change)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source"), answer.text
    assert word in answer.json()["detail"]
    assert await effects.seen() == before
    assert place.name not in await effects.folders()


@pytest.mark.parametrize(
    ("filename", "body"),
    [("urls.csv", b""), ("urls.docx", b"x"), ("urls", b"https://example.com/a.jpg")],
)
async def test_an_upload_that_is_no_list_is_refused(
    api: httpx2.AsyncClient, effects: Effects, filename: str, body: bytes
) -> None:
    before = await effects.seen()

    answer = await api.post("/v1/manifests", params={"filename": filename}, content=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source")
    assert await effects.seen() == before


@pytest.mark.parametrize("url_of_list", ["\n\n", "url\n"])
async def test_an_uploaded_list_without_rows_is_refused_at_submit(
    api: httpx2.AsyncClient, place: Path, url_of_list: str
) -> None:
    upload = await api.post("/v1/manifests", params={"filename": "urls.csv"}, content=url_of_list.encode())

    answer = await api.post(
        "/v1/jobs", json={"source": {"manifest_id": upload.json()["id"]}, "destination": {"url": str(place)}}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source")


async def test_another_tenants_upload_cannot_be_used(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    upload = await api.post("/v1/manifests", params={"filename": "urls.txt"}, content=b"https://example.com/a.jpg")

    answer = await stranger.post(
        "/v1/jobs", json={"source": {"manifest_id": upload.json()["id"]}, "destination": {"url": str(place)}}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source")


async def test_an_upload_above_the_limit_is_cut_while_it_arrives(api: httpx2.AsyncClient, effects: Effects) -> None:
    async def endless() -> Any:
        while True:
            yield b"https://example.com/a.jpg\n" * 4096

    before = await effects.seen()
    answer = await api.post("/v1/manifests", params={"filename": "urls.txt"}, content=endless())

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert await effects.seen() == before


BAD_DESTINATIONS = {
    "a relative folder": ({"url": "cats"}, "bad_destination"),
    "a folder elsewhere": ({"url": "/srv/elsewhere/cats"}, "bad_destination"),
    "another cloud": ({"url": "gs://bucket/cats"}, "bad_destination"),
    "an endpoint that is not allowed": (
        {"url": "s3://datasets/cats", "endpoint": "http://169.254.169.254"},
        "bad_destination",
    ),
    "Azure without credentials": ({"url": "az://datasets/cats"}, "destination_refused"),
}


@pytest.mark.parametrize("case", BAD_DESTINATIONS)
async def test_a_destination_that_cannot_be_had_is_refused(
    api: httpx2.AsyncClient, effects: Effects, case: str
) -> None:
    destination, code = BAD_DESTINATIONS[case]
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for("x") | {"destination": destination})

    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert await effects.seen() == before


async def test_a_destination_below_a_file_is_refused_with_the_stores_sentence(
    api: httpx2.AsyncClient, place: Path, effects: Effects
) -> None:
    put(place, "a file, not a folder")
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for(place / "inside"))

    assert (answer.status_code, answer.json()["code"]) == (422, "destination_refused"), answer.text
    assert await effects.seen() == before


async def test_a_link_out_of_the_allowed_folders_is_followed_before_it_is_judged(
    api: httpx2.AsyncClient, tmp_path: Path, place: Path
) -> None:
    put(tmp_path / "elsewhere" / "notes.txt", "mine")
    put(place.parent / "notes.txt", "mine")
    os.symlink(tmp_path / "elsewhere", place)

    answer = await api.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_destination")
