"""The Celery app, built from `shared/pipeline.py`: routing and a process pool, nothing more.

JSON only; every queue declared, so that a mistyped one is an error; no retry, ETA, chord or result backend:
guarantees are conditional UPDATEs in PostgreSQL. On Redis messages are acknowledged early and taken only
when a child is free: late acknowledgement kills busy workers of Celery 5.7.0 when Redis restarts. What is otherwise
on RabbitMQ is in `shared/rabbitmq.py`. Bells are published by queue through the anonymous exchange, because a named
exchange on Redis drops every message silently after FLUSHALL. No remote control, events only where an operator
wants to see them in Flower (`infra/flower`), and what a service has not
acknowledged lies under keys of its own, so that each may have a Redis user with least rights (`infra/redis/`).
The only module that imports kombu.
"""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
from amqp.exceptions import AMQPError, MessageNacked
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport import TRANSPORT_ALIASES, pyamqp, redis
from redis.exceptions import RedisError, ResponseError

from shared import metrics, rabbitmq
from shared.db.bells import Bell
from shared.errors import TransientError
from shared.messages import BellKeys, ChunkMessage
from shared.pipeline import DEFAULT_CELL, PIPELINE, Stage
from shared.sentinel import SentinelAddress, is_sentinel
from shared.settings import Settings
from shared.trace import Trace

log = structlog.get_logger(__name__)

_EXCHANGE: Exchange = Exchange("pixcrawler", type="direct", durable=True)  # type: ignore[no-untyped-call]
#: By Celery's default: what workers tell Flower, which is no task and is not answered.
_EVENTS = "celeryev"
#: Celery's limits are back-stops behind the stage's own deadline.
_SOFT_LIMIT_AFTER = 30
_HARD_LIMIT_AFTER = 90
#: Seconds. Redis answers each question after one second, also with nothing; then the next one is asked.
_LONGEST_ASKING = 5.0
#: A bell that cannot be rung is put back, and the scheduler must not stand still for it: by kombu's own figures it
#: would try for 6 s. (A worker's connection comes back by other rules.)
_REFUSED_AT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}

#: After a long outage a worker is back within this. By kombu's own figures its pauses grow to half a minute.
_LONGEST_PAUSE_SECONDS = 4.0
#: Seconds. A bell is answered when a child takes it, so who has not done so for this long is dead or was not heard.
_ANSWERED_WITHIN = 30
#: In one look.
_MOST_PUT_BACK = 100
#: A bell's body has half a kilobyte and five brackets. What nests deeply cannot be handed to a child.
_LONGEST_BODY = 16 * 1024
_MOST_BRACKETS = 100


class _QoS(redis.QoS):
    """Counts a bell as answered also when Redis could not be told so; then it rings once more, which does no harm.

    kombu counts it as unanswered for as long as the connection lives, says so in its log, and goes on: with as many
    as the worker has children it asks for nothing more.
    """

    def ack(self, delivery_tag: str) -> None:
        self._answered(delivery_tag, super().ack)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._answered(delivery_tag, partial(super().reject, requeue=requeue))

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Puts back what somebody took and did not answer; the worker's loop asks for it every ten seconds.

        kombu's own looks at every tenth time only, and by a command that came with Redis 6.2.
        """
        with self.channel.conn_or_acquire() as client:
            until = time.time() - self.visibility_timeout
            for tag in client.zrangebyscore(self.unacked_index_key, 0, until, start=0, num=_MOST_PUT_BACK):
                self.restore_by_tag(tag, client)  # type: ignore[no-untyped-call]

    def _answered(self, delivery_tag: str, tell: Callable[[str], None]) -> None:
        try:
            tell(delivery_tag)
        except self.channel.connection_errors as error:
            log.warning("answer_not_told", error=type(error).__name__)
            self._quick_ack(delivery_tag)


class _Channel(redis.Channel):
    """Drops what is no message at all, which would end the worker."""

    QoS = _QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            metrics.poison.labels(stage="unknown").inc()
            log.error("message_dropped", error=type(error).__name__)
            return None


class _RedisTransport(redis.Transport):
    """Takes whatever Redis refuses, such as a write when it is full, for trouble that may pass."""

    Channel = _Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)

    def _deliver(self, message: Any, queue: str) -> None:
        """Raises ValueError for what cannot be a bell: a child is not even told of it."""
        body = str(message["body"])
        raw = b64decode(body) if message["properties"].get("body_encoding") == "base64" else body.encode()
        _refuse_oversized(raw)
        super()._deliver(message, queue)  # type: ignore[no-untyped-call]


def _refuse_oversized(raw: bytes) -> None:
    if len(raw) > _LONGEST_BODY or raw.count(b"[") + raw.count(b"{") > _MOST_BRACKETS:
        raise ValueError("no bell is so large")


class _RabbitChannel(pyamqp.Channel):
    """Drops what is no message of Celery's, which would end this worker, and after it each that it is pushed to."""

    def _on_basic_deliver(self, tag: str, delivery: int, again: bool, exchange: str, key: str, message: Any) -> None:
        wrong = None if exchange == _EVENTS else _why_no_bell(message.body)
        if wrong is None:
            super()._on_basic_deliver(tag, delivery, again, exchange, key, message)
        else:
            metrics.poison.labels(stage="unknown").inc()
            log.error("message_dropped", error=wrong)
            self.basic_reject(delivery, requeue=False)


