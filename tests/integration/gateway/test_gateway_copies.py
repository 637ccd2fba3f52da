"""Two gateways, processes of their own, behind a plain proxy: nothing a client holds belongs to one of them."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncpg
import httpx2
import pytest

from gateway.problems import Code
from gateway.settings import GatewaySettings
from pixcrawler import AsyncClient, JobState
from tests.integration.gateway.conftest import MakeKey, request_for
from tests.integration.gateway.processes import Process, serving
from tests.integration.gateway.test_gateway_access import assert_problem

LIMIT = 40


class InTurn:
    """The proxy: each connection goes to the next copy that takes it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports, self._next = ports, itertools.count()
        self.taken = dict.fromkeys(ports, 0)
        #: Who took the newest connection.
        self.latest = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._next)
        for turn in range(len(self._ports)):
            port = self._ports[(first + turn) % len(self._ports)]
            with suppress(ConnectionError):
                theirs, ours = await asyncio.open_connection("127.0.0.1", port)
                self.taken[port] += 1
                self.latest = port
                await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
                return
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()


@dataclass
class Copies:
    """Two copies, the proxy, and a client that opens a connection for each request."""

    copies: Sequence[Process]
    proxy: InTurn
    client: httpx2.AsyncClient
    key: str


@pytest.fixture
async def copies(settings: GatewaySettings, make_key: MakeKey) -> AsyncIterator[Copies]:
    key = await make_key()
    limited = {"REQUESTS_A_MINUTE": LIMIT}
    headers, each_anew = {"Authorization": f"Bearer {key}"}, httpx2.Limits(max_keepalive_connections=0)
    async with (
        serving(settings, key, **limited) as one,
        serving(settings, key, **limited) as two,
        InTurn([int(copy.client.base_url.port or 0) for copy in (one, two)]) as proxy,
        httpx2.AsyncClient(base_url=proxy.url, headers=headers, limits=each_anew) as client,
    ):
        yield Copies([one, two], proxy, client, key)


async def test_a_client_may_talk_to_either_copy_at_every_step(
    copies: Copies, database: asyncpg.Connection, place: Path
) -> None:
    client = copies.client
    uploaded = await client.post("/v1/manifests", params={"filename": "a.txt"}, content=b"https://example.com/a.jpg")
    asked = {"source": {"manifest_id": uploaded.json()["id"]}, "destination": {"url": str(place)}}
    first = await client.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "one"})
    again = await client.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "one"})
    other = await client.post("/v1/jobs", json={}, headers={"Idempotency-Key": "one"})
    job = f"/v1/jobs/{first.json()['id']}"
    seen = await client.get(job)
    unchanged = await client.get(job, headers={"If-None-Match": seen.headers["etag"]})
    paused = await client.post(f"{job}/pause", headers={"If-Match": seen.headers["etag"]})
    stale = await client.post(f"{job}/cancel", headers={"If-Match": seen.headers["etag"]})

    assert (first.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.content == first.content
    assert_problem(other, 422, Code.IDEMPOTENCY_MISMATCH)
    assert unchanged.status_code == 304
    assert paused.json()["state"] == "paused"
    assert_problem(stale, 412, Code.PRECONDITION_FAILED)
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1

    for name in ("dogs", "eels"):
        await client.post("/v1/jobs", json=request_for(place.with_name(name), name=name))
    shown, page = [], "/v1/jobs?limit=1"
    while page:
        answer = await client.get(page)
        shown += [job["name"] for job in answer.json()["data"]]
        page = answer.links.get("next", {}).get("url", "")

    assert shown == ["eels", "dogs", ""]

    remaining = [int((await client.get("/v1/me")).headers["ratelimit"].split("r=")[1].split(";")[0]) for _ in range(4)]
    while (refused := await client.get("/v1/me")).is_success:
        pass

    assert remaining == list(range(remaining[0], remaining[0] - 4, -1)), "they count together"
    assert_problem(refused, 429, Code.RATE_LIMITED)
    assert min(copies.proxy.taken.values()) > 5


async def test_a_stream_goes_on_at_another_copy_when_one_stops(
    copies: Copies, database: asyncpg.Connection, place: Path
) -> None:
    made = (await copies.client.post("/v1/jobs", json=request_for(place))).json()["id"]
    states: list[JobState] = []

    async with AsyncClient(copies.proxy.url, copies.key) as client:
        async for job in client.events(made):
            states.append(job.state)
            if states == [JobState.QUEUED]:
                (streaming,) = (copy for copy in copies.copies if copy.client.base_url.port == copies.proxy.latest)
                assert await streaming.stop() == 0
                await database.execute("UPDATE jobs SET state = 'completed', finished_at = now()")

    assert states[0] is JobState.QUEUED
    assert states[-1] is JobState.COMPLETED
    assert copies.proxy.latest != streaming.client.base_url.port


async def test_parts_of_a_list_may_arrive_at_either_copy(copies: Copies, place: Path) -> None:
    client = copies.client
    body = b"".join(b"https://example.com/%d.jpg\n" % number for number in range(9))
    upload = (await client.post("/v1/uploads", json={"filename": "a.txt"})).headers["location"]

    for at in range(0, len(body), 100):
        sent = await client.patch(upload, content=body[at : at + 100], headers={"Upload-Offset": str(at)})
        assert sent.status_code == 200, sent.text
    listed = await client.post(f"{upload}/complete", json={"sha256": hashlib.sha256(body).hexdigest()})
    job = await client.post("/v1/jobs", json=request_for(place) | {"source": {"manifest_id": listed.json()["id"]}})

    assert listed.json()["size_bytes"] == len(body)
    assert job.status_code == 202, job.text
