"""Redis users: each may send what its service sends, and nothing else."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from shared.broker import build_app
from shared.pipeline import PIPELINE, Stage
from shared.settings import Settings
from tests.architecture.tree import ROOT, SERVICES
from tests.privileges import redis_url_for, redis_users, with_redis_users
from tests.servers import Valkey

EVERYBODY_IS_REFUSED = (
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "ACL SETUSER gateway nopass",
    "MONITOR",
    "SUBSCRIBE pixcrawler",
    "PUBLISH pixcrawler hello",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "REPLICAOF 127.0.0.1 1",
    "SHUTDOWN NOSAVE",
    "SAVE",
    "SELECT 1",
    "EVAL 'return 1' 0",
    "FUNCTION LIST",
    "MIGRATE 127.0.0.1 1 download 0 1",
    "LPUSH elsewhere 1",
    "GET elsewhere",
)

#: By user: what it needs, and what is somebody else's.
ALLOWED = {
    "gateway": (
        "PING",
        "HGETALL pixcrawler:progress:1",
        "INCRBY pixcrawler:rate:1:2 1",
        "EXPIRE pixcrawler:rate:1:2 120",
        "GET pixcrawler:rate:1:1",
        "DECRBY pixcrawler:rate:1:2 1",
    ),
    "scheduler": (
        "ZADD pixcrawler:waiting 1 7",
        "ZRANGE pixcrawler:waiting 0 9",
        "ZREM pixcrawler:waiting 7",
        "ZCARD pixcrawler:waiting",
        "HDEL pixcrawler:progress:1 7",
        "SADD _kombu.binding.pixcrawler 1",
        "LPUSH download 1",
        "LPUSH validate.far 1",
        "LLEN upload",
    ),
    "downloader": (
        "BRPOP download download.far 0.01",
        "LPUSH validate 1",
        "LPUSH upload 1",
        "HSET pixcrawler:unacked:downloader 1 1",
        "HSET pixcrawler:progress:1 7 0",
        "EXPIRE pixcrawler:progress:1 60",
        "HSET pixcrawler:host:example.org next 1",
        "SET pixcrawler:robots:http://example.org 1 EX 60",
    ),
    "validator": ("BRPOP validate 0.01", "LPUSH upload 1", "HSET pixcrawler:unacked:validator 1 1"),
    "uploader": ("BRPOP upload 0.01", "LPUSH upload 1", "HSET pixcrawler:unacked:uploader 1 1"),
    "flower": ("SADD _kombu.binding.celeryev 1", "LLEN download", "BRPOP 1.reply.celery.pidbox 0.01"),
}
#: Before, there are no rights by channel.
ALLOWED_SINCE_7 = {
    "flower": ("PUBLISH /0.celery.pidbox '{}'",),
    "downloader": ("PUBLISH /0.celeryev/task.received '{}'",),
}
REFUSED = {
    "gateway": (
        "HDEL pixcrawler:progress:1 7",
        "LPUSH download 1",
        "GET pixcrawler:robots:a",
        "ZADD pixcrawler:waiting 1 7",
    ),
    "scheduler": ("BRPOP download 0.01", "HSET pixcrawler:host:a next 1", "HGETALL pixcrawler:unacked:downloader"),
    "downloader": (
        "ZADD pixcrawler:waiting 1 7",
        "ZREM pixcrawler:waiting 7",
        "HDEL pixcrawler:unacked:uploader 1",
        "DEL pixcrawler:waiting",
    ),
    "validator": ("GET pixcrawler:robots:a", "HSET pixcrawler:host:a next 1", "HDEL pixcrawler:unacked:downloader 1"),
    "uploader": ("GET pixcrawler:robots:a", "ZRANGE pixcrawler:waiting 0 9", "HDEL pixcrawler:unacked:validator 1"),
    "flower": (
        "LPUSH download 1",
        "HGETALL pixcrawler:progress:1",
        "HGETALL pixcrawler:unacked:downloader",
        "ZRANGEBYSCORE pixcrawler:waiting 0 9",
    ),
}
#: Refused from Redis 7.0 on; before, a user that may write a key may read it too.
REFUSED_SINCE_7 = {
    "downloader": ("BRPOP validate 0.01", "BRPOP upload 0.01", "DEL pixcrawler:progress:1 upload robots"),
    "validator": ("BRPOP download 0.01", "BRPOP upload 0.01"),
    "uploader": ("BRPOP download 0.01", "BRPOP validate 0.01"),
    "flower": ("BRPOP download 0.01", "DEL upload"),
}


@pytest.fixture
def guarded_url(redis_url: str) -> Iterator[str]:
    """The session's Redis with a user for each service."""
    with with_redis_users(redis_url) as url:
        yield url