def _why_no_bell(body: bytes | str) -> str | None:
    """What is wrong with a body that Celery could not make a call of."""
    try:
        raw = body if isinstance(body, bytes) else body.encode()
        _refuse_oversized(raw)
        args, kwargs, _ = json.loads(raw)
        if not (isinstance(args, list) and isinstance(kwargs, dict)):
            raise ValueError("not what a task is called with")
    except (ValueError, TypeError) as error:
        return type(error).__name__
    return None


class _RabbitConnection(pyamqp.Connection):
    """Waits for no answer for ever: py-amqp has a limit for the handshake and the confirmation only."""

    Channel = _RabbitChannel

    def drain_events(self, timeout: float | None = None) -> None:
        super().drain_events(timeout=rabbitmq.ANSWER_SECONDS if timeout is None else timeout)


class RabbitTransport(pyamqp.Transport):
    Connection = _RabbitConnection


# A name in kombu's own register, because what its pools make are no connections of ours.
TRANSPORT_ALIASES.update(dict.fromkeys(rabbitmq.SCHEMES, f"{__name__}:{RabbitTransport.__name__}"))


class _Connection(Connection):
    """A connection that comes back soon, however long the broker was away."""

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _RedisTransport if found is redis.Transport else found

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        return super()._ensure_connection(*args, **{"interval_max": _LONGEST_PAUSE_SECONDS, **kwargs})  # type: ignore[no-untyped-call]


class BrokerUnavailable(TransientError):
    code = "broker_unavailable"


def _queue(name: str, url: str) -> Queue:
    arguments = rabbitmq.QUEUE_ARGUMENTS if rabbitmq.is_rabbitmq(url) else None
    return Queue(name, exchange=_EXCHANGE, routing_key=name, durable=True, queue_arguments=arguments)  # type: ignore[no-untyped-call]


def build_app(settings: Settings, stage: Stage | None = None) -> Celery:
    """An app that can ring every stage, and that consumes only `stage` (in this cell) when it is a worker's."""
    url = settings.broker()
    app = Celery("pixcrawler", broker=_kombu_url(url), set_as_current=True)
    app.amqp.Connection = _Connection
    app.bell_keys = BellKeys.of(settings)  # not in `app.conf`, which Celery shows to people
    cells = {DEFAULT_CELL, settings.cell}
    app.conf.update(
        task_queues=[_queue(declared.queue_of(cell), url) for declared in PIPELINE for cell in sorted(cells)],
        task_default_queue=PIPELINE[0].queue,
        task_default_exchange=_EXCHANGE.name,
        task_default_routing_key=PIPELINE[0].routing_key,
        task_create_missing_queues=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_publish_retry=False,
        task_send_sent_event=False,
        task_annotations={declared.task: _limits(declared) for declared in PIPELINE},
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_lost_wait=2,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_acquire_timeout=5,
        broker_transport_options=_transport_options(url, stage),
        enable_utc=True,
        event_queue_exclusive=None,
    )
    if rabbitmq.is_rabbitmq(url):
        app.conf.update(rabbitmq.celery_settings(url))
    if stage:
        app.amqp.queues.select([stage.queue_of(settings.cell)])
    return app


