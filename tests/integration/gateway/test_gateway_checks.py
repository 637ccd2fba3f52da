"""Dry runs of uploaded lists, as clients ask for them; the scheduler carries them out."""

import json

import asyncpg
import httpx2

from gateway.problems import Code
from tests.integration.gateway.test_gateway_access import assert_problem


async def uploaded(api: httpx2.AsyncClient, name: str = "urls.csv.gz") -> str:
    answer = await api.post("/v1/manifests", params={"filename": name}, content=b"url\nhttps://example.com/a.jpg\n")
    return str(answer.json()["id"])


async def test_a_dry_run_is_a_resource_that_is_polled(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    manifest = await uploaded(api)

    wished = await api.post(f"/v1/manifests/{manifest}/check", json={"caption_col": "text"})
    waiting = await api.get(wished.headers["location"])
    source = json.loads(await database.fetchval("SELECT source FROM list_checks"))
    await database.execute("UPDATE list_checks SET state = 'failed', error_code = 'bad_source', error = 'no rows'")
    failed = await api.get(wished.headers["location"])

    assert (wished.status_code, wished.json()["state"]) == (202, "waiting")
    assert waiting.json() == wished.json()
    assert (source["format"], source["ending"], source["url_col"], source["caption_col"]) == (
        *("csv", ".gz", None, "text"),
    )
    assert failed.json()["error"] == {"code": "bad_source", "detail": "no rows"}


async def test_what_names_no_list_of_yours_is_not_found(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    manifest = await uploaded(api)
    wished = await api.post(f"/v1/manifests/{manifest}/check", json={})
    other = await uploaded(api)
    check = wished.json()["id"]

    for answer in (
        await stranger.post(f"/v1/manifests/{manifest}/check", json={}),
        await stranger.get(f"/v1/manifests/{manifest}/checks/{check}"),
        await api.get(f"/v1/manifests/{other}/checks/{check}"),
        await api.post("/v1/manifests/nonsense/check", json={}),
    ):
        assert_problem(answer, 404, Code.NOT_FOUND)
    assert await database.fetchval("SELECT count(*) FROM list_checks") == 1


async def test_a_list_of_unknown_format_needs_one_named(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    manifest = await uploaded(api)
    await database.execute("UPDATE uploads SET filename = 'urls'")

    refused = await api.post(f"/v1/manifests/{manifest}/check", json={})
    taken = await api.post(f"/v1/manifests/{manifest}/check", json={"format": "csv"})

    assert_problem(refused, 422, Code.BAD_SOURCE)
    assert taken.status_code == 202


async def test_a_tenant_has_ten_dry_runs_open_at_most(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    manifest = await uploaded(api)

    answers = [await api.post(f"/v1/manifests/{manifest}/check", json={}) for _ in range(11)]
    await database.execute("UPDATE list_checks SET finished_at = now() WHERE id = $1", answers[0].json()["id"])
    after = await api.post(f"/v1/manifests/{manifest}/check", json={})

    assert [answer.status_code for answer in answers] == [202] * 10 + [429]
    assert_problem(answers[-1], 429, Code.QUOTA_EXCEEDED)
    assert answers[-1].headers["retry-after"] == "30"
    assert after.status_code == 202
