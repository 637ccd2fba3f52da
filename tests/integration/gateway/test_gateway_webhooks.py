"""Webhooks as clients make, look at and change them."""

from typing import Any

import asyncpg
import httpx2
import pytest

from gateway.credentials import Scope
from tests.integration.gateway.conftest import MakeKey, client_of

HOOK = "https://hooks.pixcrawler.org/jobs"


async def made(api: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await api.post("/v1/webhooks", json={"url": HOOK, **more})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


async def test_a_webhook_tells_its_secret_once(api: httpx2.AsyncClient) -> None:
    webhook = await made(api)

    shown = (await api.get(f"/v1/webhooks/{webhook['id']}")).json()
    listed = (await api.get("/v1/webhooks")).json()["data"]

    assert webhook.pop("secret").startswith("whsec_")
    assert shown == webhook
    assert listed == [webhook]
    assert set(webhook["events"]) == {"job.completed", "job.completed_with_failures", "job.failed", "job.cancelled"}


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.pixcrawler.org/",
        "https://169.254.169.254/",
        "https://localhost/",
        "https://hooks.pixcrawler.org:8080/",
        "https://user:word@hooks.pixcrawler.org/",
        "ftp://hooks.pixcrawler.org/",
        "not a URL",
    ],
)
async def test_a_url_that_may_not_be_asked_is_refused_at_once(api: httpx2.AsyncClient, url: str) -> None:
    answer = await api.post("/v1/webhooks", json={"url": url})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/url"
    assert url not in answer.text


async def test_a_tenant_has_a_bounded_number_of_them(api: httpx2.AsyncClient, stranger: httpx2.AsyncClient) -> None:
    for _ in range(20):
        await made(api)

    answer = await api.post("/v1/webhooks", json={"url": HOOK})

    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")
    assert (await made(stranger))["url"] == HOOK


async def test_a_secret_is_replaced_with_an_overlap(api: httpx2.AsyncClient) -> None:
    webhook = await made(api)

    rotated = (await api.post(f"/v1/webhooks/{webhook['id']}/rotate", json={})).json()
    at_once = (await api.post(f"/v1/webhooks/{webhook['id']}/rotate", json={"overlap_seconds": 0})).json()

    assert rotated["old_secret_until"] is not None
    assert at_once["old_secret_until"] is None
    assert len({webhook["secret"], rotated["secret"], at_once["secret"]}) == 3


async def test_deliveries_are_listed_and_sent_anew(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    webhook = await made(api)
    place = f"/v1/webhooks/{webhook['id']}"
    first, second = [(await api.post(f"{place}/test")).json() for _ in range(2)]
    await database.execute("UPDATE webhook_deliveries SET state = 'dead', attempts = 9 WHERE id = $1", first["id"])

    page = (await api.get(f"{place}/deliveries", params={"limit": 1})).json()
    rest = (await api.get(f"{place}/deliveries", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    dead = (await api.get(f"{place}/deliveries", params={"state": "dead"})).json()
    anew = await api.post(f"{place}/deliveries/{first['id']}/redeliver")

    assert [each["id"] for each in (*page["data"], *rest["data"])] == [second["id"], first["id"]]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert [each["id"] for each in dead["data"]] == [first["id"]]
    assert anew.status_code == 202
    assert (anew.json()["state"], anew.json()["attempts"], anew.json()["event"]) == ("pending", 0, "webhook.test")


async def test_a_disabled_webhook_is_enabled_again(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    webhook = await made(api)
    await database.execute("UPDATE webhooks SET disabled_at = now(), disabled_why = 'the receiver answers 500'")

    shown = (await api.get(f"/v1/webhooks/{webhook['id']}")).json()
    enabled = (await api.post(f"/v1/webhooks/{webhook['id']}/enable")).json()

    assert shown["disabled_why"] == "the receiver answers 500"
    assert (enabled["disabled_at"], enabled["disabled_why"]) == (None, "")


async def test_a_deleted_webhook_is_gone(api: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    webhook = await made(api)
    await api.post(f"/v1/webhooks/{webhook['id']}/test")

    assert (await api.delete(f"/v1/webhooks/{webhook['id']}")).json()["id"] == webhook["id"]
    assert (await api.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 404
    assert await database.fetchval("SELECT count(*) FROM webhook_deliveries") == 0


async def test_another_tenants_webhook_is_not_to_be_seen_or_changed(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    place = f"/v1/webhooks/{(await made(api))['id']}"
    delivery = (await api.post(f"{place}/test")).json()["id"]
    theirs = f"/v1/webhooks/{(await made(stranger))['id']}"

    answers = [
        await stranger.get(place),
        await stranger.delete(place),
        await stranger.post(f"{place}/rotate", json={}),
        await stranger.post(f"{place}/enable"),
        await stranger.post(f"{place}/test"),
        await stranger.get(f"{place}/deliveries"),
        await stranger.post(f"{place}/deliveries/{delivery}/redeliver"),
        await stranger.post(f"{theirs}/deliveries/{delivery}/redeliver"),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert len((await api.get(f"{place}/deliveries")).json()["data"]) == 1


async def test_a_key_that_may_only_read_changes_no_webhook(
    api: httpx2.AsyncClient, make_key: MakeKey, app: Any
) -> None:
    webhook = await made(api)

    async with client_of(app, await make_key(scopes=(Scope.JOBS_READ,))) as reader:
        assert (await reader.get(f"/v1/webhooks/{webhook['id']}")).status_code == 200
        assert (await reader.post("/v1/webhooks", json={"url": HOOK})).status_code == 403
        assert (await reader.post(f"/v1/webhooks/{webhook['id']}/rotate", json={})).status_code == 403