def _limits(stage: Stage) -> dict[str, float]:
    deadline = stage.deadline.total_seconds()
    return {"soft_time_limit": deadline + _SOFT_LIMIT_AFTER, "time_limit": deadline + _HARD_LIMIT_AFTER}


def _kombu_url(url: str) -> str:
    if rabbitmq.is_rabbitmq(url):
        return rabbitmq.celery_url(url)
    return SentinelAddress.parse(url).broker_url() if is_sentinel(url) else url


def _transport_options(url: str, stage: Stage | None) -> dict[str, Any]:
    if rabbitmq.is_rabbitmq(url):
        return {**_REFUSED_AT_ONCE, **rabbitmq.TRANSPORT_OPTIONS}
    unacked = f"pixcrawler:unacked:{stage.service if stage else 'nobody'}"
    patience = {"socket_timeout": 5, "socket_connect_timeout": 3}
    behind = {"master_name": SentinelAddress.parse(url).master, "sentinel_kwargs": patience} if is_sentinel(url) else {}
    return {
        **_REFUSED_AT_ONCE,
        **behind,
        **patience,
        "unacked_key": unacked,
        "unacked_index_key": f"{unacked}:index",
        "unacked_mutex_key": f"{unacked}:mutex",
        "visibility_timeout": _ANSWERED_WITHIN,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


def ring(app: Celery, bell: Bell) -> None:
    """Rings one bell; blocks for some seconds at most. Raises BrokerUnavailable; it may have rung all the same."""
    queue = bell.stage.queue_of(bell.cell)
    if queue not in app.amqp.queues:
        app.amqp.queues.add(_queue(queue, app.conf.broker_url))  # a cell that reported after this app was built
    message = ChunkMessage(
        chunk=bell.chunk_id,
        job=bell.job_id,
        stage=bell.stage.name,
        attempt=bell.attempt,
        cell=bell.cell,
        why=bell.why,
    )
    trace = Trace.read(bell.traceparent)
    with _translated_errors():
        app.send_task(
            bell.stage.task,
            args=[app.bell_keys.signed(message).encode()],
            queue=queue,
            headers={"traceparent": trace.traceparent} if trace else None,
            **(rabbitmq.PUBLISHING if rabbitmq.is_rabbitmq(app.conf.broker_url) else {}),
        )


def queue_lengths(app: Celery) -> dict[str, int]:
    """Bells that lie in the queues of each stage, over its cells; blocks for some seconds at most.

    Raises BrokerUnavailable. A queue is declared as it is asked for, so that one nobody ever rang is empty.
    """
    with _translated_errors(), app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        return {stage.name: sum(_lengths(app, connection, stage)) for stage in PIPELINE}


def _lengths(app: Celery, connection: Any, stage: Stage) -> Iterator[int]:
    for name, queue in list(app.amqp.queues.items()):
        if name == stage.queue or name.startswith(f"{stage.queue}."):
            yield queue(connection.default_channel).queue_declare()[1]


def broker_answers(app: Celery) -> bool:
    """Whether the broker can be talked to, over a connection of its own; blocks for some seconds at most."""
    try:
        with _translated_errors(), app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            connection.default_channel.close()
    except BrokerUnavailable:
        return False
    return True


def asks_for_messages(consumer: Any) -> bool:
    """Whether a worker's consumer asked Redis lately.

    RabbitMQ pushes and is not asked: then, whether it still has a subscription to push to, and was heard lately.
    """
    channel = consumer.channel
    if isinstance(channel, pyamqp.Channel):
        heard_at = channel.connection.last_heartbeat_received
        return bool(channel.callbacks) and time.monotonic() - heard_at < 2 * rabbitmq.HEARTBEAT_SECONDS
    if getattr(channel.connection, "driver_type", None) != "redis":
        return True
    asked_at = channel._brpop_sent_at
    return asked_at is not None and time.monotonic() - asked_at < _LONGEST_ASKING


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (KombuError, RedisError, AMQPError, MessageNacked, OSError, TimeoutError) as error:
        raise BrokerUnavailable("the broker is not available") from error