@pytest.mark.parametrize("options", [(), ("--redis-6",)], ids=["7.0", "6.0"])
def test_each_user_may_do_its_own_work_and_nothing_else(redis_url: str, options: tuple[str, ...]) -> None:
    with with_redis_users(redis_url, *options) as url:
        for user in (*SERVICES, "flower"):
            with Redis.from_url(redis_url_for(user, url)) as client:
                for command in (*ALLOWED[user], *(() if options else ALLOWED_SINCE_7.get(user, ()))):
                    client.execute_command(*shlex.split(command))
                since_7 = () if options else REFUSED_SINCE_7.get(user, ())
                for command in (*EVERYBODY_IS_REFUSED, *REFUSED[user], *since_7):
                    with pytest.raises(NoPermissionError):
                        client.execute_command(*shlex.split(command))


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_bell_that_a_worker_did_not_acknowledge_comes_back(guarded_url: str, stage: Stage) -> None:
    url = redis_url_for(stage.service, guarded_url)
    app = build_app(Settings.model_validate({"redis_url": url}), stage)
    with app.connection() as connection, Redis.from_url(guarded_url) as admin:
        app.send_task(stage.task, args=[{}], queue=stage.queue)
        taken: list[object] = []
        with connection.Consumer([app.amqp.queues[stage.queue]], callbacks=[lambda _, bell: taken.append(bell)]) as one:
            connection.drain_events(timeout=5)
            channel = one.channel
        assert len(taken) == 1
        assert (admin.llen(stage.queue), admin.hlen(f"pixcrawler:unacked:{stage.service}")) == (0, 1)

        channel.qos.restore_visible()
        assert admin.llen(stage.queue) == 0, "it was taken just now"
        admin.zincrby(
            f"pixcrawler:unacked:{stage.service}:index", -31, admin.zrange(channel.unacked_index_key, 0, 0)[0]
        )
        channel.qos.restore_visible()

        assert (admin.llen(stage.queue), admin.hlen(f"pixcrawler:unacked:{stage.service}")) == (1, 0)
        channel.qos._delivered.clear()
    app.close()


def test_flower_hears_what_the_stages_tell_and_nothing_else(guarded_url: str) -> None:
    with (
        Redis.from_url(redis_url_for("flower", guarded_url)) as flower,
        Redis.from_url(redis_url_for("uploader", guarded_url)) as uploader,
        flower.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.psubscribe("/0.celeryev/*")
        heard.get_message(timeout=5)
        uploader.publish("/0.celeryev/worker.heartbeat", "{}")

        message = heard.get_message(timeout=5)
        assert message is not None
        assert message["channel"] == b"/0.celeryev/worker.heartbeat"
        heard.subscribe("pixcrawler")
        with pytest.raises(NoPermissionError):
            heard.get_message(timeout=5)


def test_without_its_password_nobody_gets_in(guarded_url: str) -> None:
    wrong = guarded_url.replace("redis://", "redis://downloader:password@")

    with Redis.from_url(wrong) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_a_redis_started_with_the_file_lets_no_nameless_client_in(tmp_path: Path) -> None:
    written = tmp_path / "users.acl"
    written.write_text("\n".join(" ".join(words) for words in redis_users()) + "\n")

    with Valkey(options=("--aclfile", str(written))) as server:
        with Redis.from_url(server.url) as client, pytest.raises(AuthenticationError):
            client.ping()
        with Redis.from_url(redis_url_for("gateway", server.url)) as client:
            assert client.ping()
            with pytest.raises(NoPermissionError):
                client.flushall()


def test_a_user_without_a_password_is_not_made() -> None:
    made = subprocess.run(
        ["sh", ROOT / "infra" / "redis" / "users.sh"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )

    assert made.returncode != 0
    assert b"REDIS_PASSWORD_GATEWAY" in made.stderr
