"""A client cancels, pauses and resumes while a worker or the scheduler is in the middle of the job."""

import itertools

import pytest

from shared.db import jobs
from shared.papers import MANIFEST_KEY, SUCCESS_KEY
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD, JobState, Stage
from tests.faults.world import World

pytestmark = pytest.mark.timeout(300)

STEPS = ("claimed", "progress", "result", "committed")
#: Run by `make test`.
SHORT = {(UPLOAD, "progress")}
CASES = [
    pytest.param(stage, step, id=f"{stage.name}-{step}", marks=[] if (stage, step) in SHORT else pytest.mark.faults)
    for stage, step in itertools.product(PIPELINE, STEPS)
]
IN_FULL = [pytest.param(stage, step, id=f"{stage.name}-{step}") for stage, step in itertools.product(PIPELINE, STEPS)]


@pytest.mark.parametrize(("stage", "step"), CASES)
async def test_a_job_cancelled_at_any_step_accounts_for_every_row(ours: World, stage: Stage, step: str) -> None:
    ours.arm(stage.service, f"{stage.name}.{step}:stop")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")
    assert await ours.ask(job, jobs.cancel)

    ours.wake(stage.service)

    await ours.has_kept_its_promises(job, state=JobState.CANCELLED)
    assert not (await ours.destination(job) / SUCCESS_KEY).exists()


@pytest.mark.faults
@pytest.mark.parametrize(("stage", "step"), IN_FULL)
async def test_a_job_paused_at_any_step_goes_on_where_it_stood(ours: World, stage: Stage, step: str) -> None:
    ours.arm(stage.service, f"{stage.name}.{step}:stop")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")
    assert await ours.ask(job, jobs.pause)
    ours.wake(stage.service)
    await ours.is_state(job, JobState.PAUSED)

    assert await ours.ask(job, jobs.resume)

    await ours.has_kept_its_promises(job)


@pytest.mark.faults
async def test_a_job_paused_and_resumed_again_and_again_still_completes(ours: World) -> None:
    job = await ours.submit()

    for _ in range(100):
        await ours.ask(job, jobs.pause)
        await ours.ask(job, jobs.resume)

    await ours.has_kept_its_promises(job)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("finish.begun", marks=pytest.mark.faults),
        pytest.param("finish.half", marks=pytest.mark.faults),
        "finish.published",
    ],
)
async def test_a_job_cancelled_while_it_is_finished_ends_as_one_thing(ours: World, point: str) -> None:
    ours.arm("scheduler", f"{point}:stop")
    job = await ours.submit()
    await ours.is_reached(point)
    await ours.ask(job, jobs.cancel)

    ours.wake("scheduler")

    await ours.has_ended(job)
    state = await ours.board.job_state(job)
    await ours.has_kept_its_promises(job, state=state)
    destination = await ours.destination(job)
    said = "complete" if state is JobState.COMPLETED else "cancelled"
    assert f'"state": "{said}"' in (destination / MANIFEST_KEY).read_text()
    assert (destination / SUCCESS_KEY).exists() == (state is JobState.COMPLETED)


@pytest.mark.faults
async def test_a_job_cancelled_while_paused_over_a_dead_worker_ends(ours: World) -> None:
    ours.arm(DOWNLOAD.service, "download.progress:kill")
    job = await ours.submit()
    await ours.is_reached("download.progress")
    assert await ours.ask(job, jobs.pause)
    assert await ours.ask(job, jobs.cancel)

    ours.mend()

    await ours.has_kept_its_promises(job, state=JobState.CANCELLED)
