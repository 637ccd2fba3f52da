"""Progress streams over a real server process, and how it starts and stops."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import MakeKey, request_for
from tests.integration.gateway.processes import (
    LIMIT_SECONDS,
    Process,
    environment_of,
    serving,
    started,
    streaming,
    told,
)
from tests.servers import free_port


@pytest.fixture
async def gateway(settings: GatewaySettings, make_key: MakeKey) -> AsyncIterator[Process]:
    async with serving(settings, await make_key()) as process:
        yield process


async def submitted(gateway: Process, place: Path) -> str:
    made: str = (await gateway.client.post("/v1/jobs", json=request_for(place))).json()["id"]
    return made


async def test_a_stream_shows_every_change_and_ends_with_the_job(
    gateway: Process, database: asyncpg.Connection, place: Path
) -> None:
    job = await submitted(gateway, place)

    async with streaming(gateway.client, job) as stream, streaming(gateway.client, job) as other:
        first = await stream.next()
        await database.execute(
            """UPDATE jobs SET state = 'running', planned_rows = 2, counts = '{"accepted": 1, "rejected": {}}'"""
        )
        second = await stream.next()
        await database.execute("""UPDATE jobs SET waiting_for = 'x', counts = '{"accepted": 0, "rejected": {}}'""")
        third = await stream.next()
        await database.execute("""UPDATE jobs SET state = 'completed', counts = '{"accepted": 2, "rejected": {}}'""")
        last = await stream.next()
        has_ended = await stream.has_ended()
        others = [await other.next()]
        while others[-1][0] != "done":
            others.append(await other.next())

    assert [name for name, _ in (first, second, third, last)] == ["job", "job", "job", "done"]
    assert [shown["accepted"] for _, shown in (first, second, third, last)] == [0, 1, 0, 2], (
        "a redrive takes counts back"
    )
    assert has_ended
    assert last[1] == (await gateway.client.get(f"/v1/jobs/{job}")).json()
    assert others[-1][1]["state"] == "completed"


async def test_a_finished_jobs_stream_is_one_event(gateway: Process, database: asyncpg.Connection, place: Path) -> None:
    job = await submitted(gateway, place)
    await database.execute("UPDATE jobs SET state = 'cancelled'")

    async with streaming(gateway.client, job) as stream:
        name, shown = await stream.next()
        has_ended = await stream.has_ended()

    assert (name, shown["state"], has_ended) == ("done", "cancelled", True)


async def test_who_comes_back_is_told_what_is_new_and_only_that(
    gateway: Process, database: asyncpg.Connection, place: Path
) -> None:
    job = await submitted(gateway, place)
    async with streaming(gateway.client, job) as stream:
        await stream.next()
        seen = stream.last_id

    async with streaming(gateway.client, job, **{"Last-Event-ID": seen}) as stream:
        assert (await stream.line()).startswith(":"), "a comment, at once"
        await database.execute("UPDATE jobs SET state = 'paused'")
        name, shown = await stream.next()
        stale, newest = seen, stream.last_id
    async with streaming(gateway.client, job, **{"Last-Event-ID": stale}) as stream:
        _, again = await stream.next()

    assert (name, shown["state"]) == ("job", "paused")
    assert again == shown
    assert newest != seen


async def test_stopping_ends_open_streams_and_says_come_back(gateway: Process, place: Path) -> None:
    job = await submitted(gateway, place)

    async with streaming(gateway.client, job) as stream:
        await stream.next()
        stopping = asyncio.create_task(gateway.stop())
        name, _ = await stream.next()
        has_ended = await stream.has_ended()
        code = await stopping

    assert (name, has_ended, code) == ("reconnect", True, 0)


async def test_metrics_and_checks_are_served_on_the_second_port(gateway: Process, place: Path) -> None:
    job = await submitted(gateway, place)
    await gateway.client.get(f"/v1/jobs/{job}")
    await gateway.client.get("/nowhere/at/all")

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.health_port}") as client:
        metrics = (await client.get("/metrics")).text
        ready = await client.get("/readyz")

    assert 'pixcrawler_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"} 1.0' in metrics
    assert 'route="unmatched",status="404"' in metrics
    assert job not in metrics
    assert ready.json() == {"database": "ok"}


async def test_a_port_in_use_is_one_sentence(gateway: Process, settings: GatewaySettings) -> None:
    taken = gateway.client.base_url.port

    async with started(environment_of(settings, LISTEN_PORT=taken)) as second:
        said = await told(second, "cannot start")
        code = await asyncio.wait_for(second.wait(), LIMIT_SECONDS)

    assert f"cannot listen on 127.0.0.1:{taken}" in said
    assert "PIXCRAWLER_LISTEN_PORT" in said
    assert code != 0


async def test_a_database_that_never_comes_is_one_sentence(settings: GatewaySettings) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"

    async with started(environment_of(settings, DATABASE_URL=away, STARTUP_TIMEOUT_SECONDS=0.1)) as process:
        said = await told(process, "cannot start")
        code = await asyncio.wait_for(process.wait(), LIMIT_SECONDS)

    assert "PIXCRAWLER_DATABASE_URL" in said
    assert code != 0


async def test_the_key_command_makes_lists_rotates_and_revokes(settings: GatewaySettings) -> None:
    key = await keys(settings, "create", "--tenant", "local", "--tier", "enterprise", "--name", "laptop")
    nameless = await keys(settings, "create", "--tenant", "local", "--days", "9")
    successor = await keys(settings, "rotate", nameless.split("_")[1], "--overlap-hours", "2")
    listed = await keys(settings, "list")
    await keys(settings, "revoke", key.split("_")[1])
    after = await keys(settings, "list")

    assert key.startswith("pxc_")
    assert key.count("\n") == 1
    assert key.split("_")[2] not in listed
    assert {nameless.split("_")[1], successor.split("_")[1]} <= set(listed.split())
    assert listed.count("valid until") == 2
    assert "local\tenterprise\tlaptop\tjobs:read jobs:write\tvalid" in listed
    assert "revoked" in after


async def keys(settings: GatewaySettings, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.keys", *arguments),
        env=environment_of(settings),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    assert process.returncode == 0
    return output.decode()
