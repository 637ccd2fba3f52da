"""Lists that arrive in parts, and uploads that are repeated."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx2
import pytest

from gateway import arriving
from gateway.problems import Code
from gateway.settings import GatewaySettings
from scheduler.housekeeping import tidy_spool
from shared.resources import Resources, open_resources
from tests.core import scheduler_settings
from tests.integration.gateway.conftest import request_for
from tests.integration.gateway.test_gateway_access import assert_problem

LIST = b"https://example.com/a.jpg\nhttps://example.com/b.jpg\n"
DIGEST = hashlib.sha256(LIST).hexdigest()


@pytest.fixture
async def upload(api: httpx2.AsyncClient) -> str:
    """Where an upload's parts go."""
    begun = await api.post("/v1/uploads", json={"filename": "urls.txt"})
    assert begun.status_code == 201, begun.text
    return begun.headers["location"].removeprefix("http://gateway")


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


async def send(api: httpx2.AsyncClient, upload: str, at: int, body: bytes) -> httpx2.Response:
    return await api.patch(upload, content=body, headers={"Upload-Offset": str(at)})


async def test_parts_become_a_list_that_jobs_may_name(api: httpx2.AsyncClient, upload: str, place: Path) -> None:
    first = await send(api, upload, 0, LIST[:30])
    seen = await api.get(upload)
    second = await send(api, upload, 30, LIST[30:])
    done = await api.post(f"{upload}/complete", json={"sha256": DIGEST.upper()})
    again = await api.post(f"{upload}/complete", json={"sha256": DIGEST})
    whole = await api.post("/v1/manifests", params={"filename": "urls.txt"}, content=LIST)
    job = await api.post("/v1/jobs", json=request_for(place) | {"source": {"manifest_id": done.json()["id"]}})

    assert [answer.headers["upload-offset"] for answer in (first, seen, second)] == ["30", "30", str(len(LIST))]
    assert (done.status_code, done.json()) == (200, again.json())
    assert (done.json()["sha256"], done.json()["size_bytes"]) == (DIGEST, len(LIST))
    assert whole.json()["sha256"] == DIGEST
    assert job.status_code == 202, job.text


@pytest.mark.parametrize("at", [0, 29, 31])
async def test_a_part_that_begins_elsewhere_is_refused_with_the_right_place(
    api: httpx2.AsyncClient, upload: str, at: int
) -> None:
    await send(api, upload, 0, LIST[:30])

    refused = await send(api, upload, at, LIST[30:])

    assert_problem(refused, 409, Code.UPLOAD_OFFSET)
    assert refused.headers["upload-offset"] == "30"


async def test_of_two_that_send_the_same_stretch_at_once_one_is_counted(api: httpx2.AsyncClient, upload: str) -> None:
    answers = await asyncio.gather(*(send(api, upload, 0, LIST[:end]) for end in (20, 25, 30, 35)))
    arrived = int((await api.get(upload)).headers["upload-offset"])
    await send(api, upload, arrived, LIST[arrived:])
    done = await api.post(f"{upload}/complete", json={"sha256": DIGEST})

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert done.status_code == 200, done.text


async def test_a_list_with_another_digest_is_refused_and_may_be_given_up(
    api: httpx2.AsyncClient, upload: str, database: asyncpg.Connection
) -> None:
    empty = await api.post(f"{upload}/complete", json={})
    await send(api, upload, 0, LIST)
    wrong = await api.post(f"{upload}/complete", json={"sha256": "00" * 32})
    given_up = await api.delete(upload)
    gone = await send(api, upload, len(LIST), b"x")

    assert_problem(empty, 422, Code.BAD_SOURCE)
    assert_problem(wrong, 422, Code.BAD_SOURCE)
    assert given_up.status_code == 200
    assert_problem(gone, 404, Code.NOT_FOUND)
    assert await database.fetchval("SELECT count(*) FROM upload_parts") == 0


async def test_a_list_that_is_whole_takes_no_more_and_stays(api: httpx2.AsyncClient, upload: str) -> None:
    await send(api, upload, 0, LIST)
    await api.post(f"{upload}/complete", json={})

    assert_problem(await send(api, upload, len(LIST), b"x"), 409, Code.UPLOAD_COMPLETE)
    assert_problem(await api.delete(upload), 409, Code.UPLOAD_COMPLETE)


async def test_all_parts_together_are_held_to_the_limit(
    api: httpx2.AsyncClient, upload: str, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = settings.max_manifest_bytes // 2
    await send(api, upload, 0, b"x" * half)

    assert_problem(await send(api, upload, half, b"x" * (half + 1)), 413, Code.BODY_TOO_LARGE)
    monkeypatch.setattr(arriving, "_MOST_PARTS", 1)
    assert_problem(await send(api, upload, half, b"x"), 413, Code.BODY_TOO_LARGE)
    assert (await api.get(upload)).headers["upload-offset"] == str(half)


async def test_a_tenant_has_twenty_uploads_open_at_most(api: httpx2.AsyncClient, upload: str) -> None:
    answers = [await api.post("/v1/uploads", json={"filename": "a.csv"}) for _ in range(20)]

    assert [answer.status_code for answer in answers] == [201] * 19 + [429]
    assert_problem(answers[-1], 429, Code.QUOTA_EXCEEDED)


async def test_what_is_left_of_uploads_goes_with_time(
    api: httpx2.AsyncClient, upload: str, database: asyncpg.Connection, resources: Resources, tmp_path: Path
) -> None:
    def parts() -> int:
        return sum(path.is_file() for path in (tmp_path / "spool" / "parts").rglob("*"))

    async def tidy(suspects: frozenset[str] = frozenset()) -> frozenset[str]:
        return (await tidy_spool(resources, keep=timedelta(days=30), suspects=suspects)).suspects

    await send(api, upload, 0, LIST)
    abandoned = (await api.post("/v1/uploads", json={"filename": "a.csv"})).headers["location"]
    await send(api, abandoned, 0, LIST)
    await tidy(await tidy())
    kept = parts()
    await api.post(f"{upload}/complete", json={})
    await database.execute("UPDATE uploads SET created_at = now() - interval '25 hours' WHERE NOT is_complete")
    suspects = await tidy()
    suspected = parts()
    await tidy(suspects)

    assert (kept, suspected, parts()) == (2, 2, 0)
    assert await database.fetchval("SELECT count(*) FROM uploads") == 1
    assert_problem(await api.get(abandoned), 404, Code.NOT_FOUND)


async def test_an_upload_that_is_repeated_with_its_name_is_done_once(
    api: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    async def post(body: bytes) -> httpx2.Response:
        return await api.post(
            "/v1/manifests", params={"filename": "a.txt"}, content=body, headers={"Idempotency-Key": "one"}
        )

    first, again, other = await post(LIST), await post(LIST), await post(LIST[:26])

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert_problem(other, 422, Code.IDEMPOTENCY_MISMATCH)
    assert await database.fetchval("SELECT count(*) FROM uploads") == 1
