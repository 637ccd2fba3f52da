"""A worker stops for longer than its lease, another one does its chunk, and then it goes on: nothing it does counts."""

import itertools

import pytest

from shared.pipeline import PIPELINE, UPLOAD, Stage
from tests.faults.world import World
from tests.system import until

pytestmark = pytest.mark.timeout(300)

#: `stop` halts the whole worker; `freeze` only the child that works, while its parent lives on.
ACTIONS = ("stop", "freeze")
STEPS = ("claimed", "progress", "result")
#: Run by `make test`.
SHORT = {(UPLOAD, "progress", "stop")}
CASES = [
    pytest.param(*case, id="-".join([case[0].name, *case[1:]]), marks=[] if case in SHORT else pytest.mark.faults)
    for case in itertools.product(PIPELINE, STEPS, ACTIONS)
]


@pytest.mark.parametrize(("stage", "step", "action"), CASES)
async def test_a_worker_that_wakes_after_its_lease_writes_nothing(
    ours: World, stage: Stage, step: str, action: str
) -> None:
    zombie = ours.arm(stage.service, f"{stage.name}.{step}:{action}")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")
    ours.add(stage.service)
    await ours.has_kept_its_promises(job)

    ours.wake(stage.service)

    async def is_refused() -> bool:
        return bool(zombie.events("stage_interrupted"))

    await until("the zombie was refused", is_refused)
    await ours.has_kept_its_promises(job)
    assert zombie.process.poll() is None, "it is as good as any other worker now"


@pytest.mark.faults
@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
async def test_a_zombie_that_wakes_while_its_successor_works_disturbs_nobody(ours: World, stage: Stage) -> None:
    zombie = ours.arm(stage.service, f"{stage.name}.progress:stop")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.progress")
    successor = ours.add(stage.service)

    async def is_taken_over() -> bool:
        claimed_again = """
            SELECT count(*) - count(DISTINCT chunk_id) FROM chunk_events JOIN chunks ON chunks.id = chunk_id
            WHERE job_id = :job AND to_state = :running"""
        return bool(await ours.board.one(claimed_again, job=job, running=stage.running))

    await until("the successor has the chunk", is_taken_over)
    ours.wake(stage.service)

    await ours.has_kept_its_promises(job)
    assert not successor.events("stage_interrupted")
    assert zombie.process.poll() is None
