"""A whole job with every service as its own user, in Redis and in PostgreSQL, and with signed bells."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler import AsyncClient, Destination, Job, JobRequest, JobState, Source
from pixcrawler.models import WebhookWithSecret
from pixcrawler.sample import sample_origin
from pixcrawler.webhooks import verify
from pixcrawler.words import DeliveryState
from shared.pipeline import Tier
from tests.architecture.tree import SERVICES
from tests.core import board_at
from tests.origin import Origin, Request, Wire
from tests.privileges import database_url_for, redis_url_for, with_database_roles, with_redis_users
from tests.system import System, until

pytestmark = pytest.mark.timeout(180)

ROWS = 40
#: What redis-py asks of a newer server than 7.0, and does without.
NOT_NEEDED = {"client|setinfo"}


async def test_a_whole_job_runs_with_every_service_as_its_own_user(
    postgres_admin_url: str, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with board_at(database_url) as board, Origin(handlers={"/hook": _receive}) as receiver:
        scopes = (Scope.JOBS_READ, Scope.JOBS_WRITE)
        key = await create(board.engine, tenant="ours", tier=Tier.FREE, name="", scopes=scopes)
        with sample_origin(rows=ROWS) as origin, with_redis_users(redis_url):
            allowances = {
                "PIXCRAWLER_ALLOW_CIDRS": json.dumps([f"{host}/32" for host in {origin.host, receiver.host}]),
                "PIXCRAWLER_ALLOW_PORTS": "[0]",
            }
            system = System(database_url, redis_url, tmp_path, extra=allowances)
            async with with_database_roles(postgres_admin_url, database_url):
                with all_running(system) as gateway:
                    urls = [row.url(origin.base_url) for row in origin.corpus.rows]
                    async with AsyncClient(gateway, key) as client:
                        webhook = await client.create_webhook(receiver.url("/hook"))
                        job = await _run(client, urls, tmp_path / "out")
                        told = await _told(client, webhook, receiver)

            with Redis.from_url(redis_url) as admin:
                refused = {(entry["username"], entry["object"]) for entry in admin.acl_log()}
                assert admin.keys("pixcrawler:robots:*"), "what was refused, a service would do without"

        assert (job.state, job.accepted + sum(job.rejected.values())) == (JobState.COMPLETED, ROWS)
        assert (told["type"], told["data"]["job_id"]) == ("job.completed", str(job.id))
        assert {what for _, what in refused} <= NOT_NEEDED, refused
        assert await board.one("SELECT count(*) FROM poison_messages") == 0
    assert "permission denied" not in _logs(tmp_path)


@contextmanager
def all_running(system: System) -> Iterator[str]:
    """All services, each as its own user; the gateway's address."""
    services = [
        system.start(
            name,
            REDIS_URL=redis_url_for(name, system.redis_url),
            DATABASE_URL=database_url_for(name, system.database_url),
            BELL_KEY="b" * 32,
            TASK_EVENTS="true",
        )
        for name in SERVICES
    ]
    try:
        for service in services:
            service.wait_until_ready()
        yield f"http://127.0.0.1:{services[SERVICES.index('gateway')].api_port}"
    finally:
        for service in services:
            if service.process.poll() is None:
                service.kill()


def _logs(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("*.log"))


async def _run(client: AsyncClient, urls: list[str], place: Path) -> Job:
    request = JobRequest(source=Source(rows=[{"url": url} for url in urls]), destination=Destination(url=str(place)))
    return await client.wait((await client.submit(request)).job.id, timeout_seconds=60)


async def _receive(_: Request, wire: Wire) -> None:
    await wire.reply(b"", status=204)
    await wire.close()  # the body is not read


async def _told(client: AsyncClient, webhook: WebhookWithSecret, receiver: Origin) -> dict[str, Any]:
    """What the receiver was told, its signature checked."""

    async def is_delivered() -> bool:
        return [each async for each in client.deliveries(webhook.id, state=DeliveryState.DELIVERED)] != []

    await until("the end of the job is told", is_delivered)
    (delivery,) = [each async for each in client.deliveries(webhook.id)]
    body = json.dumps(delivery.payload, separators=(",", ":"), ensure_ascii=False).encode()
    return verify(receiver.requests[-1].headers, body, webhook.secret)
