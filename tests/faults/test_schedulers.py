"""The scheduler dies, stops or is cut off in the middle of what it does: the next one goes on where it stood."""

import asyncio

import pytest

from shared.db import jobs
from shared.pipeline import JobState
from tests.faults.world import World
from tests.proxy import Proxy
from tests.system import Service, until

pytestmark = pytest.mark.timeout(300)

POINTS = (
    "plan.stored",
    "plan.inserted",
    "admit.locked",
    "admit.committed",
    "ring.taken",
    "finish.begun",
    "finish.half",
    "finish.published",
)
#: Run by `make test`.
SHORT = {"admit.committed", "finish.half"}
CASES = [pytest.param(point, marks=[] if point in SHORT else pytest.mark.faults) for point in POINTS]


@pytest.mark.parametrize("point", CASES)
async def test_a_scheduler_killed_at_any_point_leaves_a_job_that_goes_on(ours: World, point: str) -> None:
    ours.arm("scheduler", f"{point}:kill")
    job = await ours.submit()
    await ours.is_reached(point)

    ours.mend()

    await ours.has_kept_its_promises(job)
    assert await ours.crashes(job) == 0


@pytest.mark.faults
@pytest.mark.parametrize("point", ["close.indexed", "close.removed"])
async def test_a_scheduler_killed_while_it_closes_withdrawn_chunks_leaves_none_open(ours: World, point: str) -> None:
    for name in ("downloader", "validator", "uploader"):
        ours.remove(name)  # nobody reports, so no chunk is let in
    ours.arm("scheduler", f"{point}:kill")
    job = await ours.submit()
    await ours.is_state(job, JobState.RUNNING)
    assert await ours.ask(job, jobs.cancel)
    await ours.is_reached(point)

    ours.mend()

    await ours.has_kept_its_promises(job, state=JobState.CANCELLED)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
async def test_a_second_scheduler_takes_over_from_one_that_is_killed(ours: World, point: str) -> None:
    armed = ours.arm("scheduler", f"{point}:kill")

    async def leads() -> bool:
        return bool(armed.events("leadership_changed"))

    await until("the one that is to die leads", leads)
    ours.add("scheduler")
    job = await ours.submit()
    await ours.is_reached(point)

    await ours.has_kept_its_promises(job)


@pytest.mark.faults
async def test_a_leader_that_stops_in_mid_admission_admits_nothing_when_it_wakes(ours: World) -> None:
    zombie = ours.arm("scheduler", "admit.locked:stop")
    successor = ours.add("scheduler")
    job = await ours.submit()
    await ours.is_reached("admit.locked")
    await ours.has_kept_its_promises(job)
    admitted = await admissions(ours)

    ours.wake("scheduler")

    async def has_stepped_down() -> bool:
        return zombie.events("leadership_changed")[-1]["leads"] is False

    await until("the former leader steps down", has_stepped_down)
    assert await admissions(ours) == admitted
    assert (zombie.metric("pixcrawler_scheduler_leader"), successor.metric("pixcrawler_scheduler_leader")) == (0, 1)
    await ours.has_kept_its_promises(await ours.submit())


@pytest.mark.faults
async def test_a_leader_cut_off_from_the_database_is_replaced(ours: World) -> None:
    ours.remove("scheduler")
    with Proxy(ours.postgres.port) as cable:
        leader = ours.add("scheduler", plain={"PIXCRAWLER_DATABASE_URL": ours.database_through(cable)})
        await leads(leader)
        ours.mend()
        job = await ours.submit()
        await ours.is_state(job, JobState.RUNNING, JobState.PLANNING)

        cable.freeze()

        await leads(ours.running["scheduler"])
        await ours.has_kept_its_promises(job)
        cable.heal()
        await has_noticed(leader)
        await ours.has_kept_its_promises(await ours.submit())


async def admissions(ours: World) -> int:
    return int(await ours.board.one("SELECT count(*) FROM chunk_events WHERE to_state = 'download_ready'"))


async def leads(scheduler: Service) -> None:
    async def is_leader() -> bool:
        return await asyncio.to_thread(scheduler.metric, "pixcrawler_scheduler_leader") == 1

    await until("it leads", is_leader)


async def has_noticed(scheduler: Service) -> None:
    async def is_follower() -> bool:
        return scheduler.events("leadership_changed")[-1]["leads"] is False

    await until("it knows that another leads", is_follower)
