"""Faults at random upon one job: a seed decides which, when and upon whom, and is told when something breaks.

Between two faults some chunks must have ended, so that each meets a system at work and not one that stands still.
"""

import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import psutil
from redis import Redis

from shared.errors import DatabaseUnavailable
from tests.faults.world import WORKERS, World
from tests.system import Service, until

#: 40 chunks.
ROWS = 20_000
_ENDED = "SELECT count(*) FROM chunks WHERE job_id = :job AND state IN ('completed', 'failed', 'cancelled')"

Fault = Callable[[World, random.Random], Awaitable[None]]


async def storm(ours: World, *, seed: int, faults: int = 10, rows: int = ROWS) -> UUID:
    """A job, and so many faults while it runs; it is under way when this returns, and everything is mended."""
    drawn = random.Random(seed)
    for name in WORKERS:  # more than one hand at each stage
        ours.add(name)
    job = await ours.submit(rows)
    chunks = -(-rows // 500)
    for number in range(faults):
        await _until_ended(ours, job, number * chunks // (faults + 1))
        name = drawn.choice(sorted(FAULTS))
        print(f"storm {seed}: {number + 1}. {name}", flush=True)
        await FAULTS[name](ours, drawn)
        ours.mend()
    return job


async def _until_ended(ours: World, job: UUID, count: int) -> None:
    """Returns when that many chunks have ended, or the job has."""

    async def has_got_on() -> bool:
        with suppress(DatabaseUnavailable):
            return await ours.board.one(_ENDED, job=job) >= count or await ours.board.has_ended(job)
        return False

    await until(f"{count} chunks have ended", has_got_on, limit_seconds=240)


def _worker(ours: World, drawn: random.Random) -> Service:
    return ours.running[drawn.choice(WORKERS)]


async def _kill_worker(ours: World, drawn: random.Random) -> None:
    _worker(ours, drawn).kill()


async def _stop_worker_beyond_its_lease(ours: World, drawn: random.Random) -> None:
    name = drawn.choice(WORKERS)
    mine = f"{name}-%-{ours.running[name].process.pid}"
    os.killpg(ours.running[name].process.pid, signal.SIGSTOP)

    async def holds_nothing() -> bool:
        children = [f"{name}-%-{child.pid}" for child in psutil.Process(ours.running[name].process.pid).children()]
        held = "SELECT count(*) FROM chunks WHERE owner LIKE ANY(:names)"
        return not await ours.board.one(held, names=[mine, *children])

    await until("others have what it had", holds_nothing)
    ours.wake(name)


async def _terminate_worker(ours: World, drawn: random.Random) -> None:
    worker = _worker(ours, drawn)
    assert worker.stop() == 0


async def _kill_scheduler(ours: World, _: random.Random) -> None:
    ours.running["scheduler"].kill()


async def _kill_gateway(ours: World, _: random.Random) -> None:
    ours.running["gateway"].kill()


async def _restart_redis_empty(ours: World, _: random.Random) -> None:
    ours.redis.kill()
    ours.redis.start()


async def _flush_redis(ours: World, _: random.Random) -> None:
    with Redis.from_url(ours.redis.url) as redis:
        redis.flushall()


async def _crash_postgres(ours: World, _: random.Random) -> None:
    ours.postgres.crash()
    ours.postgres.start()


async def _cut_postgres(ours: World, _: random.Random) -> None:
    ours.to_postgres.cut()


async def _cut_redis(ours: World, _: random.Random) -> None:
    ours.to_redis.cut()


async def _lose_an_answer(ours: World, _: random.Random) -> None:
    ours.to_postgres.lose_answer_to(b"COMMIT")

    async def is_lost() -> bool:
        return ours.to_postgres.has_lost_answer

    await until("an answer to COMMIT was lost", is_lost)


FAULTS: dict[str, Fault] = {
    "a worker is killed": _kill_worker,
    "a worker stands still for longer than its lease": _stop_worker_beyond_its_lease,
    "a worker is replaced": _terminate_worker,
    "the scheduler is killed": _kill_scheduler,
    "the gateway is killed": _kill_gateway,
    "Redis restarts empty": _restart_redis_empty,
    "Redis is flushed": _flush_redis,
    "PostgreSQL crashes": _crash_postgres,
    "connections to PostgreSQL are cut": _cut_postgres,
    "connections to Redis are cut": _cut_redis,
    "the answer to a COMMIT is lost": _lose_an_answer,
}
