"""PostgreSQL dies, stands still, is slow, locked, cut off, or its answer is lost: what is committed is done once."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from tests.faults.world import World
from tests.proxy import Proxy
from tests.system import until

pytestmark = pytest.mark.timeout(300)

long = pytest.mark.faults


@contextmanager
def own_way(ours: World, name: str) -> Iterator[Proxy]:
    """A service, started anew, reaches PostgreSQL by a proxy of its own."""
    with Proxy(ours.postgres.port) as own, ours.instead(name, {"PIXCRAWLER_DATABASE_URL": ours.database_through(own)}):
        yield own


async def owner_of_database(ours: World) -> asyncpg.Connection:
    """A superuser's connection to the services' database, past all proxies."""
    return await asyncpg.connect(ours.postgres.url.removesuffix("postgres") + "faults", timeout=30)


async def test_postgresql_killed_and_back_at_once_loses_nothing(ours: World) -> None:
    job = await ours.under_way()

    ours.postgres.crash()
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


@long
@pytest.mark.parametrize("reports", [2, 12])
async def test_work_goes_on_while_postgresql_is_away_and_is_written_down_later(ours: World, reports: int) -> None:
    """It is away until a worker has tried in vain that often to report, every five seconds."""
    job = await ours.under_way()

    ours.postgres.crash()
    ours.origin.release()
    await ours.has_said("downloader", "steward_hindered", times=reports, limit_seconds=150)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


@long
async def test_postgresql_that_stands_still_takes_nobodys_chunk_away(ours: World) -> None:
    job = await ours.under_way()

    ours.postgres.pause()
    ours.origin.release()
    await ours.has_said("downloader", "steward_hindered")
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


@long
@pytest.mark.parametrize("round_trip", [0.1, 0.3])
async def test_a_slow_way_to_postgresql_only_costs_time(ours: World, round_trip: float) -> None:
    """So many seconds there and back, for every question."""
    ours.to_postgres.delay(round_trip / 2)

    job = await ours.submit()
    await ours.has_ended(job, limit_seconds=240)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


@pytest.mark.parametrize("how", ["terminated", pytest.param("cut", marks=long)])
async def test_connections_to_postgresql_ended_at_every_move_lose_nothing(ours: World, how: str) -> None:
    admin = await owner_of_database(ours)
    job = await ours.submit()
    seen = set[tuple[int, str]]()
    times = 0

    async def has_ended_all_the_same() -> bool:
        nonlocal times
        moves = {(row["id"], row["state"]) for row in await admin.fetch("SELECT id, state FROM chunks")}
        if not moves <= seen:
            seen.update(moves)
            times += 1
            if how == "terminated":
                await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pixcrawler'")
            else:
                ours.to_postgres.cut()
        state = await admin.fetchval("SELECT state FROM jobs WHERE id = $1", job)
        return bool(state == "completed")

    await until("the job has ended", has_ended_all_the_same, limit_seconds=120)
    await admin.close()

    await ours.has_kept_its_promises(job)
    assert times >= 5
    assert ours.dead() == []


#: Service, and a statement by which its transaction is known: the answer to this one's COMMIT is lost.
LOST = {
    "plan": ("scheduler", b"INSERT INTO chunks"),
    "admit": ("scheduler", b"UPDATE slots SET chunk_id"),
    "finish": ("scheduler", b"UPDATE jobs SET state = 'finishing'"),
    "claim": ("validator", b"fence = chunks.fence + 1"),
    "download": ("downloader", b"work_fence = "),
    "validate": ("validator", b"work_fence = "),
    "upload": ("uploader", b"stored_bytes = "),
    "close": ("uploader", b"ended_at = clock_timestamp()"),
}


@pytest.mark.parametrize("step", [name if name == "download" else pytest.param(name, marks=long) for name in LOST])
async def test_a_commit_whose_answer_is_lost_counts_once(ours: World, step: str) -> None:
    service, statement = LOST[step]
    with own_way(ours, service) as way:
        way.lose_answer_to(b"COMMIT", after=statement)
        job = await ours.submit()

        await ours.has_kept_its_promises(job)

        assert way.has_lost_answer


@long
async def test_a_table_locked_for_long_takes_nobodys_chunk_away(ours: World) -> None:
    """As an operator's careless migration does; all give up after three seconds, again and again."""
    job = await ours.under_way()
    admin = await owner_of_database(ours)

    async with admin.transaction():
        await admin.execute("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
        ours.origin.release()
        await ours.has_said("scheduler", "scheduler_hindered", times=4)
    await admin.close()
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert await ours.crashes(job) == 0


@pytest.mark.parametrize("code", ["40P01", pytest.param("40001", marks=long)])
async def test_deadlocks_and_serialization_failures_burn_no_attempt(ours: World, code: str) -> None:
    admin = await owner_of_database(ours)
    await admin.execute(f"""
        CREATE SEQUENCE troubles;
        GRANT USAGE ON troubles TO PUBLIC;
        CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('troubles') % 3 = 0 AND currval('troubles') < 40 THEN
                RAISE EXCEPTION 'on request' USING ERRCODE = '{code}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER trouble BEFORE UPDATE ON chunks FOR EACH ROW EXECUTE FUNCTION trouble()""")
    try:
        job = await ours.submit()
        await ours.has_ended(job)
    finally:
        await admin.execute("DROP TRIGGER trouble ON chunks; DROP FUNCTION trouble; DROP SEQUENCE troubles")
        await admin.close()

    await ours.has_kept_its_promises(job)
    assert await ours.crashes(job) == 0
