"""Workers are told to stop in the middle of a chunk: they hand it back, and no try of it is used up."""

import asyncio
import itertools
import os
import signal

import pytest

from shared.pipeline import PIPELINE, UPLOAD, Stage
from tests.faults.world import SERVICES, World
from tests.system import until

pytestmark = pytest.mark.timeout(300)

STEPS = ("claimed", "progress", "result", "committed")
#: Run by `make test`.
SHORT = {(UPLOAD, "result")}
CASES = [
    pytest.param(stage, step, id=f"{stage.name}-{step}", marks=[] if (stage, step) in SHORT else pytest.mark.faults)
    for stage, step in itertools.product(PIPELINE, STEPS)
]


@pytest.mark.parametrize(("stage", "step"), CASES)
async def test_a_worker_told_to_stop_uses_up_no_try_of_its_chunk(ours: World, stage: Stage, step: str) -> None:
    worker = ours.arm(stage.service, f"{stage.name}.{step}:term")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")

    assert worker.process.returncode == 0
    left = await ours.board.run("SELECT state, owner, attempt, crashes FROM chunks WHERE job_id = :job", job=job)
    assert all(chunk.state != stage.running and not (chunk.attempt or chunk.crashes) for chunk in left)

    ours.mend()

    await ours.has_kept_its_promises(job)
    assert await ours.crashes(job) == 0, "it was handed over, not found by its lease"


@pytest.mark.faults
@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
async def test_a_worker_killed_while_it_hands_over_costs_nothing(ours: World, stage: Stage) -> None:
    patient = {"PIXCRAWLER_SOFT_STOP_SECONDS": "60"}
    worker = ours.arm(stage.service, f"{stage.name}.progress:freeze", **patient)
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.progress")
    worker.process.send_signal(signal.SIGTERM)

    async def is_leaving() -> bool:
        return not worker.get("/readyz")[0] or "soft" in worker.said().lower()

    await until("it is about to stop", is_leaving)
    os.killpg(worker.process.pid, signal.SIGKILL)
    await asyncio.to_thread(worker.process.wait, 30)

    ours.mend()

    await ours.has_kept_its_promises(job)


@pytest.mark.faults
async def test_a_rolling_restart_of_everything_under_load_costs_no_try(ours: World) -> None:
    job = await ours.submit(4_100)
    others = [await ours.submit() for _ in range(2)]

    for name in SERVICES:
        leaving = ours.running[name]
        ours.running[name] = ours.system.start(name)
        await asyncio.to_thread(ours.running[name].wait_until_ready)
        assert await asyncio.to_thread(leaving.stop) == 0, leaving.said()

    for each in (job, *others):
        await ours.has_kept_its_promises(each)
        assert await ours.crashes(each) == 0
        burned = "SELECT count(*) FROM chunk_events JOIN chunks ON chunks.id = chunk_id WHERE job_id = :job"
        assert (
            await ours.board.one(
                f"{burned} AND chunk_events.error IS NOT NULL AND chunk_events.error_code <> ''", job=each
            )
            == 0
        )
