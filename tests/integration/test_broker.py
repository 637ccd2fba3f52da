"""Bells on the wire: by queue and through the anonymous exchange, refused when mistyped, put back when lost."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured, QueueNotFound
from kombu import Queue
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as RedisWentAway

from shared.broker import BrokerUnavailable, build_app, queue_lengths, ring
from shared.messages import BellKeys, ChunkMessage
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD
from shared.ringing import ring_all
from shared.settings import Settings
from shared.trace import Trace
from tests.core import Board, board_at
from tests.servers import Valkey


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def app_of(redis_url: str, **more: str) -> Celery:
    return build_app(Settings.model_validate({"redis_url": redis_url, **more}))


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = app_of(redis_url)
    yield made
    made.close()


async def _due(board: Board, *, cell: str = "main", chunks: int = 1):  # type: ignore[no-untyped-def]
    await board.admit(*await board.chunks_of(await board.job(chunks=chunks)), cell=cell)
    return await board.take_bells()


async def test_a_bell_is_one_json_message_of_ids_for_its_queue(database_url: str, redis: Redis, app: Celery) -> None:
    async with board_at(database_url) as board:
        (bell,) = await _due(board)

        ring(app, bell)

        assert redis.llen("download") == 1
        raw = redis.lrange("download", 0, -1)[0]
        envelope = json.loads(raw)
        assert envelope["properties"]["delivery_info"] == {"exchange": "", "routing_key": "download"}
        assert envelope["content-type"] == "application/json"
        assert envelope["headers"]["task"] == DOWNLOAD.task
        assert len(raw) < 2048


async def test_a_bell_carries_the_trace_of_its_request_and_nothing_else_of_it(
    database_url: str, redis: Redis, app: Celery
) -> None:
    trace = Trace.of_request("a-clients-own-id")
    async with board_at(database_url) as board:
        traced, untraced = await board.chunks_of(await board.job(chunks=2))
        await board.run("UPDATE chunks SET traceparent = :trace WHERE id = :id", trace=trace.stored(), id=traced)
        await board.admit(traced, untraced)

        for bell in await board.take_bells():
            ring(app, bell)

        headers = [json.loads(raw)["headers"] for raw in redis.lrange("download", 0, -1)]
        assert [each.get("traceparent") for each in headers] == [None, trace.traceparent]  # newest first
        assert "a-clients-own-id" not in str(headers)


async def test_what_was_rung_can_be_read_by_a_worker(database_url: str, redis: Redis, app: Celery) -> None:
    async with board_at(database_url) as board:
        (bell,) = await _due(board)
        ring(app, bell)

        (raw,) = redis.lrange("download", 0, -1)
        body = json.loads(base64.b64decode(json.loads(raw)["body"]))
        message = ChunkMessage.decode(body[0][0])

        assert (message.chunk, message.job, message.stage, message.cell) == (
            bell.chunk_id,
            bell.job_id,
            "download",
            "main",
        )


async def test_a_bell_is_signed_when_there_is_a_key(database_url: str, redis_url: str, redis: Redis) -> None:
    key = "n" * 32
    app = app_of(redis_url, bell_key=key)
    async with board_at(database_url) as board:
        (bell,) = await _due(board)

        ring(app, bell)

    (raw,) = redis.lrange("download", 0, -1)
    body = json.loads(base64.b64decode(json.loads(raw)["body"]))
    BellKeys(current=SecretStr(key)).check(ChunkMessage.decode(body[0][0]))
    assert key not in raw.decode() + json.dumps(body)
    assert key not in f"{app.conf.humanize(with_defaults=True, censored=False)}"
    app.close()


async def test_a_bell_arrives_after_redis_forgot_everything(database_url: str, redis: Redis, app: Celery) -> None:
    async with board_at(database_url) as board:
        first, second = await _due(board, chunks=2)
        ring(app, first)
        redis.flushall()

        ring(app, second)

        assert redis.llen("download") == 1


async def test_another_cell_has_queues_of_its_own(database_url: str, redis: Redis, app: Celery) -> None:
    async with board_at(database_url) as board:
        (bell,) = await _due(board, cell="far")

        ring(app, bell)

        assert (redis.llen("download.far"), redis.llen("download")) == (1, 0)


def test_a_mistyped_queue_is_an_error(app: Celery, redis: Redis) -> None:
    with pytest.raises((QueueNotFound, ImproperlyConfigured, KeyError)):
        app.send_task(DOWNLOAD.task, args=[{}], queue="downlaod")

    assert redis.keys("*") == []


def test_a_worker_consumes_only_its_stage_and_knows_all_queues(redis_url: str) -> None:
    worker = build_app(Settings.model_validate({"redis_url": redis_url, "cell": "far"}), UPLOAD)

    assert set(worker.amqp.queues.consume_from) == {"upload.far"}
    assert {stage.queue for stage in PIPELINE} < set(worker.amqp.queues)
    worker.close()


def test_limits_stand_behind_the_stages_deadlines(app: Celery) -> None:
    for stage in PIPELINE:
        limits = app.conf.task_annotations[stage.task]
        assert stage.deadline.total_seconds() < limits["soft_time_limit"] < limits["time_limit"]


async def test_bells_are_put_back_when_the_broker_is_away(database_url: str) -> None:
    with Valkey() as broker:
        app = app_of(broker.url)
        async with board_at(database_url) as board:
            due = await _due(board, chunks=3)
            broker.kill()
            began = time.monotonic()

            await ring_all(app, board.engine, due)

            assert time.monotonic() - began < 2
            assert len(await board.take_bells()) == 3, "they are due again"
        app.close()


async def test_a_full_broker_counts_as_away(database_url: str) -> None:
    with Valkey() as broker, Redis.from_url(broker.url) as admin:
        app = app_of(broker.url)
        async with board_at(database_url) as board:
            (bell,) = await _due(board)
            admin.config_set("maxmemory", "1")

            with pytest.raises(BrokerUnavailable):
                await asyncio.to_thread(ring, app, bell)

            admin.config_set("maxmemory", "0")
            await asyncio.to_thread(ring, app, bell)
            assert admin.llen("download") == 1
        app.close()


def test_rabbitmq_is_asked_to_confirm(tmp_path: Path) -> None:
    app = app_of("redis://127.0.0.1:1/0", broker_url="amqp://guest@127.0.0.1:1//")

    assert app.conf.broker_transport_options["confirm_publish"] is True
    app.close()


def test_a_broker_that_goes_away_while_its_queues_are_counted_is_unavailable(app: Celery) -> None:
    class Lost(Queue):
        def __call__(self, *_: object) -> None:
            raise RedisWentAway("Connection closed by server.")

    app.amqp.queues[DOWNLOAD.queue] = Lost(DOWNLOAD.queue, exchange=app.amqp.queues[DOWNLOAD.queue].exchange)

    with pytest.raises(BrokerUnavailable):
        queue_lengths(app)
