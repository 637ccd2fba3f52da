"""Workers that a supervisor must restart, those that it must leave alone, and those that scale themselves."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from shared.broker import build_app
from shared.pipeline import DOWNLOAD
from shared.settings import Settings
from tests.proxy import Proxy
from tests.system import Service, System, until

pytestmark = pytest.mark.timeout(120)

#: Seconds of silence until a worker counts as dead here.
SILENCE = "3"


@pytest.fixture
def system(database_url: str, redis_url: str, tmp_path: Path) -> System:
    return System(database_url, redis_url, tmp_path)


async def _passed(seconds: float, holds: Callable[[], bool]) -> None:
    """Fails when it does not hold for as long as that."""
    ends_at = time.monotonic() + seconds

    async def is_over() -> bool:
        assert holds()
        return time.monotonic() > ends_at

    await until("the time has passed", is_over)


async def test_an_idle_worker_is_alive_and_one_whose_loop_hangs_is_not(system: System, tmp_path: Path) -> None:
    hangs = {"PIXCRAWLER_FAILPOINTS": "worker.turned:hang:8", "PIXCRAWLER_FAILPOINTS_DIR": str(tmp_path)}
    downloader = system.start("downloader", hangs, LONGEST_SILENCE_SECONDS=SILENCE)
    try:
        downloader.wait_until_ready()
        assert downloader.get("/livez")[0] == 200

        async def is_dead() -> bool:
            return downloader.get("/livez")[0] == 503

        await until("the worker is told to be dead", is_dead)

        assert (tmp_path / "worker.turned").exists(), "it was alive until its loop hung"
        assert "the main loop has not turned" in downloader.get("/livez")[1]
    finally:
        downloader.kill()


async def test_a_stopped_worker_does_not_answer(system: System) -> None:
    with system.running("uploader", LONGEST_SILENCE_SECONDS=SILENCE) as (uploader,):
        os.kill(uploader.process.pid, signal.SIGSTOP)

        status, _ = uploader.get("/livez")

        assert status == 0


async def test_workers_are_left_alone_while_redis_answers_nobody(system: System, redis_url: str) -> None:
    with Proxy(urlsplit(redis_url).port or 6379) as proxy:
        system.redis_url = urlunsplit(urlsplit(redis_url)._replace(netloc=f"127.0.0.1:{proxy.port}"))
        with system.running("validator", LONGEST_SILENCE_SECONDS=SILENCE) as (validator,):
            await _passed(float(SILENCE) + 2, lambda: validator.get("/livez")[0] == 200)

            proxy.refuse()
            await _passed(2 * float(SILENCE), lambda: validator.get("/livez")[0] == 200)


async def test_a_worker_grows_when_there_is_work_and_shrinks_when_there_is_none(system: System, redis_url: str) -> None:
    children = 'pixcrawler_worker_processes{kind="pool"'
    app = build_app(Settings.model_validate({"redis_url": redis_url}))
    soon = {"AUTOSCALE_KEEPALIVE": "3"}
    downloader = system.start("downloader", soon, CONCURRENCY="3", LEAST_CONCURRENCY="1")
    try:
        downloader.wait_until_ready()
        await until("one child waits", lambda: _is(downloader, children, 1))

        for _ in range(12):  # nobody can read them, which takes a child's time all the same
            app.send_task(DOWNLOAD.task, args=[{}], queue=DOWNLOAD.queue)

        await until("all children work", lambda: _is(downloader, children, 3))
        await until("one child is left", lambda: _is(downloader, children, 1))
        assert downloader.get("/livez")[0] == 200
    finally:
        downloader.kill()
        app.close()


async def _is(service: Service, metric: str, value: float) -> bool:
    return service.metric(metric) == value
