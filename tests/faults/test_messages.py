"""Messages that come doubled, late, out of order, spoiled, forged, too new or too old decide nothing."""

import json
import pickle
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from redis import Redis

from shared.broker import build_app, ring
from shared.db.bells import Bell
from shared.messages import Why
from shared.pipeline import DEFAULT_CELL, DOWNLOAD, PIPELINE, UPLOAD, Stage
from tests.core import scheduler_settings
from tests.faults.world import World
from tests.system import until

pytestmark = pytest.mark.timeout(300)

long = pytest.mark.faults


@pytest.fixture
async def app(ours: World) -> AsyncIterator[Celery]:
    """What rings as a service of the world does. Poison is the test's own and is gone after it."""
    system = ours.system
    made = build_app(scheduler_settings(system.database_url, system.redis_url, system.folder))
    yield made
    made.close()
    await ours.board.run("DELETE FROM poison_messages")


def bell(job: UUID, chunk: int, stage: Stage) -> Bell:
    return Bell(
        chunk_id=chunk,
        job_id=job,
        stage=stage,
        cell=DEFAULT_CELL,
        attempt=0,
        why=Why.DISPATCHED,
        traceparent=None,
    )


async def is_answered(ours: World) -> bool:
    """No bell waits, and the priority set is empty."""
    with Redis.from_url(ours.redis.url) as redis:
        return not any(redis.llen(stage.queue) for stage in PIPELINE)


async def poison(ours: World) -> list[str]:
    return [row.error for row in await ours.board.run("SELECT error FROM poison_messages ORDER BY id")]


async def test_a_bell_heard_fifty_times_in_parallel_is_answered_once(ours: World, app: Celery) -> None:
    async with ours.with_deaf_downloader():
        job = await ours.submit()

        async def is_ready() -> bool:
            states = await ours.board.run("SELECT state FROM chunks WHERE job_id = :job", job=job)
            return [row.state for row in states] == ["download_ready"] * 3

        await until("all chunks wait for a downloader", is_ready, limit_seconds=60)

    first, *_ = await ours.board.chunks_of(job)
    for _ in range(50):
        ring(app, bell(job, first, DOWNLOAD))
    with ours.instead("downloader", {"PIXCRAWLER_CONCURRENCY": "3"}) as one:
        ours.mend()
        await ours.has_kept_its_promises(job)
        refused = sum(
            service.metric('pixcrawler_claims_total{result="refused",stage="download"}')
            for service in (one, ours.running["downloader"])
        )

    moves = (await ours.board.histories())[first]
    assert moves.count(("download_ready", "downloading")) == 1
    assert refused >= 50


async def test_bells_of_an_ended_job_rung_again_change_nothing(ours: World, app: Celery) -> None:
    job = await ours.submit()
    await ours.has_kept_its_promises(job)
    before = await ours.board.histories()

    for chunk in await ours.board.chunks_of(job):
        for stage in PIPELINE:
            ring(app, bell(job, chunk, stage))
    await until("all bells are answered", lambda: is_answered(ours))

    await ours.has_kept_its_promises(job)
    assert await ours.board.histories() == before


@long
async def test_an_upload_bell_before_the_download_is_refused(ours: World, app: Celery) -> None:
    job = await ours.under_way()

    for chunk in await ours.board.chunks_of(job):
        ring(app, bell(job, chunk, UPLOAD))
    ours.heal()

    await ours.has_kept_its_promises(job)


def envelope(body: bytes, *, content_type: str = "application/json", **headers: Any) -> bytes:
    """What Celery puts on the wire, with another body."""
    return json.dumps(
        {
            "body": b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"lang": "py", "task": DOWNLOAD.task, "id": str(uuid4()), "argsrepr": "", **headers},
            "properties": {
                "correlation_id": str(uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "download"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    ).encode()


def body(*arguments: object) -> bytes:
    return json.dumps([arguments, {}, {}]).encode()


SPOILED = {
    "no JSON": b"\x00\xff certainly none",
    "no envelope": b"[1, 2, 3]",
    "an envelope without properties": b'{"body": "", "headers": {}}',
    "a body that is no JSON": envelope(b"{" * 1000),
    "a pickled body": envelope(pickle.dumps([[{}], {}, {}]), content_type="application/x-python-serialize"),
    "an unknown task": envelope(body({}), task="os.system"),
    "too many arguments": envelope(body(1, 2, 3)),
    "no arguments": envelope(body()),
    "a huge argument": envelope(body("x" * 10_000_000)),
    "a deep argument": envelope(b"[[" + b"[" * 900 + b"]" * 900 + b"], {}, {}]"),
}


#: Each ended a worker, the second every worker after it.
DEADLY = ("no JSON", "a deep argument")


@pytest.mark.parametrize("kind", [kind if kind in DEADLY else pytest.param(kind, marks=long) for kind in SPOILED])
async def test_a_spoiled_message_harms_neither_worker_nor_chunk(ours: World, app: Celery, kind: str) -> None:
    worker = ours.running["downloader"]
    with Redis.from_url(ours.redis.url) as redis:
        redis.lpush("download", SPOILED[kind])
    await until("the message is taken", lambda: is_answered(ours))

    job = await ours.submit(20)

    await ours.has_ended(job)
    assert worker.process.poll() is None, worker.said()
    await ours.board.run("DELETE FROM poison_messages")
    await ours.has_kept_its_promises(job)


READABLE = {"chunk": 1, "job": str(uuid4()), "stage": "download", "attempt": 0, "why": "dispatched"}


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({**READABLE, "version": 2}, "this worker reads version 1"),
        pytest.param({**READABLE, "stage": "polish"}, "no such stage", marks=long),
        pytest.param({"version": 1}, "chunk: Field required", marks=long),
        pytest.param("text", "message: ", marks=long),
    ],
    ids=["a new version", "a new stage", "nothing in it", "no object"],
)
async def test_what_a_worker_cannot_read_is_kept_for_an_operator(
    ours: World, app: Celery, told: object, error: str
) -> None:
    app.send_task(DOWNLOAD.task, args=[told], queue=DOWNLOAD.queue)

    await until("the message is kept", lambda: has_poison(ours))
    assert error in (await poison(ours))[0]

    job = await ours.submit(20)
    await ours.has_ended(job)
    assert len(await poison(ours)) == 1


async def has_poison(ours: World) -> bool:
    return bool(await poison(ours))


@long
async def test_a_bell_signed_with_a_foreign_key_is_kept_and_not_obeyed(ours: World, app: Celery) -> None:
    async with ours.with_deaf_downloader():
        job = await ours.submit(20)
        await until("the chunk waits", lambda: waits(ours, job))
    with ours.instead("downloader", {"PIXCRAWLER_BELL_KEY": "known-to-this-worker-alone-" * 2}):
        await until("the unsigned bell is kept", lambda: has_poison(ours))
    assert await poison(ours) == ["signature: missing"]
    assert await waits(ours, job)

    ours.mend()
    await ours.has_ended(job)


@pytest.mark.parametrize("field", ["added", pytest.param("left out", marks=long)])
async def test_a_message_of_the_next_or_the_last_version_of_a_service_is_answered(
    ours: World, app: Celery, field: str
) -> None:
    """A newer one may say more, and an older one less, than the worker knows."""
    async with ours.with_deaf_downloader():
        job = await ours.submit(20)
        await until("the chunk waits", lambda: waits(ours, job))
    (chunk,) = await ours.board.chunks_of(job)
    told = {**READABLE, "version": 1, "chunk": chunk, "job": str(job)}
    if field == "added":
        told |= {"colour": "blue", "nested": {"more": [1, 2]}}
    with Redis.from_url(ours.redis.url) as redis:
        redis.delete("download")

    app.send_task(DOWNLOAD.task, args=[told], queue=DOWNLOAD.queue)
    ours.mend()

    await ours.has_ended(job)
    (claimed,) = await ours.board.run("SELECT rings, fence FROM chunks WHERE id = :id", id=chunk)
    assert claimed.rings == 0, "no second bell was needed"
    await ours.has_kept_its_promises(job)


async def waits(ours: World, job: UUID) -> bool:
    states = await ours.board.run("SELECT state FROM chunks WHERE job_id = :job AND dispatched_at IS NOT NULL", job=job)
    return [row.state for row in states] == ["download_ready"]
