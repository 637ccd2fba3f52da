"""What headers say and ask: entity tags, links to the next page, preferences."""

import asyncio
import re
from pathlib import Path

import asyncpg
import httpx2
import pytest

from gateway.problems import Code
from tests.integration.gateway.conftest import request_for
from tests.integration.gateway.test_gateway_access import assert_problem
from tests.system import until


@pytest.fixture
async def job(api: httpx2.AsyncClient, place: Path) -> str:
    """The path of a queued job."""
    made = await api.post("/v1/jobs", json=request_for(place))
    return f"/v1/jobs/{made.json()['id']}"


async def test_a_job_that_has_not_changed_is_not_sent_again(
    api: httpx2.AsyncClient, database: asyncpg.Connection, job: str
) -> None:
    first = await api.get(job)
    seen = {"If-None-Match": f'"elsewhere", W/{first.headers["etag"]}'}

    same = await api.get(job, headers=seen)
    await database.execute("UPDATE jobs SET stored_bytes = 5")
    other = await api.get(job, headers=seen)

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.json()["stored_bytes"]) == (200, 5)


async def test_a_job_is_moved_only_as_its_client_knows_it(
    api: httpx2.AsyncClient, database: asyncpg.Connection, job: str
) -> None:
    known = {"If-Match": (await api.get(job)).headers["etag"]}
    await database.execute("UPDATE jobs SET stored_bytes = 5")  # progress makes nothing stale

    paused = await api.post(f"{job}/pause", headers=known)
    stale = await api.post(f"{job}/cancel", headers=known)
    nonsense = await api.post(f"{job}/cancel", headers={"If-Match": "nonsense"})
    cancelled = await api.post(f"{job}/cancel", headers={"If-Match": f'"elsewhere", {paused.headers["etag"]}'})
    careless = await api.post(f"{job}/cancel", headers={"If-Match": "*"})

    assert paused.json()["state"] == "paused"
    assert_problem(stale, 412, Code.PRECONDITION_FAILED)
    assert_problem(nonsense, 412, Code.PRECONDITION_FAILED)
    assert cancelled.json()["state"] == careless.json()["state"] == "cancelling"


async def test_the_next_page_is_linked_with_what_was_asked_for(api: httpx2.AsyncClient, place: Path) -> None:
    for name in ("cats", "dogs", "eels"):
        await api.post("/v1/jobs", json=request_for(place.with_name(name), name=name))

    shown, page = [], "/v1/jobs?state=queued&limit=2"
    while page:
        answer = await api.get(page)
        shown += [job["name"] for job in answer.json()["data"]]
        link = answer.headers.get("link", "")
        following = re.fullmatch(r'<http://gateway(/v1/jobs\?state=queued&limit=2&cursor=[^>]+)>; rel="next"', link)
        assert bool(link) == bool(following) == answer.json()["has_more"]
        page = following[1] if following else ""

    assert shown == ["eels", "dogs", "cats"]


async def test_a_client_that_prefers_to_wait_is_answered_when_the_job_has_ended(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    submitting = asyncio.create_task(
        api.post("/v1/jobs", json=request_for(place), headers={"Prefer": "respond-async, wait=55"})
    )
    await until("the job is there", lambda: database.fetchval("SELECT count(*) > 0 FROM jobs"))
    await database.execute("UPDATE jobs SET state = 'completed', finished_at = now()")

    answer = await asyncio.wait_for(submitting, 40)

    assert (answer.status_code, answer.json()["state"]) == (200, "completed")
    assert answer.headers["preference-applied"] == "wait=55"


async def test_a_wait_that_is_over_shows_the_job_as_it_is(api: httpx2.AsyncClient, job: str) -> None:
    answer = await api.get(job, headers={"Prefer": "wait=1"})

    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("preference", ["wait=soon", "return=minimal", "wait=0", "", "await=3"])
async def test_what_is_not_understood_is_not_heeded(api: httpx2.AsyncClient, job: str, preference: str) -> None:
    answer = await api.get(job, headers={"Prefer": preference})

    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers
