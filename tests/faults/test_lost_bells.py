"""A bell is gone before any worker has read it: the chunk it was for goes on all the same, on every hop."""

import asyncio
import os
import signal
from uuid import UUID

import pytest
from redis import Redis

from shared.pipeline import PIPELINE, VALIDATE, Stage
from tests.faults.world import World
from tests.system import until

pytestmark = pytest.mark.timeout(300)

#: One chunk: the bell that is lost is the only one.
ROWS = 100
CASES = [
    pytest.param(stage, id=stage.name, marks=[] if stage is VALIDATE else pytest.mark.faults) for stage in PIPELINE
]


@pytest.mark.parametrize("stage", CASES)
async def test_a_bell_that_a_dying_worker_took_with_it_is_rung_again(ours: World, stage: Stage) -> None:
    worker, scheduler = ours.running[stage.service], ours.running["scheduler"]
    rung_again = f'pixcrawler_bells_total{{result="rung",stage="{stage.name}",why="rung_again"}}'
    before = scheduler.metric(rung_again)
    os.killpg(worker.process.pid, signal.SIGSTOP)
    with Redis.from_url(ours.redis.url) as redis:
        pushed = pushes(redis)
        job = await ours.submit(ROWS)
        await until("the bell has rung", lambda: has_rung(ours, redis, stage, job, pushed))
        redis.delete(stage.queue)  # unless the server had handed it to the stopped worker, which waited at the queue
    os.killpg(worker.process.pid, signal.SIGKILL)
    await asyncio.to_thread(worker.process.wait, 30)

    ours.mend()

    await ours.has_kept_its_promises(job)
    assert scheduler.metric(rung_again) > before
    assert await ours.crashes(job) == 0, "nobody had claimed the chunk"


async def has_rung(ours: World, redis: "Redis[bytes]", stage: Stage, job: UUID, pushed: int) -> bool:
    """A bell is stamped in PostgreSQL first and pushed then."""
    told = await ours.board.run(
        "SELECT id FROM chunks WHERE job_id = :job AND state = :ready AND dispatched_at IS NOT NULL",
        job=job,
        ready=stage.ready,
    )
    hops = PIPELINE.index(stage) + 1
    return bool(told) and pushes(redis) >= pushed + hops


def pushes(redis: "Redis[bytes]") -> int:
    """Bells that were ever pushed into a queue."""
    return int(redis.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))
