"""Redis dies, forgets, stands still, is full, slow, or away for some: it holds nothing that matters."""

from collections.abc import Callable
from uuid import UUID

import pytest
from redis import Redis

from tests.faults.world import World
from tests.proxy import Proxy
from tests.system import Service, until

pytestmark = pytest.mark.timeout(300)

long = pytest.mark.faults


async def at_each_move(ours: World, job: UUID, fault: Callable[[], object]) -> int:
    """Does it again whenever a chunk of the job moved on, until the job has ended; how often that was."""
    seen: set[tuple[int, str]] = set()
    times = 0

    async def has_ended_all_the_same() -> bool:
        nonlocal times
        moves = {(row.id, row.state) for row in await ours.board.run("SELECT id, state FROM chunks")}
        if moves - seen:
            seen.update(moves)
            fault()
            times += 1
        return await ours.board.has_ended(job)

    await until("the job has ended", has_ended_all_the_same, limit_seconds=120)
    return times


@pytest.mark.parametrize("looks", [0, pytest.param(4, marks=long), pytest.param(12, marks=long)])
async def test_redis_killed_and_back_empty_loses_nothing_and_no_worker_ends(ours: World, looks: int) -> None:
    """It is away until the scheduler has looked for it in vain that often, about once a second."""
    job = await ours.under_way()

    ours.redis.kill()
    if looks:
        await ours.has_said("scheduler", "waiting_set_away", times=looks, limit_seconds=120)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_redis_emptied_at_every_move_loses_nothing(ours: World) -> None:
    job = await ours.submit()

    with Redis.from_url(ours.redis.url) as redis:
        times = await at_each_move(ours, job, redis.flushall)

    await ours.has_kept_its_promises(job)
    assert times >= 5


@pytest.mark.parametrize("looks", [2, pytest.param(6, marks=long)])
async def test_redis_that_stands_still_holds_up_nothing_for_good(ours: World, looks: int) -> None:
    """The scheduler gives up on each question after three seconds."""
    job = await ours.under_way()

    ours.redis.pause()
    await ours.has_said("scheduler", "waiting_set_away", times=looks, limit_seconds=120)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_redis_without_memory_loses_nothing_and_no_worker_ends(ours: World) -> None:
    job = await ours.under_way()

    with Redis.from_url(ours.redis.url) as redis:
        redis.config_set("maxmemory", 1)
        ours.origin.release()
        await ours.has_said("scheduler", "bells_not_rung", times=2)
        redis.config_set("maxmemory", 0)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


@long
async def test_connections_to_redis_killed_at_every_move_start_nothing_twice(ours: World) -> None:
    job = await ours.submit()

    def kill_connections() -> None:
        with Redis.from_url(ours.redis.url) as redis:
            for kind in ("normal", "pubsub"):
                redis.client_kill_filter(_type=kind, skipme=True)

    await at_each_move(ours, job, kill_connections)

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []
    assert await claims_of(ours, job) == 9


@long
async def test_an_old_snapshot_of_redis_rings_bells_that_nobody_answers(ours: World) -> None:
    job = await ours.under_way()

    with Redis.from_url(ours.redis.url) as redis:
        assert redis.llen("download"), "a chunk was to wait for its bell"
        redis.save()
    ours.heal()
    await ours.has_ended(job)
    before = await ours.board.histories()
    ours.redis.restore()
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert await ours.board.histories() == before


@pytest.mark.parametrize(
    "name", [pytest.param("downloader", marks=long), pytest.param("validator", marks=long), "uploader"]
)
async def test_a_worker_hears_more_bells_after_one_it_could_not_acknowledge(ours: World, name: str) -> None:
    with Proxy(ours.redis.port) as own, ours.instead(name, {"PIXCRAWLER_REDIS_URL": redis_at(own)}) as service:
        own.lose_answer_to(b"ZREM")
        job = await ours.submit()

        await ours.has_kept_its_promises(job)

        assert own.has_lost_answer
        assert service.process.poll() is None


@long
@pytest.mark.parametrize("name", ["downloader", "validator", "uploader"])
async def test_one_service_cut_off_from_redis_holds_up_nothing_for_good(ours: World, name: str) -> None:
    with Proxy(ours.redis.port) as own, ours.instead(name, {"PIXCRAWLER_REDIS_URL": redis_at(own)}) as service:
        job = await ours.under_way()

        own.freeze()
        ours.origin.release()
        await until("a chunk has moved on", lambda: has_stored_a_chunk_or_waits(ours, job, name), limit_seconds=90)
        own.heal()
        ours.heal()

        await ours.has_kept_its_promises(job)
        assert service.process.poll() is None


@long
async def test_a_scheduler_alone_cut_off_from_redis_rings_what_it_could_not_ring(ours: World) -> None:
    """Nobody else rings downloads: the job stands at its first step until the scheduler can be heard again."""
    with Proxy(ours.redis.port) as own, ours.instead("scheduler", {"PIXCRAWLER_REDIS_URL": redis_at(own)}) as service:
        own.freeze()
        job = await ours.submit()
        await until(
            "two bells could not be rung", lambda: has_said(service, "bells_not_rung", times=2), limit_seconds=90
        )
        assert service.get("/livez")[0] == 200, "its loop turns"
        own.heal()
        ours.heal()

        await ours.has_kept_its_promises(job)
        assert service.process.poll() is None


async def has_said(service: Service, event: str, *, times: int) -> bool:
    return len(service.events(event)) >= times


def redis_at(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


async def has_stored_a_chunk_or_waits(ours: World, job: UUID, name: str) -> bool:
    """The cut-off service has nothing more to do before its bells come again, or the job has ended without it."""
    waiting = {"downloader": "download", "validator": "validate", "uploader": "upload"}[name]
    busy = await ours.board.one(
        "SELECT count(*) FROM chunks WHERE job_id = :job AND state <> ALL(:rests)",
        job=job,
        rests=["completed", "pending", f"{waiting}_ready"],
    )
    return busy == 0


async def claims_of(ours: World, job: UUID) -> int:
    """How often a chunk of the job was taken by a worker."""
    return int(
        await ours.board.one(
            """SELECT count(*) FROM chunk_events JOIN chunks ON chunks.id = chunk_id
               WHERE job_id = :job AND to_state IN ('downloading', 'validating', 'uploading')""",
            job=job,
        )
    )
