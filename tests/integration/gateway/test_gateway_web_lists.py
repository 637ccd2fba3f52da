"""Lists on the web: fetched through the guard, from an origin that misbehaves."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest

from gateway import web_lists
from gateway.problems import Code
from gateway.settings import GatewaySettings
from gateway.web_lists import WebLists
from shared.egress import NOTICE_PORTS, Egress
from shared.errors import TransientError
from shared.guard import Guard, Policy
from tests.integration.gateway.conftest import Effects, request_for
from tests.integration.gateway.test_gateway_access import assert_problem
from tests.origin import Handler, Origin, Request, Wire

LIST = b"url\nhttps://example.com/a.jpg\n"


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    """The origin is one that the operator allows; every other internal address is refused as ever."""
    allowed = {"allow_cidrs": ["127.0.0.1/32"], "allow_ports": [0]}
    return GatewaySettings.model_validate(settings.model_dump() | allowed)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        running.handlers["/urls.csv"] = answering(LIST)
        yield running


def answering(body: bytes, **headers: str) -> Handler:
    async def answer(_: Request, wire: Wire) -> None:
        await wire.reply(body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def asked(place: Path, url: str, **more: object) -> dict[str, object]:
    return request_for(place) | {"source": {"reference": url}, **more}


@pytest.mark.parametrize("is_redirected", [False, True])
async def test_a_list_on_the_web_is_fetched_into_the_spool(
    api: httpx2.AsyncClient, origin: Origin, place: Path, tmp_path: Path, is_redirected: bool
) -> None:
    url = origin.url("/urls.csv?token=1")
    if is_redirected:
        url = origin.redirect_to(url)

    answer = await api.post("/v1/jobs", json=asked(place, url, list={"format": "csv"}))

    assert answer.status_code == 202, answer.text
    spooled = [path for path in (tmp_path / "spool" / "lists").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in spooled] == [LIST]


@pytest.mark.parametrize(
    "target",
    [
        "/redirect?to=http://169.254.169.254/urls.csv",
        "/redirect?to=http://127.0.0.2/urls.csv",
        "/loop",
        "/status/404",
    ],
)
async def test_what_the_guard_or_the_host_refuses_is_a_bad_source(
    api: httpx2.AsyncClient, origin: Origin, place: Path, effects: Effects, target: str
) -> None:
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=asked(place, origin.url(target), list={"format": "csv"}))

    assert_problem(answer, 422, Code.BAD_SOURCE)
    assert await effects.seen() == before


@pytest.mark.parametrize("url", ["http://93.184.215.14/urls.csv", "https://10.0.0.1/urls.csv", "https://[/urls.csv"])
async def test_only_https_to_public_addresses_is_asked(api: httpx2.AsyncClient, place: Path, url: str) -> None:
    assert_problem(await api.post("/v1/jobs", json=asked(place, url)), 422, Code.BAD_SOURCE)


async def test_a_list_that_is_too_large_is_cut_off(
    api: httpx2.AsyncClient, origin: Origin, place: Path, settings: GatewaySettings, effects: Effects
) -> None:
    origin.handlers["/urls.csv"] = answering(b"x" * (settings.max_manifest_bytes + 1))

    answer = await api.post("/v1/jobs", json=asked(place, origin.url("/urls.csv")))

    assert_problem(answer, 422, Code.BAD_SOURCE)
    assert "larger" in answer.json()["detail"]


async def test_a_bomb_sent_as_an_encoding_is_refused_before_it_is_unpacked(
    api: httpx2.AsyncClient, origin: Origin, place: Path
) -> None:
    packed = gzip.compress(b"url\n" + b"x" * 100 * 1024**2)
    origin.handlers["/urls.csv"] = answering(packed, Content_Encoding="gzip")

    answer = await api.post("/v1/jobs", json=asked(place, origin.url("/urls.csv")))

    assert_problem(answer, 422, Code.BAD_SOURCE)
    assert "unpacks too far" in answer.json()["detail"]


async def test_a_host_in_trouble_is_worth_another_try(
    api: httpx2.AsyncClient, origin: Origin, place: Path, database: asyncpg.Connection
) -> None:
    answer = await api.post("/v1/jobs", json=asked(place, origin.url("/status/503"), list={"format": "csv"}))

    assert_problem(answer, 503, Code.UNAVAILABLE)
    assert answer.headers["retry-after"]
    assert await database.fetchval("SELECT count(*) FROM jobs") == 0


async def test_slow_hosts_hold_no_more_than_the_threads_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_lists, "_AT_ONCE", 1)
    begun, released = threading.Event(), threading.Event()

    class Slow(Egress):
        def download(self, *_: object, **__: object) -> int:
            begun.set()
            released.wait(60)
            return 0

    lists = WebLists(Slow(Guard(Policy(ports=NOTICE_PORTS)), agent="test/1"))
    first = asyncio.create_task(lists.fetch("https://example.com/a.csv", tmp_path / "a", most_bytes=1))
    await asyncio.to_thread(begun.wait, 60)
    with pytest.raises(TransientError):
        await lists.fetch("https://example.com/b.csv", tmp_path / "b", most_bytes=1)
    released.set()
    await first

    await lists.fetch("https://example.com/c.csv", tmp_path / "c", most_bytes=1)
    lists.close()
