"""Further revisions of a dataset, and other datasets from its list: what the gateway makes of such wishes."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from shared.reasons import REASONS
from tests.integration.gateway.conftest import request_for

MORE = {"source": {"rows": [{"url": "https://example.com/c.jpg"}]}}
COUNTS = {"accepted": 3, "rejected": {"too_slow": 2, "http_not_found": 1}}


async def ended_job(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, **more: Any) -> dict[str, Any]:
    """A job that has ended, with these counts."""
    made: dict[str, Any] = (await api.post("/v1/jobs", json=request_for(place, **more))).json()
    await database.execute(
        "UPDATE jobs SET state = 'completed', finished_at = now(), counts = $1 WHERE id = $2",
        *(json.dumps(COUNTS), made["id"]),
    )
    return made


async def test_an_appended_list_becomes_the_next_revision(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place, name="cats", recipe={"min_image_size": 64})

    answer = await api.post(f"/v1/jobs/{first['id']}/append", json=MORE)

    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == job["urls"]["self"]
    assert (job["dataset_id"], job["revision"], job["kind"]) == (first["dataset_id"], 1, "append")
    assert (job["name"], job["state"], job["recipe"]["min_image_size"]) == ("cats", "queued", 64)
    assert await database.fetchval("SELECT revision FROM datasets") == 1


async def test_the_same_list_is_appended_once(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    made = await api.post(f"/v1/jobs/{first['id']}/append", json=MORE)

    while_it_runs = await api.post(f"/v1/jobs/{first['id']}/append", json=MORE)
    await database.execute("UPDATE jobs SET state = 'completed'")
    afterwards = await api.post(f"/v1/jobs/{made.json()['id']}/append", json=MORE)

    assert [again.status_code for again in (while_it_runs, afterwards)] == [200, 200]
    assert {again.json()["id"] for again in (while_it_runs, afterwards)} == {made.json()["id"]}


async def test_the_first_request_still_finds_its_job_after_an_append(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    await api.post(f"/v1/jobs/{first['id']}/append", json=MORE)

    again = await api.post("/v1/jobs", json=request_for(place))

    assert (again.status_code, again.json()["id"]) == (200, first["id"])


async def test_an_appended_list_is_read_as_the_first_unless_it_says_otherwise(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    rows = {"rows": [{"link": "https://example.com/a.jpg", "text": "a cat", "id": 1}]}
    options = {"url_col": "link", "caption_col": "text", "save_columns": ["id"]}
    first = await ended_job(api, database, place, source=rows, list=options)
    named_anew = {"rows": [{"url": "https://example.com/b.jpg", "text": "a dog", "id": 2}]}

    refused = await api.post(f"/v1/jobs/{first['id']}/append", json={"source": named_anew})
    taken = await api.post(f"/v1/jobs/{first['id']}/append", json={"source": named_anew, "url_col": "url"})

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_source")
    assert taken.status_code == 202
    source = json.loads(await database.fetchval("SELECT source FROM jobs WHERE revision = 1"))
    assert (source["url_col"], source["caption_col"], source["save_columns"]) == ("url", "text", ["id"])


@pytest.mark.parametrize(("verb", "body"), [("append", MORE), ("retry", {})])
async def test_one_job_at_a_time_changes_a_dataset(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, verb: str, body: dict[str, Any]
) -> None:
    first = (await api.post("/v1/jobs", json=request_for(place))).json()

    answer = await api.post(f"/v1/jobs/{first['id']}/{verb}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_busy")
    assert first["id"] in answer.json()["detail"]
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1


async def test_a_retry_takes_by_default_whatever_may_pass(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)

    made = await api.post(f"/v1/jobs/{first['id']}/retry", json={})
    again = await api.post(f"/v1/jobs/{first['id']}/retry", json={})

    assert (made.status_code, made.json()["kind"]) == (202, "retry")
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    source = json.loads(await database.fetchval("SELECT source FROM jobs WHERE revision = 1"))
    assert set(source["reasons"]) == {reason for reason, about in REASONS.items() if about.is_retryable}


async def test_a_retry_of_reasons_that_no_row_has_is_refused(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    await database.execute("""UPDATE jobs SET replaced = '{"too_slow": 2}'""")

    codes = [
        (await api.post(f"/v1/jobs/{first['id']}/retry", json={"reasons": reasons})).json()["code"]
        for reasons in (["too_slow"], ["deadline"])
    ]
    taken = await api.post(f"/v1/jobs/{first['id']}/retry", json={"reasons": ["too_slow", "http_not_found"]})
    unknown = await api.post(f"/v1/jobs/{first['id']}/retry", json={"reasons": ["bad_luck"]})

    assert codes == ["nothing_to_retry"] * 2
    assert taken.status_code == 202
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")
    assert await database.fetchval("SELECT count(*) FROM jobs") == 2


async def test_a_refresh_keeps_by_default_what_is_gone_and_is_one_job_until_it_ends(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    await database.execute("""UPDATE jobs SET counts = '{"accepted": 3, "rejected": {}}'""")

    made = await api.post(f"/v1/jobs/{first['id']}/refresh", json={})
    again = await api.post(f"/v1/jobs/{first['id']}/refresh", json={"gone": "keep"})
    other = await api.post(f"/v1/jobs/{first['id']}/refresh", json={"gone": "drop"})
    unknown = await api.post(f"/v1/jobs/{first['id']}/refresh", json={"gone": "hide"})

    assert (made.status_code, made.json()["kind"]) == (202, "refresh")
    assert made.json()["refreshed"] == {"unchanged": 0, "changed": 0, "gone": 0}
    assert (first["refreshed"], first["urls"]["refresh"]) == (None, f"{first['urls']['self']}/refresh")
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert (other.status_code, other.json()["code"]) == (409, "dataset_busy")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")
    assert json.loads(await database.fetchval("SELECT source FROM jobs WHERE revision = 1"))["gone"] == "keep"


async def test_a_dataset_without_pictures_is_not_refreshed(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    await database.execute("""UPDATE jobs SET counts = '{"accepted": 0, "rejected": {"too_small": 4}}'""")

    answer = await api.post(f"/v1/jobs/{first['id']}/refresh", json={})

    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_retry")
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1


async def test_nothing_is_added_to_a_dataset_that_is_gone(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place)
    (place / "dataset.json").unlink()

    answer = await api.post(f"/v1/jobs/{first['id']}/append", json=MORE)

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_lost")


async def test_a_clone_reads_the_same_list_into_another_dataset(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    first = await ended_job(api, database, place, name="cats", recipe={"min_image_size": 64})
    elsewhere, small = {"url": str(place.with_name("clone"))}, {"url": str(place.with_name("small"))}

    same = await api.post(f"/v1/jobs/{first['id']}/clone", json={"destination": elsewhere})
    again = await api.post(f"/v1/jobs/{first['id']}/clone", json={"destination": elsewhere})
    other = await api.post(f"/v1/jobs/{first['id']}/clone", json={"destination": small, "recipe": {"image_size": 64}})
    taken = await api.post(f"/v1/jobs/{first['id']}/clone", json={"destination": {"url": str(place)}, "recipe": {}})

    assert [made.status_code for made in (same, again, other, taken)] == [202, 200, 202, 409]
    assert (same.json()["name"], same.json()["kind"], same.json()["revision"]) == ("cats", "build", 0)
    assert (same.json()["recipe"]["min_image_size"], other.json()["recipe"]["min_image_size"]) == (64, 0)
    assert again.json()["id"] == same.json()["id"]
    assert await database.fetchval("SELECT count(DISTINCT source ->> 'key') FROM jobs") == 1


async def test_a_list_that_is_not_kept_any_more_cannot_be_cloned(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, tmp_path: Path
) -> None:
    first = await ended_job(api, database, place)
    (tmp_path / "spool" / json.loads(await database.fetchval("SELECT source FROM jobs"))["key"]).unlink()

    answer = await api.post(
        f"/v1/jobs/{first['id']}/clone", json={"destination": {"url": str(place.with_name("clone"))}}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source")


async def test_a_retry_has_no_list_to_clone(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path) -> None:
    first = await ended_job(api, database, place)
    retry = (await api.post(f"/v1/jobs/{first['id']}/retry", json={})).json()

    answer = await api.post(
        f"/v1/jobs/{retry['id']}/clone", json={"destination": {"url": str(place.with_name("clone"))}}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source")


@pytest.mark.parametrize(
    ("verb", "body"),
    [("append", MORE), ("retry", {}), ("refresh", {}), ("clone", {"destination": {"url": "/nowhere"}})],
)
async def test_nobody_touches_another_tenants_dataset(
    api: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    database: asyncpg.Connection,
    place: Path,
    verb: str,
    body: dict[str, Any],
) -> None:
    first = await ended_job(api, database, place)

    answer = await stranger.post(f"/v1/jobs/{first['id']}/{verb}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1
